"""Notices: what is written down to be told as batches go their way, and how it is delivered: what is not taken goes
again, what is taken goes once."""

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import Mock, patch

import pytest
from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from support.data.batches import TESTER, look, make_batch
from support.data.moving_clock import ON_SQLITE, MovingDatabase
from support.fleets.scripted_fleet import ScriptedFleet

from models.batch import Batch
from models.notice import Event, Notice
from models.reason import PauseReason, Reason
from models.record_states import Status
from worker.batches.commands import Batches
from worker.config.settings import Settings
from worker.notices import GIVEN_UP_AFTER, LEASE, Notifier, Outbox, Recorder, Reply, make_notifier, read_deliveries
from worker.reports.facts import LONGEST_REST, REST, take_environment_for_license
from worker.reports.stall import STILL_AFTER
from worker.rules.steps import Active, DeadLetter

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
FAILS = Reply(500, "HTTP 500")


@dataclass
class NoticeDesk:
    """A database, the notifiers of as many processes as a test makes, and their webhook: it notes each notice by its id
    and its facts. `answer` makes the next reply, and may do anything meanwhile."""

    database: MovingDatabase
    posted: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    answer: Callable[[], Reply] = lambda: Reply(204)

    def post(self, notice_id: int, facts: dict[str, Any]) -> Reply:
        self.posted.append((notice_id, facts))
        return self.answer()

    def make_notifier(self) -> Notifier:
        """The notifier of a process that has just begun, so that it looks at once."""
        return Notifier(self.make_recorder(), Outbox(self.database), self)

    def make_recorder(self) -> Recorder:
        return Recorder(self.database, take_environment_for_license)

    def run(self) -> list[str]:
        """What the webhook is told by one run."""
        before = len(self.posted)
        self.make_notifier().send_notices()
        return [facts["event"] for _, facts in self.posted[before:]]

    def notices(self) -> Sequence[Row[Any]]:
        return self.database.rows(select(Notice.__table__).order_by(Notice.id))


@pytest.fixture
def desk(database: MovingDatabase) -> NoticeDesk:
    return NoticeDesk(database)


def finish(desk: NoticeDesk, *names: str) -> None:
    """Make batches of which people are to be told."""
    for name in names:
        make_batch(desk.database, [{"status": Status.ACTIVE}], name=name)


def change(desk: NoticeDesk, **columns: object) -> None:
    desk.database.change(update(Batch).values(columns))


def read_state(desk: NoticeDesk) -> tuple[bool, str]:
    """Whether notices are delivered, and what doctor says of it."""
    with desk.database.reading() as connection:
        report = read_deliveries(connection)
    return report.is_well, str(report)


# What is told.


@ON_SQLITE
def test_a_finished_batch_is_told_once_even_if_ticks_go_on(desk: NoticeDesk, scripted_fleet: ScriptedFleet) -> None:
    make_batch(desk.database, 2)
    assert desk.run() == []
    first, second = scripted_fleet.tick()
    scripted_fleet.end(first, Active())
    assert desk.run() == []
    scripted_fleet.end(second, DeadLetter(Reason.ATTEMPTS_SPENT))

    assert desk.run() == ["finished"]
    desk.database.ahead += 100
    scripted_fleet.tick()
    assert desk.run() == []
    ((_, facts),) = desk.posted
    finished_at = look(desk.database, second).finalized_at.isoformat()
    assert (facts["counts"]["dead_letter"], facts["occurred_at"]) == (1, finished_at)


@ON_SQLITE
@pytest.mark.parametrize("is_looked_at", [True, False])
def test_a_replayed_batch_finishes_again_whether_anybody_looked_meanwhile_or_not(
    desk: NoticeDesk, scripted_fleet: ScriptedFleet, is_looked_at: bool
) -> None:
    made = make_batch(desk.database, 1)
    scripted_fleet.end(*scripted_fleet.tick(), DeadLetter(Reason.ATTEMPTS_SPENT))
    assert desk.run() == ["finished"]

    desk.database.ahead += 5
    Batches(desk.database, TESTER).replay(made.name)
    assert not is_looked_at or desk.run() == ["resumed"]
    desk.database.ahead += 5
    scripted_fleet.end(*scripted_fleet.tick(), Active())
    assert desk.run() == ["finished"]


