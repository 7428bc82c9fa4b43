"""A Python module run as a process that tests stop, kill and freeze; it ends with them, kill -9 included.

It is forked from a process that has imported already what takes long, so that the more than hundred of them cost the
tests seconds and not minutes. From there on it does what `python -m MODULE` does; but its command line is another, and
variables that tell Python itself how to run come too late."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from worker.embedded import child

# What reads settings as it is imported is not among them: each process has its own.
IMPORTED = ("celery.bin.beat", "celery.bin.celery", "celery.bin.worker", "worker.cli.simulator", "worker.parts")
STOP_TIMEOUT = 30.0
# Seconds to end in good order once the tests are gone.
ORPHAN_GRACE = 1.0

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload([*IMPORTED])


class Program:
    """One process. Everything that it prints goes into `log`."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], env: Mapping[str, str], directory: Path):
        self.name = name
        self.log = directory / f"{name}.log"
        run = (module, [*arguments], {**env}, directory, self.log)
        self._process = _forking.Process(target=_become, args=run, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.is_alive()

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
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """As kill -9 does it, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """Ask it to end in good order, and wait for that: its exit code."""
        self._signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Until it ends by itself: its exit code. Raises TimeoutError."""
        self._process.join(STOP_TIMEOUT)
        if self._process.exitcode is None:
            raise TimeoutError(f"{self.name} has not ended within {STOP_TIMEOUT:g} s")
        return self._process.exitcode

    def close(self) -> None:
        self.kill()
        self._process.close()

    def read_log(self) -> str:
        return self.log.read_text(errors="replace")

    def _signal(self, number: int) -> None:
        if self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _become(module: str, arguments: list[str], env: dict[str, str], directory: Path, log: Path) -> None:
    """`python -m module arguments`, in a session of its own."""
    os.setsid()
    appending = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    streams = os.open(os.devnull, os.O_RDONLY), os.open(log, appending, 0o666), os.open(log, appending, 0o666)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    os.chdir(directory)
    parent = multiprocessing.parent_process()
    assert parent is not None
    sys.argv = ["child", str(parent.sentinel), str(ORPHAN_GRACE), module, *arguments]
    child.main()
