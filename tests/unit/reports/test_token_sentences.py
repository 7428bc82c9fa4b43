"""What is said of one token."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.data.facts import NOW, history_of, past_attempt, past_record, refused_line

from models.record_states import Status
from worker.pace.known_pace import Hold
from worker.reports.search import Read
from worker.reports.stall import Fleet
from worker.reports.token_history import describe_next, list_attempts, sum_up, tell_attempts

EXTRA = {"http_status": 400, "code": "INVALID_DATA", "detail_code": "EXTRA_OTP_REQUIRED"}
INVALID = {"http_status": 400, "code": "INVALID_DATA", "detail_code": "INVALID_OTP"}
SAYS_EXTRA = "HTTP 400 INVALID_DATA/EXTRA_OTP_REQUIRED"
SAYS_INVALID = "HTTP 400 INVALID_DATA/INVALID_OTP"


def attempt(outcome: str, otp_posts: int = 0, requests: int = 1, **fields: Any) -> Read:
    return past_attempt(outcome=outcome, otp_posts=otp_posts, requests=requests, **fields)


# OTP 1 that is followed by no OTP 2 is counted by the attempt that posts that one.
HALF = attempt("handed_back", 0, reason="hold", **EXTRA)
HELD = attempt("handed_back", 0, 0, reason="hold")


@pytest.mark.parametrize(
    ("attempts", "told"),
    [
        ([attempt("active", 1, http_status=200)], [(1, "OTP 1 → ACTIVE")]),
        ([attempt("active", 2, 2)], [(2, "OTP 1 → EXTRA_OTP_REQUIRED, OTP 2 → ACTIVE")]),
        ([HALF, attempt("active", 2)], [(1, f"OTP 1 → {SAYS_EXTRA}"), (1, "OTP 2 → ACTIVE")]),
        (
            [HALF, HELD, attempt("active", 2)],
            [(1, f"OTP 1 → {SAYS_EXTRA}"), (0, "nothing sent"), (1, "OTP 2 → ACTIVE")],
        ),
        ([HALF, attempt("dead_letter", 1, 0)], [(1, f"OTP 1 → {SAYS_EXTRA}"), (0, "nothing sent")]),
        ([attempt("dead_letter", 1, 2, **INVALID)], [(1, f"OTP 1 → {SAYS_INVALID}")]),
        ([attempt("dead_letter", 2, 3, **EXTRA)], [(2, f"OTP 1 → EXTRA_OTP_REQUIRED, OTP 2 → {SAYS_EXTRA}")]),
        (
            [attempt("retry", 2, 2, reason="outcome_unknown", **EXTRA), attempt("active", 1, 2)],
            [(2, "OTP 1 → EXTRA_OTP_REQUIRED, OTP 2 → no clear answer"), (1, "OTP 2 → ACTIVE")],
        ),
        ([attempt("retry", 1, reason="outcome_unknown")], [(1, "OTP 1 → no answer")]),
        ([attempt("retry", 1, http_status=503)], [(1, "OTP 1 → HTTP 503")]),
        ([attempt("handed_back", 0, http_status=429)], [(0, "no OTP sent → HTTP 429")]),
        ([attempt("lost", 0, 0, reason="lease_ran_out")], [(0, "what was sent is not known: the worker died")]),
        ([attempt("active", 3, 5)], [(3, "3 OTPs → ACTIVE")]),
        # A mend brought another pair.
        (
            [attempt("dead_letter", 2, 3, **INVALID), attempt("active", 1)],
            [(2, f"OTP 1 → EXTRA_OTP_REQUIRED, OTP 2 → {SAYS_INVALID}"), (1, "OTP 1 → ACTIVE")],
        ),
    ],
)
def test_an_attempt_says_what_it_sent_and_what_came_back(attempts, told):
    shown = tell_attempts(past_record(attempts=attempts))

    assert [(each.posts, each.calls) for each in shown] == told


def test_after_a_lost_otp_2_a_seed_begins_a_new_pair():
    lost = attempt("retry", 2, 2, reason="outcome_unknown", **EXTRA)
    shown = tell_attempts(past_record(has_seed=True, attempts=[lost, attempt("retry", 1, 2, http_status=503)]))

    assert shown[1].calls == "OTP 1 → HTTP 503"


def test_attempts_are_counted_on_and_those_that_do_not_count_say_so():
    attempts = [HALF, HELD, attempt("retry", 1), attempt("dead_letter", 0, 0, reason="stale_otp")]
    lines = [text for _, text in list_attempts(past_record(attempts=attempts, requests=2))]

    assert [line.split(" ")[0] for line in lines[:4]] == ["1.", "2.", "3.", "4."]
    assert ["not counted" in line for line in lines[:4]] == [True, True, False, True]


def test_the_sum_is_the_record_s():
    record = past_record(
        attempts=[HALF, attempt("active", 2)], counted_attempts=1, requests=2, otp1_posts=1, otp2_posts=1
    )

    assert sum_up(record) == "2 attempts, 1 of them counted, 2 requests, 2 OTPs posted"
    assert list(list_attempts(record))[-1] == ("in all", sum_up(record))


def test_that_all_attempts_count_is_not_said():
    record = past_record(attempts=[attempt("active", 1)], counted_attempts=1, requests=1, otp1_posts=1)

    assert sum_up(record) == "1 attempt, 1 request, 1 OTP posted"


def test_otps_of_attempts_that_left_no_count_are_told():
    lost = past_record(attempts=[attempt("lost", 0, 0)], counted_attempts=1, otp1_posts=1, posts_forgiven=1)
    assert sum_up(lost).endswith("2 OTPs posted (2 of them by attempts that were lost or still go on)")
    under_way = past_record(
        Status.ACTIVATING, attempts=[HALF], counted_attempts=1, requests=1, otp1_posts=1, otp2_posts=1
    )
    assert sum_up(under_way) == (
        "1 attempt, 0 of them counted, 1 request, 2 OTPs posted (1 of them by attempts that were lost or still go on)"
    )


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
        (
            "pending",
            {"batch": {"canary_row": 20, "trial_row": 8}},
            "waits until the rows up to 8 are done",
            "oathbulk status july",
        ),
        ("pending", {"batch": {"canary_row": 9}}, "waits for a worker", None),
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
