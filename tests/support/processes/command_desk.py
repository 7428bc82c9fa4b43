"""oathbulk from outside: its commands as processes, in a folder, with a home and settings of their own; what each
prints, how it ends, what befalls it meanwhile, and the terminal that it runs on; a browser before a desk that runs so.

Who runs in a home is looked up in Linux' /proc."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import sysconfig
import termios
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
from support.processes.program import Forked
from support.processes.waiting import is_running, wait_until

from worker.installation.installation import Installation

Process = Forked | subprocess.Popen[bytes]
# A program, its arguments and variables, the folder that it runs in, and the files for what it prints.
Start = Callable[[str, list[str], Mapping[str, str], Path, Path, Path], Process]
# Seconds; a command's work takes a few, and a machine at its limits many times as long.
TIMEOUT = 400.0


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

    def wait(self) -> int:
        """The exit code."""
        wait_until(lambda: (self.read(), self._process.poll())[1] is not None, f"{self._process.args} ends")
        self.read()
        return int(self._process.returncode)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)


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
        wait_until(lambda: self.kill(*self.processes()) or not self.processes(), "no process is left")
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


_LINK = re.compile(r"http://\S+/enter\?key=\S+")


def enter_desk(browser: httpx.Client, read_output: Callable[[], str]) -> str:
    """Go in by the link that the desk prints, and stay at its address: the first page. `browser` follows
    redirections."""
    found = wait_until(lambda: _LINK.search(read_output()), "the desk prints its link")
    answer = browser.get(found[0])
    assert answer.status_code == 200, answer.text
    browser.base_url = found[0].partition("/enter")[0]
    return answer.text


def make_browser() -> httpx.Client:
    """A browser that needs no proxy."""
    return httpx.Client(trust_env=False, timeout=60, follow_redirects=True)
