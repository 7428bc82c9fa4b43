"""The wire format: builds requests, and makes a result or an error of an answer's status, headers and body. Pure.

Raises nothing but ValueError while a request is built, and PingOneError while an answer is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from worker.config.environment import Environment
from worker.pingone.addresses import build_url
from worker.pingone.answer_errors import choose_error
from worker.pingone.envelope import Envelope, open_envelope, read_date, read_word
from worker.pingone.errors import Answer, OtherDevice
from worker.pingone.json_fields import read_age
from worker.vault.otp import Otp

ACTIVE = "ACTIVE"
# The status in which a device waits for its first OTP.
ACTIVATION_REQUIRED = "ACTIVATION_REQUIRED"
# Five operations share one path and method: this media type is what makes the request an activation.
ACTIVATE_MEDIA_TYPE = "application/vnd.pingidentity.device.activate+json"
# Characters that PingOne takes of the ids which come back in its audit records.
LONGEST_AUDIT_ID = 100


@dataclass(frozen=True)
class Request:
    """An HTTP request. Its headers and content hold an OTP, a secret or an access token: its repr leaves them out."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Device:
    """PingOne's object for a token on a user. `status` is ACTIVE, ACTIVATION_REQUIRED, or a word that we do not
    know."""

    status: str | None
    is_locked: bool
    is_blocked: bool
    answer: Answer
    # How long ago PingOne made it, by its own clock; None where it does not say so.
    age: timedelta | None = None
    # How long ago it was changed last, in the same way.
    updated_ago: timedelta | None = None

    @property
    def is_active(self) -> bool:
        return self.status == ACTIVE

    @property
    def is_waiting(self) -> bool:
        return self.status == ACTIVATION_REQUIRED


def build_activation_request(
    environment: Environment,
    user_id: str,
    device_id: str,
    otp: Otp,
    *,
    resync: bool,
    session_id: str,
    transaction_id: str,
) -> Request:
    """Build the request that activates a device; `resync` for the second OTP.
    https://developer.pingidentity.com/pingone-api/mfa/users/mfa-devices/activate_device_oath_token.html"""
    fields: dict[str, object] = {"otp": otp.reveal()}
    if resync:
        fields["oathResync"] = True
    headers = build_headers(session_id, transaction_id) | {"Content-Type": ACTIVATE_MEDIA_TYPE}
    url = build_url(environment, "users", user_id, "devices", device_id)
    return Request("POST", url, headers, json.dumps(fields).encode())


def build_device_request(
    environment: Environment, user_id: str, device_id: str, *, session_id: str, transaction_id: str
) -> Request:
    """Build the request that reads a device.
    https://developer.pingidentity.com/pingone-api/mfa/users/mfa-devices/read-one-mfa-user-device.html"""
    url = build_url(environment, "users", user_id, "devices", device_id)
    return build_read_request(url, session_id=session_id, transaction_id=transaction_id)


def build_read_request(url: str, *, session_id: str, transaction_id: str) -> Request:
    """Build the request that reads what lies at this address of the API."""
    return Request("GET", url, build_headers(session_id, transaction_id))


def add_access_token(request: Request, access_token: str) -> Request:
    return replace(request, headers={**request.headers, "Authorization": f"Bearer {access_token}"})


def parse_activation(status: int, headers: Mapping[str, str], body: bytes, *, user_id: str, device_id: str) -> Device:
    """Read the answer to an activation: the device, ACTIVE. Its body is not documented, so all that is asked of it is
    the status, and that it names no other device or user than these."""
    envelope = open_envelope(status, headers, body)
    device = _find_device(envelope, user_id, device_id)
    if device is not None and device.is_active:
        return device
    raise choose_error(envelope)


def parse_device(status: int, headers: Mapping[str, str], body: bytes, *, user_id: str, device_id: str) -> Device:
    """Read the device from an answer, whatever its status, so long as it has one, and it is this device of this
    user."""
    envelope = open_envelope(status, headers, body)
    device = _find_device(envelope, user_id, device_id)
    if device is None:
        raise choose_error(envelope)
    fields, now = envelope.fields or {}, read_date(headers)
    age, updated_ago = read_age(fields.get("createdAt"), now), read_age(fields.get("updatedAt"), now)
    return replace(device, age=age, updated_ago=updated_ago)


def read_status(value: object) -> str | None:
    """Read a device's status in capitals, as the vendor writes it; None if it is none."""
    word = read_word(value)
    return word.upper() if word else None


def build_headers(session_id: str, transaction_id: str) -> dict[str, str]:
    """Build the headers of a call; both ids come back in PingOne's audit records.
    https://developer.pingidentity.com/pingone-api/platform/reference/external-transaction-and-session-ids.html"""
    return {
        "Accept": "application/json",
        "X-Ping-External-Session-Id": _make_audit_id(session_id),
        "X-Ping-External-Transaction-Id": _make_audit_id(transaction_id),
    }


def _make_audit_id(value: str) -> str:
    return re.sub(r"[^\x21-\x7e]", "-", value)[:LONGEST_AUDIT_ID]


def _find_device(envelope: Envelope, user_id: str, device_id: str) -> Device | None:
    """Find the device in a 2xx answer; None if there is no readable one. Raises OtherDevice if it is not the one asked
    for."""
    fields = envelope.fields or {}
    if not 200 <= (envelope.answer.status or 0) < 300:
        return None
    user = fields.get("user")
    if _differs(fields.get("id"), device_id) or (isinstance(user, dict) and _differs(user.get("id"), user_id)):
        raise OtherDevice(replace(envelope.answer, message="the answer is about another device"))
    status = read_status(fields.get("status"))
    if status is None:
        return None
    return Device(
        status=status,
        is_locked=_has_status(fields.get("lock"), "LOCKED"),
        is_blocked=_has_status(fields.get("block"), "BLOCKED"),
        answer=envelope.answer,
    )


def _differs(told: object, expected: str) -> bool:
    """Whether another id than expected is told, in whichever case. An answer may leave ids out."""
    return isinstance(told, str) and told.lower() != expected.lower()


def _has_status(part: object, status: str) -> bool:
    return isinstance(part, dict) and read_status(part.get("status")) == status
