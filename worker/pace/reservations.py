"""The slots that one process reserves, and what it tells Redis and hears from it on that occasion."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from worker.database.combining import Combiner
from worker.pace.errors import SlotTooFar
from worker.pace.holds import Holds
from worker.pace.rate import Rate
from worker.pace.replies import Reservation
from worker.pace.slot import Slot
from worker.pace.spacing import Spacing
from worker.pace.state import MICROSECONDS
from worker.pace.unreported import UnreportedAnswers

# The answer to who asks for a slot where there is no state.
NO_SLOT = Reservation(is_reserved=False, slot=0, wait=0, interval=0, is_review_due=False)


class Reservations:
    """Reserves slots for one process, and reports its answers with each reservation. Thread-safe: threads that ask at
    the same time ask together.

    `clock` is the process' monotonic one, in seconds."""

    def __init__(self, holds: Holds, rate: Rate, spacing: Spacing, clock: Callable[[], float]) -> None:
        self._holds, self._rate, self._spacing = holds, rate, spacing
        self._clock = clock
        self._unreported = UnreportedAnswers()
        self._counting = threading.Lock()
        # Nothing is lost by slots of which it is not known whether they were reserved: they lapse.
        self._combiner = Combiner[float, Reservation](self._reserve_all, is_unclear=lambda _: True)
        # Slots that this process was given so far.
        self.count = 0

    def reserve(self, furthest: float) -> tuple[Slot, float]:
        """Reserve the fleet's next slot if it is no further than `furthest` seconds away; return it, and the seconds
        until it is due. Raises SlotTooFar, redis.RedisError."""
        reservation = self._combiner.submit(furthest)
        if reservation.is_review_due:
            self._rate.review()
        if not reservation.is_reserved:
            raise SlotTooFar(reservation.wait / MICROSECONDS)
        slot, interval = reservation.slot / MICROSECONDS, reservation.interval / MICROSECONDS
        self._spacing.note_slot(slot, interval, is_crowded=reservation.wait > 0)
        wait = reservation.wait / MICROSECONDS
        return Slot(reservation.slot, 1 / interval, self._clock() + wait), wait

    def add_answer(self, slot: Slot) -> None:
        """Count an answer to the request of this slot, to be reported with the next reservation."""
        self._unreported.add(slot.at)

    def report_answers(self) -> None:
        """Tell Redis of the answers so far, and hear of holds, without a slot. Raises redis.RedisError."""
        self._ask(())

    def _reserve_all(self, furthest: Sequence[float]) -> Sequence[Reservation]:
        """Reserve a slot for each of these, no further away than so many seconds. Where Redis has no state, write one
        first."""
        found = self._ask(furthest)
        if found is None:
            self._rate.change()
            found = self._ask(furthest)
        # Redis was wiped again: whoever asked comes again.
        return [NO_SLOT] * len(furthest) if found is None else found

    def _ask(self, furthest: Sequence[float]) -> Sequence[Reservation] | None:
        """Ask Redis once for slots, and count those that it gives; None if it has no state."""
        found = self._holds.reserve(furthest, *self._unreported.take())
        if found is None:
            return None
        news, reservations = found
        self._unreported.count_since(news.counted_since)
        with self._counting:
            self.count += sum(each.is_reserved for each in reservations)
        return reservations
