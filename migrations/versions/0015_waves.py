"""A record may have a date before which nothing goes out for it, and a canary is told by the number of its records.
Workers of the version before do not know dates, and would let records go at once: load a batch with dates only when all
workers have this version."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

RECORD = sa.table("record", sa.column("batch_id"), sa.column("row_number"))
BATCH = sa.table("batch", sa.column("id"), sa.column("canary_row"), sa.column("trial_row"))


def upgrade() -> None:
    op.add_column("record", sa.Column("not_before", sa.DateTime(timezone=True)))
    dated = sa.text("not_before IS NOT NULL")
    columns = ["batch_id", "not_before", "row_number"]
    op.create_index("ix_record_dates", "record", columns, postgresql_where=dated, sqlite_where=dated)
    # They were the last of the rows that go first, and are how many records.
    for column in (BATCH.c.canary_row, BATCH.c.trial_row):
        rows = sa.select(sa.func.count()).where(RECORD.c.batch_id == BATCH.c.id, RECORD.c.row_number <= column)
        op.execute(BATCH.update().where(column.is_not(None)).values({column.name: rows.scalar_subquery()}))


def downgrade() -> None:
    # Lost are the dates: what waits for one goes at once. A canary ends with the row of the number of its records.
    op.drop_index("ix_record_dates", "record")
    op.drop_column("record", "not_before")
