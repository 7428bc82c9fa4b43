"""Records know when the first request to pair went out, and jobs from when they count where the clock was set: so what
PingOne shows is told from what somebody else made, however long nothing ran in between."""

import sqlalchemy as sa
from alembic import op

from models.base import UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("record", sa.Column("pairing_began_at", UtcDateTime(timezone=True)))
    op.add_column("inventory_job", sa.Column("counted_from", UtcDateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("inventory_job", "counted_from")
    op.drop_column("record", "pairing_began_at")
