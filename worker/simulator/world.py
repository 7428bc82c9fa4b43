"""The state of the simulated PingOne, in all environments: users, the inventory of tokens, and devices; the settings of
the tenant's policy and limits; and what a call needs before it is carried out: an access token, and room within its
group's rate limit.

https://developer.pingidentity.com/pingone-api (token endpoint, client credentials; rate limits)
"""

from __future__ import annotations

import base64
import binascii
import math
import secrets
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args
from urllib.parse import parse_qsl, unquote_plus

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat

from worker.simulator.calls import Answer, Call, Group, refusal, success
from worker.simulator.oath import Hash, OtpType, Token, Verdict

# An attribute of a user, and its value.
Term = tuple[str, str]
Status = Literal["ACTIVATION_REQUIRED", "ACTIVE"]
JobType = Literal["CREATE_OATH_TOKENS", "REVOKE_OATH_TOKENS"]

# The namespace for the ids of initial tokens: the same environment and serial number always give the same id.
_NAMESPACE = uuid.UUID("0a7b0000-5e1f-4c0d-8000-00000000000a")
# Maximum number of tokens in an environment.
MOST_TOKENS = 100_000
# Seconds after which PingOne deletes a device that waits for its activation.
A_DAY = 86_400


class Settings(BaseModel):
    """All settings of the simulator. Times are in seconds. Immutable: `with_changes` makes checked copies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Whether only a first OTP with `oathResync` gets EXTRA_OTP_REQUIRED, and one without gets INVALID_OTP.
    extra_otp_needs_resync: bool = False
    # A device is locked for `cool_down` seconds after `failure_count` failures, as in the MFA policy's
    # `oathToken.otp.failure`. `account_lock_after`: how many failures of a user, over all devices, lock the account;
    # None: it is never locked.
    failure_count: int = Field(default=3, ge=1, le=7)
    cool_down: float = Field(default=120, ge=0)
    account_lock_after: int | None = Field(default=None, ge=1)
    # How PingOne tells people about a new device, according to the MFA policy ("absent": the policy does not say).
    new_device_notification: Literal["absent", "NONE", "EMAIL_THEN_SMS", "SMS_THEN_EMAIL"] = "NONE"
    # Devices that a user may have.
    max_allowed_devices: int = Field(default=5, ge=1, le=15)

    # Maximum number of items in a page of a list.
    page_size: int = Field(default=100, ge=1)
    # Maximum number of terms in a filter; more are refused as INVALID_FILTER. None: unlimited.
    most_filter_terms: int | None = Field(default=None, ge=1)
    # Duration of a job in seconds.
    job_takes: float = Field(default=1, ge=0)

    # Requests a second for devices; None is unlimited, 0 refuses all. The limit is a bucket with room for `burst`
    # requests that fills at `rate`. `group_rates`: requests a second for other groups, each counted separately; missing
    # groups are unlimited.
    rate: float | None = Field(default=None, ge=0)
    group_rates: Mapping[Group, NonNegativeFloat] = {}
    burst: int = Field(default=10, ge=1)
    # Seconds before each answer.
    latency: float = Field(default=0, ge=0)

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """A copy of these settings with the changes. Raises ValidationError for an unknown name or a wrong value."""
        return self.model_validate(self.model_dump() | dict(changes))


@dataclass(slots=True)
class User:
    """A user as PingOne knows them; `failures` counts wrong OTPs over all devices. If not `is_usable`, the account is
    locked. Missing names that PingOne requires are made from the id."""

    id: str
    is_usable: bool = True
    failures: int = 0
    username: str | None = None
    email: str | None = None
    external_id: str | None = None
    is_enabled: bool = True
    devices: dict[str, Device] = field(default_factory=dict, repr=False)

    @property
    def can_act(self) -> bool:
        """Whether the account is neither locked nor disabled."""
        return self.is_usable and self.is_enabled

    @property
    def terms(self) -> dict[str, str]:
        """The user's names for filters, by attribute. Only the external id may be missing."""
        names = {
            "id": self.id,
            "username": self.username or self.id,
            "email": self.email or f"{self.id}@example.com",
            "externalId": self.external_id,
        }
        return {name: value for name, value in names.items() if value is not None}


