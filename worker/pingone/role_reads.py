"""Reads that tell which roles a worker application has: one of each kind of call that a batch makes.

https://docs.pingidentity.com/pingone/directory/p1_roles.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from worker.config.environment import Environment
from worker.pingone.addresses import build_url
from worker.pingone.answer_errors import choose_error
from worker.pingone.envelope import open_envelope
from worker.pingone.errors import PingOneError
from worker.pingone.json_fields import find_part, read_id, read_text
from worker.pingone.transport import LARGEST_PAGE, Transport
from worker.pingone.wire import add_access_token, build_read_request


class RoleReads:
    """Reads with one access token, outside any pace, of which there are a handful. Each ends within `deadline` seconds.

    Each may raise any PingOneError; Forbidden says that a role is missing."""

    def __init__(self, environment: Environment, access_token: str, *, deadline: float) -> None:
        self._environment = environment
        self._access_token = access_token
        self._transport = Transport(environment.api_url, deadline=deadline, largest_body=LARGEST_PAGE)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def read_user(self) -> str | None:
        """Read one user, whichever comes first; its id, or None where the role shows none."""
        users = find_part(self._read("users", query={"limit": "1"}), "_embedded", "users")
        return read_id(users[0].get("id")) if isinstance(users, list) and users and isinstance(users[0], dict) else None

    def read_devices(self, user_id: str) -> None:
        """Read the devices of a user."""
        self._read("users", user_id, "devices")

    def read_inventory(self) -> None:
        """Read one token of the inventory."""
        self._read("oathTokens", query={"limit": "1"})

    def read_policies(self) -> None:
        """Read the device authentication policies."""
        self._read("deviceAuthenticationPolicies")

    def find_roles(self, permission: str) -> list[str]:
        """Find the built-in roles with a permission whose id has this word in it, by their names; none where PingOne
        does not tell.
        https://developer.pingidentity.com/pingone-api/platform/roles/predefined-roles/read-all-roles.html"""
        try:
            roles = find_part(self._fetch(f"{self._environment.api_url}/roles"), "_embedded", "roles")
        except PingOneError:
            return []
        found = [role for role in roles if isinstance(role, dict)] if isinstance(roles, list) else []
        names = [read_text(role.get("name")) for role in found if _has_permission(role, permission)]
        return sorted(name for name in names if name)

    def _read(self, *segments: str, query: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        return self._fetch(build_url(self._environment, *segments, query=query))

    def _fetch(self, url: str) -> Mapping[str, Any]:
        """Read what lies at this address: a JSON object."""
        request = build_read_request(url, session_id="oathbulk-doctor", transaction_id=f"oathbulk-{uuid4().hex[:8]}")
        envelope = open_envelope(*self._transport.exchange(add_access_token(request, self._access_token)))
        status = envelope.answer.status or 0
        if not 200 <= status < 300 or envelope.fields is None:
            raise choose_error(envelope)
        return envelope.fields


def _has_permission(role: Mapping[str, Any], word: str) -> bool:
    permissions = role.get("permissions")
    ids = [find_part(each, "id") for each in permissions] if isinstance(permissions, list) else []
    return any(isinstance(each, str) and word.lower() in each.lower() for each in ids)