@ON_SQLITE
def test_an_outage_is_told_once_whatever_its_probes_do(desk: NoticeDesk) -> None:
    make_batch(desk.database, 2)
    change(desk, state="paused", reason=PauseReason.OUTAGE, outages=1)
    assert desk.run() == ["paused_for_now"]
    for outages in (1, 2):
        change(desk, state="running", reason=None)
        assert desk.run() == []
        change(desk, state="paused", reason=PauseReason.OUTAGE, outages=outages)
        assert desk.run() == []

    change(desk, state="running", reason=None, outages=0)
    assert desk.run() == ["resumed"]


@ON_SQLITE
def test_a_run_of_one_batch_tells_of_no_other(desk: NoticeDesk) -> None:
    mine, _ = make_batch(desk.database, 2, name="mine"), make_batch(desk.database, 2, name="other")
    desk.database.ahead += STILL_AFTER + 1
    Recorder(desk.database, take_environment_for_license, only_batch=mine.batch_id).record()
    assert [(notice.batch, notice.event) for notice in desk.notices()] == [("mine", "stalled")]


@ON_SQLITE
def test_no_serial_number_user_device_otp_or_detail_is_told(desk: NoticeDesk) -> None:
    made = make_batch(desk.database, [{"username": "jane@corp.example", "email": "jane@corp.example"}, {}])
    record = look(desk.database, made.ids[0])
    change(desk, state="paused", reason=PauseReason.INTERNAL, detail=f"token {record.serial_number} failed")
    desk.run()

    said = json.dumps([facts for _, facts in desk.posted])
    assert '"paused"' in said
    hidden = ("MADE", "jane", record.user_id, record.device_id, "sealed", "failed 0")
    assert [word for word in hidden if word in said] == []


@ON_SQLITE
def test_without_the_setting_nothing_is_written_and_nothing_is_sent(desk: NoticeDesk) -> None:
    finish(desk, "july")
    make_notifier(Settings(), desk.database, take_environment_for_license).send_notices()
    assert list(desk.notices()) == []


