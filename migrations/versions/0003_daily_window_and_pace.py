"""Adds the hours of a batch, and when a paused batch goes on by itself; and what is known of a license's pace."""

import sqlalchemy as sa
from alembic import op

from models.base import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Empty for batches that an earlier version loaded: they run all day.
    op.add_column("batch", sa.Column("daily_window", sa.String(11)))
    op.add_column("batch", sa.Column("zone", sa.String(64)))
    op.add_column("batch", sa.Column("closes_at", UtcDateTime(timezone=True)))
    op.add_column("batch", sa.Column("resumes_at", UtcDateTime(timezone=True)))
    op.create_table(
        "pace",
        sa.Column("license", sa.String(200), nullable=False),
        sa.Column("rate", sa.Double()),
        sa.Column("ceiling", sa.Double()),
        sa.Column("found_at", UtcDateTime(timezone=True)),
        sa.Column("share", sa.Double(), nullable=False, server_default="1"),
        sa.Column("fixed_rate", sa.Double()),
        sa.Column("set_by", sa.String(200)),
        sa.Column("set_at", UtcDateTime(timezone=True)),
        sa.Column("ticket", sa.String(200)),
        sa.CheckConstraint("share > 0 AND share <= 1", name=op.f("ck_pace_share")),
        sa.PrimaryKeyConstraint("license", name=op.f("pk_pace")),
    )


def downgrade() -> None:
    op.drop_table("pace")
    # The earlier version knows no hours, and resumes no batch by itself but one that an outage paused.
    op.execute(
        "UPDATE batch SET reason = 'person', detail = 'It waited for a time. When that has come: oathbulk resume.'"
        " WHERE reason IN ('window', 'quota')"
    )
    with op.batch_alter_table("batch") as batch:
        batch.drop_column("resumes_at")
        batch.drop_column("closes_at")
        batch.drop_column("zone")
        batch.drop_column("daily_window")
