"""Chance: every kind of event draws from a stream of its own, so that leaving one out disturbs the others little."""

from collections import Counter
from collections.abc import Collection, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

# How often an evil comes in the scenarios that know it, next to its usual share.
_MOODS = (0.5, 1.0, 2.0, 4.0)


class Dice:
    """`without` names the evils that are left out of the seed's own choice."""

    def __init__(self, seed: int, without: Collection[str] = ()) -> None:
        self._seed = seed
        self._without = without
        self._streams: dict[str, Random] = {}
        self._moods: dict[str, float] = {}
        self.is_calm = False
        # What happened in fact, and how often: the rest need not be tried when a failure is shrunk.
        self.happened = Counter[str]()

    def stream(self, name: str) -> Random:
        if name not in self._streams:
            self._streams[name] = Random(f"{self._seed}:{name}")
        return self._streams[name]

    def knows(self, evil: str) -> bool:
        """Whether this evil may come at all, in this seed's scenario."""
        return evil not in self._without and self._mood(evil) > 0

    def happens(self, evil: str, share: float) -> bool:
        """Whether this evil comes now."""
        if self.is_calm or evil in self._without:
            return False
        share *= self._mood(evil)
        if not share or self.stream(evil).random() >= share:
            return False
        self.happened[evil] += 1
        return True

    def permits(self, part: str) -> bool:
        """Whether the scenario keeps this part, which is no evil by itself, but may be left out like one."""
        if part in self._without:
            return False
        self.happened[part] += 1
        return True

    def one_of(self, evils: Sequence[tuple[str, float]]) -> str | None:
        """The first of these evils, each with its share, that comes now."""
        return next((evil for evil, share in evils if self.happens(evil, share)), None)

    def chance(self, name: str, share: float) -> bool:
        """A turn of events that is no evil."""
        return self.stream(name).random() < share

    def between(self, name: str, low: float, high: float) -> float:
        return self.stream(name).uniform(low, high)

    def whole(self, name: str, low: int, high: int) -> int:
        return self.stream(name).randint(low, high)

    def pick(self, name: str, among: Sequence[T]) -> T:
        return self.stream(name).choice(among)

    def _mood(self, evil: str) -> float:
        """Most scenarios do not know this evil at all: what remains stands out."""
        if evil not in self._moods:
            stream = self.stream(evil)
            self._moods[evil] = stream.choice(_MOODS) if stream.random() < 0.4 else 0.0
        return self._moods[evil]
