"""The broker's transport on a real server: connections that are lost, messages that are fetched several at once,
Celery's sets of requests, and the events of tasks."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery
from celery.worker import state
from kombu import Connection, Queue
from kombu.asynchronous import Hub, get_event_loop, set_event_loop
from kombu.asynchronous.timer import Timer
from kombu.exceptions import OperationalError
from support.processes.waiting import wait_until
from support.servers.valkey import ValkeyServer

from worker.process import broker
from worker.process.broker import EVENTS_TOGETHER, FLUSH_INTERVAL, LONGEST_DELAY, EventBatches, FetchingRoom

QUEUE = Queue("some", routing_key="some")
# What a worker of four threads may have in reserve.
PREFETCH = 4
_BOUND_BEFORE = state.active_requests.add, state.active_requests.discard


@pytest.fixture(autouse=True)
def _install(monkeypatch: pytest.MonkeyPatch) -> None:
    # An earlier test may have connected without our transport, and kombu remembers the class that it used.
    monkeypatch.setattr("kombu.transport._transport_cache", {})
    broker.install()


def publish(connection: Connection, *numbers: int, priority: int = 0) -> None:
    with connection.clone() as other:
        for number in numbers:
            other.Producer().publish(number, routing_key="some", priority=priority, retry=False)


def test_what_is_still_to_be_acknowledged_after_a_connection_was_closed_finds_a_lost_connection(
    own_valkey: ValkeyServer,
) -> None:
    """Celery closes a connection that broke and makes another; anything but a lost connection ends the worker."""
    connection = Connection(own_valkey.url)
    QUEUE(connection.default_channel).declare()
    publish(connection, 1)
    message: Any = QUEUE(connection.default_channel).get(no_ack=False)
    own_valkey.kill()
    connection.collect()
    # What is left when it broke while the channel was being closed.
    message.channel._disconnect_pools()
    with pytest.raises(connection.connection_errors):
        message.ack()


def test_a_broker_that_is_away_is_asked_again_soon_and_at_last_every_few_seconds(own_valkey: ValkeyServer) -> None:
    app = Celery(broker=own_valkey.url, amqp=broker.LastingAMQP)
    own_valkey.kill()
    waits = list[float]()
    with pytest.raises(OperationalError), app.connection_for_read() as connection:
        connection.ensure_connection(lambda _, wait: waits.append(wait), 3)
    assert waits == [0.5, 1.0, 1.5]


# Messages that are fetched several at once.


@contextmanager
def consuming(url: str, take: Callable[[int], object]) -> Iterator[tuple[Connection, Callable[[], None]]]:
    """A consumer as Celery's is, which acknowledges nothing by itself; `take` is called with each body. Yields its
    connection, and what turns the loop once, if there is room."""
    connection, taken = Connection(url, transport_options={"ack_emulation": False}), []

    def note(message: Any) -> None:
        # While it lives, it is in hand.
        taken.append(message)
        take(message.payload)

    def look() -> None:
        with suppress(TimeoutError):
            connection.drain_events(timeout=1)

    channel: Any = connection.default_channel
    consumer = connection.Consumer([QUEUE(channel)], on_message=note)
    consumer.qos(prefetch_count=PREFETCH)
    consumer.consume()
    yield connection, look
    channel.qos.restore_at_shutdown = False
    connection.close()


@pytest.mark.parametrize("priority", [0, 3])
def test_one_fetch_brings_as_many_messages_as_there_is_room_for(valkey_url: str, priority: int) -> None:
    numbers = list[int]()
    with consuming(valkey_url, numbers.append) as (connection, look):
        publish(connection, *range(PREFETCH + 3), priority=priority)
        look()
        assert numbers == list(range(PREFETCH))
        look()
        assert numbers == list(range(PREFETCH)), "it has fetched more than there was room for"


def test_what_goes_ahead_is_fetched_first(valkey_url: str) -> None:
    numbers = list[int]()
    with consuming(valkey_url, numbers.append) as (connection, look):
        publish(connection, 1, 2, priority=3)
        publish(connection, 7)
        look()
        look()
    assert numbers == [7, 1, 2]


def test_a_server_that_refuses_to_give_several_is_asked_for_one_after_the_other(own_valkey: ValkeyServer) -> None:
    numbers = list[int]()
    with consuming(own_valkey.let_in("limited", "~* &* +@all -rpop"), numbers.append) as (connection, look):
        publish(connection, 1, 2)
        look()
        assert numbers == [1]
        look()
    assert numbers == [1, 2]


def test_a_message_that_nobody_can_read_or_take_up_takes_none_of_the_others_along(valkey_url: str) -> None:
    numbers = list[int]()

    def take(number: int) -> None:
        if number == 3:
            raise redis.ConnectionError("broken")
        numbers.append(number)

    with consuming(valkey_url, take) as (connection, _), redis.Redis.from_url(valkey_url) as client:
        publish(connection, 1)
        client.lpush("some", "{no message", b"\xff")
        publish(connection, 2)
        # Which counts as a lost connection.
        with pytest.raises(connection.connection_errors):
            connection.drain_events(timeout=5)
        assert numbers == [1, 2]
    with consuming(valkey_url, take) as (connection, _):
        publish(connection, 5, 3, 4)
        with pytest.raises(redis.ConnectionError, match="broken"):
            connection.drain_events(timeout=5)
    assert numbers == [1, 2, 5, 4]


def make_room(taken: int, prefetch: int = PREFETCH, fetched_at: float = float("inf")) -> FetchingRoom:
    """The room of a worker that has so many messages; nothing is given back when it ends."""
    room = FetchingRoom(SimpleNamespace(fetched_at=fetched_at, do_restore=False), prefetch)
    for number in range(taken):
        room.append(object(), str(number))
    return room


@pytest.mark.parametrize(
    ("room", "may"),
    [
        # Room for half of what it may have.
        *((make_room(taken), taken < 3) for taken in range(5)),
        # Where messages come slowly, none waits for others.
        (make_room(3, fetched_at=-LONGEST_DELAY), True),
        (make_room(4, fetched_at=-LONGEST_DELAY), False),
        # Whoever may have any number.
        (make_room(100, prefetch=0), True),
    ],
)
def test_a_worker_fetches_where_there_is_much_room_or_a_little_for_long(room: FetchingRoom, may: bool) -> None:
    assert room.can_consume() is may


def test_the_thread_that_makes_enough_room_wakes_the_loop() -> None:
    former, loop, room, woken = get_event_loop(), Hub(), make_room(PREFETCH), []
    set_event_loop(loop)
    for tag in ("0", "1"):
        thread = threading.Thread(target=room.ack, args=(tag,))
        thread.start()
        thread.join()
        woken.append(bool(loop._ready))
    set_event_loop(former)
    assert woken == [False, True]


# Celery's sets of requests, mended.


class Request:
    """As far as a set of them is concerned."""


@pytest.fixture(params=["reserved_requests", "active_requests", "scheduled_requests"])
def requests(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One of the sets, mended, and afterwards as it was."""
    broker.mend_request_sets()
    yield getattr(state, request.param)
    for each in (state.reserved_requests, state.active_requests, state.scheduled_requests):
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
    assert ({*seen}, {*requests}) == ({first, second}, {second, third})


