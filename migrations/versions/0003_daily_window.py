"""A batch's daily window, and when a paused batch goes on by itself."""

from __future__ import annotations

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


def downgrade() -> None:
    # The earlier version knows no hours, and lets nothing go on by itself but an outage.
    op.execute(
        "UPDATE batch SET reason = 'person', detail = 'It waited for a time. When that has come: oathbulk resume.'"
        " WHERE reason IN ('window', 'quota')"
    )
    with op.batch_alter_table("batch") as batch:
        batch.drop_column("resumes_at")
        batch.drop_column("closes_at")
        batch.drop_column("zone")
        batch.drop_column("daily_window")
