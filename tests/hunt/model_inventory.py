"""PingOne's inventory of tokens, the jobs that import tokens into it, its people, and the pairings of tokens with
them."""

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hunt.dice import Dice
from hunt.tenant import ACTIVE, FREE, IMPORT, MADE, REFUSED, TAKEN, Call, ModelDevice, Person, Reply, Tenant, answer
from worker.pingone.wire import Request

# Seconds that a job takes at most.
LONGEST_JOB = 5.0


@dataclass
class Job:
    """A job, and the import that began it."""

    call: Call
    ends_at: float
    fails: bool
    state: str = "IN_PROGRESS"
    created: int = 0
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
            told["result"] = {"created": job.created, "duplicates": duplicates}
        return answer(200, **told)

    def _end(self, job: Job) -> None:
        if job.fails:
            job.state = "FAILED"
            return
        there = [self._tokens[serial] for serial in job.call.serial_numbers]
        job.duplicates = tuple(token.serial_number for token in there if token.is_in_inventory)
        for token in there:
            if not token.is_in_inventory:
                token.is_in_inventory, token.imported_by = True, job.call
        job.created, job.state = len(there) - len(job.duplicates), "DONE"


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
        devices = [{"id": token.device_id, "type": "OATH_TOKEN", "serialNumber": token.serial_number}]
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
