"""Strands: flows of control that take turns. A strand runs until its next switch point; then the scheduler decides.
Time passes only when it says so. And chance: every kind of event draws from a stream of its own, so that leaving one
out disturbs the others little."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import TypeVar

from greenlet import greenlet

# The database's clock may run ahead of the workers' by so much while a lease is held: what is left of it for the call
# that begins last, 25 s, is 5 s more than the call's deadline; and a second less.
SPARE = 4.0

_BEGIN = datetime(2026, 1, 1)  # noqa: DTZ001 - as SQLite's functions read it: UTC without saying so


class Clock:
    """The processes' monotonic clock, and the database's, which may run ahead of it. In whole milliseconds, as SQLite
    writes times."""

    def __init__(self) -> None:
        self._passed = 0
        self._ahead = 0

    def monotonic(self) -> float:
        return self._passed / 1000

    def advance_to(self, moment: float) -> None:
        passed = math.ceil(moment * 1000)
        # The product may have been rounded down.
        passed += passed / 1000 < moment
        self._passed = max(self._passed, passed)

    def jump(self, seconds: float) -> None:
        """The database's clock is set; the processes' go on."""
        self._ahead += round(seconds * 1000)

    @property
    def ahead(self) -> float:
        return self._ahead / 1000

    def text(self) -> str:
        """The database's time."""
        now = _BEGIN + timedelta(milliseconds=self._passed + self._ahead)
        return now.isoformat(" ", "milliseconds")

    def moment_of(self, text: str) -> float:
        """When the processes' clock stands where the database writes this."""
        return (datetime.fromisoformat(text) - _BEGIN).total_seconds() - self.ahead


# Steps for which a strand lets its siblings go on.
MOST_STEPS = 100


class Died(BaseException):
    """The process ends here, wherever it was. No `except Exception` may hear of it."""


class Broken(BaseException):
    """A promise is broken. Of this no `except Exception` may hear either."""


class Strand:
    """One flow of control. `wakes_at` is on the processes' clock; `frozen` counts the scheduler's steps for which it
    is passed over, unless it `thaws` before; `wants` must be true as well. `siblings`: the strands of its process, with
    itself, which die together."""

    def __init__(self, name: str, body: Callable[[], None], siblings: list[Strand]) -> None:
        self.name = name
        self.wakes_at = 0.0
        self.frozen = 0
        # How often it came to a switch point.
        self.switches = 0
        self.thaws: Callable[[], bool] = lambda: False
        self.wants: Callable[[], bool] = lambda: True
        self.is_dying = False
        self.has_died = False
        self.siblings = siblings
        siblings.append(self)
        self._body = body
        self._greenlet = greenlet(self._run)

    @property
    def is_over(self) -> bool:
        return bool(self._greenlet.dead)

    def is_ready(self, now: float) -> bool:
        return self.wakes_at <= now and not self.frozen and not self.is_over and self.wants()

    def thaw(self) -> None:
        """By one step."""
        self.frozen = 0 if self.thaws() else self.frozen - 1
        if not self.frozen:
            self.thaws = lambda: False

    def go_on(self) -> None:
        self._greenlet.switch()

    def die(self) -> None:
        self.is_dying = True
        self._greenlet.switch()

    def stop(self) -> None:
        """Called by the strand itself: back to the scheduler, until it goes on or has to die."""
        self.switches += 1
        self._greenlet.parent.switch()
        if self.is_dying:
            raise Died

    def _run(self) -> None:
        try:
            if not self.is_dying:
                self._body()
        except Died:
            self.has_died = True


class Strands:
    """All strands of a scenario; one goes at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._all: list[Strand] = []
        self.current: Strand | None = None
        # A transaction is open: whatever stops now would stop everybody.
        self.is_in_transaction = False

    def start(self, name: str, body: Callable[[], None], siblings: list[Strand] | None = None) -> Strand:
        """Start a strand, of a process of its own or of that of these."""
        strand = Strand(name, body, [] if siblings is None else siblings)
        self._all.append(strand)
        return strand

    def alive(self) -> list[Strand]:
        self._all = [strand for strand in self._all if not strand.is_over]
        return self._all

    def ready(self) -> list[Strand]:
        """Who can go on at this step."""
        now = self._clock.monotonic()
        alive = self.alive()
        for strand in alive:
            if strand.frozen:
                strand.thaw()
        return [strand for strand in alive if strand.is_ready(now)]

    def progress(self) -> dict[str, int]:
        """How far each has come, by name."""
        return {strand.name: strand.switches for strand in self.alive()}

    def go_on(self, strand: Strand) -> None:
        """Let it run to its next switch point; or its process die there."""
        self._with(strand, strand.go_on)
        if strand.has_died:
            self.kill(strand)

    def kill(self, strand: Strand) -> None:
        """Let its process die, where each of its strands is."""
        for each in strand.siblings:
            if not each.is_over:
                self._with(each, each.die)

    def switch(self) -> None:
        """A switch point. In a person's command, which is one transaction, nobody comes between."""
        strand = self.current
        if strand is None:
            return
        if self.is_in_transaction:
            raise Broken("something else than the database is asked while a transaction is open")
        if strand.is_dying:
            raise Died
        strand.stop()

    def let_siblings_go_on(self, strand: Strand) -> None:
        """Pass a strand over, from its next switch point on, until none of its siblings can go on, or for MOST_STEPS of
        the scheduler's."""
        others = [each for each in strand.siblings if each is not strand]
        strand.frozen = MOST_STEPS
        strand.thaws = lambda: not any(each.is_ready(self._clock.monotonic()) for each in others)

    def sleep_until(self, moment: float) -> None:
        if self.current is not None:
            self.current.wakes_at = moment
        self.switch()

    def sleep(self, seconds: float) -> None:
        self.sleep_until(self._clock.monotonic() + seconds)

    def wait_for(self, wanted: Callable[[], bool]) -> None:
        """Until this is true."""
        strand = self.current
        assert strand is not None, "only a strand waits"
        strand.wants = wanted
        self.switch()
        strand.wants = lambda: True

    def _with(self, strand: Strand, act: Callable[[], None]) -> None:
        self.current = strand
        try:
            act()
        finally:
            self.current = None


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
