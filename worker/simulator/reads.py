"""Lists with their filters and pages, users, and what the environment says of itself. The caller holds the
simulation's lock meanwhile.

https://developer.pingidentity.com/pingone-api (users, device authentication policies)
https://docs.pingidentity.com/pingone/directory/p1_scim_filter_language.html
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice, product
from typing import Any, TypeVar
from urllib.parse import quote

from worker.simulator.calls import Answer, Call, Refused, invalid, refusal, success
from worker.simulator.settings import Settings
from worker.simulator.simulation import Simulation
from worker.simulator.world import Term, User

T = TypeVar("T")

# Made up, and the same at each start.
POLICY_ID = "0a7b0000-5e1f-4c0d-8000-00000000000b"
# The built-in roles, a few of them, with some of their permissions. The names of the roles are the vendor's; which
# permissions tokens need, and who has them, is not published: these are made up.
ROLES: list[dict[str, Any]] = [
    {"id": "role-1", "name": "Identity Data Admin", "permissions": [{"id": "dir:read:user"}]},
    {"id": "role-2", "name": "Environment Admin", "permissions": [{"id": "mfa:create:oathToken"}]},
    {"id": "role-3", "name": "Configuration Read Only", "permissions": [{"id": "mfa:read:deviceAuthenticationPolicy"}]},
]
# What a filter may name a user by, besides the population.
_NAMES = ("id", "username", "email", "externalId")
# Items that a client may ask for in one page, as the vendor's SDK says of users.
_LARGEST_LIMIT = 1000

_PARTS = re.compile(r'\s*(?:([()])|("(?:[^"\\]|\\.)*")|([A-Za-z][A-Za-z.]*))')
# Parentheses inside each other, and alternatives, that no filter of a client's needs.
_DEEPEST = 20
_MOST_ALTERNATIVES = 10_000


def find_users(call: Call, simulation: Simulation) -> Answer:
    """List the users of an environment, with a filter on their names and populations. Raises Refused."""
    wanted = read_filter_of(call, (*_NAMES, "population.id"), simulation.settings)
    directory = simulation.world.directory
    users = directory.users(call.environment_id)
    if wanted is not None:
        candidates = wanted.find_candidates(_NAMES, partial(directory.find_named, call.environment_id), users)
        users = [user for user in candidates if wanted.admits({**user.names, "population.id": user.population_id})]
    return answer_page("users", users, call, simulation.settings, _user_body)


def _user_body(user: User) -> dict[str, Any]:
    """A user as JSON, as far as a client of tokens needs it."""
    return dict(user.terms) | {
        "enabled": user.is_enabled,
        "mfaEnabled": user.is_mfa_enabled,
        "account": {"canAuthenticate": user.can_act, "status": "OK" if user.is_usable else "LOCKED"},
        "lifecycle": {"status": "ACCOUNT_OK"},
        "population": {"id": user.population_id},
    }


def find_user(call: Call, simulation: Simulation) -> User:
    """The user whom the path names. Raises Refused."""
    user = simulation.world.directory.find(call.environment_id, call.user_id)
    if user is None:
        raise Refused(refusal(404, "NOT_FOUND"))
    return user


def read_mfa_enabled(call: Call, simulation: Simulation) -> Answer:
    """Say whether MFA is on for a user. Raises Refused."""
    return success({"mfaEnabled": find_user(call, simulation).is_mfa_enabled})


def set_mfa_enabled(call: Call, simulation: Simulation) -> Answer:
    """Switch MFA on or off for a user. Raises Refused."""
    user, wanted = find_user(call, simulation), call.fields().get("mfaEnabled")
    if not isinstance(wanted, bool):
        raise invalid("mfaEnabled")
    user.is_mfa_enabled = wanted
    return read_mfa_enabled(call, simulation)


def read_policies(call: Call, simulation: Simulation) -> Answer:
    """List the environment's policies: one, which is its default. Raises Refused."""
    settings = simulation.settings
    body: dict[str, Any] = {
        "id": POLICY_ID,
        "name": "Default MFA Policy",
        "default": True,
        "authentication": {"deviceSelection": "DEFAULT_TO_FIRST"},
        "oathToken": {
            "enabled": True,
            "pairingDisabled": False,
            "otp": {"failure": {"count": settings.failure_count, "coolDown": _duration(settings.cool_down)}},
        },
    }
    if settings.new_device_notification != "absent":
        body["newDeviceNotification"] = settings.new_device_notification
    return answer_page("deviceAuthenticationPolicies", [body], call, settings, dict)


