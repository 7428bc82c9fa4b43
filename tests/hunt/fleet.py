"""Worker processes and dispatchers, as strands. Their parts are put together by the real worker.parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis

from hunt.broker import Message
from hunt.database import DatabaseLost
from hunt.ledger import Broken
from hunt.network import Bug
from hunt.pace import ModelPace
from worker.config import Environment
from worker.dispatch import Dispatcher
from worker.parts import Parts

if TYPE_CHECKING:
    from hunt.world import World

# What was broken on purpose.
EXCUSED = (DatabaseLost, Bug, redis.ConnectionError)


class Process(Parts):
    """A worker process of one thread: takes a message, works, takes the next."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world.settings)
        self._world = world
        self.database, self.leases, self.batches = world.database, world.leases, world.batches
        self.message: Message | None = None
        self.strand = world.strands.start(f"worker {number}", self.work)

    def environment(self, name: str) -> Environment:
        return self._world.environment

    def pace(self, environment: Environment) -> ModelPace:  # type: ignore[override]
        return self._world.pace

    @property
    def is_dead(self) -> bool:
        """It died before it was done: what it had in hand may come again."""
        return self.strand.is_over and not self.stopping.is_set()

    def work(self) -> None:
        world = self._world
        while not self.stopping.is_set():
            world.strands.wait_for(lambda: world.broker.has_message() or self.stopping.is_set())
            if not world.broker.has_message():
                continue
            self.message = message = world.broker.take()
            world.note(f"takes record {message.record_id}")
            try:
                self.activation(message.environment).run(message.record_id)
            except EXCUSED as error:
                world.note(f"fails: {error!r}")
            except Exception as error:
                raise Broken(f"an error of our own: {error!r}") from error
            self.message = None


def tick(world: World, dispatcher: Dispatcher) -> None:
    """What the beat asks for."""
    try:
        count = dispatcher.tick()
    except EXCUSED as error:
        world.note(f"fails: {error!r}")
    except Exception as error:
        raise Broken(f"an error of our own: {error!r}") from error
    else:
        world.note(f"enqueued {count}")
