"""The server's side of one token: where it believes the token to be, and what it makes of an OTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from worker.simulator.oath import Otps, time_step_at


class Verdict(Enum):
    ACCEPTED = "accepted"
    EXTRA_OTP_REQUIRED = "extra_otp_required"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Rules:
    """How far a server looks, in OTPs, and its reading of what the vendor leaves open (see `settings`)."""

    look_ahead: int = 10
    resync_range: int = 100
    totp_window: int = 1
    totp_resync_range: int = 20
    extra_otp_needs_resync: bool = False
    first_otp_remembered: float = 300.0
    first_otp_used_up: bool = False


@dataclass(frozen=True, slots=True)
class FirstOtp:
    """The OTP that was answered with EXTRA_OTP_REQUIRED: the next one must follow it, before `until`."""

    position: int
    until: float


@dataclass(slots=True)
class Token:
    """A token as the server keeps it.

    `counter` is the lowest position still acceptable and only grows, so no OTP is accepted twice.
    `time_step`, in seconds, makes it a TOTP token, whose clock is `drift` steps ahead of ours. `out_of_step`
    makes every OTP count as one from beyond the window, until a resync.
    """

    otps: Otps
    counter: int = 0
    time_step: int | None = None
    drift: int = 0
    out_of_step: bool = False
    first: FirstOtp | None = field(default=None, repr=False)

    def offer(self, otp: str, *, resync: bool, now: float, rules: Rules) -> Verdict:
        """Judge an OTP at the Unix time `now`. A refusal ends a resync: it begins anew with a first OTP."""
        first, self.first = self.first, None
        if first is None or now >= first.until:
            return self._offer_first(otp, resync, now, rules)
        if otp == self.otps.at(first.position + 1):
            return self._accept(first.position + 1, now) if resync else Verdict.REFUSED
        if otp == self.otps.at(first.position):
            return Verdict.REFUSED if rules.first_otp_used_up else self._offer_first(otp, resync, now, rules)
        # With `oathResync` this was meant as the second OTP; without, a new pair begins.
        return Verdict.REFUSED if resync else self._offer_first(otp, resync, now, rules)

    def use_up(self, otp: str, *, now: float, rules: Rules) -> None:
        """Spend an OTP without acting on it: one reading of what becomes of an OTP whose answer is lost."""
        position = self._find(otp, self._far(now, rules))
        if position is not None:
            self.counter = position + 1

    def _offer_first(self, otp: str, resync: bool, now: float, rules: Rules) -> Verdict:
        position = None if self.out_of_step else self._find(otp, self._near(now, rules))
        if position is not None:
            return self._accept(position, now)
        position = self._find(otp, self._far(now, rules))
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

    def _near(self, now: float, rules: Rules) -> range:
        """The look-ahead window: RFC 4226 section 7.4, RFC 6238 section 6."""
        if self.time_step is None:
            return range(self.counter, self.counter + rules.look_ahead)
        return self._around(now, rules.totp_window)

    def _far(self, now: float, rules: Rules) -> range:
        if self.time_step is None:
            return range(self.counter, self.counter + max(rules.resync_range, rules.look_ahead))
        return self._around(now, max(rules.totp_resync_range, rules.totp_window))

    def _around(self, now: float, steps: int) -> range:
        assert self.time_step is not None  # noqa: S101 - callers have looked
        expected = time_step_at(now, self.time_step) + self.drift
        return range(max(self.counter, expected - steps), expected + steps + 1)

    def _find(self, otp: str, positions: range) -> int | None:
        return next((position for position in positions if self.otps.at(position) == otp), None)
