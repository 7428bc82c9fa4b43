"""pingone: the one retry policy. tenacity owns seconds, and only for calls that were not delivered or not
acted on.

Whatever may have reached PingOne without a readable answer is raised at once: the device must be read first.
Retry guidance: https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import tenacity

from worker.pace.slots import Pace
from worker.pingone.errors import (
    Forbidden,
    NotDelivered,
    OutcomeUnknown,
    RateLimited,
    TooLateToSend,
    Unauthorized,
)
from worker.pingone.hold_reasons import why_held

T = TypeVar("T")

BACKOFF = tenacity.wait_random_exponential(multiplier=0.5, max=4)


@dataclass(frozen=True)
class Policy:
    """At most `tries` tries, none begun later than `seconds` after the first; an outage holds the fleet, or this
    process where others deliver, for `outage_hold` seconds."""

    pace: Pace
    tries: int = 4
    seconds: float = 10.0
    outage_hold: float = 5.0
    sleep: Callable[[float], None] = time.sleep

    def run(self, attempt: Callable[[], T], *, permit: Callable[[], None], renew: Callable[[], object]) -> T:
        """The result of the attempt, which takes its own slot. `permit` is asked before every try but the
        first, and raises what it likes to stop; `renew` fetches a fresh access token.

        Raises what the last try raised.
        """
        try:
            return self._retrying(_Tries(self.pace, attempt, permit, renew).once)
        except TooLateToSend:
            raise
        except NotDelivered as error:
            self.pace.report_undelivered(error.retry_after or self.outage_hold, why_held(error))
            raise

    @cached_property
    def _retrying(self) -> tenacity.Retrying:
        """One for all calls: it refers to itself, so that one for each would be left to the garbage collector."""
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_pass),
            wait=_wait,
            stop=tenacity.stop_after_attempt(self.tries) | tenacity.stop_before_delay(self.seconds),
            sleep=self.sleep,
            reraise=True,
        )


@dataclass
class _Tries(Generic[T]):
    """The tries of one call, and what goes with every one of them."""

    pace: Pace
    attempt: Callable[[], T]
    permit: Callable[[], None]
    renew: Callable[[], object]
    is_first: bool = True
    is_renewed: bool = False

    def once(self) -> T:
        """One try, made again at once if a fresh access token may help: that is no failure to back off
        from."""
        try:
            return self._make()
        except Unauthorized:
            if self.is_renewed:
                raise
        self.renew()
        self.is_renewed = True
        return self._make()

    def _make(self) -> T:
        if not self.is_first:
            self.permit()
        self.is_first = False
        try:
            return self.attempt()
        except OutcomeUnknown as error:
            self.pace.hold(error.retry_after or 0, why_held(error))
            raise


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, NotDelivered | RateLimited | Forbidden) and not isinstance(error, TooLateToSend)


def _wait(state: tenacity.RetryCallState) -> float:
    """Never sooner than the service asked; if that is beyond the policy's time, the call ends here."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, NotDelivered | RateLimited) else None
    return max(BACKOFF(state), asked or 0)
