"""The first tables: batch, record, attempt."""

import sqlalchemy as sa
from alembic import op

from models.base import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NOT_FINAL = "status IN ('pending', 'queued', 'activating')"


def upgrade() -> None:
    _create_batch()
    _create_record()
    _index_record()
    _create_attempt()


def downgrade() -> None:
    op.drop_table("attempt")
    op.drop_table("record")
    op.drop_table("batch")


def _create_batch() -> None:
    op.create_table(
        "batch",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("environment", sa.String(100), nullable=False),
        sa.Column("environment_id", sa.String(100), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(40)),
        sa.Column("detail", sa.String(1000)),
        sa.Column("file", sa.String(1000), nullable=False),
        sa.Column("file_sha256", sa.String(64), nullable=False),
        sa.Column("columns", sa.JSON(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("rows_refused", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("running_since", UtcDateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('running', 'paused', 'cancelled')", name=op.f("ck_batch_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch")),
        sa.UniqueConstraint("name", name=op.f("uq_batch_name")),
    )
    _index("batch", "uq_batch_file", ["environment_id", "file_sha256"], where="state <> 'cancelled'", unique=True)


def _create_record() -> None:
    op.create_table(
        "record",
        sa.Column("id", KEY, nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("row_number", sa.Integer(), nullable=False),
        sa.Column("environment_id", sa.String(100), nullable=False),
        sa.Column("serial_number", sa.String(50), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("device_id", sa.String(36), nullable=False),
        sa.Column("username", sa.String(320)),
        sa.Column("lot", sa.String(200)),
        sa.Column("extra", sa.JSON(none_as_null=True)),
        sa.Column("otp_type", sa.String(4), nullable=False),
        sa.Column("generated_at", UtcDateTime(timezone=True)),
        sa.Column("otp_expires_at", UtcDateTime(timezone=True)),
        sa.Column("has_second_otp", sa.Boolean(), nullable=False),
        sa.Column("otps", sa.LargeBinary()),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("scheduled_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("lease_id", sa.String(32)),
        sa.Column("lease_until", UtcDateTime(timezone=True)),
        sa.Column("otp1_state", sa.String(8), nullable=False),
        sa.Column("otp1_posts", sa.Integer(), nullable=False),
        sa.Column("otp2_state", sa.String(8), nullable=False),
        sa.Column("otp2_posts", sa.Integer(), nullable=False),
        sa.Column("otp_sent_at", UtcDateTime(timezone=True)),
        sa.Column("verdict", sa.String(40)),
        sa.Column("not_found", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("attempts_forgiven", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("rate_limited", sa.Integer(), nullable=False),
        sa.Column("resynced", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(40)),
        sa.Column("detail", sa.String(1000)),
        sa.Column("pingone_error_id", sa.String(100)),
        sa.Column("correlation_id", sa.String(100)),
        sa.Column("finalized_at", UtcDateTime(timezone=True)),
        sa.CheckConstraint("(status = 'activating') = (lease_id IS NOT NULL)", name=op.f("ck_record_lease")),
        sa.CheckConstraint("otp1_state IN ('unsent', 'sent', 'answered')", name=op.f("ck_record_otp1_state")),
        sa.CheckConstraint("otp2_state IN ('unsent', 'sent', 'answered')", name=op.f("ck_record_otp2_state")),
        sa.CheckConstraint("otp_type IN ('hotp', 'totp')", name=op.f("ck_record_otp_type")),
        sa.CheckConstraint(
            "status IN ('pending', 'queued', 'activating', 'active', 'dead_letter', 'cancelled')",
            name=op.f("ck_record_status"),
        ),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_record_batch_id_batch")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_record")),
    )


def _index_record() -> None:
    _index("record", "uq_record_serial_number", ["environment_id", "serial_number"], where=NOT_FINAL, unique=True)
    _index("record", "uq_record_device_id", ["environment_id", "device_id"], where=NOT_FINAL, unique=True)
    _index(
        "record",
        "ix_record_half_done",
        ["batch_id", "scheduled_at"],
        where="status = 'pending' AND otp1_state = 'answered'",
    )
    _index(
        "record",
        "ix_record_expiring",
        ["batch_id", "otp_expires_at"],
        where="status = 'pending' AND otp1_state <> 'answered' AND otp_expires_at IS NOT NULL",
    )
    _index(
        "record",
        "ix_record_lasting",
        ["batch_id", "scheduled_at"],
        where="status = 'pending' AND otp1_state <> 'answered' AND otp_expires_at IS NULL",
    )
    _index(
        "record",
        "ix_record_unsettled",
        ["batch_id", "scheduled_at"],
        where="status = 'pending' AND (otp1_state = 'sent' OR otp2_state = 'sent' OR verdict IS NOT NULL)",
    )
    _index("record", "ix_record_window", ["lease_until", "batch_id"], where="status IN ('queued', 'activating')")
    _index("record", "ix_record_finalized_at", ["batch_id", "finalized_at"], where="finalized_at IS NOT NULL")
    op.create_index("uq_record_batch_id_row_number", "record", ["batch_id", "row_number"], unique=True)
    op.create_index("ix_record_history", "record", ["environment_id", "serial_number"])


def _create_attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("id", KEY, nullable=False),
        sa.Column("record_id", KEY, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(40)),
        sa.Column("lease_id", sa.String(32), nullable=False),
        sa.Column("worker", sa.String(200)),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("http_status", sa.Integer()),
        sa.Column("code", sa.String(100)),
        sa.Column("detail_code", sa.String(100)),
        sa.Column("pingone_error_id", sa.String(100)),
        sa.Column("correlation_id", sa.String(100)),
        sa.Column("ended_at", UtcDateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('active', 'dead_letter', 'retry', 'handed_back', 'lost')",
            name=op.f("ck_attempt_outcome"),
        ),
        sa.ForeignKeyConstraint(["record_id"], ["record.id"], name=op.f("fk_attempt_record_id_record")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
    )
    op.create_index("ix_attempt_record_id", "attempt", ["record_id"])


def _index(table: str, name: str, columns: list[str], *, where: str, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, postgresql_where=condition, sqlite_where=condition)
