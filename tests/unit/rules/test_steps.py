"""What is known of a record: when what PingOne shows was made, from which counter an OTP is made, and what an attempt
has spent."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.record_states import OtpState
from worker.leases.lease import Claim
from worker.rules.steps import (
    TOLERANCE,
    Mint,
    Now,
    OtpProgress,
    Progress,
    SentAgo,
    StepMissed,
    WaitForStep,
    choose_hotp_counter,
    choose_time_step,
    count_ago,
    may_be_made_by,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, MOMENT = timedelta(hours=1), timedelta(seconds=1)
# The first request went out an hour ago, and the last one half an hour ago.
SENT_AGO = SentAgo(HOUR, HOUR / 2)


@pytest.mark.parametrize(
    ("sent_ago", "age", "may_be"),
    [
        (SENT_AGO, timedelta(minutes=60) + TOLERANCE, True),
        (SENT_AGO, timedelta(minutes=60) + TOLERANCE + MOMENT, False),
        (SENT_AGO, timedelta(minutes=45), True),
        (SENT_AGO, timedelta(minutes=29) - TOLERANCE, True),
        (SENT_AGO, timedelta(minutes=29) - TOLERANCE - MOMENT, False),
        # Whatever is not known may be.
        (SENT_AGO, None, True),
        (None, timedelta(days=2), True),
    ],
)
def test_it_may_be_made_from_the_first_request_until_the_last_is_over(
    sent_ago: SentAgo | None, age: timedelta | None, may_be: bool
) -> None:
    assert may_be_made_by(sent_ago, age, timedelta(minutes=1)) is may_be


def test_a_single_request_is_the_first_and_the_last() -> None:
    assert count_ago(NOON, NOON - HOUR) == SentAgo(HOUR, HOUR)
    assert count_ago(NOON, NOON - HOUR, NOON - 2 * HOUR) == SentAgo(2 * HOUR, HOUR)
    assert count_ago(NOON, None) is None


# From which time step an OTP is made, and whether it may go now.

MARGIN = 3.0


def choose(ordinal: int, unused: int, earliest: float, latest: float) -> Mint | WaitForStep | StepMissed:
    return choose_time_step(Progress(next_counter=unused), ordinal, 30, Now(earliest, latest), MARGIN)


def test_hotp_takes_the_next_counter_whatever_the_time() -> None:
    assert choose_hotp_counter(Progress(next_counter=7)) == Mint(7)


@pytest.mark.parametrize(
    ("ordinal", "unused", "earliest", "latest", "chosen"),
    [
        (1, 0, 300.0, 300.0, Mint(10, 327.0)),
        (1, 0, 326.9, 326.9, Mint(10, 327.0)),
        # The step may be nearly over, or have ended already.
        (1, 0, 326.5, 327.0, WaitForStep(3.5)),
        (1, 0, 329.8, 330.3, WaitForStep(pytest.approx(0.2))),
        # An OTP of this step went already.
        (1, 11, 310.0, 310.0, WaitForStep(20.0)),
        # The second comes from the step right after that of the first.
        (2, 11, 310.0, 310.0, WaitForStep(20.0)),
        (2, 11, 329.9, 330.4, WaitForStep(pytest.approx(0.1))),
        (2, 11, 330.0, 330.5, Mint(11, 357.0)),
        (2, 11, 356.8, 357.1, StepMissed()),
        (2, 11, 360.0, 360.0, StepMissed()),
    ],
)
def test_totp(ordinal: int, unused: int, earliest: float, latest: float, chosen: object) -> None:
    assert choose(ordinal, unused, earliest, latest) == chosen


@given(
    ordinal=st.sampled_from([1, 2]),
    unused=st.integers(0, 30),
    earliest=st.floats(0, 900),
    width=st.floats(0, 2),
)
def test_whatever_the_time_no_step_is_used_twice_and_none_too_late(
    ordinal: int, unused: int, earliest: float, width: float
) -> None:
    chosen = choose(ordinal, unused, earliest, earliest + width)
    if isinstance(chosen, Mint):
        assert chosen.counter >= unused
        assert ordinal == 1 or chosen.counter == unused
        # Wherever in the interval the time is, it is this step, and will be for the margin.
        assert 30 * chosen.counter <= earliest
        assert earliest + width < chosen.until == 30 * (chosen.counter + 1) - MARGIN
    elif isinstance(chosen, WaitForStep):
        assert chosen.seconds > 0


# What an attempt has spent, by how far its record came.

UNSENT, SENT, ANSWERED = OtpProgress(), OtpProgress(OtpState.SENT, 1), OtpProgress(OtpState.ANSWERED, 1)
FRESH, HALF_DONE = Progress(SENT, UNSENT), Progress(ANSWERED, UNSENT)


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
        (claim(HALF_DONE, is_otp1_marked=False), Progress(ANSWERED, ANSWERED), False, 2),
        # Both in one attempt.
        (claim(FRESH, is_otp1_marked=True), Progress(ANSWERED, SENT), True, 2),
        # A read alone.
        (claim(FRESH, is_otp1_marked=False), FRESH, True, 0),
        (claim(HALF_DONE, is_otp1_marked=False), HALF_DONE, True, 0),
    ],
)
def test_an_otp_is_spent_by_the_attempt_after_which_nothing_follows_it(begins, ends, leaves_pending, spent):
    assert begins.count_spent_posts(ends, leaves_pending=leaves_pending) == spent
