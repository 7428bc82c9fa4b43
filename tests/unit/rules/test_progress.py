"""What an attempt has spent, by how far its record came."""

from __future__ import annotations

import pytest

from models.record import OtpState
from worker.leases.claim import Claim
from worker.rules.progress import OtpProgress, Progress

SENT, ANSWERED, UNSENT = OtpState.SENT, OtpState.ANSWERED, OtpState.UNSENT
FRESH = Progress(OtpProgress(SENT, 1), OtpProgress())
HALF_DONE = Progress(OtpProgress(ANSWERED, 1), OtpProgress())


def claim(progress: Progress, *, is_sending: bool) -> Claim:
    return Claim(1, 1, 2, "lease", 0.0, "user", "device", b"", progress, is_sending)


@pytest.mark.parametrize(
    ("begins", "ends", "goes_on", "spent"),
    [
        # The first OTP was refused, or is of unknown fate, or made the device ACTIVE.
        (claim(FRESH, is_sending=True), HALF_DONE, False, 1),
        (claim(FRESH, is_sending=True), FRESH, True, 1),
        # PingOne did nothing with it.
        (claim(FRESH, is_sending=True), Progress(), True, 0),
        # It asked for the second one, which waits for a slot; then that one goes.
        (claim(FRESH, is_sending=True), HALF_DONE, True, 0),
        (claim(HALF_DONE, is_sending=False), Progress(OtpProgress(ANSWERED, 1), OtpProgress(ANSWERED, 1)), False, 2),
        # Both in one attempt.
        (claim(FRESH, is_sending=True), Progress(OtpProgress(ANSWERED, 1), OtpProgress(SENT, 1)), True, 2),
        # A read alone.
        (claim(FRESH, is_sending=False), FRESH, True, 0),
        (claim(HALF_DONE, is_sending=False), HALF_DONE, True, 0),
    ],
)
def test_an_otp_is_spent_by_the_attempt_after_which_nothing_follows_it(begins, ends, goes_on, spent):
    assert begins.posts_spent(ends, goes_on=goes_on) == spent
