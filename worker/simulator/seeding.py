"""Seeds: the users, tokens, devices, client and settings to begin with, as JSON that is checked before anything is
made."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.simulator.oath import Hash, OtpType
from worker.simulator.world import Device, InventoryToken, Status, World

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
