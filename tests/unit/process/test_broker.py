"""The broker's transport, on a real server."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Queue
from kombu.exceptions import OperationalError
from support.servers.valkey import ValkeyServer

from worker.process import broker

QUEUE = Queue("some")


@pytest.fixture(autouse=True)
def _install(monkeypatch: pytest.MonkeyPatch) -> None:
    # An earlier test may have connected without our transport, and kombu remembers the class that it used.
    monkeypatch.setattr("kombu.transport._transport_cache", {})
    broker.install()


def fetch(connection: Connection) -> Any:
    """A message that is not acknowledged yet."""
    queue = QUEUE(connection.default_channel)
    queue.declare()
    connection.Producer().publish({"id": 1}, routing_key="some", retry=False)
    message = queue.get(no_ack=False)
    assert message is not None
    return message


def test_what_is_still_to_be_acknowledged_after_a_connection_was_closed_finds_a_lost_connection(
    own_valkey: ValkeyServer,
) -> None:
    """Celery closes a connection that broke and makes another; anything but a lost connection ends the worker."""
    connection = Connection(own_valkey.url)
    message = fetch(connection)
    own_valkey.kill()
    connection.collect()
    # What is left when it broke while the channel was being closed.
    message.channel._disconnect_pools()

    with pytest.raises(connection.connection_errors, match="was closed"):
        message.ack()


def test_a_message_that_was_not_acknowledged_comes_again(valkey_url: str) -> None:
    with closing(Connection(valkey_url)) as connection:
        fetch(connection)

    with closing(Connection(valkey_url)) as another:
        message = QUEUE(another.default_channel).get(no_ack=False)
        assert message is not None
        assert message.payload == {"id": 1}
        message.ack()


def test_a_broker_that_is_away_is_asked_again_soon_and_at_last_every_few_seconds(own_valkey: ValkeyServer) -> None:
    app = Celery(broker=own_valkey.url, amqp=broker.LastingAMQP)
    own_valkey.kill()
    waits = list[float]()
    with pytest.raises(OperationalError), app.connection_for_read() as connection:
        connection.ensure_connection(lambda _, wait: waits.append(wait), 3)
    assert waits == [0.5, 1.0, 1.5]
