"""A PingOne small enough to be right by inspection: its inventory of tokens, the jobs that import tokens into it, its
people, and the pairings of tokens with them; then devices and their OTPs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from hunt.schedule import Clock, Dice
from hunt.tenant import (
    ACTIVE,
    EPOCH,
    EXTRA,
    FIND,
    FREE,
    IMPORT,
    INVALID,
    JOB,
    LIST,
    MADE,
    MISSING,
    PAIR,
    PEOPLE,
    POST,
    READ,
    REFUSED,
    REMOVED,
    REVOKE,
    SETTINGS,
    TAKEN,
    UNPAIR,
    WAITING,
    Call,
    ModelDevice,
    ModelSeed,
    Person,
    Reply,
    Tenant,
    answer,
)
from worker.pingone.wire import Request

if TYPE_CHECKING:
    from hunt.step_judge import StepJudge


# Seconds that a job takes at most.
LONGEST_JOB = 5.0


@dataclass
class Job:
    """A job, and the import that began it."""

    call: Call
    ends_at: float
    fails: bool
    state: str = "IN_PROGRESS"
    done: int = 0
    duplicates: tuple[str, ...] = ()
    was_told: bool = False


class ModelJobs:
    """Creates tokens that are not there, and leaves alone those that are."""

    def __init__(self, tenant: Tenant, dice: Dice, tokens: dict[str, ModelDevice]) -> None:
        self._tenant = tenant
        self._dice = dice
        self._tokens = tokens
        self._jobs: dict[str, Job] = {}

    def begin(self, call: Call, now: float) -> Reply:
        job_id = f"job-{len(self._jobs) + 1}"
        ends_at = now + self._dice.between("job", 0.0, LONGEST_JOB)
        self._jobs[job_id] = Job(call, ends_at, self._dice.happens("job_fails", 0.1))
        return answer(202, id=job_id, status="IN_PROGRESS")

    def end_due(self, now: float) -> None:
        """Whatever jobs have to do by now is done."""
        for job in self._jobs.values():
            if job.state == "IN_PROGRESS" and job.ends_at <= now:
                self._end(job)

    def find_end(self, call: Call) -> float | None:
        """When the job of an import has ended, or will; None: there is none."""
        return next((job.ends_at for job in self._jobs.values() if job.call is call), None)

    def tell(self, call: Call, job_id: str) -> Reply:
        """How far a job is; one that has ended may be told of once."""
        job = self._jobs.get(job_id)
        if job is None or job.was_told:
            return answer(404, "NOT_FOUND")
        call.verdict, call.previous = job.state, job.call
        told: dict[str, Any] = {"id": job_id, "status": job.state}
        if job.state != "IN_PROGRESS":
            job.was_told = self._tenant.forgets_jobs
            duplicates = [{"serialNumber": serial, "maskedSecret": "6E******"} for serial in job.duplicates]
            told["result"] = {"created": job.done, "duplicates": duplicates}
            if job.call.kind == REVOKE:
                told["result"] = {"revoked": job.done}
        return answer(200, **told)

    def _end(self, job: Job) -> None:
        if job.fails:
            job.state = "FAILED"
            return
        there = [self._tokens[serial] for serial in job.call.serial_numbers]
        if job.call.kind == REVOKE:
            # Paired ones stay.
            free = [token for token in there if token.is_in_inventory and not token.device_id]
            for token in free:
                token.is_in_inventory = False
            job.done, job.state = len(free), "DONE"
            return
        job.duplicates = tuple(token.serial_number for token in there if token.is_in_inventory)
        for token in there:
            if not token.is_in_inventory:
                token.is_in_inventory, token.imported_by = True, job.call
        job.done, job.state = len(there) - len(job.duplicates), "DONE"


# Tokens on a page.
PAGE = 2
_HASHES = {"sha1": "HmacSHA1", "sha256": "HmacSHA256", "sha512": "HmacSHA512"}


class ModelInventory:
    """Acts on the calls that are about no device. `making` is told of every pairing that makes a device,
    before it does."""

    def __init__(
        self, tenant: Tenant, dice: Dice, tokens: dict[str, ModelDevice], making: Callable[[Call], None]
    ) -> None:
        self._tenant = tenant
        self._dice = dice
        self._tokens = tokens
        self._making = making
        self._made = 0
        self.jobs = ModelJobs(tenant, dice, tokens)
        self._requests: dict[int, Request] = {}

    def arrive(self, call: Call, request: Request) -> None:
        """Keep a request until it acts."""
        self._requests[call.number] = request
        if call.kind == IMPORT:
            described = json.loads(request.content)["tokens"]
            call.serial_numbers = tuple(each["serialNumber"] for each in described)
        if call.kind == REVOKE:
            call.serial_numbers = tuple(each.removeprefix("token-") for each in json.loads(request.content)["tokenIds"])

    def act(self, call: Call, now: float) -> None:
        """Now it takes effect."""
        self.jobs.end_due(now)
        request = self._requests[call.number]
        call.reply = getattr(self, f"_{call.kind}")(call, request, now)

    def delete_old(self, now: float) -> None:
        """What has waited for activation too long is deleted."""
        for token in self._tokens.values():
            too_old = self._tenant.deletes_after is not None and now - token.made_at > self._tenant.deletes_after
            if too_old and token.device_id and not token.is_active:
                token.delete()

    def new_device_id(self, token: ModelDevice) -> str:
        self._made += 1
        return str(uuid.UUID(int=self._made << 32 | int(token.serial_number[-4:])))

    def _pair(self, call: Call, _: Request, now: float) -> Reply:
        token = call.device
        assert token is not None
        is_noticed = token.device_id and now >= token.seen_from
        if refusal := self._find_refusal(token):
            call.verdict = REFUSED
            return refusal
        if is_noticed:
            call.verdict = TAKEN
            return answer(400, "INVALID_DATA", "UNIQUENESS_VIOLATION", target="serialNumber")
        self._making(call)
        call.verdict, call.device_id = MADE, self.new_device_id(token)
        token.become(call.device_id, now, owner_id=call.user_id, made_by=call)
        if self._tenant.pairs_active:
            token.activated_by = call
            token.become_active()
        described: dict[str, object] = {"id": token.device_id, "type": "OATH_TOKEN"}
        if self._tenant.tells_status:
            described |= {"status": ACTIVE.upper() if token.is_active else "ACTIVATION_REQUIRED"}
            described |= {"serialNumber": token.serial_number, "user": {"id": token.owner_id}}
        return answer(201, **described)

    def _find_refusal(self, token: ModelDevice) -> Reply | None:
        if not token.is_in_inventory:
            return answer(400, "INVALID_DATA", "INVALID_VALUE", target="serialNumber")
        if not token.is_usable:
            return answer(400, "INVALID_REQUEST", "ACCOUNT_NOT_USABLE")
        if self._dice.happens("too_many_devices", 0.02):
            return answer(400, "REQUEST_FAILED", "LIMIT_EXCEEDED")
        return None

    def _find(self, call: Call, request: Request, now: float) -> Reply:
        """By serial number or by id, or among the devices of a user."""
        token, path = call.device, urlsplit(request.url)
        assert token is not None
        if path.path.endswith("/devices"):
            return self._list_devices(call, token, now)
        if not self._tenant.shows_inventory:
            return answer(403, "ACCESS_FAILED", "INSUFFICIENT_PERMISSIONS")
        query, by_id = parse_qs(path.query), path.path.rpartition("/")[2] == token.token_id
        shows = "expand" in query and (by_id or self._tenant.shows_devices_with_filter)
        described = self._describe(token, now, shows=shows) if token.is_in_inventory else None
        if described is None or (by_id and "devices" not in described):
            call.verdict = FREE
        elif "devices" in described:
            call.verdict, call.device_id = TAKEN, token.device_id
        if by_id:
            return answer(200, **described) if described else answer(404, "NOT_FOUND")
        listed = [described] if described else []
        return answer(200, _embedded={"oathTokens": listed}, count=len(listed))

    def _settings(self, _call: Call, _request: Request, _now: float) -> Reply:
        return answer(200, pairing={"maxAllowedDevices": 5})

    def _list_devices(self, call: Call, token: ModelDevice, now: float) -> Reply:
        is_shown = token.owner_id == call.user_id and now >= token.seen_from
        call.verdict, call.device_id = (TAKEN, token.device_id) if is_shown else (FREE, "")
        devices = [describe(token) | {"type": "OATH_TOKEN", "serialNumber": token.serial_number}]
        return answer(200, _embedded={"devices": devices if is_shown else []}, count=1 if is_shown else 0)

    def _list(self, call: Call, request: Request, now: float) -> Reply:
        """A page of the inventory, for who may import."""
        there = [token for token in self._tokens.values() if token.is_in_inventory]
        end = call.begins_with + PAGE
        page = [self._describe(token, now, shows=True) for token in there[call.begins_with : end]]
        links: dict[str, Any] = {"self": {"href": request.url}}
        call.is_last = end >= len(there)
        if not call.is_last:
            # The next page names this one.
            links["next"] = {"href": f"{request.url.partition('?')[0]}?cursor={call.number}.{end}"}
        return answer(200, _embedded={"oathTokens": page}, _links=links)

    def _import(self, call: Call, _request: Request, now: float) -> Reply:
        return self.jobs.begin(call, now)

    def _revoke(self, call: Call, _request: Request, now: float) -> Reply:
        return self.jobs.begin(call, now)

    def _unpair(self, call: Call, _request: Request, _now: float) -> Reply:
        token = call.device
        if token is None or (token.device_id, token.owner_id) != (call.device_id, call.user_id):
            return answer(404, "NOT_FOUND")
        token.delete()
        call.verdict = REMOVED
        return answer(204)

    def _job(self, call: Call, request: Request, _now: float) -> Reply:
        return self.jobs.tell(call, request.url.rpartition("/")[2])

    def _people(self, call: Call, request: Request, now: float) -> Reply:
        wanted = parse_qs(urlsplit(request.url).query)["filter"][0]
        people = [person for token in self._tokens.values() for person in token.people]
        users = [user for person in people if f'"{person.username}"' in wanted for user in _users(person)]
        return answer(200, _embedded={"users": users}, count=len(users))

    def _describe(self, token: ModelDevice, now: float, *, shows: bool) -> dict[str, Any]:
        described: dict[str, Any] = {"id": token.token_id, "serialNumber": token.serial_number}
        described |= describe_parameters(token)
        if token.is_different:
            described["hashAlgorithm"] = "HmacSHA512"
        if shows and token.device_id and now >= token.seen_from:
            described["devices"] = [{"id": token.device_id, "user": {"id": token.owner_id}}]
        return described


def describe_parameters(token: ModelDevice) -> dict[str, Any]:
    """In PingOne's words. Of a pair's token nothing is known."""
    if token.seed is None:
        return {}
    seed = token.seed.seed
    described: dict[str, Any] = {"type": seed.otp_type.upper(), "otpLength": seed.digits}
    described["hashAlgorithm"] = _HASHES[seed.hash_algorithm]
    return described | ({"totp": {"timeStep": seed.time_step}} if seed.time_step else {})


def _users(person: Person) -> Iterator[dict[str, Any]]:
    if person.kind == "none":
        return
    yield {"id": person.user_id, "username": person.username, "enabled": person.kind != "disabled"}
    if person.kind == "two":
        yield {"id": str(uuid.UUID(int=5)), "username": person.username, "enabled": True}


# By serial number.
Tokens = Mapping[str, ModelDevice]


def recognize(request: Request, tokens: Tokens) -> tuple[str, ModelDevice | None]:
    """What a request is for, and which token it is about."""
    url = urlsplit(request.url)
    match url.path.split("/")[4:]:
        case ["users", _, "devices", device_id] if request.method == "DELETE":
            return UNPAIR, _find_device(device_id, tokens)
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
            return (REVOKE if "revoke" in request.headers["Content-Type"] else IMPORT), None
        case ["oathJobs", _]:
            return JOB, None
    raise AssertionError(f"nobody answers at {request.url}")


def is_malformed(request: Request, call: Call, tokens: Tokens) -> bool:
    """Whether nobody may send this: to another person than the assignment says, or with other parameters than the
    seed's. A read changes nothing, and may be for the person whom the assignment named before."""
    is_wrong = not request.headers["Authorization"].startswith("Bearer access-token-")
    if call.kind in (POST, PAIR):
        is_wrong |= call.device is None or call.user_id != call.device.user_id
    if call.kind in (READ, UNPAIR):
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
        if kind == POST:
            call.has_flag = bool(json.loads(request.content).get("oathResync", False))
        if kind in (READ, POST, UNPAIR):
            call.device_id = request.url.rpartition("/")[2]
        if kind not in (READ, POST):
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
            or request.headers["Content-Type"] != "application/vnd.pingidentity.device.activate+json"
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
        "createdAt": datetime.fromtimestamp(EPOCH + device.made_at, UTC).isoformat(),
    }
