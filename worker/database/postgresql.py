"""Makes the engine for PostgreSQL: the settings of each connection, how many there are, and when they are closed."""

from __future__ import annotations

import re
from shlex import quote
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry

from worker.config.server_urls import read_prepare_threshold
from worker.database.errors import AWAY, TOO_MANY_CONNECTIONS, Lost, sqlstate_of

if TYPE_CHECKING:
    # Not loaded for SQLite.
    import psycopg

# Parameters of each connection; those that the URL sets itself take precedence.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_CONNECTING: dict[str, str | int] = {
    # With these five, a server that disappears without closing the connection (a network cut, a replaced host) is
    # noticed within 20 seconds, not only when the kernel gives up: after a quarter of an hour, or two hours while
    # waiting for an answer.
    # Seconds to wait for a connection.
    "connect_timeout": 10,
    # Seconds without traffic until the kernel sends a probe.
    "keepalives_idle": 10,
    # Seconds between two probes.
    "keepalives_interval": 5,
    # Probes without an answer until the connection is given up.
    "keepalives_count": 2,
    # Milliseconds for which sent data may stay unacknowledged.
    "tcp_user_timeout": 20_000,
    # After a failover the URL may still lead to the former primary, which answers but accepts no writes. If the URL
    # names several hosts, this finds the one that accepts writes.
    "target_session_attrs": "read-write",
    # Overrides an administrator's default: every person's name has to get through.
    "client_encoding": "UTF8",
}

# Values of synchronous_commit with which a reported commit survives a crash of the server.
DURABLE = frozenset({"on", "local", "remote_write", "remote_apply"})
# Finds the value in the URL's `options`.
_COMMIT_OPTION = re.compile(r"synchronous_commit\s*=\s*(\w+)")
# The isolation level of every transaction.
READ_COMMITTED = "read committed"
# Reads the effective values on a connection.
_READ_SETTINGS = """
SELECT pg_backend_pid(), current_setting('synchronous_commit'), current_setting('default_transaction_isolation')
"""
# Sets both for as long as the connection is open.
_SET_SETTINGS = """
SELECT set_config('synchronous_commit', %s, false), set_config('default_transaction_isolation', %s, false)
"""
# The key in a connection's info for the synchronous_commit that each of its transactions has to set.
_SET_EACH_TIME = "synchronous_commit"
# Seconds between two tries to connect to a server without a free connection; random, so that a fleet's workers do not
# all try at once.
_CONNECT_INTERVAL = (0.2, 1.0)


class OtherEncoding(Exception):
    """The database's encoding is not UTF8; the message names the cure."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"the encoding of the database is {found}, not UTF8: create another one with CREATE DATABASE "
            "oathbulk ENCODING 'UTF8' TEMPLATE template0, and name it in OATHBULK_DATABASE_URL"
        )


def make_engine(url: str, connections: int, connect_within: float, *, checks_connections: bool) -> Engine:
    """Make the engine. `connections`: the maximum number open at once. `connect_within`: seconds for which connecting
    is retried while the server has no connection left. `checks_connections`: before using a connection,
    replace it if the server has closed it, at the cost of a round trip each time."""
    parts = make_url(url)
    arguments: dict[str, Any] = {name: value for name, value in _CONNECTING.items() if name not in parts.query}
    if "prepare_threshold" in parts.query:
        arguments["prepare_threshold"] = read_prepare_threshold(parts)
    engine = create_engine(
        parts.difference_update_query(["prepare_threshold"]),
        connect_args=arguments,
        # No overflow: opening a short-lived connection costs the server more than a hundred statements do. The
        # most recently used connection is used first (LIFO), since it has prepared statements.
        pool_size=connections,
        max_overflow=0,
        pool_use_lifo=True,
        pool_pre_ping=checks_connections,
        # Each statement commits by itself, so there is nothing to roll back unless a transaction is begun.
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        hide_parameters=True,
        # We have no hstore columns; with this on, each new connection would ask the server for that type.
        use_native_hstore=False,
    )
    # A URL may have `options` more than once.
    asked_for = _COMMIT_OPTION.findall(" ".join(parts.normalized_query.get("options", ())))
    _configure_connections(engine, asked_for, has_threshold="prepare_threshold" in arguments)
    _configure_transactions(engine)
    event.listen(engine, "handle_error", _mark_lost_connections)
    if connect_within:
        _retry_connecting(engine, connect_within)
    return engine


def needs_transaction(connection: Connection) -> bool:
    """Whether even a single statement needs a transaction, which sets `synchronous_commit` first: behind a pooler, if
    the server's own settings are not safe enough."""
    return _SET_EACH_TIME in connection.info


