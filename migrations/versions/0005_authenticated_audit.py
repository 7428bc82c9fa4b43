"""Lines of the audit can have an HMAC, name further actions, and need not concern a batch."""

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

from models.base import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ACTION = "ck_audit_action"
# The advisory lock of PostgreSQL under which lines are written, by the earlier version too.
AUDIT_LOCK = 0x0A7B_0004
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BEFORE = "action IN ('load', 'pause', 'resume', 'cancel', 'replay', 'export_with_otps')"
NOW = (
    "action IN ('load', 'pause', 'resume', 'cancel', 'replay', 'export_with_otps',"
    " 'reconcile', 'pace', 'lift_hold', 'reencrypt', 'upgrade')"
)


def upgrade() -> None:
    _wait_for_writers()
    with _change_audit(_describe_audit(BEFORE)) as audit:
        # Empty in the lines that are there: they were written before there was an audit key.
        audit.add_column(sa.Column("mac", sa.String(73)))
        audit.alter_column("batch", existing_type=sa.String(200), nullable=True)
        audit.drop_constraint(op.f(ACTION), type_="check")
        audit.create_check_constraint(op.f(ACTION), NOW)
    _refuse_changes()


def downgrade() -> None:
    # Every line stays, or the chain would be broken. Lines that this version wrote need the wider check, and that
    # `batch` may be empty. So both stay as they are, and the earlier version works with either.
    _wait_for_writers()
    with _change_audit(_describe_audit(NOW, sa.Column("mac", sa.String(73)))) as audit:
        audit.drop_column("mac")
    _refuse_changes()


def _wait_for_writers() -> None:
    """Wait for transactions that are about to write a line of the audit, by taking their lock first.

    Otherwise each could wait for the other: they for the end of this transaction, which changes the table, and this one
    for their lock, because it may write a line too.
    """
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"SELECT pg_advisory_xact_lock({AUDIT_LOCK})")


def _change_audit(table: sa.Table) -> BatchOperations:
    """Change the table: in place on PostgreSQL; on SQLite by copying it, without its triggers. Alembic cannot read
    checks from SQLite, so the definition of the table is given."""
    return op.batch_alter_table("audit", copy_from=table)  # type: ignore[return-value]


def _describe_audit(check: str, *columns: sa.Column) -> sa.Table:
    """The audit as it is before the change, with this check on `action` and further columns at its end."""
    return sa.Table(
        "audit",
        sa.MetaData(),
        sa.Column("id", KEY, nullable=False, autoincrement=False),
        sa.Column("at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("batch", sa.String(200), nullable=bool(columns)),
        sa.Column("ticket", sa.String(200)),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        *columns,
        sa.CheckConstraint(check, name=op.f(ACTION)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )


def _refuse_changes() -> None:
    """Create the triggers of SQLite again that refuse changes: they were lost when the table was copied."""
    if op.get_bind().dialect.name == "postgresql":
        return
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
