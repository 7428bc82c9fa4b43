"""One call to PingOne, from the wait for its slot to its answer: with an access token, tried again where that does no
harm, holding the fleet where PingOne asks for it.

tenacity repeats a call within seconds, and only what was not delivered or not acted on, and reads whose answer was
lost, since these are idempotent. Any other call that may have reached PingOne without a readable answer is not
repeated: the device must be read first.
Retry guidance: https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from itertools import chain, product, repeat
from typing import TypeVar
from urllib.parse import urlsplit

import tenacity

from worker.clocks import boot_time
from worker.config.environment import Environment
from worker.pace.slots import Pace, Slot
from worker.pingone.auth import AccessTokens
from worker.pingone.devices import Device, build_activation_request, parse_activation, parse_device
from worker.pingone.errors import (
    Forbidden,
    LicenseExceeded,
    NotDelivered,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
    RateLimited,
    TooLateToSend,
    Unauthorized,
)
from worker.pingone.transport import LARGEST_BODY, Transport
from worker.pingone.wire import Envelope, Request, authorize, build_url, make_printable, open_envelope
from worker.vault.otps import Otp

T = TypeVar("T")

# Makes a result of an answer, or raises the error that it stands for.
Parse = Callable[[Envelope], T]

# Seconds that the fleet holds after a 429 that does not say for how long.
SHORTEST_HOLD = 1.0


@dataclass
class Call:
    """What goes with the calls of one attempt, and the count of the requests that they made."""

    # The batch and the record: both come back in PingOne's audit records.
    session_id: str
    transaction_id: str
    # A slot that the caller has waited for already; the first try takes it.
    slot: Slot | None = None
    # In `boot_time` seconds: no first byte goes out later. None: no lease ends meanwhile, and nobody is there to hand a
    # lost read back to, so that it is made again at once.
    send_before: float | None = None
    # Called before every try of a call but its first, and whenever a try has waited for its slot; it raises what it
    # likes to stop.
    permit: Callable[[], None] = lambda: None
    # Requests whose first byte went out.
    requests: int = 0
    # Those of them that were answered 429.
    rate_limited: int = 0
    # Seconds from the moment before sending these requests to their answers, or to the end of the wait for one.
    seconds: float = 0.0

    def count_request(self, seconds: float) -> None:
        """Count a request whose first byte went out, and which took so many seconds."""
        self.requests += 1
        self.seconds += seconds


class Client:
    """PingOne, for one thread and one environment. Every call may raise any PingOneError, and SlotTooFar.

    One exchange ends within `deadline` seconds; a call begins tries for `retry_for` seconds at the most, and lets the
    last one end. The fleet holds for `outage_hold` seconds where nothing could be delivered, unless PingOne says for
    how long. An answer above `largest_body` bytes is none."""

    def __init__(
        self,
        environment: Environment,
        access_tokens: AccessTokens,
        pace: Pace,
        *,
        clock: PingOneClock | None = None,
        deadline: float = 20.0,
        outage_hold: float = 5.0,
        retry_for: float = 10.0,
        largest_body: int = LARGEST_BODY,
    ) -> None:
        self._environment = environment
        self._access_tokens = access_tokens
        self._pace = pace
        # Every answer tells the time.
        self._clock = clock or PingOneClock()
        self._transport = Transport(environment.api_url, deadline=deadline, largest_body=largest_body)
        self._policy = RetryPolicy(pace, seconds=retry_for, outage_hold=outage_hold)

    def activate(self, user_id: str, device_id: str, otp: Otp, *, resync: bool, call: Call) -> Device:
        """Activate the device with this OTP, and return it as ACTIVE. `resync`: it is the second OTP, right after the
        first."""
        request = build_activation_request(self._environment, user_id, device_id, otp, resync=resync)
        return self.perform(request, partial(parse_activation, user_id=user_id, device_id=device_id), call)

    def read_device(self, user_id: str, device_id: str, *, call: Call) -> Device:
        """Read the device as it is, whatever its status."""
        request = Request("GET", build_url(self._environment, "users", user_id, "devices", device_id))
        return self.perform(request, partial(parse_device, user_id=user_id, device_id=device_id), call)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def perform(self, request: Request, parse: Parse[T], call: Call, *, repeats_forbidden: bool = True) -> T:
        """Make the tries of one call, each with an access token and a slot. `repeats_forbidden`: whether it is tried
        again after a 403, as after other refusals that pass. A read without a lease is tried again after a lost answer
        too."""
        access_token = ""

        def attempt() -> T:
            nonlocal access_token
            # Before the slot, which a slow token endpoint would let lapse.
            access_token = self._access_tokens.get()
            slot = self._take_slot(call)
            return self._send(authorize(request, access_token, call.session_id, call.transaction_id), slot, parse, call)

        return self._policy.run(
            attempt,
            permit=call.permit,
            renew=lambda: self._access_tokens.renew(access_token),
            repeats_forbidden=repeats_forbidden,
            repeats_lost=request.method == "GET" and call.send_before is None,
        )

    def _send(self, request: Request, slot: Slot, parse: Parse[T], call: Call) -> T:
        """Send one request, count it if its first byte went out, and report to the pace what became of its slot."""
        self._pace.wait_to_leave(slot)
        sent = boot_time()
        try:
            envelope = open_envelope(*self._transport.exchange(request, send_before=call.send_before))
        except NotDelivered:
            raise
        except BaseException:
            # Whatever happened, a byte may have gone out.
            call.count_request(boot_time() - sent)
            raise
        answered = boot_time()
        call.count_request(answered - sent)
        self._clock.learn(envelope.date, sent, answered)
        report_deprecation(request, envelope)
        try:
            result = parse(envelope)
        except RateLimited as error:
            call.rate_limited += 1
            self._slow_down(slot, error)
            raise
        except OtherDevice:
            # Whatever comes next on this connection may be another's answer as well.
            self._transport.drop_connection()
            raise
        except OutcomeUnknown:
            # Whatever answered in PingOne's place may have no limit.
            raise
        except PingOneError:
            self._pace.report_answer(slot)
            raise
        self._pace.report_answer(slot)
        return result

    def _slow_down(self, slot: Slot, error: RateLimited) -> None:
        """Hold the fleet after a 429, and lower its rate.

        The rate is not lowered for a wait of hours: that is a used-up quota, and says nothing of the rate. A record
        that is refused for it does not come back before, so that the fleet need not be held for all that time."""
        seconds, why = error.retry_after or SHORTEST_HOLD, explain_hold(error)
        if seconds > self._pace.longest_hold:
            self._pace.hold(seconds, why)
        else:
            self._pace.report_refusal(slot, seconds, why)

    def _take_slot(self, call: Call) -> Slot:
        """Take the slot that the caller has waited for, or wait for another."""
        if call.slot is not None:
            slot, call.slot = call.slot, None
            return slot
        slot = self._pace.wait()
        # The wait may last seconds, and the batch be paused meanwhile.
        call.permit()
        return slot


# Seconds between two tries, drawn at random below a bound that doubles from 0.5 s up to 4 s.
BACKOFF = tenacity.wait_random_exponential(multiplier=0.5, max=4)
# Seconds for which a read whose answers get lost begins tries: three that each time out after their 20 s.
LOST_READ_FOR = 60.0


@dataclass(frozen=True)
class RetryPolicy:
    """How often and for how long one call is tried: at most `tries` times, and no try is begun later than `seconds`
    after the first. What cannot be delivered holds the fleet for `outage_hold` seconds, unless others deliver; an
    answer of unknown outcome, such as a 503, only for as long as it asks."""

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
        permissions, is_renewed = chain([lambda: None], repeat(permit)), False

        def make_attempt() -> T:
            """Where PingOne asks for a pause although the outcome is unknown, the fleet holds."""
            next(permissions)()
            try:
                return attempt()
            except OutcomeUnknown as error:
                self.pace.hold(error.retry_after or 0, explain_hold(error))
                raise

        def try_once() -> T:
            """Make one try; make it again at once, with a new access token, if the old one was refused: that is no
            failure to wait after. It does not call itself: a cycle for each call would be left to the garbage
            collector."""
            nonlocal is_renewed
            try:
                return make_attempt()
            except Unauthorized:
                if is_renewed:
                    raise
            renew()
            is_renewed = True
            return make_attempt()

        try:
            return self._retrying[repeats_forbidden, repeats_lost](try_once)
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
            """Whether the same call may be made again."""
            if isinstance(error, TooLateToSend | LicenseExceeded):
                return False
            if isinstance(error, OutcomeUnknown):
                return repeats_lost
            return isinstance(error, NotDelivered | RateLimited) or (isinstance(error, Forbidden) and repeats_forbidden)

        seconds = max(self.seconds, LOST_READ_FOR) if repeats_lost else self.seconds
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(may_succeed_later),
            wait=_choose_wait,
            stop=tenacity.stop_after_attempt(self.tries) | tenacity.stop_before_delay(seconds),
            sleep=self.sleep,
            reraise=True,
        )


def _choose_wait(state: tenacity.RetryCallState) -> float:
    """Choose the seconds until the next try: never sooner than the service asked. If that is beyond the policy's time,
    the call ends here."""
    error = state.outcome.exception() if state.outcome else None
    return max(BACKOFF(state), error.retry_after or 0 if isinstance(error, PingOneError) else 0)


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


class PingOneClock:
    """The clock of one environment. Thread-safe.

    A `Date` says whole seconds only, and the answer was on its way for a while. So each answer leaves an interval for
    the difference between PingOne's clock and ours, and the intervals of several answers together leave a short one.
    Ours is `boot_time`, which nobody sets.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lowest, self._highest = -math.inf, math.inf

    @property
    def is_known(self) -> bool:
        """Whether an answer has told the time."""
        return self._lowest > -math.inf

    def now(self) -> tuple[float, float]:
        """Tell between which two moments the time is by PingOne's clock, in seconds since the Unix epoch. Raises
        ValueError before the first answer."""
        with self._lock:
            lowest, highest = self._lowest, self._highest
        if lowest == -math.inf:
            raise ValueError("no answer has told the time yet")
        now = boot_time()
        return now + lowest, now + highest

    def learn(self, told: datetime | None, sent: float, received: float) -> None:
        """Take in the `Date` of an answer whose request was sent and that was received at these times, in `boot_time`
        seconds. An answer without one changes nothing."""
        if told is None:
            return
        date = told.timestamp()
        with self._lock:
            lowest, highest = max(self._lowest, date - received), min(self._highest, date + 1 - sent)
            if lowest > highest:
                # One of the two clocks was set, so what earlier answers said is not true any more.
                lowest, highest = date - received, date + 1 - sent
            self._lowest, self._highest = lowest, highest


# The kinds of calls of whose deprecation this process has written.
_DEPRECATED: set[str] = set()


def report_deprecation(request: Request, envelope: Envelope) -> None:
    """Write a log line if an answer says that its kind of call is deprecated, once however often it is made."""
    date, message = (make_printable(envelope.headers.get(f"api-deprecation-{name}")) for name in ("date", "message"))
    if not (date or message) or (call := name_call(request)) in _DEPRECATED:
        return
    _DEPRECATED.add(call)
    # Not imported at the top: commands make calls too, and write no log.
    import structlog

    structlog.get_logger().warning("pingone_call_deprecated", call=call, date=date, message=message)


def name_call(request: Request) -> str:
    """Name a kind of call by its method and path without ids, as in `DELETE /users/{id}/devices/{id}`: below an
    environment, names and ids take turns in a path."""
    _, _, path = urlsplit(request.url).path.partition("/environments/")
    _, *segments = path.split("/")
    kinds = [segment if place % 2 == 0 else "{id}" for place, segment in enumerate(segments)]
    return f"{request.method} /{'/'.join(kinds)}"
