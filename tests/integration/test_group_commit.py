"""Claims, marks and settlements of several records in one statement: each thread gets its own result, every condition
counts for its record alone, and only a record at fault fails. And writes that the database failed for a moment: an
answer that PingOne gave is written down all the same. On both databases."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, event, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError
from support.data.batches import ENVIRONMENT_ID, Made, attempts, look, make_batch, rescue
from support.data.moving_clock import MovingDatabase

from models.attempt import AttemptLine
from models.batch import Batch, BatchState
from models.record import Record
from models.record_states import OtpState, Status
from worker.leases.group_commit import Values
from worker.leases.settlement import CallSummary, Claim, pairing_parameters, progress_parameters
from worker.leases.worker import Leases, _name_lease
from worker.rules.steps import Active, Decision, Retry


def queued(database: MovingDatabase, count: Any, **common: Any) -> Made:
    return make_batch(database, count, status=Status.QUEUED, **common)


def claim_together(leases: Leases, ids: list[int]) -> list[Claim | None]:
    """Claim fresh records in one statement; None for those that it did not find."""
    statement, make_claim = leases._claims[0]
    asked = [
        {"this_id": record_id, "this_lease": uuid.uuid4().hex, "for_environment_id": ENVIRONMENT_ID}
        for record_id in ids
    ]
    return [
        None if row is None else make_claim(row, values["this_lease"], 0.0, 0.0)
        for row, values in zip(statement._commit(asked), asked, strict=True)
    ]


def take_lease(database: MovingDatabase, record_id: int) -> None:
    """As if another worker had the record."""
    with database.writing() as connection:
        connection.execute(update(Record).where(Record.id == record_id).values(lease_id="another"))


def test_every_thread_gets_the_record_that_it_asked_for_and_one_that_is_asked_for_twice_is_claimed_once(
    database: MovingDatabase, leases: Leases
) -> None:
    made = queued(database, 20)
    ids = [made.ids[number] for number in (7, 3, 19, 3, 0, 11)]
    claims = [claim for claim in claim_together(leases, ids) if claim]
    assert [claim.record_id for claim in claims] in (ids[:3] + ids[4:], ids[:1] + ids[2:])
    for claim in claims:
        record = look(database, claim.record_id)
        assert (record.lease_id, record.serial_number) == (claim.lease_id, claim.serial_number)
        assert (record.status, record.otp1_state, record.otp1_posts) == (Status.ACTIVATING, OtpState.SENT, 1)
    assert look(database, made.ids[1]).status == Status.QUEUED


def test_what_one_record_lacks_keeps_no_other_back(database: MovingDatabase, leases: Leases) -> None:
    made = queued(database, [{}, {"status": Status.ACTIVE}, {}, {"otp1_posts": 1}, {"environment_id": "other"}])
    claims = claim_together(leases, made.ids)
    assert [claim is not None for claim in claims] == [True, False, True, False, False]


def test_marks_of_several_records_ask_for_each_record_s_lease_and_batch(
    database: MovingDatabase, leases: Leases
) -> None:
    first, second = queued(database, 2), queued(database, 2, name="second")
    claims = claim_together(leases, [*first.ids, *second.ids])
    take_lease(database, first.ids[1])
    with database.writing() as connection:
        connection.execute(update(Batch).where(Batch.id == second.batch_id).values(state=BatchState.PAUSED))
    asked = [_name_lease(claim) | {"counter": None} for claim in claims]
    assert [row is not None for row in leases._mark_sent[2]._commit(asked)] == [True, False, False, False]
    assert look(database, first.ids[0]).otp2_posts == 1


def test_settlements_of_several_records_have_a_line_each(
    database: MovingDatabase, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = queued(database, 3)
    claims = claim_together(leases, made.ids)
    take_lease(database, made.ids[1])
    statement, asked = leases._settlement._statements["active", False], list[Values]()
    with monkeypatch.context() as patch:
        patch.setattr(statement, "execute", asked.append)
        for number, claim in enumerate(claims, start=1):
            leases._settlement.write(claim, claim.progress.with_otp_answered(1), Active(), CallSummary(number))
    assert [row is not None for row in statement._commit(asked)] == [True, False, True]
    columns = select(AttemptLine.record_id, AttemptLine.lease_id, AttemptLine.requests)
    with database.reading() as connection:
        lines = connection.execute(columns.order_by(AttemptLine.record_id)).all()
    assert lines == [(made.ids[0], claims[0].lease_id, 1), (made.ids[2], claims[2].lease_id, 3)]
    assert look(database, made.ids[2]).status == Status.ACTIVE


def test_only_the_record_at_fault_fails(database: MovingDatabase, leases: Leases) -> None:
    """Two records may not have the same device while both are in work."""
    made = queued(database, [{"device_id": "", "not_found": 1}, {"device_id": "", "not_found": 1}, {"device_id": "2"}])
    asked = []
    for record_id, device_id in zip(made.ids, ("1", "2"), strict=False):
        claim = leases.claim(record_id, ENVIRONMENT_ID)
        progress = replace(claim.progress, pairing=claim.progress.pairing.paired(device_id, is_made=True))
        asked.append(_name_lease(claim) | progress_parameters(progress) | pairing_parameters(progress))
    with pytest.raises(IntegrityError):
        leases._write_pairing._commit(asked)
    assert look(database, made.ids[0]).device_id == "", "half of it was committed"
    assert leases._write_pairing._commit(asked[:1]) != [None]
    assert look(database, made.ids[0]).device_id == "1"


# The database fails for a moment.


@pytest.fixture
def claimed(database: MovingDatabase, leases: Leases) -> Claim:
    claim = leases.claim(queued(database, 1).id, ENVIRONMENT_ID)
    assert claim is not None
    return claim


def settle(leases: Leases, claim: Claim, decision: Decision | None = None) -> bool:
    return leases.settle(claim, claim.progress.with_otp_answered(1), decision or Active(), CallSummary(1))


def write_answer(leases: Leases, claim: Claim) -> bool:
    return leases.write_progress(claim, claim.progress.with_otp_answered(1))


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


@pytest.mark.parametrize(
    ("decision", "status"),
    [(Active(), Status.ACTIVE), (Retry(0.0, is_counted=True, why="outcome_unknown"), Status.PENDING)],
)
def test_a_settlement_that_was_committed_unheard_counts(
    database: MovingDatabase,
    leases: Leases,
    claimed: Claim,
    monkeypatch: pytest.MonkeyPatch,
    decision: Decision,
    status: Status,
) -> None:
    with unheard(database, monkeypatch):
        assert settle(leases, claimed, decision)
    assert look(database, claimed.record_id).status == status
    assert len(attempts(database, claimed.record_id)) == 1


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
        assert write_answer(leases, claimed)
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


@pytest.mark.parametrize("write", [settle, write_answer])
def test_a_write_that_was_turned_away_is_made_again(
    database: MovingDatabase, leases: Leases, claimed: Claim, write: Callable[[Leases, Claim], bool]
) -> None:
    with held(database, claimed.record_id):
        assert write(leases, claimed)
    assert look(database, claimed.record_id).otp1_state == OtpState.ANSWERED
