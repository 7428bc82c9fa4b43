"""Writes under a lease that fail: which are tried again, and until when."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

import psycopg
import pytest
from sqlalchemy import exc

from worker.leases import worker as module
from worker.leases.worker import write_until

LEASE = 60.0


def postgresql(state: str) -> exc.DBAPIError:
    error = exc.DBAPIError.instance("UPDATE record", None, psycopg.errors.lookup(state)("told"), psycopg.Error)
    assert isinstance(error, exc.DBAPIError)
    return error


def sqlite(code: int) -> exc.DBAPIError:
    failure = sqlite3.OperationalError("told")
    failure.sqlite_errorcode = code
    error = exc.DBAPIError.instance("UPDATE record", None, failure, sqlite3.Error)
    assert isinstance(error, exc.DBAPIError)
    return error


@dataclass
class Write:
    """Fails in turn, then says `found`."""

    failures: list[Exception]
    found: bool = True
    tries: int = 0

    def __call__(self) -> bool:
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        return self.found


@dataclass
class Clock:
    """Its time passes only where the code sleeps."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "boot_time", lambda: clock.now)
    monkeypatch.setattr(module, "sleep", clock.sleep)
    return clock


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    "failure",
    [
        postgresql("40001"),
        postgresql("40P01"),
        postgresql("57P01"),
        postgresql("25006"),
        sqlite(sqlite3.SQLITE_BUSY),
        exc.TimeoutError("no connection in time"),
    ],
    ids=["serialization", "deadlock", "restart", "failover", "locked", "no connection"],
)
def test_a_write_that_failed_for_the_moment_is_tried_again(failure: Exception) -> None:
    write = Write([failure] * 3)
    assert write_until(LEASE, write, lambda: False)
    assert write.tries == 4


@pytest.mark.parametrize(
    "failure",
    [postgresql("42703"), sqlite(sqlite3.SQLITE_FULL), RuntimeError("a fault of our own")],
    ids=["a fault of the statement", "a full disk", "a fault of our own"],
)
def test_what_does_not_pass_by_itself_is_told_at_once(clock: Clock, failure: Exception) -> None:
    write = Write([failure])
    with pytest.raises(type(failure)):
        write_until(LEASE, write, lambda: False)
    assert (write.tries, clock.slept) == (1, [])


def test_no_try_begins_after_the_lease(clock: Clock) -> None:
    write = Write([postgresql("57P03")] * 1000)
    with pytest.raises(exc.OperationalError):
        write_until(LEASE, write, lambda: False)
    assert LEASE - 2 <= clock.now < LEASE
    assert max(clock.slept) <= 2
    assert len(set(clock.slept)) > 10


def test_a_lease_that_is_over_gets_the_one_try(clock: Clock) -> None:
    clock.now = LEASE + 1
    write = Write([postgresql("57P03")])
    with pytest.raises(exc.OperationalError):
        write_until(LEASE, write, lambda: False)
    assert write.tries == 1


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("was_written", [True, False])
def test_only_after_a_failure_is_it_asked_whether_the_write_went_through_unheard(was_written: bool) -> None:
    assert write_until(LEASE, Write([postgresql("08006")], found=False), lambda: was_written) is was_written
    assert not write_until(LEASE, Write([], found=False), lambda: True)
