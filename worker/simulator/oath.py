"""The OTPs that a token shows: computed from its secret by RFC 4226 and RFC 6238, or known in advance."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Protocol


def hotp(secret: bytes, counter: int, digits: int = 6, hash_name: str = "sha1") -> str:
    """The OTP at this counter: https://www.rfc-editor.org/rfc/rfc4226#section-5.3

    RFC 6238 puts the number of the time step in the counter's place, and permits the hashes besides SHA-1.
    """
    mac = hmac.digest(secret, counter.to_bytes(8, "big"), hash_name)
    offset = mac[-1] & 0x0F
    code = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(code % 10**digits).zfill(digits)


def time_step_at(now: float, time_step: int) -> int:
    """The number of whole time steps since the Unix epoch: https://www.rfc-editor.org/rfc/rfc6238#section-4.2"""
    return int(now // time_step)


class Otps(Protocol):
    """The OTPs of a token by position: a counter, the number of a time step, or the place in a known sequence."""

    def at(self, position: int) -> str | None:
        """The OTP at this position; None if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class SecretOtps:
    """The OTPs of a token whose secret is known."""

    secret: bytes = field(repr=False)
    digits: int = 6
    hash_name: str = "sha1"

    def at(self, position: int) -> str | None:
        return hotp(self.secret, position, self.digits, self.hash_name) if position >= 0 else None


@dataclass(frozen=True, slots=True)
class SequenceOtps:
    """The OTPs of a token of which only a few are known, that it shows one after the other, from position 0 on.

    An empty sequence is a token that accepts no OTP at all.
    """

    otps: tuple[str, ...] = field(repr=False)

    def at(self, position: int) -> str | None:
        return self.otps[position] if 0 <= position < len(self.otps) else None
