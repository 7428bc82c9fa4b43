"""What is written down to be told, as batches go their way, on both databases."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update
from sqlalchemy.exc import IntegrityError
from support.data.batches import TESTER, look, look_at_batch, make_batch
from support.data.moving_clock import MovingDatabase
from support.data.notice_desk import NoticeDesk
from support.fleets.scripted_fleet import ScriptedFleet

from models.batch import Batch
from models.notice import Event, Notice
from models.reason import PauseReason, Reason
from models.record_states import Status
from worker.batches.commands import Batches
from worker.batches.upkeep import Upkeep
from worker.config.settings import Settings
from worker.notices.outbox import make_notifier
from worker.reports.facts import read_statuses, take_environment_for_license
from worker.reports.stall import STILL_AFTER
from worker.rules.breaker import Thresholds
from worker.rules.progress import Active, DeadLetter
from worker.rules.quota import Quota


def change(database: MovingDatabase, **columns: object) -> None:
    with database.writing() as connection:
        connection.execute(update(Batch).values(columns))


def test_a_finished_batch_is_told_once_even_if_ticks_go_on(desk: NoticeDesk, scripted_fleet: ScriptedFleet) -> None:
    make_batch(desk.database, 2)
    assert desk.run() == []
    first, second = scripted_fleet.tick()
    scripted_fleet.end(first, Active())
    assert desk.run() == []
    scripted_fleet.end(second, DeadLetter(Reason.INVALID_OTP))

    assert desk.run() == ["finished"]
    for _ in range(5):
        desk.database.ahead += 100
        scripted_fleet.tick()
        assert desk.run() == []

    ((_, facts),) = desk.webhook.posted
    assert facts["text"].startswith("shipment is finished: 1 of 2 tokens is active, 1 is not.")
    assert facts["counts"]["dead_letter"] == 1
    assert facts["occurred_at"] == look(desk.database, second).finalized_at.isoformat()


@pytest.mark.parametrize(
    "waits",
    [
        {"user_id": ""},
        {"is_in_inventory": False},
        {"otp1_state": "answered"},
        {"status": Status.QUEUED},
        {"status": Status.ACTIVATING},
    ],
    ids=["user", "token", "half done", "queued", "in work"],
)
def test_a_batch_with_a_record_that_is_not_final_is_not_finished(desk: NoticeDesk, waits: dict[str, Any]) -> None:
    make_batch(desk.database, [{"status": Status.ACTIVE}, waits])
    assert desk.run() == []


def test_tokens_are_counted_as_status_counts_them_with_the_rows_that_became_no_record(desk: NoticeDesk) -> None:
    july = make_batch(desk.database, [{"status": Status.ACTIVE}, {"status": Status.DEAD_LETTER}], name="july")
    with desk.database.writing() as connection:
        connection.execute(update(Batch).where(Batch.id == july.batch_id).values(rows_refused=2))
    desk.run()
    facts = desk.webhook.posted[0][1]
    assert facts["text"] == "july is finished: 1 of 4 tokens is active, 3 are not. Next: oathbulk status july"
    (status,) = read_statuses(desk.database, "july")
    told = (facts["total"], facts["rows"], facts["tokens_active"])
    assert told == (status.total, status.rows, status.tokens_active) == (2, 4, 1)


def test_a_replayed_batch_goes_on_and_finishes_again(desk: NoticeDesk, scripted_fleet: ScriptedFleet) -> None:
    make_batch(desk.database, 1)
    scripted_fleet.end(scripted_fleet.tick()[0], DeadLetter(Reason.ATTEMPTS_SPENT))
    assert desk.run() == ["finished"]

    Batches(desk.database, TESTER).replay("shipment")
    assert desk.run() == ["resumed"]
    desk.database.ahead += 1
    scripted_fleet.end(scripted_fleet.tick()[0], Active())
    assert desk.run() == ["finished"]


def test_a_batch_that_finishes_again_before_anybody_looks_is_told_again(
    desk: NoticeDesk, scripted_fleet: ScriptedFleet
) -> None:
    make_batch(desk.database, 1)
    scripted_fleet.end(scripted_fleet.tick()[0], DeadLetter(Reason.ATTEMPTS_SPENT))
    assert desk.run() == ["finished"]

    desk.database.ahead += 5
    Batches(desk.database, TESTER).replay("shipment")
    desk.database.ahead += 5
    scripted_fleet.end(scripted_fleet.tick()[0], Active())
    assert desk.run() == ["finished"]


def test_a_pause_of_a_person_and_its_end_are_told(desk: NoticeDesk) -> None:
    make_batch(desk.database, 2)
    batches = Batches(desk.database, TESTER)
    batches.pause("shipment")
    assert desk.run() == ["paused"]
    assert desk.run() == []
    batches.resume("shipment")
    assert desk.run() == ["resumed"]
    assert desk.run() == []
    assert [facts["reason"] for _, facts in desk.webhook.posted] == ["person", None]


def test_a_quota_is_a_pause_that_passes_with_its_time(desk: NoticeDesk) -> None:
    made = make_batch(desk.database, 2)
    upkeep = Upkeep(desk.database, Thresholds())
    upkeep.pause_for_quota(Quota(3600.0), lambda _: True)

    assert desk.run() == ["paused_for_now"]

    ((_, facts),) = desk.webhook.posted
    assert facts["reason"] == "quota"
    assert facts["resumes_at"] == look_at_batch(desk.database, made.batch_id).resumes_at.isoformat()
    desk.database.ahead += 3700
    upkeep.update_batches()
    assert desk.run() == ["resumed"]


def test_an_outage_is_told_once_whatever_its_probes_do(desk: NoticeDesk) -> None:
    make_batch(desk.database, 2)
    change(desk.database, state="paused", reason=PauseReason.OUTAGE, outages=1)
    assert desk.run() == ["paused_for_now"]
    for outages in (1, 2, 3):
        change(desk.database, state="running", reason=None)
        assert desk.run() == []
        change(desk.database, state="paused", reason=PauseReason.OUTAGE, outages=outages)
        assert desk.run() == []

    change(desk.database, state="running", reason=None, outages=0)
    assert desk.run() == ["resumed"]


def test_a_stall_is_told_once_with_its_cause_and_so_is_its_end(desk: NoticeDesk, scripted_fleet: ScriptedFleet) -> None:
    make_batch(desk.database, 2)
    assert desk.run() == []
    desk.database.ahead += STILL_AFTER + 1

    assert desk.run() == ["stalled"]
    assert desk.run() == []
    assert desk.webhook.posted[0][1]["reason"] == "worker"
    scripted_fleet.end(scripted_fleet.tick()[0], Active())
    assert desk.run() == ["resumed"]

    desk.database.ahead += STILL_AFTER + 1
    assert desk.run() == ["stalled"]


def test_what_was_finished_long_before_the_webhook_was_set_is_not_told(desk: NoticeDesk) -> None:
    long_ago = desk.database.read_clock() - timedelta(hours=25)
    make_batch(desk.database, [{"status": Status.ACTIVE, "finalized_at": long_ago}], name="june")
    make_batch(desk.database, [{"status": Status.ACTIVE}], name="july")
    desk.run()
    assert [facts["batch"] for _, facts in desk.webhook.posted] == ["july"]


def test_no_serial_number_user_device_otp_or_detail_is_told(desk: NoticeDesk) -> None:
    made = make_batch(desk.database, [{"username": "jane@corp.example", "email": "jane@corp.example"}, {}])
    record = look(desk.database, made.ids[0])
    change(desk.database, state="paused", reason=PauseReason.INTERNAL, detail=f"token {record.serial_number} failed")
    desk.run()

    said = json.dumps([facts for _, facts in desk.webhook.posted])
    assert '"paused"' in said
    for hidden in ("MADE", "jane", record.user_id, record.device_id, "sealed", "failed 0"):
        assert hidden not in said


def test_without_the_setting_nothing_is_written_and_nothing_is_sent(desk: NoticeDesk) -> None:
    make_batch(desk.database, [{"status": Status.ACTIVE}])
    make_notifier(Settings(), desk.database, take_environment_for_license).run()
    assert list(desk.notices()) == []


def test_two_workers_that_look_at_once_write_one_notice(desk: NoticeDesk) -> None:
    make_batch(desk.database, [{"status": Status.ACTIVE}])
    recorders = [desk.make_recorder() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        written = sum(pool.map(lambda recorder: recorder.record(), recorders))
    assert written == len(desk.notices()) == 1


def test_the_database_refuses_a_second_notice_of_the_same_occurrence(desk: NoticeDesk) -> None:
    made = make_batch(desk.database, [{"status": Status.ACTIVE}])
    desk.run()
    second = {"batch_id": made.batch_id, "batch": "shipment", "event": Event.PAUSED, "occurrence": 1, "facts": {}}
    with pytest.raises(IntegrityError), desk.database.writing() as connection:
        connection.execute(insert(Notice).values(second | {"created_at": desk.database.now()}))
