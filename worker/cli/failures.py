"""How a command ends after a failure that a person can fix: with one line on stderr and an exit code, instead of a
traceback."""

import errno
import re
import sqlite3
import sys
from typing import NoReturn

import redis
import typer
from sqlalchemy.exc import ArgumentError, DBAPIError

from models.encrypted import DecryptionError
from worker.audit import UnusableHead
from worker.batches.commands import NotPossible, WorkersLive
from worker.batches.finding import UnknownBatch, UnknownColumn
from worker.batches.hours import OtherHours
from worker.batches.loading import NameTaken, NameUnfit
from worker.cli.console import print_failure
from worker.cli.exit_codes import INTERRUPTED, UNUSABLE_SETUP, WRONG_USAGE
from worker.config.settings import ConfigError, UnusableSettings
from worker.database.engine import NotBackedUp
from worker.database.errors import Explanation, explain, find_line, is_refused_by_disk
from worker.database.postgresql import OtherEncoding
from worker.database.schema import SchemaOutdated
from worker.embedded.home import FREE_SPACE, EmbeddedError, HomeInUse
from worker.installation.installation import NothingLoaded
from worker.intake.rows import UnusableFile
from worker.pingone.errors import CredentialsRefused, NotDelivered
from worker.preflight.findings import NotPingOne, NotReady
from worker.reports.token_history import UnknownToken
from worker.rules.hours import UnfitHours

# Failures whose own message is enough for a person, by exit code.
_USAGE = (
    UnusableFile,
    NotReady,
    UnknownBatch,
    UnknownColumn,
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
# Failures of a server or the disk, which need an explanation from us.
_SERVERS = (CredentialsRefused, NotDelivered, redis.RedisError, ArgumentError, DBAPIError)
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# Even a check such as Path.is_file() can raise these errors; for a missing path it returns False instead.
_OUT_OF_REACH = (errno.EACCES, errno.ENAMETOOLONG)
# How Python represents argument bytes that are not UTF-8: https://peps.python.org/pep-0383/
_BYTES = re.compile("[\udc80-\udcff]")


def exit_for(error: BaseException) -> NoReturn:
    """End the process, for a failure that a person can fix, with one line on stderr and an exit code. Any other failure
    is raised again."""
    # At a prompt, Typer turns Ctrl-C and Ctrl-D into an Abort.
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        sys.exit(INTERRUPTED)
    if isinstance(error, _USAGE):
        _fail(str(error), WRONG_USAGE)
    if isinstance(error, _SETUP):
        _fail(str(error), UNUSABLE_SETUP)
    if isinstance(error, _SERVERS):
        _fail(explain_server_failure(error), UNUSABLE_SETUP)
    # An argument that is not UTF-8 works as a file's path, but it can be neither stored in a database nor encoded as
    # text.
    if isinstance(error, UnicodeEncodeError) and (argument := next(filter(_BYTES.search, sys.argv[1:]), None)):
        _fail(f"{argument} is not written in UTF-8: type it again in UTF-8", WRONG_USAGE)
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        _fail(f"no space is left for {error.filename or 'the output'} ({error.strerror}): {FREE_SPACE}", UNUSABLE_SETUP)
    # Only a temporary database raises this: for oathbulk's own databases, SQLAlchemy raises a DBAPIError, which is
    # handled above.
    if isinstance(error, sqlite3.OperationalError):
        cure = "free some space there, or name another folder in SQLITE_TMPDIR, and run the command again"
        _fail(f"the folder of temporary files is full or not writable ({error}): {cure}", UNUSABLE_SETUP)
    if isinstance(error, OSError) and error.errno in _OUT_OF_REACH and error.filename:
        cure = "check the path, and the permissions of its directories"
        _fail(f"{error.filename} is out of reach ({error.strerror}): {cure}", WRONG_USAGE)
    raise error


def explain_server_failure(error: Exception) -> str:
    """Say which server failed, and what to check."""
    return str(explain_server(error))


def explain_server(error: Exception) -> Explanation:
    """Say which server failed, and what to check."""
    match error:
        case CredentialsRefused():
            return Explanation(
                f"PingOne refused the worker application's credentials ({error})",
                "check PINGONE_CLIENT_ID, PINGONE_CLIENT_SECRET (or PINGONE_PRIVATE_KEY, PINGONE_KEY_ID and the "
                "clock), PINGONE_IMPORT_… of an application that imports, PINGONE_CLIENT_AUTH and "
                "PINGONE_AUTH_ENVIRONMENT_ID",
            )
        case NotDelivered():
            urls = "PINGONE_REGION, PINGONE_API_URL and PINGONE_TOKEN_URL"
            return Explanation(f"PingOne is out of reach ({error})", f"check {urls}, and the network")
        case DBAPIError() if is_refused_by_disk(error):
            reason = find_line(error.orig)
            return Explanation(f"the disk of the database is full or not writable ({reason})", FREE_SPACE)
        case DBAPIError():
            return explain(error)
        case ArgumentError():
            cure = "write one such as postgresql+psycopg://user:password@host/oathbulk"
            return Explanation("OATHBULK_DATABASE_URL is not a database URL", cure)
    return Explanation(f"Redis is out of reach ({error})", "check OATHBULK_REDIS_URL and the server")


def _fail(message: str, code: int) -> NoReturn:
    """Print the message on stderr and end the process."""
    print_failure(message)
    sys.exit(code)
