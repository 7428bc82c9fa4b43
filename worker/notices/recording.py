"""Finds what people are to be told of batches, puts it into words, and writes a notice of it.

How the batches stand is compared with what was told last, so it does not matter where a worker was killed: what was not
written down is found at the next look. A pause that is over before anybody looks is not told.

Only words of ours, the names that people gave, and counts are told. What PingOne or a machine answered may name a user
or a token, so a batch's `detail` is left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from shlex import quote
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select
from sqlalchemy.exc import IntegrityError

from models.batch import Batch, BatchState
from models.notice import Event, Notice
from models.reason import PASSING, PAUSE_CURES, PauseReason
from worker.batches.commands import LicenseOf
from worker.database.engine import Database
from worker.observability.counting import agree
from worker.reports.facts import LONGEST_REST, REST, BatchStatus, read_in
from worker.reports.sentences import count_active
from worker.reports.stall import Cause, Stall
from worker.rules.hours import format_time

# A batch of which nothing was told yet, and that was finished for longer than this, is no news: a webhook that was set
# today is not told of last year's batches.
NEWS_FOR = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class LastTold:
    """What was told last about a batch, and when that was written down. `number`: how many notices it had."""

    event: str
    reason: str | None
    at: datetime
    number: int = 1


def find_event(status: BatchStatus, running_since: datetime, told: LastTold | None) -> Event | None:
    """Find what people are to be told now; None: nothing that they do not know. `running_since`: when the batch was
    loaded, or last began to run again. A cancelled batch is not told of, for a person has just cancelled it."""
    if status.state == BatchState.CANCELLED:
        return None
    if status.state == "finished":
        return Event.FINISHED if _is_new_end(status, running_since, told) else None
    if status.state == BatchState.PAUSED:
        event = Event.PAUSED_FOR_NOW if status.reason in PASSING else Event.PAUSED
        return None if told and (told.event, told.reason) == (event, status.reason) else event
    # A batch that only tries whether an outage is over has not gone on before PingOne answers.
    if status.outage:
        return None
    if status.stall:
        return None if told and told.event == Event.STALLED else Event.STALLED
    return None if told is None or told.event == Event.RESUMED else Event.RESUMED


def _is_new_end(status: BatchStatus, running_since: datetime, told: LastTold | None) -> bool:
    """Whether the batch's end was not told yet. A batch that was told to be finished may have been replayed and
    finished again before anybody looked."""
    finished_at = _find_end(status)
    if told is None:
        return status.read_at - finished_at < NEWS_FOR
    return told.event != Event.FINISHED or min(running_since, finished_at) > told.at


def _find_end(status: BatchStatus) -> datetime:
    """When a finished batch ended; a batch without a record did so when it was loaded."""
    return status.finished_at or status.created_at


# The last notice of a batch. What was told to be finished, and has not run since, is no news, and is not looked at.
_LAST_TOLD = select(func.max(Notice.occurrence)).where(Notice.batch_id == Batch.id).correlate(Batch).scalar_subquery()
_MAY_BE_NEWS = (
    select(Batch.id, Batch.name, Batch.running_since, Notice.event, Notice.facts, Notice.occurrence, Notice.created_at)
    .outerjoin(Notice, and_(Notice.batch_id == Batch.id, Notice.occurrence == _LAST_TOLD))
    .where(
        Batch.state != BatchState.CANCELLED,
        or_(Notice.id.is_(None), Notice.event != Event.FINISHED, Batch.running_since > Notice.created_at),
    )
)


class Recorder:
    """Finds what is to be told, and writes it down; for one thread. `clock` counts seconds. `only_batch`: the id of the
    one batch that is told of, since nobody asked for work on others here; None: all are."""

    def __init__(
        self,
        database: Database,
        license_of: LicenseOf,
        clock: Callable[[], float] = time.monotonic,
        *,
        only_batch: int | None = None,
    ) -> None:
        self._database = database
        self._license_of = license_of
        self._clock = clock
        self._may_be_news = _MAY_BE_NEWS if only_batch is None else _MAY_BE_NEWS.where(Batch.id == only_batch)
        self._next_look_at: float | None = None

    def record(self) -> int:
        """Write a notice of everything that is new, and return how many. Nothing where it is too early for another
        look: to count the records of large batches takes time."""
        began_at = self._clock()
        if self._next_look_at is not None and began_at < self._next_look_at:
            return 0
        with self._database.reading_snapshot() as connection:
            news = list(self._find_news(connection))
        now = self._clock()
        self._next_look_at = now + min(REST * (now - began_at), LONGEST_REST)
        return sum(map(self._write, news))

    def _find_news(self, connection: Connection) -> Iterator[dict[str, Any]]:
        """Find what is new, as rows of the table of notices, those of the earliest batch first."""
        batches = {batch.name: batch for batch in connection.execute(self._may_be_news)}
        statuses = read_in(self._database, connection, self._license_of, Batch.name.in_(batches)) if batches else []
        for status in reversed(statuses):
            batch = batches[status.name]
            told = (
                LastTold(batch.event, batch.facts["reason"], batch.created_at, batch.occurrence)
                if batch.event
                else None
            )
            if event := find_event(status, batch.running_since, told):
                at = _find_end(status) if event == Event.FINISHED else status.read_at
                yield {
                    "batch_id": batch.id,
                    "batch": batch.name,
                    "event": event,
                    "occurrence": (told.number if told else 0) + 1,
                    "facts": describe(event, status, at, status.stall),
                }

    def _write(self, notice: dict[str, Any]) -> bool:
        """Write a notice; False where another worker has written that number of this batch first. What it did not see
        is found at the next look."""
        now = self._database.now()
        try:
            with self._database.writing() as connection:
                connection.execute(insert(Notice).values(notice | {"created_at": now, "next_try_at": now}))
        except IntegrityError:
            return False
        return True


# Chat tools read commands such as <!channel> in a text; these look alike and are none.
_NO_MARKUP = str.maketrans({"<": "‹", ">": "›", "&": "+"})
# What keeps work from moving, where `status` would quote what a machine answered.
_STALLS = {
    Cause.HOLD: "All workers hold.",
    Cause.BROKER: "The broker cannot be used.",
    Cause.SICK: "No worker is well.",
}


def describe(event: Event, status: BatchStatus, occurred_at: datetime, stall: Stall | None = None) -> dict[str, Any]:
    """Say all that the webhook is told but for the notice's id. `stall`: why the work of the batch does not move."""
    reason, cure = _find_reason(event, status, stall)
    resumes_at = status.resumes_at if event == Event.PAUSED_FOR_NOW else None
    return {
        "text": write_text(event, status, cure, stall),
        "event": event,
        "batch": status.name,
        "environment": status.environment,
        "total": status.total,
        "rows": status.rows,
        "tokens_active": status.tokens_active,
        "counts": status.counts,
        "reason": reason,
        "cure": cure,
        "resumes_at": resumes_at and resumes_at.isoformat(),
        "occurred_at": occurred_at.isoformat(),
    }


