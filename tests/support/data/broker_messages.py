"""What waits in the broker, and how every message comes twice or more."""

from __future__ import annotations

from contextlib import closing

import redis

from worker.dispatch import USUAL

ACTIVATE_QUEUE = "oathbulk.activate"
# The lists in Redis of which the queue consists: messages that go ahead of all others, and the usual ones.
NAMES = (ACTIVATE_QUEUE, f"{ACTIVATE_QUEUE}\x06\x16{USUAL}")


def count_waiting(url: str) -> int:
    """Records whose message no worker has fetched yet."""
    with closing(redis.Redis.from_url(url)) as client:
        return sum(int(client.llen(name)) for name in NAMES)


def copy_every_message(url: str, times: int = 1) -> int:
    """Put so many copies of each waiting message onto the queue's far end; how many were waiting."""
    with closing(redis.Redis.from_url(url)) as client:
        waiting = {name: client.lrange(name, 0, -1) for name in NAMES}
        for name, messages in waiting.items():
            if messages:
                client.lpush(name, *messages * times)
        return sum(map(len, waiting.values()))
