"""Failures that a person can mend: one clear line and an exit code, instead of a traceback."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from models.encrypted import DecryptionError
from worker.audit import UnusableHead
from worker.batches.commands import NotPossible
from worker.batches.finding import UnknownBatch
from worker.batches.hours import OtherHours
from worker.batches.loading import NameTaken, NameUnfit
from worker.batches.reconciliation import StillAtWork
from worker.cli.console import error_console
from worker.config.settings import ConfigError
from worker.database.revision import SchemaOutdated
from worker.database.sqlite import is_refused_by_disk
from worker.database.sqlstates import TOO_MANY_CONNECTIONS, sqlstate_of
from worker.embedded.errors import FREE_SPACE, EmbeddedError
from worker.embedded.home import HomeInUse
from worker.intake import UnusableFile
from worker.journal.reader import NoJournalFound
from worker.observability.escaping import escape_line
from worker.pingone.errors import CredentialsRefused, NotDelivered
from worker.rules.hours import UnfitHours

ALL_ACTIVE = 0
SOME_LEFT = 1
WRONG_USAGE = 2
UNUSABLE_SETUP = 3
WAITING_FOR_A_PERSON = 4
STALLED = 5
INTERRUPTED = 130

_USAGE = (
    UnusableFile,
    UnknownBatch,
    NotPossible,
    NameTaken,
    NameUnfit,
    OtherHours,
    UnfitHours,
    UnusableHead,
    NoJournalFound,
    StillAtWork,
)
_SETUP = (ConfigError, SchemaOutdated, EmbeddedError, HomeInUse, DecryptionError)


@contextmanager
def failing_clearly() -> Iterator[None]:
    try:
        yield
    except _USAGE as error:
        _fail(str(error), WRONG_USAGE)
    except _SETUP as error:
        _fail(str(error), UNUSABLE_SETUP)
    except CredentialsRefused as error:
        _fail(
            f"PingOne refused the worker application's credentials ({error}): check PINGONE_CLIENT_ID, "
            "PINGONE_CLIENT_SECRET, PINGONE_CLIENT_AUTH and PINGONE_AUTH_ENVIRONMENT_ID",
            UNUSABLE_SETUP,
        )
    except NotDelivered as error:
        _fail(
            f"PingOne is out of reach ({error}): check PINGONE_REGION or PINGONE_TOKEN_URL, and the network",
            UNUSABLE_SETUP,
        )
    except redis.RedisError as error:
        _fail(f"Redis is out of reach ({error}): check OATHBULK_REDIS_URL and the server", UNUSABLE_SETUP)
    except (ArgumentError, NoSuchModuleError):
        _fail(
            "OATHBULK_DATABASE_URL is not a database URL, such as postgresql+psycopg://user:password@host/oathbulk",
            UNUSABLE_SETUP,
        )
    except DBAPIError as error:
        _fail(_database_failure(error), UNUSABLE_SETUP)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail(f"no space is left for {error.filename} ({error.strerror}): {FREE_SPACE}", UNUSABLE_SETUP)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _database_failure(error: DBAPIError) -> str:
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
    error_console.print("oathbulk:", style="bold red", end=" ")
    error_console.print(escape_line(message))
    sys.exit(code)
