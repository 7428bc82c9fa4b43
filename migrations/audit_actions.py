"""What revisions share that add an action to the audit."""

import sqlalchemy as sa
from alembic import op

from models.base import UtcDateTime

ACTION = "ck_audit_action"
# The advisory lock of PostgreSQL under which lines of the audit are written, by the earlier version too.
AUDIT_LOCK = 0x0A7B_0004
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def allow_actions(before: str, now: str) -> None:
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
