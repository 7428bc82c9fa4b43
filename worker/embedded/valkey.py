"""The Valkey server of a single-machine installation: started, stopped, and adopted if it outlived its parent.

To adopt a server is to use one that an earlier process has started, and that is still running.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import redis

from worker.embedded.errors import EmbeddedError
from worker.embedded.home import make_home
from worker.embedded.locks import read_pid, take_lock, write_pid
from worker.embedded.ports import is_free
from worker.embedded.valkey_config import ValkeyConfig
from worker.embedded.valkey_process import ask_pid, connect, find_valkey_binary, spawn

# Seconds until a server has to answer: to load many commands takes seconds, and one that does not answer after a minute
# never will.
START_TIMEOUT = 60.0
# Seconds that a server has for syncing its data and ending, before it is killed, and then for being gone.
STOP_TIMEOUT = 20.0
# Seconds between two looks at whether a server answers, or is gone.
POLL = 0.02
# Starts until giving up: the port may be taken at any moment, or the data unreadable.
TRIES = 5


class EmbeddedValkey:
    """The Valkey server of a home. It holds a lock on its pid file while it runs, which tells reliably whether it does.

    The caller must hold `lock_home`: a second process would adopt the same server, and stop it.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._directory = home.absolute() / "valkey"
        self._pid_file = self._directory / "valkey.pid"
        self._config_file = self._directory / "valkey.conf"
        self._log = self._directory / "valkey.log"
        self._data = self._directory / "appendonlydir"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Adopt the server that runs already or start one, and return its URL, password included. Raises EmbeddedError.

        A new server takes over its predecessor's data and, if the port is free, its port and password, so that clients
        find it again.
        """
        make_home(self._home)
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            return self._adopt_or_launch()
        except OSError as error:
            raise EmbeddedError(
                f"{self._directory} cannot be used ({error.strerror}): mend that, or change OATHBULK_HOME"
            ) from error

    def find_url(self) -> str | None:
        """Find the URL of the server if one runs, for a command beside the process that started it; otherwise None.
        Raises EmbeddedError if the server cannot write to its disk."""
        if not self._pid_file.exists():
            return None
        if (lock := take_lock(self._pid_file)) is not None:
            os.close(lock)
            return None
        config = ValkeyConfig.read(self._config_file)
        return config.url if config and ask_pid(config, self._directory) else None

    def stop(self) -> None:
        """End the server, if there is one, whoever started it, and return when it is gone. Its data are synced to the
        disk."""
        if self._pid_file.exists() and not self._wait_until_gone(within=0):
            self._ask_to_end()
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
                pid = read_pid(self._pid_file)
                raise EmbeddedError(f"the Valkey server in {self._directory} does not answer: run `kill {pid}`")
            time.sleep(POLL)
        try:
            return self._launch(lock)
        finally:
            os.close(lock)

    def _launch(self, lock: int) -> str:
        """Start a server, with another port or without its data if the first tries fail. Raises EmbeddedError."""
        binary = find_valkey_binary()
        config = ValkeyConfig.read(self._config_file)
        for _ in range(TRIES):
            # A process that has taken our port may have been sent our password by a client: so both are replaced.
            if config is None or not is_free(config.port):
                config = ValkeyConfig.generate()
            config.write(self._config_file, self._directory)
            if self._run(binary, config, lock):
                return config.url
            if self._is_data_unreadable():
                self._set_data_aside()
            else:
                config = None
        raise EmbeddedError(
            f"the embedded Valkey does not start; the end of {self._log} says why: "
            "mend that, or set OATHBULK_REDIS_URL to a server of yours"
        )

    def _run(self, binary: Path, config: ValkeyConfig, lock: int) -> bool:
        """Start the server once and wait until it answers; False if it ended instead."""
        self._reap()
        os.truncate(self._pid_file, 0)
        process = self._process = spawn(binary, self._config_file, self._log, lock)
        write_pid(self._pid_file, process.pid)
        give_up_at = time.monotonic() + START_TIMEOUT
        while process.poll() is None:
            if ask_pid(config, self._directory) == process.pid:
                return True
            if time.monotonic() > give_up_at:
                process.kill()
            time.sleep(POLL)
        return False

    def _is_data_unreadable(self) -> bool:
        """Whether the server ended while it loaded its data: after it had its port, and before it was ready."""
        log = self._log.read_text(errors="replace")
        is_loading = "Server initialized" in log and "Ready to accept connections" not in log
        return is_loading and self._data.exists()

    def _set_data_aside(self) -> None:
        """Move data away that a power cut damaged, so that the server begins empty: the database knows all that was
        queued."""
        aside = self._data.with_name("appendonlydir.unreadable")
        shutil.rmtree(aside, ignore_errors=True)
        self._data.rename(aside)

    def _ask_to_end(self) -> None:
        """Ask the server to end: by a command if it answers, else by SIGTERM."""
        config = ValkeyConfig.read(self._config_file)
        try:
            if config is None or not ask_pid(config, self._directory):
                return self._signal(signal.SIGTERM)
            with connect(config) as client:
                # Without arguments, SHUTDOWN syncs the append-only file. A dump beside it would never be read.
                client.shutdown()
        except (redis.RedisError, EmbeddedError):
            self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        """Send a signal to the server. Called only while it holds its lock, so that the pid cannot be another
        process's."""
        if pid := read_pid(self._pid_file):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _reap(self) -> None:
        """Collect the exit status of a server that this process started and that has ended: until then it stays a
        zombie."""
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _wait_until_gone(self, *, within: float) -> bool:
        """Wait up to so many seconds until no server holds the lock; whether that is so."""
        give_up_at = time.monotonic() + within
        while (lock := take_lock(self._pid_file)) is None:
            if time.monotonic() > give_up_at:
                return False
            time.sleep(POLL)
        os.close(lock)
        return True
