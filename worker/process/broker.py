"""How a worker outlives its broker and what comes from it: kombu's Redis transport with its faults mended, and a
connection that is soon there again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

import redis
import structlog
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport.redis import Channel, Transport

log = structlog.get_logger()

# A write that changes nothing: there is no such key. A replica and a server that is loading refuse it.
PROBE = ("PEXPIRE", "oathbulk:probe", 1)

# Seconds between tries. Celery leaves it to kombu, which waits 2, 4, up to 30: half an outage again, or so, after it.
INTERVALS = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 5.0}


class LastingConnection(Connection):
    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        return super().ensure_connection(*args, **(INTERVALS | options))


class LastingAMQP(AMQP):  # type: ignore[misc]
    Connection = LastingConnection


class LastingChannel(Channel):
    """Where a message is to be acknowledged or given back after its connection was closed, kombu 5.7 stumbles over the
    closed connection: an AttributeError, which Celery takes for the end of the worker. Said as what it is, a lost
    connection, Celery connects again. What was not acknowledged comes once more, and finds nothing to do."""

    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.connection.client is None:
            raise redis.ConnectionError("the connection to the broker was closed")
        return super()._connparams(asynchronous=asynchronous)

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Callable[[Any], object], *rest: Any, **more: Any
    ) -> Any:
        def survive(message: Any) -> None:
            with _dropping(queue):
                try:
                    callback(message)
                except _CONNECTION:
                    raise
                except Exception:
                    # Otherwise it would count as one in hand for ever.
                    if not message.acknowledged:
                        message.reject()
                    raise

        return super().basic_consume(queue, no_ack, survive, *rest, **more)

    def _brpop_read(self, **options: Any) -> Any:
        with _dropping("a task queue"):
            return super()._brpop_read(**options)

    def _receive(self) -> Any:
        with _dropping("the workers' commands"):
            return super()._receive()


class LastingTransport(Transport):
    """Takes it for a lost connection when the server refuses a command: during a failover it is a replica (READONLY,
    MASTERDOWN), it loads (LOADING), its memory or disk is full (OOM, MISCONF). kombu knows but one of these, and Celery
    ends the worker for the others. Every refusal counts, since redis-py has no names for some of them."""

    Channel = LastingChannel
    connection_errors = (*Transport.connection_errors, redis.ResponseError)

    def establish_connection(self) -> Any:
        """Connect to a server that takes writes. Without this look a worker would connect to a replica again and again,
        with no time between."""
        connection = super().establish_connection()
        try:
            with self._avail_channels[0].conn_or_acquire() as client:
                client.execute_command(*PROBE)
        except Exception:
            self.close_connection(connection)
            raise
        return connection

    def _deliver(self, message: Any, queue: str) -> None:
        with _dropping(queue):
            super()._deliver(message, queue)


# What says nothing of a message; Empty: there was none.
_CONNECTION = (Empty, OSError, redis.RedisError)


@contextmanager
def _dropping(place: str) -> Iterator[None]:
    """Drop a message that cannot be read or taken up, whatever is wrong with it; Celery would end the worker. A record
    that it was about is found by its queue lease. What it said is not logged."""
    try:
        yield
    except _CONNECTION:
        raise
    except Exception as error:
        log.error("message_dropped", place=place, error=type(error).__name__)


def install() -> None:
    """From here on, the transport of redis:// and rediss://."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{LastingTransport.__name__}"
