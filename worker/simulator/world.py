"""What the simulated PingOne has: users, the inventory of tokens, and devices, in all environments; and the settings of
the tenant's policy and limits."""

from __future__ import annotations

import math
import uuid
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat

from worker.simulator.calls import Group
from worker.simulator.oath import Hash, OtpType, Token, Verdict

# An attribute of a user, and its value.
Term = tuple[str, str]
Status = Literal["ACTIVATION_REQUIRED", "ACTIVE"]
JobType = Literal["CREATE_OATH_TOKENS", "REVOKE_OATH_TOKENS"]

# Of the ids of tokens that are there to begin with: the same for the same environment and serial number.
_NAMESPACE = uuid.UUID("0a7b0000-5e1f-4c0d-8000-00000000000a")
# Tokens in an environment at the most.
MOST_TOKENS = 100_000
# Seconds after which PingOne deletes a device that waits for its activation.
A_DAY = 86_400


class Settings(BaseModel):
    """All settings of the simulator. Times are in seconds. They never change: `with_changes` makes new ones, which are
    checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Is EXTRA_OTP_REQUIRED the answer only to a first OTP with `oathResync`, and INVALID_OTP to one without?
    extra_otp_needs_resync: bool = False
    # A device is locked for `cool_down` seconds after `failure_count` failures, as the MFA policy's
    # `oathToken.otp.failure` says. `account_lock_after`: failures of a user, over all devices, after which the account
    # cannot be used; None is never.
    failure_count: int = Field(default=3, ge=1, le=7)
    cool_down: float = Field(default=120, ge=0)
    account_lock_after: int | None = Field(default=None, ge=1)
    # Whom PingOne tells of a new device, as the MFA policy says ("absent": it does not say).
    new_device_notification: Literal["absent", "NONE", "EMAIL_THEN_SMS", "SMS_THEN_EMAIL"] = "NONE"
    # Devices that a user may have.
    max_allowed_devices: int = Field(default=5, ge=1, le=15)

    # Items in a page of a list, at the most.
    page_size: int = Field(default=100, ge=1)
    # Terms of a filter, more than which are refused as INVALID_FILTER; None: any number is taken.
    most_filter_terms: int | None = Field(default=None, ge=1)
    # Seconds that a job runs.
    job_takes: float = Field(default=1, ge=0)

    # Requests a second for devices; None is unlimited, 0 refuses every one. The limit is a bucket of `burst` that fills
    # at `rate`. `group_rates` has requests a second of other groups, each counted by itself; a group that is not in it
    # is unlimited.
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
    """A user as PingOne knows them; `failures` counts wrong OTPs over all devices. The account of one who is not usable
    is locked. Names that are None are made of the id where PingOne demands them."""

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
    def names(self) -> Mapping[str, str | None]:
        """What a filter may name the user by, by attribute. Only the external id may be missing."""
        return {
            "id": self.id,
            "username": self.username or self.id,
            "email": self.email or f"{self.id}@example.com",
            "externalId": self.external_id,
        }

    @property
    def terms(self) -> list[Term]:
        """The names that the user has."""
        return [(name, value) for name, value in self.names.items() if value is not None]


@dataclass(slots=True, kw_only=True)
class InventoryToken(Token):
    """A token of the inventory. `id` is PingOne's, and not the serial number; `created_at` is a Unix time, and `device`
    what the token is paired as."""

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
    """A device as PingOne keeps it. Times are Unix times; if `locked_until` is infinity, the lock has no end."""

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
        """Whether the device is locked at `now`. When a lock has run out, the failures count from 0 again."""
        if self.locked_until is not None and now >= self.locked_until:
            self.locked_until, self.failures = None, 0
        return self.locked_until is not None

    def activate(self, otp: str, *, resync: bool, now: float, settings: Settings) -> Verdict:
        """Check an OTP and change the device accordingly; `resync` is `oathResync` of the request."""
        self.updated_at = now
        needs_resync = settings.extra_otp_needs_resync
        verdict = self.token.check_otp(otp, resync=resync, now=now, needs_resync=needs_resync)
        match verdict:
            case Verdict.ACCEPTED:
                self.status, self.failures, self.user.failures = "ACTIVE", 0, 0
            case Verdict.REFUSED:
                self._count_failure(now, settings)
        return verdict

    def _count_failure(self, now: float, settings: Settings) -> None:
        """Count a failure of device and user, and lock them when it was the last one permitted."""
        self.failures += 1
        self.user.failures += 1
        if self.failures >= settings.failure_count:
            self.locked_until = now + settings.cool_down
        if settings.account_lock_after is not None and self.user.failures >= settings.account_lock_after:
            self.user.is_usable = False


class Directory:
    """The users of all environments, in the order in which they came."""

    def __init__(self) -> None:
        self._users: dict[str, dict[str, User]] = {}
        self._named: dict[str, dict[Term, tuple[User, ...]]] = {}

    def find(self, environment_id: str, user_id: str) -> User | None:
        """Find a user by the id."""
        return self._users.get(environment_id, {}).get(user_id)

    def add(self, environment_id: str, user_id: str) -> User:
        """The user of this id, who is added if there is none yet."""
        if (user := self.find(environment_id, user_id)) is None:
            user = self._users.setdefault(environment_id, {})[user_id] = User(user_id)
            self._enter(environment_id, user)
        return user

    def rename(
        self, environment_id: str, user: User, *, username: str | None, email: str | None, external_id: str | None
    ) -> None:
        """Give a user other names."""
        named = self._named[environment_id]
        for term in user.terms:
            named[term] = tuple(each for each in named[term] if each is not user)
        user.username, user.email, user.external_id = username, email, external_id
        self._enter(environment_id, user)

    def users(self, environment_id: str) -> Collection[User]:
        """All users of an environment."""
        return self._users.get(environment_id, {}).values()

    def find_named(self, environment_id: str, term: Term) -> Collection[User]:
        """Find the users of whom an attribute, which is one of `User.names`, has this value."""
        return self._named.get(environment_id, {}).get(term, ())

    def _enter(self, environment_id: str, user: User) -> None:
        named = self._named.setdefault(environment_id, {})
        for term in user.terms:
            named[term] = (*named.get(term, ()), user)


class Inventory:
    """The tokens of all environments, in the order in which they came."""

    def __init__(self) -> None:
        self._tokens: dict[str, dict[str, InventoryToken]] = {}
        self._by_id: dict[str, InventoryToken] = {}

    def add(self, token: InventoryToken) -> None:
        """Add a token, in place of another with its serial number, whose device it takes over."""
        tokens = self._tokens.setdefault(token.environment_id, {})
        if former := tokens.get(token.serial_number):
            del self._by_id[former.id]
            if (device := former.device) is not None:
                token.device, device.token = device, token
        tokens[token.serial_number] = self._by_id[token.id] = token

    def remove(self, token: InventoryToken) -> None:
        """Remove a token."""
        del self._tokens[token.environment_id][token.serial_number]
        del self._by_id[token.id]

    def tokens(self, environment_id: str) -> Collection[InventoryToken]:
        """All tokens of an environment."""
        return self._tokens.get(environment_id, {}).values()

    def has_room(self, environment_id: str, added: int) -> bool:
        """Whether an environment may have so many tokens more."""
        return len(self.tokens(environment_id)) + added <= MOST_TOKENS

    def all_tokens(self) -> list[InventoryToken]:
        """All tokens, in every environment."""
        return [token for tokens in self._tokens.values() for token in tokens.values()]

    def find(self, environment_id: str, serial_number: str) -> InventoryToken | None:
        """Find a token by its serial number."""
        return self._tokens.get(environment_id, {}).get(serial_number)

    def find_by_id(self, environment_id: str, token_id: str) -> InventoryToken | None:
        """Find a token of an environment by its id."""
        token = self._by_id.get(token_id)
        return token if token is not None and token.environment_id == environment_id else None


@dataclass(slots=True, kw_only=True)
class Job:
    """A list of tokens that are imported (`tokens`) or revoked (`wanted`, their ids) at the Unix time `ends_at`, when
    the job becomes DONE, or FAILED with its `reason`. `token_ids`: the tokens that it made or revoked; `duplicates`:
    serial number and masked secret of those that were there."""

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
        """Do what the job is for, and forget the list."""
        if self.type == "CREATE_OATH_TOKENS":
            self._import(world)
        else:
            self._revoke(world)
        self.status = "DONE" if self.reason is None else "FAILED"
        self.tokens = self.wanted = ()

    def _import(self, world: World) -> None:
        """Import the tokens whose serial numbers are not there; those that are there are left alone."""
        inventory, environment_id = world.inventory, self.environment_id
        sent = {token.serial_number for token in self.tokens}
        added = sum(inventory.find(environment_id, serial_number) is None for serial_number in sent)
        if not inventory.has_room(environment_id, added):
            self.reason = f"The environment can have {MOST_TOKENS} tokens at the most"
            return
        for token in self.tokens:
            if there := inventory.find(environment_id, token.serial_number):
                self.duplicates.append((token.serial_number, there.masked_secret))
                continue
            token.created_at = self.ends_at
            inventory.add(token)
            self.token_ids.append(token.id)

    def _revoke(self, world: World) -> None:
        """Revoke the tokens that are there; paired ones only by force."""
        found = [world.inventory.find_by_id(self.environment_id, token_id) for token_id in dict.fromkeys(self.wanted)]
        there = [token for token in found if token is not None]
        paired = [token.serial_number for token in there if token.device is not None and not self.force_unpair]
        if paired:
            self.reason = f"Tokens are paired: {', '.join(paired[:10])}"
            return
        for token in there:
            world.revoke(token)
            self.token_ids.append(token.id)


class World:
    """All users, tokens, devices and jobs. Changed by one thread at a time, which holds the simulation's lock.
    `out_of_step`: the serial numbers of tokens that are out of step with the server from their import on."""

    def __init__(self) -> None:
        self.directory = Directory()
        self.inventory = Inventory()
        self.out_of_step: set[str] = set()
        self.jobs: dict[str, Job] = {}
        self._running: list[Job] = []
        self._devices: dict[str, Device] = {}
        # Devices that waited for their activation when they were made, the oldest first.
        self._waiting: deque[Device] = deque()

    def add(self, device: Device) -> None:
        """Add a device to its user, and remove another of the same id; its token is paired from now on."""
        if former := self._devices.get(device.id):
            self.remove(former)
        self._devices[device.id] = device.user.devices[device.id] = device
        device.token.device = device
        if device.status != "ACTIVE":
            self._waiting.append(device)

    def remove(self, device: Device) -> None:
        """Remove a device; its token stays in the inventory, and is free."""
        del self._devices[device.id]
        del device.user.devices[device.id]
        if device.token.device is device:
            device.token.device = None

    def revoke(self, token: InventoryToken) -> None:
        """Remove a token from the inventory, and the device that it is paired as."""
        if token.device is not None:
            self.remove(token.device)
        self.inventory.remove(token)

    def find(self, environment_id: str, user_id: str, device_id: str) -> Device | None:
        """Find a device by its id, if it belongs to this user in this environment."""
        device = self._devices.get(device_id)
        is_theirs = device and (device.token.environment_id, device.user.id) == (environment_id, user_id)
        return device if is_theirs else None

    def devices(self) -> Iterator[Device]:
        """All devices, in every environment."""
        return iter(self._devices.values())

    def find_by_id(self, device_id: str) -> Device | None:
        """Find a device by its id alone."""
        return self._devices.get(device_id)

    def take_job(self, job: Job, now: float) -> None:
        """Add a job, which runs when its time has come: at once if it takes none."""
        self.jobs[job.id] = job
        self._running.append(job)
        self.catch_up(now)

    def catch_up(self, now: float) -> None:
        """Do what PingOne does by itself when its time has come: delete devices that have waited for their activation
        for more than a day, and run jobs."""
        while self._waiting:
            device = self._waiting[0]
            if device.status != "ACTIVE" and self._devices.get(device.id) is device:
                if device.created_at >= now - A_DAY:
                    break
                self.remove(device)
            self._waiting.popleft()
        if self._running:
            due = [job for job in self._running if job.ends_at <= now]
            self._running = [job for job in self._running if job.ends_at > now]
            for job in sorted(due, key=lambda job: job.ends_at):
                job.run(self)


# Made up, and the same at each start, so that settings that a person has copied once stay right.
ENVIRONMENT_ID = "0a7b0000-5e1f-4c0d-8000-000000000001"
CLIENT_ID = "0a7b0000-5e1f-4c0d-8000-000000000002"
CLIENT_SECRET = "rehearsal-only"  # noqa: S105 - opens nothing but the simulator


class Seed(BaseModel):
    """A part of what there is to begin with."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class TokenSeed(Seed):
    """One token of the inventory to begin with. Without its `secret` (hexadecimal) it refuses every OTP. `counter` is
    the server's; `drift` is in time steps, `time_step` in seconds. `pressed`: the position of the OTP that the token
    itself shows next, by default the server's `counter`."""

    serial: str = Field(min_length=1)
    environment_id: str | None = None
    secret: str | None = Field(default=None, pattern="^(?:[0-9A-Fa-f]{2})*$", repr=False)
    type: OtpType = "hotp"
    digits: Literal[6, 8] = 6
    hash: Hash = "sha1"
    time_step: Literal[30, 60] = 30
    counter: int = Field(default=0, ge=0)
    pressed: int | None = Field(default=None, ge=0)
    drift: int = 0
    out_of_step: bool = False


