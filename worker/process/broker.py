"""Keeps a worker running whatever its broker does or sends: what kombu and Celery would end it for counts as a lost
connection, which is made again soon."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import redis
from celery.app.amqp import AMQP
from celery.worker import state
from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport.redis import Transport

# A write that changes nothing, since there is no such key. A replica and a server that is loading refuse it.
PROBE = ("PEXPIRE", "oathbulk:probe", 1)

# Seconds between tries to connect. Celery leaves this to kombu, which waits 2, 4, up to 30: after an outage, about half
# as long again.
INTERVALS = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 5.0}

# What kombu 5.7 and Celery 5.7 raise for a message that they cannot read, and kombu (AttributeError) for one that is to
# be acknowledged once its connection was closed.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


class LastingConnection(Connection):
    """A connection to the broker that is tried at our intervals."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        return super().ensure_connection(*args, **(INTERVALS | options))


class LastingAMQP(AMQP):  # type: ignore[misc]
    """Makes Celery use such connections."""

    Connection = LastingConnection


class LastingTransport(Transport):
    """A transport that takes more for a lost connection than kombu does, since Celery ends the worker for anything
    else.

    Every refusal of the server counts: during a failover it is a replica (READONLY, MASTERDOWN), it loads (LOADING),
    its memory or disk is full (OOM, MISCONF), and redis-py has no names for some of them. So does a message that nobody
    can read. It is gone by then: if it was about a record, that is noticed when the record's queue lease runs out."""

    connection_errors = (*Transport.connection_errors, redis.ResponseError, *_UNREADABLE)

    def establish_connection(self) -> Any:
        """Connect to a server that accepts writes. Without this check a worker would connect to a replica again and
        again, without a pause between."""
        connection = super().establish_connection()
        try:
            channel = self.create_channel(connection)
            channel.client.execute_command(*PROBE)
            channel.close()
        except Exception:
            self.close_connection(connection)
            raise
        return connection


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
