"""How a worker outlives its broker: kombu's Redis transport with a fault of it mended, and a connection that is soon
there again."""

from __future__ import annotations

from typing import Any

import redis
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport.redis import Channel, Transport

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


class LastingTransport(Transport):
    Channel = LastingChannel


def install() -> None:
    """From here on, the transport of redis:// and rediss://."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{LastingTransport.__name__}"