@dataclass(slots=True, kw_only=True)
class InventoryToken(Token):
    """A token of the inventory. `id` is PingOne's, not the serial number; `created_at` is a Unix time, and `device` the
    token's device."""

    environment_id: str
    serial_number: str
    created_at: float
    id: str = ""
    device: Device | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.id = self.id or str(uuid.uuid5(_NAMESPACE, f"{self.environment_id}/{self.serial_number}"))

    @property
    def masked_secret(self) -> str:
        """The first two hexadecimal digits of the secret, if there is one."""
        return f"{(self.secret or b'')[:1].hex().upper()}******"


@dataclass(slots=True, kw_only=True)
class Device:
    """A device as PingOne keeps it. Times are Unix times; an infinite `locked_until` is a lock without end."""

    id: str
    user: User
    token: InventoryToken
    created_at: float
    updated_at: float
    status: Status = "ACTIVATION_REQUIRED"
    locked_until: float | None = None
    blocked_at: float | None = None
    failures: int = 0

    def is_locked(self, now: float) -> bool:
        """Whether the device is locked at `now`. When a lock ends, failures count from 0 again."""
        if self.locked_until is not None and now >= self.locked_until:
            self.locked_until, self.failures = None, 0
        return self.locked_until is not None

    def activate(self, otp: str, *, resync: bool, now: float, settings: Settings) -> Verdict:
        """Check an OTP and change the device accordingly; `resync` is the request's `oathResync`."""
        self.updated_at = now
        verdict = self.token.check_otp(otp, resync=resync, now=now, needs_resync=settings.extra_otp_needs_resync)
        match verdict:
            case Verdict.ACCEPTED:
                self.status, self.failures, self.user.failures = "ACTIVE", 0, 0
            case Verdict.REFUSED:
                self._count_failure(now, settings)
        return verdict

    def _count_failure(self, now: float, settings: Settings) -> None:
        """Count a failure for the device and its user, and lock each after its last permitted failure."""
        self.failures += 1
        self.user.failures += 1
        if self.failures >= settings.failure_count:
            self.locked_until = now + settings.cool_down
        if settings.account_lock_after is not None and self.user.failures >= settings.account_lock_after:
            self.user.is_usable = False


@dataclass(slots=True, kw_only=True)
class Job:
    """A job that imports tokens (`tokens`) or revokes them (`wanted`, their ids) at the Unix time `ends_at`, when it
    becomes DONE, or FAILED with its `reason`. `token_ids`: the tokens that it created or revoked; `duplicates`: serial
    number and masked secret of those that existed already."""

    environment_id: str
    type: JobType
    ends_at: float = 0.0
    tokens: tuple[InventoryToken, ...] = ()
    wanted: tuple[str, ...] = ()
    force_unpair: bool = False
    reason: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: Literal["IN_PROGRESS", "DONE", "FAILED"] = "IN_PROGRESS"
    token_ids: list[str] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)

    def run(self, world: World) -> None:
        """Run the job, and forget the list."""
        if self.type == "CREATE_OATH_TOKENS":
            self._import(world)
        else:
            self._revoke(world)
        self.status = "DONE" if self.reason is None else "FAILED"
        self.tokens = self.wanted = ()

    def _import(self, world: World) -> None:
        """Import the tokens whose serial numbers are new; existing ones stay unchanged."""
        there = world.tokens[self.environment_id]
        added = {token.serial_number for token in self.tokens} - there.keys()
        if len(there) + len(added) > MOST_TOKENS:
            self.reason = f"The environment can have {MOST_TOKENS} tokens at the most"
            return
        for token in self.tokens:
            if duplicate := there.get(token.serial_number):
                self.duplicates.append((token.serial_number, duplicate.masked_secret))
                continue
            token.created_at = self.ends_at
            world.add_token(token)
            self.token_ids.append(token.id)

    def _revoke(self, world: World) -> None:
        """Revoke the wanted tokens that exist. If any is paired, fail unless `force_unpair`."""
        wanted = [(self.environment_id, token_id) for token_id in dict.fromkeys(self.wanted)]
        there = [world.token_ids[each] for each in wanted if each in world.token_ids]
        paired = [token.serial_number for token in there if token.device is not None and not self.force_unpair]
        if paired:
            self.reason = f"Tokens are paired: {', '.join(paired[:10])}"
            return
        for token in there:
            world.revoke(token)
            self.token_ids.append(token.id)


