"""The history of a device can be read, as that of a serial number can: a load and a replay look for what another batch
sent to it. And what an undo took back is told from what was cancelled with its batch: undo is a command, and one of the
version before refuses the new schema."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

RECORD = sa.table("record", sa.column("status"), sa.column("reason"), sa.column("detail"))
MINE = RECORD.update().where(RECORD.c.status == "cancelled")


def upgrade() -> None:
    known = sa.text("device_id <> ''")
    columns = ["environment_id", "device_id"]
    op.create_index("ix_record_device_history", "record", columns, postgresql_where=known, sqlite_where=known)
    # Until now the detail alone told it.
    was_taken_back = RECORD.c.detail.startswith("An undo took it back.")
    op.execute(MINE.where(was_taken_back).values(reason="taken_back"))


def downgrade() -> None:
    # The detail tells it again.
    op.execute(MINE.where(RECORD.c.reason == "taken_back").values(reason=None))
    op.drop_index("ix_record_device_history", "record")