def write_pg_dump(url: URL) -> str:
    """Write the command that backs up this database, without the password."""
    plain = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
    return f"pg_dump --format=custom --file=FILE {quote(plain.render_as_string())}"


def _configure_connections(engine: Engine, asked_for: list[str], *, has_threshold: bool) -> None:
    """On every new connection, set the values that an administrator's defaults for a role or a database may have
    changed.

    A reported commit must survive a crash (synchronous_commit), and if two statements change the same record, the
    second must wait and continue instead of failing (READ COMMITTED). `asked_for`: values of synchronous_commit in the
    URL. `has_threshold`: the URL says after how many runs statements are prepared."""

    @event.listens_for(engine, "connect")
    def set_on_connection(connection: psycopg.Connection[Any], record: ConnectionPoolEntry) -> None:
        _check_encoding(connection)
        found = connection.execute(_READ_SETTINGS, prepare=False).fetchone()
        assert found is not None, "a SELECT without FROM has one row"  # noqa: S101
        pid, commits, isolation = found
        wanted = _choose_commit(commits, asked_for)
        is_as_wanted = (commits, isolation) == (wanted, READ_COMMITTED)
        # PgBouncer and similar poolers report a process id other than the server's. A setting or a prepared statement
        # on such a connection stays with a server connection that our next transaction may not get.
        if pid != connection.info.backend_pid:
            if not has_threshold:
                connection.prepare_threshold = None
            if not is_as_wanted:
                record.info[_SET_EACH_TIME] = wanted
        elif not is_as_wanted:
            connection.execute(_SET_SETTINGS, (wanted, READ_COMMITTED), prepare=False)


def _check_encoding(connection: psycopg.Connection[Any]) -> None:
    """Check the encoding of a new connection's database, which the server reported. Raises OtherEncoding."""
    found = connection.info.parameter_status("server_encoding")
    if found not in (None, "UTF8"):
        # Nobody else would close it: SQLAlchemy does not have this connection yet.
        connection.close()
        raise OtherEncoding(found)


def _configure_transactions(engine: Engine) -> None:
    """In each writing transaction, set the value that cannot be set on its connection because of a pooler in
    between."""

    @event.listens_for(engine, "begin")
    def set_in_transaction(connection: Connection) -> None:
        is_write = connection.get_execution_options().get("begins_immediate", False)
        if is_write and needs_transaction(connection):
            # The value is one of DURABLE, so no outside text gets into the statement.
            connection.exec_driver_sql(f"SET LOCAL synchronous_commit = {connection.info[_SET_EACH_TIME]}")


def _choose_commit(commits: str, asked_for: list[str]) -> str:
    """Choose the synchronous_commit: `on`, unless the current one is as safe, or the URL asks for it and its commits
    survive a crash."""
    if commits == "remote_apply" or (commits in asked_for and commits in DURABLE):
        return commits
    return "on"


def _mark_lost_connections(context: ExceptionContext) -> None:
    """Tell SQLAlchemy whether an error ended its connection, or every connection to this server."""
    lost = AWAY.get(sqlstate_of(context.original_exception) or "")
    if lost in (Lost.CONNECTION, Lost.SERVER):
        context.is_disconnect = True
    context.invalidate_pool_on_disconnect = lost is not Lost.CONNECTION


def _retry_connecting(engine: Engine, connect_within: float) -> None:
    """While the server has no connection left, retry for this many seconds."""

    # Not at the top: importing it takes a tenth of a command's start, and SQLite needs no retries.
    import tenacity

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, arguments: Any, parameters: Any) -> Any:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: sqlstate_of(error) == TOO_MANY_CONNECTIONS),
            wait=tenacity.wait_random(*_CONNECT_INTERVAL),
            stop=tenacity.stop_after_delay(connect_within),
            reraise=True,
        )
        return retrying(engine.dialect.connect, *arguments, **parameters)
