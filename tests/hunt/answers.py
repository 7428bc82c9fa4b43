"""Answers as they stand on the wire."""

from __future__ import annotations

import json

from hunt.tenant import Reply


def answer(
    status: int,
    code: str | None = None,
    detail: str | None = None,
    /,
    retry_after: int | None = None,
    target: str = "otp",
    **fields: object,
) -> Reply:
    """An answer of PingOne's own."""
    headers = {"content-type": "application/json", "correlation-id": "correlation-1"}
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    if code is not None:
        fields |= {"id": "error-1", "code": code, "details": [{"code": detail, "target": target}] if detail else []}
    return status, headers, json.dumps(fields).encode()
