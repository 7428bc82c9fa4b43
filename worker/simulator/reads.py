"""What the simulator answers to reads that are not of one device: users, inventory, policies and settings. The caller
holds the simulation's lock meanwhile.

https://developer.pingidentity.com/pingone-api (users, OATH tokens)
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection
from functools import partial
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote

from worker.simulator.answers import Answer, refusal, success
from worker.simulator.bodies import token_body, user_body
from worker.simulator.configuration import ROLES, capabilities_body, mfa_settings_body, policy_body
from worker.simulator.filters import BadFilter, Filter, Term, read_filter
from worker.simulator.inventory import InventoryToken
from worker.simulator.operation_names import Operation
from worker.simulator.routes import Request, Target
from worker.simulator.settings import Settings
from worker.simulator.simulation import Simulation

T = TypeVar("T")

# What a filter may name a user by, besides the population.
_NAMES = ("id", "username", "email", "externalId")
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
            case "list_roles":
                return _page("roles", ROLES, request, settings, dict)
            case "read_mfa_settings":
                body = mfa_settings_body(settings)
            case _:
                body = capabilities_body(settings)
    except BadRead as bad:
        return bad.answer
    return success({"_links": {"self": {"href": href}}} | body)


def _find_users(request: Request, target: Target, simulation: Simulation) -> Answer:
    wanted = _read_filter(request, (*_NAMES, "population.id"), simulation.settings)
    environment_id, directory = target.environment_id or "", simulation.world.directory
    users = directory.users(environment_id)
    if wanted is not None:
        find = partial(directory.find_named, environment_id)
        candidates = wanted.find_candidates(_NAMES, find, users)
        users = [user for user in candidates if wanted.admits({**user.names, "population.id": user.population_id})]
    return _page("users", users, request, simulation.settings, user_body)


def _list_tokens(request: Request, target: Target, simulation: Simulation) -> Answer:
    settings, environment_id = simulation.settings, target.environment_id or ""
    wanted, is_expanded = _read_filter(request, ("serialNumber",), settings), _is_expanded(request)
    if wanted is not None and is_expanded and not settings.expand_with_filter:
        raise BadRead("expand")
    inventory, now = simulation.world.inventory, simulation.unix_time()
    tokens = inventory.tokens(environment_id)
    if wanted is not None:

        def find(term: Term) -> Collection[InventoryToken]:
            token = inventory.find(environment_id, term[1])
            return () if token is None else (token,)

        candidates = wanted.find_candidates(("serialNumber",), find, tokens)
        tokens = [token for token in candidates if wanted.admits({"serialNumber": token.serial_number})]
    body = partial(token_body, settings=settings, now=now, is_expanded=is_expanded)
    return _page("oathTokens", tokens, request, settings, body)


def _read_token(request: Request, target: Target, simulation: Simulation) -> Answer:
    token = simulation.world.inventory.find_by_id(target.environment_id or "", target.resource_id or "")
    if token is None:
        return refusal(404, "NOT_FOUND")
    is_expanded = _is_expanded(request)
    return success(token_body(token, simulation.settings, now=simulation.unix_time(), is_expanded=is_expanded))


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
