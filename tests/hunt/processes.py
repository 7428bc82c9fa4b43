"""Who works, as strands: worker processes and dispatchers, whose parts are put together by the real worker.process. And
the places where the real code looks at the clock, sleeps, waits for another thread or
reaches the network by itself: all of them names in our own modules. Everything else it is given."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import copy
from functools import cache, cached_property, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import redis

import worker.batches.imports
import worker.batches.long_list
import worker.batches.preparation
import worker.batches.undo
import worker.clocks
import worker.leases.group_commit
import worker.leases.lease
import worker.pace.license_paces
import worker.pace.slots
import worker.pingone.auth
import worker.pingone.client
import worker.records.activation
import worker.records.attempt
from hunt import initial_state
from hunt.database import DatabaseLost
from hunt.model_network import Bug, ModelNetwork
from hunt.model_redis import Message, ModelBroker
from hunt.schedule import Broken, Clock, Strand, Strands
from models.record import is_among_first
from worker.audit import Actor
from worker.batches.commands import Batches
from worker.clocks import ClockWatch
from worker.database.errors import is_away
from worker.fleet import Fitness, Sickness
from worker.leases.group_commit import Combiner, GroupCommit, R, T, _Waiter
from worker.leases.lease import Leases, Settlement
from worker.pingone.retry_policy import RetryPolicy
from worker.process.worker_parts import WorkerParts
from worker.records.activation import DeadLettered
from worker.rules.breaker import Thresholds

if TYPE_CHECKING:
    from hunt.scenario import Scenario


# What was broken on purpose.
EXCUSED = (DatabaseLost, Bug, redis.ConnectionError)


@contextmanager
def excused(scenario: Scenario) -> Iterator[None]:
    """What was broken on purpose may fail here. Raises Broken where the real code fails by itself."""
    try:
        yield
    except EXCUSED as error:
        scenario.note(f"fails: {error!r}")
    except Exception as error:
        raise Broken(f"an error of our own: {error!r}") from error


class ModelEvent(threading.Event):
    """Waiting for it takes the scenario's time."""

    def __init__(self, strands: Strands) -> None:
        super().__init__()
        self._strands = strands

    def wait(self, timeout: float | None = None) -> bool:
        self._strands.sleep(timeout or 0.0)
        return self.is_set()


class ModelParts(WorkerParts):
    """The parts of one process of the fleet: its own, but for what stands in the scenario."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario.settings, scenario.broker, lambda _: scenario.environment)
        self.scenario = scenario
        self.database, self.leases, self.queue = scenario.database, scenario.leases, initial_state.queue()
        self.stopping = ModelEvent(scenario.strands)
        self.clock_watch = ClockWatch(scenario.clock.monotonic, lambda: 0.0)
        self.upkeep = initial_state.upkeep(Thresholds(**self.settings.tuning.breaker))
        self.processes = initial_state.processes()
        # One pace, whatever the license and the rate group.
        self.paces = SimpleNamespace(of=lambda *_: scenario.pace)

    @cached_property
    def replays(self) -> Batches:
        return Batches(self.database, Actor("schedule"))

    @cached_property
    def fitness(self) -> Fitness:
        return NeverSick(self.processes)


class NeverSick(Fitness):
    """Nobody can be spared here: the end of a process is the dice's to choose."""

    def fall_sick(self, sickness: Sickness) -> bool:
        return False


class Process:
    """A worker process, of one thread or more: of three, two may wait for the third, and go together."""

    def __init__(self, scenario: Scenario, number: int, threads: int) -> None:
        self.leases = copy_for_process(scenario.leases)
        self.stopping = ModelEvent(scenario.strands)
        self.strands = list[Strand]()
        names = [f"worker {number}{'abcde'[place] if threads > 1 else ''}" for place in range(threads)]
        self.workers = [Worker(scenario, self, name) for name in names]

    @property
    def is_over(self) -> bool:
        return all(strand.is_over for strand in self.strands)


