"""A batch can be mended, which the audit names; and the posts of a record are counted from 0 with each new budget. What
versions before said of parents, and of rows that were active before, nobody asks for any more. A replay or a mend waits
until all workers have this version: those of the version before would take the new budget for one with room for more
OTPs."""

import sqlalchemy as sa
from alembic import op

from migrations.audit_actions import allow_actions

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

BEFORE = (
    "action IN ('load', 'pause', 'resume', 'cancel', 'replay', 'export_with_otps', 'reconcile', 'pace', 'lift_hold',"
    " 'reencrypt', 'upgrade', 'learn', 'unpair', 'revoke', 'purge', 'erase')"
)
NOW = BEFORE.replace("'replay',", "'replay', 'mend',")
RECORD = sa.table(
    "record",
    sa.column("otp1_posts", sa.Integer),
    sa.column("otp2_posts", sa.Integer),
    sa.column("posts_forgiven", sa.Integer),
)


def upgrade() -> None:
    allow_actions(BEFORE, NOW)
    # Only records with a seed have begun a budget anew: each of their OTPs goes once, so that it does not matter which
    # of the two was posted.
    began_anew = RECORD.update().where(RECORD.c.posts_forgiven > 0)
    op.execute(
        began_anew.values(otp1_posts=RECORD.c.otp1_posts + RECORD.c.otp2_posts - RECORD.c.posts_forgiven, otp2_posts=0)
    )


def downgrade() -> None:
    # The check stays wider, since lines of the audit that this version wrote stay.
    began_anew = RECORD.update().where(RECORD.c.posts_forgiven > 0)
    op.execute(began_anew.values(otp1_posts=RECORD.c.otp1_posts + RECORD.c.posts_forgiven))
