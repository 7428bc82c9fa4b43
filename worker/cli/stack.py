"""The single-machine stack of `run`: Valkey where none is configured, a worker, and beat."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from worker.cli.installation import Installation
from worker.embedded.children import Children
from worker.embedded.valkey import EmbeddedValkey

# Seconds for calls in flight to be answered and settled: a call's deadline, and the writing.
GRACE = 30.0


class Stack:
    """What works on batches while `run` lasts. Nothing of it outlives this process for long."""

    def __init__(self, installation: Installation) -> None:
        self._settings = installation.settings
        self._variables = dict(installation.variables)
        self._home = installation.settings.home.absolute()
        self._valkey = EmbeddedValkey(self._home) if self._settings.redis_url is None else None
        self._children = Children(orphan_grace=GRACE)

    def start(self) -> None:
        """Raises EmbeddedError."""
        env = self._environment()
        logs = self._home / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        self._start("worker", ["worker", "--without-gossip", "--without-mingle"], env, logs)
        self._start("beat", ["beat"], env, logs)

    def failed(self) -> str | None:
        """The name and log of a part that ended by itself."""
        name = self._children.failed()
        return f"{name} (see {self._home / 'logs' / name}.log)" if name else None

    def stop(self) -> None:
        """Calls in hand are settled or handed back first."""
        self._children.stop(GRACE)
        if self._valkey is not None:
            self._valkey.stop()

    def _environment(self) -> dict[str, str]:
        """The children's variables: those of this process, and where the parts of the stack are."""
        env = self._variables | {"OATHBULK_HOME": str(self._home)}
        if self._valkey is not None:
            env["OATHBULK_REDIS_URL"] = self._valkey.start()
        return env

    def _start(self, name: str, arguments: list[str], env: Mapping[str, str], logs: Path) -> None:
        argv = [sys.executable, "-m", "celery", "-A", "worker", "--quiet", *arguments, "-l", "WARNING"]
        self._children.start(name, argv, env, logs / f"{name}.log")


@contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
