"""When the tokens of a batch became active, and when it was paused: few points of a curve, whatever the number of
tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from worker.reports.batch_report.contents import Command, State, Timeline
from worker.reports.batch_report.pauses import find_pauses
from worker.reports.batch_report.tally import Tally
from worker.reports.curve import Curve

# Points of the curve at most: a page shows no more of them.
MOST_MOMENTS = 240
# States in which nothing more is settled.
_OVER = ("finished", "cancelled")


def choose_moments(active: Sequence[float]) -> tuple[tuple[datetime, int], ...]:
    """The moments of a curve, with the number of tokens that were active by then. `active`: when each became so, as
    seconds since 1970 in ascending order. Of all moments in the same short span the last one is kept."""
    if not active:
        return ()
    first, span = active[0], max(active[-1] - active[0], 1e-3)
    kept: dict[int, tuple[float, int]] = {}
    for count, at in enumerate(active, 1):
        kept[int((at - first) / span * (MOST_MOMENTS - 2))] = (at, count)
    # The curve begins with the first token, not with the last one of the first span.
    moments = [(first, 1), *(moment for moment in kept.values() if moment != (first, 1))]
    return tuple((datetime.fromtimestamp(at, UTC), count) for at, count in moments)


def choose_curve(tally: Tally) -> Curve:
    """The curve of the tokens that were counted one by one."""
    return Curve(choose_moments(sorted(tally.active)), sorted(tally.settled))


def make_timeline(
    curve: Curve, commands: Sequence[Command], state: State, since: datetime, made_at: datetime
) -> Timeline:
    """The timeline of a batch that was loaded at `since`: up to the last token that was settled, or until now while the
    batch is not finished."""
    is_over = state.word in _OVER and curve.settled
    return Timeline(
        since=since,
        until=datetime.fromtimestamp(curve.settled[-1], UTC) if is_over else made_at,
        moments=curve.moments,
        pauses=tuple(find_pauses(commands, curve.settled, state, made_at)),
    )
