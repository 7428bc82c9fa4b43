"""pingone: the calls that the rest of the program makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from worker.config.settings import Environment
from worker.pace.slot import Slot
from worker.pace.slots import Pace
from worker.pingone.auth import AccessTokens
from worker.pingone.errors import NotDelivered, OtherDevice, OutcomeUnknown, PingOneError, RateLimited
from worker.pingone.hold_reasons import why_held
from worker.pingone.retrying import Policy
from worker.pingone.transport import Transport
from worker.pingone.wire import (
    Device,
    Request,
    activation_request,
    authorized,
    device_request,
    parse_activation,
    parse_device,
)
from worker.vault.otp import Otp

# Makes an answer's status, headers and body a device, or raises the error that they stand for.
Parse = Callable[[int, Mapping[str, str], bytes], Device]

# Seconds the fleet holds after a 429 that does not say for how long.
SHORTEST_HOLD = 1.0


@dataclass
class Call:
    """One attempt's view of its calls: what goes with them, and the count of what went out.

    `session_id` and `transaction_id` (the batch and the record) come back in PingOne's audit records.
    `slot`: one that the caller has waited for already; the first try takes it. `send_before`, in
    `boot_time` seconds: no first byte goes out later. `permit` is asked before every try of a call but
    its first, and whenever a try has waited for its slot; it raises what it likes to stop. `requests` counts
    those whose first byte went out, `rate_limited` the 429s among them."""

    session_id: str
    transaction_id: str
    slot: Slot | None = None
    send_before: float | None = None
    permit: Callable[[], None] = lambda: None
    requests: int = 0
    rate_limited: int = 0


class Client:
    """PingOne, for one thread and one environment. Every method may raise any PingOneError; times are in
    seconds.

    One exchange ends within `deadline`; a call makes tries for `retry_for` at most, then lets the last one
    end."""

    def __init__(
        self,
        environment: Environment,
        access_tokens: AccessTokens,
        pace: Pace,
        *,
        deadline: float = 20.0,
        outage_hold: float = 5.0,
        retry_for: float = 10.0,
    ) -> None:
        self._environment = environment
        self._access_tokens = access_tokens
        self._pace = pace
        self._transport = Transport(deadline=deadline)
        self._policy = Policy(pace, seconds=retry_for, outage_hold=outage_hold)

    def activate(self, user_id: str, device_id: str, otp: Otp, *, resync: bool, call: Call) -> Device:
        """The device, ACTIVE."""
        request = activation_request(
            self._environment,
            user_id,
            device_id,
            otp,
            resync=resync,
            session_id=call.session_id,
            transaction_id=call.transaction_id,
        )
        return self._perform(request, partial(parse_activation, user_id=user_id, device_id=device_id), call)

    def read_device(self, user_id: str, device_id: str, *, call: Call) -> Device:
        request = device_request(
            self._environment,
            user_id,
            device_id,
            session_id=call.session_id,
            transaction_id=call.transaction_id,
        )
        return self._perform(request, partial(parse_device, user_id=user_id, device_id=device_id), call)

    def close(self) -> None:
        self._transport.close()

    def _perform(self, request: Request, parse: Parse, call: Call) -> Device:
        access_token = ""

        def attempt() -> Device:
            nonlocal access_token
            # Before the slot, which a slow token endpoint would let lapse.
            access_token = self._access_tokens.get()
            slot = self._take_slot(call)
            return self._try(authorized(request, access_token), slot, parse, call)

        return self._policy.run(attempt, permit=call.permit, renew=lambda: self._access_tokens.renew(access_token))

    def _try(self, request: Request, slot: Slot, parse: Parse, call: Call) -> Device:
        """One request, counted if its first byte went out. What became of its slot moves the pace."""
        self._pace.wait_to_leave()
        try:
            answer = self._transport.exchange(request, send_before=call.send_before)
        except NotDelivered:
            raise
        except BaseException:
            # Whatever else happened, a byte may have gone out.
            call.requests += 1
            raise
        call.requests += 1
        try:
            device = parse(*answer)
        except RateLimited as error:
            call.rate_limited += 1
            self._refused(slot, error)
            raise
        except OtherDevice:
            # Whatever comes next on this connection may be another's answer as well.
            self._transport.drop(request.url)
            raise
        except OutcomeUnknown:
            # Whatever answered in PingOne's place may have no limit.
            raise
        except PingOneError:
            self._pace.report_answer(slot)
            raise
        self._pace.report_answer(slot)
        return device

    def _refused(self, slot: Slot, error: RateLimited) -> None:
        """A wait of hours is a used-up quota, and says nothing of the rate; who is refused for it does not come back
        before, so that the fleet need not be held for all that time."""
        seconds, why = error.retry_after or SHORTEST_HOLD, why_held(error)
        if seconds > self._pace.longest_hold:
            self._pace.hold(seconds, why)
        else:
            self._pace.report_refusal(slot, seconds, why)

    def _take_slot(self, call: Call) -> Slot:
        if call.slot is not None:
            slot, call.slot = call.slot, None
            return slot
        slot = self._pace.wait()
        # The wait may last seconds, and the batch be paused meanwhile.
        call.permit()
        return slot
