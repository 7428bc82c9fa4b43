"""The source of a record's OTPs: a pair from the shipment, or a seed (RFC 4226 and 6238). The types show no digit in a
repr, log line, or traceback. Also decrypts the pair or the seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.twofactor.hotp import HOTP

from models.encrypted import Keyring, identify_row

# Printed in place of an OTP.
MASK = "••••••"


class Otp:
    """One code shown by a token: 6 or 8 digits, leading zeros included. Prints as a mask; `reveal` gives the
    digits."""

    __slots__ = ("_digits",)

    def __init__(self, digits: str) -> None:
        if not (digits.isascii() and digits.isdigit() and len(digits) in (6, 8)):
            raise ValueError("an OTP has 6 or 8 digits")
        self._digits = digits

    def reveal(self) -> str:
        return self._digits

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Otp) and other._digits == self._digits

    def __hash__(self) -> int:
        return hash(self._digits)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an OTP is not pickled: it travels encrypted in the database and in the request only")


@dataclass(frozen=True, slots=True)
class OtpPair:
    """The OTPs of one record: the first, and the next consecutive one if the shipment has it. `spent`: OTPs of the
    record's earlier pairs that were sent, and are never sent again."""

    first: Otp
    second: Otp | None
    spent: frozenset[Otp] = frozenset()

    def list_sent(self, first_posts: int, second_posts: int) -> frozenset[Otp]:
        """List the sent OTPs: those of earlier pairs, and any of these two that was posted. Posts count, not the state:
        an OTP that a read found unused counts as unsent, but only its record may send it again."""
        posted = (self.first, first_posts), (self.second, second_posts)
        return self.spent | {otp for otp, posts in posted if otp and posts}

    def to_plaintext(self) -> bytes:
        """Write the pair in the form that is encrypted into its record: JSON, `{"otp1": "…", "otp2": "…" or null}`, and
        `spent` if there are any."""
        # Formatted here instead of by the json module, in a tenth of the time: digits need no escaping.
        second = f'"{self.second.reveal()}"' if self.second else "null"
        spent = ", ".join(f'"{digits}"' for digits in sorted(otp.reveal() for otp in self.spent))
        others = f', "spent": [{spent}]' if spent else ""
        return f'{{"otp1": "{self.first.reveal()}", "otp2": {second}{others}}}'.encode()

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> OtpPair:
        """Read a pair back from the JSON object that `to_plaintext` wrote."""
        second = Otp(fields["otp2"]) if fields["otp2"] is not None else None
        return cls(Otp(fields["otp1"]), second, frozenset(map(Otp, fields.get("spent", ()))))


OtpType = Literal["hotp", "totp"]
HashAlgorithm = Literal["sha1", "sha256", "sha512"]

_HASHES: dict[str, hashes.SHA1 | hashes.SHA256 | hashes.SHA512] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - what nearly all tokens have
    "sha256": hashes.SHA256(),
    "sha512": hashes.SHA512(),
}
# Hex digits of the hash that distinguishes seeds without showing them.
_SHOWN = 8


class Secret:
    """The secret of a token: bytes that print as their length and a short hash; `reveal` gives them."""

    __slots__ = ("_bytes",)

    def __init__(self, secret: bytes) -> None:
        if not secret:
            raise ValueError("a secret has at least one byte")
        self._bytes = bytes(secret)

    def reveal(self) -> bytes:
        return self._bytes

    def __repr__(self) -> str:
        """Length and the start of the SHA-256, such as `20 bytes, SHA-256 1f2e3d4c…`."""
        return f"{len(self._bytes)} bytes, SHA-256 {hashlib.sha256(self._bytes).hexdigest()[:_SHOWN]}…"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._bytes == self._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret is not pickled: it travels encrypted in the database only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """The seed that one token's OTPs are made from. `time_step` is in seconds for TOTP, None for HOTP; `counter` is the
    first one to use for HOTP, 0 for TOTP."""

    secret: Secret
    otp_type: OtpType = "hotp"
    digits: int = 6
    hash_algorithm: HashAlgorithm = "sha1"
    time_step: int | None = None
    counter: int = 0

    def __post_init__(self) -> None:
        if (self.otp_type == "totp") != (self.time_step is not None):
            raise ValueError("a TOTP seed has a time step, and an HOTP seed has none")
        if self.otp_type not in get_args(OtpType) or self.hash_algorithm not in _HASHES:
            raise ValueError("an OTP type or a hash that is not known")
        if self.digits not in (6, 8) or self.counter < 0 or (self.time_step is not None and self.time_step < 1):
            raise ValueError("digits, counter or time step out of range")

    def mint(self, counter: int) -> Otp:
        """Make the OTP of this counter: https://www.rfc-editor.org/rfc/rfc4226#section-5.3

        For TOTP the counter is the number of a time step: https://www.rfc-editor.org/rfc/rfc6238#section-4.2
        """
        algorithm = _HASHES[self.hash_algorithm]
        # People have tokens with shorter secrets than the RFC requires, and they cannot be changed.
        maker = HOTP(self.secret.reveal(), self.digits, algorithm, enforce_key_length=False)
        return Otp(maker.generate(counter).decode())

    def to_plaintext(self) -> bytes:
        """Write the seed in the form that is encrypted into its record: JSON, with the secret in hexadecimal as
        `seed`."""
        fields: dict[str, Any] = {
            "seed": self.secret.reveal().hex(),
            "type": self.otp_type,
            "digits": self.digits,
            "hash": self.hash_algorithm,
            "step": self.time_step,
            "counter": self.counter,
        }
        return json.dumps(fields).encode()

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Seed:
        """Read a seed back from the JSON object that `to_plaintext` wrote."""
        return cls(
            secret=Secret(bytes.fromhex(fields["seed"])),
            otp_type=fields["type"],
            digits=fields["digits"],
            hash_algorithm=fields["hash"],
            time_step=fields["step"],
            counter=fields["counter"],
        )


OtpSource: TypeAlias = OtpPair | Seed


def write_spent(otps: frozenset[Otp]) -> bytes:
    """Write the sent OTPs in the form that is encrypted into their record."""
    return json.dumps(sorted(otp.reveal() for otp in otps)).encode()


def open_spent(keyring: Keyring, sealed: bytes, batch_id: int, row_number: int) -> frozenset[Otp]:
    """Decrypt the sent OTPs of this row's record. Raises DecryptionError."""
    return frozenset(map(Otp, json.loads(keyring.open(sealed, identify_row(batch_id, row_number)))))


def read_otp_source(plaintext: bytes) -> OtpSource:
    """Read back what `to_plaintext` of a pair or a seed wrote; the value itself says which."""
    fields = json.loads(plaintext)
    return Seed.from_fields(fields) if "seed" in fields else OtpPair.from_fields(fields)


def open_otps(keyring: Keyring, sealed: bytes, batch_id: int, row_number: int) -> OtpSource:
    """Decrypt the pair or the seed of this row's record. Raises DecryptionError."""
    return read_otp_source(keyring.open(sealed, identify_row(batch_id, row_number)))
