"""A PingOne small enough to be right by inspection."""

from __future__ import annotations

import json
from collections.abc import Callable

from hunt.clock import Clock
from hunt.tenant import (
    ACTIVE,
    EXTRA,
    INVALID,
    MISSING,
    REFUSED,
    WAITING,
    Call,
    ModelDevice,
    ModelSeed,
    Reply,
    Tenant,
)
from worker.pingone.wire import ACTIVATE_MEDIA_TYPE, Request


class ModelPingOne:
    """Devices, and the calls that arrived. `beginning` is told of every call when it is begun (the device's id,
    and whether it is a post), `arriving` when its first byte goes out. `marked` says which OTP of a device's record is
    committed as going out."""

    def __init__(
        self,
        clock: Clock,
        tenant: Tenant,
        beginning: Callable[[str, bool], None],
        arriving: Callable[[Call], None],
        marked: Callable[[str], int],
    ) -> None:
        self._clock = clock
        self._tenant = tenant
        self._beginning = beginning
        self._arriving = arriving
        self._marked = marked
        self.devices: dict[str, ModelDevice] = {}
        self.calls: list[Call] = []
        self.charges: list[str] = []
        self._access_token = "access-token-0"

    def new_access_token(self) -> str:
        number = int(self._access_token.rpartition("-")[2]) + 1
        self._access_token = f"access-token-{number}"
        return self._access_token

    def expect(self, request: Request) -> None:
        """Somebody begins a call."""
        self._beginning(request.url.rpartition("/")[2], request.method == "POST")

    def arrive(self, request: Request) -> Call:
        """The first byte is here."""
        *_, user_id, _, device_id = request.url.split("/")
        device = self.devices[device_id]
        otp = self._otp(request)
        call = Call(
            number=len(self.calls) + 1,
            device=device,
            ordinal=self._ordinal(request, device, otp),
            attempt=request.headers["X-Ping-External-Transaction-Id"],
            sent_at=self._clock.monotonic(),
            otp=otp,
            counter=device.seed.find(otp, self._clock.monotonic()) if device.seed and otp else None,
        )
        if user_id != device.user_id or not request.headers["Authorization"].startswith("Bearer access-token-"):
            self.charges.append(f"{call} is malformed")
        self._arriving(call)
        self.calls.append(call)
        return call

    def act(self, call: Call) -> None:
        """Now it takes effect."""
        call.acted_at = self._clock.monotonic()
        device = call.device
        is_unseen = call.acted_at < device.seen_from and device.misses < 3
        if device.is_deleted or is_unseen:
            device.misses += 1
            call.did_nothing = call.is_post
            call.verdict, call.reply = MISSING, answer(404, "NOT_FOUND")
        elif call.is_post:
            self._take_otp(call)
        else:
            call.verdict = ACTIVE if device.is_active else WAITING
            call.reply = answer(200, **describe(device))

    def _otp(self, request: Request) -> str:
        """The OTP that a post brings; empty for a read."""
        return "" if request.method == "GET" else str(json.loads(request.content)["otp"])

    def _ordinal(self, request: Request, device: ModelDevice, otp: str) -> int:
        """Which OTP a post brings, 0 for a read. Of a seed's OTP only its record says whether it is OTP 1 or 2."""
        if request.method == "GET":
            return 0
        fields = json.loads(request.content)
        known = {device.first: 1, device.second: 2}
        ordinal = self._marked(device.device_id) if device.seed else known.get(otp, 0)
        is_resync = ordinal == 2 or self._tenant.resync_on_first_call
        if (
            ordinal == 0
            or fields.get("oathResync", False) != is_resync
            or request.headers["Content-Type"] != ACTIVATE_MEDIA_TYPE
        ):
            self.charges.append(f"a post to {device.device_id} is malformed")
        return ordinal

    def _take_otp(self, call: Call) -> None:
        device = call.device
        if device.is_active:
            call.verdict = self._tenant.says_when_active
        elif device.is_locked or device.is_blocked or not device.is_usable:
            call.verdict = REFUSED
        else:
            call.verdict = self._judge(call)
        if call.verdict == INVALID:
            device.failures += 1
            device.is_locked |= device.failures >= self._tenant.locks_after
        if call.verdict == ACTIVE and not device.is_active:
            device.is_active, device.activated_by = True, call
        device.was_asked |= call.verdict == EXTRA
        call.reply = self._reply(call)

    def _judge(self, call: Call) -> str:
        device, now = call.device, self._clock.monotonic()
        if device.seed is not None:
            return self._judge_counter(call, device, device.seed)
        otp = device.first if call.ordinal == 1 else device.second or ""
        is_used_up = self._tenant.uses_up_otps and otp in device.taken
        device.taken.add(otp)
        if is_used_up or (device.good_until is not None and now > device.good_until):
            return INVALID
        if call.ordinal == 2:
            return ACTIVE if device.was_asked and device.second_is_right else INVALID
        return {"right": ACTIVE, "out_of_step": EXTRA, "wrong": INVALID}[device.first_is]

    def _judge_counter(self, call: Call, device: ModelDevice, seed: ModelSeed) -> str:
        """An OTP of a seed: no counter is taken twice, and one that is out of step needs the one right after it."""
        asked_after, device.asked_after = device.asked_after, None
        if call.counter is None or call.otp in device.taken or device.first_is == "wrong":
            return INVALID
        device.taken.add(call.otp)
        if asked_after is not None and call.counter == asked_after + 1:
            # The one that was asked for, which has to come with `oathResync`.
            has_flag = call.ordinal == 2 or self._tenant.resync_on_first_call
            return ACTIVE if device.second_is_right and has_flag else INVALID
        if device.first_is == "right":
            return ACTIVE
        device.asked_after = call.counter
        return EXTRA

    def _reply(self, call: Call) -> Reply:
        device = call.device
        echo = f"the OTP {call.otp} was looked at"
        if call.verdict == ACTIVE:
            return answer(200, **describe(device))
        if call.verdict == EXTRA:
            return answer(400, "INVALID_DATA", "EXTRA_OTP_REQUIRED", message=echo)
        if call.verdict == INVALID:
            return answer(400, "INVALID_DATA", "INVALID_OTP", message=echo)
        if not device.is_usable:
            return answer(400, "INVALID_REQUEST", "ACCOUNT_NOT_USABLE", message=echo)
        return answer(400, "REQUEST_FAILED", message=echo)


def describe(device: ModelDevice) -> dict[str, object]:
    return {
        "id": device.device_id,
        "status": "ACTIVE" if device.is_active else "ACTIVATION_REQUIRED",
        "lock": {"status": "LOCKED" if device.is_locked else "UNLOCKED"},
        "block": {"status": "BLOCKED" if device.is_blocked else "UNBLOCKED"},
    }


def answer(
    status: int, code: str | None = None, detail: str | None = None, /, retry_after: int | None = None, **fields: object
) -> Reply:
    """An answer as it stands on the wire."""
    headers = {"content-type": "application/json", "correlation-id": "correlation-1"}
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    if code is not None:
        fields |= {"id": "error-1", "code": code, "details": [{"code": detail, "target": "otp"}] if detail else []}
    return status, headers, json.dumps(fields).encode()
