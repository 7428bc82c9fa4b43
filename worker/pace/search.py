"""How far the search for the license's limit has come, and what a person's settings make of it.

What answers and refusals make of it: worker.pace.ceiling. Times are in seconds of one clock, rates in requests a
second."""

from __future__ import annotations

from dataclasses import dataclass, replace

from worker.pace.refusals import LONG_HOLD, Mark, Refusal

# Relative growth of the rate a second in the first climb.
FIRST_CLIMB = 0.8
# Requests a second. Refusals lower no rate below this: what is refused at it is not refused for its rate.
LOWEST_RATE = 2.0
# Where the rate stays, as a part of the ceiling.
PART_OF_CEILING = 0.995
# Seconds. No hold is shorter.
LEAST_HELD = 0.001
# Seconds until the rate climbs again, to see whether the limit has risen, where a refusal wastes a second.
PROBE_AFTER = 30.0
# Seconds between two reviews of a rate that climbs or sprints, at the least.
STEP = 0.1
# Relative growth of the rate between two reviews of a climb.
GROWTH_A_REVIEW = 0.005
# Marks of a span that are kept.
KEPT_MARKS = 24


@dataclass(frozen=True, slots=True)
class Search:
    """How far the search for the limit has come. Redis keeps the fields by these names.

    A *span* is the time from when the fleet could send until it is refused."""

    # Requests a second.
    rate: float
    # Relative growth of the rate a second; 0 while the rate stays.
    climb: float = FIRST_CLIMB
    # A climb that comes further than this has found that what was known is wrong; 0 where nothing is known.
    expected: float = 0.0
    # When this span began.
    begun_at: float = 0.0
    # The rate is what it is from this slot on. Answers and slots from here on are counted for the next review.
    since: float = 0.0
    # Requests of this span before `since`.
    sent: float = 0.0
    # The way of this span so far: marks where the rate had moved by some percent.
    marks: tuple[Mark, ...] = ()
    # For how many seconds nothing was sent before this span: a bucket filled meanwhile.
    held: float = LONG_HOLD
    # The last slot that was refused; 0 until one was.
    refused_at: float = 0.0
    # The latest refusals that one limit explains, the newest at the end.
    refusals: tuple[Refusal, ...] = ()
    # Where the limit was found; 0 until it is known.
    ceiling: float = 0.0
    # Requests that the limit forgives at once; 0 where that is not known, or where it forgives none.
    burst: float = 0.0
    # Seconds over which the limit counts, if that is many; otherwise 0.
    period: float = 0.0
    # While the rate is above the ceiling, to spend what was gained in a hold: until when; otherwise 0.
    sprint_until: float = 0.0
    # By which part the rate was lowered last while it stayed.
    drop: float = 0.0
    # While the rate stays: when it climbs again.
    probe_at: float = 0.0
    # Seconds that it waits for that.
    probe_after: float = PROBE_AFTER
    # While the first request after each hold is refused again: since when; otherwise 0.
    closed_since: float = 0.0
    # Nothing goes out before this, to ask whether it is open again.
    knock_at: float = 0.0
    # The rate from before it closed, until the first review after it opened; otherwise 0.
    open_rate: float = 0.0
    # The part of the ceiling that is ours, above 0 up to 1.
    share: float = 1.0
    # Whether a person has set the rate: then it does not move.
    is_fixed: bool = False

    @property
    def review_due_at(self) -> float:
        """When the rate is to be reviewed next: once a slot from here on was answered. After 1 s while the rate
        stays."""
        if self.closed_since:
            return self.since
        if self.climb:
            return self.since + max(STEP, GROWTH_A_REVIEW / self.climb)
        return self.since + (STEP if self.sprint_until else 1.0)

    @property
    def is_shared(self) -> bool:
        """Whether we are to use a part only of a ceiling that is known."""
        return self.share < 1 and self.ceiling > 0

    @property
    def rate_below_ceiling(self) -> float:
        """The rate to stay at, just below our share of the ceiling."""
        return self.ceiling * PART_OF_CEILING * self.share

    @property
    def lasting_rate(self) -> float:
        """The rate without what is done for a moment: a sprint, or knocking."""
        if self.closed_since:
            return self.open_rate
        return self.rate_below_ceiling if self.sprint_until else self.rate

    @property
    def lowest_rate(self) -> float:
        """The rate below which a refusal does not lower it."""
        return min(LOWEST_RATE, self.rate)


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
    return restart_counting(Search(search.lasting_rate, share=search.share), now)


def resume_below_ceiling(ceiling: float, share: float, now: float) -> Search:
    """Begin where an earlier search ended: just below the ceiling that it found."""
    known = Search(0.0, ceiling=ceiling, share=share)
    return hold_rate(restart_counting(replace(known, rate=known.rate_below_ceiling), now), PROBE_AFTER)


def restart_counting(search: Search, now: float, held: float = LONG_HOLD) -> Search:
    """Begin a span: only what is answered or refused from now on tells of the rate as it is now. Nothing was sent for
    `held` seconds before."""
    return replace(
        search,
        begun_at=now,
        since=now,
        sent=0.0,
        marks=(),
        held=max(held, LEAST_HELD),
        sprint_until=0.0,
        closed_since=0.0,
        open_rate=0.0,
    )


def hold_rate(search: Search, seconds: float) -> Search:
    """Stay at the present rate for so many seconds, counted from when this span began; then climb again."""
    return replace(search, climb=0.0, expected=0.0, probe_after=seconds, probe_at=search.begun_at + seconds)


def set_mark(search: Search) -> Search:
    """Mark how far the span has come, since the rate moves here."""
    marks = (*search.marks, Mark(search.since - search.begun_at, search.sent))
    return replace(search, marks=marks[-KEPT_MARKS:])
