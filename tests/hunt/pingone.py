"""A PingOne small enough to be right by inspection. It keeps the journal by which the promises are judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from hunt.clock import Clock
from worker.pingone.wire import ACTIVATE, Request

Reply = tuple[int, dict[str, str], bytes]

# What PingOne made of a call.
ACTIVE, EXTRA, INVALID, REFUSED, WAITING, MISSING = "active", "extra", "invalid", "refused", "waiting", "missing"


@dataclass
class ModelDevice:
    """A token in a user's hands, and PingOne's object for it."""

    device_id: str
    user_id: str
    first: str
    second: str | None
    # Whether OTP 1 is right as it is, right but out of step, or wrong; and whether OTP 2 is.
    first_is: str
    second_is_right: bool
    # On the processes' clock: TOTP is no good after it, and a device just paired is not seen everywhere before it.
    good_until: float | None = None
    seen_from: float = 0.0
    is_active: bool = False
    is_locked: bool = False
    is_blocked: bool = False
    is_usable: bool = True
    is_deleted: bool = False
    failures: int = 0
    # 404s for a device that is there: a client that saw too many may take it for missing.
    misses: int = 0
    was_asked: bool = False
    taken: set[str] = field(default_factory=set)
    activated_by: Call | None = None


@dataclass
class Call:
    """One request whose first byte went out. Times on the processes' clock; None: it did not happen (yet)."""

    number: int
    device: ModelDevice
    # Which OTP it brought; 0 is a read.
    ordinal: int
    attempt: str
    sent_at: float
    # When PingOne will act on it. What it did nothing with was answered instead.
    acts_at: float | None = None
    acted_at: float | None = None
    did_nothing: bool = False
    verdict: str | None = None
    reply: Reply | None = None
    # When its worker read a whole answer; when it was certain that none would come.
    heard_at: float | None = None
    lost_at: float | None = None

    @property
    def is_post(self) -> bool:
        return self.ordinal > 0

    def __str__(self) -> str:
        what = f"OTP {self.ordinal}" if self.is_post else "read"
        return f"call {self.number} ({what}, {self.device.device_id[-4:]})"


@dataclass(frozen=True)
class Tenant:
    """What is not published, and differs: docs of the vendor leave it open."""

    locks_after: int = 99
    # Whether an OTP that was looked at once is good no more.
    uses_up_otps: bool = False
    # The answer to an OTP for a device that is ACTIVE already.
    says_when_active: str = REFUSED
    resync_on_first_call: bool = False


class ModelPingOne:
    """Devices, and the journal of what arrived. `arriving` sees every call before it is written down."""

    def __init__(self, clock: Clock, tenant: Tenant, arriving: Callable[[Call], None]) -> None:
        self._clock = clock
        self._tenant = tenant
        self._arriving = arriving
        self.devices: dict[str, ModelDevice] = {}
        self.journal: list[Call] = []
        self.charges: list[str] = []
        self._access_token = "access-token-0"

    def new_access_token(self) -> str:
        number = int(self._access_token.rpartition("-")[2]) + 1
        self._access_token = f"access-token-{number}"
        return self._access_token

    def arrive(self, request: Request) -> Call:
        """The first byte is here."""
        *_, user_id, _, device_id = request.url.split("/")
        device = self.devices[device_id]
        call = Call(
            number=len(self.journal) + 1,
            device=device,
            ordinal=self._ordinal(request, device),
            attempt=request.headers["X-Ping-External-Transaction-Id"],
            sent_at=self._clock.monotonic(),
        )
        if user_id != device.user_id or not request.headers["Authorization"].startswith("Bearer access-token-"):
            self.charges.append(f"{call} is malformed")
        self._arriving(call)
        self.journal.append(call)
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

    def is_done(self, call: Call) -> bool:
        """Nothing of it can take effect any more."""
        return call.acts_at is None or call.acted_at is not None

    def _ordinal(self, request: Request, device: ModelDevice) -> int:
        if request.method == "GET":
            return 0
        fields = json.loads(request.content)
        ordinal = {device.first: 1, device.second: 2}.get(fields["otp"], 0)
        is_resync = ordinal == 2 or self._tenant.resync_on_first_call
        if ordinal == 0 or fields.get("oathResync", False) != is_resync or request.headers["Content-Type"] != ACTIVATE:
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
        otp = device.first if call.ordinal == 1 else device.second or ""
        is_used_up = self._tenant.uses_up_otps and otp in device.taken
        device.taken.add(otp)
        if is_used_up or (device.good_until is not None and now > device.good_until):
            return INVALID
        if call.ordinal == 2:
            return ACTIVE if device.was_asked and device.second_is_right else INVALID
        return {"right": ACTIVE, "out_of_step": EXTRA, "wrong": INVALID}[device.first_is]

    def _reply(self, call: Call) -> Reply:
        device = call.device
        echo = f"the OTP {device.first if call.ordinal == 1 else device.second} was looked at"
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
