"""Records with seeds count how far their OTPs have come, and keep what else names a person; a batch knows the batch
whose failures it takes up; what was learnt of an environment is kept."""

import re

import sqlalchemy as sa
from alembic import op

from migrations.audit_actions import allow_actions
from models.base import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


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
    allow_actions(BEFORE, NOW)


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
