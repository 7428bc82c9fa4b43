"""What a next version may add to each busy table while workers of this version run. Only tests have this migration."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batch", sa.Column("season", sa.String(40)))
    # What this version's workers do not write needs a default in the database.
    op.add_column("record", sa.Column("weight", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("attempt", sa.Column("weather", sa.JSON()))
    op.add_column("audit", sa.Column("approved_by", sa.String(200)))
    op.create_index("ix_record_weight", "record", ["batch_id", "weight"])
    op.create_table(
        "approval",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("batch_id", sa.BigInteger(), sa.ForeignKey("batch.id"), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("approval")
    op.drop_index("ix_record_weight", "record")
    op.drop_column("audit", "approved_by")
    op.drop_column("attempt", "weather")
    op.drop_column("record", "weight")
    op.drop_column("batch", "season")
