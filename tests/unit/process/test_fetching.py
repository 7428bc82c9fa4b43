"""Messages that are fetched several at once, from a real server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis
from kombu import Connection, Queue
from kombu.asynchronous import Hub, get_event_loop, set_event_loop
from kombu.common import QoS
from support.servers.valkey import ValkeyServer

from worker.process import broker
from worker.process.fetching import LONGEST_DELAY, MOST_TOGETHER, Room, raise_reserve

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
        with suppress(socket.timeout):
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


def count_fetches(url: str) -> dict[str, int]:
    with redis.Redis.from_url(url) as client:
        counts = client.info("commandstats")
    return {name: counts.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("blmpop", "brpop")}


def test_one_fetch_brings_as_many_messages_as_there_is_room_for(valkey_url: str) -> None:
    with working(valkey_url) as worker:
        worker.publish(*range(PREFETCH + 3))
        before = count_fetches(valkey_url)
        worker.look()
        assert worker.numbers == list(range(PREFETCH))
        assert count_fetches(valkey_url)["blmpop"] == before["blmpop"] + 1


def test_what_goes_ahead_is_fetched_first(valkey_url: str) -> None:
    with working(valkey_url) as worker:
        worker.publish(1, 2, priority=3)
        worker.publish(7, priority=0)
        worker.look()
        worker.look()
        assert worker.numbers == [7, 1, 2]


def test_a_server_that_refuses_to_give_several_is_asked_for_one_after_the_other(own_valkey: ValkeyServer) -> None:
    limited = own_valkey.let_in("limited", "~* &* +@all -blmpop")
    with working(limited) as worker:
        worker.publish(1, 2)
        worker.look()
        assert worker.numbers == [1]
        worker.look()
        assert worker.numbers == [1, 2]
        assert count_fetches(own_valkey.url)["brpop"] >= 2


def test_a_message_that_nobody_can_read_takes_none_of_the_others_along(valkey_url: str) -> None:
    with working(valkey_url) as worker:
        worker.publish(1)
        with redis.Redis.from_url(valkey_url) as client:
            client.lpush("some", "{no message", b"\xff")
        worker.publish(2)
        worker.look()
        assert worker.numbers == [1, 2]


def test_a_connection_that_breaks_while_messages_are_taken_up_loses_none_of_the_others(valkey_url: str) -> None:
    def refuse(number: int) -> None:
        if number == 2:
            raise redis.ConnectionError("broken")

    with working(valkey_url, refuse) as worker:
        worker.publish(1, 2, 3)
        with pytest.raises(redis.ConnectionError, match="broken"):
            worker.connection.drain_events(timeout=5)
        assert worker.numbers == [1, 3]


class Channel:
    """What Room sees of its channel."""

    is_fetching = False
    seconds_since_fetch = 0.0
    # Nothing is given back when it ends.
    do_restore = False


@pytest.fixture
def loop() -> Iterator[Hub]:
    former = get_event_loop()
    loop = Hub()
    set_event_loop(loop)
    yield loop
    set_event_loop(former)


def fill(room: Room, count: int) -> None:
    for number in range(count):
        room.append(object(), str(number))


@pytest.mark.parametrize(("taken", "may"), [(0, True), (2, True), (3, False), (4, False)])
def test_a_worker_fetches_where_there_is_room_for_half_of_what_it_may_have(taken: int, may: bool) -> None:
    room = Room(Channel(), PREFETCH)
    fill(room, taken)
    assert room.can_consume() is may


def test_a_little_room_is_enough_after_a_moment() -> None:
    """Where messages come slowly, none waits for others."""
    channel = Channel()
    room = Room(channel, PREFETCH)
    fill(room, 3)
    channel.seconds_since_fetch = LONGEST_DELAY
    assert room.can_consume()
    fill(room, 4)
    assert not room.can_consume()


def test_whoever_may_have_any_number_fetches_always() -> None:
    room = Room(Channel(), 0)
    fill(room, 100)
    assert room.can_consume()


def test_the_thread_that_makes_enough_room_wakes_the_loop(loop: Hub) -> None:
    room = Room(Channel(), PREFETCH)
    fill(room, PREFETCH)
    in_thread(lambda: room.ack("0"))
    assert not loop._ready
    in_thread(lambda: room.ack("1"))
    assert loop._ready


def test_a_loop_that_waits_for_messages_already_is_not_woken(loop: Hub) -> None:
    channel = Channel()
    room = Room(channel, PREFETCH)
    fill(room, PREFETCH)
    channel.is_fetching = True
    for number in range(PREFETCH):
        room.ack(str(number))
    assert not loop._ready


class Pool:
    limit = 8


class CeleryConsumer:
    """What is changed of Celery's consumer."""

    def __init__(self) -> None:
        self.pool = Pool()
        self.told = list[int]()
        self.qos = QoS(lambda prefetch_count: self.told.append(prefetch_count), 8)


def test_a_worker_with_more_threads_may_fetch_more_ahead_up_to_what_goes_together() -> None:
    consumer = CeleryConsumer()
    for threads in (16, 32, 128, 256):
        raise_reserve(consumer, threads)
        consumer.qos.update()
    assert consumer.told == [16, 32, MOST_TOGETHER]
    assert consumer.pool.limit == MOST_TOGETHER


def test_a_reserve_is_never_lowered() -> None:
    consumer = CeleryConsumer()
    consumer.pool.limit = consumer.qos.value = 100
    raise_reserve(consumer, 200)
    assert (consumer.pool.limit, consumer.qos.value) == (100, 100)


def in_thread(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
