"""Each worker process says which version of oathbulk it is. Those of the version before say nothing."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("process", sa.Column("version", sa.String(40)))


def downgrade() -> None:
    # Which version a process is, is forgotten until it starts again.
    op.drop_column("process", "version")