def _duration(seconds: float) -> dict[str, Any]:
    """A duration in the largest unit that divides it."""
    whole = round(seconds)
    if whole and whole % 60 == 0:
        return {"duration": whole // 60, "timeUnit": "MINUTES"}
    return {"duration": whole, "timeUnit": "SECONDS"}


def read_mfa_settings(call: Call, simulation: Simulation) -> Answer:
    """Answer the MFA settings. Without an account lock there is no `lockout`; a simulated one has no end."""
    settings = simulation.settings
    body: dict[str, Any] = {
        "pairing": {"maxAllowedDevices": settings.max_allowed_devices},
        "users": {"mfaEnabled": False},
    }
    if settings.account_lock_after is not None:
        body["lockout"] = {"failureCount": settings.account_lock_after}
    return success({"_links": {"self": {"href": _href(call)}}} | body)


def read_capabilities(call: Call, simulation: Simulation) -> Answer:
    """Answer what the license grants."""
    settings = simulation.settings
    limits = {
        "rlgMfaRps": settings.rate,
        "rlgDirAccessRps": settings.group_rates.get("directory"),
        "rlgConfigRpm": 60 * settings.group_rates.get("configuration", 10),
    }
    known = {name: {"limit": limit} for name, limit in limits.items() if limit is not None}
    links = {"self": {"href": _href(call)}}
    return success({"_links": links, "canUseOATHToken": True, "licenseQuantities": known})


def list_roles(call: Call, simulation: Simulation) -> Answer:
    """List the built-in roles. Raises Refused."""
    return answer_page("roles", ROLES, call, simulation.settings, dict)


def answer_page(
    name: str, items: Collection[T], call: Call, settings: Settings, body: Callable[[T], dict[str, Any]]
) -> Answer:
    """Answer the page of a list that a request asks for, with the address of the next one. A page may be smaller than
    asked for. Raises Refused."""
    start, limit = _read_cursor(call.parameters.get("cursor")), _read_limit(call.parameters.get("limit"))
    size = min(limit, settings.page_size)
    bodies = [body(item) for item in islice(items, start, start + size)]
    links = {"self": {"href": _href(call)}}
    if start + size < len(items):
        cursor = base64.urlsafe_b64encode(str(start + size).encode()).decode()
        kept = [each for each in call.query.split("&") if each and not each.startswith("cursor=")]
        links["next"] = {"href": f"{_href(call)}?{'&'.join([*kept, f'cursor={quote(cursor)}'])}"}
    return success({"_links": links, "_embedded": {name: bodies}, "count": len(bodies), "size": len(bodies)})


def _read_cursor(cursor: str | None) -> int:
    try:
        start = base64.urlsafe_b64decode(cursor) if cursor else b"0"
    except (ValueError, binascii.Error):
        start = b""
    if not (start.isdigit() and len(start) <= 9):
        raise bad_parameter("cursor")
    return int(start)


def _read_limit(limit: str | None) -> int:
    if not limit:
        return _LARGEST_LIMIT
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= _LARGEST_LIMIT):
        raise bad_parameter("limit")
    return int(limit)


def bad_parameter(target: str, detail_code: str = "INVALID_PARAMETER") -> Refused:
    """The refusal of a query that is malformed, or asks for more than the settings permit."""
    return Refused(refusal(400, "INVALID_REQUEST", detail_code, target=target))


