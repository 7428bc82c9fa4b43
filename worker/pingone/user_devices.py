"""All devices of a user: the request's address, and what is read of the answer. Pure.

https://developer.pingidentity.com/pingone-api/mfa/users/mfa-devices.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from worker.config.environment import Environment
from worker.pingone.addresses import build_url
from worker.pingone.envelope import read_date, read_word
from worker.pingone.json_fields import find_part, read_age, read_id
from worker.pingone.pages import Page, parse_page
from worker.pingone.wire import read_status


@dataclass(frozen=True)
class UserDevice:
    """A device of a user, of whichever type. None: not known."""

    id: str
    # OATH_TOKEN, or another word.
    type: str | None = None
    # ACTIVE, ACTIVATION_REQUIRED, or a word that we do not know.
    status: str | None = None
    # Of an OATH token, where PingOne says so.
    serial_number: str | None = None
    # How long ago it was made. PingOne deletes a device that is not active after 24 hours.
    age: timedelta | None = field(default=None, compare=False)


def build_user_devices_url(environment: Environment, user_id: str) -> str:
    """Build the address of a user's devices, of every type: all count for the number that a user may have. Raises
    ValueError for an empty id."""
    return build_url(environment, "users", user_id, "devices")


def parse_user_devices(
    status: int, headers: Mapping[str, str], body: bytes, *, environment: Environment
) -> Page[UserDevice]:
    """Read a page of devices from an answer."""
    read = partial(_read_device, now=read_date(headers))
    return parse_page(status, headers, body, environment=environment, name="devices", read_item=read)


def _read_device(fields: Mapping[str, Any], now: datetime | None) -> UserDevice | None:
    device_id = read_id(fields.get("id"))
    if device_id is None:
        return None
    serial_number = fields.get("serialNumber") or find_part(fields, "oathToken", "serialNumber")
    return UserDevice(
        id=device_id,
        type=read_word(fields.get("type")),
        status=read_status(fields.get("status")),
        serial_number=read_id(serial_number),
        age=read_age(fields.get("createdAt"), now),
    )
