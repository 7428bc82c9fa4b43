"""Whether this worker process takes work. One that fails where others do not (no way to PingOne, a wrong key, a missing
secret) costs the fleet its own share only: it takes no more work, says so, and comes back when it is well."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from worker.database.away import is_away
from worker.fleet.processes import SIGN_OF_LIFE, Processes, Sickness

log = structlog.get_logger()

# Whether what failed works again, by the word for it.
Examine = Callable[[str], bool]


class Intake(Protocol):
    """Where this process takes its messages from."""

    def close(self) -> None: ...

    def open(self) -> None: ...


class ConsumerIntake:
    """The queues that a Celery worker's consumer takes from. Its own loop has to open and close them."""

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
    """Thread-safe. Until a process takes messages, and where no other process is well, it cannot be spared."""

    def __init__(self, processes: Processes, examine: Examine) -> None:
        self._processes = processes
        self._examine = examine
        self._lock = threading.Lock()
        self._intake: Intake | None = None
        self._sickness: Sickness | None = None

    @property
    def is_sick(self) -> bool:
        return self._sickness is not None

    def fall_sick(self, sickness: Sickness) -> bool:
        """Take no more work; what is in hand goes back. False: no other process is well, so the trouble is everybody's,
        and this one works on."""
        with self._lock:
            if self._sickness is not None:
                return True
            if self._intake is None or not self._processes.fall_sick(sickness):
                return False
            self._sickness = sickness
            self._intake.close()
        log.error("takes_no_more_work", reason=sickness.reason, detail=sickness.detail)
        return True

    def watch(self, intake: Intake) -> None:
        """Show life, and look after this process, as long as it lives."""
        self._intake = intake
        threading.Thread(target=self._watch, name="fitness", daemon=True).start()

    def look(self) -> None:
        """Show life; where this process is sick, see whether it is well again, or needed after all."""
        self._processes.show_life()
        sickness = self._sickness
        if sickness is not None and (self._examine(sickness.reason) or self._processes.is_needed()):
            self._recover()

    def _recover(self) -> None:
        with self._lock:
            self._processes.recover()
            self._sickness = None
            if self._intake is not None:
                self._intake.open()
        log.warning("takes_work_again")

    def _watch(self) -> None:
        while True:
            try:
                self.look()
            except Exception as error:
                if not is_away(error):
                    log.exception("no_sign_of_life")
                else:
                    log.warning("no_sign_of_life", why="the database is away")
            time.sleep(SIGN_OF_LIFE)
