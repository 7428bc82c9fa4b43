"""Adds what the breaker judges a batch by without a clock: its attempts, and marks between them; the worker processes,
and whether they are fit for work; the fleet's holds, so that they can be shown and lifted."""

import sqlalchemy as sa
from alembic import op

from models.base import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Empty in attempts that an earlier version wrote: no batch is judged by them.
    op.add_column("attempt", sa.Column("batch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite")))
    op.add_column("attempt", sa.Column("otp_posts", sa.Integer(), nullable=False, server_default="0"))
    failed = sa.text("outcome <> 'active'")
    op.create_index("ix_attempt_failed", "attempt", ["batch_id", "id"], postgresql_where=failed, sqlite_where=failed)
    for mark in ("judged_after", "running_after"):
        op.add_column("batch", sa.Column(mark, sa.BigInteger(), nullable=False, server_default="0"))
    # Empty for batches that an earlier version loaded: they are past their first records.
    op.add_column("batch", sa.Column("trial_row", sa.Integer()))
    op.create_table(
        "process",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("started_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("seen_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("ticked_at", UtcDateTime(timezone=True)),
        sa.Column("sick_since", UtcDateTime(timezone=True)),
        sa.Column("reason", sa.String(40)),
        sa.Column("detail", sa.String(1000)),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_process")),
    )
    op.add_column("pace", sa.Column("held_since", UtcDateTime(timezone=True)))
    op.add_column("pace", sa.Column("held_until", UtcDateTime(timezone=True)))
    op.add_column("pace", sa.Column("held_why", sa.String(200)))
    op.add_column("pace", sa.Column("is_to_be_lifted", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    # The earlier version does not know these reasons. A batch that a person paused needs the same command to go on.
    op.execute("UPDATE batch SET reason = 'person' WHERE reason IN ('refused', 'trial')")
    with op.batch_alter_table("pace") as pace:
        for column in ("is_to_be_lifted", "held_why", "held_until", "held_since"):
            pace.drop_column(column)
    op.drop_table("process")
    with op.batch_alter_table("batch") as batch:
        for column in ("trial_row", "running_after", "judged_after"):
            batch.drop_column(column)
    op.drop_index("ix_attempt_failed", "attempt")
    with op.batch_alter_table("attempt") as attempt:
        attempt.drop_column("otp_posts")
        attempt.drop_column("batch_id")
