"""The simulated inventory: which tokens an environment has, and the device that each of them is paired as."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from worker.simulator.token import Token

# Of the ids that tokens get: the same for the same environment and serial number.
_NAMESPACE = uuid.UUID("0a7b0000-5e1f-4c0d-8000-00000000000a")


@dataclass(frozen=True, slots=True)
class Pairing:
    """The device that a token is paired as, and its user."""

    device_id: str
    user_id: str


@dataclass(slots=True)
class InventoryToken:
    """A token as it was imported, with what the server knows of it since (`token`). `time_step` is in seconds, and
    counts for TOTP alone; `created_at` is a Unix time."""

    environment_id: str
    serial_number: str
    type: Literal["hotp", "totp"]
    digits: int
    hash: Literal["sha1", "sha256", "sha512"]
    time_step: int
    token: Token
    created_at: float
    pairing: Pairing | None = None

    @property
    def id(self) -> str:
        """PingOne's id of the token, which is not its serial number."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.environment_id}/{self.serial_number}"))


class Inventory:
    """The tokens of all environments, in the order in which they came."""

    def __init__(self) -> None:
        self._tokens: dict[str, dict[str, InventoryToken]] = {}
        self._serial_numbers: dict[tuple[str, str], str] = {}

    def add(self, token: InventoryToken) -> None:
        """Add a token, in place of another with its serial number, whose pairing it takes over."""
        tokens = self._tokens.setdefault(token.environment_id, {})
        if former := tokens.get(token.serial_number):
            token.pairing = former.pairing
        tokens[token.serial_number] = token
        self._serial_numbers[token.environment_id, token.id] = token.serial_number

    def tokens(self, environment_id: str) -> Collection[InventoryToken]:
        """All tokens of an environment."""
        return self._tokens.get(environment_id, {}).values()

    def find(self, environment_id: str, serial_number: str) -> InventoryToken | None:
        """Find a token by its serial number."""
        return self._tokens.get(environment_id, {}).get(serial_number)

    def find_by_id(self, environment_id: str, token_id: str) -> InventoryToken | None:
        """Find a token by its id."""
        serial_number = self._serial_numbers.get((environment_id, token_id))
        return None if serial_number is None else self.find(environment_id, serial_number)

    def pair(self, environment_id: str, serial_number: str, pairing: Pairing) -> None:
        """Note what a token is paired as, if the inventory has it."""
        if token := self.find(environment_id, serial_number):
            token.pairing = pairing

    def unpair(self, environment_id: str, serial_number: str, device_id: str) -> None:
        """Set a token free that is paired as this device. It stays in the inventory."""
        token = self.find(environment_id, serial_number)
        if token is not None and token.pairing is not None and token.pairing.device_id == device_id:
            token.pairing = None
