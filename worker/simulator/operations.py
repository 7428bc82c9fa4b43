"""The operations: what each call does to the world, and how it is answered. The caller holds the simulation's lock
meanwhile.

https://developer.pingidentity.com/pingone-api (MFA devices, users, OATH tokens, device authentication policies)
https://docs.pingidentity.com/pingone/directory/p1_scim_filter_language.html
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pydantic import Field

from worker.simulator.calls import HTML, Answer, Body, Call, Refused, invalid, missing, refusal, success, timestamp
from worker.simulator.oath import Hash, OtpType, Verdict
from worker.simulator.world import Device, InventoryToken, Job, Settings, Simulation, Status, Term, User

T = TypeVar("T")

# The names by which a filter may find a user.
_NAMES = ("id", "username", "email", "externalId")
# A term of a filter, which may be in parentheses, and the word that joins it to the next one, if there is one.
_TERM = re.compile(
    r'\s*(\()?\s*(?P<name>[A-Za-z.]+)\s+eq\s+(?P<value>"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9A-Fa-f]{4})*")\s*'
    r"(?(1)\))\s*(?P<joined>or\b|\Z)",
    re.IGNORECASE,
)
# Maximum items that a client may request in one page, as the vendor's SDK says for users.
_LARGEST_LIMIT = 1000


# Lists: their filters and pages


def answer_page(
    name: str, items: Collection[T], call: Call, settings: Settings, body: Callable[[T], dict[str, Any]]
) -> Answer:
    """Answer with the page of a list that a request asks for, and with the address of the next page. A page may be
    smaller than requested. Raises Refused."""
    start, limit = _read_cursor(call.parameters.get("cursor")), _read_limit(call.parameters.get("limit"))
    size = min(limit, settings.page_size)
    bodies = [body(item) for item in islice(items, start, start + size)]
    links = {"self": {"href": _href(call)}}
    if start + size < len(items):
        cursor = base64.urlsafe_b64encode(str(start + size).encode()).decode()
        kept = [each for each in call.query.split("&") if each and not each.startswith("cursor=")]
        links["next"] = {"href": f"{_href(call)}?{'&'.join([*kept, f'cursor={quote(cursor)}'])}"}
    return success({"_links": links, "_embedded": {name: bodies}, "count": len(bodies), "size": len(bodies)})


def _read_cursor(cursor: str | None) -> int:
    try:
        start = base64.urlsafe_b64decode(cursor) if cursor else b"0"
    except (ValueError, binascii.Error):
        start = b""
    if not (start.isdigit() and len(start) <= 9):
        raise bad_parameter("cursor")
    return int(start)


def _read_limit(limit: str | None) -> int:
    if not limit:
        return _LARGEST_LIMIT
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= _LARGEST_LIMIT):
        raise bad_parameter("limit")
    return int(limit)


def bad_parameter(target: str, detail_code: str = "INVALID_PARAMETER") -> Refused:
    """The refusal of a query that is malformed, or exceeds the settings."""
    return Refused(refusal(400, "INVALID_REQUEST", detail_code, target=target))


def _href(call: Call) -> str:
    return f"{call.root}{quote(call.path)}"


def read_filter(call: Call, attributes: Collection[str], settings: Settings) -> list[Term] | None:
    """Read a request's filter: terms such as `username eq "a"` for these attributes, joined by `or`. An item passes if
    it matches any term. None if there is no filter. Raises Refused for any other filter, and for one with too many
    terms."""
    text, terms, joined, at = call.parameters.get("filter"), list[Term](), "or", 0
    if text is None:
        return None
    while joined:
        found = _TERM.match(text, at)
        if found is None or found["name"] not in attributes:
            raise bad_parameter("filter", "INVALID_FILTER")
        terms.append((found["name"], json.loads(found["value"])))
        joined, at = found["joined"], found.end()
    if settings.most_filter_terms is not None and len(terms) > settings.most_filter_terms:
        raise bad_parameter("filter", "INVALID_FILTER")
    return terms


# Users, and what the environment says about itself

# Made up, and the same at each start.
POLICY_ID = "0a7b0000-5e1f-4c0d-8000-00000000000b"
# A few of the built-in roles, with some of their permissions. The names of the roles are the vendor's. Which
# permissions tokens need, and which roles have them, is not published: these are made up.
ROLES: list[dict[str, Any]] = [
    {"id": "role-1", "name": "Identity Data Admin", "permissions": [{"id": "dir:read:user"}]},
    {"id": "role-2", "name": "Environment Admin", "permissions": [{"id": "mfa:create:oathToken"}]},
    {"id": "role-3", "name": "Configuration Read Only", "permissions": [{"id": "mfa:read:deviceAuthenticationPolicy"}]},
]


def find_users(call: Call, simulation: Simulation) -> Answer:
    """List the users of an environment, with a filter on their names. Raises Refused."""
    world, terms = simulation.world, read_filter(call, _NAMES, simulation.settings)
    users = world.users[call.environment_id]
    if terms is not None:
        users = {user.id: user for term in terms for user in world.find_named(call.environment_id, term)}
    return answer_page("users", users.values(), call, simulation.settings, _user_body)


def _user_body(user: User) -> dict[str, Any]:
    """A user as JSON, as far as a client of tokens needs it."""
    return user.terms | {
        "enabled": user.is_enabled,
        "account": {"canAuthenticate": user.can_act, "status": "OK" if user.is_usable else "LOCKED"},
        "lifecycle": {"status": "ACCOUNT_OK"},
    }


def find_user(call: Call, simulation: Simulation) -> User:
    """The user in the path. Raises Refused."""
    return found(simulation.world.users[call.environment_id].get(call.resource_id))


def found(thing: T | None) -> T:
    """The object in the path. Raises Refused if there is none."""
    if thing is None:
        raise Refused(refusal(404, "NOT_FOUND"))
    return thing


def read_policies(call: Call, simulation: Simulation) -> Answer:
    """List the environment's policies: one, which is its default. Raises Refused."""
    settings = simulation.settings
    cool_down = {"duration": round(settings.cool_down), "timeUnit": "SECONDS"}
    body: dict[str, Any] = {
        "id": POLICY_ID,
        "name": "Default MFA Policy",
        "default": True,
        "authentication": {"deviceSelection": "DEFAULT_TO_FIRST"},
        "oathToken": {
            "enabled": True,
            "pairingDisabled": False,
            "otp": {"failure": {"count": settings.failure_count, "coolDown": cool_down}},
        },
    }
    if settings.new_device_notification != "absent":
        body["newDeviceNotification"] = settings.new_device_notification
    return answer_page("deviceAuthenticationPolicies", [body], call, settings, dict)


