"""How long tokens took from their first attempt until they were active, as far as the database knows. Pure.

It keeps when an attempt ended and when the last OTP was sent, but not when an attempt began. So a token that became
active at its first attempt counts from the sending of its last OTP, any other from the end of its first attempt."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class DurationLine:
    """How long some tokens took until they were active: half of them at most `median`, 95 in 100 at most `p95`. The
    three are None where there is no token."""

    tokens: int
    median: float | None = None
    p95: float | None = None
    longest: float | None = None


@dataclass(frozen=True, slots=True)
class Durations:
    """How long tokens took: those that became active at their first attempt, those that took more, and both."""

    first_attempt: DurationLine
    more_attempts: DurationLine
    all: DurationLine


def make_array() -> array[float]:
    """Make an empty array of numbers, of eight bytes each, so that those of many tokens fit into memory."""
    return array("d")


@dataclass(slots=True)
class DurationTally:
    """Keeps the seconds of every active token."""

    _first_attempt: array[float] = field(default_factory=make_array)
    _more_attempts: array[float] = field(default_factory=make_array)

    def add(
        self, attempts: int, first_ended_at: datetime | None, otp_sent_at: datetime | None, active_at: datetime | None
    ) -> None:
        """Count an active token; not one of which nothing was sent."""
        if otp_sent_at is None or active_at is None:
            return
        began_at = min(filter(None, (first_ended_at, otp_sent_at)))
        seconds = max((active_at - began_at).total_seconds(), 0.0)
        (self._first_attempt if attempts <= 1 else self._more_attempts).append(seconds)

    def measure(self) -> Durations:
        """The medians and the longest ones."""
        both = self._first_attempt + self._more_attempts
        return Durations(*(measure_line(sorted(each)) for each in (self._first_attempt, self._more_attempts, both)))


def measure_line(ordered: Sequence[float]) -> DurationLine:
    """Median, 95th percentile and the longest of seconds in ascending order."""
    if not ordered:
        return DurationLine(0)
    return DurationLine(len(ordered), _find_percentile(ordered, 50), _find_percentile(ordered, 95), ordered[-1])


def _find_percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that so many in a hundred do not exceed."""
    return ordered[max(-(-len(ordered) * percent // 100) - 1, 0)]
