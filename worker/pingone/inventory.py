"""The environment's inventory of tokens: the requests' addresses, and what is read of the answers. Pure.

https://developer.pingidentity.com/pingone-api/mfa/oath-tokens.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from worker.config.environment import Environment
from worker.pingone.addresses import build_url
from worker.pingone.answer_errors import choose_error
from worker.pingone.envelope import Envelope, open_envelope, read_date, read_word
from worker.pingone.errors import OtherDevice, PingOneError
from worker.pingone.json_fields import find_part, read_age, read_count, read_id
from worker.pingone.pages import Page, build_equation, parse_page
from worker.pingone.refusals import ExpandRefused, Rejected

# Adds device and user of a paired token to what is answered.
EXPAND_DEVICES = {"expand": "devices"}
# Our names for PingOne's hash algorithms.
_HASH_NAMES = {"HMACSHA1": "sha1", "HMACSHA256": "sha256", "HMACSHA512": "sha512"}


@dataclass(frozen=True)
class InventoryToken:
    """A token in the inventory. None: not known.

    `device_id` and `user_id` are those of the device that the token is paired as: None where it is not paired, and
    where devices were not asked for."""

    id: str
    serial_number: str | None = None
    # HOTP, TOTP, or a word that we do not know.
    type: str | None = None
    digits: int | None = None
    # sha1, sha256, sha512, or PingOne's own word where we do not know it.
    hash_name: str | None = None
    # Seconds; None for HOTP.
    time_step: int | None = None
    device_id: str | None = None
    user_id: str | None = None
    # How long ago PingOne made it, by its own clock. That it tells this of tokens is not published.
    age: timedelta | None = field(default=None, compare=False)


def build_tokens_url(environment: Environment) -> str:
    """Build the address of the inventory's first page, paired tokens with device and user.
    https://developer.pingidentity.com/pingone-api/mfa/oath-tokens/get_all_oath_tokens.html"""
    return build_url(environment, "oathTokens", query=EXPAND_DEVICES)


def build_serial_number_url(environment: Environment, serial_number: str, *, with_devices: bool) -> str:
    """Build the address of the token with this serial number. Raises ValueError for an empty one.
    https://developer.pingidentity.com/pingone-api/mfa/oath-tokens/get_oath_token_by_serial_number.html"""
    query = {"filter": build_equation("serialNumber", serial_number)}
    return build_url(environment, "oathTokens", query=query | (EXPAND_DEVICES if with_devices else {}))


def build_token_url(environment: Environment, token_id: str) -> str:
    """Build the address of the token with this id, with device and user. Raises ValueError for an empty id.
    https://developer.pingidentity.com/pingone-api/mfa/oath-tokens/get_oath_token_by_id.html"""
    return build_url(environment, "oathTokens", token_id, query=EXPAND_DEVICES)


def parse_tokens(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    environment: Environment,
    is_filtered_with_devices: bool = False,
) -> Page[InventoryToken]:
    """Read a page of tokens from an answer. Where both a filter and `expand` were asked for, a refusal may mean just
    that: then ExpandRefused."""
    choose = _choose_error_with_expand if is_filtered_with_devices else choose_error
    read = partial(_read_token, now=read_date(headers))
    return parse_page(status, headers, body, environment=environment, name="oathTokens", read_item=read, choose=choose)


def parse_token(status: int, headers: Mapping[str, str], body: bytes, *, token_id: str) -> InventoryToken:
    """Read the token with this id from an answer. Raises OtherDevice if it is another one's: what that is paired as
    says nothing of this one."""
    envelope = open_envelope(status, headers, body)
    token = _read_token(envelope.fields or {}, now=read_date(headers)) if 200 <= status < 300 else None
    if token is None:
        raise choose_error(envelope)
    if token.id.lower() != token_id.lower():
        raise OtherDevice(replace(envelope.answer, message="the answer is about another token"))
    return token


def _choose_error_with_expand(envelope: Envelope) -> PingOneError:
    error = choose_error(envelope)
    return ExpandRefused(error.answer) if isinstance(error, Rejected) and error.answer.status == 400 else error


def _read_token(fields: Mapping[str, Any], now: datetime | None) -> InventoryToken | None:
    token_id = read_id(fields.get("id"))
    if token_id is None:
        return None
    hash_name, device = read_word(fields.get("hashAlgorithm")), _find_device(fields)
    return InventoryToken(
        id=token_id,
        serial_number=read_id(fields.get("serialNumber")),
        type=read_word(fields.get("type")),
        digits=read_count(fields.get("otpLength")),
        hash_name=_HASH_NAMES.get((hash_name or "").upper(), hash_name),
        time_step=read_count(find_part(fields, "totp", "timeStep")),
        device_id=read_id(find_part(device, "id")),
        user_id=read_id(find_part(device, "user", "id")) or read_id(find_part(device, "userId")),
        age=read_age(fields.get("createdAt"), now),
    )


def _find_device(fields: Mapping[str, Any]) -> object:
    """Find the device that the token is paired as. The form is not published: a list of one device is looked for in the
    token itself, and where PingOne puts what was expanded otherwise, in `_embedded`."""
    for devices in (fields.get("devices"), find_part(fields, "_embedded", "devices")):
        if isinstance(devices, list) and devices:
            return devices[0]
    return None
