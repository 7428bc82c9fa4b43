"""One stack, from its begin to its judge; which disturbances come, in what order and for how long, comes from the
seed."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from chaos.disturbances import DISTURBANCES, LATENCY, Disturbance
from chaos.stack import Stack
from chaos.stacks import PostgresqlStack, SingleMachine
from support.simulator.settings import DEVICE_OPERATIONS, PROVISIONING_OPERATIONS

from worker.simulator.shipment import A_FEW_HOPELESS, a_few_of_each, make_box, make_shipment

# Seconds of peace before each, at most.
PEACE = 0.7

Say = Callable[[str], None]
Kind = Callable[..., Stack]
STACKS: dict[str, Kind] = {"postgresql": PostgresqlStack, "embedded": SingleMachine}

# The share of a box's tokens that are of TOTP: each that is out of step waits for the next time step.
TOTP = 0.1
WEATHER: dict[str, Any] = {
    "faults": {
        "reset_before": 0.01,
        "reset_after": 0.01,
        "reset_late": 0.01,
        "error_before": 0.01,
        "error_after": 0.01,
        "hang_before": 0.005,
        "hang_after": 0.005,
        "drip": 0.005,
        "garbled": 0.01,
    },
    # More of them might use all the posts of a device up.
    "faults_per_device": 1,
    "fault_operations": [*DEVICE_OPERATIONS, "find_users", "list_tokens", "read_token", *PROVISIONING_OPERATIONS],
    "late_effect_after": 0.3,
    "latency": LATENCY,
}
# Requests a second of the other kinds of calls, which only a box needs.
GROUP_RATES = {"directory": 5, "inventory": 5, "configuration": 5}


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


def make_stack(kind: str, directory: Path, *, records: int, rate: float, seed: int = 0, is_box: bool = False) -> Stack:
    """`rate`: requests a second. `is_box`: the shipment is a vendor's box, and goes the whole way."""
    shipment = (
        make_box(records, seed=seed, totp=TOTP, special=a_few_of_each(records))
        if is_box
        else make_shipment(records, seed=seed, hopeless=A_FEW_HOPELESS)
    )
    settings = {"PINGONE_RATE": str(rate), "PINGONE_RATE_MAX": str(rate)}
    return STACKS[kind](directory, shipment, settings, WEATHER | {"group_rates": GROUP_RATES, "fault_seed": seed})


def run(
    kind: str, directory: Path, seed: int, say: Say, *, records: int, rate: float, is_box: bool = False
) -> Counter[str]:
    """What happened to it. Raises AssertionError or TimeoutError where a promise was broken."""
    with make_stack(kind, directory, records=records, rate=rate, seed=seed, is_box=is_box) as stack:
        stack.start()
        happened = disturb(stack, seed, say)
        status = stack.wait_until_finished()
        stack.judge()
        faults = Counter({f"fault {name}": count for name, count in stack.counts["faults"].items()})
    say(f"acquitted: {status.counts['active']} active, {status.dead_letters}")
    return happened + faults
