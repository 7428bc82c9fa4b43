"""The slots that one process reserves, and what it tells Redis and hears from it on that occasion."""

from __future__ import annotations

import threading
from collections.abc import Callable

from worker.pace.errors import SlotTooFar
from worker.pace.holds import Holds
from worker.pace.rate import Rate
from worker.pace.replies import NO_STATE, RESERVED, Reservation
from worker.pace.slot import Slot
from worker.pace.spacing import Spacing
from worker.pace.state import MICROSECONDS
from worker.pace.unreported import UnreportedAnswers

# Seconds. No slot is so near, so who asks for one within this reserves none, and only tells and hears.
NO_SLOT = -1.0


class Reservations:
    """Reserves slots for one process, and reports its answers with each reservation. Thread-safe.

    `clock` is the process' monotonic one, in seconds."""

    def __init__(self, holds: Holds, rate: Rate, spacing: Spacing, clock: Callable[[], float]) -> None:
        self._holds, self._rate, self._spacing = holds, rate, spacing
        self._clock = clock
        self._unreported = UnreportedAnswers()
        self._counting = threading.Lock()
        # Slots that this process was given so far.
        self.count = 0

    def reserve(self, furthest: float) -> tuple[Slot, float]:
        """Reserve the fleet's next slot if it is no further than `furthest` seconds away; return it, and the seconds
        until it is due. Raises SlotTooFar, redis.RedisError."""
        reservation = self._ask(furthest)
        if reservation.outcome == NO_STATE:
            self._rate.change()
            reservation = self._ask(furthest)
        if reservation.is_review_due:
            self._rate.review()
        if reservation.outcome != RESERVED:
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
        self._ask(NO_SLOT)

    def _ask(self, furthest: float) -> Reservation:
        """Ask Redis once, and count the slot if there is one."""
        reservation = self._holds.reserve(furthest, *self._unreported.take())
        self._unreported.count_since(reservation.counted_since)
        if reservation.outcome == RESERVED:
            with self._counting:
                self.count += 1
        return reservation
