"""Imports and revocations of tokens, one by one or in jobs. The caller holds the simulation's lock meanwhile.

https://developer.pingidentity.com/pingone-api (OATH tokens)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from worker.simulator.calls import HTML, Answer, Call, Refused, invalid, missing, refusal, success, timestamp
from worker.simulator.oath import Hash, OtpType
from worker.simulator.reads import answer_page, bad_parameter, read_filter_of
from worker.simulator.simulation import Simulation
from worker.simulator.world import MOST_TOKENS, InventoryToken, Job, JobType, Term

T = TypeVar("T")

# Tokens in the list of a job. PingOne's limit is not published.
MOST_JOB_TOKENS = 1000

_SERIAL_NUMBER = re.compile(r"[A-Za-z0-9]{1,50}")
_SECRET = re.compile(r"(?:[0-9A-Fa-f]{2}){1,100}")
_HASHES: Mapping[str, Hash] = {"HmacSHA1": "sha1", "HmacSHA256": "sha256", "HmacSHA512": "sha512"}
_HASH_NAMES = {hash_name: name for name, hash_name in _HASHES.items()}
_TYPES: Mapping[str, OtpType] = {"HOTP": "hotp", "TOTP": "totp"}


def token_body(token: InventoryToken, *, is_expanded: bool) -> dict[str, Any]:
    """A token as JSON, never with its secret; with the device that it is paired as, if that was asked for."""
    body: dict[str, Any] = {
        "id": token.id,
        "environment": {"id": token.environment_id},
        "serialNumber": token.serial_number,
        "type": token.type.upper(),
        "otpLength": token.digits,
        "hashAlgorithm": _HASH_NAMES[token.hash],
        "createdAt": timestamp(token.created_at),
    }
    if token.type == "totp":
        body["totp"] = {"timeStep": token.time_step, "drift": token.drift}
    else:
        body["hotp"] = {"counter": token.counter}
    if is_expanded and (device := token.device):
        body["devices"] = [{"id": device.id, "user": {"id": device.user.id}}]
    return body


def _job_body(job: Job, root: str) -> dict[str, Any]:
    """A job as JSON. Its link says /jobs/, as the vendor's example does, where no call answers."""
    body: dict[str, Any] = {
        "_links": {"self": {"href": f"{root}/v1/environments/{job.environment_id}/jobs/{job.id}"}},
        "id": job.id,
        "environment": {"id": job.environment_id},
        "type": job.type,
        "async": True,
        "status": job.status,
    }
    match job.status, job.type:
        case "FAILED", _:
            body["reason"] = job.reason
        case "DONE", "REVOKE_OATH_TOKENS":
            body["result"] = {"revoked": len(job.token_ids)}
        case "DONE", _:
            duplicates = [{"serialNumber": serial, "maskedSecret": masked} for serial, masked in job.duplicates]
            body["result"] = {"created": len(job.token_ids), "duplicates": duplicates}
    return body


def create_token(call: Call, simulation: Simulation) -> Answer:
    """Import one token. Raises Refused."""
    inventory, environment_id = simulation.world.inventory, call.environment_id
    token = _read_new_token(call.fields(), "", call, simulation)
    if inventory.find(environment_id, token.serial_number):
        return refusal(400, "INVALID_DATA", "UNIQUENESS_VIOLATION", target="serialNumber")
    if not inventory.has_room(environment_id, 1):
        return refusal(400, "REQUEST_FAILED", "LIMIT_EXCEEDED", inner={"maximumAllowed": MOST_TOKENS})
    inventory.add(token)
    location = f"{call.root}/v1/environments/{environment_id}/oathTokens/{token.id}"
    return success(token_body(token, is_expanded=False), 201).with_header("location", location)


def revoke_token(call: Call, simulation: Simulation) -> Answer:
    """Revoke one token, which unpairs it. Raises Refused."""
    simulation.world.revoke(_find_token(call, simulation))
    return Answer(204)


def read_token(call: Call, simulation: Simulation) -> Answer:
    """Answer the read of one token. Raises Refused."""
    return success(token_body(_find_token(call, simulation), is_expanded=_is_expanded(call)))


def list_tokens(call: Call, simulation: Simulation) -> Answer:
    """List the tokens of an environment, with a filter on the serial number. Raises Refused."""
    wanted, inventory = read_filter_of(call, ("serialNumber",), simulation.settings), simulation.world.inventory
    tokens = inventory.tokens(call.environment_id)
    if wanted is not None:

        def find(term: Term) -> Collection[InventoryToken]:
            token = inventory.find(call.environment_id, term[1])
            return () if token is None else (token,)

        candidates = wanted.find_candidates(("serialNumber",), find, tokens)
        tokens = [token for token in candidates if wanted.admits({"serialNumber": token.serial_number})]
    body = partial(token_body, is_expanded=_is_expanded(call))
    return answer_page("oathTokens", tokens, call, simulation.settings, body)


def import_tokens(call: Call, simulation: Simulation) -> Answer:
    """Take a job that imports tokens. Raises Refused."""
    fields = _read_list(call, "CREATE_OATH_TOKENS", "tokens")
    tokens = [
        _read_new_token(each, f"tokens[{number}]", call, simulation) for number, each in enumerate(fields["tokens"])
    ]
    return _take("CREATE_OATH_TOKENS", call, simulation, tokens=tuple(tokens))


