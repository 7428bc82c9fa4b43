"""Tokens that are to be imported: how they are read and checked, and what the inventory has of them afterwards.

https://developer.pingidentity.com/pingone-api (OATH tokens)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from worker.simulator.inventory import InventoryToken
from worker.simulator.oath import SecretOtps
from worker.simulator.settings import Settings
from worker.simulator.token import Token

Hash = Literal["sha1", "sha256", "sha512"]

_SERIAL_NUMBER = re.compile(r"[A-Za-z0-9]{1,50}")
_SECRET = re.compile(r"(?:[0-9A-Fa-f]{2}){1,100}")
_HASHES: Mapping[str, Hash] = {"HmacSHA1": "sha1", "HmacSHA256": "sha256", "HmacSHA512": "sha512"}
_REQUIRED = ("serialNumber", "secret", "type", "otpLength")


class BadToken(Exception):
    """A token cannot be imported. `target` is the field at fault, `detail_code` says what is wrong with it."""

    def __init__(self, target: str, detail_code: str = "INVALID_VALUE") -> None:
        super().__init__(target)
        self.target = target
        self.detail_code = detail_code


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that is to be imported. `time_step` is in seconds, and counts for TOTP alone."""

    serial_number: str
    secret: bytes = field(repr=False)
    type: Literal["hotp", "totp"]
    digits: int
    hash: Hash
    time_step: int
    counter: int

    def enter(
        self, environment_id: str, now: float, *, made_by: int, job_id: str | None, out_of_step: bool
    ) -> InventoryToken:
        """Make the inventory's token of it, at the Unix time `now`."""
        otps = SecretOtps(self.secret, self.digits, self.hash)
        time_step = self.time_step if self.type == "totp" else None
        return InventoryToken(
            environment_id=environment_id,
            serial_number=self.serial_number,
            type=self.type,
            digits=self.digits,
            hash=self.hash,
            time_step=self.time_step,
            token=Token(otps, self.counter, time_step, out_of_step=out_of_step, pressed=self.counter),
            created_at=now,
            id=str(uuid4()),
            imported_counter=self.counter,
            made_by=made_by,
            job_id=job_id,
        )


def read_new_token(fields: object, settings: Settings) -> NewToken:
    """Read a token as a client sends it. Raises BadToken."""
    if not isinstance(fields, dict):
        raise BadToken("", "REQUIRED_VALUE")
    for name in _REQUIRED:
        if fields.get(name) is None:
            raise BadToken(name, "REQUIRED_VALUE")
    otp_type = _choose(fields, "type", {"HOTP": "hotp", "TOTP": "totp"})
    return NewToken(
        serial_number=_match(fields, "serialNumber", _SERIAL_NUMBER),
        secret=bytes.fromhex(_match(fields, "secret", _SECRET)),
        type="totp" if otp_type == "totp" else "hotp",
        digits=_read_number(fields["otpLength"], "otpLength", (6, 8)),
        hash=_read_hash(fields, otp_type, settings),
        time_step=_read_time_step(fields) if otp_type == "totp" else 30,
        counter=_read_counter(fields) if otp_type == "hotp" else 0,
    )


def _match(fields: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = fields[name]
    if not (isinstance(value, str) and pattern.fullmatch(value)):
        raise BadToken(name)
    return value


def _choose(fields: dict[str, Any], name: str, choices: Mapping[str, str]) -> str:
    value = fields[name]
    if not (isinstance(value, str) and value in choices):
        raise BadToken(name)
    return choices[value]


def _read_hash(fields: dict[str, Any], otp_type: str, settings: Settings) -> Hash:
    """Read the hash, which for HOTP can only be SHA-1."""
    value = fields.get("hashAlgorithm")
    if value is None:
        return settings.absent_totp_hash if otp_type == "totp" else "sha1"
    if not (isinstance(value, str) and value in _HASHES) or (otp_type == "hotp" and value != "HmacSHA1"):
        raise BadToken("hashAlgorithm")
    return _HASHES[value]


def _read_time_step(fields: dict[str, Any]) -> int:
    totp = fields.get("totp")
    if not isinstance(totp, dict) or totp.get("timeStep") is None:
        raise BadToken("totp.timeStep", "REQUIRED_VALUE")
    return _read_number(totp["timeStep"], "totp.timeStep", (30, 60))


def _read_counter(fields: dict[str, Any]) -> int:
    hotp = fields.get("hotp")
    if hotp is None:
        return 0
    if not isinstance(hotp, dict):
        raise BadToken("hotp")
    return _read_number(hotp.get("counter", 0), "hotp.counter", range(2**63))


def _read_number(value: object, name: str, permitted: tuple[int, ...] | range) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in permitted:
        raise BadToken(name)
    return value
