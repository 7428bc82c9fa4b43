"""Users and their devices: finds users by name; pairs a token, which makes a device; activates a device, reads one or
all devices of a user, and removes one. Builds the requests, and reads the answers. Pure.
https://developer.pingidentity.com/pingone-api/platform/users.html
https://developer.pingidentity.com/pingone-api/mfa/users/mfa-devices.html"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from models.person import NAMES
from worker.config.environment import Environment
from worker.pingone.errors import (
    AccountNotUsable,
    AlreadyPaired,
    Answer,
    Forbidden,
    LicenseExceeded,
    MethodOff,
    NotFound,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
    Rejected,
    StatusRefused,
    TokenNotInInventory,
    TooManyDevices,
    TooManyTerms,
)
from worker.pingone.wire import (
    Envelope,
    Page,
    Request,
    build_equation,
    build_url,
    choose_error,
    find_part,
    parse_page,
    read_age,
    read_id,
    read_plain_id,
    read_text,
    read_truth,
    read_word,
)
from worker.vault.otps import Otp

# The column of each attribute.
_COLUMNS = {attribute: column for column, attribute in NAMES.items()}
# Users in one answer, of the 1,000 that PingOne permits: more than 40 names find, unless many users share an address.
USERS_PER_PAGE = 200


class UserAttribute(StrEnum):
    """An attribute by which users are found, as PingOne's filters name it."""

    USERNAME = "username"  # unique
    EMAIL = "email"  # several users may have the same
    EXTERNAL_ID = "externalId"  # not promised to be unique

    @property
    def column(self) -> str:
        """The column of a record, and the field of a row and of a User, that hold this attribute."""
        return _COLUMNS[self]


@dataclass(frozen=True)
class User:
    """A user, as PingOne's answer shows it. None: not known. The repr does not show who it is."""

    id: str
    username: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    external_id: str | None = field(default=None, repr=False)
    is_enabled: bool | None = None
    can_authenticate: bool | None = None
    is_locked: bool | None = None

    def find(self, attribute: UserAttribute) -> str | None:
        """Find this user's value of an attribute, to compare it with the requested name."""
        value: str | None = getattr(self, attribute.column)
        return value


def fold_case(name: str) -> str:
    """Fold the case of a name: PingOne treats names that differ only in case as the same user. `casefold` would go too
    far: it takes Weiss for Weiß, who is another person."""
    return name.lower()


def build_users_url(environment: Environment, attribute: UserAttribute, names: Sequence[str]) -> str:
    """Build the address of the users with one of these names. Raises ValueError if there is no name, or an empty one: a
    filter without terms would list everybody.
    https://docs.pingidentity.com/pingone/directory/p1_scim_filter_language.html"""
    if not names:
        raise ValueError("no names to find users by")
    filter_ = " or ".join(f"({build_equation(attribute, name)})" for name in names)
    return build_url(environment, "users", query={"limit": str(USERS_PER_PAGE), "filter": filter_})


def parse_users(envelope: Envelope, *, environment: Environment) -> Page[User]:
    """Read a page of users from an answer. Users outside the populations of our roles are missing. Raises TooManyTerms
    if the filter was too long for PingOne, or for a server in front of it."""
    return parse_page(envelope, environment=environment, name="users", read_item=_read_user, choose=_choose_error)


def _choose_error(envelope: Envelope) -> PingOneError:
    """Choose the error for an answer that is not a page of users. A 400 that is not PingOne's own comes from a server
    that refuses such a long header."""
    status, answer = envelope.answer.status, envelope.answer
    is_too_long = status in (414, 431) or (status == 400 and not envelope.is_from_pingone)
    if is_too_long or (status == 400 and "INVALID_FILTER" in envelope.codes):
        return TooManyTerms(answer)
    return choose_error(envelope)


def _read_user(fields: Mapping[str, Any]) -> User:
    status = find_part(fields, "account", "status")
    return User(
        id=fields["id"],
        username=read_text(fields.get("username")),
        email=read_text(fields.get("email")),
        external_id=read_text(fields.get("externalId")),
        is_enabled=read_truth(fields.get("enabled")),
        can_authenticate=read_truth(find_part(fields, "account", "canAuthenticate")),
        is_locked=status == "LOCKED" if status in ("LOCKED", "OK") else None,
    )


# Devices

ACTIVE = "ACTIVE"
# The status in which a device waits for its first OTP.
ACTIVATION_REQUIRED = "ACTIVATION_REQUIRED"
# Five operations share one path and method: this media type makes the request an activation.
ACTIVATE_MEDIA_TYPE = "application/vnd.pingidentity.device.activate+json"


