"""Lines of the audit can be authenticated, tell of further actions, and need no batch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

from models.base import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ACTION = "ck_audit_action"
# The advisory lock of PostgreSQL under which lines are written, by the version before as well.
AUDIT_LOCK = 0x0A7B_0004
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BEFORE = "action IN ('load', 'pause', 'resume', 'cancel', 'replay', 'export_with_otps')"
NOW = (
    "action IN ('load', 'pause', 'resume', 'cancel', 'replay', 'export_with_otps',"
    " 'reconcile', 'pace', 'lift_hold', 'reencrypt', 'upgrade')"
)


def upgrade() -> None:
    _wait_for_writers()
    with _changing(_table(BEFORE)) as audit:
        # Empty in the lines that are there: they were written before there was an audit key.
        audit.add_column(sa.Column("mac", sa.String(73)))
        audit.alter_column("batch", existing_type=sa.String(200), nullable=True)
        audit.drop_constraint(op.f(ACTION), type_="check")
        audit.create_check_constraint(op.f(ACTION), NOW)
    _refuse_changes()


def downgrade() -> None:
    # Every line stays, or the chain would be broken. So the wider check stays too, and no batch is asked for: lines
    # that this version wrote need both, and the earlier version works with either.
    _wait_for_writers()
    with _changing(_table(NOW, sa.Column("mac", sa.String(73)))) as audit:
        audit.drop_column("mac")
    _refuse_changes()


def _wait_for_writers() -> None:
    """Who holds this lock is about to write a line, and would wait for this transaction's end, which may write one
    too: each would wait for the other."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"SELECT pg_advisory_xact_lock({AUDIT_LOCK})")


def _changing(table: sa.Table) -> BatchOperations:
    """Changes in place on PostgreSQL. SQLite copies the table, without its triggers, and reads no check back: so it is
    told what the table is."""
    return op.batch_alter_table("audit", copy_from=table)  # type: ignore[return-value]


def _table(check: str, *columns: sa.Column) -> sa.Table:
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
    """On SQLite the triggers went with the table that was copied."""
    if op.get_bind().dialect.name == "postgresql":
        return
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_no_{event.lower()} BEFORE {event} ON audit"
            " BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
        )
    # INSERT OR REPLACE takes a line away without an event of its own.
    op.execute(
        "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)"
        " BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
    )
