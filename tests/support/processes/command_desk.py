"""oathbulk from outside: its commands as processes, in a folder, with a home and settings of their own.

Who runs in a home is looked up in Linux' /proc.
"""

from __future__ import annotations

import os
import signal
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from support.processes.forking import Forked
from support.processes.running_command import TIMEOUT, Result, Running, Start, spawn
from support.processes.terminal import Terminal
from support.processes.waiting import is_running, wait_until
from worker.installation.installation import Installation

OATHBULK = (str(Path(sysconfig.get_path("scripts")) / "oathbulk"),)

# Delays that a test can wait for, and few threads, so that a test can hold all their calls back.
QUICK = {
    "OATHBULK_CONCURRENCY": "4",
    # A call that a test holds back must not give up, on a slow machine neither.
    "_OATHBULK_TUNING__call_deadline": "100",
    "_OATHBULK_TUNING__lease_left_for_post": "110",
    "_OATHBULK_TUNING__lease": "200",
    "_OATHBULK_TUNING__read_delay": "0.3",
    "_OATHBULK_TUNING__not_found_delay": "0.2",
    "_OATHBULK_TUNING__tick": "0.2",
    "PINGONE_RATE": "400",
}

# No PingOne is there, and none is asked.
NOWHERE = {
    "PINGONE_ENVIRONMENT_ID": "7d1f0c52-3b64-4d0e-9a57-52a1c3d4e5f6",
    "PINGONE_CLIENT_ID": "client",
    "PINGONE_CLIENT_SECRET": "secret",
    "PINGONE_API_URL": "http://127.0.0.1:1/v1",
    "PINGONE_TOKEN_URL": "http://127.0.0.1:1/token",
}


class CommandDesk:
    """A folder in which commands are typed. Leaving it leaves no process behind.

    Without a `command` of its own it forks those of this checkout; on a terminal they are run for real."""

    def __init__(self, folder: Path, *settings: Mapping[str, str], command: Sequence[str] = ()) -> None:
        self.folder = folder
        self.home = folder / ".oathbulk"
        self.settings = {**QUICK, "OATHBULK_HOME": str(self.home), "XDG_STATE_HOME": str(folder / "state")}
        for more in settings:
            self.settings |= more
        self._command = command
        self._output = folder.parent / f"{folder.name}-output"
        self._started: list[Running] = []
        self._terminals: list[Terminal] = []
        self.folder.mkdir(exist_ok=True)
        self._output.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Whoever dies last may have started another meanwhile.
        wait_until(lambda: self.kill(*self.processes()) or not self.processes(), TIMEOUT, "no process is left")
        for running in self._started:
            running.wait()
        for terminal in self._terminals:
            terminal.close()

    @property
    def environment(self) -> dict[str, str]:
        """Of this machine only what a program needs to run: no settings, and no proxies."""
        needed = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")
        machine = {name: value for name, value in os.environ.items() if name in needed}
        return machine | self.settings

    def start(self, *arguments: str | Path, **settings: str) -> Running:
        if self._command:
            return self.start_program(*self._command, *arguments, **settings)
        return self._start(Forked, "worker", arguments, settings)

    def start_program(self, program: str | Path, *arguments: str | Path, **settings: str) -> Running:
        """Another program, as if typed here."""
        return self._start(spawn, str(program), arguments, settings)

    def start_on_terminal(self, *arguments: str | Path, columns: int = 80) -> Terminal:
        argv = [*(self._command or OATHBULK), *map(str, arguments)]
        terminal = Terminal(argv, self.folder, self.environment, columns)
        self._terminals.append(terminal)
        return terminal

    def make_home(self) -> None:
        """What the first `load` or `run` leaves, without any batch."""
        installation = Installation({"OATHBULK_HOME": str(self.home)}, makes_home=True)
        _ = installation.keyring
        installation.database.close()

    def oathbulk(self, *arguments: str | Path, **settings: str) -> Result:
        return self.start(*arguments, **settings).wait()

    def type_command(self, *arguments: str | Path) -> Result:
        """Run a command, as a terminal shows it: both streams together as `stdout`, in the order in which they were
        printed."""
        return self._start(Forked, "worker", arguments, {}, is_together=True).wait()

    def status(self, batch: str = "shipment") -> dict[str, Any]:
        result = self.oathbulk("status", batch, "--json")
        assert result.code == 0, result.stderr
        found = result.json
        assert isinstance(found, dict)
        return found

    def kill(self, *pids: int) -> None:
        """kill -9 of processes that run here."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self, *names: str) -> list[int]:
        """Who runs with this home, or in it; only those whose command line has one of the names, if any are given."""
        return [pid for pid in _pids() if self._is_ours(pid) and (not names or _is_named(pid, names))]

    def _start(
        self,
        start: Start,
        program: str,
        arguments: Sequence[str | Path],
        settings: Mapping[str, str],
        *,
        is_together: bool = False,
    ) -> Running:
        output = self._output / f"{len(self._started):02}"
        stdout = output.with_suffix(".stdout")
        stderr = stdout if is_together else output.with_suffix(".stderr")
        process = start(program, [*map(str, arguments)], self.environment | settings, self.folder, stdout, stderr)
        self._started.append(running := Running(process, stdout, Path(os.devnull) if is_together else stderr))
        return running

    def _is_ours(self, pid: int) -> bool:
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            works_in = Path(f"/proc/{pid}/cwd").readlink()
        except OSError:
            return False
        is_ours = f"OATHBULK_HOME={self.home}".encode() in variables or works_in.is_relative_to(self.folder)
        return is_ours and is_running(pid)


def _pids() -> list[int]:
    numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in numbers if pid != os.getpid()]


def _is_named(pid: int, names: Sequence[str]) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    # Valkey writes what it does behind its name: `valkey-server 127.0.0.1:6379`.
    return any(Path(argument.partition(" ")[0]).name in names for argument in arguments)
