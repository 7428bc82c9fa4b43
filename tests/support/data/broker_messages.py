"""What waits in the broker, and how every message comes twice or more."""

from __future__ import annotations

from contextlib import closing

import redis

ACTIVATE_QUEUE = "oathbulk.activate"


def count_waiting(url: str) -> int:
    """Records whose message no worker has fetched yet."""
    with closing(redis.Redis.from_url(url)) as client:
        return int(client.llen(ACTIVATE_QUEUE))


def copy_every_message(url: str, times: int = 1) -> int:
    """Put so many copies of each waiting message onto the queue's far end; how many were waiting."""
    with closing(redis.Redis.from_url(url)) as client:
        messages = client.lrange(ACTIVATE_QUEUE, 0, -1)
        if messages:
            client.lpush(ACTIVATE_QUEUE, *messages * times)
        return len(messages)
