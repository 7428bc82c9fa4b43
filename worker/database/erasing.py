"""Sees to it that what was erased cannot be read in SQLite's log either; in its database it is overwritten at once.
PostgreSQL's autovacuum does the like by itself, some time later."""

from __future__ import annotations

from worker.database.engine import Database


def empty_log(database: Database) -> None:
    """Empty SQLite's log of changes, in which what was deleted stands for a while. Who reads at the moment keeps it
    from that; then a later commit does it."""
    if database.is_sqlite:
        with database.engine.connect() as connection:
            connection.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
