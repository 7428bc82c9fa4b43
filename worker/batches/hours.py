"""Keeps a batch to its hours: it runs within them, pauses when they end, and resumes by itself when they begin again.

Every function works in the caller's transaction and uses the database's clock."""

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
    """The batch has hours other than the requested ones; the message names the command that changes them."""


@dataclass(frozen=True, slots=True)
class OutOfHours:
    """A batch is outside its hours, and waits until they begin."""

    hours: DailyHours
    begins_at: datetime

    def __str__(self) -> str:
        return f"outside its daily window {self.hours}, and continues by itself at {format_time(self.begins_at)}"


def let_run(
    database: Database, connection: Connection, batch_id: int, sources: Collection[BatchState] = tuple(BatchState)
) -> OutOfHours | None:
    """Let a batch in one of these states run; or pause it until its hours begin, and return when they do. Only attempts
    that end after this count as signs of an outage."""
    now, daily_hours = _now(database, connection), read_hours(connection, batch_id)
    out_of_hours = _find_out_of_hours(daily_hours, now)
    if out_of_hours:
        change = _pause_until_hours(sources, out_of_hours)
    else:
        change = state.let_run(
            sources, closes_at=daily_hours.find_next_change(now) if daily_hours else None, since=database.now()
        )
    connection.execute(change.where(Batch.id == batch_id).values(running_after=latest_attempt()))
    return out_of_hours


def check_hours(database: Database, connection: Connection, batch_id: int) -> OutOfHours | None:
    """Pause a running batch whose hours have ended, and return when they begin; otherwise record when they end."""
    now, daily_hours = _now(database, connection), read_hours(connection, batch_id)
    out_of_hours = _find_out_of_hours(daily_hours, now)
    if out_of_hours:
        connection.execute(_pause_until_hours((BatchState.RUNNING,), out_of_hours).where(Batch.id == batch_id))
    else:
        closes_at = daily_hours.find_next_change(now) if daily_hours else None
        connection.execute(update(Batch).where(Batch.id == batch_id).values(closes_at=closes_at))
    return out_of_hours


def check_same_hours(connection: Connection, batch_id: int, name: str, wanted: DailyHours | None) -> None:
    """Refuse hours that differ from those of a batch that was loaded before. If `wanted` is None, the batch keeps its
    hours. Raises OtherHours."""
    has = read_hours(connection, batch_id)
    if wanted is None or wanted == has:
        return
    keeps = f"has the window {has}" if has else "runs all day"
    command = f"oathbulk resume {quote(name)} --window {wanted.hours} --zone {wanted.zone}"
    raise OtherHours(f"this file was already loaded as batch {name!r}, which {keeps}. To change that, run: {command}")


def set_hours(connection: Connection, batch_id: int, daily_hours: DailyHours | None) -> None:
    """Set the hours of a batch; None: it may run all day. Call `let_run` or `check_hours` next, to decide whether it
    may run now."""
    values = {"daily_window": daily_hours and daily_hours.hours, "zone": daily_hours and daily_hours.zone}
    connection.execute(update(Batch).where(Batch.id == batch_id).values(values))


def read_hours(connection: Connection, batch_id: int) -> DailyHours | None:
    """Read the hours of a batch; None: it may run all day."""
    batch = connection.execute(select(Batch.daily_window, Batch.zone).where(Batch.id == batch_id)).one()
    return parse_columns(batch.daily_window, batch.zone)


def parse_columns(hours: str | None, zone: str | None) -> DailyHours | None:
    """Parse the hours in the columns `daily_window` and `zone` of a batch; None: they are empty."""
    return DailyHours.parse(hours, zone) if hours and zone else None


def restart_times(database: Database, connection: Connection) -> None:
    """Reset the times of batches after a jump of the clock: hours are checked again, the next probe comes no later than
    a first one would, and the time when a batch began to run is not in the future."""
    paused = update(Batch).where(Batch.state == BatchState.PAUSED)
    now, soon = database.now(), database.now(FIRST_PROBE)
    connection.execute(paused.where(Batch.reason == PauseReason.WINDOW).values(resumes_at=now))
    connection.execute(paused.where(Batch.reason == PauseReason.OUTAGE, Batch.probe_at > soon).values(probe_at=soon))
    has_hours = and_(Batch.state == BatchState.RUNNING, Batch.daily_window.is_not(None))
    connection.execute(update(Batch).where(has_hours).values(closes_at=None))
    connection.execute(update(Batch).where(Batch.running_since > now).values(running_since=now))


def latest_attempt() -> ColumnElement[int]:
    """The id of the newest attempt of all batches: every attempt that ends from now on has a larger one."""
    return select(func.coalesce(func.max(AttemptLine.id), 0)).scalar_subquery()


def _now(database: Database, connection: Connection) -> datetime:
    now: datetime = connection.execute(select(database.now())).scalar_one()
    return now


def _find_out_of_hours(daily_hours: DailyHours | None, now: datetime) -> OutOfHours | None:
    """Say when the hours begin, if `now` is outside them; None if it is within."""
    if daily_hours is None or daily_hours.contains(now):
        return None
    return OutOfHours(daily_hours, daily_hours.find_next_change(now))


def _pause_until_hours(sources: Collection[BatchState], out_of_hours: OutOfHours) -> Update:
    return state.pause(sources, PauseReason.WINDOW, f"{out_of_hours}.", resumes_at=out_of_hours.begins_at)
