"""What is said of one token, beyond what the golden files show of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.data.facts import NOW, history_of, past_attempt, past_record

from models.reason import CURES, Reason
from models.record_states import Status
from worker.reports.search import Read
from worker.reports.stall import Fleet
from worker.reports.token_history import NextStep, describe_next, list_attempts, sum_up, tell_attempts

EXTRA = {"http_status": 400, "code": "INVALID_DATA", "detail_code": "EXTRA_OTP_REQUIRED"}
INVALID = {"http_status": 400, "code": "INVALID_DATA", "detail_code": "INVALID_OTP"}
SAYS_EXTRA = "HTTP 400 INVALID_DATA/EXTRA_OTP_REQUIRED"
SAYS_INVALID = "HTTP 400 INVALID_DATA/INVALID_OTP"


def attempt(outcome: str, otp_posts: int = 0, requests: int = 1, **fields: Any) -> Read:
    return past_attempt(outcome=outcome, otp_posts=otp_posts, requests=requests, **fields)


# OTP 1 that is followed by no OTP 2 is counted by the attempt that posts that one.
HALF = attempt("handed_back", 0, reason="hold", **EXTRA)
HELD = attempt("handed_back", 0, 0, reason="hold")
LOST_SECOND = attempt("retry", 2, 2, reason="outcome_unknown", **EXTRA)


@pytest.mark.parametrize(
    ("attempts", "has_seed", "told"),
    [
        ([HALF, attempt("active", 2)], False, [(1, f"OTP 1 → {SAYS_EXTRA}"), (1, "OTP 2 → ACTIVE")]),
        (
            [HALF, HELD, attempt("active", 2)],
            False,
            [(1, f"OTP 1 → {SAYS_EXTRA}"), (0, "nothing sent"), (1, "OTP 2 → ACTIVE")],
        ),
        ([HALF, attempt("dead_letter", 1, 0)], False, [(1, f"OTP 1 → {SAYS_EXTRA}"), (0, "nothing sent")]),
        ([attempt("dead_letter", 2, 3, **EXTRA)], False, [(2, f"OTP 1 → EXTRA_OTP_REQUIRED, OTP 2 → {SAYS_EXTRA}")]),
        (
            [LOST_SECOND, attempt("active", 1, 2)],
            False,
            [(2, "OTP 1 → EXTRA_OTP_REQUIRED, OTP 2 → no clear answer"), (1, "OTP 2 → ACTIVE")],
        ),
        # A seed begins a new pair.
        (
            [LOST_SECOND, attempt("retry", 1, 2, http_status=503)],
            True,
            [(2, "OTP 1 → EXTRA_OTP_REQUIRED, OTP 2 → no clear answer"), (1, "OTP 1 → HTTP 503")],
        ),
        ([attempt("retry", 1, reason="outcome_unknown")], False, [(1, "OTP 1 → no answer")]),
        ([attempt("active", 3, 5)], False, [(3, "3 OTPs → ACTIVE")]),
        # A mend brought another pair.
        (
            [attempt("dead_letter", 2, 3, **INVALID), attempt("active", 1)],
            False,
            [(2, f"OTP 1 → EXTRA_OTP_REQUIRED, OTP 2 → {SAYS_INVALID}"), (1, "OTP 1 → ACTIVE")],
        ),
    ],
)
def test_an_attempt_says_what_it_sent_and_what_came_back(
    attempts: list[Read], has_seed: bool, told: list[tuple[int, str]]
) -> None:
    shown = tell_attempts(past_record(attempts=attempts, has_seed=has_seed))
    assert [(each.posts, each.calls) for each in shown] == told


def test_attempts_are_summed_up_and_those_that_do_not_count_say_so() -> None:
    attempts = [HALF, HELD, attempt("retry", 1), attempt("dead_letter", 0, 0, reason="stale_otp")]
    lines = [text for _, text in list_attempts(past_record(attempts=attempts, requests=2))]
    assert ["not counted" in line for line in lines] == [True, True, False, True, False]
    # One that goes on is counted already, and has no line yet.
    goes_on = {"attempts": [HALF], "counted_attempts": 1, "requests": 1, "otp1_posts": 1, "otp2_posts": 1}
    rest = "(1 of them by attempts that were lost or still go on)"
    said = sum_up(past_record(Status.ACTIVATING, **goes_on))
    assert said == f"1 attempt, 0 of them counted, 1 request, 2 OTPs posted {rest}"
    lost = past_record(attempts=[attempt("lost", 0, 0)], counted_attempts=1, otp1_posts=1, posts_forgiven=1)
    assert sum_up(lost).endswith("2 OTPs posted (2 of them by attempts that were lost or still go on)")


PAUSED = {"state": "paused", "reason": "permissions", "detail": "Give it the role, then resume."}
OPENS = datetime(2026, 11, 28, 21, 0, tzinfo=UTC)
EXPORT = "oathbulk export july --left -o july-left.csv"
NOT_ALONE = "A replay makes every dead letter of batch july with this reason go again, not it alone."
IN_VAIN = "A replay ends as this did. Export what is left, correct the file, then: oathbulk mend july july-left.csv"
TO_REPLAY = "oathbulk replay july --reason attempts_spent"


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("status", "fields", "step"),
    [
        (
            "dead_letter",
            {"reason": "locked", "is_replayable": True},
            ("nothing by itself: it is given up (locked)", NOT_ALONE, "oathbulk replay july --reason locked"),
        ),
        # Only another row or file mends it.
        (
            "dead_letter",
            {"reason": "token_refused", "is_replayable": True},
            ("nothing by itself: it is given up (token_refused)", IN_VAIN, EXPORT),
        ),
        (
            "dead_letter",
            {"reason": "attempts_spent", "is_replayable": True},
            ("it is due again at the next time of the replay schedule (15 * * * *)", NOT_ALONE, TO_REPLAY),
        ),
        (
            "cancelled",
            {"batch": {"state": "cancelled"}},
            ("nothing by itself: it is cancelled", None, "oathbulk replay july"),
        ),
        (
            "cancelled",
            {"are_otps_kept": False, "batch": {"state": "cancelled"}},
            ("nothing by itself: it is cancelled", None, None),
        ),
        ("cancelled", {}, ("nothing by itself: it is cancelled", None, None)),
        (
            "activating",
            {"lease_until": later(48)},
            ("in work since 12 s; if its worker died it is looked at again at 12:30:48 UTC", None, None),
        ),
        (
            "activating",
            {"lease_until": later(-5)},
            (
                "the time of its worker ran out at 12:29:55 UTC, and it is due again as soon as a worker runs",
                None,
                None,
            ),
        ),
        (
            "queued",
            {"batch": PAUSED},
            ("batch july is paused: permissions", "Give it the role, then resume.", "oathbulk resume july"),
        ),
        (
            "pending",
            {"batch": {"state": "paused", "reason": "window", "resumes_at": OPENS}},
            ("batch july is paused: window; it goes on by itself at 2026-11-28 21:00 UTC", None, None),
        ),
        ("pending", {"attempts": [None], "scheduled_at": later(25)}, ("due again in 25 s", None, None)),
        (
            "queued",
            {"lease_until": later(60)},
            ("waits for a worker; if none takes it, it is due again at 12:31:00 UTC", None, None),
        ),
    ],
)
def test_each_situation_has_a_sentence_and_the_command_that_helps(
    status: str, fields: dict[str, Any], step: tuple[str, str | None, str | None]
) -> None:
    token = history_of(past_record(Status(status), **fields))
    assert describe_next(token, lease=60.0, replay_cron="15 * * * *") == NextStep(*step)


def test_what_no_worker_takes_and_no_schedule_replays_is_said_so() -> None:
    step = describe_next(history_of(past_record(Status.QUEUED), fleet=Fleet()), lease=60.0)
    assert step.sentence == "waits for a worker: no worker runs"
    assert "celery -A worker worker" in str(step.why)
    spent = history_of(past_record(Status.DEAD_LETTER, reason="attempts_spent", is_replayable=True))
    assert describe_next(spent, lease=60.0).sentence == "nothing by itself: it is given up (attempts_spent)"


@pytest.mark.parametrize(
    ("fields", "part", "said"),
    [
        ({"otp1_posts": 1}, "otp1", "posted once without effect, and may be sent again"),
        ({"otp1_state": "answered"}, "otp1", "answered by PingOne"),
        ({"has_second_otp": False}, "otp2", "the file brought none"),
        ({"otp2_state": "answered", "otp2_posts": 2}, "otp2", "answered by PingOne, posted 2 times"),
    ],
)
def test_it_is_told_what_became_of_the_otps(fields: dict[str, Any], part: str, said: str) -> None:
    assert past_record(**fields).describe_otps()[part] == said


def test_the_meaning_of_a_reason_is_what_was_written_down_else_its_cure() -> None:
    assert past_record(reason="locked", detail="Code 17.").meaning == "Code 17."
    assert past_record(reason="locked").meaning == CURES[Reason.LOCKED]
    assert past_record(reason="of_a_later_version").meaning is None
