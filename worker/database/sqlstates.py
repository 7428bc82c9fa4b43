"""PostgreSQL's error codes (SQLSTATEs) that mean that the database is away, or that a statement may be tried again."""

from __future__ import annotations

from enum import Enum


class Lost(Enum):
    """What cannot be used any more after an error."""

    STATEMENT = "the statement alone: the connection goes on"
    CONNECTION = "the connection"
    SERVER = "every connection to this server: the pool is emptied"


# None of these is a fault of ours: they pass by themselves, or an administrator removes their cause while a batch
# waits. https://www.postgresql.org/docs/current/errcodes-appendix.html
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
    # read_only_sql_transaction: after a failover the former primary is a standby, or a cloud has made it read-only.
    "25006": Lost.SERVER,
    # idle_in_transaction_session_timeout: this process stood still for longer than an administrator allows.
    "25P03": Lost.CONNECTION,
    # transaction_timeout: the same, since PostgreSQL 17, for a transaction as a whole.
    "25P04": Lost.CONNECTION,
    # serialization_failure: another transaction changed the same rows first.
    "40001": Lost.STATEMENT,
    # statement_completion_unknown
    "40003": Lost.CONNECTION,
    # deadlock_detected: PostgreSQL ended this one of two transactions that waited for each other.
    "40P01": Lost.STATEMENT,
    # insufficient_resources, in general.
    "53000": Lost.STATEMENT,
    # disk_full: until an administrator makes room.
    "53100": Lost.STATEMENT,
    # out_of_memory, of the server.
    "53200": Lost.STATEMENT,
    # too_many_connections: max_connections, or the limit of a role or a database, is reached.
    "53300": Lost.CONNECTION,
    # configuration_limit_exceeded
    "53400": Lost.STATEMENT,
    # lock_not_available: lock_timeout, which an administrator has set.
    "55P03": Lost.STATEMENT,
    # query_canceled: statement_timeout, or an administrator's pg_cancel_backend.
    "57014": Lost.STATEMENT,
    # admin_shutdown: the server is stopped or restarted, or an administrator ended this connection.
    "57P01": Lost.SERVER,
    # crash_shutdown: another process of the server crashed, and it ends all connections.
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
# The role lacks a right: to a table, or to make one.
INSUFFICIENT_PRIVILEGE = "42501"
# An error while connecting reaches the driver as text, without its code. These are the messages by which codes are
# known: PostgreSQL's, PgBouncer's and libpq's (https://www.postgresql.org/docs/current/libpq-connect.html, under
# target_session_attrs). Messages of a server whose lc_messages is another language are not recognized.
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
    """The line of a driver's error that tells what is the matter. Of several hosts, each may have said something."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return next((line.strip() for line in lines if any(words in line for words in _TOLD_BY)), lines[0])
