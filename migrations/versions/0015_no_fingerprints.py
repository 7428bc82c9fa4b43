"""What recognised the tokens of purged batches goes, since a purge keeps nothing about tokens any more. Workers never
read it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.drop_table("sealed_key")
    op.drop_table("past_token")


def downgrade() -> None:
    # They are empty: the version before recognises no token that was purged meanwhile, or before.
    op.create_table(
        "past_token",
        sa.Column("id", KEY, nullable=False),
        sa.Column("batch_id", KEY, nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("serial_number", sa.String(32), nullable=False),
        sa.Column("device_id", sa.String(32)),
        sa.Column("otp1", sa.String(32)),
        sa.Column("otp2", sa.String(32)),
        sa.Column("next_counter", sa.BigInteger()),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_past_token_batch_id_batch")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_past_token")),
    )
    op.create_index("ix_past_token_serial_number", "past_token", ["serial_number"])
    op.create_index("ix_past_token_batch_id", "past_token", ["batch_id"])
    op.create_table(
        "sealed_key",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sealed_key")),
    )
