"""A database whose clock tests move, instead of waiting for a lease or a delay to run out."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import ColumnElement, Engine, Float, bindparam, event, select

from worker.database.engine import Database

# For tests of what is no SQL of its own on either database.
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

# The first engine of each kind in this process that has connected, by the name of its dialect.
_FIRST: dict[str, Engine] = {}


class MovingDatabase(Database):
    """`ahead` seconds are added to the database's time, in every statement that runs from then on."""

    def __init__(self, url: str, *, connections: int = 8) -> None:
        self._moments: dict[float, ColumnElement[Any]] = {}
        self._open(url, connections)

    def reopen(self, url: str) -> None:
        """Go on with another database of the same kind, whose clock is right. What has built its statements with this
        object, such as Leases, goes on with it."""
        self.close()
        self._open(url, 8)

    def _open(self, url: str, connections: int) -> None:
        super().__init__(url, connections=connections)
        _share_compiled_statements(self.engine, self._writes)
        self.ahead = 0.0

    def now(self, shift: float | ColumnElement[Any] = 0.0) -> ColumnElement[Any]:
        """What says the same is built once: building statements is a good part of a test's time."""
        if not isinstance(shift, float):
            return self._now(shift)
        if shift not in self._moments:
            self._moments[shift] = self._now(shift)
        return self._moments[shift]

    def change(self, *statements: Any) -> None:
        """Execute statements that change rows, in one transaction."""
        with self.writing() as connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, statement: Any) -> Sequence[Any]:
        """Read all rows of a statement."""
        with self.reading() as connection:
            return connection.execute(statement).all()

    def values(self, statement: Any) -> list[Any]:
        """Read the first column of a statement."""
        return [row[0] for row in self.rows(statement)]

    def _now(self, shift: float | ColumnElement[Any]) -> ColumnElement[Any]:
        # A statement may have been built long before it runs, so the shift is looked up when it does.
        ahead = bindparam("ahead", callable_=lambda: self.ahead, type_=Float(), unique=True)
        return self.later(super().now(shift), ahead)

    def read_clock(self) -> datetime:
        """The time that a statement would see now."""
        (moment,) = self.values(select(self.now()))
        assert isinstance(moment, datetime)
        return moment


def _share_compiled_statements(*engines: Engine) -> None:
    """Compile each statement once a process, and not once a test: that takes longer than running it.

    SQLAlchemy keeps them by dialect, so that is shared as well, once it knows its server."""
    engine, kind = engines[0], engines[0].dialect.name
    if kind not in _FIRST:
        event.listen(engine, "first_connect", lambda *_: _FIRST.setdefault(kind, engine))
        return
    for each in engines:
        each.dialect, each._compiled_cache = _FIRST[kind].dialect, _FIRST[kind]._compiled_cache
