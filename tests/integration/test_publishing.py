from __future__ import annotations

import base64
import json
from typing import Any

import celery
import pytest
import redis

from worker.dispatch import MESSAGES_TOGETHER, USUAL, CeleryBroker

# The list in Redis of a queue's usual messages.
USUAL_LIST = f"celery\x06\x16{USUAL}"


def activate(record_id: int, environment: str) -> None:
    """What the messages ask for; nobody does it here."""


def test_messages_go_out_in_small_pieces_and_none_is_left_behind(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand in one piece would keep this process' other threads from their calls."""
    pieces = list[int]()
    execute = redis.client.Pipeline.execute

    def counted(pipeline: redis.client.Pipeline, *args: Any, **options: Any) -> object:
        pieces.append(len(pipeline))
        return execute(pipeline, *args, **options)

    monkeypatch.setattr(redis.client.Pipeline, "execute", counted)
    app = celery.Celery(broker=valkey_url, set_as_current=False)
    broker = CeleryBroker(app, app.task(activate).name, "celery")
    assert broker.count_waiting() == 0
    count = 5 * MESSAGES_TOGETHER + 3
    broker.publish(range(count), "default", labels={})
    assert broker.count_waiting() == redis.Redis.from_url(valkey_url).llen(USUAL_LIST) == count
    assert max(pieces) == MESSAGES_TOGETHER
    assert pieces.count(MESSAGES_TOGETHER) == 5


def test_a_message_carries_an_id_and_says_so_to_flower(valkey_url: str) -> None:
    app = celery.Celery(broker=valkey_url, set_as_current=False)
    task = app.task(activate)
    CeleryBroker(app, task.name, "celery").publish([7, 8], "staging", labels={7: "july, row 2, ACME7"})

    messages = [json.loads(message) for message in redis.Redis.from_url(valkey_url).lrange(USUAL_LIST, 0, -1)]

    bodies = [json.loads(base64.b64decode(message["body"])) for message in messages]
    assert [(args, kwargs) for args, kwargs, _ in bodies] == [([8, "staging"], {}), ([7, "staging"], {})]
    headers = [message["headers"] for message in messages]
    assert {each["task"] for each in headers} == {task.name}
    assert [each["argsrepr"] for each in headers] == ["record 8", "july, row 2, ACME7"]
    assert headers[0]["id"] != headers[1]["id"]


def test_what_goes_ahead_is_taken_before_what_waits_already(valkey_url: str) -> None:
    app = celery.Celery(broker=valkey_url, set_as_current=False)
    broker = CeleryBroker(app, app.task(activate).name, "celery")
    broker.publish([1, 2], "large", labels={})
    broker.publish([7], "small", labels={}, is_ahead=True)
    assert broker.count_waiting() == 3

    with app.connection_for_read() as connection, connection.SimpleQueue("celery") as queue:
        taken = [queue.get(timeout=5).payload[0][0] for _ in range(3)]

    assert taken == [7, 1, 2]
