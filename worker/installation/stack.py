"""The single-machine stack of `run`: a worker, beat, and, if no Redis is configured, a Valkey server. Also runs that
Valkey alone, for commands that call PingOne without a worker."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from worker.batches.long_list import Turns
from worker.config.settings import ONLY_BATCH
from worker.embedded.children import Children
from worker.embedded.home import FREE_SPACE, EmbeddedError, lock_home
from worker.embedded.valkey import EmbeddedValkey
from worker.fleet import FAILS_ALONE, forget_all
from worker.installation.installation import Installation
from worker.process.parts import Parts

# Seconds that an ending worker has, beyond the deadlines of a record's two calls, to settle the records in hand.
GRACE = 10.0
# Maximum restarts in a minute; more than that are no accident.
FAILURES_A_MINUTE = 5
# Seconds until a worker that shut down because only it was failing is restarted.
PAUSE = 20.0
# Seconds between two checks that Valkey is running, and that the database can be written to.
CHECK_EVERY = 2.0
# Bytes that must be free: enough to record the work in progress, and to end properly.
NEEDED_BYTES = 4 * 1024 * 1024

# The processes of the stack.
PARTS = ("worker", "beat")
# Prefixes of variables that beat does not get: it needs the broker, and the database for the names of the queues.
NOT_FOR_BEAT = ("OATHBULK_ENCRYPTION_KEYS", "OATHBULK_AUDIT_", "OATHBULK_WEBHOOK_", "PINGONE_")


class Stack:
    """The processes that work during `run`: on the batch with the id `only_batch`, or on all batches if it is None. If
    this process is killed, they end soon after."""

    def __init__(self, installation: Installation, only_batch: int | None = None) -> None:
        self._installation = installation
        self._settings = installation.settings
        self._variables = dict(installation.variables)
        self._variables.pop(ONLY_BATCH, None)
        if only_batch is not None:
            self._variables[ONLY_BATCH] = str(only_batch)
        self._home = installation.settings.home.absolute()
        self._valkey = EmbeddedValkey(self._home) if self._settings.redis_url is None else None
        self._grace = 2 * self._settings.tuning.call_deadline + GRACE
        self._children = Children(orphan_grace=self._grace)
        self._failures: list[float] = []
        self._pause_ends_at: float | None = None
        self._next_check_at = 0.0

    def start(self) -> None:
        """Start Valkey and the parts. Raises EmbeddedError, and DBAPIError if the database cannot be written to."""
        ensure_room(self._home)
        (self._home / "logs").mkdir(mode=0o700, exist_ok=True)
        self._variables["OATHBULK_HOME"] = str(self._home)
        if self._valkey is not None:
            self._variables["OATHBULK_REDIS_URL"] = self._valkey.start()
        for name in PARTS:
            self._start_part(name)

    def restart_ended(self) -> str | None:
        """Restart a part that ended by itself, and check the servers: an unattended run must survive the loss of a
        part. Returns None, or, if parts end again and again, the name and log of the last one. Raises EmbeddedError,
        and DBAPIError if the database cannot be written to."""
        ensure_room(self._home)
        name = next((each for each in self._children.find_ended() if not self._is_pausing(each)), None)
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

    def _is_pausing(self, name: str) -> bool:
        """Whether a part must not start yet, because it ended as the only worker that was failing."""
        if self._children.exit_code(name) != FAILS_ALONE:
            return False
        now = time.monotonic()
        self._pause_ends_at = self._pause_ends_at or now + PAUSE
        if now < self._pause_ends_at:
            return True
        self._pause_ends_at = None
        return False

    def _check_servers(self) -> None:
        """Check that the embedded database is writable, and restart Valkey if it has ended."""
        if self._settings.is_embedded_database:
            # Only a write shows that a quota is used up, or that the disk is read-only.
            self._installation.database.try_to_write()
        if self._valkey is not None:
            # A running server is adopted; otherwise one is started with the same port and password.
            self._valkey.start()
        self._next_check_at = time.monotonic() + CHECK_EVERY

    def stop(self) -> None:
        """End all processes, after calls in flight are settled or their records handed back."""
        self._children.stop(self._grace)
        if self._settings.is_embedded_database:
            # If the disk is full, the worker counts as alive for half a minute longer.
            with suppress(DBAPIError):
                forget_all(self._installation.database)
        if self._valkey is not None:
            self._valkey.stop()

    def _start_part(self, name: str) -> None:
        """Start a worker or beat, with the variables that it needs, and a log of its own."""
        if name == "worker" and self._settings.is_embedded_database:
            # The previous worker may have been killed while preparing a batch; no other worker runs here.
            forget_all(self._installation.database)
            Turns(self._installation.database).end_all()
        # -P: a `models.py` in a person's working directory must not replace ours.
        argv = [sys.executable, "-P", "-m", "worker.installation.stack_process", name]
        variables = self._variables
        if name == "beat":
            variables = {key: value for key, value in variables.items() if not key.startswith(NOT_FOR_BEAT)}
        self._children.start(name, argv, variables, self._home / "logs" / f"{name}.log")


@contextmanager
def parts_with_redis(installation: Installation) -> Iterator[Parts]:
    """Yield the parts of a command that calls PingOne. The pace is kept in the fleet's Redis, or, if none is set, in
    the embedded Valkey, which runs until the block ends."""
    # Not imported at the top: only commands that call PingOne need structlog.
    from worker.observability.logs import configure_logs

    settings = installation.settings
    # Calls and paces log to stderr; on stdout, their lines would mix with the output of `--json`.
    configure_logs("WARNING", settings.log_format)
    if settings.redis_url is not None:
        yield Parts(settings, installation.environment)
        return
    with lock_home(settings.home):
        valkey = EmbeddedValkey(settings.home)
        try:
            with_redis = settings.model_copy(update={"redis_url": SecretStr(valkey.start())})
            yield Parts(with_redis, installation.environment)
        finally:
            valkey.stop()


def ensure_room(home: Path) -> None:
    """Check that this home's disk has NEEDED_BYTES free. Raises EmbeddedError."""
    disk = os.statvfs(home)
    free = disk.f_bavail * disk.f_frsize
    if free < NEEDED_BYTES:
        raise EmbeddedError(f"the disk of {home} is full, with {free // 1024} KiB left: {FREE_SPACE}")
