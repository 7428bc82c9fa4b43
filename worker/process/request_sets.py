"""Makes Celery's sets of the tasks in hand fit for a pool of threads.

When a worker ends or loses its broker, Celery 5.7 goes through these sets while the threads of its pool add to them and
take from them, and now and then Python raises "Set changed size during iteration"."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from celery.worker import state


class SteadyWeakSet(weakref.WeakSet[Any]):
    """A set whose iteration goes through what it held at the beginning, whatever other threads do to it meanwhile."""

    data: set[weakref.ref[Any]]

    def __iter__(self) -> Iterator[Any]:
        # Copied in one step of the interpreter: no other thread comes between.
        for reference in list(self.data):
            if (item := reference()) is not None:
                yield item


def install() -> None:
    """Turn Celery's sets into such sets. The objects themselves stay, since Celery has bound their methods in many
    places."""
    for requests in (state.reserved_requests, state.active_requests, state.scheduled_requests):
        requests.__class__ = SteadyWeakSet