def write_text(event: Event, status: BatchStatus, cure: str | None, stall: Stall | None) -> str:
    """Write the line that a chat tool shows as it is."""
    counted = count_active(status.tokens_active, status.rows)
    others = status.tokens_left
    left = f"{others:,} {agree(others, 'is', 'are')} not"
    more = f"Next: oathbulk status {quote(status.name)}"
    match event:
        case Event.FINISHED if not others:
            text = f"{status.name} is finished: {counted}."
        case Event.FINISHED:
            text = f"{status.name} is finished: {counted}, {left}. {more}"
        case Event.PAUSED:
            text = f"{status.name} is paused until a person resumes it ({status.reason}): {counted}. {cure} {more}"
        case Event.PAUSED_FOR_NOW:
            until = f" until {format_time(status.resumes_at)}" if status.resumes_at else ""
            text = f"{status.name} is paused for now{until} ({status.reason}): {counted}. {cure}"
        case Event.STALLED:
            does_not = _STALLS.get(stall.cause, stall.detail) if stall else ""
            text = f"{status.name} does not move: {does_not} {cure} {more}"
        case Event.RESUMED:
            text = f"{status.name} goes on: {counted}, {left}."
    return text.translate(_NO_MARKUP)


def _find_reason(event: Event, status: BatchStatus, stall: Stall | None) -> tuple[str | None, str | None]:
    """Find the one word why the batch does not go on, and what to do about it."""
    if event == Event.STALLED and stall is not None:
        return stall.cause, stall.cure.replace("BATCH", quote(status.name))
    if event == Event.FINISHED or status.state != BatchState.PAUSED or status.reason is None:
        return None, None
    return status.reason, PAUSE_CURES[PauseReason(status.reason)]
