"""Keeps a worker running whatever its broker does or sends: kombu's Redis transport with its faults mended, and a
connection that is tried again soon."""

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

# A write that changes nothing, since there is no such key. A replica and a server that is loading refuse it.
PROBE = ("PEXPIRE", "oathbulk:probe", 1)

# Seconds between tries to connect. Celery leaves this to kombu, which waits 2, 4, up to 30: after an outage, about half
# as long again.
INTERVALS = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 5.0}


class LastingConnection(Connection):
    """A connection to the broker that is tried at our intervals."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        return super().ensure_connection(*args, **(INTERVALS | options))


class LastingAMQP(AMQP):  # type: ignore[misc]
    """Makes Celery use such connections."""

    Connection = LastingConnection


class LastingChannel(Channel):
    """A channel that reports a lost connection as one, and drops messages that nobody can read.

    Where a message is to be acknowledged or given back after its connection was closed, kombu 5.7 raises an
    AttributeError, which ends the worker. Raised as what it is, a lost connection, it makes Celery connect again. A
    message that was not acknowledged comes once more, and finds nothing to do."""

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
                    # Otherwise it would count as one of the tasks in hand for ever.
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
    """A transport that takes a refused command for a lost connection: during a failover the server is a replica
    (READONLY, MASTERDOWN), it loads (LOADING), its memory or disk is full (OOM, MISCONF). kombu knows only one of
    these, and Celery ends the worker for the others. Every refusal counts, since redis-py has no names for some of
    them."""

    Channel = LastingChannel
    connection_errors = (*Transport.connection_errors, redis.ResponseError)

    def establish_connection(self) -> Any:
        """Connect to a server that accepts writes. Without this check a worker would connect to a replica again and
        again, without a pause between."""
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


# Failures that say nothing of a message. Empty: there was none.
_CONNECTION = (Empty, OSError, redis.RedisError)


@contextmanager
def _dropping(place: str) -> Iterator[None]:
    """Drop a message that cannot be read or taken up, whatever is wrong with it; Celery would end the worker. If it was
    about a record, that is noticed when the record's queue lease runs out. The message's content is not logged."""
    try:
        yield
    except _CONNECTION:
        raise
    except Exception as error:
        log.error("message_dropped", place=place, error=type(error).__name__)


def install() -> None:
    """Use LastingTransport for redis:// and rediss:// from here on."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{LastingTransport.__name__}"