class Worker(ModelParts):
    """A thread of a worker process: takes a message, works, takes the next."""

    def __init__(self, scenario: Scenario, process: Process, name: str) -> None:
        super().__init__(scenario)
        self.leases, self.stopping = process.leases, process.stopping
        self.message: Message | None = None
        self.strand = scenario.strands.start(name, self.work, process.strands)

    def work(self) -> None:
        scenario = self.scenario
        while not self.stopping.is_set():
            scenario.strands.wait_for(lambda: scenario.broker.has_message() or self.stopping.is_set())
            if not scenario.broker.has_message():
                continue
            self.message = message = scenario.broker.take()
            scenario.note(f"takes record {message.record_id}")
            with excused(scenario), suppress(DeadLettered):
                self.activations.activate_record(message.record_id, message.environment)
            self.message = None


class Beat(ModelParts):
    """The process that ticks; its tick asks the dispatcher, whose connection to the queue is the scenario's."""

    def tick(self) -> None:
        before = self.scenario.step_judge.rows
        with excused(self.scenario):
            self.scenario.note(f"enqueued {self.dispatcher.tick()}")
            if self.scenario.step_judge.rows == before:
                self.scenario.agenda.ticked_in_vain()


class Preparer(ModelParts):
    """A process that prepares batches, when it is told to."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.strand: Strand | None = None

    def start(self, name: str) -> None:
        self.strand = self.scenario.strands.start(name, self.prepare)

    def prepare(self) -> None:
        with excused(self.scenario):
            self.preparation.prepare_next()


P = TypeVar("P")


def make_waiter(strands: Strands) -> type[_Waiter[Any, Any]]:
    """The class of threads that wait: here a strand does, while others go on."""

    class ModelWaiter(_Waiter[T, R]):
        def __init__(self, request: T) -> None:
            super().__init__(request)
            self._is_awake = False

        def sleep(self) -> None:
            strands.wait_for(lambda: self._is_awake)

        def wake(self) -> None:
            self._is_awake = True

    return ModelWaiter


def copy_for_process(part: P) -> P:
    """A copy with combiners of its own, of which each process has its own; statements are shared, since building them
    takes long."""
    if isinstance(part, tuple):
        return type(part)(map(copy_for_process, part))
    if isinstance(part, dict):
        return type(part)((name, copy_for_process(each)) for name, each in part.items())
    if isinstance(part, GroupCommit):
        statement = copy(part)
        statement._combiner = Combiner(statement._commit, is_away)
        return statement
    if isinstance(part, Leases | Settlement):
        whole = copy(part)
        vars(whole).update({name: copy_for_process(each) for name, each in vars(part).items()})
        return whole
    return part


# Built once for each batch: it takes long.
_is_among_first = cache(is_among_first)


@contextmanager
def in_place(seed: int, clock: Clock, strands: Strands, network: ModelNetwork, broker: ModelBroker) -> Iterator[None]:
    """The models take their places; and chance, which the real code asks as well, is the seed's."""
    names: list[tuple[Any, str, object]] = [
        (worker.records.activation, "sleep", strands.sleep),
        (worker.records.attempt, "boot_time", clock.monotonic),
        (worker.pingone.client, "boot_time", clock.monotonic),
        (worker.clocks, "boot_time", clock.monotonic),
        (worker.leases.group_commit, "_Waiter", make_waiter(strands)),
        (worker.leases.lease, "boot_time", clock.monotonic),
        (worker.leases.lease, "sleep", strands.sleep),
        (worker.batches.long_list, "is_among_first", _is_among_first),
        (worker.batches.preparation, "boot_time", clock.monotonic),
        (worker.batches.imports, "boot_time", clock.monotonic),
        (worker.batches.undo, "THREADS", 1),
        (worker.pace.slots, "time", SimpleNamespace(sleep=strands.sleep)),
        # All rate groups have one pace here.
        (worker.pace.license_paces, "make_other_groups", lambda _: ()),
        (worker.pingone.client, "Transport", network.transport),
        (worker.pingone.client, "RetryPolicy", partial(RetryPolicy, sleep=strands.sleep)),
        (worker.pingone.auth, "Transport", network.token_transport),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in names]
    chance = random.getstate()
    random.seed(seed)
    for module, name, model in names:
        setattr(module, name, model)
    try:
        yield
    finally:
        for module, name, real in before:
            setattr(module, name, real)
        random.setstate(chance)
