"""Keeps a worker running whatever its broker does or sends: what kombu and Celery would end it for counts as a lost
connection, which is made again soon. And fetches as many messages at once as a worker has room for: kombu fetches them
one by one, which takes longer than all that Celery does with a message then."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import count
from time import monotonic
from typing import Any

import redis
from celery import bootsteps
from celery.app.amqp import AMQP
from celery.worker import state
from kombu.asynchronous import get_event_loop
from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport.redis import Channel, Transport
from kombu.utils.json import loads

# A write that changes nothing, since there is no such key. A replica and a server that is loading refuse it.
PROBE = ("PEXPIRE", "oathbulk:probe", 1)

# Seconds between tries to connect. Celery leaves this to kombu, which waits 2, 4, up to 30: after an outage, about half
# as long again.
INTERVALS = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 5.0}

# What kombu 5.7 and Celery 5.7 raise for a message that they cannot read, and kombu (AttributeError) for one that is to
# be acknowledged once its connection was closed.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)

# Seconds after which a worker that has some room fetches, although it has not much: longer than the time between two
# messages that are worth to be fetched together, and too short to notice.
LONGEST_DELAY = 0.05

# Events that are sent together. A task has three (received, started, succeeded).
EVENTS_TOGETHER = 60
# Events at which the thread that has one more sends them all by itself, should the loop not come to it.
MOST_WAITING = 4 * EVENTS_TOGETHER
# Seconds after which fewer events are sent too.
FLUSH_INTERVAL = 0.5


class LastingConnection(Connection):
    """A connection to the broker that is tried at our intervals."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        return super().ensure_connection(*args, **(INTERVALS | options))


class LastingAMQP(AMQP):  # type: ignore[misc]
    """Makes Celery use such connections."""

    Connection = LastingConnection


class FetchingRoom(virtual.QoS):
    """How many messages more a worker may have. It fetches where there is room for half of them at least, or for any a
    moment later, and is told so: it sleeps, while the threads that make room work."""

    def can_consume(self) -> bool:
        """Whether to fetch now."""
        room: int | None = self.can_consume_max_estimate()
        if room is None or 2 * room >= self.prefetch_count:
            return True
        return room > 0 and monotonic() - self.channel.fetched_at >= LONGEST_DELAY

    def ack(self, delivery_tag: str) -> None:
        """Note that a message was taken up; wake the loop if it is time to fetch others."""
        super().ack(delivery_tag)
        loop = get_event_loop()
        if loop is not None and self.can_consume():
            loop.call_soon(lambda: None)


class FetchingChannel(Channel):
    """A channel on which a message brings along those behind it, as many as there is room for."""

    QoS: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fetched_at = monotonic()
        if not self.ack_emulation:
            self.QoS = FetchingRoom

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], object], *rest: Any, **more: Any
    ) -> Any:
        def take(message: Any) -> None:
            self.fetched_at = monotonic()
            callback(message)
            # Whatever one of them raises, the others are taken up before that is raised.
            with ExitStack() as behind:
                for text in reversed(self._fetch(queue, message)):
                    behind.callback(take_text, text)

        def take_text(text: bytes) -> None:
            message = self.Message(loads(text.decode()), channel=self)
            self.qos.append(message, message.delivery_tag)
            callback(message)

        return super().basic_consume(queue, no_ack, take, *rest, **more)

    def _fetch(self, queue: str, first: Any) -> list[bytes]:
        """Fetch as many of the messages behind the first one as there is room for. kombu keeps a list for each
        priority; that of 0 has the queue's own name."""
        room = self.qos.can_consume_max_estimate()
        if self.ack_emulation or not room:
            return []
        priority = first.properties.get("priority")
        name = f"{queue}{self.sep}{priority}" if priority else queue
        # An older server, or one that does not permit it, gives one after the other.
        with self.conn_or_acquire() as client, suppress(redis.ResponseError):
            return client.rpop(name, room) or []
        return []


class LastingTransport(Transport):
    """A transport that takes more for a lost connection than kombu does, since Celery ends the worker for anything
    else.

    Every refusal of the server counts: during a failover it is a replica (READONLY, MASTERDOWN), it loads (LOADING),
    its memory or disk is full (OOM, MISCONF), and redis-py has no names for some of them. So does a message that nobody
    can read. It is gone by then: if it was about a record, that is noticed when the record's queue lease runs out."""

    Channel = FetchingChannel
    connection_errors = (*Transport.connection_errors, redis.ResponseError, *_UNREADABLE)

    def establish_connection(self) -> Any:
        """Connect to a server that accepts writes. Without this check a worker would connect to a replica again and
        again, without a pause between."""
        connection = super().establish_connection()
        try:
            channel = self.create_channel(connection)
            with channel.conn_or_acquire() as client:
                client.execute_command(*PROBE)
            channel.close()
        except Exception:
            self.close_connection(connection)
            raise
        return connection


class EventBatches(bootsteps.StartStopStep):  # type: ignore[misc]
    """A part of the worker that starts with each connection, after the part that makes the event dispatcher."""

    requires = ("celery.worker.consumer.events:Events",)
    _last: Any = None

    def start(self, consumer: Any) -> None:
        dispatcher = consumer.event_dispatcher
        # Only with an event loop does Celery hold events back.
        if dispatcher.on_send_buffered is None:
            return
        sent = count(1)

        def wake_for_many() -> None:
            if next(sent) % EVENTS_TOGETHER == 0:
                consumer.on_send_event_buffered()

        dispatcher.buffer_limit = MOST_WAITING
        dispatcher.on_send_buffered = wake_for_many
        self._last = consumer.timer.call_repeatedly(FLUSH_INTERVAL, dispatcher.flush)

    def stop(self, consumer: Any) -> None:  # noqa: ARG002
        if self._last is not None:
            self._last.cancel()


class SteadyWeakSet(weakref.WeakSet[Any]):
    """A set whose iteration goes through what it held at the beginning, whatever other threads do to it meanwhile."""

    data: set[weakref.ref[Any]]

    def __iter__(self) -> Iterator[Any]:
        # Copied in one step of the interpreter: no other thread comes between.
        for reference in list(self.data):
            if (item := reference()) is not None:
                yield item


def install() -> None:
    """Use LastingTransport for redis:// and rediss:// from here on."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{LastingTransport.__name__}"


def mend_request_sets() -> None:
    """Let Celery 5.7 go through its sets of tasks in hand while threads change them, as it does when a worker ends or
    loses its broker: now and then Python raised "Set changed size during iteration".

    The objects themselves stay, since Celery has bound their methods in many places."""
    for requests in (state.reserved_requests, state.active_requests, state.scheduled_requests):
        requests.__class__ = SteadyWeakSet
