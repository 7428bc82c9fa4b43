"""Which disturbances come, in what order and for how long: all from the seed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from chaos.disturbances import DISTURBANCES, Disturbance
from chaos.stack import Stack

# Seconds of peace before each, at most.
PEACE = 0.7

Say = Callable[[str], None]


@dataclass(frozen=True)
class Event:
    """A disturbance that is to come: after so many seconds, for so many; `seed` is for its own choices."""

    name: str
    after: float
    lasts: float
    seed: int

    @property
    def disturbance(self) -> Disturbance:
        return DISTURBANCES[self.name]

    def __str__(self) -> str:
        return f"{self.name} for {self.lasts:.1f} s"


def draw(seed: int, stack: Stack) -> Iterator[Event]:
    """Without end: all that fit the stack in a random order, again and again."""
    dice = Random(seed)
    while True:
        names = [name for name, disturbance in DISTURBANCES.items() if disturbance.fits(stack)]
        dice.shuffle(names)
        for name in names:
            yield Event(name, dice.uniform(0, PEACE), dice.uniform(*DISTURBANCES[name].lasts), dice.getrandbits(32))


def disturb(stack: Stack, seed: int, say: Say, *, once: bool = False) -> Counter[str]:
    """Disturb the stack until its batch is finished, or, `once`, until it has had everything; how often each came."""
    began, happened = time.monotonic(), Counter[str]()
    for event in draw(seed, stack):
        if stack.is_finished() or (once and event.name in happened):
            return happened
        time.sleep(event.after)
        say(f"{time.monotonic() - began:6.1f} s  {event}")
        _let_happen(stack, event)
        happened[event.name] += 1
    raise AssertionError("a schedule has no end")


def _let_happen(stack: Stack, event: Event) -> None:
    """From its begin to its end; and on goes the work, by itself."""
    with event.disturbance.begin(stack, Random(event.seed)):
        time.sleep(event.lasts)
    before = stack.simulator.posts()
    stack.wait_until(
        lambda: stack.simulator.posts() > before or stack.is_finished(), f"work goes on after {event.name}"
    )
