"""The single-machine stack of `run`: Valkey where none is configured, a worker, and beat."""

from __future__ import annotations

import sys
import time

from worker.embedded.children import Children
from worker.embedded.disk import ensure_room
from worker.embedded.valkey import EmbeddedValkey
from worker.installation.installation import Installation

# Seconds, beyond the deadlines of both calls of a record, for what is in hand to be settled.
GRACE = 10.0
# A part that fails more often does not fail by accident.
FAILURES_A_MINUTE = 5
# Seconds between looks whether Valkey lives, and the database takes what is written.
CHECK_EVERY = 2.0

PARTS = ("worker", "beat")
# Beat knows the broker alone.
NOT_FOR_BEAT = ("OATHBULK_DATABASE_URL", "OATHBULK_ENCRYPTION_KEYS", "OATHBULK_AUDIT_", "PINGONE_")


class Stack:
    """What works on batches while `run` lasts. Nothing of it outlives this process for long."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._settings = installation.settings
        self._variables = dict(installation.variables)
        self._home = installation.settings.home.absolute()
        self._valkey = EmbeddedValkey(self._home) if self._settings.redis_url is None else None
        self._grace = 2 * self._settings.call_deadline + GRACE
        self._children = Children(orphan_grace=self._grace)
        self._failures: list[float] = []
        self._next_check_at = 0.0

    def start(self) -> None:
        """Raises EmbeddedError."""
        ensure_room(self._home)
        (self._home / "logs").mkdir(mode=0o700, exist_ok=True)
        self._variables["OATHBULK_HOME"] = str(self._home)
        if self._valkey is not None:
            self._variables["OATHBULK_REDIS_URL"] = self._valkey.start()
        for name in PARTS:
            self._start_part(name)

    def restart_ended(self) -> str | None:
        """Start again what ended by itself: an unattended run must outlive a killed part. The name and log of a part
        that keeps failing. Raises EmbeddedError, and DBAPIError where the database cannot be written to."""
        ensure_room(self._home)
        name = self._children.find_ended()
        if name is None and time.monotonic() < self._next_check_at:
            return None
        self._check_servers()
        if name is None:
            return None
        self._failures = [at for at in self._failures if at > time.monotonic() - 60.0] + [time.monotonic()]
        if len(self._failures) > FAILURES_A_MINUTE:
            return f"{name} (see {self._home / 'logs' / name}.log)"
        self._start_part(name)
        return None

    def _check_servers(self) -> None:
        if self._settings.is_embedded_database:
            # A quota, or a disk that has become read-only, shows only when something is written.
            self._installation.database.try_to_write()
        if self._valkey is not None:
            # It adopts a server that lives, and starts one with the same port and password where none does.
            self._valkey.start()
        self._next_check_at = time.monotonic() + CHECK_EVERY

    def stop(self) -> None:
        """Calls in hand are settled or handed back first."""
        self._children.stop(self._grace)
        if self._valkey is not None:
            self._valkey.stop()

    def _start_part(self, name: str) -> None:
        # -P: a `models.py` in the folder where a person works must not take the place of ours.
        argv = [sys.executable, "-P", "-m", "worker.installation.stack_process", name]
        variables = self._variables
        if name == "beat":
            variables = {key: value for key, value in variables.items() if not key.startswith(NOT_FOR_BEAT)}
        self._children.start(name, argv, variables, self._home / "logs" / f"{name}.log")