def test_a_request_that_is_gone_is_in_no_set_and_methods_that_celery_has_bound_before_go_on_working(
    requests: Any,
) -> None:
    kept, gone, (add, discard) = Request(), Request(), _BOUND_BEFORE
    requests.update([kept, gone])
    del gone
    assert ([*requests], len(requests)) == ([kept], 1)
    requests.clear()
    add(kept)
    assert [*state.active_requests] == [kept]
    discard(kept)
    assert [*state.active_requests] == []


# The events of tasks.


class Listening:
    """A consumer as far as the step sees it, and what arrives at Flower's end."""

    def __init__(self, url: str, exits: ExitStack, *, has_loop: bool = True) -> None:
        app, self.woken, self.seen = Celery(broker=url), list[None](), list[str]()
        ours, theirs = (exits.enter_context(app.connection()) for _ in range(2))
        loop: dict[str, Any] = {"buffer_group": ["task"], "on_send_buffered": self.wake} if has_loop else {}
        self.consumer: Any = SimpleNamespace(
            event_dispatcher=app.events.Dispatcher(ours, **loop), on_send_event_buffered=self.wake, timer=Timer()
        )
        receiver = app.events.Receiver(theirs, handlers={"*": lambda event: self.seen.append(event["type"])})
        self.wire, *_ = exits.enter_context(receiver.consumer_context())
        # Looking for events is what subscribes to them.
        with suppress(TimeoutError):
            self.wire.drain_events(timeout=0.01)
        server = exits.enter_context(redis.Redis.from_url(url))
        wait_until(lambda: server.pubsub_numpat() > 0, 5, "the receiver is subscribed")
        self.step = EventBatches(None)
        self.step.start(self.consumer)

    def wake(self) -> None:
        self.woken.append(None)

    def send(self, *types: str) -> None:
        for each in types:
            self.consumer.event_dispatcher.send(each)

    def receive(self) -> list[str]:
        self.wire.drain_events(timeout=5)
        return self.seen


def test_events_go_together_in_one_message_when_they_are_many_or_a_moment_later(valkey_url: str) -> None:
    with ExitStack() as exits:
        listening = Listening(valkey_url, exits)
        [due] = listening.consumer.timer.queue
        listening.send("task-started", "task-succeeded")
        due.entry()
        assert listening.receive() == ["task-started", "task-succeeded"]
        listening.send(*["task-started"] * (EVENTS_TOGETHER - 3))
        assert len(listening.woken) == 0
        listening.send("task-started")
        assert len(listening.woken) == 1
        # A connection that ended leaves no timer.
        listening.step.stop(listening.consumer)
        assert due.entry.canceled
    assert FLUSH_INTERVAL < 1


def test_without_an_event_loop_each_event_goes_at_once(valkey_url: str) -> None:
    with ExitStack() as exits:
        listening = Listening(valkey_url, exits, has_loop=False)
        listening.send("task-started")
        assert listening.receive() == ["task-started"]
        listening.step.stop(listening.consumer)
