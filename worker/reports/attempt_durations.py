"""How attempts ended and how long PingOne's calls took in them, counted since the beginning.

Lines of the history are never changed. So each is read once: what was counted is kept, and the next read begins where
the last one stopped."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, case, func, select

from models.attempt import AttemptLine

# The upper bounds of the histogram's buckets, in milliseconds; what took longer is in one more.
BOUNDS = (50, 100, 150, 200, 300, 500, 750, 1000, 2000, 5000, 10_000, 20_000, 60_000)
# The last so many ids are read again each time. A line is committed a moment after it took its id, and lines with
# higher ids may be there before it: so many more attempts do not end in that moment.
OVERLAP = 20_000


@dataclass(slots=True)
class AttemptTotals:
    """Attempts since the beginning."""

    # By batch (None in lines of versions before 0004) and outcome.
    attempts: Counter[tuple[int | None, str]] = field(default_factory=Counter)
    # Those that called PingOne, by outcome and number of the bucket, from 0.
    durations: Counter[tuple[str, int]] = field(default_factory=Counter)
    # How long their calls took, by outcome.
    milliseconds: Counter[str] = field(default_factory=Counter)

    def add(self, groups: Iterable[Row[*tuple[Any, ...]]]) -> None:
        """Add attempts that were counted."""
        for group in groups:
            self.attempts[group.batch_id, group.outcome] += group.attempts
            if group.bound is not None:
                self.durations[group.outcome, bisect_left(BOUNDS, group.bound)] += group.attempts
                self.milliseconds[group.outcome] += group.milliseconds

    def copy(self) -> AttemptTotals:
        """Make totals that can be added to without changing these."""
        return AttemptTotals(self.attempts.copy(), self.durations.copy(), self.milliseconds.copy())


class AttemptCounter:
    """The totals of all attempts, kept between two reads. For one thread."""

    def __init__(self) -> None:
        self._totals = AttemptTotals()
        # The id up to which lines are counted in these totals.
        self._counted_to = 0

    def read(self, connection: Connection) -> AttemptTotals:
        """Read the totals up to now."""
        latest = connection.scalar(select(func.max(AttemptLine.id))) or 0
        if latest < self._counted_to:
            # The database was restored from an earlier time.
            self._totals, self._counted_to = AttemptTotals(), 0
        mark = max(latest - OVERLAP, self._counted_to)
        self._totals.add(_group_attempts(connection, self._counted_to, mark))
        self._counted_to = mark
        totals = self._totals.copy()
        totals.add(_group_attempts(connection, mark, None))
        return totals


def _group_attempts(connection: Connection, after: int, up_to: int | None) -> Iterable[Row[*tuple[Any, ...]]]:
    """Count the attempts whose ids lie between these two, a row for each batch, outcome and bucket. `bound`: the upper
    bound of the bucket; None where PingOne was not called."""
    if up_to == after:
        return []
    took = AttemptLine.call_milliseconds
    bound = case(*((took <= bound, bound) for bound in BOUNDS), (took.is_not(None), BOUNDS[-1] + 1)).label("bound")
    columns = (AttemptLine.batch_id, AttemptLine.outcome, bound)
    lines = select(*columns, func.count().label("attempts"), func.sum(took).label("milliseconds"))
    lines = lines.where(AttemptLine.id > after).group_by(AttemptLine.batch_id, AttemptLine.outcome, "bound")
    # Fetched to the end, so that totals are changed by all of it or by nothing.
    return connection.execute(lines if up_to is None else lines.where(AttemptLine.id <= up_to)).all()
