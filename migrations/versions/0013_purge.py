"""Batches may be purged: they keep how they ended, and a table keeps what recognises their tokens. The audit names two
further actions. Workers of the version before see a purged batch as one without records, and leave it alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from models.base import UtcDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

ACTION = "ck_audit_action"
# The advisory lock of PostgreSQL under which lines of the audit are written, by the earlier version too.
AUDIT_LOCK = 0x0A7B_0004
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
    _allow_actions(BEFORE, NOW)


def downgrade() -> None:
    # How purged batches ended is lost, and their tokens are not recognised any more: the earlier version would load
    # them again, and send OTPs to devices that are active. Lines of the audit that this version wrote stay, or the
    # chain would be broken. So the wider check stays as well, and the earlier version works with it.
    op.drop_table("sealed_key")
    op.drop_table("past_token")
    # SQLite drops a column that stands in no index or check without copying the table.
    op.drop_column("batch", "outcome")
    op.drop_column("batch", "purged_at")


def _allow_actions(before: str, now: str) -> None:
    """Change the check on the actions of the audit: in place on PostgreSQL; on SQLite by copying the table, whose
    definition is given since Alembic cannot read checks from SQLite, and whose triggers get lost."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    if not is_sqlite:
        # Otherwise this transaction and one that is about to write a line could each wait for the other.
        op.execute(f"SELECT pg_advisory_xact_lock({AUDIT_LOCK})")
    with op.batch_alter_table("audit", copy_from=_describe_audit(before)) as audit:
        audit.drop_constraint(op.f(ACTION), type_="check")
        audit.create_check_constraint(op.f(ACTION), now)
    if is_sqlite:
        _refuse_changes()


def _describe_audit(check: str) -> sa.Table:
    return sa.Table(
        "audit",
        sa.MetaData(),
        sa.Column("id", KEY, nullable=False, autoincrement=False),
        sa.Column("at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("batch", sa.String(200)),
        sa.Column("ticket", sa.String(200)),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("mac", sa.String(73)),
        sa.CheckConstraint(check, name=op.f(ACTION)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )


def _refuse_changes() -> None:
    """Create the triggers of SQLite again that refuse changes of the audit."""
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_no_{event.lower()} BEFORE {event} ON audit"
            " BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
        )
    # INSERT OR REPLACE removes a line, and no trigger on DELETE notices.
    op.execute(
        "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)"
        " BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
    )
