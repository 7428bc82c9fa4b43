"""Messages that are fetched several at once, from a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis
from kombu import Connection, Queue
from kombu.asynchronous import Hub, get_event_loop, set_event_loop
from support.servers.valkey import ValkeyServer

from worker.process import broker
from worker.process.broker import LONGEST_DELAY, FetchingRoom

QUEUE = Queue("some", routing_key="some")
# What a worker of four threads may have in reserve.
PREFETCH = 4


@pytest.fixture(autouse=True)
def _install(monkeypatch: pytest.MonkeyPatch) -> None:
    # An earlier test may have connected without our transport, and kombu remembers the class that it used.
    monkeypatch.setattr("kombu.transport._transport_cache", {})
    broker.install()


class Worker:
    """A consumer as Celery's is; it acknowledges nothing by itself. `refuse` is called with each body."""

    def __init__(self, url: str, refuse: Callable[[int], object] = lambda _: None) -> None:
        self.taken = list[Any]()
        self._refuse = refuse
        self.connection = Connection(url, transport_options={"ack_emulation": False})
        self.channel: Any = self.connection.default_channel
        self._consumer = self.connection.Consumer([QUEUE(self.channel)], on_message=self._take)
        self._consumer.qos(prefetch_count=PREFETCH)
        self._consumer.consume()

    @property
    def numbers(self) -> list[int]:
        return [message.payload for message in self.taken]

    def publish(self, *numbers: int, priority: int = 0) -> None:
        with self.connection.clone() as other:
            producer = other.Producer()
            for number in numbers:
                producer.publish(number, routing_key="some", priority=priority, retry=False)

    def look(self) -> None:
        """Turn the loop once, if there is room."""
        with suppress(TimeoutError):
            self.connection.drain_events(timeout=1)

    def close(self) -> None:
        self.channel.qos.restore_at_shutdown = False
        self.connection.close()

    def _take(self, message: Any) -> None:
        self._refuse(message.payload)
        self.taken.append(message)


@contextmanager
def working(url: str, refuse: Callable[[int], object] = lambda _: None) -> Iterator[Worker]:
    worker = Worker(url, refuse)
    try:
        yield worker
    finally:
        worker.close()


@pytest.mark.parametrize("priority", [0, 3])
def test_one_fetch_brings_as_many_messages_as_there_is_room_for(valkey_url: str, priority: int) -> None:
    with working(valkey_url) as worker:
        worker.publish(*range(PREFETCH + 3), priority=priority)
        worker.look()
        assert worker.numbers == list(range(PREFETCH))
        worker.look()
        assert worker.numbers == list(range(PREFETCH)), "it has fetched more than there was room for"


def test_what_goes_ahead_is_fetched_first(valkey_url: str) -> None:
    with working(valkey_url) as worker:
        worker.publish(1, 2, priority=3)
        worker.publish(7, priority=0)
        worker.look()
        worker.look()
        assert worker.numbers == [7, 1, 2]


def test_a_server_that_refuses_to_give_several_is_asked_for_one_after_the_other(own_valkey: ValkeyServer) -> None:
    with working(own_valkey.let_in("limited", "~* &* +@all -rpop")) as worker:
        worker.publish(1, 2)
        worker.look()
        assert worker.numbers == [1]
        worker.look()
        assert worker.numbers == [1, 2]


def test_a_message_that_nobody_can_read_takes_none_of_the_others_along(valkey_url: str) -> None:
    with working(valkey_url) as worker:
        worker.publish(1)
        with redis.Redis.from_url(valkey_url) as client:
            client.lpush("some", "{no message", b"\xff")
        worker.publish(2)
        # Which counts as a lost connection.
        with pytest.raises(worker.connection.connection_errors):
            worker.connection.drain_events(timeout=5)
        assert worker.numbers == [1, 2]


def test_a_message_that_cannot_be_taken_up_loses_none_of_the_others(valkey_url: str) -> None:
    def refuse(number: int) -> None:
        if number == 2:
            raise redis.ConnectionError("broken")

    with working(valkey_url, refuse) as worker:
        worker.publish(1, 2, 3)
        with pytest.raises(redis.ConnectionError, match="broken"):
            worker.connection.drain_events(timeout=5)
        assert worker.numbers == [1, 3]


class Clocked:
    """What FetchingRoom sees of its channel."""

    fetched_at = float("inf")
    # Nothing is given back when it ends.
    do_restore = False


@pytest.fixture
def loop() -> Iterator[Hub]:
    former = get_event_loop()
    loop = Hub()
    set_event_loop(loop)
    yield loop
    set_event_loop(former)


def fill(room: FetchingRoom, count: int) -> None:
    for number in range(count):
        room.append(object(), str(number))


@pytest.mark.parametrize(("taken", "may"), [(0, True), (2, True), (3, False), (4, False)])
def test_a_worker_fetches_where_there_is_room_for_half_of_what_it_may_have(taken: int, may: bool) -> None:
    room = FetchingRoom(Clocked(), PREFETCH)
    fill(room, taken)
    assert room.can_consume() is may


def test_a_little_room_is_enough_after_a_moment() -> None:
    """Where messages come slowly, none waits for others."""
    channel = Clocked()
    room = FetchingRoom(channel, PREFETCH)
    fill(room, 3)
    channel.fetched_at = -LONGEST_DELAY
    assert room.can_consume()
    fill(room, 4)
    assert not room.can_consume()


def test_whoever_may_have_any_number_fetches_always() -> None:
    room = FetchingRoom(Clocked(), 0)
    fill(room, 100)
    assert room.can_consume()


def test_the_thread_that_makes_enough_room_wakes_the_loop(loop: Hub) -> None:
    room = FetchingRoom(Clocked(), PREFETCH)
    fill(room, PREFETCH)
    in_thread(lambda: room.ack("0"))
    assert not loop._ready
    in_thread(lambda: room.ack("1"))
    assert loop._ready


def in_thread(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
