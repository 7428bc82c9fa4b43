"""Checks whether the broker is reachable, and whether the user of OATHBULK_REDIS_URL may do what a worker does."""

from collections.abc import Callable
from uuid import uuid4

import redis

from worker.config.settings import Settings

# The queue of activations, as worker/celery.py names it. Imported from there, it would bring all of Celery with it.
ACTIVATE_QUEUE = "oathbulk.activate"

# The permissions that a user needs, for ACL SETUSER. Dangerous commands, such as FLUSHALL, are removed; INFO is one of
# them, and is added again.
RULES = "~* &* +@read +@write +@pubsub +@connection +@transaction +@scripting -@dangerous +info +time"

# Milliseconds after which Redis removes the keys of a check.
_KEPT_MS = 1000

# Calls what the pace's scripts call.
_SCRIPT = f"""
redis.call('TIME')
redis.call('HSET', KEYS[1], 'tried', 1)
redis.call('HINCRBY', KEYS[1], 'tried', 1)
redis.call('PEXPIRE', KEYS[1], {_KEPT_MS})
redis.call('HGET', KEYS[1], 'tried')
redis.call('HMGET', KEYS[1], 'tried')
return redis.call('PTTL', KEYS[1])
"""


class RightsLacking(redis.RedisError):
    """The user of OATHBULK_REDIS_URL lacks permissions that a worker needs; the message names the commands and the
    cure."""


def check_permissions(client: redis.Redis) -> None:
    """Try all commands that a worker uses, on separate keys that last a second. Raises RightsLacking."""
    key = f"oathbulk:doctor:{uuid4().hex}"
    tries: dict[str, Callable[[], object]] = {
        "scripts (EVALSHA, SCRIPT LOAD)": lambda: client.register_script(_SCRIPT)(keys=[key]),
        "LPUSH": lambda: (client.lpush(f"{key}:list", "tried"), client.pexpire(f"{key}:list", _KEPT_MS)),
        "BRPOP": lambda: client.brpop([f"{key}:list"], timeout=1),
        "LLEN": lambda: client.llen(ACTIVATE_QUEUE),
        "SADD": lambda: (client.sadd(f"{key}:set", "tried"), client.pexpire(f"{key}:set", _KEPT_MS)),
        "SREM": lambda: client.srem(f"{key}:set", "tried"),
        "SMEMBERS": lambda: client.smembers(f"_kombu.binding.{ACTIVATE_QUEUE}"),
        "PUBLISH": lambda: client.publish(key, "tried"),
    }
    refused = [name for name, attempt in tries.items() if _is_refused(attempt)]
    if refused:
        raise RightsLacking(
            f"the user of OATHBULK_REDIS_URL may not use {', '.join(refused)}. Grant what workers need: ACL SETUSER "
            f"name {RULES}"
        )


def find_broker_fault(settings: Settings) -> str | None:
    """Say in one line why workers cannot use the broker; None if they can, or if `oathbulk run` brings its own."""
    try:
        describe_broker(settings)
    except redis.RedisError as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None


def describe_broker(settings: Settings) -> str:
    """Check the broker, and name its program and version; or say that `oathbulk run` brings its own. Raises
    ConfigError, redis.RedisError, RightsLacking."""
    if settings.redis_url is None:
        return "`oathbulk run` brings its own Valkey"
    with redis.Redis.from_url(settings.redis, socket_timeout=5, socket_connect_timeout=5) as client:
        check_permissions(client)
        facts = client.info("server")
    return f"{facts.get('server_name', 'redis')} {facts.get('valkey_version') or facts['redis_version']}"


def _is_refused(attempt: Callable[[], object]) -> bool:
    """Whether Redis forbids this. Raises redis.RedisError if it fails for another reason."""
    try:
        attempt()
    except redis.exceptions.NoPermissionError:
        return True
    except redis.ResponseError as error:
        # The user may run a script, but not the commands that the script calls.
        if not str(error).startswith("ACL failure in script"):
            raise
        return True
    return False
