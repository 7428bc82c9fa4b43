"""Makes many messages for one Celery task that differ in nothing but a record's id, from one that Celery has made.

Celery and kombu take longest for what is the same in all of them: options and routes, two encodings to JSON, base64.
Message protocol: https://docs.celeryq.dev/en/stable/internals/protocol.html"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any

from celery import Celery
from kombu.connection import Connection
from kombu.messaging import Producer
from kombu.utils.uuid import uuid

# Stands for the record's id in the message that Celery makes. No id comes so far.
_RECORD = 2**62 - 57
# Stand for the message's body, and for what Flower shows of its arguments.
_BODY, _LABEL = "the body", "the label"


class MessageTemplate:
    """A message for the task of this name with a record's id and its environment's name as arguments, as kombu's Redis
    transport keeps it."""

    def __init__(self, app: Celery, task: str, queue: str, priority: int, environment: str) -> None:
        self._task_id = uuid()
        message = _make_message(app, task, queue, priority, environment, self._task_id)
        self._body = b64decode(message["body"]).decode()
        # Celery's id of the task will do to tell deliveries apart too.
        message["properties"]["delivery_tag"] = self._task_id
        self._text = json.dumps(message | {"body": _BODY})

    def fill(self, record_id: int, label: str) -> str:
        """Make the message for this record, with an id of its own. Flower shows the label as its arguments."""
        body = b64encode(self._body.replace(str(_RECORD), str(record_id)).encode()).decode()
        text = self._text.replace(self._task_id, uuid()).replace(_BODY, body)
        return text.replace(_LABEL, json.dumps(label)[1:-1])


def _make_message(app: Celery, task: str, queue: str, priority: int, environment: str, task_id: str) -> dict[str, Any]:
    """Let Celery make a message and send it to kombu's transport in memory, and take it from there."""
    shown = {"argsrepr": _LABEL, "kwargsrepr": "{}"}
    made = app.amqp.create_task_message(task_id, task, (_RECORD, environment), ignore_result=True, **shown)
    with Connection("memory://") as memory:
        channel: Any = memory.default_channel
        app.amqp.send_task_message(Producer(channel), task, made, queue=queue, declare=(), priority=priority)
        message: dict[str, Any] = channel._get(queue)
    return message
