"""Types commands in this process, at one moment, in a home of fixed names, so that they print the same on every machine
and day."""

import io
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import redis
from rich.console import ConsoleDimensions
from support.data.batches import ENVIRONMENT_ID
from support.data.moving_clock import MovingDatabase

from worker.cli import main, progress_line
from worker.cli.command_list import COMMANDS
from worker.cli.console import console, error_console
from worker.database.engine import Database
from worker.observability import logs
from worker.pingone.transport import Transport

# A Monday.
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
HEIGHT = 50
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SETTINGS = {
    "OATHBULK_ACTOR": "alice",
    "OATHBULK_ENCRYPTION_KEYS": KEY,
    "PINGONE_ENVIRONMENT_ID": ENVIRONMENT_ID,
    "PINGONE_CLIENT_ID": "client",
    "PINGONE_CLIENT_SECRET": "made-up-secret",
    # Nobody answers there.
    "PINGONE_API_URL": "http://127.0.0.1:1/v1",
    "PINGONE_TOKEN_URL": "http://127.0.0.1:1/token",
    "TERM": "xterm",
    "PATH": os.environ["PATH"],
}


class _Times(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


class FixedTime(datetime, metaclass=_Times):
    """`datetime`, at whose clock it is always `moment`."""

    moment = NOW

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return cls.moment.astimezone(tz)


def _tell_time(database: Database, shift: Any = 0.0) -> Any:
    return database.later(f"{FixedTime.moment:%Y-%m-%d %H:%M:%S}", shift)


class _Screen(io.TextIOWrapper):
    """What a command writes to: a terminal, or a pipe."""

    def __init__(self, *, is_terminal: bool) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding="utf-8", newline="", write_through=True)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def getvalue(self) -> str:
        return self.bytes.getvalue().decode()


@dataclass(frozen=True)
class Printed:
    """What a command printed, and its exit code."""

    code: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        said = f"\n--- stderr\n{self.stderr}" if self.stderr else ""
        return f"{self.stdout}{said}\n--- exit {self.code}\n"


class FrozenDesk:
    """A folder with a home and files in it, as they were `prepared` elsewhere. Its path has the same length everywhere,
    since lines are broken at widths."""

    def __init__(self, folder: Path, prepared: Path) -> None:
        self.folder = folder
        self._prepared = prepared
        self.home = folder / "home"
        self.variables = SETTINGS | {"OATHBULK_HOME": str(self.home), "HOME": str(folder)}
        self.opened: list[Any] = []
        self.before_each: Callable[[], None] = lambda: None

    def reset(self) -> None:
        """Begin again with what was prepared, here and in PingOne."""
        self.before_each()
        shutil.rmtree(self.folder)
        shutil.copytree(self._prepared, self.folder)

    def type(self, *words: str, width: int | None = None) -> Printed:
        """Type a command, on a terminal of this many columns; without, into a pipe."""
        stdout, stderr = _Screen(is_terminal=bool(width)), _Screen(is_terminal=bool(width))
        with pytest.MonkeyPatch.context() as patch:
            for name in list(os.environ):
                patch.delenv(name)
            for name, value in (self.variables | {"COLUMNS": str(width or 80), "LINES": str(HEIGHT)}).items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", ["oathbulk", *words])
            for name, stream in (("stdout", stdout), ("stderr", stderr), ("stdin", _Screen(is_terminal=False))):
                patch.setattr(sys, name, stream)
            for each in (console, error_console):
                # A copy of what it knows: it may have size and colors of a terminal in which the tests are run.
                patch.setattr(each, "__dict__", dict(vars(each)))
                each.size, each.soft_wrap = ConsoleDimensions(width or 80, HEIGHT), not width
                each.no_color = True
            with pytest.raises(SystemExit) as ended:
                main()
        self.close_opened()
        return Printed(int(ended.value.code or 0), stdout.getvalue(), stderr.getvalue())

    def type_afresh(self, *words: str, width: int | None = None) -> Printed:
        """Type a command where nothing was typed before."""
        self.reset()
        return self.type(*words, width=width)

    def close_opened(self) -> None:
        """Close what commands have opened, as the end of their process does."""
        while self.opened:
            self.opened.pop().close()


def _noting(make: Callable[..., None], opened: list[Any]) -> Callable[..., None]:
    """What makes an object, and notes it as opened."""

    def make_and_note(made: object, *arguments: Any, **named: Any) -> None:
        make(made, *arguments, **named)
        opened.append(made)

    return make_and_note


@contextmanager
def freezing(folder: Path, prepared: Path) -> Iterator[FrozenDesk]:
    """Stop the clocks of the database and of this process at NOW, until the block ends."""
    for place in COMMANDS.values():
        import_module(f"worker.cli.{place.module}")
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("worker.") and vars(module).get("datetime") is datetime:
                patch.setattr(module, "datetime", FixedTime)
        desk = FrozenDesk(folder, prepared)
        for each in (Database, Transport, redis.Redis):
            patch.setattr(each, "__init__", _noting(each.__init__, desk.opened))
        # On a slow machine a log would get another line of how far a command is.
        patch.setattr(progress_line, "LINE_EVERY", math.inf)
        # Logs are set for the rest of a process.
        patch.setattr(logs, "configure_logs", lambda *_: None)
        for each in (Database, MovingDatabase):
            patch.setattr(each, "now", _tell_time)
        yield desk
        desk.close_opened()


@contextmanager
def at(moment: datetime) -> Iterator[None]:
    """Set the stopped clocks to another moment, until the block ends."""
    before, FixedTime.moment = FixedTime.moment, moment
    try:
        yield
    finally:
        FixedTime.moment = before
