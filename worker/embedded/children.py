"""Child processes that end with their parent, even when it is killed with kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from worker.embedded.errors import EmbeddedError
from worker.embedded.private_files import open_log


@dataclass(frozen=True)
class Child:
    process: subprocess.Popen[bytes]
    # The writing end of the pipe that the child watches; nothing is ever written.
    lifeline: int


class Children:
    """The named child processes of this process, each a Python module.

    `orphan_grace`: seconds that a child has to end in good order once its parent is gone; long enough for a
    call in flight to be answered and written down.
    """

    def __init__(self, *, orphan_grace: float = 30.0) -> None:
        self._orphan_grace = orphan_grace
        self._children: dict[str, Child] = {}

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str], log_path: Path) -> None:
        """Start `argv`, of the form `[sys.executable, "-m", MODULE, ARGUMENT, …]`. Raises EmbeddedError.

        One of this name that ended before is replaced. `env` is all that it gets of variables. It has a session of
        its own, so that the terminal's Ctrl-C reaches the parent alone, and its output is appended to the log, which
        only its owner may read.
        """
        if former := self._children.pop(name, None):
            self._end(former)
        split = argv.index("-m")
        reader, lifeline = os.pipe()
        try:
            with open_log(log_path) as log:
                process = subprocess.Popen(
                    [
                        *argv[:split],
                        *("-m", "worker.embedded.child", str(reader), str(self._orphan_grace)),
                        *argv[split + 1 :],
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=env,
                    umask=0o077,
                    pass_fds=(reader,),
                    start_new_session=True,
                )
        except OSError as error:
            os.close(lifeline)
            raise EmbeddedError(
                f"{name} cannot be started ({error.strerror}): see to {argv[0]} and {log_path}"
            ) from error
        finally:
            os.close(reader)
        self._children[name] = Child(process, lifeline)

    def failed(self) -> str | None:
        """The name of a child that ended by itself."""
        return next((name for name, child in self._children.items() if child.process.poll() is not None), None)

    def stop(self, grace: float) -> None:
        """Ask every child to end, kill those that have not after `grace` seconds in all, and wait for all."""
        for child in self._children.values():
            child.process.terminate()
        give_up_at = time.monotonic() + grace
        for child in self._children.values():
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, give_up_at - time.monotonic()))
        for child in self._children.values():
            self._end(child)
        self._children.clear()

    @staticmethod
    def _end(child: Child) -> None:
        if child.process.poll() is None:
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        os.close(child.lifeline)
