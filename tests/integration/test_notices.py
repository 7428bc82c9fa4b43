"""Notices: what a webhook is told as batches go their way, once, and what is kept of a notice that it did not take."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import select, update
from support.data.batches import TESTER, look, make_batch
from support.data.moving_clock import ON_SQLITE, MovingDatabase
from support.fleets.scripted_fleet import ScriptedFleet

from models.batch import Batch
from models.reason import PauseReason, Reason
from models.record_states import Status
from worker import notices
from worker.batches.commands import Batches
from worker.config.settings import Settings
from worker.notices import Notifier, NotTaken, explain_losses, make_webhook
from worker.reports.facts import take_environment_for_license
from worker.reports.stall import STILL_AFTER
from worker.rules.steps import Active, DeadLetter

FAILS = NotTaken("HTTP 500")


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds between two tries, which nobody waits for."""
    seconds = list[float]()
    monkeypatch.setattr(notices.time, "sleep", seconds.append)
    return seconds


@dataclass
class NoticeDesk:
    """A database, the notifiers of as many processes as a test makes, and their webhook, which notes each notice.
    `answer` may raise NotTaken, and do anything meanwhile."""

    database: MovingDatabase
    posted: list[dict[str, Any]] = field(default_factory=list)
    answer: Callable[[], object] = lambda: None

    def post(self, facts: dict[str, Any]) -> None:
        self.posted.append(facts)
        self.answer()

    def make_notifier(self, **options: Any) -> Notifier:
        return Notifier(self.database, take_environment_for_license, self, **options)

    def run(self) -> list[str]:
        """What the webhook is told by one run."""
        before = len(self.posted)
        self.make_notifier().send_notices()
        return [facts["event"] for facts in self.posted[before:]]

    def told(self) -> list[tuple[str | None, str | None]]:
        """What each batch keeps of its last notice."""
        kept = self.database.rows(select(Batch.notice, Batch.notice_error).order_by(Batch.id))
        return [(notice, error) for notice, error in kept]

    def explain(self) -> str | None:
        with self.database.reading() as connection:
            return explain_losses(connection)


@pytest.fixture
def desk(database: MovingDatabase) -> NoticeDesk:
    return NoticeDesk(database)


def finish(desk: NoticeDesk, *names: str) -> None:
    """Make batches of which people are to be told."""
    for name in names:
        make_batch(desk.database, [{"status": Status.ACTIVE}], name=name)


def change(desk: NoticeDesk, **columns: object) -> None:
    desk.database.change(update(Batch).values(columns))


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
    (facts,) = desk.posted
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
    desk.make_notifier(only_batch=mine.batch_id).send_notices()
    assert [(facts["batch"], facts["event"]) for facts in desk.posted] == [("mine", "stalled")]


@ON_SQLITE
def test_no_serial_number_user_device_otp_or_detail_is_told(desk: NoticeDesk) -> None:
    made = make_batch(desk.database, [{"username": "jane@corp.example", "email": "jane@corp.example"}, {}])
    record = look(desk.database, made.ids[0])
    change(desk, state="paused", reason=PauseReason.INTERNAL, detail=f"token {record.serial_number} failed")
    desk.run()

    said = json.dumps(desk.posted)
    assert '"paused"' in said
    hidden = ("MADE", "jane", record.user_id, record.device_id, "sealed", "failed 0")
    assert [word for word in hidden if word in said] == []


@ON_SQLITE
def test_without_the_setting_nothing_is_told(desk: NoticeDesk) -> None:
    finish(desk, "july")
    Notifier(desk.database, take_environment_for_license, make_webhook(Settings())).send_notices()
    assert desk.told() == [(None, None)]


def test_of_workers_that_look_at_once_one_tells_it(desk: NoticeDesk) -> None:
    finish(desk, "july")
    notifiers = [desk.make_notifier() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda notifier: notifier.send_notices(), notifiers))
    assert [facts["event"] for facts in desk.posted] == ["finished"]


# How it is delivered.


@ON_SQLITE
def test_what_is_not_taken_is_tried_again_with_the_same_id_and_once_taken_no_more(
    desk: NoticeDesk, pauses: list[float]
) -> None:
    finish(desk, "july")
    desk.answer = Mock(side_effect=[FAILS, FAILS, FAILS, None])
    assert (desk.run(), pauses) == (["finished"] * 4, [2, 4, 8])
    assert (desk.posted, desk.run()) == (desk.posted[:1] * 4, [])
    assert desk.told() == [("finished", None)]
    assert desk.explain() is None


@ON_SQLITE
def test_what_is_not_taken_at_all_is_lost_and_is_a_fault_until_a_later_one_is_taken(
    desk: NoticeDesk, caplog: pytest.LogCaptureFixture
) -> None:
    finish(desk, "july")
    make_batch(desk.database, 1, name="august")
    batches = Batches(desk.database, TESTER)
    batches.pause("august")
    desk.answer = Mock(side_effect=[None, *[FAILS] * 4])
    assert desk.run() == ["finished", *["paused"] * 4]
    assert "The webhook did not accept a notice, so the notice is lost: august is paused" in caplog.text
    assert desk.told() == [("finished", None), ("paused person", "HTTP 500")]
    assert desk.explain() == "the webhook did not accept the latest notice about 1 batch (HTTP 500)"
    assert desk.run() == []

    desk.answer = lambda: None
    batches.resume("august")
    assert (desk.run(), desk.explain()) == (["resumed"], None)


@ON_SQLITE
def test_a_process_that_stops_tries_no_more(desk: NoticeDesk) -> None:
    finish(desk, "july")
    desk.answer = Mock(side_effect=FAILS)
    desk.make_notifier(is_stopping=lambda: True).send_notices()
    assert (len(desk.posted), desk.told()) == (1, [("finished", "HTTP 500")])


def test_while_the_webhook_answers_no_transaction_is_open_and_nobody_else_posts(desk: NoticeDesk) -> None:
    others: list[list[str]] = []

    def answer() -> None:
        # On SQLite this would wait for the only writer.
        change(desk, detail="somebody writes")
        desk.answer = lambda: None
        others.append(desk.run())

    finish(desk, "july")
    desk.answer = answer
    assert (desk.run(), others) == (["finished"], [[]])
