"""Other ways to move a rate, to be measured beside the product's in virtual time: additive increase and multiplicative
decrease, CUBIC as the AWS SDKs' adaptive retry mode has it, and an oracle that is told the limit.

Each begins at 30 requests a second, and the first two climb as fast as the product until they are refused once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from support.fleets.virtual_limits import Limit

# Relative growth of the rate a second until the first refusal.
FIRST_CLIMB = 0.8
# Seconds between two changes of the rate.
STEP = 0.1


@dataclass
class Rival:
    """What all of them have in common: the rate changes a little every tenth of a second, and slots from before the
    last refusal are part of it."""

    rate: float = 30.0
    highest: float = 5000.0
    since: float = 0.0
    held_until: float = 0.0
    begun_at: float = 0.0
    # The rate that was refused last; 0 before.
    refused_rate: float = 0.0

    @property
    def review_due_at(self) -> float:
        return self.since + STEP

    def learn_from_answers(self, slots: int, last: float, now: float, next_slot: float) -> bool:
        if slots + 1 >= 0.8 * self.rate * (max(now, next_slot) - self.since):
            self.rate = min(self.climb(max(now, next_slot) - self.since, now), self.highest)
        self.since = max(now, next_slot)
        return True

    def learn_from_refusal(self, rate: float, slot: float, count: int, resumes_at: float) -> bool:
        if slot < self.begun_at:
            return False
        self.refused_rate = self.rate
        self.rate = max(self.fall(), 0.5)
        self.begun_at = self.since = resumes_at
        return True

    def climb(self, seconds: float, now: float) -> float:
        return self.rate * math.exp(FIRST_CLIMB * seconds)

    def fall(self) -> float:
        return self.rate / 2


class Aimd(Rival):
    """Adds a constant, halves at a refusal."""

    # Requests a second that are added each second.
    ADDED = 5.0

    def climb(self, seconds: float, now: float) -> float:
        return self.rate + self.ADDED * seconds if self.refused_rate else super().climb(seconds, now)


class Cubic(Rival):
    """Falls to 70 %, comes back along a cubic to where it was refused, and beyond."""

    SCALE = 0.4
    BETA = 0.7

    def climb(self, seconds: float, now: float) -> float:
        if not self.refused_rate:
            return super().climb(seconds, now)
        back_after = math.cbrt(self.refused_rate * (1 - self.BETA) / self.SCALE)
        return self.SCALE * (now - self.begun_at - back_after) ** 3 + self.refused_rate

    def fall(self) -> float:
        return self.rate * self.BETA


class Oracle(Rival):
    """Is told the limit, and sends what it permits, evenly."""

    # Its part of the limit: requests do not arrive as evenly as they are sent.
    PART = 0.995

    def __init__(self, limit: Limit) -> None:
        super().__init__(rate=self.PART * limit.rate_at(0.0))
        self.limit = limit

    def climb(self, seconds: float, now: float) -> float:
        return self.PART * self.limit.rate_at(now)

    def fall(self) -> float:
        return self.PART * self.limit.rate_at(self.since)
