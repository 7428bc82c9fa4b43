"""What a batch's daily window means for it: it runs while that is open, and goes on by itself when it opens again.

Every function works in the caller's transaction, by the database's clock."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from shlex import quote

from sqlalchemy import ColumnElement, Connection, Update, and_, func, select, update

from models.attempt import AttemptLine
from models.batch import Batch, BatchState
from models.reason import PauseReason
from worker.batches import state
from worker.database.engine import Database
from worker.rules.breaker import FIRST_PROBE
from worker.rules.hours import DailyHours, format_time


class OtherHours(Exception):
    """The batch keeps to another window than the one that was asked for; the message names the command that changes
    it."""


@dataclass(frozen=True, slots=True)
class OutOfHours:
    """A batch waits for its window to open."""

    hours: DailyHours
    begins_at: datetime

    def __str__(self) -> str:
        return f"outside its window {self.hours}; goes on by itself at {format_time(self.begins_at)}"


def let_run(
    database: Database, connection: Connection, batch_id: int, sources: Collection[BatchState] = tuple(BatchState)
) -> OutOfHours | None:
    """Let a batch that is in one of these states run; or pause it until its hours begin, and tell when. Whether PingOne
    is out is judged by the attempts that end from now on."""
    now, daily_hours = _now(database, connection), read_hours(connection, batch_id)
    outside = _outside(daily_hours, now)
    if outside:
        change = _pause(sources, outside)
    else:
        change = state.let_run(
            sources, closes_at=daily_hours.find_next_change(now) if daily_hours else None, since=database.now()
        )
    connection.execute(change.where(Batch.id == batch_id).values(running_after=latest_attempt()))
    return outside


def check_hours(database: Database, connection: Connection, batch_id: int) -> OutOfHours | None:
    """Pause a running batch whose hours have ended, and tell when they begin; otherwise write down when they end."""
    now, daily_hours = _now(database, connection), read_hours(connection, batch_id)
    outside = _outside(daily_hours, now)
    if outside:
        connection.execute(_pause((BatchState.RUNNING,), outside).where(Batch.id == batch_id))
    else:
        closes_at = daily_hours.find_next_change(now) if daily_hours else None
        connection.execute(update(Batch).where(Batch.id == batch_id).values(closes_at=closes_at))
    return outside


def check_same_hours(connection: Connection, batch_id: int, name: str, wanted: DailyHours | None) -> None:
    """Who goes on with a batch need not repeat its window; but another one must not be passed over. Raises
    OtherHours."""
    has = read_hours(connection, batch_id)
    if wanted is None or wanted == has:
        return
    keeps = f"keeps to its window {has}" if has else "runs all day"
    command = f"oathbulk resume {quote(name)} --window {wanted.hours} --zone {wanted.zone}"
    raise OtherHours(f"this file is batch {name!r} already, and it {keeps}. To change that: {command}")


def set_hours(connection: Connection, batch_id: int, daily_hours: DailyHours | None) -> None:
    """From now on; what it means for the batch, `let_run` finds out."""
    values = {"daily_window": daily_hours and daily_hours.hours, "zone": daily_hours and daily_hours.zone}
    connection.execute(update(Batch).where(Batch.id == batch_id).values(values))


def read_hours(connection: Connection, batch_id: int) -> DailyHours | None:
    batch = connection.execute(select(Batch.daily_window, Batch.zone).where(Batch.id == batch_id)).one()
    return parse_columns(batch.daily_window, batch.zone)


def parse_columns(hours: str | None, zone: str | None) -> DailyHours | None:
    """What stands in the columns of a batch."""
    return DailyHours.parse(hours, zone) if hours and zone else None


def restart_times(database: Database, connection: Connection) -> None:
    """After a step of the clock: windows are looked at again, and no probe is further away than the first."""
    paused = update(Batch).where(Batch.state == BatchState.PAUSED)
    now, soon = database.now(), database.now(FIRST_PROBE)
    connection.execute(paused.where(Batch.reason == PauseReason.WINDOW).values(resumes_at=now))
    connection.execute(paused.where(Batch.reason == PauseReason.OUTAGE, Batch.probe_at > soon).values(probe_at=soon))
    has_hours = and_(Batch.state == BatchState.RUNNING, Batch.daily_window.is_not(None))
    connection.execute(update(Batch).where(has_hours).values(closes_at=None))


def latest_attempt() -> ColumnElement[int]:
    """The id of the newest attempt of all batches: whatever ends from now on has a larger one."""
    return select(func.coalesce(func.max(AttemptLine.id), 0)).scalar_subquery()


def _now(database: Database, connection: Connection) -> datetime:
    now: datetime = connection.execute(select(database.now())).scalar_one()
    return now


def _outside(daily_hours: DailyHours | None, now: datetime) -> OutOfHours | None:
    if daily_hours is None or daily_hours.contains(now):
        return None
    return OutOfHours(daily_hours, daily_hours.find_next_change(now))


def _pause(sources: Collection[BatchState], outside: OutOfHours) -> Update:
    return state.pause(sources, PauseReason.WINDOW, f"{outside}.", resumes_at=outside.begins_at)
