"""A PingOne small enough to be right by inspection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from hunt.dice import Dice
from hunt.model_inventory import ModelInventory, describe_parameters
from hunt.strands import Clock
from hunt.tenant import (
    ACTIVE,
    EXTRA,
    FIND,
    IMPORT,
    INVALID,
    JOB,
    LIST,
    MISSING,
    PAIR,
    PEOPLE,
    POST,
    READ,
    REFUSED,
    SETTINGS,
    WAITING,
    Call,
    ModelDevice,
    ModelSeed,
    Reply,
    Tenant,
    answer,
)
from worker.pingone.devices import ACTIVATE_MEDIA_TYPE
from worker.pingone.wire import Request

if TYPE_CHECKING:
    from hunt.step_judge import StepJudge

# By serial number.
Tokens = Mapping[str, ModelDevice]


def recognize(request: Request, tokens: Tokens) -> tuple[str, ModelDevice | None]:
    """What a request is for, and which token it is about."""
    url = urlsplit(request.url)
    match url.path.split("/")[4:]:
        case ["users", _, "devices", device_id]:
            return (POST if request.method == "POST" else READ), _find_device(device_id, tokens)
        case ["users", _, "devices"] if request.method == "POST":
            return PAIR, tokens[json.loads(request.content)["serialNumber"]]
        case ["users", user_id, "devices"]:
            return FIND, next(each for each in tokens.values() if user_id in _find_user_ids(each))
        case ["users"]:
            return PEOPLE, None
        case ["oathTokens", token_id]:
            return FIND, tokens[token_id.removeprefix("token-")]
        case ["oathTokens"] if filter_ := parse_qs(url.query).get("filter"):
            return FIND, tokens[filter_[0].split('"')[1]]
        case ["oathTokens"]:
            return LIST, None
        case ["mfaSettings"]:
            return SETTINGS, None
        case ["oathJobs"]:
            return IMPORT, None
        case ["oathJobs", _]:
            return JOB, None
    raise AssertionError(f"nobody answers at {request.url}")


def is_malformed(request: Request, call: Call, tokens: Tokens) -> bool:
    """Whether nobody may send this: to another person than the assignment says, or with other parameters than the
    seed's. A read changes nothing, and may be for the person whom the assignment named before."""
    is_wrong = not request.headers["Authorization"].startswith("Bearer access-token-")
    if call.kind in (POST, PAIR):
        is_wrong |= call.device is None or call.user_id != call.device.user_id
    if call.kind == READ:
        is_wrong |= call.device is None or call.user_id not in _find_user_ids(call.device)
    if call.kind == IMPORT:
        described = json.loads(request.content)["tokens"]
        is_wrong |= any(_has_wrong_parameters(each, tokens[each["serialNumber"]]) for each in described)
    return is_wrong


def find_user(request: Request) -> str:
    """The id of the user whom a request is about; empty: of none."""
    return request.url.partition("/users/")[2].partition("/")[0]


def _find_user_ids(token: ModelDevice) -> set[str]:
    return {person.user_id for person in token.people}


def _find_device(device_id: str, tokens: Tokens) -> ModelDevice | None:
    """The token that has, or had, this device."""
    return next((each for each in tokens.values() if device_id in (each.device_id, *each.former_ids)), None)


def _has_wrong_parameters(described: Mapping[str, Any], token: ModelDevice) -> bool:
    """Whether a token is to be imported otherwise than as its seed says."""
    if token.seed is None:
        return True
    is_secret_right = described.get("secret") == token.seed.seed.secret.reveal().hex().upper()
    wanted = describe_parameters(token)
    return not is_secret_right or any(described.get(name) != value for name, value in wanted.items())


