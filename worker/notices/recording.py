"""Writes a notice of each thing that people are to be told.

How the batches stand is compared with what was told last, so it does not matter where a worker was killed: what was not
written down is found at the next look. A pause that is over before anybody looks is not told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, select

from models.batch import Batch, BatchState
from models.notice import Event, Notice
from models.reason import PASSING
from models.record import Record
from worker.batches.commands import LicenseOf
from worker.batches.finding import is_unfinished, read_running
from worker.database.engine import NOTICE_LOCK, Database
from worker.notices.wording import describe
from worker.reports.facts import read_in, read_statuses
from worker.reports.stall import Stall

# A batch of which nothing was told yet, and that was finished for longer than this, is no news: a webhook that was set
# today is not told of last year's batches.
NEWS_FOR = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a batch stands at `now`. `finished_at`: when its last record became final; None while one is not. `stall` is
    None too where nobody has looked for one, which `is_stall_known` tells."""

    now: datetime
    state: str
    reason: str | None
    running_since: datetime
    finished_at: datetime | None
    has_outage: bool = False
    stall: Stall | None = None
    is_stall_known: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What was told last about a batch, and when that was written down."""

    event: str
    reason: str | None
    at: datetime


def find_event(standing: Standing, told: Told | None) -> Event | None:
    """Find what people are to be told now; None: nothing that they do not know. A cancelled batch is not told of, for a
    person has just cancelled it."""
    if standing.state == BatchState.CANCELLED:
        return None
    if standing.finished_at is not None:
        return Event.FINISHED if _is_new_end(standing, standing.finished_at, told) else None
    if standing.state == BatchState.PAUSED:
        event = Event.PAUSED_FOR_NOW if standing.reason in PASSING else Event.PAUSED
        return None if told and (told.event, told.reason) == (event, standing.reason) else event
    return _find_event_of_running(standing, told)


def _is_new_end(standing: Standing, finished_at: datetime, told: Told | None) -> bool:
    """Whether the batch's end was not told yet. A batch that was told to be finished may have been replayed and
    finished again before anybody looked."""
    if told is None:
        return standing.now - finished_at < NEWS_FOR
    return told.event != Event.FINISHED or min(standing.running_since, finished_at) > told.at


def _find_event_of_running(standing: Standing, told: Told | None) -> Event | None:
    """Find what to tell of a batch that runs. While it only tries whether an outage is over, nothing: it has not gone
    on before PingOne answers."""
    if standing.has_outage:
        return None
    if standing.stall is not None:
        return None if told and told.event == Event.STALLED else Event.STALLED
    if told is None or told.event == Event.RESUMED:
        return None
    return Event.RESUMED if told.event != Event.STALLED or standing.is_stall_known else None


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


# Seconds between two looks at least; a stall is one only after a minute.
LOOK_EVERY = 10.0
# After a look, no other is made for so many times as long as it took: counting the records of a large batch takes time.
TIMES_AS_LONG = 100


class StallWatch:
    """Remembers when it last looked. `clock` counts seconds. `only_batch`: the id of the one that is looked at, since
    nobody asked for work on others here; None: all are."""

    def __init__(
        self,
        database: Database,
        license_of: LicenseOf,
        clock: Callable[[], float] = time.monotonic,
        *,
        only_batch: int | None = None,
    ) -> None:
        self._database = database
        self._only_batch = only_batch
        self._license_of = license_of
        self._clock = clock
        self._next_look_at: float | None = None

    def find(self) -> Mapping[int, Stall | None]:
        """Find for each running batch with work left why it does not move, None while it does. Empty where it is too
        early for another look."""
        began_at = self._clock()
        if self._next_look_at is not None and began_at < self._next_look_at:
            return UNKNOWN
        with self._database.reading() as connection:
            batches = read_running(connection)
        looked_at = [batch for batch in batches if self._only_batch in (None, batch.id)]
        found = {batch.id: self._find_stall(batch.name) for batch in looked_at}
        now = self._clock()
        self._next_look_at = now + max(LOOK_EVERY, TIMES_AS_LONG * (now - began_at))
        return found

    def _find_stall(self, name: str) -> Stall | None:
        (status,) = read_statuses(self._database, name, self._license_of)
        return status.stall
