"""The events of tasks, through a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.asynchronous.timer import Timer
from support.processes.waiting import wait_until

from worker.process.broker import EVENTS_TOGETHER, FLUSH_INTERVAL, EventBatches


class Listening:
    """A consumer as far as the step sees it, and what arrives at Flower's end."""

    def __init__(self, url: str, *, has_loop: bool = True) -> None:
        self._exits = ExitStack()
        app = Celery(broker=url)
        self.woken = 0
        self.seen = list[str]()
        connections = [self._exits.enter_context(app.connection()) for _ in range(2)]
        loop: dict[str, Any] = {"buffer_group": ["task"], "on_send_buffered": self._wake} if has_loop else {}
        self.dispatcher = app.events.Dispatcher(connections[0], **loop)
        self._receiver = app.events.Receiver(connections[1], handlers={"*": self._see})
        self._wire, *_ = self._exits.enter_context(self._receiver.consumer_context())
        # Looking for events is what subscribes to them.
        with suppress(TimeoutError):
            self._wire.drain_events(timeout=0.01)
        server = self._exits.enter_context(redis.Redis.from_url(url))
        wait_until(lambda: server.pubsub_numpat() > 0, 5, "the receiver is subscribed")
        self.consumer: Any = SimpleNamespace(
            event_dispatcher=self.dispatcher, on_send_event_buffered=self._wake, timer=Timer()
        )

    def receive(self) -> None:
        self._wire.drain_events(timeout=5)

    def close(self) -> None:
        self._exits.close()

    def _wake(self) -> None:
        self.woken += 1

    def _see(self, event: dict[str, Any]) -> None:
        self.seen.append(event["type"])


@pytest.fixture
def listening(valkey_url: str) -> Iterator[Listening]:
    found = Listening(valkey_url)
    yield found
    found.close()


def test_the_loop_is_woken_once_for_many_events(listening: Listening) -> None:
    EventBatches(None).start(listening.consumer)
    for _ in range(EVENTS_TOGETHER - 1):
        listening.dispatcher.send("task-started")
    assert listening.woken == 0
    listening.dispatcher.send("task-started")
    assert listening.woken == 1


def test_what_is_left_goes_in_one_message_a_moment_later(listening: Listening) -> None:
    EventBatches(None).start(listening.consumer)
    listening.dispatcher.send("task-started")
    listening.dispatcher.send("task-succeeded")
    [due] = listening.consumer.timer.queue
    due.entry()
    listening.receive()
    assert listening.seen == ["task-started", "task-succeeded"]
    assert FLUSH_INTERVAL < 1


def test_a_connection_that_ended_leaves_no_timer(listening: Listening) -> None:
    step = EventBatches(None)
    step.start(listening.consumer)
    [due] = listening.consumer.timer.queue
    step.stop(listening.consumer)
    assert due.entry.canceled


def test_without_an_event_loop_each_event_goes_at_once(valkey_url: str) -> None:
    listening = Listening(valkey_url, has_loop=False)
    step = EventBatches(None)
    step.start(listening.consumer)
    listening.dispatcher.send("task-started")
    listening.receive()
    step.stop(listening.consumer)
    listening.close()
    assert listening.seen == ["task-started"]
