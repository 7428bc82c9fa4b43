"""The places where the real code looks at the clock, sleeps, waits for another thread or reaches the network by itself:
all of them names in our own modules. Everything else it is given."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any, TypeVar

import worker.batches.preparation
import worker.batches.tokens
import worker.leases.group_commit
import worker.leases.worker
import worker.pace.paces
import worker.pingone.auth
import worker.pingone.client
import worker.records
from hunt.model_network import ModelNetwork
from hunt.model_redis import ModelBroker
from hunt.strands import Clock, Strands
from worker.database.errors import is_away
from worker.leases.group_commit import Combiner, GroupCommit, R, T, _Waiter
from worker.leases.settlement import Settlement
from worker.leases.worker import Leases
from worker.pingone.client import RetryPolicy

P = TypeVar("P")


def make_waiter(strands: Strands) -> type[_Waiter[Any, Any]]:
    """The class of threads that wait: here a strand does, while others go on."""

    class ModelWaiter(_Waiter[T, R]):
        def __init__(self, request: T) -> None:
            super().__init__(request)
            self._is_called = False

        def wait(self) -> None:
            strands.wait_for(lambda: self._is_called)

        def call(self) -> None:
            self._is_called = True

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


@contextmanager
def in_place(seed: int, clock: Clock, strands: Strands, network: ModelNetwork, broker: ModelBroker) -> Iterator[None]:
    """The models take their places; and chance, which the real code asks as well, is the seed's."""
    names: list[tuple[Any, str, object]] = [
        (worker.records, "sleep", strands.sleep),
        (worker.records, "boot_time", clock.monotonic),
        (worker.pingone.client, "boot_time", clock.monotonic),
        (worker.leases.group_commit, "_Waiter", make_waiter(strands)),
        (worker.leases.worker, "boot_time", clock.monotonic),
        (worker.leases.worker, "sleep", strands.sleep),
        (worker.batches.preparation, "boot_time", clock.monotonic),
        (worker.batches.tokens, "boot_time", clock.monotonic),
        # All rate groups have one pace here.
        (worker.pace.paces, "make_other_groups", lambda _: ()),
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
