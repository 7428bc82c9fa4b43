"""Batches may be purged: they keep how they ended, and a table keeps what recognises their tokens. The audit names two
further actions. Workers of the version before see a purged batch as one without records, and leave it alone."""

import sqlalchemy as sa
from alembic import op

from migrations.audit_actions import allow_actions
from models.base import UtcDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BEFORE = (
    "action IN ('load', 'pause', 'resume', 'cancel', 'replay', 'export_with_otps',"
    " 'reconcile', 'pace', 'lift_hold', 'reencrypt', 'upgrade', 'learn', 'unpair', 'revoke')"
)
NOW = BEFORE.replace("'revoke')", "'revoke', 'purge', 'erase')")


def upgrade() -> None:
    op.add_column("batch", sa.Column("purged_at", UtcDateTime(timezone=True)))
    op.add_column("batch", sa.Column("outcome", sa.JSON(none_as_null=True)))
    op.create_table(
        "past_token",
        sa.Column("id", KEY, nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("serial_number", sa.String(32), nullable=False),
        sa.Column("device_id", sa.String(32)),
        sa.Column("otp1", sa.String(32)),
        sa.Column("otp2", sa.String(32)),
        sa.Column("next_counter", sa.BigInteger()),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_past_token_batch_id_batch")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_past_token")),
    )
    op.create_index("ix_past_token_serial_number", "past_token", ["serial_number"])
    op.create_index("ix_past_token_batch_id", "past_token", ["batch_id"])
    op.create_table(
        "sealed_key",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sealed_key")),
    )
    allow_actions(BEFORE, NOW)


def downgrade() -> None:
    # How purged batches ended is lost, and their tokens are not recognised any more: the earlier version would load
    # them again, and send OTPs to devices that are active. Lines of the audit that this version wrote stay, or the
    # chain would be broken. So the wider check stays as well, and the earlier version works with it.
    op.drop_table("sealed_key")
    op.drop_table("past_token")
    # SQLite drops a column that stands in no index or check without copying the table.
    op.drop_column("batch", "outcome")
    op.drop_column("batch", "purged_at")
