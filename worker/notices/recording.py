"""Writes a notice of each thing that people are to be told.

How the batches stand is compared with what was told last, so it does not matter where a worker was killed: what was not
written down is found at the next look. A pause that is over before anybody looks is not told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, select

from models.batch import Batch, BatchState
from models.notice import Event, Notice
from models.record import Record
from worker.batches.finding import is_unfinished
from worker.database.engine import NOTICE_LOCK, Database
from worker.notices.changes import Standing, Told, find_event
from worker.notices.wording import describe
from worker.reports.facts import read_in
from worker.reports.stall import Stall

# Without the second condition SQLite does not use the index; and for max() it reads all of it.
_LAST_SETTLED = (
    select(Record.finalized_at)
    .where(Record.batch_id == Batch.id, Record.finalized_at.is_not(None))
    .order_by(Record.finalized_at.desc())
    .limit(1)
    .correlate(Batch)
    .scalar_subquery()
)
_LAST_TOLD = select(func.max(Notice.occurrence)).where(Notice.batch_id == Batch.id).correlate(Batch).scalar_subquery()

# Batches that no look for stalls has covered.
UNKNOWN: Mapping[int, Stall | None] = MappingProxyType({})


class Recorder:
    """Finds what is to be told, and writes it down; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batches = (
            select(
                *(Batch.id, Batch.name, Batch.environment, Batch.state, Batch.reason, Batch.outages),
                *(Batch.running_since, Batch.created_at),
                is_unfinished().label("is_unfinished"),
                _LAST_SETTLED.label("settled_at"),
                database.now().label("now"),
                *(Notice.event, Notice.facts, Notice.occurrence, Notice.created_at.label("told_at")),
            )
            .outerjoin(Notice, and_(Notice.batch_id == Batch.id, Notice.occurrence == _LAST_TOLD))
            .where(Batch.state != BatchState.CANCELLED)
            .order_by(Batch.id)
        )

    def record(self, stalls: Mapping[int, Stall | None] = UNKNOWN) -> int:
        """Write a notice of everything that is new. `stalls`: by the ids of batches that were looked at, why their work
        does not move. Returns how many notices."""
        # Nothing is new at nearly every look, so that none has to wait for the database's only writer.
        with self._database.reading_snapshot() as connection:
            seen = {
                (batch.id, event): read_in(self._database, connection, batch.name)[0]
                for batch, event in self._find_news(connection, stalls)
            }
        if not seen:
            return 0
        with self._database.writing() as connection:
            # Another worker that holds the lock writes the same notices.
            if not self._database.try_lock(connection, NOTICE_LOCK):
                return 0
            # What came up between the two looks is found at the next one, with how its batch stands then.
            news = [each for each in self._find_news(connection, stalls) if (each[0].id, each[1]) in seen]
            for batch, event in news:
                told = describe(event, seen[batch.id, event], _find_end(batch) or batch.now, stalls.get(batch.id))
                self._write(connection, batch, event, told)
        return len(news)

    def _find_news(
        self, connection: Connection, stalls: Mapping[int, Stall | None]
    ) -> Iterator[tuple[Row[*tuple[Any, ...]], Event]]:
        for batch in connection.execute(self._batches).all():
            told = Told(batch.event, batch.facts["reason"], batch.told_at) if batch.event else None
            if event := find_event(_read_standing(batch, stalls), told):
                yield batch, event

    def _write(
        self, connection: Connection, batch: Row[*tuple[Any, ...]], event: Event, told: Mapping[str, Any]
    ) -> None:
        notice = {
            "batch_id": batch.id,
            "batch": batch.name,
            "event": event,
            "occurrence": (batch.occurrence or 0) + 1,
            "facts": told,
            "created_at": self._database.now(),
            "next_try_at": self._database.now(),
        }
        connection.execute(insert(Notice).values(notice))


def _read_standing(batch: Row[*tuple[Any, ...]], stalls: Mapping[int, Stall | None]) -> Standing:
    return Standing(
        now=batch.now,
        state=batch.state,
        reason=batch.reason,
        running_since=batch.running_since,
        finished_at=_find_end(batch),
        has_outage=batch.outages > 0,
        stall=stalls.get(batch.id),
        is_stall_known=batch.id in stalls,
    )


def _find_end(batch: Row[*tuple[Any, ...]]) -> datetime | None:
    """When the batch was finished; None while it is not."""
    return None if batch.is_unfinished else batch.settled_at or batch.created_at
