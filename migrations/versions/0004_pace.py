"""The pace of a license: the ceiling that was found, and what a person set."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from models.base import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pace",
        sa.Column("license", sa.String(200), nullable=False),
        sa.Column("rate", sa.Float()),
        sa.Column("ceiling", sa.Float()),
        sa.Column("found_at", UtcDateTime(timezone=True)),
        sa.Column("share", sa.Float(), nullable=False, server_default="1"),
        sa.Column("fixed_rate", sa.Float()),
        sa.Column("set_by", sa.String(200)),
        sa.Column("set_at", UtcDateTime(timezone=True)),
        sa.Column("ticket", sa.String(200)),
        sa.CheckConstraint("share > 0 AND share <= 1", name=op.f("ck_pace_share")),
        sa.PrimaryKeyConstraint("license", name=op.f("pk_pace")),
    )


def downgrade() -> None:
    op.drop_table("pace")
