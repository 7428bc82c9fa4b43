"""The schema of the first release."""

import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op

from models.base import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = UtcDateTime(timezone=True)
SERIAL_KEY = sa.String(50).with_variant(sa.String(50, collation="C"), "postgresql")

_IS_NAMED = "(username IS NOT NULL OR email IS NOT NULL OR external_id IS NOT NULL)"


def upgrade() -> None:
    _create_batch()
    _create_record()
    _create_refused_rows()
    _create_attempt()
    _create_change()
    _create_inventory_job()
    _create_audit()
    _create_pace()
    _create_process()
    _create_tenant_fact()
    _create_installation()


def downgrade() -> None:
    for table in (
        "installation",
        "tenant_fact",
        "process",
        "pace",
        "audit",
        "inventory_job",
        "change",
        "attempt",
        "refused_rows",
        "record",
        "batch",
    ):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_refuse_change()")


def _create_batch() -> None:
    op.create_table(
        "batch",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("environment", sa.String(100), nullable=False),
        sa.Column("environment_id", sa.String(100), nullable=False),
        sa.Column("may_import", sa.Boolean(), nullable=False),
        sa.Column("may_pair", sa.Boolean(), nullable=False),
        sa.Column("inventory_read_at", TIME),
        sa.Column("prepared_until", TIME),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(40)),
        sa.Column("detail", sa.String(1000)),
        sa.Column("file", sa.String(1000), nullable=False),
        sa.Column("file_sha256", sa.String(64), nullable=False),
        sa.Column("columns", sa.JSON(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("rows_refused", sa.Integer(), nullable=False),
        sa.Column("canary", sa.Integer()),
        sa.Column("trial", sa.Integer()),
        sa.Column("probe_at", TIME),
        sa.Column("outages", sa.Integer(), nullable=False),
        sa.Column("daily_window", sa.String(11)),
        sa.Column("zone", sa.String(64)),
        sa.Column("closes_at", TIME),
        sa.Column("resumes_at", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("running_since", TIME, nullable=False),
        sa.Column("judged_after", sa.BigInteger(), nullable=False),
        sa.Column("running_after", sa.BigInteger(), nullable=False),
        sa.Column("purged_at", TIME),
        sa.Column("outcome", sa.JSON(none_as_null=True)),
        sa.Column("notice", sa.String(60)),
        sa.Column("notice_at", TIME),
        sa.Column("notice_error", sa.String(200)),
        sa.CheckConstraint("state IN ('running', 'paused', 'cancelled')", name="state"),
    )
    _index("batch", "uq_batch_file", "environment_id", "file_sha256", where="state <> 'cancelled'", unique=True)


def _create_record() -> None:
    op.create_table(
        "record",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("batch_id", KEY, sa.ForeignKey("batch.id"), nullable=False),
        sa.Column("user_id", sa.String(100), nullable=False),
        sa.Column("device_id", sa.String(100), nullable=False),
        sa.Column("owner_id", sa.String(100)),
        sa.Column("is_in_inventory", sa.Boolean(), nullable=False),
        sa.Column("import_job_id", KEY),
        sa.Column("is_token_made", sa.Boolean(), nullable=False),
        sa.Column("is_device_made", sa.Boolean(), nullable=False),
        sa.Column("row_number", sa.Integer(), nullable=False),
        sa.Column("environment_id", sa.String(100), nullable=False),
        sa.Column("serial_number", sa.String(50), nullable=False),
        sa.Column("serial_key", SERIAL_KEY, sa.Computed("lower(serial_number)", persisted=True), nullable=False),
        sa.Column("username", sa.String(320)),
        sa.Column("email", sa.String(320)),
        sa.Column("external_id", sa.String(1024)),
        sa.Column("lot", sa.String(200)),
        sa.Column("extra", sa.JSON(none_as_null=True)),
        sa.Column("otp_type", sa.String(4), nullable=False),
        sa.Column("generated_at", TIME),
        sa.Column("otp_expires_at", TIME),
        sa.Column("not_before", TIME),
        sa.Column("has_second_otp", sa.Boolean(), nullable=False),
        sa.Column("otps", sa.LargeBinary()),
        sa.Column("spent", sa.LargeBinary()),
        sa.Column("next_counter", sa.BigInteger()),
        sa.Column("first_counter", sa.BigInteger()),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("scheduled_at", TIME, nullable=False),
        sa.Column("lease_id", sa.String(32)),
        sa.Column("lease_until", TIME),
        sa.Column("undone_until", TIME),
        sa.Column("otp1_state", sa.String(8), nullable=False),
        sa.Column("otp1_posts", sa.Integer(), nullable=False),
        sa.Column("otp2_state", sa.String(8), nullable=False),
        sa.Column("otp2_posts", sa.Integer(), nullable=False),
        sa.Column("posts_forgiven", sa.Integer(), nullable=False),
        sa.Column("pairing", sa.String(8), nullable=False),
        sa.Column("pairings", sa.Integer(), nullable=False),
        sa.Column("pairing_began_at", TIME),
        sa.Column("otp_sent_at", TIME),
        sa.Column("verdict", sa.String(40)),
        sa.Column("not_found", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("attempts_forgiven", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("rate_limited", sa.Integer(), nullable=False),
        sa.Column("calls", sa.JSON()),
        sa.Column("resynced", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(40)),
        sa.Column("detail", sa.String(1000)),
        sa.Column("pingone_error_id", sa.String(100)),
        sa.Column("correlation_id", sa.String(100)),
        sa.Column("finalized_at", TIME),
        sa.CheckConstraint("(status = 'activating') = (lease_id IS NOT NULL)", name="lease"),
        sa.CheckConstraint("otp1_state IN ('unsent', 'sent', 'answered')", name="otp1_state"),
        sa.CheckConstraint("otp2_state IN ('unsent', 'sent', 'answered')", name="otp2_state"),
        sa.CheckConstraint("otp_type IN ('hotp', 'totp')", name="otp_type"),
        sa.CheckConstraint("pairing IN ('unsent', 'sent', 'missed', 'paired')", name="pairing"),
        sa.CheckConstraint(
            "status IN ('pending', 'queued', 'activating', 'active', 'dead_letter', 'cancelled')", name="status"
        ),
    )
    # If two indexes fit, SQLite uses the one created last: the smaller one.
    _index("record", "ix_record_history", "environment_id", "serial_key")
    _index("record", "uq_record_batch_id_row_number", "batch_id", "row_number", unique=True)
    _index("record", "ix_record_dates", "batch_id", "not_before", "row_number", where="not_before IS NOT NULL")
    _index("record", "ix_record_device_history", "environment_id", "device_id", where="device_id <> ''")
    _index(
        "record",
        "ix_record_expiring",
        "batch_id",
        "otp_expires_at",
        where=(
            "status = 'pending' AND otp1_state <> 'answered' AND otp_expires_at IS NOT NULL"
            " AND user_id <> '' AND is_in_inventory"
        ),
    )
    _index("record", "ix_record_finalized_at", "batch_id", "finalized_at", where="finalized_at IS NOT NULL")
    _index(
        "record",
        "ix_record_half_done",
        "batch_id",
        "scheduled_at",
        where="status = 'pending' AND otp1_state = 'answered'",
    )
    _index("record", "ix_record_undone", "undone_until", where="undone_until IS NOT NULL")
    _index("record", "ix_record_import_job", "import_job_id", where="import_job_id IS NOT NULL")
    _index(
        "record",
        "ix_record_lacks_token",
        "batch_id",
        "scheduled_at",
        "row_number",
        where=f"status = 'pending' AND NOT is_in_inventory AND (user_id <> '' OR NOT {_IS_NAMED})",
    )
    _index(
        "record",
        "ix_record_lacks_user",
        "batch_id",
        "scheduled_at",
        "row_number",
        where=f"status = 'pending' AND user_id = '' AND {_IS_NAMED}",
    )
    _index(
        "record", "ix_record_on_the_table", "batch_id", where=f"status = 'pending' AND user_id = '' AND NOT {_IS_NAMED}"
    )
    _index(
        "record",
        "ix_record_lasting",
        "batch_id",
        "scheduled_at",
        where=(
            "status = 'pending' AND otp1_state <> 'answered' AND otp_expires_at IS NULL"
            " AND user_id <> '' AND is_in_inventory"
        ),
    )
    _index(
        "record",
        "ix_record_unsettled",
        "batch_id",
        "scheduled_at",
        where=(
            "status = 'pending'"
            " AND (otp1_state = 'sent' OR otp2_state = 'sent' OR verdict IS NOT NULL"
            " OR pairing IN ('sent', 'missed'))"
        ),
    )
    _index("record", "ix_record_window", "lease_until", "batch_id", where="status IN ('queued', 'activating')")
    _index(
        "record",
        "uq_record_device_id",
        "environment_id",
        "device_id",
        where="status IN ('pending', 'queued', 'activating') AND device_id <> ''",
        unique=True,
    )
    _index(
        "record",
        "uq_record_serial_key",
        "environment_id",
        "serial_key",
        where="status IN ('pending', 'queued', 'activating')",
        unique=True,
    )


def _create_refused_rows() -> None:
    op.create_table(
        "refused_rows",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("batch_id", KEY, sa.ForeignKey("batch.id"), nullable=False),
        sa.Column("row_number", sa.Integer(), nullable=False),
        sa.Column("environment_id", sa.String(100), nullable=False),
        sa.Column("serial_number", sa.String(50)),
        sa.Column("serial_key", SERIAL_KEY, sa.Computed("lower(serial_number)", persisted=True)),
        sa.Column("reason", sa.String(40), nullable=False),
        sa.Column("detail", sa.String(1000), nullable=False),
        sa.Column("is_closed", sa.Boolean(), nullable=False),
    )
    _index("refused_rows", "ix_refused_rows_serial_key", "environment_id", "serial_key")
    _index("refused_rows", "uq_refused_rows_batch_id_row_number", "batch_id", "row_number", unique=True)


def _create_attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("record_id", KEY, sa.ForeignKey("record.id"), nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(40)),
        sa.Column("lease_id", sa.String(32), nullable=False),
        sa.Column("worker", sa.String(200)),
        sa.Column("calls", sa.JSON()),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("call_milliseconds", sa.Integer()),
        sa.Column("otp_posts", sa.Integer(), nullable=False),
        sa.Column("ended_at", TIME, nullable=False),
        sa.CheckConstraint("outcome IN ('active', 'dead_letter', 'retry', 'handed_back', 'lost')", name="outcome"),
    )
    _index("attempt", "ix_attempt_record_id", "record_id")
    _index("attempt", "ix_attempt_failed", "batch_id", "id", where="outcome <> 'active'")


def _create_change() -> None:
    op.create_table(
        "change",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("record_id", KEY, sa.ForeignKey("record.id"), nullable=False),
        sa.Column("audit_id", KEY),
        sa.Column("user_id", sa.String(100), nullable=False),
        sa.Column("username", sa.String(320)),
        sa.Column("email", sa.String(320)),
        sa.Column("external_id", sa.String(1024)),
        sa.Column("device_id", sa.String(100), nullable=False),
    )
    _index("change", "ix_change_record_id", "record_id")
    _index("change", "ix_change_unnamed", "id", where="audit_id IS NULL")


def _create_inventory_job() -> None:
    op.create_table(
        "inventory_job",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("batch_id", KEY, sa.ForeignKey("batch.id"), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("job_id", sa.String(100)),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer()),
        sa.Column("duplicates", sa.Integer()),
        sa.Column("detail", sa.String(300)),
        sa.Column("sent_at", TIME, nullable=False),
        sa.Column("counted_from", TIME),
        sa.Column("ended_at", TIME),
        sa.CheckConstraint("kind IN ('import', 'revoke')", name="kind"),
        sa.CheckConstraint("state IN ('sent', 'running', 'done', 'failed', 'lost')", name="state"),
    )
    _index("inventory_job", "ix_inventory_job_batch_id", "batch_id", "id")
    _index("inventory_job", "ix_inventory_job_unfinished", "batch_id", where="state IN ('sent', 'running')")


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", KEY, primary_key=True, autoincrement=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("batch", sa.String(200)),
        sa.Column("ticket", sa.String(200)),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    _refuse_changes_of_audit()


def _create_pace() -> None:
    op.create_table(
        "pace",
        sa.Column("license", sa.String(200), primary_key=True),
        sa.Column("rate", sa.Double()),
        sa.Column("ceiling", sa.Double()),
        sa.Column("found_at", TIME),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("fixed_rate", sa.Double()),
        sa.Column("held_since", TIME),
        sa.Column("held_until", TIME),
        sa.Column("held_why", sa.String(200)),
        sa.Column("is_to_be_lifted", sa.Boolean(), nullable=False),
        sa.Column("set_by", sa.String(200)),
        sa.Column("set_at", TIME),
        sa.Column("ticket", sa.String(200)),
        sa.CheckConstraint("share > 0 AND share <= 1", name="share"),
    )


def _create_process() -> None:
    op.create_table(
        "process",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("version", sa.String(40)),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("ticked_at", TIME),
        sa.Column("dropped", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("database_milliseconds", sa.Integer()),
        sa.Column("redis_milliseconds", sa.Integer()),
        sa.Column("sick_since", TIME),
        sa.Column("reason", sa.String(40)),
        sa.Column("detail", sa.String(1000)),
    )


def _create_tenant_fact() -> None:
    op.create_table(
        "tenant_fact",
        sa.Column("environment_id", sa.String(100), primary_key=True),
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("record_id", sa.BigInteger()),
        sa.CheckConstraint("name IN ('resync_on_first_call')", name="name"),
    )


def _create_installation() -> None:
    table = op.create_table("installation", sa.Column("id", sa.String(8), primary_key=True))
    op.bulk_insert(table, [{"id": secrets.token_hex(4)}])


def _index(table: str, name: str, *columns: str, where: str | None = None, unique: bool = False) -> None:
    """Create an index; with `where`, a partial one of the rows that match it."""
    partial: dict[str, Any] = {}
    if where is not None:
        partial = {"postgresql_where": sa.text(where), "sqlite_where": sa.text(where)}
    op.create_index(name, table, list(columns), unique=unique, **partial)


def _refuse_changes_of_audit() -> None:
    """Create the triggers that make the audit append-only."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$"
        )
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
    # INSERT OR REPLACE removes a line without firing a trigger on DELETE.
    op.execute(
        "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)"
        " BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
    )
