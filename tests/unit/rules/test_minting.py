"""From which time step an OTP is made, and whether it may go now."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.rules.progress import Mint, Now, Progress, StepMissed, WaitForStep, choose_hotp_counter, choose_time_step

MARGIN = 3.0


def choose(ordinal: int, unused: int, earliest: float, latest: float | None = None) -> Mint | WaitForStep | StepMissed:
    now = Now(earliest, earliest if latest is None else latest)
    return choose_time_step(Progress(next_counter=unused), ordinal, 30, now, MARGIN)


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
