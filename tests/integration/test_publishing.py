from __future__ import annotations

import math

import celery
import pytest
import redis
from redis.client import Pipeline

from worker.publishing import TOGETHER, CeleryBroker


def activate(record_id: int, environment: str) -> None:
    """What the messages ask for; nobody does it here."""


def test_messages_go_out_in_small_pieces_and_none_is_left_behind(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand in one piece would keep this process' other threads from their calls."""
    pieces = []
    execute = Pipeline.execute

    def counted(pipeline: Pipeline, raise_on_error: bool = True) -> list[object]:
        pieces.append(sum(command[0][0] == "LPUSH" for command in pipeline.command_stack))
        return execute(pipeline, raise_on_error)

    monkeypatch.setattr(Pipeline, "execute", counted)
    app = celery.Celery(broker=valkey_url, set_as_current=False)
    broker = CeleryBroker(app, app.task(activate), "celery")
    count = 5 * TOGETHER + 3
    broker.publish(range(count), "default")
    assert broker.depth() == redis.Redis.from_url(valkey_url).llen("celery") == count
    assert max(pieces) == TOGETHER
    assert len([piece for piece in pieces if piece]) == math.ceil(count / TOGETHER)
