"""The worker's connection to its broker.

It outlasts whatever the broker does or sends: errors for which kombu and Celery would end the worker count as a lost
connection, which is made again soon. And it fetches as many messages at once as the worker has room for, since fetching
them one by one, as kombu does, takes half of a record's processor time."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any

import redis
from celery.app.amqp import AMQP
from celery.worker.consumer import Consumer
from kombu.asynchronous import get_event_loop
from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport.redis import Channel, Transport
from kombu.utils.json import loads
from tenacity import retry, retry_if_exception_type, stop_after_attempt

# A write that changes nothing, since there is no such key. A replica and a server that is loading refuse it.
PROBE = ("PEXPIRE", "oathbulk:probe", 1)

# Seconds between tries to connect. Celery leaves this to kombu, which waits 2, 4, up to 30: after an outage, about half
# as long again.
INTERVALS = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 5.0}

# Errors of kombu 5.7 and Celery 5.7 that a new connection mends: all but AttributeError for a message that they cannot
# read; AttributeError for a message that is acknowledged after its connection was closed; RuntimeError also for a task
# that ends while Celery connects again (see LastingConsumer).
_MENDED_BY_RECONNECTING = (ValueError, TypeError, LookupError, AttributeError, RuntimeError)

# Seconds after which a worker with little room fetches all the same: longer than the time between two messages that are
# worth fetching together, and too short to notice.
LONGEST_DELAY = 0.05

# Tries at dropping the messages of a lost connection: threads change a set in few of them, and not in ten.
CLOSE_TRIES = 10


class LastingConnection(Connection):
    """A connection to the broker that is tried at our intervals."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        return super().ensure_connection(*args, **(INTERVALS | options))


class LastingAMQP(AMQP):  # type: ignore[misc]
    """Makes Celery use such connections."""

    Connection = LastingConnection


class FetchingRoom(virtual.QoS):
    """Says when the worker fetches messages: as soon as half of its places are free, or, a moment after the last
    message, when one is. Until then its loop sleeps, which leaves the processor to its threads."""

    def can_consume(self) -> bool:
        """Whether to fetch now."""
        room: int | None = self.can_consume_max_estimate()
        if room is None or 2 * room >= self.prefetch_count:
            return True
        return room > 0 and monotonic() - self.channel.fetched_at >= LONGEST_DELAY

    def ack(self, delivery_tag: str) -> None:
        """Free the place of this message, and wake the loop if it is time to fetch others."""
        super().ack(delivery_tag)
        loop = get_event_loop()
        if loop is not None and self.can_consume():
            loop.call_soon(lambda: None)


class FetchingChannel(Channel):
    """A channel that fetches, with each message, those behind it in the queue, as many as there is room for."""

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
            # An ExitStack calls all of them, the last one first, even if one raises.
            with ExitStack() as others:
                for text in reversed(self._fetch(queue, message)):
                    others.callback(take_text, text)

        def take_text(text: bytes) -> None:
            message = self.Message(loads(text.decode()), channel=self)
            self.qos.append(message, message.delivery_tag)
            callback(message)

        return super().basic_consume(queue, no_ack, take, *rest, **more)

    def _fetch(self, queue: str, first: Any) -> list[bytes]:
        """Fetch the messages behind the first one, as many as there is room for. kombu keeps a list for each priority;
        the list of priority 0 has the queue's own name."""
        room = self.qos.can_consume_max_estimate()
        if self.ack_emulation or not room:
            return []
        priority = first.properties.get("priority")
        name = f"{queue}{self.sep}{priority}" if priority else queue
        # Where the server is older than this command, or does not permit it, kombu fetches one by one.
        with self.conn_or_acquire() as client, suppress(redis.ResponseError):
            return client.rpop(name, room) or []
        return []


class LastingTransport(Transport):
    """A transport that counts more errors as a lost connection than kombu does, since any other ends the worker.

    Every refusal of the server counts: during a failover it is a replica (READONLY, MASTERDOWN), it loads (LOADING),
    its memory or disk is full (OOM, MISCONF), and redis-py has no names for some of them. A message that nobody can
    read counts too. It is lost then, and its record goes again when the queue lease runs out."""

    Channel = FetchingChannel
    connection_errors = (*Transport.connection_errors, redis.ResponseError, *_MENDED_BY_RECONNECTING)

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


class LastingConsumer(Consumer):  # type: ignore[misc]
    """Celery's consumer of messages, which goes on where a lost connection meets threads that begin and end tasks.

    It then goes through the sets of tasks in hand, and before Python 3.14 that raises RuntimeError where a thread
    changes one meanwhile: https://github.com/celery/celery/issues/7162,
    https://github.com/python/cpython/issues/123089."""

    @retry(retry=retry_if_exception_type(RuntimeError), stop=stop_after_attempt(CLOSE_TRIES), reraise=True)
    def on_close(self) -> None:
        """Drop the messages of the connection that is lost."""
        super().on_close()


def install() -> None:
    """Use LastingTransport for redis:// and rediss:// from here on."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{LastingTransport.__name__}"
