"""The engine for PostgreSQL: what each connection is told, how many there are, and when they are given up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import tenacity
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry

from worker.config.server_urls import read_prepare_threshold
from worker.database.sqlstates import AWAY, TOO_MANY_CONNECTIONS, Lost, sqlstate_of

if TYPE_CHECKING:
    # Who works on SQLite never loads it.
    import psycopg

# What a URL says itself goes before these:
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_CONNECTING: dict[str, str | int] = {
    # A server that is gone without a word (a network cut, a host that was replaced) is noticed within 20 seconds, and
    # not when the kernel gives up: after a quarter of an hour, or two hours while an answer is waited for. In seconds.
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    # Milliseconds.
    "tcp_user_timeout": 20_000,
    # After a failover the URL may still lead to the former primary, which answers and takes no write any more. Of
    # several hosts in the URL, the one that does is found.
    "target_session_attrs": "read-write",
}

# Values of synchronous_commit under which a commit that was reported survives a crash of the server.
DURABLE = frozenset({"on", "local", "remote_write", "remote_apply"})
_SAID = re.compile(r"synchronous_commit\s*=\s*(\w+)")
READ_COMMITTED = "read committed"
_IN_FORCE = """
SELECT pg_backend_pid(), current_setting('synchronous_commit'), current_setting('default_transaction_isolation')
"""
_KEEP = """
SELECT set_config('synchronous_commit', %s, false), set_config('default_transaction_isolation', %s, false)
"""
# In the info of a connection: the synchronous_commit that each of its transactions has to be told.
_TOLD_EACH_TIME = "synchronous_commit"
# Between two tries to get a connection from a server that has none left; a fleet should not ask all at once.
_APART = tenacity.wait_random(0.2, 1.0)


def make_engine(url: str, connections: int, patience: float) -> Engine:
    """`connections`: the most that are open at once. `patience`: so many seconds a server that has no connection left
    is asked again."""
    parts = make_url(url)
    arguments: dict[str, Any] = {name: value for name, value in _CONNECTING.items() if name not in parts.query}
    if "prepare_threshold" in parts.query:
        arguments["prepare_threshold"] = read_prepare_threshold(parts)
    engine = create_engine(
        parts.difference_update_query(["prepare_threshold"]),
        connect_args=arguments,
        # No overflow: a connection that is opened for a moment costs the server more than a hundred statements. The one
        # used last is used again, since its statements are prepared.
        pool_size=connections,
        max_overflow=0,
        pool_use_lifo=True,
        # Each statement commits by itself, so that there is nothing to roll back; a transaction is asked for.
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        hide_parameters=True,
        # We keep none of these; each new connection would ask the server whether it does.
        use_native_hstore=False,
    )
    _tell_connections(engine, _SAID.findall(_options(parts.query)), has_threshold="prepare_threshold" in arguments)
    event.listen(engine, "handle_error", _give_up_what_is_lost)
    if patience:
        _ask_again_for(engine, patience)
    return engine


def is_told_each_time(connection: Connection) -> bool:
    """A pooler stands before a server whose own settings would not do: a transaction has to say which it needs, so a
    single statement must be in one."""
    return _TOLD_EACH_TIME in connection.info


def _options(query: Any) -> str:
    said = query.get("options", "")
    return said if isinstance(said, str) else " ".join(said)


def _tell_connections(engine: Engine, said: list[str], *, has_threshold: bool) -> None:
    """An administrator's defaults for a role or a database must break no promise. What was reported as committed stays
    so (synchronous_commit), and of two statements that meet at one record the second waits and goes on instead of
    failing (READ COMMITTED)."""

    @event.listens_for(engine, "connect")
    def look(connection: psycopg.Connection[Any], record: ConnectionPoolEntry) -> None:
        found = connection.execute(_IN_FORCE, prepare=False).fetchone()
        assert found is not None, "a SELECT without FROM has one row"  # noqa: S101
        pid, commits, isolation = found
        wanted = _wanted(commits, said)
        is_well = (commits, isolation) == (wanted, READ_COMMITTED)
        # PgBouncer, and its like, name a process of their own. What is set there would stay with a connection that the
        # next transaction of ours does not get; and so would a prepared statement.
        if pid != connection.info.backend_pid:
            if not has_threshold:
                connection.prepare_threshold = None
            if not is_well:
                record.info[_TOLD_EACH_TIME] = wanted
        elif not is_well:
            connection.execute(_KEEP, (wanted, READ_COMMITTED), prepare=False)

    @event.listens_for(engine, "begin")
    def tell(connection: Connection) -> None:
        is_write = connection.get_execution_options().get("begins_immediate", False)
        if is_write and is_told_each_time(connection):
            # One of DURABLE, and nothing that anybody typed.
            connection.exec_driver_sql(f"SET LOCAL synchronous_commit = {connection.info[_TOLD_EACH_TIME]}")


def _wanted(commits: str, said: list[str]) -> str:
    """The synchronous_commit to work with: the one in force, if it is as safe as `on` or if the URL asks for it by name
    and it survives a crash."""
    if commits == "remote_apply" or (commits in said and commits in DURABLE):
        return commits
    return "on"


def _give_up_what_is_lost(context: ExceptionContext) -> None:
    lost = AWAY.get(sqlstate_of(context.original_exception) or "")
    if lost in (Lost.CONNECTION, Lost.SERVER):
        context.is_disconnect = True
    context.invalidate_pool_on_disconnect = lost is not Lost.CONNECTION


def _ask_again_for(engine: Engine, patience: float) -> None:
    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, arguments: Any, parameters: Any) -> Any:
        asking = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: sqlstate_of(error) == TOO_MANY_CONNECTIONS),
            wait=_APART,
            stop=tenacity.stop_after_delay(patience),
            reraise=True,
        )
        return asking(engine.dialect.connect, *arguments, **parameters)
