"""Reads the body of a request as a JSON object."""

from __future__ import annotations

import json
from typing import Any

from worker.simulator.answers import Answer, refusal


class BadBody(Exception):
    """The body of a request is malformed; `answer` is the refusal."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.code)
        self.answer = answer


def read_object(body: bytes) -> dict[str, Any]:
    """Read a body as a JSON object. Raises BadBody."""
    fields = read_any_object(body)
    if fields is None:
        raise BadBody(refusal(400, "INVALID_REQUEST"))
    return fields


def read_any_object(body: bytes) -> dict[str, Any] | None:
    """Read a body as a JSON object; None if it is none."""
    try:
        fields = json.loads(body) if body else None
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def missing(target: str) -> BadBody:
    """The refusal of a body that lacks a field."""
    return BadBody(refusal(400, "INVALID_DATA", "REQUIRED_VALUE", target=target))


def invalid(target: str) -> BadBody:
    """The refusal of a body with a wrong value in a field."""
    return BadBody(refusal(400, "INVALID_DATA", "INVALID_VALUE", target=target))
