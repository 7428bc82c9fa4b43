"""Fetches as many messages at once as a worker has room for, where its server knows how: Redis 7 and Valkey. kombu
fetches them one by one, which takes longer than what Celery does with a message then.

https://valkey.io/commands/blmpop/"""

from __future__ import annotations

from queue import Empty
from time import monotonic
from typing import Any

import redis
from kombu.asynchronous import get_event_loop
from kombu.transport import virtual
from kombu.transport.redis import Channel
from kombu.utils.json import loads

from worker.process.dropping import dropping

# Seconds after which a worker that has some room fetches, although it has not much: longer than the time between two
# messages that are worth to be fetched together, and too short to notice.
LONGEST_DELAY = 0.05
# Messages that are fetched at once where nothing limits how many a worker may have; and that it may have in reserve at
# the most, however many threads it has.
MOST_TOGETHER = 64
# Asks for a message of a queue that nobody fills, and waits a millisecond.
PROBE = ("BLMPOP", 0.001, 1, "oathbulk:probe", "RIGHT", "COUNT", 1)


def can_fetch_several(client: redis.Redis) -> bool:
    """Whether this server takes the command that fetches several messages."""
    try:
        client.execute_command(*PROBE)
    except redis.ResponseError:
        return False
    return True


def raise_reserve(consumer: Any, threads: int) -> None:
    """Let a worker with so many threads fetch as many messages ahead, MOST_TOGETHER at the most: from a small reserve
    many threads take as quickly as it can be fetched. `consumer` is Celery's."""
    reserve = min(threads, MOST_TOGETHER)
    # From this Celery counts again when it has lost its connection.
    consumer.pool.limit = max(consumer.pool.limit, reserve)
    consumer.qos.increment_eventually(reserve - consumer.qos.value)


class Room(virtual.QoS):
    """How many messages more a worker may have. It fetches where there is room for half of them at least, or for any a
    moment later, and is told so: it sleeps, while the threads that make room work."""

    def can_consume(self) -> bool:
        """Whether to fetch now."""
        room: int | None = self.can_consume_max_estimate()
        if room is None or 2 * room >= self.prefetch_count:
            return True
        return room > 0 and self.channel.seconds_since_fetch >= LONGEST_DELAY

    def ack(self, delivery_tag: str) -> None:
        """Note that a message was taken up; wake the loop if it is time to fetch others."""
        super().ack(delivery_tag)
        loop = get_event_loop()
        if loop is not None and not self.channel.is_fetching and self.can_consume():
            loop.call_soon(_do_nothing)


class FetchingChannel(Channel):
    """A channel that fetches several messages at once, if `fetches_several` of its transport says that its server knows
    how. What it overrides is private to kombu 5.7, where its event loop asks for messages and reads them."""

    QoS: Any
    _in_poll: Any
    _brpop_sent_at: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._asked_at = monotonic()
        if not self.ack_emulation:
            self.QoS = Room

    @property
    def is_fetching(self) -> bool:
        """Whether messages were asked for that have not come yet."""
        return bool(self._in_poll)

    @property
    def seconds_since_fetch(self) -> float:
        """Seconds since messages were asked for last."""
        return monotonic() - self._asked_at

    def _brpop_start(self, timeout: float | None = None) -> None:
        self._asked_at = monotonic()
        if not self.connection.fetches_several:
            super()._brpop_start(timeout)
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        names = [self._q_for_pri(queue, priority) for priority in self.priority_steps for queue in queues]
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()
        count = self.qos.can_consume_max_estimate() or MOST_TOGETHER
        wait = timeout or self.brpop_timeout or 0
        self.client.connection.send_command("BLMPOP", wait, len(names), *names, "RIGHT", "COUNT", count)

    def _brpop_read(self, **options: Any) -> Any:
        if not self.connection.fetches_several:
            with dropping("a task queue"):
                return super()._brpop_read(**options)
        try:
            self._deliver_all(self._read_messages(**options))
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        return True

    def _read_messages(self, **options: Any) -> tuple[str, list[bytes]]:
        """Read what was asked for: the name of a queue, and its messages. Raises Empty if none came in time."""
        try:
            found = self.client.parse_response(self.client.connection, "BLMPOP", **options)
        except self.connection_errors:
            # Then the loop connects again.
            self.client.connection.disconnect()
            raise
        if not found:
            raise Empty
        name, messages = found
        return name.decode().rsplit(self.sep, 1)[0], messages

    def _deliver_all(self, found: tuple[str, list[bytes]]) -> None:
        """Hand over all messages. If the connection breaks meanwhile, the others are not lost for it; the error is
        raised in the end."""
        queue, messages = found
        self._queue_cycle.rotate(queue)
        broken: Exception | None = None
        for message in messages:
            try:
                with dropping(queue):
                    self.connection._deliver(loads(message.decode()), queue)
            except self.connection_errors as error:
                broken = error
        if broken is not None:
            raise broken


def _do_nothing() -> None:
    return None