@dataclass(frozen=True)
class Device:
    """PingOne's object for a token of a user. `status` is ACTIVE, ACTIVATION_REQUIRED, or an unknown word."""

    status: str | None
    is_locked: bool
    is_blocked: bool
    answer: Answer
    # How long ago PingOne made it, by its own clock; None if PingOne does not say.
    age: timedelta | None = None
    # How long ago it was last changed, likewise.
    updated_ago: timedelta | None = None

    @property
    def is_active(self) -> bool:
        return self.status == ACTIVE

    @property
    def is_waiting(self) -> bool:
        return self.status == ACTIVATION_REQUIRED


def build_activation_request(
    environment: Environment, user_id: str, device_id: str, otp: Otp, *, resync: bool
) -> Request:
    """Build the request that activates a device; `resync` for the second OTP.
    https://developer.pingidentity.com/pingone-api/mfa/users/mfa-devices/activate_device_oath_token.html"""
    fields: dict[str, object] = {"otp": otp.reveal()}
    if resync:
        fields["oathResync"] = True
    headers = {"Content-Type": ACTIVATE_MEDIA_TYPE}
    url = build_url(environment, "users", user_id, "devices", device_id)
    return Request("POST", url, headers, json.dumps(fields).encode())


def parse_activation(envelope: Envelope, *, user_id: str, device_id: str) -> Device:
    """Read the device, which must be ACTIVE, from the answer to an activation. The body is not documented, so it has to
    give only this status, and must not name another device or user."""
    device = _find_device(envelope, user_id, device_id)
    if device is not None and device.is_active:
        return device
    raise choose_error(envelope)


def parse_device(envelope: Envelope, *, user_id: str, device_id: str) -> Device:
    """Read the device from an answer, whatever its status, if it has one and is this device of this user."""
    device = _find_device(envelope, user_id, device_id)
    if device is None:
        raise choose_error(envelope)
    fields, now = envelope.fields, envelope.date
    age, updated_ago = read_age(fields.get("createdAt"), now), read_age(fields.get("updatedAt"), now)
    return replace(device, age=age, updated_ago=updated_ago)


def read_status(value: object) -> str | None:
    """Read a device's status in capitals, as the vendor writes it; None if it is not a status."""
    word = read_word(value)
    return word.upper() if word else None


def _find_device(envelope: Envelope, user_id: str, device_id: str) -> Device | None:
    """Find the device in a 2xx answer; None if there is no readable one. Raises OtherDevice if it is not the one asked
    for."""
    fields = envelope.fields
    if not envelope.is_success:
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


def _differs(value: object, expected: str) -> bool:
    """Whether an answer has a value other than the expected one, ignoring case. Answers may omit ids."""
    return isinstance(value, str) and value.lower() != expected.lower()


def _has_status(part: object, status: str) -> bool:
    return isinstance(part, dict) and read_status(part.get("status")) == status


@dataclass(frozen=True)
class UserDevice:
    """A device of a user, of any type. None: not known."""

    id: str
    # OATH_TOKEN, or another word.
    type: str | None = None
    # ACTIVE, ACTIVATION_REQUIRED, or an unknown word.
    status: str | None = None
    # For an OATH token, if PingOne says so.
    serial_number: str | None = None
    # How long ago it was made. PingOne deletes a device that is not active after 24 hours.
    age: timedelta | None = field(default=None, compare=False)


def parse_user_devices(envelope: Envelope, *, environment: Environment) -> Page[UserDevice]:
    """Read a page of devices from an answer."""
    read = partial(_read_device, now=envelope.date)
    return parse_page(envelope, environment=environment, name="devices", read_item=read)


def _read_device(fields: Mapping[str, Any], now: datetime | None) -> UserDevice:
    serial_number = fields.get("serialNumber") or find_part(fields, "oathToken", "serialNumber")
    return UserDevice(
        id=fields["id"],
        type=read_word(fields.get("type")),
        status=read_status(fields.get("status")),
        serial_number=read_id(serial_number),
        age=read_age(fields.get("createdAt"), now),
    )


# The type of a hardware token's device; TOTP is an authenticator app.
OATH_TOKEN = "OATH_TOKEN"  # noqa: S105 - a type of devices


@dataclass(frozen=True)
class PairedDevice:
    """The device that a pairing made. `status` is ACTIVE, ACTIVATION_REQUIRED, or an unknown word; None if the answer
    does not say: then read the device before sending an OTP."""

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
    # None: not known.
    user_id: str | None
    # None if we may not read the inventory.
    token_id: str | None = None


