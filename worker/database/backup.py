"""Backs up SQLite's database while others work with it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from shlex import quote

from sqlalchemy import URL

from worker.database.engine import Database


class NotBackedUp(Exception):
    """No backup was made; the message says why, and what makes one."""


def back_up(database: Database, copy: Path) -> None:
    """Write the whole database into this empty file, as it is at one moment. Nobody waits for it: readers and the
    writer go on. Raises NotBackedUp for PostgreSQL, which has its own program for it, and if the copy is damaged."""
    if not database.is_sqlite:
        raise NotBackedUp(
            "the database is PostgreSQL, which brings its own program (under Compose see docs/deployment.md, Backups): "
            + _write_pg_dump(database)
        )
    try:
        verdict = _copy(database, copy)
    except sqlite3.Error as error:
        raise NotBackedUp(f"the backup could not be written ({error}): check the disk that it goes to") from error
    if verdict != "ok":
        raise NotBackedUp(f"the database is damaged ({verdict}): put back the latest backup that is not")


def _copy(database: Database, copy: Path) -> str:
    """Copy SQLite's database, and check the copy: "ok", or what is wrong with it. Raises sqlite3.Error."""
    with closing(sqlite3.connect(copy)) as target:
        with database.reading() as connection:
            source = connection.connection.driver_connection
            assert isinstance(source, sqlite3.Connection)  # noqa: S101
            source.backup(target)
        # A backup is one file, without a log beside it.
        target.execute("PRAGMA journal_mode = DELETE")
        (verdict,) = target.execute("PRAGMA quick_check(1)").fetchone()
    return str(verdict)


def _write_pg_dump(database: Database) -> str:
    """Write the command that backs a PostgreSQL up, without the password."""
    url = database.engine.url
    plain = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
    return f"pg_dump --format=custom --file=FILE {quote(plain.render_as_string())}"
