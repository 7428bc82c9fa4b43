"""Databases of a test server that are emptied after a test and given to the next one: making one takes longer than most
tests do."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from support.servers.postgres import PostgresServer

# What a test may have changed beside rows: how many may connect, schemas, relations, columns, defaults, constraints,
# triggers, functions, settings, the version.
_SHAPE = """
    WITH ours AS (SELECT oid, relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace)
    SELECT (SELECT (datconnlimit, datallowconn) FROM pg_database WHERE datname = current_database()),
           (SELECT array_agg(nspname ORDER BY oid) FROM pg_namespace WHERE nspname !~ '^pg_'),
           (SELECT array_agg((relname, relkind) ORDER BY oid) FROM ours),
           (SELECT array_agg((attname, atttypid, atttypmod, attnotnull, atthasdef) ORDER BY attrelid, attnum)
            FROM pg_attribute JOIN ours ON ours.oid = attrelid WHERE attnum > 0),
           (SELECT array_agg(pg_get_expr(adbin, adrelid) ORDER BY pg_attrdef.oid)
            FROM pg_attrdef JOIN ours ON ours.oid = adrelid),
           (SELECT array_agg(conname ORDER BY pg_constraint.oid) FROM pg_constraint JOIN ours ON ours.oid = conrelid),
           (SELECT array_agg((tgname, tgenabled) ORDER BY oid) FROM pg_trigger),
           (SELECT array_agg((proname, md5(prosrc)) ORDER BY oid) FROM pg_proc WHERE oid >= 16384),
           (SELECT count(*) FROM pg_db_role_setting JOIN pg_database ON setdatabase = pg_database.oid
            WHERE datname = current_database()),
           (SELECT array_agg(version_num) FROM alembic_version)
"""
_END_OTHERS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
# Deleting a few rows takes a tenth of the time that TRUNCATE takes, and leaves them in the file. What ANALYZE found is
# emptied too, and what this counts as read is told at once, before a test counts.
EMPTY = """
    DO $$ DECLARE each record; BEGIN
        FOR each IN SELECT relname, pg_relation_size(oid) AS bytes FROM pg_class
                    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
        LOOP
            IF each.bytes > 131072 THEN EXECUTE format('TRUNCATE %I CASCADE', each.relname);
            ELSIF each.bytes > 0 THEN EXECUTE format('DELETE FROM %I', each.relname);
            END IF;
        END LOOP;
        DELETE FROM pg_statistic USING pg_class WHERE pg_class.oid = starelid AND relnamespace = 'public'::regnamespace;
        UPDATE pg_class SET relpages = 0, reltuples = -1
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i') AND reltuples > 0;
        PERFORM setval(oid, 1, false) FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace;
        PERFORM pg_stat_force_next_flush();
    END $$
"""


# The application of which the connections are that are kept.
KEEPER = "keeper"


class EmptiedDatabases:
    """Copies of one template, which has no rows. Close it in the end."""

    def __init__(self, server: PostgresServer, template: str) -> None:
        self._server = server
        self._template = template
        self._free = list[str]()
        # Of each: how it was when it was made.
        self._shapes = dict[str, Any]()
        self._connections = dict[str, psycopg.Connection]()

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of one without rows. Whoever is still connected in the end is cut off."""
        name = self._free.pop() if self._free else self._make()
        yield self._server.url(name)
        if not self._server.is_running:
            return
        if self._empty(name):
            self._free.append(name)
        else:
            self._connections.pop(name).close()
            self._server.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def _make(self) -> str:
        name = f"emptied_{secrets.token_hex(6)}"
        self._server.execute(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY FILE_COPY")
        self._shapes[name] = self._execute(name, _SHAPE).fetchone()
        return name

    def _empty(self, name: str) -> bool:
        """Empty a database, unless anything was changed in it beside rows."""
        self._execute(name, _END_OTHERS)
        if self._execute(name, _SHAPE).fetchone() != self._shapes[name]:
            return False
        self._execute(name, EMPTY)
        return True

    def _execute(self, name: str, statement: str) -> psycopg.Cursor:
        """Execute a statement by a connection that is kept, or made anew if it was cut off."""
        try:
            return self._connections[name].execute(statement.encode())
        except (KeyError, psycopg.OperationalError):
            url = self._server.url(name).replace("+psycopg", "")
            # As a replica, it is not refused by the triggers that keep people from changing the audit.
            options = "-c session_replication_role=replica"
            self._connections[name] = psycopg.connect(
                url, autocommit=True, connect_timeout=5, options=options, application_name=KEEPER
            )
            return self._connections[name].execute(statement.encode())
