"""Whether this worker process is fit to work. One that fails where others do not (no way to PingOne, a wrong key, a
missing secret) costs the fleet its own share only: it ends, says why, and its supervisor starts it again."""

from __future__ import annotations

import os
import signal
import threading
import time

import structlog

from worker.database.errors import is_away
from worker.fleet.processes import SIGN_OF_LIFE_EVERY, Processes, Sickness

log = structlog.get_logger()


class Fitness:
    """Whether this process works, and why it ends. Thread-safe.

    It goes on working where no other process is well: then the trouble is everybody's, and it cannot be spared."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._lock = threading.Lock()
        self._sickness: Sickness | None = None

    @property
    def name(self) -> str:
        """The name of this process, as its attempts have it."""
        return self._processes.name

    @property
    def is_sick(self) -> bool:
        """Whether this process ends, since it failed alone."""
        return self._sickness is not None

    def fall_sick(self, sickness: Sickness) -> bool:
        """End this process as if it were asked to, and return True: what it has in hand goes back. False: no other
        process is well, so this one works on."""
        with self._lock:
            if self._sickness is not None:
                return True
            if not self._processes.fall_sick(sickness):
                return False
            self._sickness = sickness
        log.error("ends_since_it_fails_alone", reason=sickness.reason, detail=sickness.detail)
        os.kill(os.getpid(), signal.SIGTERM)
        return True

    def start_watching(self) -> None:
        """Write down every few seconds that this process lives, in a thread of its own."""
        threading.Thread(target=self._watch, name="fitness", daemon=True).start()

    def _watch(self) -> None:
        while not self.is_sick:
            try:
                self._processes.show_life()
            except Exception as error:
                if not is_away(error):
                    log.exception("no_sign_of_life")
                else:
                    log.warning("no_sign_of_life", why="the database is away")
            time.sleep(SIGN_OF_LIFE_EVERY)
