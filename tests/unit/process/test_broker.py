"""The broker's transport, on a real server."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from celery import Celery
from celery.worker import state
from kombu import Connection, Queue
from kombu.exceptions import OperationalError
from support.servers.valkey import ValkeyServer

from worker.process import broker

QUEUE = Queue("some")
_BOUND_BEFORE = state.active_requests.add, state.active_requests.discard


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

    with pytest.raises(connection.connection_errors):
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


class Request:
    """As far as a set of them is concerned."""


@pytest.fixture(params=["reserved_requests", "active_requests", "scheduled_requests"])
def requests(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One of Celery's sets, mended, and afterwards as it was."""
    sets = [state.reserved_requests, state.active_requests, state.scheduled_requests]
    broker.mend_request_sets()
    yield getattr(state, request.param)
    for each in sets:
        each.clear()
        each.__class__ = weakref.WeakSet


def test_what_threads_do_to_a_set_meanwhile_does_not_stop_who_goes_through_it(requests: Any) -> None:
    first, second, third = Request(), Request(), Request()
    requests.update([first, second])

    going_through = iter(requests)
    seen = [next(going_through)]
    requests.add(third)
    requests.discard(first)
    seen += going_through

    assert {*seen} == {first, second}
    assert {*requests} == {second, third}


def test_a_request_that_is_gone_is_in_no_set(requests: Any) -> None:
    kept, gone = Request(), Request()
    requests.update([kept, gone])

    del gone

    assert [*requests] == [kept]
    assert len(requests) == 1


@pytest.mark.usefixtures("requests")
def test_methods_that_celery_has_bound_before_go_on_working() -> None:
    request = Request()
    add, discard = _BOUND_BEFORE

    add(request)
    assert [*state.active_requests] == [request]
    discard(request)
    assert [*state.active_requests] == []
