"""Seeds that are made up for tokens."""

from __future__ import annotations

from hunt.dice import Dice
from worker.vault.otps import Secret, Seed


def hotp(dice: Dice) -> Seed:
    return Seed(secret=_secret(dice), digits=8, counter=dice.whole("seeds", 0, 1000))


def totp(dice: Dice) -> Seed:
    return Seed(secret=_secret(dice), digits=8, otp_type="totp", time_step=dice.pick("seeds", (30, 60)))


def _secret(dice: Dice) -> Secret:
    return Secret(dice.whole("seeds", 1, 2**159).to_bytes(20, "big"))
