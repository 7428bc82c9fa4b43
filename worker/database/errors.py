"""Says what a database error means: whether the database is away and may return by itself, what an administrator can
do, and whether the disk refused a write. Away means unreachable, or refusing work for a reason that passes by itself or
that an administrator removes."""

import sqlite3
from dataclasses import dataclass, replace
from enum import Enum

from sqlalchemy import exc
from sqlalchemy.exc import DBAPIError


class Lost(Enum):
    """What an error makes unusable."""

    STATEMENT = "the statement alone: the connection goes on"
    CONNECTION = "the connection"
    SERVER = "every connection to this server: the pool is emptied"


# deadlock_detected: two transactions waited for each other, and PostgreSQL ended this one.
DEADLOCK = "40P01"
# These are not our faults: they pass by themselves, or an administrator removes their cause while a batch waits.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
AWAY: dict[str, Lost] = {
    # connection_exception, in general: the network, or a server that ended.
    "08000": Lost.CONNECTION,
    # sqlclient_unable_to_establish_sqlconnection: no server listens there, or not yet.
    "08001": Lost.CONNECTION,
    # connection_does_not_exist
    "08003": Lost.CONNECTION,
    # sqlserver_rejected_establishment_of_sqlconnection
    "08004": Lost.CONNECTION,
    # connection_failure: it broke.
    "08006": Lost.CONNECTION,
    # transaction_resolution_unknown: it broke during a commit.
    "08007": Lost.CONNECTION,
    # protocol_violation: PgBouncer's code for having no server, or no connection in time (query_wait_timeout).
    "08P01": Lost.CONNECTION,
    # read_only_sql_transaction: after a failover the former primary is a standby, or a cloud provider has made it
    # read-only.
    "25006": Lost.SERVER,
    # idle_in_transaction_session_timeout: this process was suspended for longer than a holder of locks may be, or than
    # an administrator allows.
    "25P03": Lost.CONNECTION,
    # transaction_timeout: the same, since PostgreSQL 17, for a transaction as a whole.
    "25P04": Lost.CONNECTION,
    # serialization_failure: another transaction changed the same rows first.
    "40001": Lost.STATEMENT,
    # statement_completion_unknown
    "40003": Lost.CONNECTION,
    DEADLOCK: Lost.STATEMENT,
    # insufficient_resources, in general.
    "53000": Lost.STATEMENT,
    # disk_full: until an administrator frees space.
    "53100": Lost.STATEMENT,
    # out_of_memory, of the server.
    "53200": Lost.STATEMENT,
    # too_many_connections: max_connections, or the limit of a role or a database, is reached.
    "53300": Lost.CONNECTION,
    # configuration_limit_exceeded
    "53400": Lost.STATEMENT,
    # lock_not_available: lock_timeout, which an administrator set.
    "55P03": Lost.STATEMENT,
    # query_canceled: statement_timeout, or an administrator's pg_cancel_backend.
    "57014": Lost.STATEMENT,
    # admin_shutdown: the server is stopped or restarted, or an administrator ended this connection.
    "57P01": Lost.SERVER,
    # crash_shutdown: another server process crashed, which ends all connections.
    "57P02": Lost.SERVER,
    # cannot_connect_now: the server starts, or ends.
    "57P03": Lost.SERVER,
    # idle_session_timeout
    "57P05": Lost.CONNECTION,
    # system_error: the server's operating system refused something.
    "58000": Lost.STATEMENT,
    # io_error: the server's disk.
    "58030": Lost.STATEMENT,
}

# The server has no connection left.
TOO_MANY_CONNECTIONS = "53300"
# The server is a standby, or default_transaction_read_only is on.
READ_ONLY = "25006"
# The role lacks a privilege on a table, or for creating one.
INSUFFICIENT_PRIVILEGE = "42501"
# An error while connecting reaches the driver as text, without its code. These messages identify the codes:
# PostgreSQL's, PgBouncer's, and libpq's (https://www.postgresql.org/docs/current/libpq-connect.html, under
# target_session_attrs). If lc_messages is another language, they are not recognized.
_TOLD_BY = {
    "too many clients already": TOO_MANY_CONNECTIONS,
    "too many connections for": TOO_MANY_CONNECTIONS,
    "remaining connection slots are reserved": TOO_MANY_CONNECTIONS,
    "number of requested standby connections exceeds": TOO_MANY_CONNECTIONS,
    "no more connections allowed": TOO_MANY_CONNECTIONS,
    "session is read-only": READ_ONLY,
    "server is in hot standby mode": READ_ONLY,
}


