"""Ends a worker that starts with a database which takes nothing from it, with one line that names the cure. A server
that is out of reach is no such database: a worker waits for it."""

from __future__ import annotations

import sys

from sqlalchemy.exc import DBAPIError

from worker.config.settings import UNUSABLE_SETUP
from worker.database.encoding import OtherEncoding
from worker.database.engine import Database
from worker.database.explanations import TAKES_NO_WRITES, explain
from worker.database.revision import SchemaOutdated, read_revision, refuse_older
from worker.database.sqlstates import INSUFFICIENT_PRIVILEGE, READ_ONLY, sqlstate_of

# Errors that no waiting mends where a worker is being started: its URL or its role is the wrong one.
_LASTING = (READ_ONLY, INSUFFICIENT_PRIVILEGE)
# The setting is `on` in a standby, too.
_SELECT_READ_ONLY = "SELECT current_setting('transaction_read_only')"


def end_if_unusable(database: Database) -> None:
    """End the process if PostgreSQL answers, and can't be worked with: a standby, another encoding than UTF8, a role
    without rights, no schema or an older one. With a later one a worker of the version before goes on."""
    if not database.is_sqlite and (fault := find_fault(database)):
        # Celery has no console of ours, and its log may go elsewhere.
        print(f"oathbulk: {fault}", file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(UNUSABLE_SETUP)


def find_fault(database: Database) -> str | None:
    """Say why this PostgreSQL can't be worked with; None if it can, or if it is out of reach for now."""
    try:
        with database.reading() as connection:
            # A table is read: the role may have no right to it.
            revision = read_revision(connection)
            if connection.exec_driver_sql(_SELECT_READ_ONLY).scalar() == "on":
                return str(TAKES_NO_WRITES)
            refuse_older(revision)
    except (OtherEncoding, SchemaOutdated) as error:
        return str(error)
    except DBAPIError as error:
        return str(explain(error)) if sqlstate_of(error.orig) in _LASTING else None
    return None
