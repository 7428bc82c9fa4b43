"""When the tokens of a batch became active: few points of a curve, whatever the number of tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

# Points of the curve at most: a page shows no more of them.
MOST_MOMENTS = 240


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
