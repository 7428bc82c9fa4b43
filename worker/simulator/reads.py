"""What the simulator answers to reads that are not of one device: users, inventory, policies and settings. The caller
holds the simulation's lock meanwhile.

https://developer.pingidentity.com/pingone-api (users, OATH tokens)
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote

from worker.simulator.answers import Answer, refusal, success, timestamp
from worker.simulator.configuration import capabilities_body, mfa_settings_body, policy_body
from worker.simulator.filters import BadFilter, Filter, read_filter
from worker.simulator.inventory import InventoryToken
from worker.simulator.routes import Request, Target
from worker.simulator.settings import Operation, Settings
from worker.simulator.simulation import Simulation
from worker.simulator.world import User

T = TypeVar("T")

_HASHES = {"sha1": "HmacSHA1", "sha256": "HmacSHA256", "sha512": "HmacSHA512"}
# Users that a client may ask for in one page, as the vendor's SDK says.
_LARGEST_LIMIT = 1000


class BadRead(Exception):
    """The query of a read is malformed, or more than the settings permit; `answer` is the refusal."""

    def __init__(self, target: str, detail_code: str = "INVALID_PARAMETER") -> None:
        super().__init__(target)
        self.answer = refusal(400, "INVALID_REQUEST", detail_code, target=target)


def answer_read(operation: Operation, request: Request, target: Target, simulation: Simulation) -> Answer:
    """Answer a read of an environment."""
    settings, href = simulation.settings, _href(request)
    try:
        match operation:
            case "find_users":
                return _find_users(request, target, simulation)
            case "list_tokens":
                return _list_tokens(request, target, simulation)
            case "read_token":
                return _read_token(request, target, simulation)
            case "read_policies":
                return _page("deviceAuthenticationPolicies", [policy_body(settings)], request, settings, dict)
            case "read_mfa_settings":
                body = mfa_settings_body(settings)
            case _:
                body = capabilities_body(settings)
    except BadRead as bad:
        return bad.answer
    return success({"_links": {"self": {"href": href}}} | body)


def user_body(user: User) -> dict[str, Any]:
    """A user as JSON in the vendor's form, as far as a client of tokens needs it."""
    body: dict[str, Any] = {
        "id": user.id,
        "username": user.username or user.id,
        "email": user.email or f"{user.id}@example.com",
        "enabled": user.is_enabled,
        "mfaEnabled": user.is_mfa_enabled,
        "account": {"canAuthenticate": user.can_act, "status": "OK" if user.is_usable else "LOCKED"},
        "lifecycle": {"status": "ACCOUNT_OK"},
        "population": {"id": user.population_id},
    }
    return body | ({} if user.external_id is None else {"externalId": user.external_id})


def token_body(token: InventoryToken, settings: Settings, *, is_expanded: bool) -> dict[str, Any]:
    """A token as JSON in the vendor's form, never with its secret; with its device if that was asked for."""
    body: dict[str, Any] = {
        "id": token.id,
        "environment": {"id": token.environment_id},
        "serialNumber": token.serial_number,
        "type": token.type.upper(),
        "otpLength": token.digits,
        "hashAlgorithm": _HASHES[token.hash],
        "createdAt": timestamp(token.created_at),
    }
    if token.type == "totp":
        body["totp"] = {"timeStep": token.time_step, "drift": token.token.drift}
    else:
        body["hotp"] = {"counter": token.token.counter}
    if is_expanded and token.pairing is not None:
        devices = {"devices": [{"id": token.pairing.device_id, "user": {"id": token.pairing.user_id}}]}
        return body | (devices if settings.expanded_devices == "inline" else {"_embedded": devices})
    return body


def _find_users(request: Request, target: Target, simulation: Simulation) -> Answer:
    attributes = ("id", "username", "email", "externalId", "population.id")
    wanted = _read_filter(request, attributes, simulation.settings)

    def is_wanted(user: User) -> bool:
        if wanted is None:
            return True
        body = user_body(user)
        return wanted.admits({name: body.get(name) for name in attributes} | {"population.id": user.population_id})

    users = [user for user in simulation.world.users(target.environment_id or "") if is_wanted(user)]
    return _page("users", users, request, simulation.settings, user_body)


def _list_tokens(request: Request, target: Target, simulation: Simulation) -> Answer:
    settings, environment_id = simulation.settings, target.environment_id or ""
    wanted, is_expanded = _read_filter(request, ("serialNumber",), settings), _is_expanded(request)
    if wanted is not None and is_expanded and not settings.expand_with_filter:
        raise BadRead("expand")
    tokens: Collection[InventoryToken] = simulation.world.inventory.tokens(environment_id)
    if wanted is not None:
        tokens = [token for token in tokens if wanted.admits({"serialNumber": token.serial_number})]
    return _page(
        "oathTokens", tokens, request, settings, lambda token: token_body(token, settings, is_expanded=is_expanded)
    )


def _read_token(request: Request, target: Target, simulation: Simulation) -> Answer:
    token = simulation.world.inventory.find_by_id(target.environment_id or "", target.token_id or "")
    if token is None:
        return refusal(404, "NOT_FOUND")
    return success(token_body(token, simulation.settings, is_expanded=_is_expanded(request)))


def _read_filter(request: Request, attributes: Collection[str], settings: Settings) -> Filter | None:
    """Read the filter of a request; None if it has none. Raises BadRead."""
    text = dict(parse_qsl(request.query, keep_blank_values=True)).get("filter")
    if text is None:
        return None
    try:
        wanted = read_filter(text, attributes)
    except BadFilter:
        raise BadRead("filter", "INVALID_FILTER") from None
    if settings.most_filter_terms is not None and wanted.terms > settings.most_filter_terms:
        raise BadRead("filter", "INVALID_FILTER")
    return wanted


def _is_expanded(request: Request) -> bool:
    """Whether a request asks for a token's devices. Raises BadRead for anything else to expand."""
    wanted = dict(parse_qsl(request.query, keep_blank_values=True)).get("expand")
    if wanted not in (None, "devices"):
        raise BadRead("expand")
    return wanted is not None


def _page(
    name: str, items: Collection[T], request: Request, settings: Settings, body: Callable[[T], dict[str, Any]]
) -> Answer:
    """Answer the page of a list that a request asks for, with the address of the next one. A page may be smaller than
    asked for. Raises BadRead."""
    parameters = dict(parse_qsl(request.query))
    start, limit = _read_cursor(parameters.get("cursor")), _read_limit(parameters.get("limit"))
    size = min(limit or settings.page_size, settings.page_size)
    bodies = [body(item) for item in islice(items, start, start + size)]
    links = {"self": {"href": _href(request)}}
    if start + size < len(items):
        cursor = base64.urlsafe_b64encode(str(start + size).encode()).decode()
        kept = [each for each in request.query.split("&") if each and not each.startswith("cursor=")]
        links["next"] = {"href": f"{_href(request)}?{'&'.join([*kept, f'cursor={quote(cursor)}'])}"}
    return success({"_links": links, "_embedded": {name: bodies}, "count": len(bodies), "size": len(bodies)})


def _read_cursor(cursor: str | None) -> int:
    try:
        start = base64.urlsafe_b64decode(cursor) if cursor else b"0"
    except (ValueError, binascii.Error):
        start = b""
    if not (start.isdigit() and len(start) <= 9):
        raise BadRead("cursor")
    return int(start)


def _read_limit(limit: str | None) -> int | None:
    if limit is None:
        return None
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= _LARGEST_LIMIT):
        raise BadRead("limit")
    return int(limit)


def _href(request: Request) -> str:
    return f"{request.root}{quote(request.path)}"
