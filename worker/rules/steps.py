"""What a record does next: a step, which is a call to PingOne, or the decision that ends the attempt. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.attempt import Failure
from models.reason import PauseReason, Reason
from worker.rules.progress import Progress
from worker.rules.quota import Quota


@dataclass(frozen=True, slots=True)
class ReadDevice:
    """Read the device, to see whether it is ACTIVE, waits, or cannot be activated."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Pair the token with the record's user, which makes its device."""


@dataclass(frozen=True, slots=True)
class FindDevice:
    """Look up whose device the token is: after a pairing of unknown fate, or where PingOne says that it is paired."""


@dataclass(frozen=True, slots=True)
class SendOtp:
    """Post this OTP; the second one goes with `oathResync`."""

    ordinal: Literal[1, 2]


@dataclass(frozen=True, slots=True)
class Active:
    """The device is ACTIVE, and the record is done. `why`: in one word, for the attempt's line, where it was somebody
    else's work."""

    why: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """The record is pending again, and due after `delay` seconds. `is_counted`: the attempt counts against the limit.
    `why`: for the attempt's line."""

    delay: float
    is_counted: bool
    why: Failure


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The record is given up, and waits for a person."""

    reason: Reason
    # False where PingOne did nothing with the request, so that the attempt does not count.
    is_counted: bool = True
    # What PingOne showed, in a sentence for a person that stands behind the reason's cure: ids and no names.
    told: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """The record is pending again, due after `delay` seconds, and its batch pauses: only a person or time can mend what
    happened. The attempt does not count."""

    reason: PauseReason
    delay: float = 0.0
    # Whether it may be the fault of this worker process alone (a wrong key or secret). Then others can do the work.
    is_own: bool = False
    # With the reason `quota`: when the batch goes on by itself.
    quota: Quota | None = None
    # A sentence for a person, in place of the reason's cure.
    detail: str | None = None


Step = ReadDevice | Pair | FindDevice | SendOtp
Decision = Active | Retry | DeadLetter | Pause
# What is known of the record now, and what it does next.
Next = tuple[Progress, Step | Decision]