def build_pairing_request(environment: Environment, user_id: str, serial_number: str, *, status: str | None) -> Request:
    """Build the request that pairs the token with the user. `status` is the new device's; None leaves it to PingOne.
    The environment's default policy applies. Raises ValueError for an empty id or serial number.
    https://developer.pingidentity.com/pingone-api/mfa/users/mfa-devices.html"""
    if not serial_number:
        raise ValueError("an empty serial number, which no token has")
    fields: dict[str, Any] = {"type": OATH_TOKEN, "serialNumber": serial_number}
    if status is not None:
        fields["status"] = status
    headers = {"Content-Type": "application/json"}
    return Request("POST", build_url(environment, "users", user_id, "devices"), headers, json.dumps(fields).encode())


def build_unpair_request(environment: Environment, user_id: str, device_id: str) -> Request:
    """Build the request that removes a device of a user. Without a device id, DELETE is another operation, which
    removes the order of all the user's devices: so this raises ValueError unless both ids consist of letters, digits,
    `-`, and `_`.
    https://developer.pingidentity.com/pingone-api/mfa/users/mfa-devices.html"""
    if not (read_plain_id(user_id) and read_plain_id(device_id)):
        raise ValueError("an id is empty, or would lead to another path")
    return Request("DELETE", build_url(environment, "users", user_id, "devices", device_id))


def parse_pairing(envelope: Envelope, *, serial_number: str, user_id: str) -> PairedDevice:
    """Read the device that a pairing made. Raises OutcomeUnknown for a success without a readable id, and OtherDevice
    for an answer about another token or user: what was made has to be looked up."""
    if not envelope.is_success:
        raise _choose_pairing_error(envelope)
    fields = envelope.fields
    _check_subject(envelope, fields, serial_number, user_id)
    device_id = read_plain_id(fields.get("id"))
    if device_id is None:
        raise OutcomeUnknown(replace(envelope.answer, message="no readable device id in the answer"))
    return PairedDevice(device_id, read_status(fields.get("status")), envelope.answer)


def parse_unpaired(envelope: Envelope) -> bool:
    """Read from an answer whether there was a device to remove: False if PingOne knows none, so it is already gone. Any
    success from PingOne itself will do."""
    if envelope.answer.status == 204 or (envelope.is_success and envelope.is_from_pingone):
        return True
    error = choose_error(envelope)
    if isinstance(error, NotFound):
        return False
    raise error


def _check_subject(envelope: Envelope, fields: Mapping[str, Any], serial_number: str, user_id: str) -> None:
    """Raise OtherDevice if the answer names another type of device, another token, or another user. It may omit all of
    them."""
    expected = (
        (fields.get("type"), OATH_TOKEN),
        (fields.get("serialNumber"), serial_number),
        (find_part(fields, "oathToken", "serialNumber"), serial_number),
        (find_part(fields, "user", "id"), user_id),
    )
    if any(_differs(value, wanted) for value, wanted in expected):
        raise OtherDevice(replace(envelope.answer, message="the answer is about another device"))


def _choose_pairing_error(envelope: Envelope) -> PingOneError:
    """Choose the error for an answer that made no device. The statuses of some refusals are not published, so codes and
    targets decide. `choose_error` chooses any other error."""
    error, answer = choose_error(envelope), envelope.answer
    targets = {_read_target(detail) for detail in envelope.details}
    if isinstance(error, Forbidden):
        if "LICENSE_EXCEEDED" in envelope.codes:
            return LicenseExceeded(answer)
        return MethodOff(answer) if "type" in targets else error
    if isinstance(error, NotFound):
        return TokenNotInInventory(answer) if "serialNumber" in targets else error
    if not isinstance(error, Rejected):
        return error
    refusals = {
        # This comes first: once the status is omitted, PingOne names any other fault.
        StatusRefused: "status" in targets,
        AccountNotUsable: "ACCOUNT_NOT_USABLE" in envelope.codes,
        TooManyDevices: "LIMIT_EXCEEDED" in envelope.codes,
        AlreadyPaired: "UNIQUENESS_VIOLATION" in envelope.codes or answer.status == 409,
        MethodOff: "type" in targets,
        TokenNotInInventory: "serialNumber" in targets,
    }
    return next((refusal(answer) for refusal, is_it in refusals.items() if is_it), error)


def _read_target(detail: Mapping[str, Any]) -> str | None:
    """Read which field of our request a fault is about."""
    target = read_word(detail.get("target"))
    return target.removeprefix("oathToken.") if target else None
