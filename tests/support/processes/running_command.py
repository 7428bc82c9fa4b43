"""A command that runs, or has ended: what it prints, how it ends, and what befalls it meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.processes.forking import Forked

Process = Forked | subprocess.Popen[bytes]
# A program, its arguments and variables, the folder that it runs in, and the files for what it prints.
Start = Callable[[str, list[str], Mapping[str, str], Path, Path, Path], Process]
# Seconds; a command's work takes a few, and a machine at its limits many times as long.
TIMEOUT = 120.0


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What it printed on stdout, as a whole."""
        return json.loads(self.stdout)


class Running:
    """A command that was started, as the leader of a process group, which is what a shell makes of it."""

    def __init__(self, process: Process, stdout: Path, stderr: Path) -> None:
        self._process, self._stdout, self._stderr = process, stdout, stderr

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdout(self) -> str:
        """What it has printed there so far."""
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def interrupt(self) -> None:
        """What a terminal does at Ctrl-C: SIGINT to every process of the group."""
        os.killpg(self.pid, signal.SIGINT)

    def hang_up(self) -> None:
        """What a terminal does when it is closed."""
        os.killpg(self.pid, signal.SIGHUP)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        """kill -9 of this process alone."""
        self._process.kill()
        self._process.wait()

    def wait(self, timeout: float = TIMEOUT) -> Result:
        """Wait for the command's end. Raises TimeoutError, after killing it, when that does not come."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"{self._process.args} did not end: {self.stderr[-2000:]}") from None
        return Result(code, self.stdout, self.stderr)


def spawn(
    program: str, arguments: Sequence[str], env: Mapping[str, str], folder: Path, stdout: Path, stderr: Path
) -> subprocess.Popen[bytes]:
    """Start a program that is none of ours, in the way in which Forked starts one of ours."""
    with stdout.open("wb") as out, stderr.open("wb") as error:
        return subprocess.Popen(
            [program, *arguments],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=error,
            start_new_session=True,
        )
