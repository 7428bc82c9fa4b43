"""The walk: a handful of days on which nothing is drawn by chance, each with one fault, at every place where it can
come. A day runs once without a fault, and counts how often each evil might have come; then once for each of these
times, and for each way in which PingOne may act on a call that is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from random import Random
from typing import TypeVar

from hunt import initial_state
from hunt.end_judge import judge_end
from hunt.model_network import UNREADABLE
from hunt.persons import Mending, Undoing
from hunt.scenario import Scenario, calm, storm
from hunt.schedule import Broken, Dice
from hunt.step_judge import MEND, UNDO
from hunt.tenant import ModelDevice, ModelPair, ModelSeed, Person, Tenant
from worker.config.settings import Settings, Tuning

T = TypeVar("T")

# PingOne never acts on a call of this evil, acts at once, or late.
WAYS = 3
HAS_WAYS = {*(evil for evil, _ in UNREADABLE), "dies_waiting", "process_dies"}
# What is drawn one way or the other, and comes true here although it is rare.
# Steps from one backup to the next.
BACKUP_EVERY = 10
_HAPPENS = {"prepare": 0.2, "tick": 0.4, "mended": 0.05}


@dataclass(frozen=True)
class Fault:
    """An evil that comes at one of the times at which it might; `way`: how PingOne acts then."""

    evil: str
    time: int
    way: int = 0

    def __str__(self) -> str:
        return f"{self.evil}:{self.time}:{self.way}"


class WalkDice(Dice):
    """Draws nothing: the likelier turn comes, the first of several, the middle of a span, and these faults."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(1)
        self._faults = faults
        self._way = max((fault.way for fault in faults), default=0)
        self._steps = 0
        # How often each evil might have come.
        self.times = Counter[str]()

    def knows(self, evil: str) -> bool:
        return True

    def happens_at_all(self, part: str) -> bool:
        return False

    def happens(self, evil: str, share: float) -> bool:
        if self.is_calm:
            return False
        time = self.times[evil]
        self.times[evil] += 1
        if not any((fault.evil, fault.time) == (evil, time) for fault in self._faults):
            return False
        self.happened[evil] += 1
        return True

    def chance(self, name: str, share: float) -> bool:
        if name == "backup":
            # One in a while, so that a restore forgets something.
            self._steps += 1
            return self._steps % BACKUP_EVERY == 1
        return share >= _HAPPENS.get(name, 0.51)

    def between(self, name: str, low: float, high: float) -> float:
        return (low + high) / 2

    def pick(self, name: str, among: Sequence[T]) -> T:
        return among[self._way * (len(among) - 1) // 2] if name in ("acts", "abandoned") else among[0]


class Day(Scenario):
    """A token, from its load to its end. Most days override what it is, or what a person does afterwards."""

    has_seed = lacks_all = False
    first_is = "right"
    # The command that a person gives when all is over.
    command = ""
    idle_steps = 2

    def __init__(self, faults: Sequence[Fault] = (), *, tell: bool = False) -> None:
        self._chosen = WalkDice(faults)
        super().__init__(1, steps=400, tell=tell)

    def _make_dice(self) -> Dice:
        return self._chosen

    def _choose_settings(self) -> Settings:
        tuning = Tuning(lease=60, lease_left_for_post=25)
        return Settings(encryption_keys=f"{initial_state.NEW_KEY},{initial_state.KEY}", tuning=tuning)

    def _choose_tenant(self) -> Tenant:
        return Tenant()

    def _load(self) -> list[ModelDevice]:
        pair = ModelPair("31415926", "27182818", self.first_is, second_is_right=True)
        seed = ModelSeed(initial_state.hotp(self.dice)) if self.has_seed else None
        person = Person("00000000-0000-0000-0000-000000000007", "user-1")
        device = ModelDevice("MADE0001", "00000000-0000-0000-0000-000000000001", person, [pair], seed=seed)
        lacking = None
        if self.lacks_all:
            device.device_id, device.is_in_inventory = "", False
            lacks = {"user_id": "", "username": person.username, "device_id": "", "is_in_inventory": False}
            lacking = {device.serial_number: lacks}
        initial_state.load_batch(self.database, "batch 1", [device], None, lacking)
        return [device]

    def _choose_threads(self) -> Sequence[int]:
        return (1, 1)

    def _go_on(self) -> None:
        storm(self)
        if self.command == UNDO:
            undoing = Undoing(self, "batch 1")
            self.undos.append((undoing, self.start_command(UNDO, undoing.run)))
        elif self.command == MEND:
            self.start_command(MEND, Mending(self).run)
        if self.command:
            storm(self)
        calm(self)
        judge_end(self)


class OutOfStep(Day):
    """PingOne asks for OTP 2."""

    first_is = "out_of_step"


class FromSeed(OutOfStep):
    """OTPs are made of a seed."""

    has_seed = True


class Box(FromSeed):
    """A token is imported, its person looked up, its device made."""

    lacks_all = True


class Undone(Box):
    """What was made is taken back."""

    command = UNDO


class Mended(Day):
    """A wrong pair is mended by a fresh one."""

    first_is = "wrong"
    command = MEND


DAYS: dict[str, type[Day]] = {
    "pair in step": Day,
    "pair out of step": OutOfStep,
    "seed": FromSeed,
    "box": Box,
    "undo": Undone,
    "mend": Mended,
}


@dataclass
class Walked:
    """One day: how often each evil might come, and what broke a promise, each with its charge."""

    times: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    broken: dict[Fault, str] = field(default_factory=dict)

    def add(self, other: Walked) -> None:
        self.runs += other.runs
        self.broken |= other.broken


def count_times(name: str) -> Counter[str]:
    """Run a day without a fault. Raises Broken."""
    day = DAYS[name]()
    day.run()
    return day._chosen.times


def list_faults(times: Counter[str]) -> Iterator[Fault]:
    """Every evil at every time at which it might come."""
    for evil, count in sorted(times.items()):
        for time, way in product(range(count), range(WAYS if evil in HAS_WAYS else 1)):
            yield Fault(evil, time, way)


def walk(name: str, faults: Sequence[Fault], together: int = 1) -> Walked:
    """Run a day once for each of these faults, or for so many neighbors `together`."""
    walked = Walked()
    for begin in range(0, len(faults), together):
        chosen = faults[begin : begin + together]
        walked.runs.update(fault.evil for fault in chosen)
        if charge := find_charge(name, chosen):
            walked.broken[chosen[0]] = " ".join(map(str, chosen[1:])) + charge
    return walked


def find_charge(name: str, faults: Sequence[Fault]) -> str | None:
    """Run a day with these faults; None if it keeps the promises."""
    try:
        DAYS[name](faults).run()
    except Broken as broken:
        return str(broken)
    return None


def draw_pairs(name: str, seed: int, count: int) -> list[Fault]:
    """So many pairs of faults of a day, drawn by a seed; two neighbors are a pair."""
    return Random(seed).choices(list(list_faults(count_times(name))), k=2 * count)


def tell(name: str, faults: Sequence[Fault]) -> list[str]:
    """What happened on a day with these faults, event by event."""
    day = DAYS[name](faults, tell=True)
    try:
        day.run()
    except Broken as broken:
        return [*(day.told or []), f"BROKEN: {broken}"]
    return [*(day.told or []), "kept every promise"]


def describe(days: dict[str, Walked]) -> Iterator[str]:
    """A table of what was walked: a day and kind of evil, its switch points, runs, and broken promises."""
    yield "| evil | " + " | ".join(days) + " |"
    yield "|---|" + "---|" * len(days)
    for evil in sorted(set().union(*(walked.times for walked in days.values()))):
        cells = (
            f"{walked.times[evil]} / {walked.runs[evil]} / {sum(fault.evil == evil for fault in walked.broken)}"
            if walked.times[evil]
            else "–"
            for walked in days.values()
        )
        yield f"| {evil} | " + " | ".join(cells) + " |"
    sums = ((w.times.total(), w.runs.total(), len(w.broken)) for w in days.values())
    yield "| all | " + " | ".join(f"{times} / {runs} / {broken}" for times, runs, broken in sums) + " |"
