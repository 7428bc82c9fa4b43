"""OATH tokens: the OTPs that a token shows, by RFC 4226 and RFC 6238, and whether the server accepts an OTP."""

import hmac
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

Hash = Literal["sha1", "sha256", "sha512"]
OtpType = Literal["hotp", "totp"]

# How far a server looks for an OTP: in counters for HOTP, in time steps for TOTP. PingOne's values are not published;
# these are common ones.
LOOK_AHEAD = 10
RESYNC_RANGE = 100
TOTP_WINDOW = 1
TOTP_RESYNC_RANGE = 20
# Seconds within which the second OTP must follow the first.
FIRST_OTP_REMEMBERED = 300


def hotp(secret: bytes, counter: int, digits: int = 6, hash_name: str = "sha1") -> str:
    """The OTP at this counter: https://www.rfc-editor.org/rfc/rfc4226#section-5.3

    RFC 6238 puts the number of the time step in the counter's place, and permits hashes other than SHA-1.
    """
    mac = hmac.digest(secret, counter.to_bytes(8, "big"), hash_name)
    offset = mac[-1] & 0x0F
    code = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(code % 10**digits).zfill(digits)


def time_step_at(now: float, time_step: int) -> int:
    """The number of whole time steps since the Unix epoch: https://www.rfc-editor.org/rfc/rfc6238#section-4.2"""
    return int(now // time_step)


class Verdict(Enum):
    """What a server says about an OTP."""

    ACCEPTED = "accepted"
    EXTRA_OTP_REQUIRED = "extra_otp_required"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class FirstOtp:
    """The OTP that was answered with EXTRA_OTP_REQUIRED: the second must be the one after it, and come before the Unix
    time `until`."""

    position: int
    until: float


@dataclass(slots=True, kw_only=True)
class Token:
    """A token as the server keeps it. Without a `secret` it refuses every OTP. `time_step`, in seconds, matters only
    for TOTP.

    `counter` is the lowest position still acceptable and only grows, so no OTP is accepted twice; a position is a
    counter of HOTP, or the number of a time step of TOTP. A TOTP token's clock is `drift` steps ahead of the server's.
    If `out_of_step`, every OTP counts as beyond the look-ahead window, until a resync."""

    secret: bytes | None = field(default=None, repr=False)
    type: OtpType = "hotp"
    digits: int = 6
    hash: Hash = "sha1"
    time_step: int = 30
    counter: int = 0
    drift: int = 0
    out_of_step: bool = False
    first: FirstOtp | None = field(default=None, repr=False)

    def otp_at(self, position: int) -> str | None:
        """The OTP at this position; None if there is none."""
        if self.secret is None or position < 0:
            return None
        return hotp(self.secret, position, self.digits, self.hash)

    def check_otp(self, otp: str, *, resync: bool, now: float, needs_resync: bool = False) -> Verdict:
        """Accept or refuse an OTP at the Unix time `now`; `resync` is the request's `oathResync`, without which a first
        OTP cannot begin a resync if `needs_resync`. A refusal ends a resync, which then has to begin with a first OTP
        again."""
        first, self.first = self.first, None
        if first is not None and now < first.until:
            if otp == self.otp_at(first.position + 1):
                return self._accept(first.position + 1, now) if resync else Verdict.REFUSED
            # With `oathResync` this was meant as the second OTP, and is wrong; without it, the OTP is the first of a
            # new pair.
            if resync and otp != self.otp_at(first.position):
                return Verdict.REFUSED
        return self._check_first_otp(otp, now, may_resync=resync or not needs_resync)

    def _check_first_otp(self, otp: str, now: float, *, may_resync: bool) -> Verdict:
        position = None if self.out_of_step else self._find(otp, self._positions(now, LOOK_AHEAD, TOTP_WINDOW))
        if position is not None:
            return self._accept(position, now)
        position = self._find(otp, self._positions(now, RESYNC_RANGE, TOTP_RESYNC_RANGE))
        if position is None or not may_resync:
            return Verdict.REFUSED
        self.first = FirstOtp(position, now + FIRST_OTP_REMEMBERED)
        return Verdict.EXTRA_OTP_REQUIRED

    def _accept(self, position: int, now: float) -> Verdict:
        self.counter = position + 1
        self.out_of_step = False
        if self.type == "totp":
            self.drift = position - time_step_at(now, self.time_step)
        return Verdict.ACCEPTED

    def _positions(self, now: float, counters: int, steps: int) -> range:
        """The next counters, or the time steps around now: RFC 4226 section 7.4, RFC 6238 section 6."""
        if self.type == "hotp":
            return range(self.counter, self.counter + counters)
        expected = time_step_at(now, self.time_step) + self.drift
        return range(max(self.counter, expected - steps), expected + steps + 1)

    def _find(self, otp: str, positions: range) -> int | None:
        return next((position for position in positions if self.otp_at(position) == otp), None)
