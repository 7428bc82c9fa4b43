"""A record may have a date before which nothing goes out for it. Workers of the version before do not know it: they
would let records go at once, so a batch with dates waits until all workers have this version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("record", sa.Column("not_before", sa.DateTime(timezone=True)))


def downgrade() -> None:
    # Lost are the dates: what waits for one goes at once.
    op.drop_column("record", "not_before")
