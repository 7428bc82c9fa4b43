"""Pairing a token with a user, and unpairing it: builds the requests, and makes a result or an error of the answers.
Pure.

https://developer.pingidentity.com/pingone-api/mfa/users/mfa-devices.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from worker.config.environment import Environment
from worker.pingone.addresses import build_url
from worker.pingone.answer_errors import choose_error
from worker.pingone.envelope import Envelope, open_envelope, read_word
from worker.pingone.errors import (
    Answer,
    Forbidden,
    LicenseExceeded,
    NotFound,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
)
from worker.pingone.json_fields import find_part, read_count, read_plain_id
from worker.pingone.refusals import (
    AccountNotUsable,
    AlreadyPaired,
    MethodOff,
    Rejected,
    StatusRefused,
    TokenNotInInventory,
    TooManyDevices,
)
from worker.pingone.wire import ACTIVE, Request, build_headers, read_status

# The type of a hardware token's device; TOTP is an authenticator app.
OATH_TOKEN = "OATH_TOKEN"  # noqa: S105 - a type of devices


@dataclass(frozen=True)
class PairedDevice:
    """The device that a pairing made. `status` is ACTIVE, ACTIVATION_REQUIRED, or a word that we do not know; None
    where the answer does not tell it: then read the device before an OTP is sent."""

    id: str
    status: str | None
    answer: Answer

    @property
    def is_active(self) -> bool:
        """Whether there is nothing to activate: then no OTP was proved, and none may be sent."""
        return self.status == ACTIVE


@dataclass(frozen=True)
class Pairing:
    """A token that is paired, as PingOne shows it."""

    device_id: str
    # None: not told.
    user_id: str | None
    # None where the inventory may not be read.
    token_id: str | None = None


def build_pairing_request(
    environment: Environment,
    user_id: str,
    serial_number: str,
    *,
    status: str | None,
    session_id: str,
    transaction_id: str,
) -> Request:
    """Build the request that pairs the token with the user. `status` is that of the device to be made; None leaves it
    to PingOne. The environment's default policy is in force. Raises ValueError for an empty id or serial number.
    https://developer.pingidentity.com/pingone-api/mfa/users/mfa-devices.html"""
    if not serial_number:
        raise ValueError("an empty serial number, which no token has")
    fields: dict[str, Any] = {"type": OATH_TOKEN, "serialNumber": serial_number}
    if status is not None:
        fields["status"] = status
    headers = build_headers(session_id, transaction_id) | {"Content-Type": "application/json"}
    return Request("POST", build_url(environment, "users", user_id, "devices"), headers, json.dumps(fields).encode())


def build_unpair_request(
    environment: Environment, user_id: str, device_id: str, *, session_id: str, transaction_id: str
) -> Request:
    """Build the request that removes a device of a user. Without the device's id, DELETE is another operation, which
    removes the order of all the user's devices: raises ValueError unless both ids are letters, digits, `-` and `_`.
    https://developer.pingidentity.com/pingone-api/mfa/users/mfa-devices.html"""
    if not (read_plain_id(user_id) and read_plain_id(device_id)):
        raise ValueError("an id is empty, or would lead to another path")
    url = build_url(environment, "users", user_id, "devices", device_id)
    return Request("DELETE", url, build_headers(session_id, transaction_id))


def parse_pairing(
    status: int, headers: Mapping[str, str], body: bytes, *, serial_number: str, user_id: str
) -> PairedDevice:
    """Read the device that a pairing made. Raises OutcomeUnknown for a success without a readable id, and OtherDevice
    for an answer about another token or user: what was made has to be looked up."""
    envelope = open_envelope(status, headers, body)
    if not 200 <= status < 300:
        raise _choose_error(envelope)
    fields = envelope.fields or {}
    _check_subject(envelope, fields, serial_number, user_id)
    device_id = read_plain_id(fields.get("id"))
    if device_id is None:
        raise OutcomeUnknown(replace(envelope.answer, message="no readable id of a device in the answer"))
    return PairedDevice(device_id, read_status(fields.get("status")), envelope.answer)


def parse_unpaired(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Read from an answer whether there was a device to remove: False where PingOne knows none, so that it is gone
    already. Any success of PingOne's own will do."""
    envelope = open_envelope(status, headers, body)
    if status == 204 or (200 <= status < 300 and envelope.is_from_pingone):
        return True
    error = choose_error(envelope)
    if isinstance(error, NotFound):
        return False
    raise error


def _check_subject(envelope: Envelope, fields: Mapping[str, Any], serial_number: str, user_id: str) -> None:
    """Raise OtherDevice if the answer names another type of device, another token or another user, in whichever case.
    It may leave all of them out."""
    expected = (
        (fields.get("type"), OATH_TOKEN),
        (fields.get("serialNumber"), serial_number),
        (find_part(fields, "oathToken", "serialNumber"), serial_number),
        (find_part(fields, "user", "id"), user_id),
    )
    if any(isinstance(told, str) and told.lower() != wanted.lower() for told, wanted in expected):
        raise OtherDevice(replace(envelope.answer, message="the answer is about another device"))


def _choose_error(envelope: Envelope) -> PingOneError:
    """Choose the error for an answer that made no device. Which refusal has which status is not published for all of
    them, so that codes and targets decide; what is no refusal of PingOne's stays what it is elsewhere."""
    error, answer = choose_error(envelope), envelope.answer
    targets = {_read_target(detail) for detail in envelope.details}
    if isinstance(error, Forbidden):
        if "LICENSE_EXCEEDED" in envelope.codes:
            return LicenseExceeded(answer)
        return MethodOff(answer) if "type" in targets else error
    if isinstance(error, NotFound):
        return TokenNotInInventory(answer) if "serialNumber" in targets else error
    return _choose_refusal(envelope, targets) if isinstance(error, Rejected) else error


def _choose_refusal(envelope: Envelope, targets: set[str | None]) -> Rejected:
    answer, codes = envelope.answer, envelope.codes
    if "status" in targets:
        # First: without it, PingOne says what else there is.
        return StatusRefused(answer)
    if "ACCOUNT_NOT_USABLE" in codes:
        return AccountNotUsable(answer)
    if "LIMIT_EXCEEDED" in codes:
        limits = (read_count(find_part(each, "innerError", "maximumAllowed")) for each in envelope.details)
        return TooManyDevices(answer, next((limit for limit in limits if limit is not None), None))
    if "UNIQUENESS_VIOLATION" in codes or answer.status == 409:
        return AlreadyPaired(answer)
    if "type" in targets:
        return MethodOff(answer)
    return TokenNotInInventory(answer) if "serialNumber" in targets else Rejected(answer)


def _read_target(detail: Mapping[str, Any]) -> str | None:
    """Read which field of our request a fault is about."""
    target = read_word(detail.get("target"))
    return target.removeprefix("oathToken.") if target else None
