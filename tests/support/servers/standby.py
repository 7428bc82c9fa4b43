"""A standby of a PostgreSQL for tests, which follows it by streaming replication until it is promoted."""

from __future__ import annotations

import psycopg

from support.processes.waiting import wait_until
from support.servers.postgres import PostgresServer

NAME = "standby"


class Standby(PostgresServer):
    """A standby of a primary that runs. It has what the primary commits a moment later; after `be_waited_for`, no
    later."""

    def __init__(self, primary: PostgresServer) -> None:
        self._primary = primary
        super().__init__(durable=False)
        # The roles are the primary's, and so are their passwords.
        self._password = primary._password

    def be_waited_for(self, *, replayed: bool = False) -> None:
        """Let no commit of the primary be reported before it is here; `replayed`: before it can be read here."""
        self._primary.execute(f"ALTER SYSTEM SET synchronous_commit = {'remote_apply' if replayed else 'on'}")
        self._primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
        self._primary.execute("SELECT pg_reload_conf()")
        wait_until(lambda: self._is("sync_state = 'sync'"), 30, "the primary waits for its standby")

    def wait_until_it_follows(self) -> None:
        wait_until(lambda: self._is("state = 'streaming'"), 30, "the standby follows the primary")

    def promote(self) -> None:
        """Make it the primary, and wait until it is one."""
        self.execute("SELECT pg_promote(wait => true)")

    def _is(self, condition: str) -> bool:
        url = self._primary.url().replace("+psycopg", "")
        statement = f"SELECT count(*) FROM pg_stat_replication WHERE application_name = '{NAME}' AND {condition}"
        with psycopg.connect(url, connect_timeout=5) as connection:
            return connection.execute(statement.encode()).fetchone() == (1,)

    def _make_cluster(self) -> None:
        url = self._primary.url().replace("+psycopg", "") + f"?application_name={NAME}"
        self._run("pg_basebackup", "-D", self._data, "-d", url, "-R", "-C", "-S", NAME, "-c", "fast", "--no-sync")


def name_both(primary: PostgresServer, standby: Standby, url: str) -> str:
    """The URL of this database of the primary, with the standby as the second host."""
    begin, _, database = url.rpartition("/")
    account = begin.rpartition("@")[0]
    ports = f"{primary.port},{standby.port}"
    return f"{account}@/{database}?host=127.0.0.1,127.0.0.1&port={ports}"
