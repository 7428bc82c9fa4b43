"""An answer that PingOne gave is written down, although the database failed for a moment: on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, text, update
from sqlalchemy.exc import OperationalError
from support.data.batches import ENVIRONMENT_ID, attempts, enqueue, look, make_batch, rescue
from support.data.moving_clock import MovingDatabase

from models.record import Record
from models.record_states import OtpState, Status
from worker.leases.settlement import CallSummary, Claim
from worker.leases.worker import Leases
from worker.rules.progress import Active, Retry


@pytest.fixture
def claimed(database: MovingDatabase, leases: Leases) -> Claim:
    made = make_batch(database)
    enqueue(database, made)
    claim = leases.claim(made.id, ENVIRONMENT_ID)
    assert claim is not None
    return claim


def settle(leases: Leases, claim: Claim) -> bool:
    return leases.settle(claim, claim.progress.with_otp_answered(1), Active(), CallSummary(1))


@contextmanager
def unheard(database: MovingDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The next write is committed, and its connection breaks before it can say so."""
    name = "writing" if database.is_sqlite else "writing_one"
    write: Callable[[], Any] = getattr(database, name)

    @contextmanager
    def writing() -> Iterator[Connection]:
        monkeypatch.setattr(database, name, write)
        with write() as connection:
            yield connection
        raise OperationalError("COMMIT", None, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(database, name, writing)
    yield


def test_a_settlement_that_was_committed_unheard_counts(
    database: MovingDatabase, leases: Leases, claimed: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unheard(database, monkeypatch):
        assert settle(leases, claimed)
    assert look(database, claimed.record_id).status == Status.ACTIVE
    assert len(attempts(database, claimed.record_id)) == 1


def test_a_retry_that_was_settled_unheard_counts_as_well(
    database: MovingDatabase, leases: Leases, claimed: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Retry(0.0, is_counted=True, why="outcome_unknown")
    with unheard(database, monkeypatch):
        assert leases.settle(claimed, claimed.progress.with_otp_answered(1), again, CallSummary(1))
    assert look(database, claimed.record_id).status == Status.PENDING


def test_a_rescue_in_between_is_not_taken_for_the_settlement(
    database: MovingDatabase, leases: Leases, claimed: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.ahead += 61
    rescue(database)
    with unheard(database, monkeypatch):
        assert not settle(leases, claimed)
    assert look(database, claimed.record_id).status == Status.PENDING


def test_an_answer_that_was_committed_unheard_is_written_down(
    database: MovingDatabase, leases: Leases, claimed: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unheard(database, monkeypatch):
        assert leases.write_progress(claimed, claimed.progress.with_otp_answered(1))
    assert look(database, claimed.record_id).otp1_state == OtpState.ANSWERED


END_WAITING = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


@contextmanager
def held(database: MovingDatabase, record_id: int) -> Iterator[None]:
    """Another program holds the record, and who waits for it is turned away: PostgreSQL ends the connection, SQLite
    says that the file is locked. Only then does the other program let go."""
    turned_away = threading.Event()
    event.listen(database.engine, "handle_error", lambda _: turned_away.set())
    if database.is_sqlite:
        event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout = 1"))
        database.close()
    other = MovingDatabase(database.engine.url.render_as_string(hide_password=False))
    holds = threading.Event()

    def hold() -> None:
        with other.writing() as connection:
            connection.execute(update(Record).where(Record.id == record_id).values(user_id=Record.user_id))
            holds.set()
            while not turned_away.wait(0.05):
                if not other.is_sqlite:
                    with other.writing_one() as watching:
                        watching.execute(text(END_WAITING))

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert holds.wait(30)
        yield
        assert turned_away.is_set()
    finally:
        turned_away.set()
        holder.join()
        other.close()


def test_a_settlement_that_was_turned_away_is_made_again(
    database: MovingDatabase, leases: Leases, claimed: Claim
) -> None:
    with held(database, claimed.record_id):
        assert settle(leases, claimed)
    assert look(database, claimed.record_id).status == Status.ACTIVE


def test_an_answer_that_was_turned_away_is_written_down_again(
    database: MovingDatabase, leases: Leases, claimed: Claim
) -> None:
    with held(database, claimed.record_id):
        assert leases.write_progress(claimed, claimed.progress.with_otp_answered(1))
    assert look(database, claimed.record_id).otp1_state == OtpState.ANSWERED
