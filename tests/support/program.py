"""A Python module run as a process that tests stop, kill and freeze; it ends with them, kill -9 included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

STOP_TIMEOUT = 30.0
# Seconds to end in good order once the tests are gone.
ORPHAN_GRACE = 1.0


class Program:
    """One process. Everything that it prints goes into `log`."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], env: Mapping[str, str], directory: Path):
        self.name = name
        self.log = directory / f"{name}.log"
        reader, self._lifeline = os.pipe()
        launcher = [sys.executable, "-m", "worker.embedded.child", str(reader), str(ORPHAN_GRACE)]
        try:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [*launcher, module, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=env,
                    cwd=directory,
                    pass_fds=(reader,),
                    start_new_session=True,
                )
        finally:
            os.close(reader)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def keeps_together(self) -> bool:
        """All its threads but one may run on one processor only, the same for all. Only Linux lets a process choose."""
        if not hasattr(os, "sched_getaffinity"):
            return True
        try:
            tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
            *kept, _ = sorted((os.sched_getaffinity(int(task.name)) for task in tasks), key=len)
        except ProcessLookupError:
            # A thread ended meanwhile.
            return False
        return len(kept[0]) == 1 and kept == [kept[0]] * len(kept)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As kill -9 does it, and wait until it is gone."""
        self._process.kill()
        self._process.wait(STOP_TIMEOUT)

    def stop(self) -> int:
        """Ask it to end in good order, and wait for that: its exit code."""
        self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Until it ends by itself: its exit code."""
        return self._process.wait(STOP_TIMEOUT)

    def close(self) -> None:
        self.kill()
        os.close(self._lifeline)

    def read_log(self) -> str:
        return self.log.read_text(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
