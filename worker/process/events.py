"""Sends the events of many tasks to Flower in one message. Celery sends each as soon as its loop turns, which takes
longer than receiving the task does."""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps

# Events that are sent together. A task has three (received, started, succeeded).
EVENTS_TOGETHER = 60
# Events at which the thread that has one more sends them all by itself, should the loop not come to it.
MOST_WAITING = 4 * EVENTS_TOGETHER
# Seconds after which fewer events are sent too.
FLUSH_INTERVAL = 0.5


class EventBatches(bootsteps.StartStopStep):  # type: ignore[misc]
    """A part of the worker that starts with each connection, after the part that makes the event dispatcher."""

    requires = ("celery.worker.consumer.events:Events",)
    _last: Any = None

    def start(self, consumer: Any) -> None:
        dispatcher = consumer.event_dispatcher
        # Only with an event loop does Celery hold events back.
        if dispatcher.on_send_buffered is None:
            return
        dispatcher.buffer_limit = MOST_WAITING
        dispatcher.on_send_buffered = CallOnceInSoMany(EVENTS_TOGETHER, consumer.on_send_event_buffered)
        self._last = consumer.timer.call_repeatedly(FLUSH_INTERVAL, dispatcher.flush)

    def stop(self, consumer: Any) -> None:  # noqa: ARG002
        if self._last is not None:
            self._last.cancel()


class CallOnceInSoMany:
    """Makes one call for so many calls of it. Threads may lose a count to each other, which does no harm."""

    def __init__(self, times: int, call: Any) -> None:
        self._times = times
        self._call = call
        self._count = 0

    def __call__(self) -> None:
        self._count += 1
        if self._count >= self._times:
            self._count = 0
            self._call()


def install(app: Celery) -> None:
    """Send events together in every worker of this app."""
    app.steps["consumer"].add(EventBatches)
