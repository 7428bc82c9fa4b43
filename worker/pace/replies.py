"""What Redis replies to a process that asks for a slot, and to one that reads the state of a license."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from worker.pace.search import Search


class Reservation(NamedTuple):
    """What Redis answers of one slot that was asked for. Times are in microseconds."""

    # False where the slot is too far away.
    is_reserved: bool
    # When the slot is due.
    slot: int
    # How far away it is.
    wait: int
    # Between two slots.
    interval: int
    # Whether there are enough answers to review the rate; True of one of the slots that were asked for together.
    is_review_due: bool


class PaceNews(NamedTuple):
    """What Redis tells each process that asks for slots. Times are in microseconds."""

    # Until when the fleet holds.
    held_until: int
    # Between two slots.
    interval: int
    # Since when answers count for the present rate.
    counted_since: int
    # 1 if there are enough answers to review the rate, otherwise 0.
    is_review_due: int
    # When a person lifted a hold last, 0 for never.
    last_lifting: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The state of a license as it was read from Redis. Times are in seconds of Redis' clock."""

    # None where Redis has none, or one of another version of this program.
    search: Search | None
    # Grows with each change, so that no process overwrites another's.
    version: int
    # Answers to slots since `search.since`.
    answers: int
    # The last of the slots that they were to.
    last: float
    now: float
    # When the fleet's hold ends; 0, or in the past, if there is none.
    held_until: float
    # All slots before this one are given out.
    next_slot: float
    # When the hold began that lasts until `held_until`, and why, in a sentence.
    held_since: float = 0.0
    held_why: str = ""
    # When a person lifted a hold last, in microseconds; another number each time, 0 for never.
    last_lifting: int = 0
    # Slots that were given out since `search.since`.
    slots: int = 0

    @property
    def hold_left(self) -> float:
        """Seconds that the fleet's hold still lasts, 0 if there is none."""
        return max(self.held_until - self.now, 0.0)
