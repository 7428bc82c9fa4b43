"""Decides what is to be told about a batch, from how it stands and what was told last. Values in, values out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from models.batch import BatchState
from models.notice import Event
from models.reason import PASSING
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
