"""A process' part in the fleet's holds: it asks for one, hears of others', tells Redis again after it was wiped, and
ends them when a person says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import redis

from worker.pace.local_holds import LocalHolds
from worker.pace.replies import PaceNews, Reservation
from worker.pace.state import PaceState


class Holds:
    """The holds of a license, as one process asks for them and hears of them. Thread-safe.

    No hold is longer than `longest` seconds, whoever asks for it: after that the fleet asks PingOne again. `on_alone`
    is called with a sentence when this process failed where others do not; `on_lifted` when a person has lifted a
    hold."""

    def __init__(
        self,
        state: PaceState,
        longest: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        on_alone: Callable[[str], object],
        on_lifted: Callable[[], object],
    ) -> None:
        self.longest = longest
        self._state = state
        self._local = LocalHolds(clock)
        self._on_alone, self._on_lifted = on_alone, on_lifted

    @property
    def fleet_left(self) -> float:
        """Seconds that the fleet's hold still lasts, as far as this process asked for it; 0 if it did not."""
        return self._local.fleet_left

    @property
    def own_left(self) -> float:
        """Seconds that this process alone still holds, 0 if it does not."""
        return self._local.own_left

    def hold(self, seconds: float, why: str) -> None:
        """Give nobody in the fleet a slot in the next seconds; never shortens a hold.

        This process remembers it as well, in case that Redis is out of reach or forgets: the next reservation tells
        Redis again."""
        seconds = min(seconds, self.longest)
        if seconds <= 0:
            return
        self._local.extend_fleet_hold(seconds, why)
        try:
            last_lifting = self._state.hold(seconds, why)
        except redis.RedisError:
            return
        if self.note_lifting(last_lifting):
            # A person has lifted the holds of before, not this one.
            self._local.extend_fleet_hold(seconds, why)

    def report_undelivered(self, seconds: float, why: str) -> None:
        """Hold after a request that could not be delivered. Where another process delivers, this one holds alone: its
        network is at fault, not PingOne. Otherwise the fleet holds."""
        seconds = min(seconds, self.longest)
        try:
            is_alone, last_lifting = self._state.report_undelivered(seconds, why)
        except redis.RedisError:
            self._local.extend_fleet_hold(seconds, why)
            return
        self.note_lifting(last_lifting)
        if is_alone:
            self._local.extend_own_hold(seconds)
            self._on_alone(f"{why}, and other processes deliver: only this one holds")
        else:
            self._local.extend_fleet_hold(seconds, why)

    def lift(self) -> None:
        """End the hold of the whole fleet. Raises redis.RedisError."""
        self.note_lifting(self._state.lift())

    def reserve(self, furthest: Sequence[float], answers: int, last: int) -> tuple[PaceNews, list[Reservation]] | None:
        """Ask for slots, tell Redis of a hold that it may have forgotten, and hear of the holds that it knows; None if
        it has no state. Raises redis.RedisError."""
        local = self._local
        left = local.fleet_left
        why = local.why if left else ""
        found = self._state.reserve(furthest, left, answers, last, why, local.last_lifting)
        if found is not None:
            news, _ = found
            local.note_fleet_hold(news.held_until)
            self.note_lifting(news.last_lifting)
        return found

    def note_lifting(self, last_lifting: int) -> bool:
        """Note when a person lifted a hold last, as Redis says. If that is news, this process holds no longer; then
        True."""
        is_news = self._local.note_lifting(last_lifting)
        if is_news:
            self._on_lifted()
        return is_news

    def has_hold_after(self, slot: int, due: float) -> bool:
        """Whether a hold that this process knows of ends after this slot was due, which was at `due` by its clock."""
        return self._local.has_hold_after(slot, due)

    def is_held_past(self, slot: int) -> bool:
        """Whether a hold forbids to send at this slot by now. Raises redis.RedisError."""
        known = self._local.is_held_past(slot)
        return self._state.read_held_until() > slot if known is None else known
