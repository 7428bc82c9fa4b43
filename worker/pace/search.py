"""How far the search for the license's limit has come, and what a person's settings make of it.

What answers and refusals make of it: worker.pace.ceiling. Times are in seconds of one clock, rates in requests a
second."""

from __future__ import annotations

from dataclasses import dataclass, replace

# Relative growth of the rate a second in the first climb: doubled in a quarter of a second.
FIRST_CLIMB = 2.8
# Where the rate stays, as a part of the ceiling.
PART_OF_CEILING = 0.99
# Seconds until the rate climbs again, to see whether the limit has risen.
PROBE_AFTER = 120.0


@dataclass(frozen=True, slots=True)
class Search:
    """How far the search for the limit has come. Redis keeps the fields by these names."""

    # Requests a second.
    rate: float
    # Relative growth of the rate a second, as it is meant to be; 0 while the rate stays.
    climb: float = FIRST_CLIMB
    # When this climb, or stay, began.
    begun_at: float = 0.0
    # Answers to slots from here on are counted for the next review of the rate.
    since: float = 0.0
    # Since when the rate is what it is, and is used.
    changed_at: float = 0.0
    # How fast the rate grew in its last step, relative to itself, a second: slow answers make a climb slower than
    # meant.
    speed: float = 0.0
    # Where the limit was found; 0 until it is known.
    ceiling: float = 0.0
    # Where the climb before was refused, and its speed; 0 where no climb tells of this limit.
    refused_rate: float = 0.0
    refused_climb: float = 0.0
    # By which part the rate was lowered last while it stayed, and after how many seconds of staying.
    drop: float = 0.0
    lasted: float = 0.0
    # While the rate stays: when it climbs again.
    probe_at: float = 0.0
    # Seconds that it waits for that.
    probe_after: float = PROBE_AFTER
    # Whether a limit that was known was seen to fall.
    has_fallen: bool = False
    # The part of the ceiling that is ours, above 0 up to 1.
    share: float = 1.0
    # Whether a person has set the rate: then it does not move.
    is_fixed: bool = False

    @property
    def review_due_at(self) -> float:
        """When the rate is to be reviewed next: once a slot from here on was answered. That is after a hundredth of
        growth, but not sooner than after 0.1 s; after 1 s while the rate stays."""
        return self.since + (max(0.1, 0.01 / self.climb) if self.climb else 1.0)

    @property
    def is_shared(self) -> bool:
        """Whether we are to use a part only of a ceiling that is known."""
        return self.share < 1 and self.ceiling > 0

    @property
    def rate_below_ceiling(self) -> float:
        """The rate to stay at, just below our share of the ceiling."""
        return self.ceiling * PART_OF_CEILING * self.share


def set_share(search: Search, share: float, now: float) -> Search:
    """Keep to this part of the ceiling, 0 < share ≤ 1, as soon as the ceiling is known."""
    changed = replace(search, share=share)
    if not search.ceiling:
        return changed
    return hold_rate(restart_counting(replace(changed, rate=changed.rate_below_ceiling), now), PROBE_AFTER)


def fix_rate(search: Search, rate: float, now: float) -> Search:
    """Stay at this rate, whatever is answered or refused."""
    return restart_counting(replace(search, rate=rate, is_fixed=True), now)


def free_rate(search: Search, now: float) -> Search:
    """Search for the limit again, from the present rate; all but the share is forgotten."""
    return restart_counting(Search(search.rate, share=search.share), now)


def resume_below_ceiling(ceiling: float, share: float, now: float) -> Search:
    """Begin where an earlier search ended: just below the ceiling that it found."""
    known = Search(0.0, ceiling=ceiling, share=share)
    return hold_rate(restart_counting(replace(known, rate=known.rate_below_ceiling), now), PROBE_AFTER)


def restart_counting(search: Search, now: float) -> Search:
    """Count from now on: only what is answered or refused after this tells of the rate as it is now."""
    return replace(search, begun_at=now, since=now, changed_at=now, speed=0.0)


def hold_rate(search: Search, seconds: float) -> Search:
    """Stay at the present rate for so many seconds, counted from when this stay began; then climb again."""
    return replace(search, climb=0.0, probe_after=seconds, probe_at=search.begun_at + seconds)
