"""Which counter the next OTP of a seed is made from, and when it may go out. Pure.

For HOTP it is the next counter, whatever the time. For TOTP it is the number of the time step that is now by PingOne's
clock (RFC 6238); OTP 2 has to come from the step right after that of OTP 1. Times are Unix times of PingOne's clock, in
seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from worker.rules.progress import Progress


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


def choose_counter(
    progress: Progress, ordinal: int, time_step: int | None, now: float, margin: float
) -> Mint | WaitForStep | StepMissed:
    """Choose the counter of OTP `ordinal` of a record with a seed. `time_step` in seconds, None for HOTP; no OTP goes
    out in the last `margin` seconds of its step."""
    unused = progress.next_counter
    assert unused is not None, "only a record with a seed makes OTPs"  # noqa: S101
    if time_step is None:
        return Mint(unused)
    step = int(now // time_step)
    until = (step + 1) * time_step - margin
    if ordinal == 2 and (step > unused or (step == unused and now >= until)):
        return StepMissed()
    if step < unused:
        return WaitForStep(unused * time_step - now)
    if now >= until:
        return WaitForStep((step + 1) * time_step - now)
    return Mint(step, until)
