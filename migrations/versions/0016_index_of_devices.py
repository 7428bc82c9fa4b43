"""The history of a device can be read, as that of a serial number can: a load and a replay look for what another batch
sent to it."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    known = sa.text("device_id <> ''")
    columns = ["environment_id", "device_id"]
    op.create_index("ix_record_device_history", "record", columns, postgresql_where=known, sqlite_where=known)


def downgrade() -> None:
    # Nothing is lost.
    op.drop_index("ix_record_device_history", "record")