class World:
    """All users, tokens, devices and jobs, in the order in which they were added. Only a thread that holds the
    simulation's lock changes them.

    `users` are keyed by environment and id, `tokens` by environment and serial number, `token_ids` and `jobs` by a pair
    of the environment's id and their own, `devices` by their own id. `out_of_step`: the serial numbers of tokens that
    are out of step once imported."""

    def __init__(self) -> None:
        self.users = defaultdict[str, dict[str, User]](dict)
        self.tokens = defaultdict[str, dict[str, InventoryToken]](dict)
        self.token_ids: dict[tuple[str, str], InventoryToken] = {}
        self.devices: dict[str, Device] = {}
        self.jobs: dict[tuple[str, str], Job] = {}
        self.out_of_step: set[str] = set()
        # The users of an environment by name, built at the first look-up.
        self._named: dict[str, dict[Term, list[User]]] = {}
        self._running: list[Job] = []
        # Devices that waited for activation when they were made, the oldest first.
        self._waiting: deque[Device] = deque()

    def add_user(self, environment_id: str, user_id: str) -> User:
        """Return the user with this id, whose names the caller may change; add a missing one."""
        self._named.pop(environment_id, None)
        return self.users[environment_id].setdefault(user_id, User(user_id))

    def find_named(self, environment_id: str, term: Term) -> Collection[User]:
        """Find the users with this value of an attribute, which is one of `User.terms`."""
        if environment_id not in self._named:
            named = self._named[environment_id] = defaultdict(list)
            for user in self.users[environment_id].values():
                for each in user.terms.items():
                    named[each].append(user)
        return self._named[environment_id].get(term, ())

    def add_token(self, token: InventoryToken) -> None:
        """Add a token. It replaces one with the same serial number, and takes over its device."""
        tokens = self.tokens[token.environment_id]
        if former := tokens.get(token.serial_number):
            del self.token_ids[former.environment_id, former.id]
            if (device := former.device) is not None:
                token.device, device.token = device, token
        tokens[token.serial_number] = self.token_ids[token.environment_id, token.id] = token

    def revoke(self, token: InventoryToken) -> None:
        """Remove a token from the inventory, with its device."""
        if token.device is not None:
            self.remove(token.device)
        del self.tokens[token.environment_id][token.serial_number]
        del self.token_ids[token.environment_id, token.id]

    def add(self, device: Device) -> None:
        """Add a device to its user, replacing another with the same id; its token is now paired."""
        if former := self.devices.get(device.id):
            self.remove(former)
        self.devices[device.id] = device.user.devices[device.id] = device
        device.token.device = device
        if device.status != "ACTIVE":
            self._waiting.append(device)

    def remove(self, device: Device) -> None:
        """Remove a device; its token stays in the inventory, unpaired."""
        del self.devices[device.id]
        del device.user.devices[device.id]
        if device.token.device is device:
            device.token.device = None

    def find(self, environment_id: str, user_id: str, device_id: str) -> Device | None:
        """Find a device by its id, if it belongs to this user in this environment."""
        device = self.devices.get(device_id)
        is_theirs = device and (device.token.environment_id, device.user.id) == (environment_id, user_id)
        return device if is_theirs else None

    def take_job(self, job: Job, now: float) -> None:
        """Add a job, which runs when its time comes: at once if it takes no time."""
        self.jobs[job.environment_id, job.id] = job
        self._running.append(job)
        self.catch_up(now)

    def catch_up(self, now: float) -> None:
        """Do what PingOne does by itself as time passes: delete devices that have waited for activation for more than a
        day, and run jobs."""
        while self._waiting:
            device = self._waiting[0]
            if device.status != "ACTIVE" and self.devices.get(device.id) is device:
                if device.created_at >= now - A_DAY:
                    break
                self.remove(device)
            self._waiting.popleft()
        due = sorted((job for job in self._running if job.ends_at <= now), key=lambda job: job.ends_at)
        for job in due:
            self._running.remove(job)
            job.run(self)


# Made up, but the same at each start, so that copied settings stay valid.
ENVIRONMENT_ID = "0a7b0000-5e1f-4c0d-8000-000000000001"
CLIENT_ID = "0a7b0000-5e1f-4c0d-8000-000000000002"
CLIENT_SECRET = "rehearsal-only"  # noqa: S105 - opens nothing but the simulator


