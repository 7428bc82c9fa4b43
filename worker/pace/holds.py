"""pingone: a process' part in the fleet's holds: it asks for one, hears of others', tells a wiped Redis again, and ends
them when a person says so."""

from __future__ import annotations

import time
from collections.abc import Callable

import redis

from worker.pace.local_holds import Holding
from worker.pace.state import PaceState, Reservation


class Holds:
    """Thread-safe. No hold is longer than `longest` seconds, whoever asks for it: after that the fleet asks PingOne
    again. `alone` is told, in a sentence, that this process failed where others do not; `lifted` is called when a
    person has lifted a hold."""

    def __init__(
        self,
        state: PaceState,
        longest: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        alone: Callable[[str], object],
        lifted: Callable[[], object],
    ) -> None:
        self.longest = longest
        self._state = state
        self._holding = Holding(clock)
        self._tell_alone, self._tell_lifted = alone, lifted

    @property
    def left(self) -> float:
        """Seconds that the fleet's hold still lasts, as far as this process asked for it."""
        return self._holding.left

    @property
    def left_alone(self) -> float:
        """Seconds that this process alone still holds."""
        return self._holding.left_alone

    def hold(self, seconds: float, why: str) -> None:
        """No slot for anyone in the next seconds; never shortens a hold. Kept here as well, for the case that Redis is
        out of reach or forgets: the next reservation tells it again."""
        seconds = min(seconds, self.longest)
        if seconds <= 0:
            return
        self._holding.extend(seconds, why)
        try:
            lifted = self._state.hold(seconds, why)
        except redis.RedisError:
            return
        if self.hear_lifted(lifted):
            # What was lifted is what came before.
            self._holding.extend(seconds, why)

    def undelivered(self, seconds: float, why: str) -> None:
        """A request could not be delivered. Where another process delivers, this one alone holds: its network is at
        fault, not PingOne. Otherwise the fleet does."""
        seconds = min(seconds, self.longest)
        try:
            is_alone, lifted = self._state.undelivered(seconds, why)
        except redis.RedisError:
            self._holding.extend(seconds, why)
            return
        self.hear_lifted(lifted)
        if is_alone:
            self._holding.extend_alone(seconds)
            self._tell_alone(f"{why}, and other processes deliver: only this one holds")
        else:
            self._holding.extend(seconds, why)

    def lift(self) -> None:
        """End the hold of the whole fleet. Raises redis.RedisError."""
        self.hear_lifted(self._state.lift())

    def reserve(self, furthest: float, answers: int, last: int) -> Reservation:
        """Ask for a slot, tell of a hold that Redis may have forgotten, and hear of those that it knows. Raises
        redis.RedisError."""
        holding = self._holding
        left = holding.left
        why = holding.why if left else ""
        reservation = self._state.reserve(furthest, left, answers, last, why, holding.lifted)
        holding.heard(reservation.held_until)
        self.hear_lifted(reservation.lifted)
        return reservation

    def hear_lifted(self, lifted: int) -> bool:
        """Redis says when a person lifted a hold last. True: that is news, and this process holds no longer."""
        is_news = self._holding.is_lifted(lifted)
        if is_news:
            self._tell_lifted()
        return is_news

    def came_after(self, slot: int, due: float) -> bool:
        """Whether a hold that this process knows of ends after this slot was due, which was at `due` by its clock."""
        return self._holding.came_after(slot, due)

    def is_held_past(self, slot: int) -> bool:
        """Nobody may send at this slot any more. Raises redis.RedisError."""
        known = self._holding.is_past(slot)
        return self._state.held_until() > slot if known is None else known
