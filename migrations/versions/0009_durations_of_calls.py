"""Attempts keep how long PingOne's calls took, in milliseconds. Workers of the version before leave it empty."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempt", sa.Column("call_milliseconds", sa.Integer()))


def downgrade() -> None:
    # How long calls took is lost; nothing else was made of it.
    op.drop_column("attempt", "call_milliseconds")
