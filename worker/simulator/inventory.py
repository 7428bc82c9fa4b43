"""The simulated inventory: which tokens an environment has, and the device that each of them is paired as."""

from __future__ import annotations

import math
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from worker.simulator.oath import SecretOtps
from worker.simulator.token import Token

# Of the ids of tokens that are there to begin with: the same for the same environment and serial number.
_NAMESPACE = uuid.UUID("0a7b0000-5e1f-4c0d-8000-00000000000a")


@dataclass(frozen=True, slots=True)
class Pairing:
    """The device that a token is paired as, and its user. The inventory does not show it before the Unix time
    `shown_at`."""

    device_id: str
    user_id: str
    shown_at: float = -math.inf


@dataclass(slots=True)
class InventoryToken:
    """A token as it was imported, with what the server knows of it since (`token`). `time_step` is in seconds, and
    counts for TOTP alone; `created_at` is a Unix time. `id` is PingOne's, and not the serial number. `made_by`: the
    number of the call that imported it, and `job_id` its job; None for a token that was there to begin with."""

    environment_id: str
    serial_number: str
    type: Literal["hotp", "totp"]
    digits: int
    hash: Literal["sha1", "sha256", "sha512"]
    time_step: int
    token: Token
    created_at: float
    id: str = ""
    imported_counter: int = 0
    made_by: int | None = None
    job_id: str | None = None
    pairing: Pairing | None = None

    def __post_init__(self) -> None:
        self.id = self.id or str(uuid.uuid5(_NAMESPACE, f"{self.environment_id}/{self.serial_number}"))

    @property
    def masked_secret(self) -> str:
        """The first two hexadecimal digits of the secret; of a token whose secret is not known, none."""
        otps = self.token.otps
        return f"{otps.secret[:1].hex().upper() if isinstance(otps, SecretOtps) else ''}******"

    def find_pairing(self, now: float) -> Pairing | None:
        """What the inventory shows by now of the device that the token is paired as."""
        return self.pairing if self.pairing is not None and now >= self.pairing.shown_at else None


class Inventory:
    """The tokens of all environments, in the order in which they came."""

    def __init__(self) -> None:
        self._tokens: dict[str, dict[str, InventoryToken]] = {}
        self._by_id: dict[str, dict[str, InventoryToken]] = {}

    def add(self, token: InventoryToken) -> None:
        """Add a token, in place of another with its serial number, whose pairing it takes over."""
        by_id = self._by_id.setdefault(token.environment_id, {})
        tokens = self._tokens.setdefault(token.environment_id, {})
        if former := tokens.get(token.serial_number):
            token.pairing = former.pairing
            del by_id[former.id]
        tokens[token.serial_number] = by_id[token.id] = token

    def remove(self, token: InventoryToken) -> None:
        """Remove a token."""
        del self._tokens[token.environment_id][token.serial_number]
        del self._by_id[token.environment_id][token.id]

    def tokens(self, environment_id: str) -> Collection[InventoryToken]:
        """All tokens of an environment."""
        return self._tokens.get(environment_id, {}).values()

    def all_tokens(self) -> list[InventoryToken]:
        """All tokens, in every environment."""
        return [token for tokens in self._tokens.values() for token in tokens.values()]

    def find(self, environment_id: str, serial_number: str) -> InventoryToken | None:
        """Find a token by its serial number."""
        return self._tokens.get(environment_id, {}).get(serial_number)

    def find_by_id(self, environment_id: str, token_id: str) -> InventoryToken | None:
        """Find a token by its id."""
        return self._by_id.get(environment_id, {}).get(token_id)

    def pair(self, environment_id: str, serial_number: str, pairing: Pairing) -> None:
        """Note what a token is paired as, if the inventory has it."""
        if token := self.find(environment_id, serial_number):
            token.pairing = pairing

    def unpair(self, environment_id: str, serial_number: str, device_id: str) -> None:
        """Set a token free that is paired as this device. It stays in the inventory."""
        token = self.find(environment_id, serial_number)
        if token is not None and token.pairing is not None and token.pairing.device_id == device_id:
            token.pairing = None
