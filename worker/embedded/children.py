"""Starts and stops child processes that end with their parent, even if it is killed with kill -9."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from worker.embedded.home import EmbeddedError, spawn


@dataclass(frozen=True)
class Child:
    """A running child process."""

    process: subprocess.Popen[bytes]
    # The writing end of the pipe that tells the child when its parent ends. Nothing is ever written to it.
    lifeline: int


class Children:
    """The child processes of this process, by name; each runs a Python module. `orphan_grace`: seconds that a child has
    to end by itself after its parent has ended; enough to answer and record a call in flight."""

    def __init__(self, *, orphan_grace: float = 30.0) -> None:
        self._orphan_grace = orphan_grace
        self._children: dict[str, Child] = {}

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str], log_path: Path) -> None:
        """Start `argv`, of the form `[sys.executable, "-m", MODULE, ARGUMENT, …]`, replacing an ended child of this
        name. Raises EmbeddedError."""
        if former := self._children.pop(name, None):
            self._end(former)
        split = argv.index("-m")
        reader, lifeline = os.pipe()
        watching = ["-m", "worker.embedded.child", str(reader), str(self._orphan_grace)]
        try:
            process = spawn([*argv[:split], *watching, *argv[split + 1 :]], env, log_path, reader)
        except OSError as error:
            os.close(lifeline)
            raise EmbeddedError(
                f"{name} cannot be started ({error.strerror}): check {argv[0]} and {log_path}"
            ) from error
        finally:
            os.close(reader)
        self._children[name] = Child(process, lifeline)

    def find_ended(self) -> list[str]:
        """Find the names of children that have ended by themselves."""
        return [name for name, child in self._children.items() if child.process.poll() is not None]

    def exit_code(self, name: str) -> int | None:
        """The exit code of a child; None while it runs."""
        return self._children[name].process.poll()

    def stop(self, grace: float) -> None:
        """Ask every child to end, kill those still running after `grace` seconds in all, and wait for all."""
        for child in self._children.values():
            child.process.terminate()
        give_up_at = time.monotonic() + grace
        for child in self._children.values():
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, give_up_at - time.monotonic()))
            self._end(child)
        self._children.clear()

    @staticmethod
    def _end(child: Child) -> None:
        """Kill the child and its process group if it still runs, and free its resources."""
        if child.process.poll() is None:
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        os.close(child.lifeline)
