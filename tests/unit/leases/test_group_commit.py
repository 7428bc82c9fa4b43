"""Group commit: requests of several threads that are made together: who leads, who hears which result, what a failure
means, and how their statement goes to PostgreSQL. And writes that fail: which are tried again, and until when."""

import os
import signal
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
from sqlalchemy import Integer, exc, update
from support.processes.waiting import wait_until

from models.record import Record
from worker.database.engine import Database
from worker.database.errors import AWAY, TOO_MANY_CONNECTIONS, is_away, sqlstate_of
from worker.leases import lease as module
from worker.leases.group_commit import Combiner, GroupCommit, LeaderLost
from worker.leases.lease import write_until

# Seconds that something may take which happens at once.
PATIENCE = 20.0


class Unclear(Exception):
    """It may have taken effect."""


class Site:
    """Doubles numbers. A request stays under way until the test lets it end."""

    def __init__(self, most: int = 64) -> None:
        self.combiner = Combiner[int, int](self.perform, lambda failure: isinstance(failure, Unclear), most)
        self.made: list[list[int]] = []
        self.failing: dict[int, BaseException] = {}
        self.gate, self.begun = threading.Semaphore(0), threading.Semaphore(0)
        self.pool = ThreadPoolExecutor(16)

    def perform(self, numbers: Sequence[int]) -> list[int]:
        self.made.append(list(numbers))
        self.begun.release()
        assert self.gate.acquire(timeout=PATIENCE)
        if failures := [self.failing[number] for number in numbers if number in self.failing]:
            raise failures[0]
        return [2 * number for number in numbers]

    def submit(self, *numbers: int) -> list[Future[int]]:
        """Submit each in a thread of its own; return once it is under way or waits."""
        return [self._submit(number) for number in numbers]

    def _submit(self, number: int) -> Future[int]:
        waiting, is_first = len(self.combiner._waiting), not self.combiner._has_leader
        future = self.pool.submit(self.combiner.submit, number)
        if is_first:
            assert self.begun.acquire(timeout=PATIENCE)
        else:
            wait_until(lambda: len(self.combiner._waiting) == waiting + 1, "it waits")
        return future

    def end(self, count: int, futures: Sequence[Future[int]]) -> list[int | type[BaseException]]:
        """Let so many requests end: what each of these came to."""
        self.gate.release(count)
        failures = [future.exception(PATIENCE) for future in futures]
        return [type(each) if each else future.result() for each, future in zip(failures, futures, strict=True)]


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    site = Site(**getattr(request, "param", {}))
    yield site
    site.gate.release(100)
    site.pool.shutdown()


def test_what_comes_while_a_request_is_under_way_goes_together_afterwards_in_its_order(site: Site) -> None:
    assert site.end(2, site.submit(1, 2, 3, 4)) == [2, 4, 6, 8]
    assert site.made == [[1], [2, 3, 4]]


def test_nobody_returns_before_the_request_has_taken_effect(site: Site) -> None:
    first, *later = site.submit(1, 2, 3)
    assert site.end(1, [first]) == [2]
    assert site.begun.acquire(timeout=PATIENCE)
    assert not any(future.done() for future in later)
    assert site.end(1, later) == [4, 6]


@pytest.mark.parametrize("site", [{"most": 2}], indirect=True)
def test_no_more_go_together_than_permitted(site: Site) -> None:
    assert site.end(4, site.submit(*range(6))) == [0, 2, 4, 6, 8, 10]
    assert site.made == [[0], [1, 2], [3, 4], [5]]


@pytest.mark.parametrize(
    ("failure", "ends", "made"),
    [
        # Only the request at fault fails.
        (ValueError(), [2, 4, ValueError, 8], [[1], [2, 3, 4], [2], [3], [4]]),
        # What may have taken effect is told to everybody, and nothing is made again.
        (Unclear(), [2, Unclear, Unclear, Unclear], [[1], [2, 3, 4]]),
        # A thread that is ended while it leads leaves nobody waiting.
        (SystemExit(), [2, SystemExit, LeaderLost, LeaderLost], [[1], [2, 3, 4]]),
    ],
    ids=["at fault", "unclear", "leader lost"],
)
def test_whom_a_failure_is_told(
    site: Site, failure: BaseException, ends: list[int | type[BaseException]], made: list[list[int]]
) -> None:
    site.failing[3] = failure
    assert site.end(5, site.submit(1, 2, 3, 4)) == ends
    assert site.made == made
    assert site.end(1, site.submit(5)) == [10]


def test_many_threads_get_their_own_results() -> None:
    combiner = Combiner[int, int](lambda numbers: [2 * number for number in numbers], lambda _: False)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(combiner.submit, range(5000))) == [2 * number for number in range(5000)]


