"""What befalls a stack, each under its name: it begins, lasts for a time that the schedule chooses, and ends. And one
stack, from its begin to its judge; which disturbances come, in what order and for how long, comes from the seed."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from signal import SIGCONT, SIGSTOP
from typing import Any

from chaos.links import Link
from chaos.stacks import BEAT, RUN, THREADS, PostgresqlStack, SingleMachine, Stack
from sqlalchemy.exc import OperationalError
from support.simulator.simulation import DEVICE_OPERATIONS, PROVISIONING_OPERATIONS

from worker.database.engine import Database
from worker.simulator.shipment import A_FEW_HOPELESS, a_few_of_each, make_box, make_shipment

# Seconds that PingOne takes; and while everybody is to be caught in a call; well below a call's deadline.
LATENCY, SLOW = 0.02, 1.0


@dataclass(frozen=True)
class Disturbance:
    """`lasts`: seconds, from and to."""

    begin: Callable[[Stack, Random], AbstractContextManager[None]]
    lasts: tuple[float, float] = (0.5, 1.5)
    fits: Callable[[Stack], bool] = field(default=lambda _: True)


@contextmanager
def kill(choose: Callable[[Stack, Random], Sequence[str]], stack: Stack, dice: Random) -> Iterator[None]:
    """Kill these parts of the stack, and restart them, the first to be killed last."""
    names = choose(stack, dice)
    for name in names:
        stack.kill(name)
    yield
    for name in reversed(names):
        stack.start(name)


@contextmanager
def flush_queue(stack: Stack, _: Random) -> Iterator[None]:
    stack.flush_queue()
    yield


@contextmanager
def freeze_worker(stack: Stack, dice: Random) -> Iterator[None]:
    """Past its leases, until what was its own belongs to others."""
    before = stack.lost()
    name = dice.choice(stack.workers)
    stack.simulator.change(latency=SLOW)
    stack.wait_until(
        lambda: stack.is_finished() or _freeze_in_calls(stack, name),
        "a worker is frozen while all its threads are in a call",
    )
    stack.simulator.change(latency=LATENCY)
    if stack.is_finished():
        # The last records were too few for all threads.
        yield
        return
    stack.wait_until(lambda: stack.lost() > before, "the frozen worker's records are rescued")
    yield
    stack.send(name, SIGCONT)


def _freeze_in_calls(stack: Stack, name: str) -> bool:
    """Frozen between the last look at the clock and the first byte out, a worker could not be stopped by anyone; frozen
    while it writes to SQLite, it would keep everybody from that. So all threads wait for an answer, and, on a busy
    machine, still do when it stands; a call that a client has given up looks open too, so others must be able to
    write."""
    everybody = THREADS * len(stack.workers)
    if stack.simulator.open_calls() < everybody:
        return False
    stack.send(name, SIGSTOP)
    if stack.simulator.open_calls() >= everybody and _takes_writes(stack.database):
        return True
    stack.send(name, SIGCONT)
    return False


def _takes_writes(database: Database) -> bool:
    try:
        with database.writing():
            return True
    except OperationalError:
        return False


@contextmanager
def roll_workers(stack: Stack, _: Random) -> Iterator[None]:
    """A new version comes: one worker after the other is asked to end, and started again."""
    for worker in stack.workers:
        stack.stop_worker(worker)
        stack.start(worker)
    yield


@contextmanager
def disconnect(how: Callable[[Link], None], server: str, stack: Stack, dice: Random) -> Iterator[None]:
    """One worker's way to it is cut or stalled, or both workers'."""
    workers = dice.choice([*([worker] for worker in stack.workers), list(stack.workers)])
    links = [stack.links[server][worker] for worker in workers]
    for link in links:
        how(link)
    yield
    for link in links:
        link.heal()


@contextmanager
def revoke_access_tokens(stack: Stack, _: Random) -> Iterator[None]:
    stack.simulator.revoke_access_tokens()
    yield


@contextmanager
def refuse_everything(stack: Stack, _: Random) -> Iterator[None]:
    """429 to every call."""
    stack.simulator.change(rate=0)
    yield
    stack.simulator.change(rate=None)


def _kill(*names: str, fits: Callable[[Stack], bool] = lambda _: True) -> Disturbance:
    return Disturbance(partial(kill, lambda _stack, _dice: names), fits=fits)


DISTURBANCES: dict[str, Disturbance] = {
    "kill_worker": Disturbance(partial(kill, lambda stack, dice: [dice.choice(stack.workers)])),
    "kill_beat": _kill(BEAT),
    "kill_everything": Disturbance(partial(kill, lambda stack, _: [*stack.workers, BEAT, *stack.servers])),
    "kill_run": _kill(RUN, fits=lambda stack: isinstance(stack, SingleMachine)),
    "flush_queue": Disturbance(flush_queue),
    "freeze_worker": Disturbance(freeze_worker, (0.0, 2.0)),
    "roll_workers": Disturbance(roll_workers, (0.0, 0.5)),
    "revoke_access_tokens": Disturbance(revoke_access_tokens, (0.0, 0.5)),
    "refuse_everything": Disturbance(refuse_everything, (1.0, 3.0)),
    **{
        f"kill_{server}": _kill(server, fits=lambda stack, server=server: server in stack.servers)
        for server in ("queue", "database")
    },
    **{
        f"{name}_{server}": Disturbance(
            partial(disconnect, how, server), lasts, fits=lambda stack, server=server: server in stack.links
        )
        for server in ("pingone", "queue", "database")
        for name, how, lasts in (("cut", Link.cut, (0.5, 3.0)), ("stall", Link.stall, (1.0, 6.0)))
    },
}


# Seconds of peace before each, at most.
PEACE = 0.7

Say = Callable[[str], None]
STACKS: dict[str, Callable[..., Stack]] = {"postgresql": PostgresqlStack, "embedded": SingleMachine}

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
        stack.begin()
        happened = disturb(stack, seed, say)
        status = stack.wait_until_finished()
        stack.judge()
        faults = Counter({f"fault {name}": count for name, count in stack.counts["faults"].items()})
    say(f"acquitted: {status.counts['active']} active, {status.dead_letters}")
    return happened + faults
