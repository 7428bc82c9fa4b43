"""Records with seeds count how far their OTPs have come, and keep what else names a person; a batch knows the batch
whose failures it takes up; what was learnt of an environment is kept."""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op

from models.base import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


ACTION = "ck_audit_action"
# The advisory lock of PostgreSQL under which lines of the audit are written, by the earlier version too.
AUDIT_LOCK = 0x0A7B_0004
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BEFORE = (
    "action IN ('load', 'pause', 'resume', 'cancel', 'replay', 'export_with_otps',"
    " 'reconcile', 'pace', 'lift_hold', 'reencrypt', 'upgrade')"
)
NOW = BEFORE.replace("'upgrade')", "'upgrade', 'learn')")


def upgrade() -> None:
    op.add_column("record", sa.Column("email", sa.String(320)))
    op.add_column("record", sa.Column("external_id", sa.String(1024)))
    _part_email_from_username()
    # Empty in every record that is there: all of them have a pair of OTPs.
    op.add_column("record", sa.Column("next_counter", sa.BigInteger()))
    op.add_column("record", sa.Column("first_counter", sa.BigInteger()))
    op.add_column("record", sa.Column("posts_forgiven", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("batch", sa.Column("parent_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite")))
    op.create_table(
        "tenant_fact",
        sa.Column("environment_id", sa.String(100), nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("seen_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("record_id", sa.BigInteger()),
        sa.CheckConstraint("name IN ('resync_on_first_call')", name=op.f("ck_tenant_fact_name")),
        sa.PrimaryKeyConstraint("environment_id", "name", name=op.f("pk_tenant_fact")),
    )
    _allow_actions(BEFORE, NOW)


def downgrade() -> None:
    # The earlier version cannot read seeds. Their records are lost to it: it would take them for damaged pairs, and
    # pause their batches. So nothing goes back while one is there that may still be activated.
    seeds = sa.text("SELECT count(*) FROM record WHERE next_counter IS NOT NULL AND otps IS NOT NULL")
    if op.get_bind().scalar(seeds):
        raise RuntimeError(
            "records with seeds are there, which the earlier version cannot read: finish their batches with this one,"
            " or restore the backup from before the upgrade"
        )
    op.drop_table("tenant_fact")
    # Lines of the audit that this version wrote stay, or the chain would be broken. So the wider check stays as well,
    # and the earlier version works with it.
    op.execute("UPDATE record SET username = email WHERE username IS NULL")
    # SQLite drops a column that stands in no index or check without copying the table.
    op.drop_column("batch", "parent_id")
    for column in ("posts_forgiven", "first_counter", "next_counter", "external_id", "email"):
        op.drop_column("record", column)


def _part_email_from_username() -> None:
    """Move e-mail addresses to a column of their own. The earlier version took a column `email` for the user name, and
    its files have one of the two at the most."""
    batch = sa.table("batch", sa.column("id"), sa.column("columns", sa.JSON))
    for batch_id, columns in op.get_bind().execute(sa.select(batch.c.id, batch.c.columns)).all():
        if any(re.sub(r"[\s_\-\ufeff]", "", name).lower() == "email" for name in columns):
            op.execute(
                sa.text("UPDATE record SET email = username, username = NULL WHERE batch_id = :batch_id").bindparams(
                    batch_id=batch_id
                )
            )


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
