"""The retry policy of one call: which failures are retried within seconds, how often, and which hold the fleet.

tenacity repeats calls that were not delivered or not acted on, and reads whose answer was lost, since reads are
idempotent. Any other call that may have reached PingOne without a readable answer is not repeated: the device must be
read first.
Retry guidance: https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import tenacity

from worker.pace.slots import Pace
from worker.pingone.errors import (
    Forbidden,
    LicenseExceeded,
    NotDelivered,
    OutcomeUnknown,
    PingOneError,
    RateLimited,
    TooLateToSend,
    Unauthorized,
)

T = TypeVar("T")

# Seconds between two tries, drawn at random below a bound that doubles from 0.5 s up to 4 s.
BACKOFF = tenacity.wait_random_exponential(multiplier=0.5, max=4)
# Seconds within which a read whose answers are lost may start tries: time for three that each time out after 20 s.
LOST_READ_FOR = 60.0


@dataclass
class RetriedCall(Generic[T]):
    """One call that may be tried several times, and the state of its tries."""

    # Makes one try, which takes its own slot.
    attempt: Callable[[], T]
    # Called before every try but the first. Raises to end the call.
    permit: Callable[[], None]
    # Fetches a new access token.
    renew: Callable[[], object]
    # Whether a 403 may be throttling in disguise, and is retried.
    repeats_forbidden: bool = True
    # Whether the call is a read that may be repeated after a lost answer, and its caller can wait for that.
    repeats_lost: bool = False
    is_begun: bool = False
    is_renewed: bool = False


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long one call is tried: at most `tries` times, with no try later than `seconds` after the
    first. If nothing can be delivered, the fleet holds for `outage_hold` seconds, unless other processes deliver; after
    an unknown outcome, such as a 503, it holds only as long as the answer asks."""

    pace: Pace
    tries: int = 4
    seconds: float = 10.0
    outage_hold: float = 5.0
    sleep: Callable[[float], None] = time.sleep

    def run(self, call: RetriedCall[T]) -> T:
        """Try the call until it succeeds or no try is left; return its result, or raise what the last try raised."""
        try:
            result: T = self._retrying(self._try_once, call)
            return result
        except TooLateToSend:
            raise
        except NotDelivered as error:
            self.pace.report_undelivered(error.retry_after or self.outage_hold, explain_hold(error))
            raise

    @cached_property
    def _retrying(self) -> tenacity.Retrying:
        """The policy for tenacity. One for all calls: it refers to itself, so the garbage collector would have to
        collect one for each call."""
        return tenacity.Retrying(
            retry=_may_succeed_later, wait=_choose_wait, stop=self._is_over, sleep=self.sleep, reraise=True
        )

    def _try_once(self, call: RetriedCall[T]) -> T:
        """Make one try. If the access token was refused, fetch a new one and try again at once, but only once in all
        tries."""
        try:
            return self._attempt(call)
        except Unauthorized:
            if call.is_renewed:
                raise
        call.renew()
        call.is_renewed = True
        return self._attempt(call)

    def _attempt(self, call: RetriedCall[T]) -> T:
        """Make one try. If PingOne asks for a pause although the outcome is unknown, the fleet holds."""
        if call.is_begun:
            call.permit()
        call.is_begun = True
        try:
            return call.attempt()
        except OutcomeUnknown as error:
            self.pace.hold(error.retry_after or 0, explain_hold(error))
            raise

    def _is_over(self, state: tenacity.RetryCallState) -> bool:
        """Whether no try is left, or the time would end before the next one."""
        seconds = max(self.seconds, LOST_READ_FOR) if state.args[0].repeats_lost else self.seconds
        return state.attempt_number >= self.tries or tenacity.stop_before_delay(seconds)(state)


def _may_succeed_later(state: tenacity.RetryCallState) -> bool:
    """Whether the call failed, and may be repeated."""
    call: RetriedCall[Any] = state.args[0]
    error = _find_error(state)
    if isinstance(error, TooLateToSend | LicenseExceeded):
        return False
    if isinstance(error, OutcomeUnknown):
        return call.repeats_lost
    return isinstance(error, NotDelivered | RateLimited) or (isinstance(error, Forbidden) and call.repeats_forbidden)


def _choose_wait(state: tenacity.RetryCallState) -> float:
    """Choose the seconds until the next try: never sooner than the service asked. If that exceeds the policy's time,
    the call ends here."""
    error = _find_error(state)
    return max(BACKOFF(state), error.retry_after or 0 if isinstance(error, PingOneError) else 0)


def _find_error(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def explain_hold(failure: NotDelivered | OutcomeUnknown | RateLimited) -> str:
    """Say why the fleet holds after this failure, as in `PingOne answered 503 and asks for 120 s`."""
    status = failure.answer.status
    if status is None:
        return "PingOne cannot be reached"
    who = "the token endpoint" if isinstance(failure, NotDelivered) else "PingOne"
    asked = (
        "does not say for how long" if failure.retry_after is None else f"asks for {math.ceil(failure.retry_after)} s"
    )
    return f"{who} answered {status} and {asked}"
