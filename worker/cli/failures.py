"""How a failure that a person can mend ends a command: with one line on stderr and an exit code, instead of a
traceback."""

from __future__ import annotations

import errno
import re
import sys
from typing import NoReturn

import redis
import typer
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from models.encrypted import DecryptionError
from worker.audit import UnusableHead
from worker.batches.commands import NotPossible, WorkersLive
from worker.batches.finding import NameTaken, NameUnfit, UnknownBatch
from worker.batches.hours import OtherHours
from worker.cli.console import print_failure
from worker.cli.exit_codes import INTERRUPTED, UNUSABLE_SETUP, WRONG_USAGE
from worker.config.settings import ConfigError, UnusableSettings
from worker.database.engine import NotBackedUp
from worker.database.errors import explain, find_line, is_refused_by_disk
from worker.database.postgresql import OtherEncoding
from worker.database.schema import SchemaOutdated
from worker.embedded.errors import FREE_SPACE, EmbeddedError
from worker.embedded.home import HomeInUse
from worker.installation.installation import NothingLoaded
from worker.intake import UnusableFile
from worker.pingone.errors import CredentialsRefused, NotDelivered
from worker.preflight.findings import NotPingOne, NotReady
from worker.reports.search import NotKept
from worker.reports.token_history import UnknownToken
from worker.rules.hours import UnfitHours

# Failures whose own message is all that a person needs, by their exit code.
_USAGE = (
    UnusableFile,
    NotReady,
    UnknownBatch,
    NotPossible,
    NameTaken,
    NameUnfit,
    OtherHours,
    UnfitHours,
    UnusableHead,
    WorkersLive,
    NothingLoaded,
    UnknownToken,
    NotBackedUp,
    UnusableSettings,
    NotKept,
)
_SETUP = (
    ConfigError,
    OtherEncoding,
    SchemaOutdated,
    EmbeddedError,
    HomeInUse,
    NotPingOne,
    DecryptionError,
)
# Failures of a server or of the disk, which need words of ours.
_SERVERS = (CredentialsRefused, NotDelivered, redis.RedisError, ArgumentError, NoSuchModuleError, DBAPIError)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# What even a question about a path fails with; where there is nothing, it is answered.
_OUT_OF_REACH = (errno.EACCES, errno.ENAMETOOLONG)
# What Python has in an argument for bytes that are no UTF-8: https://peps.python.org/pep-0383/
_BYTES = re.compile("[\udc80-\udcff]")


def exit_for(error: BaseException) -> NoReturn:
    """End the process, for a failure that a person can mend, with one line on stderr and an exit code. Any other is
    raised again."""
    # Typer makes an Abort of Ctrl-C and of Ctrl-D at a question that it asks.
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        sys.exit(INTERRUPTED)
    if isinstance(error, _USAGE):
        _fail(str(error), WRONG_USAGE)
    if isinstance(error, _SETUP):
        _fail(str(error), UNUSABLE_SETUP)
    if isinstance(error, _SERVERS):
        _fail(explain_server_failure(error), UNUSABLE_SETUP)
    if isinstance(error, UnicodeEncodeError) and (argument := _find_argument_in_other_encoding()):
        _fail(f"{argument} is not written in UTF-8: type it again, on a terminal or in a script that is", WRONG_USAGE)
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        _fail(f"no space is left for {error.filename or 'the output'} ({error.strerror}): {FREE_SPACE}", UNUSABLE_SETUP)
    if isinstance(error, OSError) and error.errno in _OUT_OF_REACH and error.filename:
        cure = "see whether the path is the right one, and the rights to its directories"
        _fail(f"{error.filename} is out of reach ({error.strerror}): {cure}", WRONG_USAGE)
    raise error


def explain_server_failure(error: Exception) -> str:
    """Say which server failed, and what to check."""
    match error:
        case CredentialsRefused():
            return (
                f"PingOne refused the worker application's credentials ({error}): check PINGONE_CLIENT_ID, "
                "PINGONE_CLIENT_SECRET (or PINGONE_PRIVATE_KEY, PINGONE_KEY_ID and the clock), PINGONE_CLIENT_AUTH and "
                "PINGONE_AUTH_ENVIRONMENT_ID"
            )
        case NotDelivered():
            urls = "PINGONE_REGION, PINGONE_API_URL and PINGONE_TOKEN_URL"
            return f"PingOne is out of reach ({error}): check {urls}, and the network"
        case redis.RedisError():
            return f"Redis is out of reach ({error}): check OATHBULK_REDIS_URL and the server"
        case DBAPIError():
            return _explain_database_failure(error)
    return "OATHBULK_DATABASE_URL is not a database URL, such as postgresql+psycopg://user:password@host/oathbulk"


def _explain_database_failure(error: DBAPIError) -> str:
    """Say why the database failed, and what to check."""
    if is_refused_by_disk(error):
        reason = find_line(error.orig)
        return f"the disk of the database is full, or refuses to be written to ({reason}): {FREE_SPACE}"
    return str(explain(error))


def _find_argument_in_other_encoding() -> str | None:
    """Find an argument of this command that is no UTF-8, which neither a database nor a text takes; None if there is
    none. The path of a file may be such a one."""
    return next(filter(_BYTES.search, sys.argv[1:]), None)


def _fail(message: str, code: int) -> NoReturn:
    """Print the message on stderr and end the process."""
    print_failure(message)
    sys.exit(code)
