"""The one retry policy for calls to PingOne. tenacity repeats them within seconds, and only those that were not
delivered or not acted on, and reads whose answer was lost, since these are idempotent.

Any other call that may have reached PingOne without a readable answer is not repeated: the device must be read first.
Retry guidance: https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Generic, TypeVar

import tenacity

from worker.pace.slots import Pace
from worker.pingone.errors import (
    Forbidden,
    LicenseExceeded,
    NotDelivered,
    OutcomeUnknown,
    RateLimited,
    TooLateToSend,
    Unauthorized,
)
from worker.pingone.hold_reasons import explain_hold

T = TypeVar("T")

# Seconds between two tries, drawn at random below a bound that doubles from 0.5 s up to 4 s.
BACKOFF = tenacity.wait_random_exponential(multiplier=0.5, max=4)
# Seconds for which a read whose answers get lost begins tries: three that each time out after their 20 s.
LOST_READ_FOR = 60.0


@dataclass(frozen=True)
class RetryPolicy:
    """How often and for how long one call is tried: at most `tries` times, and no try is begun later than `seconds`
    after the first. An outage holds the fleet, or this process alone where others deliver, for `outage_hold`
    seconds."""

    pace: Pace
    tries: int = 4
    seconds: float = 10.0
    outage_hold: float = 5.0
    sleep: Callable[[float], None] = time.sleep

    def run(
        self,
        attempt: Callable[[], T],
        *,
        permit: Callable[[], None],
        renew: Callable[[], object],
        repeats_forbidden: bool = True,
        repeats_lost: bool = False,
    ) -> T:
        """Call `attempt`, which takes its own slot, until it succeeds or no try is left; return its result. `permit` is
        called before every try but the first, and raises what it likes to stop; `renew` fetches a new access token.
        `repeats_forbidden`: whether a 403 may be throttling in disguise, so that it is tried again. `repeats_lost`:
        whether the call is a read that may be made again when its answer got lost, and its caller can wait for that.

        Raises what the last try raised.
        """
        retrying = self._retrying[repeats_forbidden, repeats_lost]
        try:
            return retrying(_Tries(self.pace, attempt, permit, renew).try_once)
        except TooLateToSend:
            raise
        except NotDelivered as error:
            self.pace.report_undelivered(error.retry_after or self.outage_hold, explain_hold(error))
            raise

    @cached_property
    def _retrying(self) -> dict[tuple[bool, bool], tenacity.Retrying]:
        """The policy as tenacity wants it, by `repeats_forbidden` and `repeats_lost`. One for all calls: it refers to
        itself, so that one for each call would be left to the garbage collector."""
        return {kind: self._make_retrying(*kind) for kind in product((True, False), (True, False))}

    def _make_retrying(self, repeats_forbidden: bool, repeats_lost: bool) -> tenacity.Retrying:
        def may_succeed_later(error: BaseException) -> bool:
            if isinstance(error, OutcomeUnknown):
                return repeats_lost
            return _may_succeed_later(error) and (repeats_forbidden or not isinstance(error, Forbidden))

        seconds = max(self.seconds, LOST_READ_FOR) if repeats_lost else self.seconds
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(may_succeed_later),
            wait=_choose_wait,
            stop=tenacity.stop_after_attempt(self.tries) | tenacity.stop_before_delay(seconds),
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

    def try_once(self) -> T:
        """Make one try; make it again at once, with a new access token, if the old one was refused: that is no failure
        to wait after."""
        try:
            return self._make_attempt()
        except Unauthorized:
            if self.is_renewed:
                raise
        self.renew()
        self.is_renewed = True
        return self._make_attempt()

    def _make_attempt(self) -> T:
        """Ask for permission, but for the first try; then call `attempt`. Where PingOne asks for a pause although the
        outcome is unknown, the fleet holds."""
        if not self.is_first:
            self.permit()
        self.is_first = False
        try:
            return self.attempt()
        except OutcomeUnknown as error:
            self.pace.hold(error.retry_after or 0, explain_hold(error))
            raise


def _may_succeed_later(error: BaseException) -> bool:
    """Whether the same call may be made again."""
    may = isinstance(error, NotDelivered | RateLimited | Forbidden)
    return may and not isinstance(error, TooLateToSend | LicenseExceeded)


def _choose_wait(state: tenacity.RetryCallState) -> float:
    """Choose the seconds until the next try: never sooner than the service asked. If that is beyond the policy's time,
    the call ends here."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, NotDelivered | RateLimited | OutcomeUnknown) else None
    return max(BACKOFF(state), asked or 0)
