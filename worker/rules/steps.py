"""What comes next for a record: a step, which asks PingOne, or the decision that ends the attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.reason import PauseReason, Reason
from worker.rules.quota import Quota


@dataclass(frozen=True, slots=True)
class ReadDevice:
    """Ask PingOne how the device stands."""


@dataclass(frozen=True, slots=True)
class SendOtp:
    """Post this OTP; the second one goes with `oathResync`."""

    ordinal: Literal[1, 2]


@dataclass(frozen=True, slots=True)
class Active:
    """The device is ACTIVE."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not settled now: due again after `delay` seconds. `is_counted`: it was an attempt."""

    delay: float
    is_counted: bool
    why: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Given up, waiting for a person."""

    reason: Reason
    # False where PingOne did nothing with the request.
    is_counted: bool = True


@dataclass(frozen=True, slots=True)
class Pause:
    """Hand the record back uncounted and pause its batch: only a person can mend this, or time."""

    reason: PauseReason
    delay: float = 0.0
    # It may be the fault of this worker process alone: a wrong key or secret. Then others can do the work.
    is_own: bool = False
    # With the reason `quota`, which passes by itself: until when.
    quota: Quota | None = None


Step = ReadDevice | SendOtp
Decision = Active | Retry | DeadLetter | Pause
