"""What is known of a record: how far its OTPs have come, and what its attempts have found. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.reason import Reason
from models.record import OtpState


@dataclass(frozen=True, slots=True)
class OtpProgress:
    """What became of one OTP so far. `posts` counts requests that may have reached PingOne."""

    state: OtpState = OtpState.UNSENT
    posts: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """All that decides about a record. `attempts` includes this one, and starts anew at a replay."""

    first: OtpProgress = OtpProgress()
    second: OtpProgress | None = OtpProgress()
    attempts: int = 1
    verdict: Reason | None = None
    not_found: int = 0
    is_stale: bool = False
    # 0 up to 1, drawn once an attempt: spreads what comes back.
    jitter: float = 0.0

    @property
    def posts(self) -> int:
        return self.first.posts + (self.second.posts if self.second else 0)

    @property
    def is_half_done(self) -> bool:
        """Of a record that goes on: PingOne has asked for OTP 2, which has not gone out."""
        second = self.second
        is_answered = self.first.state == OtpState.ANSWERED and second is not None and second.state == OtpState.UNSENT
        return is_answered and self.verdict is None

    @property
    def is_open(self) -> bool:
        """The fate of an OTP is open: it may have made the device ACTIVE."""
        return self.first.state == OtpState.SENT or (self.second is not None and self.second.state == OtpState.SENT)

    @property
    def needs_read(self) -> bool:
        """The fate of an OTP is open, or a verdict waits: only a read may make this record final."""
        return self.is_open or self.verdict is not None

    def with_otp(self, ordinal: int, otp: OtpProgress) -> Progress:
        return replace(self, first=otp) if ordinal == 1 else replace(self, second=otp)

    def otp(self, ordinal: int) -> OtpProgress:
        otp = self.first if ordinal == 1 else self.second
        assert otp is not None, "only an OTP that the record brought is sent"  # noqa: S101
        return otp

    def with_otp_sent(self, ordinal: int) -> Progress:
        """It is about to go out: of unknown fate until an answer was read."""
        return self.with_otp(ordinal, OtpProgress(OtpState.SENT, self.otp(ordinal).posts + 1))

    def with_otp_answered(self, ordinal: int) -> Progress:
        return self.with_otp(ordinal, replace(self.otp(ordinal), state=OtpState.ANSWERED))

    def with_otp_unsent(self, ordinal: int) -> Progress:
        """It never reached PingOne, or PingOne did nothing with it: as if it had not been sent."""
        return self.with_otp(ordinal, OtpProgress(OtpState.UNSENT, self.otp(ordinal).posts - 1))

    def with_device_waiting(self) -> Progress:
        """A read found the device still waiting: an OTP of unknown fate was not taken, and may go again. What was not
        found stays counted: a device that can be read and not posted to must come to an end as well."""
        known = self
        for ordinal in (1, 2) if self.second else (1,):
            if known.otp(ordinal).state == OtpState.SENT:
                known = known.with_otp(ordinal, replace(known.otp(ordinal), state=OtpState.UNSENT))
        return known
