"""What an attempt has spent, by how far its record came."""

from __future__ import annotations

import pytest

from models.record_states import OtpState
from worker.leases.settlement import Claim
from worker.rules.progress import OtpProgress, Progress

SENT, ANSWERED, UNSENT = OtpState.SENT, OtpState.ANSWERED, OtpState.UNSENT
FRESH = Progress(OtpProgress(SENT, 1), OtpProgress())
HALF_DONE = Progress(OtpProgress(ANSWERED, 1), OtpProgress())


def claim(progress: Progress, *, is_otp1_marked: bool) -> Claim:
    return Claim(1, 1, 2, "lease", 0.0, "30870001", "user", "device", b"", progress, is_otp1_marked)


@pytest.mark.parametrize(
    ("begins", "ends", "leaves_pending", "spent"),
    [
        # The first OTP was refused, or is of unknown fate, or made the device ACTIVE.
        (claim(FRESH, is_otp1_marked=True), HALF_DONE, False, 1),
        (claim(FRESH, is_otp1_marked=True), FRESH, True, 1),
        # PingOne did nothing with it.
        (claim(FRESH, is_otp1_marked=True), Progress(), True, 0),
        # It asked for the second one, which waits for a slot; then that one goes.
        (claim(FRESH, is_otp1_marked=True), HALF_DONE, True, 0),
        (
            claim(HALF_DONE, is_otp1_marked=False),
            Progress(OtpProgress(ANSWERED, 1), OtpProgress(ANSWERED, 1)),
            False,
            2,
        ),
        # Both in one attempt.
        (claim(FRESH, is_otp1_marked=True), Progress(OtpProgress(ANSWERED, 1), OtpProgress(SENT, 1)), True, 2),
        # A read alone.
        (claim(FRESH, is_otp1_marked=False), FRESH, True, 0),
        (claim(HALF_DONE, is_otp1_marked=False), HALF_DONE, True, 0),
    ],
)
def test_an_otp_is_spent_by_the_attempt_after_which_nothing_follows_it(begins, ends, leaves_pending, spent):
    assert begins.count_spent_posts(ends, leaves_pending=leaves_pending) == spent