class DeviceSeed(TokenSeed):
    """One device to begin with, and its token, which is in the inventory."""

    user_id: str = Field(min_length=1)
    device_id: str = Field(min_length=1)
    status: Status = "ACTIVATION_REQUIRED"
    locked: bool = False
    blocked: bool = False
    account_usable: bool = True


class UserSeed(Seed):
    """One user to begin with. Without `username` and `email` they are made of the id. Users of devices need no seed."""

    user_id: str = Field(min_length=1)
    environment_id: str | None = None
    username: str | None = Field(default=None, min_length=1, max_length=128)
    email: str | None = Field(default=None, min_length=1)
    external_id: str | None = Field(default=None, min_length=1, max_length=1024)
    enabled: bool = True
    locked: bool = False


class WorldSeed(Seed):
    """An environment, the client that may act in it, its users, its tokens that are not paired, its devices, and
    settings to begin with. `out_of_step`: the serial numbers of tokens that will be out of step once they are
    imported."""

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
    for user in seed.users:
        _add_user(world, user, user.environment_id or seed.environment_id)
    for token in seed.tokens:
        _add_token(world, token, token.environment_id or seed.environment_id, now)
    for device in seed.devices:
        _add_device(world, device, device.environment_id or seed.environment_id, now)
    world.out_of_step.update(seed.out_of_step)


def _add_user(world: World, seed: UserSeed, environment_id: str) -> None:
    user = world.directory.add(environment_id, seed.user_id)
    world.directory.rename(environment_id, user, username=seed.username, email=seed.email, external_id=seed.external_id)
    user.is_enabled, user.is_usable = seed.enabled, user.is_usable and not seed.locked


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
        pressed=seed.counter if seed.pressed is None else seed.pressed,
        created_at=now,
    )
    world.inventory.add(token)
    return token


def _add_device(world: World, seed: DeviceSeed, environment_id: str, now: float) -> None:
    user = world.directory.add(environment_id, seed.user_id)
    user.is_usable = user.is_usable and seed.account_usable
    device = Device(
        id=seed.device_id,
        user=user,
        token=_add_token(world, seed, environment_id, now),
        created_at=now,
        updated_at=now,
        status=seed.status,
        locked_until=math.inf if seed.locked else None,
        blocked_at=now if seed.blocked else None,
    )
    world.add(device)
