"""The exit codes of the commands, and how a failure that a person can mend ends one: with one line on stderr and an
exit code, instead of a traceback."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from rich.text import Text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from models.encrypted import DecryptionError
from worker.audit import UnusableHead
from worker.batches.commands import NotPossible
from worker.batches.finding import UnknownBatch
from worker.batches.hours import OtherHours
from worker.batches.names import NameTaken, NameUnfit
from worker.batches.reconciliation import StillAtWork
from worker.batches.undo.obstacles import CannotGoOn
from worker.cli.console import error_console
from worker.config.settings import ConfigError
from worker.database.revision import SchemaOutdated
from worker.database.sqlite import is_refused_by_disk
from worker.database.sqlstates import TOO_MANY_CONNECTIONS, sqlstate_of
from worker.embedded.errors import FREE_SPACE, EmbeddedError
from worker.embedded.home import HomeInUse
from worker.installation.installation import NothingLoaded
from worker.intake import UnusableFile
from worker.journal.reader import NoJournalFound
from worker.observability.escaping import escape_line
from worker.pingone.errors import CredentialsRefused, NotDelivered
from worker.preflight.plan import OtherPlan
from worker.preflight.preflight import NotReady
from worker.reports.history import UnknownToken
from worker.reports.refused_rows import NotKept
from worker.rules.hours import UnfitHours

# Exit codes.
# Every record is active; of other commands: all went well.
ALL_ACTIVE = 0
# The batch is finished with dead letters or refused rows; or something was found that a person should look at.
SOME_LEFT = 1
# The arguments or the file are of no use.
WRONG_USAGE = 2
# Configuration or credentials are wrong, a server is out of reach, or another run uses the home.
UNUSABLE_SETUP = 3
# The batch is paused, and only a person lets it go on.
WAITING_FOR_A_PERSON = 4
# Of `status --check`: work is due, and nothing moves.
STALLED = 5
# Ctrl-C, or a signal; what was in hand is settled or handed back.
INTERRUPTED = 130

# Failures whose own message is all that a person needs, by their exit code.
_USAGE = (
    UnusableFile,
    NotReady,
    OtherPlan,
    UnknownBatch,
    NotPossible,
    NameTaken,
    NameUnfit,
    OtherHours,
    UnfitHours,
    UnusableHead,
    NoJournalFound,
    StillAtWork,
    NothingLoaded,
    UnknownToken,
    NotKept,
)
_SETUP = (ConfigError, CannotGoOn, SchemaOutdated, EmbeddedError, HomeInUse, DecryptionError)
# Failures of a server or of the disk, which need words of ours.
_SERVERS = (CredentialsRefused, NotDelivered, redis.RedisError, ArgumentError, NoSuchModuleError, DBAPIError)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def exit_on_failure() -> Iterator[None]:
    """End the process, at a failure that a person can mend, with one line on stderr and an exit code. Any other
    exception passes."""
    try:
        yield
    except _USAGE as error:
        _fail(str(error), WRONG_USAGE)
    except _SETUP as error:
        _fail(str(error), UNUSABLE_SETUP)
    except _SERVERS as error:
        _fail(explain_server_failure(error), UNUSABLE_SETUP)
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        _fail(f"no space is left for {error.filename} ({error.strerror}): {FREE_SPACE}", UNUSABLE_SETUP)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def explain_server_failure(error: Exception) -> str:
    """Say which server failed, and what to check."""
    match error:
        case CredentialsRefused():
            return (
                f"PingOne refused the worker application's credentials ({error}): check PINGONE_CLIENT_ID, "
                "PINGONE_CLIENT_SECRET, PINGONE_CLIENT_AUTH and PINGONE_AUTH_ENVIRONMENT_ID"
            )
        case NotDelivered():
            return f"PingOne is out of reach ({error}): check PINGONE_REGION or PINGONE_TOKEN_URL, and the network"
        case redis.RedisError():
            return f"Redis is out of reach ({error}): check OATHBULK_REDIS_URL and the server"
        case DBAPIError():
            return _explain_database_failure(error)
    return "OATHBULK_DATABASE_URL is not a database URL, such as postgresql+psycopg://user:password@host/oathbulk"


def _explain_database_failure(error: DBAPIError) -> str:
    """Say why the database failed, and what to check."""
    reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    if is_refused_by_disk(error):
        return f"the disk of the database is full, or refuses to be written to ({reason}): {FREE_SPACE}"
    if sqlstate_of(error.orig) == TOO_MANY_CONNECTIONS:
        return (
            f"PostgreSQL has no connection left ({reason}): lower OATHBULK_DATABASE_CONNECTIONS, start fewer workers "
            "or raise max_connections (see docs/deployment.md)"
        )
    return f"the database failed ({reason}): check OATHBULK_DATABASE_URL and the server"


def _fail(message: str, code: int) -> None:
    """Print the message on stderr and end the process."""
    error_console.print(Text.assemble(("oathbulk:", "bold red"), " ", escape_line(message)))
    sys.exit(code)
