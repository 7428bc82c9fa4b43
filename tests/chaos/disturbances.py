"""What befalls a stack, each under its name: it begins, lasts for a time that the schedule chooses, and ends."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random

from chaos.links import Link
from chaos.stack import THREADS, Stack
from chaos.stacks import SingleMachine
from sqlalchemy.exc import OperationalError

from worker.database.engine import Database

# Gives True where nothing can be done meanwhile, as it turned out; `is_outage` says that it is always so.
Begin = Callable[[Stack, Random], AbstractContextManager[bool | None]]
# Seconds that PingOne takes; and while everybody is to be caught in a call; well below a call's deadline.
LATENCY, SLOW = 0.02, 1.0


@dataclass(frozen=True)
class Disturbance:
    """`lasts`: seconds, from and to. `is_outage`: nothing can be done meanwhile, however good the code."""

    begin: Begin
    lasts: tuple[float, float] = (0.5, 1.5)
    is_outage: bool = False
    fits: Callable[[Stack], bool] = field(default=lambda _: True)


@contextmanager
def kill_worker(stack: Stack, dice: Random) -> Iterator[None]:
    name = dice.choice(stack.workers)
    stack.kill_worker(name)
    yield
    stack.start_worker(name)


@contextmanager
def kill_beat(stack: Stack, _: Random) -> Iterator[None]:
    stack.kill_beat()
    yield
    stack.start_beat()


@contextmanager
def kill_everything(stack: Stack, _: Random) -> Iterator[None]:
    for worker in stack.workers:
        stack.kill_worker(worker)
    stack.kill_beat()
    for server in stack.servers:
        stack.kill_server(server)
    yield
    for server in stack.servers:
        stack.start_server(server)
    for worker in stack.workers:
        stack.start_worker(worker)
    stack.start_beat()


@contextmanager
def kill_run(stack: Stack, _: Random) -> Iterator[None]:
    assert isinstance(stack, SingleMachine)
    stack.kill_run()
    yield
    stack.start_run()


@contextmanager
def flush_queue(stack: Stack, _: Random) -> Iterator[None]:
    stack.flush_queue()
    yield


@contextmanager
def kill_server(name: str, stack: Stack, _: Random) -> Iterator[None]:
    stack.kill_server(name)
    yield
    stack.start_server(name)


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
    stack.thaw_worker(name)


def _freeze_in_calls(stack: Stack, name: str) -> bool:
    """Frozen between the last look at the clock and the first byte out, a worker could not be stopped by anyone; frozen
    while it writes to SQLite, it would keep everybody from that. So all threads wait for an answer, and, on a busy
    machine, still do when it stands; a call that a client has given up looks open too, so others must be able to
    write."""
    everybody = THREADS * len(stack.workers)
    if stack.simulator.open_calls() < everybody:
        return False
    stack.freeze_worker(name)
    if stack.simulator.open_calls() >= everybody and _takes_writes(stack.database):
        return True
    stack.thaw_worker(name)
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
        stack.start_worker(worker)
    yield


@contextmanager
def disconnect(how: Callable[[Link], None], server: str, stack: Stack, dice: Random) -> Iterator[bool]:
    """One worker's way to it is cut or stalled, or both workers'."""
    workers = dice.choice([*([worker] for worker in stack.workers), list(stack.workers)])
    links = [stack.links[server][worker] for worker in workers]
    for link in links:
        how(link)
    yield len(links) == len(stack.workers)
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


def _has_server(name: str) -> Callable[[Stack], bool]:
    return lambda stack: name in stack.servers


def _has_link(name: str) -> Callable[[Stack], bool]:
    return lambda stack: name in stack.links_to


DISTURBANCES: dict[str, Disturbance] = {
    "kill_worker": Disturbance(kill_worker),
    "kill_beat": Disturbance(kill_beat),
    "kill_everything": Disturbance(kill_everything, is_outage=True),
    "kill_run": Disturbance(kill_run, fits=lambda stack: isinstance(stack, SingleMachine)),
    "flush_queue": Disturbance(flush_queue),
    "freeze_worker": Disturbance(freeze_worker, (0.0, 2.0)),
    "roll_workers": Disturbance(roll_workers, (0.0, 0.5)),
    "revoke_access_tokens": Disturbance(revoke_access_tokens, (0.0, 0.5)),
    "refuse_everything": Disturbance(refuse_everything, (1.0, 3.0), is_outage=True),
}
for _server in ("queue", "database"):
    DISTURBANCES[f"kill_{_server}"] = Disturbance(
        partial(kill_server, _server), is_outage=True, fits=_has_server(_server)
    )
for _server in ("pingone", "queue", "database"):
    for _name, _how, _lasts in (("cut", Link.cut, (0.5, 3.0)), ("stall", Link.stall, (1.0, 6.0))):
        DISTURBANCES[f"{_name}_{_server}"] = Disturbance(
            partial(disconnect, _how, _server), _lasts, fits=_has_link(_server)
        )
