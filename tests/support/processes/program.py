"""A Python module run as a process that tests stop, kill and freeze; it ends with them, kill -9 included."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from support.processes.forking import Forked

STOP_TIMEOUT = 30.0


class Program:
    """One process. Everything that it prints goes into `log`."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], env: Mapping[str, str], directory: Path):
        self.name = name
        self.log = directory / f"{name}.log"
        self._process = Forked(module, arguments, env, directory, self.log, self.log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def is_running(self) -> bool:
        return self.exit_code is None

    def keeps_together(self) -> bool:
        """All its threads but one may run on one processor only, the same for all. Only Linux lets a process choose."""
        if not hasattr(os, "sched_getaffinity"):
            return True
        try:
            tasks = Path(f"/proc/{self.pid}/task").iterdir()
            *kept, _ = sorted((os.sched_getaffinity(int(task.name)) for task in tasks), key=len)
        except (FileNotFoundError, ProcessLookupError):
            # It, or a thread, ended meanwhile.
            return False
        return len(kept[0]) == 1 and kept == [kept[0]] * len(kept)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process with kill -9, and wait until it is gone."""
        self._process.kill()
        self.wait()

    def stop(self) -> int:
        """Ask it to end in good order, and wait for that: its exit code."""
        self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Wait until the process ends by itself: its exit code. Raises TimeoutError."""
        try:
            return self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} has not ended within {STOP_TIMEOUT:g} s") from None

    def close(self) -> None:
        self.kill()
        self._process.close()

    def read_log(self) -> str:
        return self.log.read_text(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
