"""People with a token in their hand, who sign on with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from worker.simulator.oath import hotp, time_step_at
from worker.simulator.own_rows import SeedRow
from worker.simulator.world import Outcome


@dataclass(frozen=True, slots=True)
class SignOn:
    """How a sign-on went: whether the person was let in, and how many OTPs were refused before."""

    is_let_in: bool
    refused: int

    @property
    def is_at_first_try(self) -> bool:
        """Whether the first OTP was accepted."""
        return self.is_let_in and not self.refused


@dataclass(slots=True)
class Person:
    """A person with a token, which stands where the vendor's file says, whatever PingOne was sent on its behalf. The
    clock of a TOTP token is `drift` time steps ahead."""

    token: SeedRow
    drift: int = 0
    _counter: int = field(init=False)

    def __post_init__(self) -> None:
        self._counter = self.token.counter

    def press(self, now: float) -> str:
        """Press the token at this Unix time, and read its OTP. One of HOTP shows another at each press."""
        token, position = self.token, self._counter
        if token.otp_type == "totp":
            position = time_step_at(now, token.time_step) + self.drift
        else:
            self._counter += 1
        return hotp(bytes.fromhex(token.secret), position, token.digits, token.hash_name)

    def sign_on(self, check: Callable[[str], Outcome], now: float, discarded: int = 0) -> SignOn:
        """Press the token and throw away so many OTPs; then type each OTP, until one is accepted or no further one is
        looked at. `check` is what PingOne says of an OTP."""
        for _ in range(discarded):
            self.press(now)
        refused = 0
        while (outcome := check(self.press(now))) is Outcome.INVALID_OTP:
            refused += 1
        return SignOn(outcome is Outcome.SIGNED_ON, refused)
