"""Where the OTPs of one attempt come from: a pair from the shipment, or a seed and PingOne's clock."""

import math

from worker.clocks import PingOneClock
from worker.rules.steps import Mint, Now, Progress, StepMissed, WaitForStep, choose_hotp_counter, choose_time_step
from worker.vault.otps import Otp, OtpPair, OtpSource


class Otps:
    """The OTPs of one attempt. No OTP of a TOTP seed is sent in the last `margin` seconds of its time step, by
    PingOne's clock."""

    def __init__(self, source: OtpSource, clock: PingOneClock, margin: float) -> None:
        self._source = source
        self._clock = clock
        self._margin = margin

    @property
    def lacks_time(self) -> bool:
        """Whether an OTP needs PingOne's time, and no answer has given it yet."""
        return not isinstance(self._source, OtpPair) and self._source.otp_type == "totp" and not self._clock.is_known

    def choose(self, progress: Progress, ordinal: int) -> Mint | WaitForStep | StepMissed:
        """Choose the source of OTP `ordinal`, or say why it cannot be sent now."""
        if isinstance(self._source, OtpPair):
            return Mint(None)
        if self._source.time_step is None:
            return choose_hotp_counter(progress)
        return choose_time_step(progress, ordinal, self._source.time_step, Now(*self._clock.now()), self._margin)

    def seconds_left(self, chosen: Mint) -> float:
        """Seconds for which a chosen OTP may be sent: until its time step ends, by PingOne's clock; infinity if it has
        no time step, as is true of all OTPs chosen before PingOne's time is known."""
        return chosen.until - self._clock.now()[1] if self._clock.is_known else math.inf

    def list_sent(self, progress: Progress) -> frozenset[Otp]:
        """List the OTPs of the pair that were sent; none for a seed, whose sent OTPs the record's counter shows."""
        if not isinstance(self._source, OtpPair):
            return frozenset()
        return self._source.list_sent(progress.first.posts, progress.second.posts if progress.second else 0)

    def take(self, ordinal: int, counter: int | None) -> Otp:
        """Return OTP `ordinal` of the pair, or make the seed's OTP for this counter."""
        if not isinstance(self._source, OtpPair):
            assert counter is not None, "the OTPs of a seed are made from a counter"  # noqa: S101
            return self._source.mint(counter)
        otp = self._source.first if ordinal == 1 else self._source.second
        assert otp is not None, "decisions asks for a second OTP only if the record brought one"  # noqa: S101
        return otp
