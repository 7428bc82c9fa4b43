"""Adds the audit; the row of a batch that is tried alone first (its canary), and its probes after an outage."""

import sqlalchemy as sa
from alembic import op

from models.base import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

REFUSE_CHANGE = """
CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$
"""


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", KEY, nullable=False, autoincrement=False),
        sa.Column("at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("batch", sa.String(200), nullable=False),
        sa.Column("ticket", sa.String(200)),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.CheckConstraint(
            "action IN ('load', 'pause', 'resume', 'cancel', 'replay', 'export_with_otps')",
            name=op.f("ck_audit_action"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    _refuse_changes()
    # Empty for batches that an earlier version loaded: all their records may be put onto the queue.
    op.add_column("batch", sa.Column("canary_row", sa.Integer()))
    op.add_column("batch", sa.Column("probe_at", UtcDateTime(timezone=True)))
    op.add_column("batch", sa.Column("outages", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    # The earlier version does not probe after an outage, so a person has to resume these batches.
    op.execute(
        "UPDATE batch SET reason = 'person', detail = 'PingOne did not answer. When it does: oathbulk resume.'"
        " WHERE reason = 'outage'"
    )
    with op.batch_alter_table("batch") as batch:
        batch.drop_column("outages")
        batch.drop_column("probe_at")
        batch.drop_column("canary_row")
    op.drop_table("audit")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_refuse_change()")


def _refuse_changes() -> None:
    """Create the triggers that refuse changes of the audit's lines."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(REFUSE_CHANGE)
        op.execute(
            "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change()"
        )
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
