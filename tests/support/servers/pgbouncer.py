"""A PgBouncer of the system's, in transaction mode unless another is asked for."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from typing import Any

import psycopg
from sqlalchemy import make_url

from support.servers.server import Server


class PgBouncer(Server):
    """Before one database. `prepared`: the statements that it keeps track of for each connection; 0: none, as all
    versions before 1.21."""

    stop_signal = signal.SIGINT

    def __init__(self, url: str, *, prepared: int, mode: str = "transaction") -> None:
        super().__init__()
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise FileNotFoundError("pgbouncer is not installed: apt-get install pgbouncer")
        self._program = program
        self._server = make_url(url)
        self._prepared = prepared
        self._mode = mode
        # It refuses to run as root.
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if self._account:
            os.chown(self.directory, self._account.pw_uid, self._account.pw_gid)

    @property
    def url(self) -> str:
        return self._server.set(port=self.port).render_as_string(hide_password=False)

    def argv(self) -> list[str]:
        server = self._server
        users = self.directory / "users"
        users.write_text(f'"{server.username}" "{server.password}"\n')
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": users,
            "pool_mode": self._mode,
            "max_prepared_statements": self._prepared,
            # The one used least lately: every transaction gets another.
            "server_round_robin": 1,
            "default_pool_size": 5,
        }
        lines = ["[databases]", f"* = host=127.0.0.1 port={server.port}", "[pgbouncer]"]
        configuration = self.directory / "pgbouncer.ini"
        configuration.write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in settings.items())]))
        for path in (users, configuration):
            path.chmod(0o644)
        return [self._program, str(configuration)]

    def options(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True
