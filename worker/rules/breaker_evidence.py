"""An attempt that failed, as the breaker looks at it, and which failures count for what. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from models.attempt import Failure, Outcome
from models.reason import Reason

# Reasons of dead letters whose OTP was refused.
REFUSED_OTP = frozenset({Reason.INVALID_OTP, Reason.RESYNC_FAILED})
# Failures of calls without an answer.
NO_ANSWER = frozenset({Failure.OUTCOME_UNKNOWN, Failure.NOT_DELIVERED})
# Why a record went back, where that says nothing of PingOne or the batch. A token of TOTP that waits for its time step
# is among them: PingOne asked for OTP 2, and when a step begins, many such records end an attempt at once.
IGNORED_FAILURES = frozenset(
    {Failure.HOLD, Failure.NOT_PERMITTED, Failure.DATABASE, Failure.LEASE_RAN_OUT, Failure.TIME_STEP}
)
# Why a record went back, where the breaker is to judge the batch. After a dead letter it always does.
WATCHED_FAILURES = NO_ANSWER | {Failure.UNAUTHORIZED, Failure.OTHER_DEVICE}


def is_own_answer(http_status: int | None, correlation_id: str | None) -> bool:
    """Whether a failed call shows that PingOne is there: it answered, and with less than a 5xx, even if it leaves open
    what became of the OTP, as with a tenant whose successes name no status. The Correlation-Id tells PingOne's answer
    from a proxy's page."""
    return (http_status or 500) < 500 and correlation_id is not None


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that did not make its device ACTIVE, as the history has it. `said`: PingOne's codes in its last
    answer. `has_asked`: PingOne was asked anything. `is_answered`: it answered itself, whatever it said. `is_recent`:
    the attempt ended after the batch last went on by itself. `first_id`: the first attempt at this record that asked
    PingOne, since the batch is judged; None if it is this one. `worker`: the process that made it; None where that is
    not known."""

    id: int
    record_id: int
    outcome: str
    reason: str
    otp_posts: int = 0
    said: str = ""
    has_asked: bool = True
    is_answered: bool = False
    is_recent: bool = True
    first_id: int | None = None
    worker: str | None = None

    @property
    def begun(self) -> int:
        """When its record was begun, told by an attempt's id: whatever a clock shows, what came later has the larger
        one."""
        return self.id if self.first_id is None else self.first_id

    @property
    def is_unanswered(self) -> bool:
        """Whether PingOne was called and nothing came back that PingOne itself had said."""
        return self.reason in NO_ANSWER and not self.is_answered

    @property
    def cost(self) -> int:
        """How many OTPs it spent; a dead letter costs at least 1, for a person's work. Lost calls from before the end
        of an earlier outage cost nothing: their devices were read since, or will be. Nor does an OTP 1 whose follower
        is still to be made."""
        if self.reason == Failure.TIME_STEP or (self.is_unanswered and not self.is_recent):
            return 0
        return max(self.otp_posts, int(self.outcome == Outcome.DEAD_LETTER))


@dataclass(frozen=True, slots=True)
class ActiveAttempt:
    """An attempt that made its device ACTIVE. `begun` and `worker`: as of a failed one."""

    id: int
    begun: int
    worker: str | None = None


class History(Protocol):
    """What the breaker asks of a batch beside its failed attempts, since the batch is judged."""

    def read_active(self) -> Sequence[ActiveAttempt]:
        """Read the attempts that made their device ACTIVE, the newest first; some hundreds of them are enough."""

    def count_untried(self, most: int) -> int:
        """Count the records that are left and of which no OTP went out; no further than `most`."""
