"""The Valkey server of a single-machine installation: kept in the home, adopted if it outlived its parent."""

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
from worker.embedded.valkey_process import ask_pid, connect, spawn, valkey_binary

# Loading many commands takes seconds; a server that does not answer after a minute is ill.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
POLL = 0.02
TRIES = 5


class EmbeddedValkey:
    """One server a home. It holds a lock on its pid file while it lives: nobody has to guess whether it does.

    The caller holds `lock_home`: a second one would adopt the same server, and stop it.
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
        """The URL, password included, of the server that runs already or of a new one. Raises EmbeddedError.

        A new one takes over its predecessor's data and, if it can, port and password: clients find it again.
        """
        make_home(self._home)
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            return self._adopt_or_launch()
        except OSError as error:
            raise EmbeddedError(
                f"{self._directory} cannot be used ({error.strerror}): mend that, or change OATHBULK_HOME"
            ) from error

    def stop(self) -> None:
        """End the server, if there is one, whoever started it, with its data on disk; returns when it is gone."""
        if self._pid_file.exists() and not self._is_gone(within=0):
            self._ask_to_end()
            if not self._is_gone(within=STOP_TIMEOUT):
                self._signal(signal.SIGKILL)
                self._is_gone(within=STOP_TIMEOUT)
        self._reap()

    def _adopt_or_launch(self) -> str:
        give_up_at = time.monotonic() + START_TIMEOUT
        while (lock := take_lock(self._pid_file)) is None:
            config = ValkeyConfig.read(self._config_file)
            if config and (pid := ask_pid(config, self._directory)):
                # Its parent may have been killed before it could write this.
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
        binary = valkey_binary()
        config = ValkeyConfig.read(self._config_file)
        for _ in range(TRIES):
            # Whoever has taken our port may have been told our password: both are replaced together.
            if config is None or not is_free(config.port):
                config = ValkeyConfig.fresh()
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
        """Start the server and wait until it answers; False if it ended instead."""
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
        """Whether it ended between having its port and being ready: that is when it loads its data."""
        log = self._log.read_text(errors="replace")
        is_loading = "Server initialized" in log and "Ready to accept connections" not in log
        return is_loading and self._data.exists()

    def _set_data_aside(self) -> None:
        """Begin empty after a power cut that tore the data: the database knows all that was queued."""
        aside = self._data.with_name("appendonlydir.unreadable")
        shutil.rmtree(aside, ignore_errors=True)
        self._data.rename(aside)

    def _ask_to_end(self) -> None:
        config = ValkeyConfig.read(self._config_file)
        try:
            if config is None or not ask_pid(config, self._directory):
                return self._signal(signal.SIGTERM)
            with connect(config) as client:
                # SHUTDOWN syncs the file of commands; a dump beside it would never be read.
                client.shutdown()
        except (redis.RedisError, EmbeddedError):
            self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        """Called only while the server holds its lock, so that the pid is not a stranger's."""
        if pid := read_pid(self._pid_file):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _reap(self) -> None:
        """Called only when our server is gone; it stays a zombie until its parent asks."""
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _is_gone(self, *, within: float) -> bool:
        give_up_at = time.monotonic() + within
        while (lock := take_lock(self._pid_file)) is None:
            if time.monotonic() > give_up_at:
                return False
            time.sleep(POLL)
        os.close(lock)
        return True
