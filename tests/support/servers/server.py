"""A server for tests: started, stopped and killed at will, and gone with the process that runs the tests."""

import abc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

from support.processes.waiting import wait_until

from worker.embedded.valkey import find_free_port

GUARD = Path(__file__).with_name("guard.py")
TIMEOUT = 30.0


class Server(abc.ABC):
    """One server in a temporary directory of its own; entering starts it, leaving removes all of it."""

    stop_signal: signal.Signals

    def __init__(self, *, parent: Path | None = None) -> None:
        # Not in pytest's tmp_path: its parents are closed to the account that a server of root's runs under,
        # and its name is too long for a Unix socket.
        self.directory = Path(tempfile.mkdtemp(prefix="oathbulk-test-", dir=parent))
        self.log = self.directory / "log"
        self.port = find_free_port()
        self._has_started = False
        self._guard: subprocess.Popen[str] | None = None
        self.pid = 0

    @abc.abstractmethod
    def argv(self) -> list[str]:
        """The command that runs it in the foreground, on `self.port`."""

    @abc.abstractmethod
    def answers(self) -> bool:
        """Whether it serves its clients now."""

    def options(self) -> dict[str, Any]:
        """Further arguments of subprocess.Popen, as JSON knows them."""
        return {}

    @property
    def is_running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers; after a stop or a kill, on the same port and data."""
        try:
            wait_until(self._try_to_start, f"{type(self).__name__} starts")
        except TimeoutError as error:
            error.add_note(self.log.read_text(errors="replace")[-2000:])
            raise

    def stop(self) -> None:
        """End it in good order, and wait for that."""
        if self._guard is not None:
            self._guard.communicate(".", timeout=TIMEOUT)
            self._guard = None

    def kill(self) -> None:
        """End it as kill -9 does, and wait for that."""
        if self.is_running:
            os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _try_to_start(self) -> bool:
        """Start the server. False if it ended at once: its port was taken, or its killed predecessor is not wholly gone
        yet."""
        if not self._has_started:
            self.port = find_free_port()
        self._spawn()
        wait_until(lambda: not self.is_running or self.answers(), f"{type(self).__name__} answers")
        if not self.is_running:
            self.stop()
            return False
        self._has_started = True
        return True

    def _spawn(self) -> None:
        order = {
            "argv": self.argv(),
            "options": self.options(),
            "log": str(self.log),
            "directory": str(self.directory),
            "stop_signal": int(self.stop_signal),
        }
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._guard.stdout is not None
        self.pid = int(self._guard.stdout.readline())
