"""A database whose clock tests move, instead of waiting for a lease or a delay to run out."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Float, bindparam, select

from worker.database.engine import Database


class MovingDatabase(Database):
    """`ahead` seconds are added to the database's time, in every statement that runs from then on."""

    def __init__(self, url: str, *, connections: int = 8) -> None:
        super().__init__(url, connections=connections)
        self.ahead = 0.0

    def now(self, shift: float | ColumnElement[Any] = 0.0) -> ColumnElement[Any]:
        # A statement may have been built long before it runs, so the shift is looked up when it does.
        ahead = bindparam("ahead", callable_=lambda: self.ahead, type_=Float(), unique=True)
        return self.later(super().now(shift), ahead)

    def read_clock(self) -> datetime:
        """The time that a statement would see now."""
        with self.reading() as connection:
            moment = connection.scalar(select(self.now()))
        assert isinstance(moment, datetime)
        return moment
