"""Paces on a real Valkey."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from worker.pace.slots import Pace


@pytest.fixture
def client(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url) as client:
        yield client


@pytest.fixture
def make_pace(client: redis.Redis) -> Callable[..., Pace]:
    """Makes the paces of processes of one fleet, none of which sleeps for real: two objects have no more in common than
    two processes."""

    def make(rate: float = 1000.0, license: str = "made-up-license", **options: Any) -> Pace:
        return Pace(client, license, rate, **{"sleep": lambda _: None} | options)

    return make
