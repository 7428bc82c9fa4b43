"""pingone: how far the search for the license's limit has come, and what a person makes of it.

What answers and refusals make of it: worker.pace.ceiling. Times are in seconds of one clock, rates in requests a
second."""

from __future__ import annotations

from dataclasses import dataclass, replace

# Relative growth of the rate a second, to begin with: doubled in a quarter of one.
RISE = 2.8
# Where the rate stays, as a part of the ceiling.
MARGIN = 0.99
# Seconds until the rate climbs again.
PROBE_AFTER = 120.0


@dataclass(frozen=True, slots=True)
class Search:
    """How far the search for the limit has come. `ceiling` is 0 until it is known."""

    rate: float
    climb: float = RISE
    # When this climb, or stay, began; and since when the answers were counted for the next look.
    begun_at: float = 0.0
    since: float = 0.0
    # Since when the rate stands as it does, and is used; and how fast it grew in its last step: slow answers make a
    # climb slower than meant.
    changed_at: float = 0.0
    speed: float = 0.0
    ceiling: float = 0.0
    # Where the climb before was refused, and its speed; 0 where none tells of this limit.
    refused_rate: float = 0.0
    refused_climb: float = 0.0
    # By how much the rate was lowered last while it stayed, and after how many seconds of staying.
    drop: float = 0.0
    lasted: float = 0.0
    # While it stays: when it climbs again, and how long it waited for that.
    probe_at: float = 0.0
    probe_after: float = PROBE_AFTER
    has_fallen: bool = False
    # The part of the ceiling that is ours.
    share: float = 1.0
    # Set by a person: does not move.
    is_fixed: bool = False

    @property
    def look_at(self) -> float:
        """The next look is due once a slot from here on was answered: after a hundredth of growth, if not too soon."""
        return self.since + (max(0.1, 0.01 / self.climb) if self.climb else 1.0)

    @property
    def is_shared(self) -> bool:
        """Ours is a part of a ceiling that was found, and no more."""
        return self.share < 1 and self.ceiling > 0

    @property
    def stay(self) -> float:
        """The rate to stay at below the ceiling."""
        return self.ceiling * MARGIN * self.share


def shared(search: Search, share: float, now: float) -> Search:
    """Keep to this part of the ceiling, 0 < share ≤ 1, as soon as that is known."""
    changed = replace(search, share=share)
    return staying(begun(replace(changed, rate=changed.stay), now), PROBE_AFTER) if search.ceiling else changed


def fixed(search: Search, rate: float, now: float) -> Search:
    """Stay at this rate whatever comes."""
    return begun(replace(search, rate=rate, is_fixed=True), now)


def freed(search: Search, now: float) -> Search:
    """Go on searching from the present rate."""
    return begun(Search(search.rate, share=search.share), now)


def remembered(ceiling: float, share: float, now: float) -> Search:
    """Begin where an earlier search ended."""
    known = Search(0.0, ceiling=ceiling, share=share)
    return staying(begun(replace(known, rate=known.stay), now), PROBE_AFTER)


def begun(search: Search, now: float) -> Search:
    """What is answered or refused from now on tells of the rate that it has now."""
    return replace(search, begun_at=now, since=now, changed_at=now, speed=0.0)


def staying(search: Search, seconds: float) -> Search:
    """At this rate, for so long."""
    return replace(search, climb=0.0, probe_after=seconds, probe_at=search.begun_at + seconds)
