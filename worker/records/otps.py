"""The OTPs of one record: the two of its pair, or those that its seed makes at the moment when they are sent."""

from __future__ import annotations

import math
from dataclasses import dataclass

from worker.pingone.client import PingOneClock
from worker.rules.minting import Mint, Now, StepMissed, WaitForStep, choose_hotp_counter, choose_time_step
from worker.rules.progress import Progress
from worker.vault.otps import Otp, OtpPair, OtpSource


@dataclass(frozen=True, slots=True)
class FromPair:
    """The OTP stands in the record's pair, and may go out at any time."""

    until: float = math.inf
    # It is made from no counter.
    counter: None = None


class Otps:
    """Where the OTPs of one attempt come from. No OTP of a TOTP seed goes out in the last `margin` seconds of its time
    step, by PingOne's clock."""

    def __init__(self, source: OtpSource, clock: PingOneClock, margin: float) -> None:
        self._source = source
        self._clock = clock
        self._margin = margin

    @property
    def lack_clock(self) -> bool:
        """Whether PingOne's time is needed, and no answer has told it yet."""
        return not isinstance(self._source, OtpPair) and self._source.otp_type == "totp" and not self._clock.is_known

    def choose(self, progress: Progress, ordinal: int) -> FromPair | Mint | WaitForStep | StepMissed:
        """Choose where OTP `ordinal` comes from now, or say why it cannot go now."""
        if isinstance(self._source, OtpPair):
            return FromPair()
        if self._source.time_step is None:
            return choose_hotp_counter(progress)
        return choose_time_step(progress, ordinal, self._source.time_step, Now(*self._clock.now()), self._margin)

    def seconds_left(self, chosen: FromPair | Mint) -> float:
        """Seconds until an OTP that was chosen must not go out any more; infinity if it lasts."""
        if chosen.until == math.inf:
            return math.inf
        _, latest = self._clock.now()
        return chosen.until - latest

    def take(self, ordinal: int, counter: int | None) -> Otp:
        """Take OTP `ordinal` of the pair, or make the one of this counter."""
        if not isinstance(self._source, OtpPair):
            assert counter is not None, "the OTPs of a seed are made from a counter"  # noqa: S101
            return self._source.mint(counter)
        otp = self._source.first if ordinal == 1 else self._source.second
        assert otp is not None, "decisions asks for a second OTP only if the record brought one"  # noqa: S101
        return otp
