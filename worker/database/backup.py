"""Backs up a SQLite database, and checks the copy."""

import sqlite3
from contextlib import closing
from pathlib import Path

from worker.database.engine import Database
from worker.database.postgresql import write_pg_dump


class NotBackedUp(Exception):
    """No backup was made; the message says why, and what to do instead."""


def back_up(database: Database, copy: Path) -> None:
    """Write the whole database into this empty file, as of one moment, while readers and the writer continue. Raises
    NotBackedUp for PostgreSQL, which has its own program, and if the copy is damaged."""
    if not database.is_sqlite:
        raise NotBackedUp(
            f"the database is PostgreSQL, which has its own program (under Compose, see docs/operating.md, Back up): "
            f"{write_pg_dump(database.engine.url)}"
        )
    try:
        with database.reading() as connection, closing(sqlite3.connect(copy)) as target:
            source = connection.connection.driver_connection
            assert isinstance(source, sqlite3.Connection)  # noqa: S101
            source.backup(target)
            # A backup is one file, without a log beside it.
            target.execute("PRAGMA journal_mode = DELETE")
            (verdict,) = target.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise NotBackedUp(f"the backup could not be written ({error}): check the target disk") from error
    if verdict != "ok":
        raise NotBackedUp(f"the database is damaged ({verdict}): restore the latest backup that is not")
