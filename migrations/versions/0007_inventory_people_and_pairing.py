"""Records know whether their token is in PingOne's inventory and how far its pairing has come; jobs that import tokens
are written down; a batch knows what it may create."""

import sqlalchemy as sa
from alembic import op

from migrations.audit_actions import allow_actions
from models.base import UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

BEFORE = (
    "action IN ('load', 'pause', 'resume', 'cancel', 'replay', 'export_with_otps',"
    " 'reconcile', 'pace', 'lift_hold', 'reencrypt', 'upgrade', 'learn')"
)
NOW = BEFORE.replace("'learn')", "'learn', 'unpair', 'revoke')")

PAIRING = "pairing IN ('unsent', 'sent', 'missed', 'paired')"
# Conditions of the partial indexes, before and now.
NOT_FINAL = "status IN ('pending', 'queued', 'activating')"
EXPIRING = "status = 'pending' AND otp1_state <> 'answered' AND otp_expires_at IS NOT NULL"
LASTING = "status = 'pending' AND otp1_state <> 'answered' AND otp_expires_at IS NULL"
IS_PREPARED = "user_id <> '' AND is_in_inventory"
UNSETTLED = "status = 'pending' AND (otp1_state = 'sent' OR otp2_state = 'sent' OR verdict IS NOT NULL"
INDEXES_BEFORE = {
    "uq_record_device_id": ("environment_id, device_id", NOT_FINAL),
    "ix_record_expiring": ("batch_id, otp_expires_at", EXPIRING),
    "ix_record_lasting": ("batch_id, scheduled_at", LASTING),
    "ix_record_unsettled": ("batch_id, scheduled_at", f"{UNSETTLED})"),
}
INDEXES_NOW = {
    "uq_record_device_id": ("environment_id, device_id", f"{NOT_FINAL} AND device_id <> ''"),
    "ix_record_expiring": ("batch_id, otp_expires_at", f"{EXPIRING} AND {IS_PREPARED}"),
    "ix_record_lasting": ("batch_id, scheduled_at", f"{LASTING} AND {IS_PREPARED}"),
    "ix_record_unsettled": ("batch_id, scheduled_at", f"{UNSETTLED} OR pairing IN ('sent', 'missed'))"),
    "ix_record_lacks_user": ("batch_id, row_number", "status = 'pending' AND user_id = ''"),
    "ix_record_lacks_token": ("batch_id, row_number", "status = 'pending' AND user_id <> '' AND NOT is_in_inventory"),
    "ix_record_import_job": ("import_job_id", "import_job_id IS NOT NULL"),
}


def upgrade() -> None:
    op.add_column("record", sa.Column("owner_id", sa.String(36)))
    op.add_column("record", _boolean("is_in_inventory", default=sa.true()))
    op.add_column("record", sa.Column("import_job_id", KEY))
    op.add_column("record", _boolean("is_token_made", default=sa.false()))
    op.add_column("record", _boolean("is_device_made", default=sa.false()))
    # In SQL, since SQLite adds a check to a table only together with its column.
    op.execute(
        "ALTER TABLE record ADD COLUMN pairing VARCHAR(8) DEFAULT 'unsent' NOT NULL"
        f" CONSTRAINT ck_record_pairing CHECK ({PAIRING})"
    )
    op.add_column("record", sa.Column("pairings", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("batch", _boolean("may_import", default=sa.false()))
    op.add_column("batch", _boolean("may_pair", default=sa.false()))
    op.add_column("batch", sa.Column("inventory_read_at", UtcDateTime(timezone=True)))
    op.add_column("batch", sa.Column("prepared_until", UtcDateTime(timezone=True)))
    _create_jobs()
    _change_indexes(INDEXES_BEFORE, INDEXES_NOW)
    allow_actions(BEFORE, NOW)


def downgrade() -> None:
    # The earlier version sends nothing for a record without an id, and pauses its batch.
    lacking = sa.text(
        "SELECT count(*) FROM record WHERE status IN ('pending', 'queued', 'activating')"
        " AND (user_id = '' OR device_id = '')"
    )
    if op.get_bind().scalar(lacking):
        raise RuntimeError(
            "records are there whose user or device is not known yet, which the earlier version cannot activate:"
            " finish or cancel their batches with this one, or restore the backup from before the upgrade"
        )
    _change_indexes(INDEXES_NOW, INDEXES_BEFORE)
    op.drop_table("inventory_job")
    # The wider check of the audit stays, since the lines that need it do.
    for column in ("prepared_until", "inventory_read_at", "may_pair", "may_import"):
        op.drop_column("batch", column)
    made = ("is_device_made", "is_token_made", "import_job_id", "is_in_inventory", "owner_id")
    for column in ("pairings", "pairing", *made):
        op.drop_column("record", column)


def _boolean(name: str, *, default: sa.ColumnElement[bool]) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=default)


def _create_jobs() -> None:
    op.create_table(
        "inventory_job",
        sa.Column("id", KEY, nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("job_id", sa.String(100)),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer()),
        sa.Column("duplicates", sa.Integer()),
        sa.Column("detail", sa.String(300)),
        sa.Column("sent_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", UtcDateTime(timezone=True)),
        sa.CheckConstraint("kind IN ('import', 'revoke')", name=op.f("ck_inventory_job_kind")),
        sa.CheckConstraint(
            "state IN ('sent', 'running', 'done', 'failed', 'lost')", name=op.f("ck_inventory_job_state")
        ),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_inventory_job_batch_id_batch")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inventory_job")),
    )
    op.create_index("ix_inventory_job_batch_id", "inventory_job", ["batch_id", "id"])
    unfinished = sa.text("state IN ('sent', 'running')")
    op.create_index(
        "ix_inventory_job_unfinished",
        "inventory_job",
        ["batch_id"],
        postgresql_where=unfinished,
        sqlite_where=unfinished,
    )


def _change_indexes(old: dict[str, tuple[str, str]], new: dict[str, tuple[str, str]]) -> None:
    """Replace these partial indexes: by name, their columns and the condition."""
    for name in old:
        op.execute(f"DROP INDEX {name}")
    for name, (columns, condition) in new.items():
        unique = "UNIQUE " if name.startswith("uq_") else ""
        op.execute(f"CREATE {unique}INDEX {name} ON record ({columns}) WHERE {condition}")