def read_mfa_settings(call: Call, simulation: Simulation) -> Answer:
    """Answer with the MFA settings. Without an account lock, they have no `lockout`; a simulated lock has no end."""
    settings = simulation.settings
    body: dict[str, Any] = {
        "pairing": {"maxAllowedDevices": settings.max_allowed_devices},
        "users": {"mfaEnabled": False},
    }
    if settings.account_lock_after is not None:
        body["lockout"] = {"failureCount": settings.account_lock_after}
    return success({"_links": {"self": {"href": _href(call)}}} | body)


def read_capabilities(call: Call, simulation: Simulation) -> Answer:
    """Answer with what the license grants."""
    settings = simulation.settings
    limits = {
        "rlgMfaRps": settings.rate,
        "rlgDirAccessRps": settings.group_rates.get("directory"),
        "rlgConfigRpm": 60 * settings.group_rates.get("configuration", 10),
    }
    known = {name: {"limit": limit} for name, limit in limits.items() if limit is not None}
    return success({"_links": {"self": {"href": _href(call)}}, "canUseOATHToken": True, "licenseQuantities": known})


def list_roles(call: Call, simulation: Simulation) -> Answer:
    """List the built-in roles. Raises Refused."""
    return answer_page("roles", ROLES, call, simulation.settings, dict)


# Devices of a user: pairing, activation, unpairing


class Activation(Body):
    """The body of an activation."""

    otp: Annotated[str, Field(pattern="^(?:[0-9]{6}|[0-9]{8})$")]
    oath_resync: bool = False


class Pairing(Body):
    """The body of a pairing."""

    type: Literal["OATH_TOKEN"]
    serial_number: str
    status: Status = "ACTIVATION_REQUIRED"


def device_body(device: Device, root: str, now: float) -> dict[str, Any]:
    """A device as JSON. `root` is the URL under which the client reached the simulator."""
    lock: dict[str, Any] = {"status": "LOCKED" if device.is_locked(now) else "UNLOCKED"}
    # A lock without end has an infinite time, which cannot be written.
    if device.locked_until is not None and device.locked_until < 1e11:
        lock["expiresAt"] = timestamp(device.locked_until)
    block: dict[str, Any] = {"status": "UNBLOCKED"}
    if device.blocked_at is not None:
        block = {"status": "BLOCKED", "blockedAt": timestamp(device.blocked_at)}
    return {
        "_links": {"self": {"href": _device_url(device, root)}},
        "id": device.id,
        "type": "OATH_TOKEN",
        "status": device.status,
        "lock": lock,
        "block": block,
        "user": {"id": device.user.id},
        "environment": {"id": device.token.environment_id},
        "createdAt": timestamp(device.created_at),
        "updatedAt": timestamp(device.updated_at),
    }