def test_of_workers_that_look_at_once_one_writes_the_notice_and_the_database_takes_no_second(desk: NoticeDesk) -> None:
    made = make_batch(desk.database, [{"status": Status.ACTIVE}])
    recorders = [desk.make_recorder() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        written = sum(pool.map(lambda recorder: recorder.record(), recorders))
    assert written == len(desk.notices()) == 1
    second = {"batch_id": made.batch_id, "batch": "shipment", "event": Event.PAUSED, "occurrence": 1, "facts": {}}
    with pytest.raises(IntegrityError):
        desk.database.change(insert(Notice).values(second | {"created_at": desk.database.now()}))


# How often batches are looked at.


@ON_SQLITE
@pytest.mark.parametrize(("took", "rest"), [(0.25, 0.25 * REST), (10.0, LONGEST_REST)])
def test_after_a_look_that_took_long_it_rests_a_hundred_times_as_long_but_no_more_than_a_minute(
    desk: NoticeDesk, took: float, rest: float
) -> None:
    times = iter([0.0, took, took + rest - 1, took + rest, took + rest])
    recorder = Recorder(desk.database, take_environment_for_license, lambda: next(times))
    assert recorder.record() == 0
    finish(desk, "july")
    assert [recorder.record(), recorder.record()] == [0, 1]


# How they are delivered.


@ON_SQLITE
def test_what_is_not_taken_goes_again_later_with_the_same_id_and_content_and_once_taken_no_more(
    desk: NoticeDesk,
) -> None:
    finish(desk, "july")
    desk.answer = Mock(side_effect=[FAILS, FAILS, FAILS, Reply(200)])
    for delay in (5, 10, 20):
        assert [desk.run(), desk.run()] == [["finished"], []]
        (notice,) = desk.notices()
        waits = (notice.next_try_at - desk.database.read_clock()).total_seconds()
        assert waits == pytest.approx(delay, abs=3)
        is_well, said = read_state(desk)
        assert (is_well, "1 to be sent (last error: HTTP 500)" in said) == (False, True)
        desk.database.ahead += delay + 1

    assert desk.run() == ["finished"]
    desk.database.ahead += 2 * GIVEN_UP_AFTER
    assert (desk.run(), desk.posted) == ([], desk.posted[:1] * 4)
    (notice,) = desk.notices()
    assert (notice.tries, notice.next_try_at, notice.last_error) == (4, None, None)
    is_well, said = read_state(desk)
    assert (is_well, said.startswith("1 notice delivered, the last one at ")) == (True, True)


@ON_SQLITE
def test_what_the_webhook_asks_for_is_waited_for_and_what_went_wrong_is_kept_in_a_short_harmless_line(
    desk: NoticeDesk,
) -> None:
    finish(desk, "july")
    desk.answer = lambda: Reply(429, "\x1b[31m" + "x" * 1000 + "\n", retry_after=1000.0)
    desk.run()
    (notice,) = desk.notices()
    assert notice.last_error == "\\u001b[31m" + "x" * 190
    desk.database.ahead += 990
    assert desk.run() == []
    desk.database.ahead += 11
    assert desk.run() == ["finished"]


@ON_SQLITE
def test_what_is_not_taken_for_a_day_is_given_up_and_is_a_fault_until_a_later_one_is_delivered(
    desk: NoticeDesk,
) -> None:
    finish(desk, "july")
    desk.answer = lambda: FAILS
    for wait, told in ((0, 1), (GIVEN_UP_AFTER - 60, 1), (300, 1), (10 * GIVEN_UP_AFTER, 0)):
        desk.database.ahead += wait
        assert len(desk.run()) == told
    (notice,) = desk.notices()
    assert (notice.next_try_at, notice.delivered_at, notice.last_error) == (None, None, "HTTP 500")
    is_well, said = read_state(desk)
    assert (is_well, "1 given up after 24 hours" in said) == (False, True)

    desk.answer = lambda: Reply(200)
    finish(desk, "august")
    assert (desk.run(), read_state(desk)[0]) == (["finished"], True)


class Killed(BaseException):
    """Ends a worker at once, as SIGKILL does: nothing of it is done any more."""


@ON_SQLITE
def test_what_a_worker_posted_that_was_killed_before_its_commit_goes_again_with_its_id(desk: NoticeDesk) -> None:
    finish(desk, "july")
    # Between look and claim; then between post and commit.
    with patch.object(Outbox, "claim", side_effect=Killed), pytest.raises(Killed):
        desk.run()
    desk.answer = Mock(side_effect=Killed)
    with pytest.raises(Killed):
        desk.run()
    desk.answer = lambda: Reply(200)
    desk.database.ahead += LEASE - 5
    assert desk.run() == []
    desk.database.ahead += 6
    assert desk.run() == ["finished"]
    first, second = (notice_id for notice_id, _ in desk.posted)
    assert first == second


def test_while_the_webhook_answers_no_transaction_is_open_and_nobody_else_posts(desk: NoticeDesk) -> None:
    others: list[list[str]] = []

    def answer() -> Reply:
        # On SQLite this would wait for the only writer.
        change(desk, detail="somebody writes")
        thread = threading.Thread(target=lambda: others.append(desk.run()))
        thread.start()
        thread.join(30)
        return Reply(200)

    finish(desk, "july")
    desk.answer = answer
    desk.make_notifier().send_notices()
    assert (others, [facts["event"] for _, facts in desk.posted]) == ([[]], ["finished"])


@on_postgresql
def test_a_notice_that_another_worker_is_about_to_claim_is_left_alone(desk: NoticeDesk) -> None:
    finish(desk, "july")
    desk.make_recorder().record()
    outbox = Outbox(desk.database)
    with desk.database.writing() as connection:
        assert connection.execute(outbox._due.with_for_update()).one_or_none() is not None
        assert outbox.claim() is None
    assert outbox.claim() is not None


def test_each_claim_takes_another_notice_and_a_late_worker_does_not_undo_what_another_has_written(
    desk: NoticeDesk,
) -> None:
    finish(desk, "july", "august")
    desk.make_recorder().record()
    outbox = Outbox(desk.database)
    late, other, none = outbox.claim(), outbox.claim(), outbox.claim()
    desk.database.ahead += LEASE + 1
    second = outbox.claim()
    assert late is not None
    assert other is not None
    assert second is not None
    assert (late.id != other.id, none, second.id) == (True, None, late.id)
    outbox.settle_delivered(second)
    outbox.settle_failed(late, "HTTP 500", 5.0)
    first, _ = desk.notices()
    assert (first.next_try_at, first.last_error) == (None, None)


@ON_SQLITE
def test_after_a_notice_that_is_not_taken_no_other_goes_in_the_same_run(desk: NoticeDesk) -> None:
    finish(desk, "july", "august", "september")
    desk.answer = Mock(side_effect=[FAILS, Reply(200), Reply(200)])
    assert [len(desk.run()), len(desk.run())] == [1, 2]
