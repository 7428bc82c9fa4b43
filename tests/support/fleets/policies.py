"""How the rate of a fleet in virtual time moves: the product's way, and what every way has to offer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from worker.pace.search import Search, learn_from_answers, learn_from_refusal


class Policy(Protocol):
    """How a rate moves by what is answered and refused. Times are in seconds, rates in requests a second."""

    rate: float
    # Answers to slots from here on are counted, and an answer to a slot from there on lets the rate be reviewed.
    since: float
    review_due_at: float
    # The time before which nothing goes out, beyond what the limit asks for.
    held_until: float

    def learn_from_answers(self, slots: int, last: float, now: float, next_slot: float) -> bool:
        """Whether the rate, or what is known, has changed."""
        ...

    def learn_from_refusal(self, rate: float, slot: float, count: int, resumes_at: float) -> bool:
        """Whether the rate, or what is known, has changed."""
        ...


@dataclass
class Searching:
    """The pace of the product: its pure functions on its search."""

    search: Search = field(default_factory=lambda: Search(30.0))
    highest: float = 5000.0

    @property
    def rate(self) -> float:
        return self.search.rate

    @property
    def since(self) -> float:
        return self.search.since

    @property
    def review_due_at(self) -> float:
        return self.search.review_due_at

    @property
    def held_until(self) -> float:
        return self.search.knock_at if self.search.closed_since else 0.0

    def learn_from_answers(self, slots: int, last: float, now: float, next_slot: float) -> bool:
        before = self.search
        self.search = learn_from_answers(before, slots, last, now, self.highest, next_slot)
        return self.search is not before

    def learn_from_refusal(self, rate: float, slot: float, count: int, resumes_at: float) -> bool:
        before = self.search
        self.search = learn_from_refusal(before, rate, slot, count, resumes_at)
        return self.search is not before
