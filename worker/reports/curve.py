"""Reads when the tokens of a batch were settled and became active, counted by the database in short spans of time: few
rows, however many tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, Integer, cast, func, literal, select, type_coerce

from models.base import UtcDateTime
from models.record import Record
from models.record_states import Status
from worker.database.engine import Database

# When a record was settled.
_AT: ColumnElement[Any] = Record.__table__.c.finalized_at
# Spans into which the time from the first to the last settled token is divided.
SPANS = 200


@dataclass(frozen=True, slots=True)
class Curve:
    """`moments`: times in ascending order, each with the number of tokens that were active by then. `settled`: when the
    last token of each span was settled, as seconds since 1970 in ascending order."""

    moments: tuple[tuple[datetime, int], ...] = ()
    settled: list[float] = field(default_factory=list)


def read_curve(database: Database, connection: Connection, batch_id: int) -> Curve:
    """Read the curve of a batch; an empty one while no token is settled."""
    mine = (Record.batch_id == batch_id, _AT.is_not(None))
    first, last = connection.execute(select(func.min(_AT), func.max(_AT)).where(*mine)).one()
    if first is None:
        return Curve()
    width = max((last - first).total_seconds(), 1e-3) / SPANS
    span = cast(_seconds_since(database, first) / width, Integer)
    counted = (
        select(
            func.max(_AT),
            func.max(_AT).filter(Record.status == Status.ACTIVE),
            func.count().filter(Record.status == Status.ACTIVE),
        )
        .where(*mine)
        .group_by(span)
        .order_by(func.max(_AT))
    )
    moments, settled, active = list[tuple[datetime, int]](), list[float](), 0
    for settled_at, active_at, count in connection.execute(counted):
        settled.append(settled_at.timestamp())
        if count:
            active += count
            moments.append((active_at, active))
    return Curve(tuple(moments), settled)


def _seconds_since(database: Database, moment: datetime) -> ColumnElement[float]:
    """SQL for the seconds from a moment until a record was settled."""
    since = literal(moment, UtcDateTime)
    if database.is_sqlite:
        return type_coerce((func.julianday(_AT) - func.julianday(since)) * 86400.0, Float)
    # extract() gives an exact decimal, with which a database divides a million times more slowly.
    return type_coerce(func.date_part("epoch", _AT - since), Float)