def _device_url(device: Device, root: str) -> str:
    return f"{root}/v1/environments/{device.token.environment_id}/users/{device.user.id}/devices/{device.id}"


def activate(call: Call, simulation: Simulation) -> Answer:
    """Check an OTP. Raises Refused."""
    device, now, settings = _find_device(call, simulation), simulation.unix_time(), simulation.settings
    activation = call.read(Activation)
    refusals = {
        "ACCOUNT_NOT_USABLE": not device.user.can_act,
        "DEVICE_BLOCKED": device.blocked_at is not None,
        "DEVICE_LOCKED": device.is_locked(now),
    }
    if refused := next((code for code, applies in refusals.items() if applies), None):
        return refusal(400, "REQUEST_FAILED", refused)
    if device.status == "ACTIVE":
        return refusal(400, "REQUEST_FAILED", "INVALID_VALUE", target="status")
    match device.activate(activation.otp, resync=activation.oath_resync, now=now, settings=settings):
        case Verdict.ACCEPTED:
            return success(device_body(device, call.root, now))
        case Verdict.EXTRA_OTP_REQUIRED:
            return refusal(400, "INVALID_DATA", "EXTRA_OTP_REQUIRED", target="otp")
        case Verdict.REFUSED:
            return refusal(400, "INVALID_DATA", "INVALID_OTP", target="otp")


def read_device(call: Call, simulation: Simulation) -> Answer:
    """Answer the read of a device. Raises Refused."""
    return success(device_body(_find_device(call, simulation), call.root, simulation.unix_time()))


def unpair(call: Call, simulation: Simulation) -> Answer:
    """Remove a device; its token stays in the inventory. Raises Refused."""
    simulation.world.remove(_find_device(call, simulation))
    return Answer(204)


def remove_order(call: Call, simulation: Simulation) -> Answer:
    """Answer the request to remove the order of a user's devices. Nothing in the simulator uses that order. Raises
    Refused."""
    find_user(call, simulation)
    return Answer(204)


def list_devices(call: Call, simulation: Simulation) -> Answer:
    """List the devices of a user, without a filter. Raises Refused."""
    if "filter" in call.parameters:
        raise bad_parameter("filter", "INVALID_FILTER")
    body = partial(device_body, root=call.root, now=simulation.unix_time())
    return answer_page("devices", find_user(call, simulation).devices.values(), call, simulation.settings, body)


def pair(call: Call, simulation: Simulation) -> Answer:
    """Give a token of the inventory to a user, which makes a device. Raises Refused."""
    user, now, pairing = find_user(call, simulation), simulation.unix_time(), call.read(Pairing)
    if not user.can_act:
        return refusal(400, "REQUEST_FAILED", "ACCOUNT_NOT_USABLE")
    if len(user.devices) >= (most := simulation.settings.max_allowed_devices):
        return refusal(400, "REQUEST_FAILED", "LIMIT_EXCEEDED", inner={"maximumAllowed": most})
    token = simulation.world.tokens[call.environment_id].get(pairing.serial_number)
    if token is None:
        raise invalid("serialNumber")
    if token.device is not None:
        return refusal(400, "INVALID_DATA", "UNIQUENESS_VIOLATION", target="serialNumber")
    device = Device(id=str(uuid4()), user=user, token=token, created_at=now, updated_at=now, status=pairing.status)
    simulation.world.add(device)
    return success(device_body(device, call.root, now), 201).with_header("location", _device_url(device, call.root))


def _find_device(call: Call, simulation: Simulation) -> Device:
    """The device that the path names. Raises Refused."""
    return found(simulation.world.find(call.environment_id, call.resource_id, call.device_id))


# The inventory of tokens, and the jobs that import and revoke tokens

# Maximum tokens in the list of a job. PingOne's limit is not published.
MOST_JOB_TOKENS = 1000

_HASHES: Mapping[str, Hash] = {"HmacSHA1": "sha1", "HmacSHA256": "sha256", "HmacSHA512": "sha512"}
_HASH_NAMES = {hash_name: name for name, hash_name in _HASHES.items()}
_TYPES: Mapping[str, OtpType] = {"HOTP": "hotp", "TOTP": "totp"}


class Hotp(Body):
    """The fields of an HOTP token."""

    counter: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Totp(Body):
    """The fields of a TOTP token."""

    time_step: Literal[30, 60]


