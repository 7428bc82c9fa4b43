"""Looks now and then for batches whose due work does not move, as `status` says it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from worker.batches.commands import LicenseOf
from worker.batches.finding import read_running
from worker.database.engine import Database
from worker.notices.recording import UNKNOWN
from worker.reports.facts import read_statuses
from worker.reports.stall import Stall

# Seconds between two looks at least; a stall is one only after a minute.
LOOK_EVERY = 10.0
# After a look, no other is made for so many times as long as it took: counting the records of a large batch takes time.
TIMES_AS_LONG = 100


class StallWatch:
    """Remembers when it last looked. `clock` counts seconds. `only_batch`: the id of the one that is looked at, since
    nobody asked for work on others here; None: all are."""

    def __init__(
        self,
        database: Database,
        license_of: LicenseOf,
        clock: Callable[[], float] = time.monotonic,
        *,
        only_batch: int | None = None,
    ) -> None:
        self._database = database
        self._only_batch = only_batch
        self._license_of = license_of
        self._clock = clock
        self._next_look_at: float | None = None

    def find(self) -> Mapping[int, Stall | None]:
        """Find for each running batch with work left why it does not move, None while it does. Empty where it is too
        early for another look."""
        began_at = self._clock()
        if self._next_look_at is not None and began_at < self._next_look_at:
            return UNKNOWN
        with self._database.reading() as connection:
            batches = read_running(connection)
        looked_at = [batch for batch in batches if self._only_batch in (None, batch.id)]
        found = {batch.id: self._find_stall(batch.name) for batch in looked_at}
        now = self._clock()
        self._next_look_at = now + max(LOOK_EVERY, TIMES_AS_LONG * (now - began_at))
        return found

    def _find_stall(self, name: str) -> Stall | None:
        (status,) = read_statuses(self._database, name, self._license_of)
        return status.stall
