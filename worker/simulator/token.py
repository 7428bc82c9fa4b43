"""What the server knows of one token, such as its counter, and whether it accepts an OTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from worker.simulator.oath import Otps, time_step_at


class Verdict(Enum):
    """What a server says of an OTP."""

    ACCEPTED = "accepted"
    EXTRA_OTP_REQUIRED = "extra_otp_required"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Rules:
    """How far a server looks for an OTP, and how it reads what the vendor leaves open: see `settings`, which has the
    same names."""

    look_ahead: int = 10
    resync_range: int = 100
    totp_window: int = 1
    totp_resync_range: int = 20
    extra_otp_needs_resync: bool = False
    first_otp_remembered: float = 300.0
    first_otp_used_up: bool = False


@dataclass(frozen=True, slots=True)
class FirstOtp:
    """The OTP that was answered with EXTRA_OTP_REQUIRED: the second must be the one after it, and come before the Unix
    time `until`."""

    position: int
    until: float


@dataclass(slots=True)
class Token:
    """A token as the server keeps it.

    `counter` is the lowest position still acceptable and only grows, so no OTP is accepted twice.
    `time_step`, in seconds, makes it a TOTP token, whose clock is `drift` steps ahead of the server's. `out_of_step`
    makes every OTP count as one from beyond the look-ahead window, until a resync. `pressed` is the position of the OTP
    that the button of the token itself shows next, of which the server knows nothing; a TOTP token goes by its clock.
    """

    otps: Otps
    counter: int = 0
    time_step: int | None = None
    drift: int = 0
    out_of_step: bool = False
    pressed: int = 0
    first: FirstOtp | None = field(default=None, repr=False)

    def check_otp(self, otp: str, *, resync: bool, now: float, rules: Rules) -> Verdict:
        """Accept or refuse an OTP at the Unix time `now`. A refusal ends a resync, which then has to begin with a first
        OTP again."""
        first, self.first = self.first, None
        if first is None or now >= first.until:
            return self._check_first_otp(otp, resync, now, rules)
        if otp == self.otps.at(first.position + 1):
            return self._accept(first.position + 1, now) if resync else Verdict.REFUSED
        if otp == self.otps.at(first.position):
            return Verdict.REFUSED if rules.first_otp_used_up else self._check_first_otp(otp, resync, now, rules)
        # With `oathResync` this was meant as the second OTP, and is wrong; without, it is the first of a new pair.
        return Verdict.REFUSED if resync else self._check_first_otp(otp, resync, now, rules)

    def press_twice(self) -> tuple[str, str] | None:
        """Press the token's button twice, and return the two OTPs that it shows; None if it has no button, or no more
        OTPs of it are known."""
        if self.time_step is not None:
            return None
        first, second = self.otps.at(self.pressed), self.otps.at(self.pressed + 1)
        if first is None or second is None:
            return None
        self.pressed += 2
        return first, second

    def accepts_sign_on(self, otp: str, *, now: float, rules: Rules) -> bool:
        """Check an OTP at a sign-on, and use it up if it is accepted. There is no second OTP as in an activation: it
        has to lie in the look-ahead window."""
        position = self._find(otp, self._look_ahead_window(now, rules))
        if position is None:
            return False
        self._accept(position, now)
        return True

    def use_up(self, otp: str, *, now: float, rules: Rules) -> None:
        """Make an OTP unusable without any other effect: so a server may treat the OTP of a call that failed
        half-way."""
        position = self._find(otp, self._resync_positions(now, rules))
        if position is not None:
            self.counter = position + 1

    def _check_first_otp(self, otp: str, resync: bool, now: float, rules: Rules) -> Verdict:
        position = None if self.out_of_step else self._find(otp, self._look_ahead_window(now, rules))
        if position is not None:
            return self._accept(position, now)
        position = self._find(otp, self._resync_positions(now, rules))
        if position is None or (rules.extra_otp_needs_resync and not resync):
            return Verdict.REFUSED
        self.first = FirstOtp(position, now + rules.first_otp_remembered)
        if rules.first_otp_used_up:
            # The counter has moved up to the token, but only a second OTP proves that this was no guess.
            self.counter, self.out_of_step = position + 1, True
        return Verdict.EXTRA_OTP_REQUIRED

    def _accept(self, position: int, now: float) -> Verdict:
        self.counter = position + 1
        self.out_of_step = False
        if self.time_step is not None:
            self.drift = position - time_step_at(now, self.time_step)
        return Verdict.ACCEPTED

    def _look_ahead_window(self, now: float, rules: Rules) -> range:
        """The positions at which an OTP is accepted at once: RFC 4226 section 7.4, RFC 6238 section 6."""
        if self.time_step is None:
            return range(self.counter, self.counter + rules.look_ahead)
        return self._positions_around(now, rules.totp_window)

    def _resync_positions(self, now: float, rules: Rules) -> range:
        """The positions at which an OTP is recognized, and may begin a resync."""
        if self.time_step is None:
            return range(self.counter, self.counter + max(rules.resync_range, rules.look_ahead))
        return self._positions_around(now, max(rules.totp_resync_range, rules.totp_window))

    def _positions_around(self, now: float, steps: int) -> range:
        assert self.time_step is not None  # noqa: S101 - callers have checked that this is a TOTP token
        expected = time_step_at(now, self.time_step) + self.drift
        return range(max(self.counter, expected - steps), expected + steps + 1)

    def _find(self, otp: str, positions: range) -> int | None:
        return next((position for position in positions if self.otps.at(position) == otp), None)
