"""Notices, which a webhook is told, wait in a table until they are delivered. Workers of the version before write
none."""

import sqlalchemy as sa
from alembic import op

from models.base import UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WAITS = sa.text("next_try_at IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "notice",
        sa.Column("id", KEY, nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("batch", sa.String(200), nullable=False),
        sa.Column("event", sa.String(20), nullable=False),
        sa.Column("occurrence", sa.Integer(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("next_try_at", UtcDateTime(timezone=True)),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("delivered_at", UtcDateTime(timezone=True)),
        sa.Column("last_error", sa.String(200)),
        sa.CheckConstraint(
            "event IN ('finished', 'paused', 'paused_for_now', 'resumed', 'stalled')", name=op.f("ck_notice_event")
        ),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_notice_batch_id_batch")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice")),
    )
    op.create_index("uq_notice_occurrence", "notice", ["batch_id", "occurrence"], unique=True)
    op.create_index("ix_notice_waits", "notice", ["next_try_at"], postgresql_where=WAITS, sqlite_where=WAITS)


def downgrade() -> None:
    # What was told is forgotten, and what is not delivered yet is never told.
    op.drop_table("notice")
