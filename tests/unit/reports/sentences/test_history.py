"""What is said of the attempts of a record: counted on, each with what it sent and what came back, and their sum."""

from __future__ import annotations

from typing import Any

import pytest
from support.data.histories import past_attempt, past_record

from models.record_states import Status
from worker.reports.sentences.history import list_attempts, sum_up, tell_attempts
from worker.reports.token_history import PastAttempt

EXTRA = {"http_status": 400, "code": "INVALID_DATA", "detail_code": "EXTRA_OTP_REQUIRED"}
INVALID = {"http_status": 400, "code": "INVALID_DATA", "detail_code": "INVALID_OTP"}
SAYS_EXTRA = "HTTP 400 INVALID_DATA/EXTRA_OTP_REQUIRED"
SAYS_INVALID = "HTTP 400 INVALID_DATA/INVALID_OTP"


def attempt(outcome: str, otp_posts: int = 0, requests: int = 1, **fields: Any) -> PastAttempt:
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
