"""Seeds: the users, tokens, devices, client and settings to begin with, as JSON that is checked before anything is
made."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from worker.simulator.inventory import InventoryToken
from worker.simulator.oath import Otps, SecretOtps, SequenceOtps
from worker.simulator.token import Token
from worker.simulator.users import POPULATION_ID
from worker.simulator.world import Device, World

# Made up, and the same at each start, so that settings that a person has copied once stay right.
ENVIRONMENT_ID = "0a7b0000-5e1f-4c0d-8000-000000000001"
CLIENT_ID = "0a7b0000-5e1f-4c0d-8000-000000000002"
CLIENT_SECRET = "rehearsal-only"  # noqa: S105 - opens nothing but the simulator


class TokenSeed(BaseModel):
    """One token of the inventory to begin with. It is known by its `secret` (hexadecimal) or by the `otps` that it
    shows one after the other; with neither it refuses every OTP. `counter` is the server's; the first of `otps` is at
    0. `drift` is in time steps, `time_step` in seconds. `pressed`: the position of the OTP that the token itself
    shows next, by default the server's `counter`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    serial: str = Field(min_length=1)
    environment_id: str | None = None
    secret: str | None = Field(default=None, repr=False)
    otps: tuple[str, ...] | None = Field(default=None, repr=False)
    type: Literal["hotp", "totp"] = "hotp"
    digits: Literal[6, 8] = 6
    hash: Literal["sha1", "sha256", "sha512"] = "sha1"
    time_step: Literal[30, 60] = 30
    counter: int = Field(default=0, ge=0)
    pressed: int | None = Field(default=None, ge=0)
    drift: int = 0
    out_of_step: bool = False

    @field_validator("secret")
    @classmethod
    def _check_hexadecimal(cls, secret: str | None) -> str | None:
        if secret is not None:
            try:
                bytes.fromhex(secret)
            except ValueError:
                raise ValueError("must be hexadecimal") from None
        return secret

    @model_validator(mode="after")
    def _check_source_of_otps(self) -> Self:
        if self.secret is not None and self.otps is not None:
            raise ValueError("a token has a secret or otps, not both")
        return self


class DeviceSeed(TokenSeed):
    """One device to begin with, and its token, which is in the inventory. `appears_after` is in seconds."""

    user_id: str = Field(min_length=1)
    device_id: str = Field(min_length=1)
    status: Literal["ACTIVATION_REQUIRED", "ACTIVE"] = "ACTIVATION_REQUIRED"

    locked: bool = False
    blocked: bool = False
    account_usable: bool = True
    forbidden: bool = False
    appears_after: float = Field(default=0, ge=0)


class UserSeed(BaseModel):
    """One user to begin with. Without `username` and `email` they are made of the id. Users of devices need no seed."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    user_id: str = Field(min_length=1)
    environment_id: str | None = None
    username: str | None = Field(default=None, min_length=1, max_length=128)
    email: str | None = Field(default=None, min_length=1)
    external_id: str | None = Field(default=None, min_length=1, max_length=1024)
    population_id: str = POPULATION_ID
    enabled: bool = True
    mfa_enabled: bool = False
    locked: bool = False


class WorldSeed(BaseModel):
    """An environment, the client that may act in it, its users, its tokens that are not paired, its devices, and
    settings to begin with. `client_jwks`: the client's public keys, for PRIVATE_KEY_JWT. `out_of_step`: the serial
    numbers of tokens that will be out of step once they are imported."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    environment_id: str = ENVIRONMENT_ID
    client_id: str = CLIENT_ID
    client_secret: str = Field(default=CLIENT_SECRET, repr=False)
    client_jwks: dict[str, Any] | None = None
    users: tuple[UserSeed, ...] = ()
    tokens: tuple[TokenSeed, ...] = ()
    devices: tuple[DeviceSeed, ...] = ()
    out_of_step: tuple[str, ...] = ()
    settings: dict[str, Any] = {}


def add_to_world(world: World, seed: WorldSeed, now: float) -> None:
    """Put the seed's users, tokens and devices into the world at the Unix time `now`."""
    for user_seed in seed.users:
        _add_user(world, user_seed, user_seed.environment_id or seed.environment_id)
    for token_seed in seed.tokens:
        _add_token(world, token_seed, token_seed.environment_id or seed.environment_id, now)
    for device_seed in seed.devices:
        _add_device(world, device_seed, device_seed.environment_id or seed.environment_id, now)
    world.out_of_step.update(seed.out_of_step)


def _add_device(world: World, seed: DeviceSeed, environment_id: str, now: float) -> None:
    user = world.directory.add(environment_id, seed.user_id)
    user.is_usable = user.is_usable and seed.account_usable
    token = _add_token(world, seed, environment_id, now)
    world.add(
        Device(
            id=seed.device_id,
            serial_number=seed.serial,
            environment_id=environment_id,
            user=user,
            token=token,
            created_at=now,
            updated_at=now,
            status=seed.status,
            locked_until=math.inf if seed.locked else None,
            blocked_at=now if seed.blocked else None,
            appears_at=now + seed.appears_after,
            forbidden=seed.forbidden,
        )
    )


def _add_user(world: World, seed: UserSeed, environment_id: str) -> None:
    user = world.directory.add(environment_id, seed.user_id)
    world.directory.rename(environment_id, user, username=seed.username, email=seed.email, external_id=seed.external_id)
    user.population_id, user.is_enabled, user.is_mfa_enabled = seed.population_id, seed.enabled, seed.mfa_enabled
    user.is_usable = user.is_usable and not seed.locked


def _add_token(world: World, seed: TokenSeed, environment_id: str, now: float) -> Token:
    token = _make_token(seed)
    world.inventory.add(
        InventoryToken(
            environment_id=environment_id,
            serial_number=seed.serial,
            type=seed.type,
            digits=seed.digits,
            hash=seed.hash,
            time_step=seed.time_step,
            token=token,
            created_at=now,
            imported_counter=seed.counter,
        )
    )
    return token


def _make_token(seed: TokenSeed) -> Token:
    otps: Otps
    if seed.secret is None:
        # Of OTPs without a secret only the order is known, and no time: so they are not bound to a clock, whatever the
        # token's type.
        otps, time_step = SequenceOtps(seed.otps or ()), None
    else:
        otps = SecretOtps(bytes.fromhex(seed.secret), seed.digits, seed.hash)
        time_step = seed.time_step if seed.type == "totp" else None
    pressed = seed.counter if seed.pressed is None else seed.pressed
    return Token(otps, seed.counter, time_step, seed.drift, seed.out_of_step, pressed)
