"""Whether a pair of OTPs was made by a seed, one right after the other. Pure."""

from __future__ import annotations

from worker.intake import Row
from worker.vault.otp import OtpPair
from worker.vault.seed import Seed

# OTPs of a HOTP seed, beyond the last counter that we know of, among which a pair is looked for: as far as PingOne
# itself may look for it.
HOTP_WINDOW = 100
# Time steps before and after that of `generated_at`: a token's clock may be some minutes off.
TOTP_WINDOW = 20


def is_consecutive(row: Row, seed: Seed, reached: int | None) -> bool:
    """Whether the pair of this row is two consecutive OTPs of the seed. `reached`: the counter that earlier records of
    the token have come to, of HOTP. True where the row does not say when its TOTP pair was made."""
    assert isinstance(row.otps, OtpPair), "only a pair can be compared with a seed"  # noqa: S101
    counters = _choose_counters(row, seed, reached)
    if counters is None:
        return True
    previous = None
    for counter in counters:
        otp = seed.mint(counter)
        if previous == row.otps.first and otp == row.otps.second:
            return True
        previous = otp
    return False


def _choose_counters(row: Row, seed: Seed, reached: int | None) -> range | None:
    """Choose the counters, or time steps, that the pair may come from; None if that is not known."""
    if seed.time_step is None:
        return range(seed.counter, max(seed.counter, reached or 0) + HOTP_WINDOW)
    if row.generated_at is None:
        return None
    step = int(row.generated_at.timestamp() // seed.time_step)
    return range(max(step - TOTP_WINDOW, 0), step + TOTP_WINDOW + 1)
