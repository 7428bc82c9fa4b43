"""One fault, everywhere: a few short days, each told once without a fault and then once for every place where an evil
may come, with this evil there and no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from hunt.scenario import Scenario
from hunt.schedule import Broken, Dice

# An evil, and the how many-th place where it may come.
Place = tuple[str, int]


class WalkedDice(Dice):
    """Lets evils come in these places and nowhere else, and counts the places."""

    def __init__(self, seed: int, forced: Collection[Place]) -> None:
        super().__init__(seed)
        self._forced = forced
        self.places = Counter[str]()

    def knows(self, evil: str) -> bool:
        return True

    def happens(self, evil: str, share: float) -> bool:
        if self.is_calm:
            return False
        self.places[evil] += 1
        comes = (evil, self.places[evil]) in self._forced
        self.happened[evil] += comes
        return comes


class Day(Scenario):
    """A day on which evils come where they are told to."""

    dice: WalkedDice

    def __init__(self, seed: int, forced: Collection[Place], *, tell: bool = False) -> None:
        self._forced = forced
        super().__init__(seed, tell=tell)

    def make_dice(self, seed: int, without: Collection[str]) -> Dice:
        return WalkedDice(seed, self._forced)


# By what is done on it: the seed of the day, and what befalls it in any case.
DAYS: dict[str, tuple[int, tuple[Place, ...]]] = {
    "a pair": (41, ()),
    "a pair out of step": (72, ()),
    "a seed out of step": (71, ()),
    "a box": (439, ()),
    "an undo": (175, (("undone", 40),)),
}
SHORTEST = "a pair"


@dataclass
class Walked:
    """What was walked of a day: of each evil, in how many places it came; and what that broke."""

    places: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def list_places(name: str) -> list[Place]:
    """Where an evil may come on this day, which itself keeps every promise. Raises Broken."""
    seed, always = DAYS[name]
    day = Day(seed, always)
    day.run()
    every = ((evil, number) for evil, count in day.dice.places.items() for number in range(1, count + 1))
    return [place for place in every if place not in always]


def walk(name: str) -> Walked:
    """Every single fault of this day."""
    walked = Walked()
    for place in list_places(name):
        walked.places[place[0]] += 1
        if charge := find_charge(name, place):
            walked.broken.append(f"{name}, {place[0]} {place[1]}: {charge}")
    return walked


def find_charge(name: str, place: Place) -> str | None:
    seed, always = DAYS[name]
    try:
        Day(seed, (*always, place)).run()
    except Broken as broken:
        return str(broken)
    return None


def tell(name: str, walked: Walked) -> Iterator[str]:
    """What was walked of a day, a line for each evil; and a line for each broken promise."""
    yield f"{name}: {walked.places.total()} places, {len(walked.broken)} broken"
    yield from (f"  {evil:24}{count:6}" for evil, count in sorted(walked.places.items()))
    yield from walked.broken