class Seed(BaseModel):
    """A part of the initial state."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class TokenSeed(Seed):
    """One initial token of the inventory. Without a `secret` (hexadecimal), it refuses every OTP. `counter` is the
    server's; `drift` is in time steps, `time_step` in seconds."""

    serial: str = Field(min_length=1)
    environment_id: str | None = None
    secret: str | None = Field(default=None, pattern="^(?:[0-9A-Fa-f]{2})*$", repr=False)
    type: OtpType = "hotp"
    digits: Literal[6, 8] = 6
    hash: Hash = "sha1"
    time_step: Literal[30, 60] = 30
    counter: int = Field(default=0, ge=0)
    drift: int = 0
    out_of_step: bool = False


class DeviceSeed(TokenSeed):
    """One initial device, and its token, which is in the inventory."""

    user_id: str = Field(min_length=1)
    device_id: str = Field(min_length=1)
    status: Status = "ACTIVATION_REQUIRED"
    locked: bool = False
    blocked: bool = False
    account_usable: bool = True


class UserSeed(Seed):
    """One initial user. Missing `username` and `email` are made from the id. Users of devices need no seed."""

    user_id: str = Field(min_length=1)
    environment_id: str | None = None
    username: str | None = Field(default=None, min_length=1, max_length=128)
    email: str | None = Field(default=None, min_length=1)
    external_id: str | None = Field(default=None, min_length=1, max_length=1024)
    enabled: bool = True
    locked: bool = False


class WorldSeed(Seed):
    """An environment, the client that may act in it, its users, its unpaired tokens, its devices, and initial settings.
    `out_of_step`: the serial numbers of tokens that will be out of step once imported."""

    environment_id: str = ENVIRONMENT_ID
    client_id: str = CLIENT_ID
    client_secret: str = Field(default=CLIENT_SECRET, repr=False)
    users: tuple[UserSeed, ...] = ()
    tokens: tuple[TokenSeed, ...] = ()
    devices: tuple[DeviceSeed, ...] = ()
    out_of_step: tuple[str, ...] = ()
    settings: dict[str, Any] = {}


def add_to_world(world: World, seed: WorldSeed, now: float) -> None:
    """Put the seed's users, tokens and devices into the world at the Unix time `now`."""
    for each in seed.users:
        user = world.add_user(each.environment_id or seed.environment_id, each.user_id)
        user.username, user.email, user.external_id = each.username, each.email, each.external_id
        user.is_enabled, user.is_usable = each.enabled, user.is_usable and not each.locked
    for token in seed.tokens:
        _add_token(world, token, token.environment_id or seed.environment_id, now)
    for device in seed.devices:
        _add_device(world, device, device.environment_id or seed.environment_id, now)
    world.out_of_step.update(seed.out_of_step)


def _add_token(world: World, seed: TokenSeed, environment_id: str, now: float) -> InventoryToken:
    token = InventoryToken(
        environment_id=environment_id,
        serial_number=seed.serial,
        secret=None if seed.secret is None else bytes.fromhex(seed.secret),
        type=seed.type,
        digits=seed.digits,
        hash=seed.hash,
        time_step=seed.time_step,
        counter=seed.counter,
        drift=seed.drift,
        out_of_step=seed.out_of_step,
        created_at=now,
    )
    world.add_token(token)
    return token


def _add_device(world: World, seed: DeviceSeed, environment_id: str, now: float) -> None:
    user = world.add_user(environment_id, seed.user_id)
    user.is_usable = user.is_usable and seed.account_usable
    world.add(
        Device(
            id=seed.device_id,
            user=user,
            token=_add_token(world, seed, environment_id, now),
            created_at=now,
            updated_at=now,
            status=seed.status,
            locked_until=math.inf if seed.locked else None,
            blocked_at=now if seed.blocked else None,
        )
    )


# One running simulator

# Seconds for which an access token is valid.
ACCESS_TOKEN_LIFE = 3600
# Seconds that a client must wait while the rate is 0.
UNTIL_NEXT_TRY = 1.0


