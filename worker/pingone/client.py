"""The client of one thread: makes a call to PingOne, from the wait for its slot to its answer, with an access token,
and reports the outcome to the pace."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from models.attempt import CallName, PastCall
from worker.clocks import PingOneClock, boot_time
from worker.config.environment import Environment
from worker.pace.slots import Pace, Slot
from worker.pingone.auth import AccessTokens
from worker.pingone.devices import Device, build_activation_request, parse_activation, parse_device
from worker.pingone.errors import (
    NO_ANSWER,
    Answer,
    NotDelivered,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
    RateLimited,
)
from worker.pingone.retry_policy import RetriedCall, RetryPolicy, explain_hold
from worker.pingone.transport import LARGEST_BODY, Transport
from worker.pingone.wire import Envelope, Request, authorize, build_url, make_printable, open_envelope
from worker.vault.otps import Otp

T = TypeVar("T")

# Turns an answer into a result, or raises the error that it means.
Parse = Callable[[Envelope], T]

# Seconds for which the fleet holds after a 429 that does not say how long.
SHORTEST_HOLD = 1.0


@dataclass
class Call:
    """The context of one attempt's calls, and their outcomes."""

    # The batch and the record: PingOne's audit records show both.
    session_id: str
    transaction_id: str
    # A slot that the caller has waited for; the first try uses it.
    slot: Slot | None = None
    # No first byte goes out after this time, in `boot_time` seconds. None: the call belongs to no lease, so a read
    # whose answer is lost is repeated at once.
    send_before: float | None = None
    # Called before every try but the first, and after each wait for a slot. Raises to end the call.
    permit: Callable[[], None] = lambda: None
    # What the next request is for, and whether it posts an OTP with `oathResync`; None for another kind of request.
    name: CallName = CallName.READ
    resync: bool | None = None
    # The requests whose first byte went out.
    past: list[PastCall] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many requests went out."""
        return len(self.past)

    def keep(self, seconds: float, answer: Answer) -> None:
        """Keep a request whose first byte went out, with its answer or NO_ANSWER, and its duration in seconds."""
        told = {
            "resync": self.resync,
            "status": answer.status,
            "code": answer.code,
            "detail_code": answer.detail_code,
            "error_id": answer.error_id,
            "correlation_id": answer.correlation_id,
            "milliseconds": round(seconds * 1000),
        }
        self.past.append({"call": self.name} | {name: value for name, value in told.items() if value is not None})


class Client:
    """Calls PingOne, for one thread and one environment. Every call may raise any PingOneError, and SlotTooFar. One
    exchange ends within `deadline` seconds; a call starts tries for at most `retry_for` seconds, and lets the last try
    finish. If nothing could be delivered, the fleet holds for `outage_hold` seconds unless PingOne says how long. An
    answer above `largest_body` bytes counts as no answer."""

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
        """Activate the device with this OTP, and return it as ACTIVE. `resync`: this is the second OTP, right after the
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
        """Make the tries of one call, each with an access token and a slot. `repeats_forbidden`: also repeat after a
        403, as after other temporary refusals. A read without a lease is also repeated after a lost answer."""
        access_token = ""

        def attempt() -> T:
            nonlocal access_token
            # Before taking the slot, which a slow token endpoint would let expire.
            access_token = self._access_tokens.get()
            slot = self._take_slot(call)
            return self._send(authorize(request, access_token, call.session_id, call.transaction_id), slot, parse, call)

        return self._policy.run(
            RetriedCall(
                attempt,
                permit=call.permit,
                renew=lambda: self._access_tokens.renew(access_token),
                repeats_forbidden=repeats_forbidden,
                repeats_lost=request.method == "GET" and call.send_before is None,
            )
        )

    def _send(self, request: Request, slot: Slot, parse: Parse[T], call: Call) -> T:
        """Send one request, and report its outcome to the pace."""
        self._pace.wait_to_leave(slot)
        envelope = self._exchange(request, call)
        try:
            result = parse(envelope)
        except RateLimited as error:
            self._slow_down(slot, error)
            raise
        except OtherDevice:
            # Whatever comes next on this connection may also be another request's answer.
            self._transport.drop_connection()
            raise
        except OutcomeUnknown:
            # A server in PingOne's place may have no limit.
            raise
        except PingOneError:
            self._pace.report_answer(slot)
            raise
        self._pace.report_answer(slot)
        return result

    def _exchange(self, request: Request, call: Call) -> Envelope:
        """Send one request, record it in `call` if its first byte went out, and return the answer."""
        sent = boot_time()
        try:
            envelope = open_envelope(*self._transport.exchange(request, send_before=call.send_before))
        except NotDelivered:
            raise
        except BaseException:
            # Whatever happened, a byte may have gone out.
            call.keep(boot_time() - sent, NO_ANSWER)
            raise
        answered = boot_time()
        call.keep(answered - sent, envelope.answer)
        self._clock.learn(envelope.date, sent, answered)
        report_deprecation(request, envelope)
        return envelope

    def _slow_down(self, slot: Slot, error: RateLimited) -> None:
        """Hold the fleet after a 429, and lower its rate. A wait of hours means a used-up quota, which says nothing
        about the rate: the rate stays, and the fleet need not hold for all that time, since the refused record does not
        become due earlier."""
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
        # The wait may last seconds, during which the batch may be paused.
        call.permit()
        return slot


# The kinds of calls whose deprecation this process has logged.
_DEPRECATED: set[str] = set()


def report_deprecation(request: Request, envelope: Envelope) -> None:
    """Write a log line if an answer says that its kind of call is deprecated; one line for each kind in a process."""
    date, message = (make_printable(envelope.headers.get(f"api-deprecation-{name}")) for name in ("date", "message"))
    if not (date or message) or (call := name_call(request)) in _DEPRECATED:
        return
    _DEPRECATED.add(call)
    # Not imported at the top: commands make calls too, and write no log.
    import structlog

    structlog.get_logger().warning("pingone_call_deprecated", call=call, date=date, message=message)


def name_call(request: Request) -> str:
    """Name a kind of call by its method and path without ids, as in `DELETE /users/{id}/devices/{id}`: below an
    environment, names and ids alternate in a path."""
    _, _, path = urlsplit(request.url).path.partition("/environments/")
    _, *segments = path.split("/")
    kinds = [segment if place % 2 == 0 else "{id}" for place, segment in enumerate(segments)]
    return f"{request.method} /{'/'.join(kinds)}"
