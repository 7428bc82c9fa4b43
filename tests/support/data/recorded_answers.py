"""Answers of PingOne's as they came, in tests/samples/pingone/, and the errors that stand for those that any read may
get."""

from __future__ import annotations

from pathlib import Path

from worker.pingone.errors import (
    Forbidden,
    NotFound,
    OutcomeUnknown,
    PingOneError,
    ProtocolFault,
    RateLimited,
    Unauthorized,
)
from worker.pingone.wire import Envelope, open_envelope

SAMPLES = Path(__file__).parents[2] / "samples" / "pingone"

# Status, headers, body.
Recorded = tuple[int, dict[str, str], bytes]


def recorded(name: str) -> Recorded:
    """A recorded answer: status line and headers, an empty line, the body as it came."""
    head, _, body = (SAMPLES / f"{name}.http").read_bytes().partition(b"\n\n")
    status, *headers = head.decode().splitlines()
    return int(status.split()[1]), dict(line.split(": ", 1) for line in headers), body


def opened(name: str) -> Envelope:
    """A recorded answer as those read it that look for a user, a device or a token."""
    return open_envelope(*recorded(name))


def names_of(kind: str) -> set[str]:
    """The names of all recorded answers of a kind."""
    return {path.stem for path in (SAMPLES / kind).iterdir()}


REFUSED_READS: dict[str, type[PingOneError]] = {
    "activation/insufficient_permissions": Forbidden,
    "activation/license_exceeded": Forbidden,
    "activation/access_failed_as_400": Forbidden,
    "activation/forbidden_without_correlation_id": Forbidden,
    "activation/forbidden_by_proxy": OutcomeUnknown,
    "activation/invalid_access_token": Unauthorized,
    "activation/not_found": NotFound,
    "activation/not_found_without_a_body": NotFound,
    "activation/not_found_by_proxy": OutcomeUnknown,
    "activation/wrong_method": ProtocolFault,
    "activation/rate_limited_for_seconds": RateLimited,
    "activation/rate_limited_by_proxy": RateLimited,
    "activation/rate_limited_as_400": RateLimited,
    "activation/quota_exceeded": RateLimited,
    "activation/unexpected_error": OutcomeUnknown,
    "activation/bad_gateway": OutcomeUnknown,
    "activation/unavailable": OutcomeUnknown,
    "activation/redirect": OutcomeUnknown,
    "activation/no_content": OutcomeUnknown,
    "activation/empty_200": OutcomeUnknown,
    "activation/captive_portal": OutcomeUnknown,
    "activation/half_a_body": OutcomeUnknown,
    "activation/not_utf8": OutcomeUnknown,
    "activation/deep_json": OutcomeUnknown,
    "activation/a_list": OutcomeUnknown,
}
