"""Which counter the next OTP of a seed is made from, and when it may go out. Pure.

For HOTP it is the next counter, whatever the time. For TOTP it is the number of the time step that is now by PingOne's
clock (RFC 6238); OTP 2 has to come from the step right after that of OTP 1. Times are Unix times of PingOne's clock, in
seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from worker.rules.progress import Progress


@dataclass(frozen=True, slots=True)
class Now:
    """The time by PingOne's clock, as far as it is known: it lies between these two."""

    earliest: float
    latest: float


@dataclass(frozen=True, slots=True)
class Mint:
    """Make the OTP from this counter. It may go out until `until`; HOTP has no end."""

    counter: int
    until: float = math.inf


@dataclass(frozen=True, slots=True)
class WaitForStep:
    """The time step of the next OTP has not begun, or this one ends too soon: `seconds` until the next begins."""

    seconds: float


@dataclass(frozen=True, slots=True)
class StepMissed:
    """The time step that OTP 2 had to come from is over, or nearly: only a new pair helps."""


def choose_hotp_counter(progress: Progress) -> Mint:
    """Choose the counter of the next OTP of a HOTP seed."""
    return Mint(_unused(progress))


def choose_time_step(
    progress: Progress, ordinal: int, time_step: int, now: Now, margin: float
) -> Mint | WaitForStep | StepMissed:
    """Choose the time step of OTP `ordinal` of a TOTP seed. `time_step` in seconds; no OTP goes out in the last
    `margin` seconds of its step."""
    unused = _unused(progress)
    # Where the step may have changed already, it is the one before until it has for certain.
    step = int(now.earliest // time_step)
    ends = (step + 1) * time_step
    is_nearly_over = now.latest >= ends - margin
    if ordinal == 2 and (step > unused or (step == unused and is_nearly_over)):
        return StepMissed()
    if step < unused:
        return WaitForStep(unused * time_step - now.earliest)
    return WaitForStep(ends - now.earliest) if is_nearly_over else Mint(step, ends - margin)


def _unused(progress: Progress) -> int:
    """The lowest counter or time step of which no OTP was sent."""
    assert progress.next_counter is not None, "only a record with a seed makes OTPs"  # noqa: S101
    return progress.next_counter
