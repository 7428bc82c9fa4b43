"""kombu's Redis transport, with one fault of it mended: a worker that loses its broker must not end."""

from __future__ import annotations

from typing import Any

import redis
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport.redis import Channel, Transport


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
