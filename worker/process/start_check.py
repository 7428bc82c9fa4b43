"""Ends a worker that is being started and could do no work, with one line that names the cure: where its database takes
nothing from it, and where others work and it could not, which each new attempt would cost an OTP to find out. Where the
database is away later, a line a minute says so."""

from __future__ import annotations

import logging
import sys

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from models.attempt import AttemptLine
from models.batch import Batch, BatchState
from models.reason import PAUSE_CURES, PauseReason
from worker.config.environment import Environments
from worker.config.settings import UNUSABLE_SETUP, ConfigError
from worker.database.engine import Database
from worker.database.errors import INSUFFICIENT_PRIVILEGE, READ_ONLY, TAKES_NO_WRITES, explain, is_away, sqlstate_of
from worker.database.postgresql import OtherEncoding
from worker.database.schema import SchemaOutdated, read_revision, refuse_older
from worker.fleet import FAILS_ALONE, GONE_AFTER, NETWORK, Processes, Sickness, count_well
from worker.leases.queue import has_pending
from worker.observability.progress import LogInterval
from worker.pingone.client import explain_hold
from worker.pingone.clients import Clients
from worker.pingone.diagnosis import measure_drift
from worker.pingone.errors import CredentialsRefused, NotDelivered, OutcomeUnknown

# Errors that no waiting mends where a worker is being started: its URL or its role is the wrong one.
_LASTING = (READ_ONLY, INSUFFICIENT_PRIVILEGE)
# The setting is `on` in a standby, too.
_SELECT_READ_ONLY = "SELECT current_setting('transaction_read_only')"
# Attempts among which one is looked for that PingOne answered another process.
_LATEST = 200


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


def end_if_unfit(
    database: Database, processes: Processes, environments: Environments, clients: Clients, deadline: float
) -> None:
    """Ask PingOne with the credentials and the network of this process, before it takes a message, and write down that
    it lives; end it with one line if others are well and it is not. `deadline` of each request in seconds. Where the
    database is away, or no other process is well, it begins as it is."""
    try:
        processes.show_life()
        sickness = _find_sickness(database, processes.name, environments, clients, deadline)
        is_spared = sickness is None or not processes.fall_sick(sickness)
    except Exception as error:
        if not is_away(error):
            raise
        return
    if sickness is not None and not is_spared:
        # Celery has no console of ours, and its log may go elsewhere.
        print(f"oathbulk: this worker fails where others do not: {sickness.detail}", file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(FAILS_ALONE)


def _find_sickness(
    database: Database, me: str, environments: Environments, clients: Clients, deadline: float
) -> Sickness | None:
    """Try what a first record would need, in each environment with work; None if all goes well, or not for others
    either."""
    with database.reading() as connection:
        if count_well(database, connection) < 2:
            return None
        has_work = Batch.state != BatchState.CANCELLED, has_pending()
        names = connection.scalars(select(Batch.environment).where(*has_work).distinct()).all()
    for name in names:
        try:
            environment = environments.get(name)
            clients.access_tokens(environment).get()
            measure_drift(environment, deadline=deadline)
        except ConfigError as error:
            return Sickness(PauseReason.ENVIRONMENT, str(error))
        except CredentialsRefused:
            return Sickness(PauseReason.CREDENTIALS, PAUSE_CURES[PauseReason.CREDENTIALS])
        except (NotDelivered, OutcomeUnknown) as error:
            with database.reading() as connection:
                if _are_others_answered(database, connection, me):
                    return Sickness(NETWORK, explain_hold(error))
    return None


def _are_others_answered(database: Database, connection: Connection, me: str) -> bool:
    """Whether PingOne has answered another process in the last half minute."""
    lately = AttemptLine.ended_at > database.now(-GONE_AFTER)
    lines = select(AttemptLine.worker, AttemptLine.correlation_id, lately.label("is_late"))
    latest = connection.execute(lines.order_by(AttemptLine.id.desc()).limit(_LATEST)).all()
    return any(line.is_late and line.correlation_id and line.worker not in (None, me) for line in latest)


class AwayLines(logging.Filter):
    """Makes one line, once a minute, of the tasks that fail while the database is away. Celery would write a traceback
    for each tick."""

    def __init__(self) -> None:
        super().__init__()
        self._interval = LogInterval()

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, DBAPIError) or not is_away(error):
            return True
        record.msg, record.args = "database_away: %s", (str(explain(error)),)
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return self._interval.begin_if_over()
