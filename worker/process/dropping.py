"""Keeps a worker alive whatever a message holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty

import redis
import structlog

log = structlog.get_logger()

# Failures that say nothing of a message. Empty: there was none.
CONNECTION_FAILURES = (Empty, OSError, redis.RedisError)


@contextmanager
def dropping(place: str) -> Iterator[None]:
    """Drop a message that cannot be read or taken up, whatever is wrong with it; Celery would end the worker. If it was
    about a record, that is noticed when the record's queue lease runs out. The message's content is not logged."""
    try:
        yield
    except CONNECTION_FAILURES:
        raise
    except Exception as error:
        log.error("message_dropped", place=place, error=type(error).__name__)
