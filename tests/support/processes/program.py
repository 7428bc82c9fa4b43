"""Python modules as processes that tests stop, kill and freeze, and that end with them, kill -9 included. Each is
forked from one that has imported already what takes long: the hundreds of them cost the tests seconds and not minutes.

From there on each does what `python -m MODULE` does; but its command line is another, /proc tells other variables, and
those that tell Python itself how to run come too late."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import Self
from unittest.mock import patch

from worker.embedded import child

TESTS = str(Path(__file__).parents[2])
# Seconds to end in good order once the tests are gone.
ORPHAN_GRACE = 1.0

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(["support.processes.preloaded"])


class Forked:
    """One process, in a session of its own, with as much of subprocess.Popen as tests need. Its variables are `env`
    alone; it appends to the files `stdout` and `stderr`, and ends with the tests, kill -9 included."""

    def __init__(
        self, module: str, arguments: Sequence[str], env: Mapping[str, str], directory: Path, stdout: Path, stderr: Path
    ) -> None:
        self.args = [module, *arguments]
        for file in (stdout, stderr):
            file.touch()
        _start_forking()
        run = (self.args, {**env}, directory, stdout, stderr)
        self._process = _forking.Process(target=_become, args=run, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """What is kept of an ended one."""
        self._process.close()


@cache
def _start_forking() -> None:
    """It looks for what it is to import in a path of its own."""
    with patch.dict(os.environ, PYTHONPATH=TESTS):
        forkserver.ensure_running()


def _become(argv: list[str], env: dict[str, str], directory: Path, stdout: Path, stderr: Path) -> None:
    gc.enable()
    os.setsid()
    appending = os.O_WRONLY | os.O_APPEND
    streams = os.open(os.devnull, os.O_RDONLY), os.open(stdout, appending), os.open(stderr, appending)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    os.chdir(directory)
    parent = multiprocessing.parent_process()
    assert parent is not None
    code: int | str | None = None
    sys.argv = ["child", str(parent.sentinel), str(ORPHAN_GRACE), *argv]
    try:
        child.main()
    except SystemExit as ending:
        code = ending.code
    # An interpreter's end closes what is left of connections and files. A forked process comes to none.
    gc.collect()
    sys.exit(code)


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
