"""Publishes record ids through Celery, many at a time, so that Flower sees each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from celery import Celery
from kombu.transport.redis import Channel

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
        self._task = task
        self._queue = queue

    def count_waiting(self) -> int:
        """Count the messages in the queue. kombu keeps a list for each priority; that of 0 has the queue's own name."""
        lists = (self._queue, f"{self._queue}{Channel.sep}{USUAL}")
        with self._app.connection_or_acquire() as connection:
            return sum(int(connection.default_channel.client.llen(each)) for each in lists)

    def publish(
        self, ids: Sequence[int], environment: str, *, labels: Mapping[int, str], is_ahead: bool = False
    ) -> None:
        """Publish a message for each id; with `is_ahead` they are taken up before all that wait without it. Flower
        shows a record by its label, by its id where it has none."""
        with self._app.producer_or_acquire() as producer, producer.batch(MESSAGES_TOGETHER):
            for record_id in ids:
                self._app.send_task(
                    self._task,
                    (record_id, environment),
                    producer=producer,
                    queue=self._queue,
                    priority=AHEAD if is_ahead else USUAL,
                    argsrepr=labels.get(record_id, f"record {record_id}"),
                    kwargsrepr="{}",
                    ignore_result=True,
                )
