"""Answers before they are sent: successes, errors in the vendor's envelope, and pages of a proxy."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

# Content types of answers.
JSON = b"application/json"
HTML = b"text/html; charset=utf-8"

MESSAGES = {
    "INVALID_DATA": "The request could not be completed. One or more validation errors were in the request.",
    "INVALID_REQUEST": "The request could not be completed. The request was invalid.",
    "REQUEST_FAILED": "The request could not be completed. There was an issue processing the request.",
    "ACCESS_FAILED": "The request could not be completed. You do not have access to this resource.",
    "NOT_FOUND": "The request could not be completed. The requested resource was not found.",
    "REQUEST_LIMITED": "The request could not be completed. There were too many requests.",
    "LICENSE_EXCEEDED": "The request could not be completed. The license does not permit more.",
    "INVALID_OTP": "The OTP is not valid.",
    "UNEXPECTED_ERROR": "An unexpected error occurred.",
}
DETAIL_MESSAGES = {
    "EXTRA_OTP_REQUIRED": "An extra OTP is required",
    "INVALID_OTP": "The OTP is not valid",
    "INVALID_VALUE": "The value is not valid",
    "REQUIRED_VALUE": "A value is required",
    "ACCOUNT_NOT_USABLE": "The user account cannot be used",
    "INVALID_TOKEN": "The access token is missing, unknown or expired",
    "INSUFFICIENT_PERMISSIONS": "The permissions are not sufficient",
    "LIMIT_EXCEEDED": "The limit is exceeded",
    "QUOTA_EXCEEDED": "The quota is exceeded",
    "INVALID_FILTER": "The filter is not supported",
    "INVALID_PARAMETER": "The parameter is not valid",
    "SIZE_LIMIT_EXCEEDED": "The list is too long",
    "UNIQUENESS_VIOLATION": "The value is in use already",
    "DEVICE_LOCKED": "The device is locked",
    "DEVICE_BLOCKED": "The device is blocked",
}

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer to be sent. `code`, `detail_code` and `error_id` (the envelope's id) are for the call log."""

    status: int
    body: bytes = b""
    content_type: bytes = JSON
    headers: Headers = ()
    code: str | None = None
    detail_code: str | None = None
    error_id: str | None = None

    def with_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> Answer:
        return replace(self, headers=(*self.headers, *headers))


def success(body: dict[str, Any], status: int = 200) -> Answer:
    """An answer with this body as JSON."""
    return Answer(status, json.dumps(body, separators=(",", ":")).encode())


def refusal(
    status: int,
    code: str,
    detail_code: str | None = None,
    *,
    target: str | None = None,
    inner: dict[str, Any] | None = None,
) -> Answer:
    """An error in the vendor's envelope: https://developer.pingidentity.com/pingone-api (error codes)"""
    envelope: dict[str, Any] = {"id": str(uuid4()), "code": code, "message": MESSAGES[code]}
    if detail_code is not None:
        detail: dict[str, Any] = {"code": detail_code}
        if target is not None:
            detail["target"] = target
        detail["message"] = DETAIL_MESSAGES[detail_code]
        if inner is not None:
            detail["innerError"] = inner
        envelope["details"] = [detail]
    body = json.dumps(envelope, separators=(",", ":")).encode()
    return Answer(status, body, code=code, detail_code=detail_code, error_id=envelope["id"])


def web_page(status: int, title: str) -> Answer:
    """A web page where the client expects JSON, as a proxy between it and PingOne may answer."""
    text = f"<!doctype html><title>{status}</title><h1>{status} {title}</h1>\n"
    return Answer(status, text.encode(), content_type=HTML)


def timestamp(seconds: float) -> str:
    """A Unix time in the vendor's form: ISO 8601 in UTC, with milliseconds and a Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
