"""What a zygote is told to do, and what it tells; and the zygote, as a process of those who tell it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from support.fleets.real_fleet import plain_env
from support.processes.program import TESTS


@dataclass(frozen=True)
class Order:
    """Run the tasks, or a person's command on a batch, in a process of its own, while the database's clock is `ahead`
    (seconds); and kill it at its step number `dies_at`, counted from 0, or only freeze it there. `preparations`: how
    many batches it prepares, one after the other.

    `revokes`: beforehand the simulator of this URL gives it an access token, and revokes it. `thaws`: nothing but this,
    let the process of that pid go on."""

    ahead: float
    records: list[int] = field(default_factory=list)
    ticks: bool = False
    preparations: int = 0
    command: str | None = None
    batch: str = ""
    dies_at: int | None = None
    is_frozen: bool = False
    revokes: str | None = None
    thaws: int | None = None


@dataclass(frozen=True)
class Life:
    """What one process did: its steps, in order, and whether it was killed at the last. No exit code: it is frozen."""

    pid: int
    steps: list[str]
    exit_code: int | None

    @property
    def was_killed(self) -> bool:
        return self.exit_code == -signal.SIGKILL


class Zygote:
    """The process of crash_points.zygote; it ends when it is left."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "zygote.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "crash_points.zygote"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=directory,
                env=plain_env() | {"PYTHONPATH": TESTS},
            )

    @contextmanager
    def installed(self, variables: Mapping[str, str]) -> Iterator[None]:
        """Orders are for the installation with these settings."""
        self._ask(variables)
        yield
        self._ask({})

    def obey(self, order: Order) -> Life:
        """Raises AssertionError where the process failed by itself."""
        life = Life(**self._ask(asdict(order)))
        assert life.exit_code in (0, -signal.SIGKILL, None), self._log.read_text()[-5000:]
        return life

    def _ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self._log.read_text()[-5000:]
        told: dict[str, Any] = json.loads(answer)
        return told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
