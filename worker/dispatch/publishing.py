"""Publishes record ids through Celery, many at a time, so that Flower sees each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.utils.uuid import uuid

# Messages that are sent to the broker in one piece. A thousand would keep the other threads of this process from their
# calls for as long as it takes to write them, and all calls that waited would then go out at once.
MESSAGES_TOGETHER = 16

# Priorities of messages. Celery's consumers on Redis take the lower number first.
AHEAD = 0
USUAL = 3


class CeleryBroker:
    """Publishes ids as messages for the task of this name. Raises kombu's and redis' errors."""

    def __init__(self, app: Celery, task: str, queue: str) -> None:
        self._app = app
        self._task = task
        self._queue = queue

    def count_waiting(self) -> int:
        """Count the messages in the queue."""
        with self._app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            # Redis has a list for each priority; that of 0 has the queue's own name.
            lists = (self._queue, f"{self._queue}{channel.sep}{USUAL}")
            return sum(int(channel.client.llen(name)) for name in lists)

    def publish(self, ids: Sequence[int], environment: str, *, is_ahead: bool = False) -> None:
        """Publish a message for each id; with `is_ahead` they are taken up before all that wait without it.

        This does only what `apply_async` does at its end. What that does before, it would do again for each message,
        and it takes longer: look for options and routes, which are the same for all; make a result, which nobody asks
        for; declare the queue, which needs no declaration."""
        amqp, name, priority = self._app.amqp, self._task, AHEAD if is_ahead else USUAL
        with self._app.producer_pool.acquire(block=True) as producer, producer.batch(MESSAGES_TOGETHER):
            for record_id in ids:
                # What Flower shows of the arguments. Celery would work it out for each message at greater length.
                shown = {"argsrepr": f"({record_id}, {environment!r})", "kwargsrepr": "{}"}
                message = amqp.create_task_message(uuid(), name, (record_id, environment), ignore_result=True, **shown)
                amqp.send_task_message(producer, name, message, queue=self._queue, declare=(), priority=priority)
