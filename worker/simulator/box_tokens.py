"""The tokens of a made-up box: what they are, who gets them, and what is the matter with each."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from worker.simulator.oath import hotp
from worker.simulator.shipment import Expected, make_id
from worker.simulator.token import Rules

BoxKind = Literal[
    # Nothing is the matter; or PingOne asks for a second OTP.
    "in_step",
    "out_of_step",
    # Somebody was here before, and all is well: the token is in the inventory already; it is paired with the right user
    # too; it is even ACTIVE.
    "imported_before",
    "paired_before",
    "active_before",
    # The list names a user that is not there, or an address that two users have.
    "user_not_found",
    "user_ambiguous",
    # The user's account is disabled or locked, or has as many devices as it may.
    "user_disabled",
    "user_locked",
    "too_many_devices",
    # The token is in the inventory with other digits or another hash; it is paired with another user; or it is there
    # with another secret, so that every OTP is refused.
    "token_differs",
    "token_taken",
    "wrong_seed",
]

# How the record of each kind must end. A device that is ACTIVE already proves nothing, but it is ACTIVE.
BOX_EXPECTED: Mapping[BoxKind, Expected] = {
    "in_step": Expected("active"),
    "out_of_step": Expected("active", resynced=True),
    "imported_before": Expected("active"),
    "paired_before": Expected("active"),
    "active_before": Expected("active"),
    "user_not_found": Expected("dead_letter", "user_not_found"),
    "user_ambiguous": Expected("dead_letter", "user_ambiguous"),
    "user_disabled": Expected("dead_letter", "account_not_usable"),
    "user_locked": Expected("dead_letter", "account_not_usable"),
    "too_many_devices": Expected("dead_letter", "too_many_devices"),
    "token_differs": Expected("dead_letter", "token_differs"),
    "token_taken": Expected("dead_letter", "token_taken"),
    "wrong_seed": Expected("dead_letter", "invalid_otp"),
}

# OTPs of the box's secret that PingOne may be sent, of which none may be one of the inventory's secret by chance.
_COMPARED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxToken:
    """One token of the box, and its user. `secret` is hexadecimal; `counter` is that of the vendor's file, `time_step`
    is in seconds. `other_secret` is the one that the inventory has of a token with the wrong seed."""

    serial: str
    kind: BoxKind
    secret: str = field(repr=False)
    other_secret: str | None = field(default=None, repr=False)
    type: Literal["hotp", "totp"]
    digits: Literal[6, 8] = 6
    hash: Literal["sha1", "sha256"] = "sha1"
    time_step: Literal[30, 60] = 30
    counter: int
    user_id: str
    username: str
    email: str
    external_id: str

    @property
    def hash_of_another(self) -> Literal["sha1", "sha256"]:
        """Another hash than the token's own, which only TOTP can have."""
        return "sha256" if self.type == "totp" and self.hash == "sha1" else "sha1"


def make_tokens(kinds: list[BoxKind], totp: float, prefix: str, dice: random.Random) -> Iterator[BoxToken]:
    """Make up a token of each of these kinds; `totp` is the share of TOTP tokens."""
    for number, kind in enumerate(kinds, start=1):
        # Which OTPs go out for a TOTP token depends on the clock, so one with the wrong seed is of HOTP.
        is_totp = dice.random() < totp and kind != "wrong_seed"
        secret, counter = dice.randbytes(20), 0 if is_totp else dice.randrange(50)
        yield BoxToken(
            serial=f"{prefix}{number:07d}",
            kind=kind,
            secret=secret.hex(),
            other_secret=_draw_other_secret(secret, counter, dice).hex() if kind == "wrong_seed" else None,
            type="totp" if is_totp else "hotp",
            hash="sha256" if is_totp and dice.random() < 0.5 else "sha1",
            counter=counter,
            user_id=make_id(dice),
            username=f"person{number:07d}",
            email=f"person{number:07d}@example.com",
            external_id=f"E{number:07d}",
        )


def _draw_other_secret(secret: bytes, counter: int, dice: random.Random) -> bytes:
    """Draw a secret of which no OTP nearby is one of the token's."""
    sent = {hotp(secret, counter + position) for position in range(_COMPARED)}
    while True:
        other = dice.randbytes(20)
        accepted = {hotp(other, counter + position) for position in range(Rules().resync_range + _COMPARED)}
        if sent.isdisjoint(accepted):
            return other
