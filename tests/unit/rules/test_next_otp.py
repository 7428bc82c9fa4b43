"""Which OTP a record sends next, or why none."""

from __future__ import annotations

import pytest

from models.reason import Reason
from models.record_states import OtpState
from worker.rules.decisions import begin_new_pair, choose_otp, send_next_otp
from worker.rules.progress import DeadLetter, Limits, OtpProgress, Progress, SendOtp

UNSENT, SENT, ANSWERED = OtpState
LIMITS = Limits(posts=3, attempts=8)
HALF_DONE = OtpProgress(ANSWERED, 1)


@pytest.mark.parametrize(
    ("progress", "step"),
    [
        (Progress(), SendOtp(1)),
        (Progress(second=None), SendOtp(1)),
        (Progress(first=HALF_DONE), SendOtp(2)),
        (Progress(first=HALF_DONE, second=None), DeadLetter(Reason.SECOND_OTP_MISSING)),
        (Progress(is_stale=True), DeadLetter(Reason.STALE_OTP, is_counted=False)),
        (Progress(first=HALF_DONE, is_stale=True), DeadLetter(Reason.STALE_OTP, is_counted=False)),
        # An OTP of a pair goes twice at the most, one of a seed once.
        (Progress(first=OtpProgress(UNSENT, 1)), SendOtp(1)),
        (Progress(first=OtpProgress(UNSENT, 2)), DeadLetter(Reason.BUDGET_SPENT)),
        (Progress(first=OtpProgress(UNSENT, 2), next_counter=9), SendOtp(1)),
        (Progress(first=OtpProgress(UNSENT, 3), next_counter=9), DeadLetter(Reason.BUDGET_SPENT)),
        (Progress(first=OtpProgress(ANSWERED, 2), second=OtpProgress(UNSENT, 1)), DeadLetter(Reason.BUDGET_SPENT)),
        # What was answered, or is of unknown fate, never goes.
        (Progress(first=HALF_DONE, second=HALF_DONE), DeadLetter(Reason.BUDGET_SPENT)),
        (Progress(first=OtpProgress(SENT, 1)), DeadLetter(Reason.BUDGET_SPENT)),
        (Progress(attempts=8), SendOtp(1)),
        (Progress(attempts=9), DeadLetter(Reason.ATTEMPTS_SPENT, is_counted=False)),
    ],
)
def test_the_next_otp_or_the_reason_why_none_goes(progress, step):
    assert choose_otp(progress, LIMITS) == step
    assert send_next_otp(progress, LIMITS) == (progress, step)


@pytest.mark.parametrize(("posts", "fits"), [(1, True), (2, False)])
def test_a_new_pair_begins_only_where_the_budget_has_room_for_both_of_its_otps(posts, fits):
    progress, step = begin_new_pair(Progress(first=OtpProgress(ANSWERED, posts), next_counter=9), LIMITS)
    assert progress.first == OtpProgress(UNSENT, posts)
    assert step == (SendOtp(1) if fits else DeadLetter(Reason.BUDGET_SPENT))
