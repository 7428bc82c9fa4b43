"""Whether this worker process takes work. One that fails where others do not (no way to PingOne, a wrong key, a missing
secret) costs the fleet its own share only: it takes no more work, says so, and comes back when it is well."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from worker.database.away import is_away
from worker.fleet.processes import SIGN_OF_LIFE_EVERY, Processes, Sickness

log = structlog.get_logger()

# Tells whether what failed works again; asked by the reason of the sickness, which is one word.
Examine = Callable[[str], bool]


class MessageSource(Protocol):
    """Where this process takes its messages from; it can stop taking them, and begin again."""

    def close(self) -> None: ...

    def open(self) -> None: ...


class ConsumerQueues:
    """The queues that a Celery worker's consumer takes messages from. They are opened and closed by the consumer's own
    loop, as they have to be."""

    def __init__(self, consumer: Any, queues: Sequence[str]) -> None:
        self._consumer = consumer
        self._queues = queues

    def close(self) -> None:
        for queue in self._queues:
            self._consumer.call_soon(self._consumer.cancel_task_queue, queue)

    def open(self) -> None:
        for queue in self._queues:
            self._consumer.call_soon(self._consumer.add_task_queue, queue)


class Fitness:
    """Whether this process takes work, and why not. Thread-safe.

    It goes on working until it takes messages, and where no other process is well: then it cannot be spared."""

    def __init__(self, processes: Processes, examine: Examine) -> None:
        self._processes = processes
        self._examine = examine
        self._lock = threading.Lock()
        self._source: MessageSource | None = None
        self._sickness: Sickness | None = None

    @property
    def is_sick(self) -> bool:
        """Whether this process takes no work."""
        return self._sickness is not None

    def fall_sick(self, sickness: Sickness) -> bool:
        """Take no more work, and return True; what is in hand goes back. False: no other process is well, so the
        trouble is everybody's, and this one works on."""
        with self._lock:
            if self._sickness is not None:
                return True
            if self._source is None or not self._processes.fall_sick(sickness):
                return False
            self._sickness = sickness
            self._source.close()
        log.error("takes_no_more_work", reason=sickness.reason, detail=sickness.detail)
        return True

    def start_watching(self, source: MessageSource) -> None:
        """Check this process every few seconds as long as it lives, in a thread of its own; it takes its messages from
        `source`."""
        self._source = source
        threading.Thread(target=self._watch, name="fitness", daemon=True).start()

    def check(self) -> None:
        """Write down that this process lives. If it is sick and well again, or needed after all, take work again."""
        self._processes.show_life()
        sickness = self._sickness
        if sickness is not None and (self._examine(sickness.reason) or self._processes.is_needed()):
            self._recover()

    def _recover(self) -> None:
        """Take work again."""
        with self._lock:
            self._processes.recover()
            self._sickness = None
            if self._source is not None:
                self._source.open()
        log.warning("takes_work_again")

    def _watch(self) -> None:
        while True:
            try:
                self.check()
            except Exception as error:
                if not is_away(error):
                    log.exception("no_sign_of_life")
                else:
                    log.warning("no_sign_of_life", why="the database is away")
            time.sleep(SIGN_OF_LIFE_EVERY)