class ModelPingOne:
    """Tokens with their devices, by serial number, and the calls that arrived. The judge, who is there before the first
    of them, is told of each when it begins, when its first byte goes out, and when a pairing makes a device."""

    judge: StepJudge

    def __init__(self, clock: Clock, tenant: Tenant, dice: Dice) -> None:
        self._clock = clock
        self._tenant = tenant
        self.devices: dict[str, ModelDevice] = {}
        self.calls: list[Call] = []
        self.charges: list[str] = []
        self.inventory = ModelInventory(tenant, dice, self.devices, lambda call: self.judge.making(call))
        self._access_token = "access-token-0"

    def new_access_token(self) -> str:
        number = int(self._access_token.rpartition("-")[2]) + 1
        self._access_token = f"access-token-{number}"
        return self._access_token

    def expect(self, request: Request) -> None:
        """Somebody begins a call."""
        batch_id = request.headers["X-Ping-External-Session-Id"].rpartition("-")[2]
        kind, _ = recognize(request, self.devices)
        self.judge.beginning(int(batch_id), is_change=kind in (POST, PAIR, IMPORT))

    def arrive(self, request: Request) -> Call:
        """The first byte is here."""
        kind, device = recognize(request, self.devices)
        otp = self._otp(request) if kind == POST else ""
        call = Call(
            number=len(self.calls) + 1,
            device=device,
            ordinal=self._ordinal(request, device, otp) if device and kind == POST else 0,
            attempt=request.headers["X-Ping-External-Transaction-Id"],
            sent_at=self._clock.monotonic(),
            otp=otp,
            counter=device.seed.find(otp, self._clock.monotonic()) if device and device.seed and otp else None,
            kind=kind,
            user_id=find_user(request),
        )
        if kind in (READ, POST):
            call.device_id = request.url.rpartition("/")[2]
        else:
            self._look_at(call, request)
        if is_malformed(request, call, self.devices):
            self.charges.append(f"{call} is malformed")
        self.judge.arriving(call)
        self.calls.append(call)
        return call

    def act(self, call: Call) -> None:
        """Now it takes effect."""
        now = call.acted_at = self._clock.monotonic()
        self.inventory.delete_old(now)
        if call.kind not in (READ, POST):
            self.inventory.act(call, now)
            return
        device = call.device
        assert device is not None
        is_unseen = now < device.seen_from and device.misses < 3
        if (call.device_id, call.user_id) != (device.device_id, device.owner_id) or is_unseen:
            device.misses += 1
            call.did_nothing = call.is_post
            call.verdict, call.reply = MISSING, answer(404, "NOT_FOUND")
        elif call.is_post:
            self._take_otp(call)
        else:
            call.verdict = ACTIVE if device.is_active else WAITING
            call.reply = answer(200, **describe(device))

    def note_heard(self, call: Call) -> None:
        """A worker has read the whole answer to a call."""
        # Only what the answer said counts: somebody may have made the device ACTIVE since.
        is_told = call.kind == PAIR and self._tenant.tells_status and self._tenant.pairs_active
        if is_told and call.device and call.device_id in call.device.active_ids:
            call.device.told_active_ids.add(call.device_id)

    def _look_at(self, call: Call, request: Request) -> None:
        """What a call says that is about no device."""
        self.inventory.arrive(call, request)
        cursor = parse_qs(urlsplit(request.url).query).get("cursor")
        if call.kind == LIST and cursor:
            before, _, begins_with = cursor[0].partition(".")
            call.previous, call.begins_with = self.calls[int(before) - 1], int(begins_with)

    def _otp(self, request: Request) -> str:
        """The OTP that a post brings."""
        return str(json.loads(request.content)["otp"])

    def _ordinal(self, request: Request, device: ModelDevice, otp: str) -> int:
        """Which OTP a post brings. Of a seed's OTP only its record says whether it is OTP 1 or 2."""
        fields = json.loads(request.content)
        known = {pair.first: 1 for pair in device.pairs} | {pair.second: 2 for pair in device.pairs}
        ordinal = self.judge.row_of(device).marked if device.seed else known.get(otp, 0)
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
            device.activated_by = call
            device.become_active()
        if call.verdict == EXTRA:
            device.asked.add(call.otp)
        call.reply = self._reply(call)

    def _judge(self, call: Call) -> str:
        device, now = call.device, self._clock.monotonic()
        if device.seed is not None:
            return self._judge_counter(call, device, device.seed)
        pairs = [pair for pair in device.find_pairs(call.otp) if pair.good_until is None or now <= pair.good_until]
        is_used_up = self._tenant.uses_up_otps and call.otp in device.taken
        device.taken.add(call.otp)
        if is_used_up or not pairs:
            return INVALID
        if call.ordinal == 2:
            return ACTIVE if any(pair.first in device.asked and pair.second_is_right for pair in pairs) else INVALID
        return {"right": ACTIVE, "out_of_step": EXTRA, "wrong": INVALID}[pairs[-1].first_is]

    def _judge_counter(self, call: Call, device: ModelDevice, seed: ModelSeed) -> str:
        """An OTP of a seed: no counter is taken twice, and one that is out of step needs the one right after it."""
        asked_after, device.asked_after = device.asked_after, None
        token = device.pairs[0]
        if call.counter is None or call.otp in device.taken or token.first_is == "wrong":
            return INVALID
        device.taken.add(call.otp)
        if asked_after is not None and call.counter == asked_after + 1:
            # The one that was asked for, which has to come with `oathResync`.
            has_flag = call.ordinal == 2 or self._tenant.resync_on_first_call
            return ACTIVE if token.second_is_right and has_flag else INVALID
        if token.first_is == "right":
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
