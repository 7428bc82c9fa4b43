"""Publishes record ids through Celery, many at a time, so that Flower sees each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from celery import Celery

from worker.dispatch.message_template import MessageTemplate

# Messages that are sent to the broker in one piece. A thousand would keep the other threads of this process from their
# calls for as long as it takes to write them, and all calls that waited would then go out at once.
MESSAGES_TOGETHER = 64

# Priorities of messages. Celery's consumers on Redis take the lower number first.
AHEAD = 0
USUAL = 3


class CeleryBroker:
    """Publishes ids as messages for the task of this name. Raises kombu's and redis' errors."""

    def __init__(self, app: Celery, task: str, queue: str) -> None:
        self._app = app
        self._queue = queue
        self._template = cache(lambda environment, priority: MessageTemplate(app, task, queue, priority, environment))

    def count_waiting(self) -> int:
        """Count the messages in the queue."""
        with self._channel() as channel:
            return sum(int(channel.client.llen(self._name_list(channel, priority))) for priority in (AHEAD, USUAL))

    def publish(
        self, ids: Sequence[int], environment: str, *, labels: Mapping[int, str], is_ahead: bool = False
    ) -> None:
        """Publish a message for each id; with `is_ahead` they are taken up before all that wait without it. Flower
        shows a record by its label, by its id where it has none.

        The queue needs no declaration: Redis has it as soon as something is in it."""
        priority = AHEAD if is_ahead else USUAL
        template: MessageTemplate = self._template(environment, priority)
        with self._channel() as channel:
            name = self._name_list(channel, priority)
            for start in range(0, len(ids), MESSAGES_TOGETHER):
                together = ids[start : start + MESSAGES_TOGETHER]
                channel.client.lpush(
                    name, *(template.fill(each, labels.get(each, f"record {each}")) for each in together)
                )

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        """A channel of one of the app's connections to the broker, which last."""
        with self._app.pool.acquire(block=True) as connection:
            yield connection.default_channel

    def _name_list(self, channel: Any, priority: int) -> str:
        """The name of the list in Redis that keeps the queue's messages of this priority: that of 0 has the queue's own
        name."""
        return f"{self._queue}{channel.sep}{priority}" if priority else self._queue
