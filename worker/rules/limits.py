"""What a record may cost, and how long it waits between two attempts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What the settings allow each record."""

    # Posts of OTPs, for one set of OTPs.
    posts: int = 3
    # Counted attempts, up to a replay.
    attempts: int = 8
    # Seconds after a call without an answer until the device is read: the call may still run at PingOne. A read that
    # tells nothing is repeated in proportion to it.
    read_delay: float = 30.0
    # Seconds after which a request that was marked as sent gets no answer any more, and PingOne is done with it.
    over_after: float = 55.0
    # Seconds after a 404 until the device is looked for again.
    not_found_delay: float = 10.0
    # Seconds for which the fleet holds at most when PingOne says `Retry-After`; a longer wait is a used-up quota.
    longest_hold: float = 120.0