def _href(call: Call) -> str:
    return f"{call.root}{quote(call.path)}"


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that was read: `username eq "a"`, joined by `and`, `or` and parentheses. An object passes if it has one
    of the terms in `any_of`, or all terms of one of `all_of_one`; `alternatives` are both, as they were written.
    `terms` is how many the filter has."""

    alternatives: tuple[frozenset[Term], ...]
    any_of: frozenset[Term]
    all_of_one: tuple[frozenset[Term], ...]
    terms: int

    def admits(self, values: Mapping[str, str | None]) -> bool:
        """Whether an object with these values by attribute passes. Values are compared with their case."""
        has = {(name, value) for name, value in values.items() if value is not None}
        return not self.any_of.isdisjoint(has) or any(terms <= has for terms in self.all_of_one)

    def find_candidates(
        self, indexed: Collection[str], find: Callable[[Term], Collection[T]], everything: Collection[T]
    ) -> Collection[T]:
        """Find what may pass: by a term of each alternative on one of the `indexed` attributes, or everything if one
        has none. No object is among them twice."""
        found: dict[int, T] = {}
        for terms in self.alternatives:
            term = next((term for term in terms if term[0] in indexed), None)
            if term is None:
                return everything
            found |= {id(item): item for item in find(term)}
        return found.values()


def read_filter_of(call: Call, attributes: Collection[str], settings: Settings) -> Filter | None:
    """Read the filter of a request on these attributes; None if it has none. Raises Refused."""
    text = call.parameters.get("filter")
    if text is None:
        return None
    wanted = read_filter(text, attributes)
    if settings.most_filter_terms is not None and wanted.terms > settings.most_filter_terms:
        raise bad_parameter("filter", "INVALID_FILTER")
    return wanted


def read_filter(text: str, attributes: Collection[str]) -> Filter:
    """Read a filter on these attributes. Raises Refused where it is malformed, or has an attribute or operator that is
    not supported."""
    reader = _FilterReader(_split(text), attributes)
    alternatives = reader.read_alternatives(0)
    if reader.ahead:
        raise bad_parameter("filter", "INVALID_FILTER")
    any_of = frozenset(term for terms in alternatives if len(terms) == 1 for term in terms)
    all_of_one = tuple(terms for terms in alternatives if len(terms) > 1)
    return Filter(tuple(alternatives), any_of, all_of_one, reader.terms)


class _FilterReader:
    """Reads a filter from its parts, as alternatives of which each is a set of terms; `ahead` is the next part."""

    def __init__(self, parts: Iterator[str], attributes: Collection[str]) -> None:
        self._parts, self._attributes = parts, attributes
        self.terms = 0
        self.ahead = next(parts, "")

    def read_alternatives(self, depth: int) -> list[frozenset[Term]]:
        """Read what is joined by `or`."""
        alternatives = self._read_conjunction(depth)
        while self.ahead.lower() == "or":
            self._take()
            alternatives += self._read_conjunction(depth)
        return alternatives

    def _read_conjunction(self, depth: int) -> list[frozenset[Term]]:
        """Read what is joined by `and`."""
        alternatives = self._read_factor(depth)
        while self.ahead.lower() == "and":
            self._take()
            others = self._read_factor(depth)
            self._demand(len(alternatives) * len(others) <= _MOST_ALTERNATIVES)
            alternatives = [one | other for one, other in product(alternatives, others)]
        return alternatives

    def _read_factor(self, depth: int) -> list[frozenset[Term]]:
        """Read a term, or what stands in parentheses."""
        if self.ahead == "(":
            self._demand(depth < _DEEPEST)
            self._take()
            alternatives = self.read_alternatives(depth + 1)
            self._demand(self._take() == ")")
            return alternatives
        attribute, operator, quoted = self._take(), self._take(), self._take()
        self._demand(attribute in self._attributes and operator.lower() == "eq" and quoted[:1] == '"')
        self.terms += 1
        try:
            return [frozenset({(attribute, json.loads(quoted))})]
        except ValueError:
            raise bad_parameter("filter", "INVALID_FILTER") from None

    def _take(self) -> str:
        taken, self.ahead = self.ahead, next(self._parts, "")
        return taken

    def _demand(self, is_well_formed: bool) -> None:
        if not is_well_formed:
            raise bad_parameter("filter", "INVALID_FILTER")


def _split(text: str) -> Iterator[str]:
    """Split a filter into parentheses, quoted values and words. Raises Refused at anything else."""
    text, at = text.rstrip(), 0
    while at < len(text):
        part = _PARTS.match(text, at)
        if part is None:
            raise bad_parameter("filter", "INVALID_FILTER")
        at = part.end()
        yield next(filter(None, part.groups()))
