"""The places where the real code looks at the clock, sleeps, waits for another thread or reaches the network by itself:
all of them names in our own modules. Everything else it is given."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import worker.batches.preparation
import worker.batches.tokens
import worker.leases.group_commit
import worker.leases.worker
import worker.pace.paces
import worker.pingone.auth
import worker.pingone.client
import worker.records
from hunt.clock import Clock
from hunt.model_broker import ModelBroker
from hunt.model_network import ModelNetwork
from hunt.model_threads import make_waiter
from hunt.strands import Strands
from worker.pingone.client import RetryPolicy


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
