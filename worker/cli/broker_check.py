"""`oathbulk doctor`: whether the user of OATHBULK_REDIS_URL may do what a worker does."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import redis

# As in worker/celery.py, which cannot be asked without all of Celery.
ACTIVATE_QUEUE = "oathbulk.activate"

# What a user needs. FLUSHALL and its like are among the dangerous commands, and so is INFO.
RULES = "~* &* +@read +@write +@pubsub +@connection +@transaction +@scripting -@dangerous +info +time"

# In milliseconds.
_KEPT = 1000

# What the pace's scripts call.
_SCRIPT = f"""
redis.call('TIME')
redis.call('HSET', KEYS[1], 'tried', 1)
redis.call('HINCRBY', KEYS[1], 'tried', 1)
redis.call('PEXPIRE', KEYS[1], {_KEPT})
redis.call('HGET', KEYS[1], 'tried')
redis.call('HMGET', KEYS[1], 'tried')
return redis.call('PTTL', KEYS[1])
"""


class NotPermitted(redis.RedisError):
    """The message names the commands and the cure."""


def check_permissions(client: redis.Redis) -> None:
    """Try what a worker does on keys that nobody else uses and that last a second. Raises NotPermitted."""
    key = f"oathbulk:doctor:{uuid4().hex}"
    tries: dict[str, Callable[[], object]] = {
        "scripts (EVALSHA, SCRIPT LOAD)": lambda: client.register_script(_SCRIPT)(keys=[key]),
        "LPUSH": lambda: (client.lpush(f"{key}:list", "tried"), client.pexpire(f"{key}:list", _KEPT)),
        "BRPOP": lambda: client.brpop([f"{key}:list"], timeout=1),
        "LLEN": lambda: client.llen(ACTIVATE_QUEUE),
        "SADD": lambda: (client.sadd(f"{key}:set", "tried"), client.pexpire(f"{key}:set", _KEPT)),
        "SREM": lambda: client.srem(f"{key}:set", "tried"),
        "SMEMBERS": lambda: client.smembers(f"_kombu.binding.{ACTIVATE_QUEUE}"),
        "PUBLISH": lambda: client.publish(key, "tried"),
    }
    refused = [name for name, attempt in tries.items() if _is_refused(attempt)]
    if refused:
        raise NotPermitted(
            f"the user of OATHBULK_REDIS_URL may not use {', '.join(refused)}. Give it what workers need:"
            f" ACL SETUSER name {RULES}"
        )


def _is_refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except redis.exceptions.NoPermissionError:
        return True
    except redis.ResponseError as error:
        # The script may run, and not what it calls.
        if not str(error).startswith("ACL failure in script"):
            raise
        return True
    return False
