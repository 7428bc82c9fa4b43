"""A terminal to run a command on: what a person sees of it, and types."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.processes.waiting import wait_until

# Seconds.
TIMEOUT = 120.0

# Runs its arguments with the terminal on its standard input as the one that it controls.
TAKE_TERMINAL = """if True:
    import fcntl, os, sys, termios
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A command on a terminal of its own, which it controls: what a person sees of it, and types."""

    def __init__(self, argv: Sequence[str], folder: Path, env: Mapping[str, str], columns: int) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, columns))
        self._printed = ""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", TAKE_TERMINAL, *argv],
            cwd=folder,
            env={**env, "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def read(self) -> str:
        """All that was printed so far."""
        while select.select([self._master], [], [], 0)[0]:
            try:
                self._printed += os.read(self._master, 65536).decode(errors="replace")
            except OSError:
                # The command and all its kin are gone.
                break
        return self._printed

    def picture(self) -> str:
        """What a live display shows now: all since it last erased a line, as words in one line."""
        return " ".join(re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", self.read().rpartition("\x1b[2K")[2]).split())

    def press_ctrl_c(self) -> None:
        self.press(b"\x03")

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """The exit code."""
        wait_until(lambda: (self.read(), self._process.poll())[1] is not None, timeout, f"{self._process.args} ends")
        self.read()
        return int(self._process.returncode)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)
