"""What happens to a token next if nobody does anything, and the command that helps."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta

import pytest
from support.data.histories import NOW, history_of, past_record, refused_line

from models.record_states import Status
from worker.pace.known_pace import Hold
from worker.reports.sentences.next_step import describe_next
from worker.reports.stall import Fleet

PAUSED = {"state": "paused", "reason": "permissions", "detail": "Give it the role, then resume."}
OPENS = datetime(2026, 11, 28, 21, 0, tzinfo=UTC)
HOLD = Hold(NOW, NOW + timedelta(seconds=67), "PingOne answered 503", 67.0)
EXPORT = "oathbulk export july --left -o july-left.csv"


def later(seconds):
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("status", "fields", "sentence", "command"),
    [
        ("active", {}, "nothing: it is active", None),
        (
            "dead_letter",
            {"reason": "locked", "is_replayable": True},
            "nothing by itself: it is given up (locked)",
            "oathbulk replay july --reason locked",
        ),
        ("dead_letter", {"reason": "invalid_otp"}, "nothing by itself: it is given up (invalid_otp)", EXPORT),
        ("cancelled", {"batch": {"state": "cancelled"}}, "nothing by itself: it is cancelled", "oathbulk replay july"),
        ("cancelled", {"are_otps_kept": False, "batch": {"state": "cancelled"}}, "nothing by itself: it is c", None),
        ("cancelled", {}, "nothing by itself: it is cancelled", None),
        (
            "activating",
            {"lease_until": later(48)},
            "in work since 12 s; if its worker died it is looked at again at 12:30:48 UTC",
            None,
        ),
        ("activating", {"lease_until": later(-5)}, "the time of its worker ran out at 12:29:55 UTC", None),
        ("pending", {"batch": PAUSED}, "batch july is paused: permissions", "oathbulk resume july"),
        ("queued", {"batch": PAUSED}, "batch july is paused: permissions", "oathbulk resume july"),
        (
            "pending",
            {"batch": {"state": "paused", "reason": "window", "resumes_at": OPENS}},
            "batch july is paused: window; it goes on by itself at 2026-11-28 21:00 UTC",
            None,
        ),
        ("pending", {"batch": {"state": "cancelled"}}, "batch july is cancelled; the device is read once more", None),
        ("pending", {"user_id": ""}, "waits until its user is looked up in PingOne", "oathbulk status july"),
        ("pending", {"is_in_inventory": False}, "waits until its token is found in", "oathbulk status july"),
        ("pending", {"batch": {"last_row": 8}}, "waits until the rows up to 8 are done", "oathbulk status july"),
        ("pending", {"batch": {"last_row": 9}}, "waits for a worker", None),
        ("pending", {"attempts": [None], "scheduled_at": later(25)}, "due again in 25 s", None),
        ("pending", {"scheduled_at": later(95)}, "due in 1 min 35 s", None),
        ("pending", {}, "waits for a worker", None),
        (
            "queued",
            {"lease_until": later(60)},
            "waits for a worker; if none takes it, it is due again at 12:31:00",
            None,
        ),
    ],
)
def test_each_situation_has_a_sentence_and_the_command_that_helps(status, fields, sentence, command):
    step = describe_next(history_of(past_record(Status(status), **fields)), lease=60.0)

    assert step.sentence.startswith(sentence)
    assert len(step.sentence) - len(sentence) < 60
    assert step.command == command


def test_the_latest_record_counts():
    given_up = past_record(Status.DEAD_LETTER, reason="invalid_otp")

    assert (
        describe_next(history_of(given_up, past_record(Status.ACTIVE)), lease=60.0).sentence == "nothing: it is active"
    )


def test_a_pause_that_waits_for_a_person_says_what_to_mend_before():
    step = describe_next(history_of(past_record(batch=PAUSED)), lease=60.0)

    assert step.why == "Give it the role, then resume."


def test_a_hold_of_all_workers_is_told_with_its_cause():
    step = describe_next(history_of(past_record(), hold=HOLD), lease=60.0)

    assert step.sentence == "all workers hold until 12:31:07 UTC (1 min 7 s)"
    assert (step.why, step.command) == ("PingOne answered 503", "oathbulk resume july --now")


@pytest.mark.parametrize("status", [Status.PENDING, Status.QUEUED])
def test_where_no_worker_runs_nobody_is_told_to_wait_for_one(status):
    step = describe_next(history_of(past_record(status), fleet=Fleet()), lease=60.0)

    assert step.sentence == "waits for a worker: no worker runs"
    assert step.why is not None
    assert "celery -A worker worker" in step.why


@pytest.mark.parametrize(
    ("reason", "is_replayable", "is_told"),
    [("attempts_spent", True, True), ("locked", True, False), ("attempts_spent", False, False)],
)
def test_the_replay_schedule_is_told_of_what_it_takes(reason, is_replayable, is_told):
    record = past_record(Status.DEAD_LETTER, reason=reason, is_replayable=is_replayable)

    step = describe_next(history_of(record), lease=60.0, replay_cron="15 * * * *")

    assert ("the replay schedule (15 * * * *)" in step.sentence) == is_told


def test_a_token_that_only_another_row_or_file_mends_is_not_replayed():
    record = past_record(Status.DEAD_LETTER, reason="token_refused", is_replayable=True, batch={"name": "july"})
    step = describe_next(history_of(record), lease=60.0)
    assert step.why == "A replay ends as this did. Export what is left, correct the file, then: " + (
        "oathbulk mend july july-left.csv"
    )
    assert step.command == "oathbulk export july --left -o july-left.csv"


@pytest.mark.parametrize("name", ["x; touch owned", "$(touch owned)", "a'b", "two words"])
@pytest.mark.parametrize(
    "fields",
    [
        {"status": Status.DEAD_LETTER, "reason": "locked", "is_replayable": True},
        {"status": Status.DEAD_LETTER, "reason": "invalid_otp"},
        {"status": Status.PENDING, "user_id": ""},
    ],
)
def test_a_command_can_be_pasted_whatever_the_batch_is_called(name, fields):
    command = describe_next(history_of(past_record(**fields, batch={"name": name})), lease=60.0).command

    assert command is not None
    assert shlex.split(command)[2] == name


def test_a_token_whose_row_was_refused_comes_back_by_an_export_of_the_refused_rows():
    step = describe_next(history_of(refused=[refused_line(batch="july 2")]), lease=60)
    assert step.sentence == "nothing by itself: its row was refused (otps_unfit)"
    assert step.command == "oathbulk export 'july 2' --status refused -o 'july 2-refused.csv'"