def test_a_child_process_begins_with_nothing_waiting(site: Site) -> None:
    futures = site.submit(1)
    pid = os.fork()
    if pid == 0:
        # It must not outlive a test that fails.
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        site.gate.release()
        os._exit(0 if site.combiner.submit(7) == 14 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert site.end(1, futures) == [2]


# The statement as it goes to PostgreSQL: with arrays whose values belong together, by record.


def execute(*found: str, numbers: tuple[int, ...] = (3, 1, 2)) -> tuple[list[Any], dict[str, Any]]:
    """Execute a statement for records with these ids, where a connection finds these leases: what each got, and what
    the connection was given."""
    given, rows = dict[str, Any](), [(lease, f"row of {lease}") for lease in found]

    class Rows(list[tuple[str, str]]):
        def one_or_none(self) -> tuple[str, str] | None:
            return self[0] if self else None

    connection: Any = SimpleNamespace(execute=lambda _, values: (given.update(values), Rows(rows))[1])
    statement = GroupCommit(
        Database("postgresql+psycopg://nowhere/oathbulk"),
        {"posts": Integer()},
        lambda given: (
            update(Record)
            .where(Record.id == given["this_id"])
            .values(otp1_posts=given["posts"])
            .returning(given["this_lease"])
        ),
    )
    asked = [{"this_id": number, "this_lease": f"lease {number}", "posts": 10 * number} for number in numbers]
    return statement._run(connection, asked), given


def test_records_go_by_their_ids_so_that_two_processes_lock_them_in_one_order() -> None:
    got, given = execute("lease 2", "lease 3")
    assert given == {
        "this_id": [1, 2, 3],
        "this_lease": ["lease 1", "lease 2", "lease 3"],
        "posts": [10, 20, 30],
    }
    # Each gets what was found by its own lease.
    assert got == [("lease 3", "row of lease 3"), None, ("lease 2", "row of lease 2")]


@pytest.mark.parametrize(("found", "got"), [(["lease 7"], [("lease 7", "row of lease 7")]), ([], [None])])
def test_one_that_is_alone_goes_without_arrays(found: list[str], got: list[Any]) -> None:
    assert execute(*found, numbers=(7,)) == (got, {"this_id": 7, "this_lease": "lease 7", "posts": 70})


# Writes under a lease that fail, and which failures mean that the database is away.

LEASE = 60.0


def raised(error: Exception) -> exc.DBAPIError:
    """An error of the driver as SQLAlchemy raises it."""
    drivers = psycopg.Error if isinstance(error, psycopg.Error) else sqlite3.Error
    wrapped = exc.DBAPIError.instance("UPDATE record", None, error, drivers)
    assert isinstance(wrapped, exc.DBAPIError)
    return wrapped


def postgresql(state: str) -> exc.DBAPIError:
    return raised(psycopg.errors.lookup(state)("told by the server"))


def sqlite(code: int) -> exc.DBAPIError:
    failure = sqlite3.OperationalError("told")
    failure.sqlite_errorcode = code
    return raised(failure)


class Clock:
    """Its time passes only where the code sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "boot_time", lambda: clock.now)
    monkeypatch.setattr(module, "sleep", clock.sleep)
    return clock


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
@pytest.mark.usefixtures("clock")
def test_a_write_that_failed_for_the_moment_is_tried_again(failure: Exception) -> None:
    write = Mock(side_effect=[*[failure] * 3, True])
    assert write_until(LEASE, write, lambda: False)
    assert write.call_count == 4


@pytest.mark.parametrize(
    ("now", "failure"),
    [
        (0.0, postgresql("42703")),
        (0.0, sqlite(sqlite3.SQLITE_FULL)),
        (0.0, RuntimeError("a fault of our own")),
        (LEASE + 1, postgresql("57P03")),
    ],
    ids=["a fault of the statement", "a full disk", "a fault of our own", "a lease that is over"],
)
def test_what_does_not_pass_by_itself_or_in_time_is_told_at_once(clock: Clock, now: float, failure: Exception) -> None:
    clock.now, write = now, Mock(side_effect=failure)
    with pytest.raises(type(failure)):
        write_until(LEASE, write, lambda: False)
    assert (write.call_count, clock.slept) == (1, [])


def test_no_try_begins_after_the_lease(clock: Clock) -> None:
    with pytest.raises(exc.OperationalError):
        write_until(LEASE, Mock(side_effect=postgresql("57P03")), lambda: False)
    assert LEASE - 2 <= clock.now < LEASE
    assert max(clock.slept) <= 2
    assert len(set(clock.slept)) > 10


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("was_written", [True, False])
def test_only_after_a_failure_is_it_asked_whether_the_write_went_through_unheard(was_written: bool) -> None:
    assert write_until(LEASE, Mock(side_effect=[postgresql("08006"), False]), lambda: was_written) is was_written
    assert not write_until(LEASE, lambda: False, lambda: True)


@pytest.mark.parametrize(
    ("failure", "means_away"),
    [
        *((postgresql(state), True) for state in sorted(AWAY)),
        (raised(psycopg.OperationalError("the connection is closed")), True),
        (raised(psycopg.OperationalError("connection failed: Connection refused")), True),
        (raised(sqlite3.OperationalError("database is locked")), True),
        (exc.TimeoutError("QueuePool limit reached"), True),
        # What waiting does not mend, and what is not the database's.
        *((postgresql(state), False) for state in ("42703", "23505", "22001", "28P01", "26000")),
        (RuntimeError("a fault of our own"), False),
    ],
)
def test_which_failures_mean_that_the_database_is_away(failure: Exception, means_away: bool) -> None:
    assert is_away(failure) is means_away


@pytest.mark.parametrize(
    "told",
    [
        "FATAL:  sorry, too many clients already",
        'FATAL:  too many connections for role "oathbulk"',
        "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
        "FATAL:  no more connections allowed (max_client_conn)",
    ],
)
def test_a_server_without_a_connection_left_is_known_by_its_words(told: str) -> None:
    assert sqlstate_of(psycopg.OperationalError(f"connection failed: {told}")) == TOO_MANY_CONNECTIONS
