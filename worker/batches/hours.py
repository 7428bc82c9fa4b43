"""What a batch's daily window means for it: it runs while that is open, and goes on by itself when it opens again.

Every function works in the caller's transaction, by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from shlex import quote
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from models.attempt import Attempt
from models.batch import Batch, BatchState
from models.reason import PauseReason
from worker.database.engine import Database
from worker.rules.breaker import FIRST_PROBE
from worker.rules.hours import DailyWindow, moment


class OtherWindow(Exception):
    """The batch keeps to another window than the one that was asked for; the message names the command that changes
    it."""


@dataclass(frozen=True, slots=True)
class Outside:
    """A batch waits for its window to open."""

    window: DailyWindow
    opens_at: datetime

    def __str__(self) -> str:
        return f"outside its window {self.window}; goes on by itself at {moment(self.opens_at)}"


def let_run(database: Database, connection: Connection, batch_id: int) -> Outside | None:
    """The batch runs; or, outside its window, is paused until that opens. An outage is told from what comes after."""
    now, window = _now(database, connection), window_of(connection, batch_id)
    outside = _outside(window, now)
    values = _paused(outside) if outside else _running(window, now) | {"running_since": database.now()}
    values["running_after"] = latest_attempt()
    connection.execute(update(Batch).where(Batch.id == batch_id).values(values))
    return outside


def keep(database: Database, connection: Connection, batch_id: int) -> Outside | None:
    """The same for a batch that runs: it goes on as it did, or its window has closed."""
    now, window = _now(database, connection), window_of(connection, batch_id)
    outside = _outside(window, now)
    connection.execute(
        update(Batch)
        .where(Batch.id == batch_id, Batch.state == BatchState.RUNNING)
        .values(_paused(outside) if outside else _running(window, now))
    )
    return outside


def check_same(connection: Connection, batch_id: int, name: str, wanted: DailyWindow | None) -> None:
    """Who goes on with a batch need not repeat its window; but another one must not be passed over. Raises
    OtherWindow."""
    has = window_of(connection, batch_id)
    if wanted is None or wanted == has:
        return
    keeps = f"keeps to its window {has}" if has else "runs all day"
    command = f"oathbulk resume {quote(name)} --window {wanted.hours} --zone {wanted.zone}"
    raise OtherWindow(f"this file is batch {name!r} already, and it {keeps}. To change that: {command}")


def set_window(connection: Connection, batch_id: int, window: DailyWindow | None) -> None:
    """From now on; what it means for the batch, `let_run` finds out."""
    values = {"daily_window": window and window.hours, "zone": window and window.zone}
    connection.execute(update(Batch).where(Batch.id == batch_id).values(values))


def window_of(connection: Connection, batch_id: int) -> DailyWindow | None:
    batch = connection.execute(select(Batch.daily_window, Batch.zone).where(Batch.id == batch_id)).one()
    return read_window(batch.daily_window, batch.zone)


def read_window(hours: str | None, zone: str | None) -> DailyWindow | None:
    """What stands in the columns of a batch."""
    return DailyWindow.parse(hours, zone) if hours and zone else None


def begin_anew(database: Database, connection: Connection) -> None:
    """After a step of the clock: windows are looked at again, and no probe is further away than the first."""
    paused = update(Batch).where(Batch.state == BatchState.PAUSED)
    now, soon = database.now(), database.now(FIRST_PROBE)
    connection.execute(paused.where(Batch.reason == PauseReason.WINDOW).values(resumes_at=now))
    connection.execute(paused.where(Batch.reason == PauseReason.OUTAGE, Batch.probe_at > soon).values(probe_at=soon))
    has_window = and_(Batch.state == BatchState.RUNNING, Batch.daily_window.is_not(None))
    connection.execute(update(Batch).where(has_window).values(closes_at=None))


def latest_attempt() -> ColumnElement[int]:
    """The id of the newest attempt of all batches: whatever ends from now on has a larger one."""
    return select(func.coalesce(func.max(Attempt.id), 0)).scalar_subquery()


def _now(database: Database, connection: Connection) -> datetime:
    now: datetime = connection.execute(select(database.now())).scalar_one()
    return now


def _outside(window: DailyWindow | None, now: datetime) -> Outside | None:
    if window is None or window.is_open(now):
        return None
    return Outside(window, window.next_change(now))


def _running(window: DailyWindow | None, now: datetime) -> dict[str, Any]:
    return {
        "state": BatchState.RUNNING,
        "reason": None,
        "detail": None,
        "probe_at": None,
        "resumes_at": None,
        "closes_at": window.next_change(now) if window else None,
    }


def _paused(outside: Outside) -> dict[str, Any]:
    return {
        "state": BatchState.PAUSED,
        "reason": PauseReason.WINDOW,
        "detail": f"{outside}.",
        "probe_at": None,
        "resumes_at": outside.opens_at,
    }