def sqlstate_of(error: BaseException | None) -> str | None:
    """The code of a driver's error; None if it has none, as for a connection that broke, and for SQLite's errors."""
    state: str | None = getattr(error, "sqlstate", None)
    if state is not None:
        return state
    told = str(error)
    return next((code for words, code in _TOLD_BY.items() if words in told), None)


def find_line(error: BaseException | None) -> str:
    """Find the line of a driver's error that says what is wrong. With several hosts, each may have reported
    something."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return next((line.strip() for line in lines if any(words in line for words in _TOLD_BY)), lines[0])


def is_away(error: BaseException) -> bool:
    """Whether this error means that the database is away or could not do its work this time, and is not our fault."""
    # No connection became free in time: while the database does not respond, other threads hold all of them.
    if isinstance(error, exc.TimeoutError):
        return True
    if not isinstance(error, exc.DBAPIError):
        return False
    state = sqlstate_of(error.orig)
    # An error without a code comes from the driver, which lost its connection or got none; or from SQLite, whose file
    # is locked.
    return state in AWAY if state else error.connection_invalidated or isinstance(error, exc.OperationalError)


def is_deadlock(error: BaseException) -> bool:
    """Whether PostgreSQL ended this transaction because it and another one waited for each other."""
    return isinstance(error, exc.DBAPIError) and sqlstate_of(error.orig) == DEADLOCK


def is_refused_by_disk(error: DBAPIError) -> bool:
    """Whether this error of SQLite means that its disk is full, read-only or broken."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    # The lowest byte is the kind of error, the bytes above it say more exactly which: https://www.sqlite.org/rescode.html
    return code is not None and code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is wrong, with the server's own words in parentheses, and the cure."""

    fault: str
    cure: str

    def __str__(self) -> str:
        return f"{self.fault}: {self.cure}"


# The database is a standby, or read-only.
TAKES_NO_WRITES = Explanation(
    "the database does not accept writes",
    "name the primary, or all servers, in OATHBULK_DATABASE_URL; if this is the primary, set "
    "default_transaction_read_only = off (docs/deployment.md)",
)
_RAISE = "raise {0} for this role, as in ALTER ROLE oathbulk SET {0} = '5min' (docs/deployment.md)"

# By SQLSTATE.
_EXPLANATIONS = {
    TOO_MANY_CONNECTIONS: Explanation(
        "PostgreSQL has no connection left",
        "lower OATHBULK_DATABASE_CONNECTIONS, start fewer workers or raise max_connections (see docs/deployment.md)",
    ),
    READ_ONLY: TAKES_NO_WRITES,
    INSUFFICIENT_PRIVILEGE: Explanation(
        "the database role lacks a privilege",
        "use the role that owns oathbulk's tables; to create them, it needs GRANT USAGE, CREATE ON SCHEMA public TO "
        "oathbulk",
    ),
    # invalid_schema_name: none of those in the search_path exists, or the role may use none of them.
    "3F000": Explanation(
        "the database has no schema for oathbulk's tables",
        "create the one that search_path names: CREATE SCHEMA oathbulk AUTHORIZATION oathbulk",
    ),
    # query_canceled: by statement_timeout, or by a person.
    "57014": Explanation("the database ended a statement", _RAISE.format("statement_timeout")),
    # idle_in_transaction_session_timeout
    "25P03": Explanation(
        "the database ended a transaction that was idle",
        f"let nothing suspend this process, or {_RAISE.format('idle_in_transaction_session_timeout')}",
    ),
    # transaction_timeout
    "25P04": Explanation("the database ended a transaction", _RAISE.format("transaction_timeout")),
}
# PgBouncer's refusals, by their words: it has one code for all of them.
_POOLERS = {
    "statement pooling mode": Explanation(
        "PgBouncer runs in statement mode in front of the database", "set its pool_mode to transaction or session"
    ),
    "unsupported startup parameter": Explanation(
        "PgBouncer refuses a parameter of OATHBULK_DATABASE_URL",
        "remove it, and set it with ALTER ROLE oathbulk SET instead",
    ),
}
_SQLITE = Explanation(
    "the database failed",
    "check which other program has its file open; if it is damaged, restore a backup (docs/operating.md)",
)
_ANY_OTHER = Explanation("the database failed", "check OATHBULK_DATABASE_URL and the server")


def explain(error: DBAPIError) -> Explanation:
    """Say what is wrong with the database, and what to do about it."""
    line = find_line(error.orig)
    any_other = _SQLITE if isinstance(error.orig, sqlite3.Error) else _ANY_OTHER
    by_words = next((explanation for words, explanation in _POOLERS.items() if words in line), any_other)
    found = _EXPLANATIONS.get(sqlstate_of(error.orig) or "", by_words)
    return replace(found, fault=f"{found.fault} ({line})")
