"""Keeps a worker running whatever its broker does or sends: kombu's Redis transport with its faults mended, and a
connection that is tried again soon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport.redis import Transport

from worker.process.dropping import CONNECTION_FAILURES, dropping
from worker.process.fetching import FetchingChannel, can_fetch_several

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


class LastingChannel(FetchingChannel):
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
            with dropping(queue):
                try:
                    callback(message)
                except CONNECTION_FAILURES:
                    raise
                except Exception:
                    # Otherwise it would count as one of the tasks in hand for ever.
                    if not message.acknowledged:
                        message.reject()
                    raise

        return super().basic_consume(queue, no_ack, survive, *rest, **more)

    def _receive(self) -> Any:
        with dropping("the workers' commands"):
            return super()._receive()


class LastingTransport(Transport):
    """A transport that takes a refused command for a lost connection: during a failover the server is a replica
    (READONLY, MASTERDOWN), it loads (LOADING), its memory or disk is full (OOM, MISCONF). kombu knows only one of
    these, and Celery ends the worker for the others. Every refusal counts, since redis-py has no names for some of
    them."""

    Channel = LastingChannel
    connection_errors = (*Transport.connection_errors, redis.ResponseError)
    # Whether the server that this is connected to can be asked for several messages at once.
    fetches_several = False

    def establish_connection(self) -> Any:
        """Connect to a server that accepts writes. Without this check a worker would connect to a replica again and
        again, without a pause between."""
        connection = super().establish_connection()
        try:
            with self._avail_channels[0].conn_or_acquire() as client:
                client.execute_command(*PROBE)
                self.fetches_several = can_fetch_several(client)
        except Exception:
            self.close_connection(connection)
            raise
        return connection

    def _deliver(self, message: Any, queue: str) -> None:
        with dropping(queue):
            super()._deliver(message, queue)


def install() -> None:
    """Use LastingTransport for redis:// and rediss:// from here on."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{LastingTransport.__name__}"