class AccessTokens:
    """The clients that may request access tokens, with their secrets, and the issued access tokens. `clock` gives
    monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.clients: dict[str, str] = {}
        self.expires_at: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<AccessTokens: {len(self.clients)} clients, {len(self.expires_at)} access tokens>"

    def answer_request(self, call: Call) -> Answer:
        """Answer a request to the token endpoint."""
        form = dict(parse_qsl(call.body.decode("utf-8", "replace")))
        if form.get("grant_type") != "client_credentials":
            return _oauth_error(400, "unsupported_grant_type", "Only client_credentials is supported")
        if not self.authenticates(call, form):
            return _oauth_error(401, "invalid_client", "Unknown client, or wrong client authentication")
        return success({"access_token": self._issue(), "token_type": "Bearer", "expires_in": ACCESS_TOKEN_LIFE})

    def authenticates(self, call: Call, form: Mapping[str, str]) -> bool:
        """Whether the client has the right secret."""
        client_id, client_secret = _read_credentials(call.header(b"authorization"), form)
        expected = self.clients.get(client_id)
        return expected is not None and secrets.compare_digest(expected.encode(), client_secret.encode())

    def admits(self, call: Call) -> bool:
        """Whether a call carries a valid access token."""
        scheme, _, access_token = (call.header(b"authorization") or "").partition(" ")
        expires_at = self.expires_at.get(access_token.strip())
        return scheme.lower() == "bearer" and expires_at is not None and self._clock() < expires_at

    def _issue(self) -> str:
        """Make an access token, and forget those that have expired."""
        now = self._clock()
        self.expires_at = {token: until for token, until in self.expires_at.items() if until > now}
        access_token = secrets.token_urlsafe(32)
        self.expires_at[access_token] = now + ACCESS_TOKEN_LIFE
        return access_token


def _read_credentials(authorization: str | None, form: Mapping[str, str]) -> tuple[str, str]:
    """The client id and the client secret of a request; empty if it has none."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    client_id, _, client_secret = decoded.partition(":")
    # RFC 6749 section 2.3.1: both are form-encoded before they are joined.
    return unquote_plus(client_id), unquote_plus(client_secret)


def _oauth_error(status: int, error: str, description: str) -> Answer:
    """An error in the form of RFC 6749 section 5.2."""
    return success({"error": error, "error_description": description}, status)


class TokenBucket:
    """The rate limit of a group: a token bucket that fills at `rate` a second; None is unlimited."""

    def __init__(self, settings: Settings, group: Group) -> None:
        self.rate = settings.rate if group == "mfa" else settings.group_rates.get(group)
        self._burst = float(settings.burst)
        self._left = self._burst
        self._filled_at = -math.inf

    def take(self, now: float) -> float | None:
        """Count one request at this monotonic time. Return None if it passes, otherwise the seconds until the next one
        would."""
        if self.rate is None:
            return None
        if not self.rate:
            return UNTIL_NEXT_TRY
        self._left = min(self._burst, self._left + (now - self._filled_at) * self.rate)
        self._filled_at = now
        # Sums of floats may fall short of 1 by a rounding error.
        if self._left < 1 - 1e-9:
            return (1 - self._left) / self.rate
        self._left -= 1
        return None


class Simulation:
    """The state that all calls share. Its methods may be called from any thread; a call holds `lock` while it does its
    operation."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.lock = threading.RLock()
        self.settings = settings or Settings()
        self.begin()

    def begin(self) -> None:
        """Begin with an empty world, and with the client that seeds have by default."""
        self.world = World()
        self.access = self.make_access()
        self.limits = self.make_limits()
        self.seed(WorldSeed())

    def unix_time(self) -> float:
        """The time of the simulated service's own clock."""
        return time.time()

    def make_access(self) -> AccessTokens:
        """Make the token endpoint, without clients."""
        return AccessTokens()

    def make_limits(self) -> Mapping[Group, TokenBucket]:
        """Make the rate limits of all groups."""
        return {group: TokenBucket(self.settings, group) for group in get_args(Group)}

    def seed(self, seed: WorldSeed) -> None:
        """Add the seed's client, users, tokens, and devices. The code that makes the simulation applies the seed's
        settings."""
        with self.lock:
            self.access.clients[seed.client_id] = seed.client_secret
            add_to_world(self.world, seed, self.unix_time())

    def admit(self, call: Call, now: float) -> Answer | None:
        """Count a request at this monotonic time against its group's limit. Return None, or the refusal. Requests for
        access tokens do not count."""
        if call.operation == "access_token":
            return None
        with self.lock:
            wait = self.limits[call.group].take(now)
        if wait is None:
            return None
        answer = refusal(429, "REQUEST_LIMITED", "LIMIT_EXCEEDED")
        return answer.with_header("retry-after", str(max(1, math.ceil(wait))))