def revoke_tokens(call: Call, simulation: Simulation) -> Answer:
    """Take a job that revokes tokens. Raises Refused."""
    fields = _read_list(call, "REVOKE_OATH_TOKENS", "tokenIds")
    if "async" not in fields:
        raise missing("async")
    wanted, is_forced = fields["tokenIds"], fields.get("forceUnpair") is True
    if not all(isinstance(token_id, str) for token_id in wanted):
        raise invalid("tokenIds")
    return _take("REVOKE_OATH_TOKENS", call, simulation, wanted=tuple(wanted), force_unpair=is_forced)


def read_job(call: Call, simulation: Simulation) -> Answer:
    """Answer the read of a job."""
    job = simulation.world.jobs.get(call.resource_id)
    if job is None or job.environment_id != call.environment_id:
        return refusal(404, "NOT_FOUND")
    return success(_job_body(job, call.root))


def _read_list(call: Call, job_type: JobType, name: str) -> dict[str, Any]:
    """Read the body of a request for a job, whose list has this name. Raises Refused."""
    fields = call.fields()
    if fields.get("type") != job_type:
        raise missing("type") if fields.get("type") is None else invalid("type")
    listed = fields.get(name)
    if not isinstance(listed, list) or not listed:
        raise invalid(name) if listed else missing(name)
    if len(listed) > MOST_JOB_TOKENS:
        raise Refused(Answer(413, b"<!doctype html><title>Request Entity Too Large</title>", HTML))
    return fields


def _take(job_type: JobType, call: Call, simulation: Simulation, **what: Any) -> Answer:
    """Take a job, and answer with its id."""
    now = simulation.unix_time()
    job = Job(environment_id=call.environment_id, type=job_type, ends_at=now + simulation.settings.job_takes, **what)
    simulation.world.take_job(job, now)
    location = f"{call.root}/v1/environments/{job.environment_id}/oathJobs/{job.id}"
    return success(_job_body(job, call.root), 201).with_header("location", location)


def _find_token(call: Call, simulation: Simulation) -> InventoryToken:
    """The token that the path names. Raises Refused."""
    token = simulation.world.inventory.find_by_id(call.environment_id, call.resource_id)
    if token is None:
        raise Refused(refusal(404, "NOT_FOUND"))
    return token


def _is_expanded(call: Call) -> bool:
    """Whether a request asks for a token's devices. Raises Refused for anything else to expand."""
    wanted = call.parameters.get("expand")
    if wanted not in (None, "devices"):
        raise bad_parameter("expand")
    return wanted is not None


def _read_new_token(fields: object, place: str, call: Call, simulation: Simulation) -> InventoryToken:
    """Read a token as a client sends it, at this place in a list or, if that is empty, by itself. Raises Refused."""
    reader = _TokenReader(fields, place)
    otp_type = reader.choose("type", _TYPES)
    is_totp = otp_type == "totp"
    serial_number = reader.match("serialNumber", _SERIAL_NUMBER)
    counter = 0 if is_totp else reader.read_number("hotp", "counter", range(2**63), default=0)
    return InventoryToken(
        id=str(uuid4()),
        environment_id=call.environment_id,
        serial_number=serial_number,
        secret=bytes.fromhex(reader.match("secret", _SECRET)),
        type=otp_type,
        digits=reader.read_number(None, "otpLength", (6, 8)),
        hash=reader.choose("hashAlgorithm", _HASHES if is_totp else {"HmacSHA1": "sha1"}, default="HmacSHA1"),
        time_step=reader.read_number("totp", "timeStep", (30, 60)) if is_totp else 30,
        counter=counter,
        pressed=counter,
        out_of_step=serial_number in simulation.world.out_of_step,
        created_at=simulation.unix_time(),
    )


class _TokenReader:
    """Reads the fields of a token; each method raises Refused with the name of the field that is missing or wrong."""

    def __init__(self, fields: object, place: str) -> None:
        self._place = place
        if not isinstance(fields, dict):
            raise missing(place)
        self._fields: dict[str, Any] = fields

    def match(self, name: str, pattern: re.Pattern[str]) -> str:
        """Read a text of this form."""
        value = self._take(self._fields, name, name)
        if not (isinstance(value, str) and pattern.fullmatch(value)):
            raise invalid(self._name(name))
        return value

    def choose(self, name: str, choices: Mapping[str, T], default: str | None = None) -> T:
        """Read one of these words, and return what it stands for."""
        value = self._take(self._fields, name, name, default)
        if not (isinstance(value, str) and value in choices):
            raise invalid(self._name(name))
        return choices[value]

    def read_number(self, parent: str | None, name: str, permitted: Collection[int], default: int | None = None) -> int:
        """Read one of these numbers, inside of another field if `parent` is its name."""
        fields, full_name = self._fields, name if parent is None else f"{parent}.{name}"
        if parent is not None:
            fields = self._fields.get(parent) or {}
            if not isinstance(fields, dict):
                raise invalid(self._name(parent))
        value = self._take(fields, name, full_name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value not in permitted:
            raise invalid(self._name(full_name))
        return value

    def _take(self, fields: Mapping[str, Any], name: str, full_name: str, default: object = None) -> object:
        value = fields.get(name)
        if value is None and default is None:
            raise missing(self._name(full_name))
        return default if value is None else value

    def _name(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name
