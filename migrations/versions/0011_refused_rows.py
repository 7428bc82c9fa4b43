"""Rows that are refused at loading are kept, without their OTPs and seeds; and a batch knows how many rows were left
out, which stood in the audit alone. Workers of the version before only count what they refuse."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BATCH = sa.table("batch", sa.column("name", sa.String), sa.column("already_active", sa.Integer))
AUDIT = sa.table("audit", sa.column("action", sa.String), sa.column("batch", sa.String), sa.column("facts", sa.JSON))


def upgrade() -> None:
    op.create_table(
        "refused_rows",
        sa.Column("id", KEY, nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("row_number", sa.Integer(), nullable=False),
        sa.Column("environment_id", sa.String(100), nullable=False),
        sa.Column("serial_number", sa.String(50)),
        sa.Column("reason", sa.String(40), nullable=False),
        sa.Column("detail", sa.String(1000), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_refused_rows_batch_id_batch")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refused_rows")),
    )
    op.create_index("uq_refused_rows_batch_id_row_number", "refused_rows", ["batch_id", "row_number"], unique=True)
    op.create_index("ix_refused_rows_serial_number", "refused_rows", ["environment_id", "serial_number"])
    op.add_column("batch", sa.Column("already_active", sa.Integer(), nullable=False, server_default="0"))
    _count_left_out()


def downgrade() -> None:
    # Which rows were refused, and why, is forgotten; how many stays in the batch, and what was left out in the audit.
    op.drop_column("batch", "already_active")
    op.drop_table("refused_rows")


def _count_left_out() -> None:
    """Take over what the audit says of rows that were left out."""
    connection = op.get_bind()
    for load in connection.execute(sa.select(AUDIT).where(AUDIT.c.action == "load")).all():
        if left_out := load.facts.get("already_active"):
            connection.execute(BATCH.update().where(BATCH.c.name == load.batch).values(already_active=left_out))
