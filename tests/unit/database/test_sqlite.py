"""What SQLite keeps in its file of what was erased."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.pool import Pool

from worker.database.engine import Database


@pytest.fixture
def built_as_by_default() -> Iterator[None]:
    """SQLite as its authors build it; Debian's overwrites what is erased by itself."""

    def keep_erased(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA secure_delete = OFF")

    event.listen(Pool, "connect", keep_erased)
    yield
    event.remove(Pool, "connect", keep_erased)


@pytest.mark.usefixtures("built_as_by_default")
def test_what_is_erased_is_not_left_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "oathbulk.db"
    sealed = [f"ciphertext number {number:06}".encode() for number in range(500)]
    engine = Database(f"sqlite:///{file}").engine
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE record (id INTEGER PRIMARY KEY, otps BLOB, status TEXT)"))
        connection.execute(text("INSERT INTO record (otps) VALUES (:otps)"), [{"otps": each} for each in sealed])
        connection.execute(text("UPDATE record SET otps = NULL, status = 'active, and longer than it was before'"))
    engine.dispose()

    assert [each for each in sealed if each in file.read_bytes()] == []
