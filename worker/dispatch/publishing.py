"""The broker's side of the queue: ids go out in batches, through Celery, so that Flower sees each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.utils.uuid import uuid

# Messages that go out in one piece. A thousand would keep the other threads of this process from their calls for
# as long as it takes to write them, and what waited then goes out in a bunch.
MESSAGES_TOGETHER = 16


class CeleryBroker:
    """Publishes ids as messages for the task of this name. Raises kombu's and redis' errors."""

    def __init__(self, app: Celery, task: str, queue: str) -> None:
        self._app = app
        self._task = task
        self._queue = queue

    def count_waiting(self) -> int:
        with self._app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            return int(channel.client.llen(self._queue))

    def publish(self, ids: Sequence[int], environment: str) -> None:
        """What `apply_async` does at its end. All that it does before, it would do for each message anew, and that
        takes longer: look for options and routes, which are the same for all; make a result, for which nobody asks;
        declare the queue, which needs none."""
        amqp, name = self._app.amqp, self._task
        with self._app.producer_pool.acquire(block=True) as producer, producer.batch(MESSAGES_TOGETHER):
            for record_id in ids:
                # What Flower shows of the arguments; Celery would work it out for each with much more care.
                shown = {"argsrepr": f"({record_id}, {environment!r})", "kwargsrepr": "{}"}
                message = amqp.create_task_message(uuid(), name, (record_id, environment), ignore_result=True, **shown)
                amqp.send_task_message(producer, name, message, queue=self._queue, declare=())