class NewToken(Body):
    """A token as a client sends it."""

    serial_number: Annotated[str, Field(pattern="^[A-Za-z0-9]{1,50}$")]
    secret: Annotated[str, Field(pattern="^(?:[0-9A-Fa-f]{2}){1,100}$")]
    type: Literal["HOTP", "TOTP"]
    otp_length: Literal[6, 8]
    hash_algorithm: Literal["HmacSHA1", "HmacSHA256", "HmacSHA512"] = "HmacSHA1"
    hotp: Hotp = Hotp()
    totp: Totp | None = None


class Import(Body):
    """The body of a job that imports tokens."""

    type: Literal["CREATE_OATH_TOKENS"]
    tokens: Annotated[list[NewToken], Field(min_length=1)]


class Revocation(Body):
    """The body of a job that revokes tokens."""

    type: Literal["REVOKE_OATH_TOKENS"]
    token_ids: Annotated[list[str], Field(min_length=1)]
    is_async: Annotated[Any, Field(alias="async")]
    force_unpair: bool = False


def token_body(token: InventoryToken, *, is_expanded: bool) -> dict[str, Any]:
    """A token as JSON, never with its secret; with its device, if requested."""
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
    """A job as JSON. Its link says /jobs/, as the vendor's example does, although no call there is answered."""
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


def read_token(call: Call, simulation: Simulation) -> Answer:
    """Answer the read of one token. Raises Refused."""
    token = found(simulation.world.token_ids.get((call.environment_id, call.resource_id)))
    return success(token_body(token, is_expanded=_is_expanded(call)))


def list_tokens(call: Call, simulation: Simulation) -> Answer:
    """List the tokens of an environment, with a filter on the serial number. Raises Refused."""
    tokens = simulation.world.tokens[call.environment_id]
    terms = read_filter(call, ("serialNumber",), simulation.settings)
    if terms is not None:
        tokens = {serial: tokens[serial] for _, serial in terms if serial in tokens}
    body = partial(token_body, is_expanded=_is_expanded(call))
    return answer_page("oathTokens", tokens.values(), call, simulation.settings, body)


def import_tokens(call: Call, simulation: Simulation) -> Answer:
    """Accept a job that imports tokens. Raises Refused."""
    sent = call.read(Import)
    tokens = [_make_token(new, number, call, simulation) for number, new in enumerate(sent.tokens)]
    return _take(Job(environment_id=call.environment_id, type=sent.type, tokens=tuple(tokens)), call, simulation)


def revoke_tokens(call: Call, simulation: Simulation) -> Answer:
    """Accept a job that revokes tokens. Raises Refused."""
    sent = call.read(Revocation)
    job = Job(
        environment_id=call.environment_id,
        type=sent.type,
        wanted=tuple(sent.token_ids),
        force_unpair=sent.force_unpair,
    )
    return _take(job, call, simulation)


def read_job(call: Call, simulation: Simulation) -> Answer:
    """Answer the read of a job. Raises Refused."""
    job = found(simulation.world.jobs.get((call.environment_id, call.resource_id)))
    return success(_job_body(job, call.root))


def _take(job: Job, call: Call, simulation: Simulation) -> Answer:
    """Accept a job, and answer with its id. Raises Refused if its list is too long."""
    if len(job.tokens or job.wanted) > MOST_JOB_TOKENS:
        raise Refused(Answer(413, b"<!doctype html><title>Request Entity Too Large</title>", HTML))
    now = simulation.unix_time()
    job.ends_at = now + simulation.settings.job_takes
    simulation.world.take_job(job, now)
    location = f"{call.root}/v1/environments/{job.environment_id}/oathJobs/{job.id}"
    return success(_job_body(job, call.root), 201).with_header("location", location)


def _is_expanded(call: Call) -> bool:
    """Whether a request asks for a token's devices. Raises Refused if it asks to expand anything else."""
    wanted = call.parameters.get("expand")
    if wanted not in (None, "devices"):
        raise bad_parameter("expand")
    return wanted is not None


def _make_token(new: NewToken, number: int, call: Call, simulation: Simulation) -> InventoryToken:
    """Make the token at this place in a list. Raises Refused."""
    if new.type == "TOTP" and new.totp is None:
        raise missing(f"tokens[{number}].totp.timeStep")
    if new.type == "HOTP" and new.hash_algorithm != "HmacSHA1":
        raise invalid(f"tokens[{number}].hashAlgorithm")
    counter = new.hotp.counter if new.type == "HOTP" else 0
    return InventoryToken(
        id=str(uuid4()),
        environment_id=call.environment_id,
        serial_number=new.serial_number,
        secret=bytes.fromhex(new.secret),
        type=_TYPES[new.type],
        digits=new.otp_length,
        hash=_HASHES[new.hash_algorithm],
        time_step=new.totp.time_step if new.totp else 30,
        counter=counter,
        out_of_step=new.serial_number in simulation.world.out_of_step,
        created_at=simulation.unix_time(),
    )
