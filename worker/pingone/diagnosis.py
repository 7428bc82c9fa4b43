"""Looks for faults in the connection to PingOne: the worker application's roles, our clock's distance from PingOne's,
proxy and certificates. None of its requests waits for a slot.
https://docs.pingidentity.com/pingone/directory/p1_roles.html"""

import socket
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from ssl import cert_time_to_seconds
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from worker.config.environment import Environment
from worker.pingone.errors import Answer, NotDelivered, OutcomeUnknown, PingOneError
from worker.pingone.transport import HTTP_ERRORS, LARGEST_PAGE, Transport, find_proxy, open_http
from worker.pingone.wire import (
    Request,
    authorize,
    build_url,
    choose_error,
    find_part,
    open_envelope,
    read_id,
    read_text,
)


class RoleReads:
    """A handful of reads with one access token, outside any pace. Each ends within `deadline` seconds. Each may raise
    any PingOneError; Forbidden means that a role is missing."""

    def __init__(self, environment: Environment, access_token: str, *, deadline: float) -> None:
        self._environment = environment
        self._access_token = access_token
        self._transport = Transport(environment.api_url, deadline=deadline, largest_body=LARGEST_PAGE)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def read_user(self) -> str | None:
        """Read one user, whichever comes first, and return its id; None if the role shows no user."""
        users = find_part(self._read("users", query={"limit": "1"}), "_embedded", "users")
        return read_id(users[0].get("id")) if isinstance(users, list) and users and isinstance(users[0], dict) else None

    def read_devices(self, user_id: str) -> None:
        """Read the devices of a user."""
        self._read("users", user_id, "devices")

    def read_inventory(self) -> None:
        """Read one token from the inventory."""
        self._read("oathTokens", query={"limit": "1"})

    def read_policies(self) -> None:
        """Read the device authentication policies."""
        self._read("deviceAuthenticationPolicies")

    def find_roles(self, permission: str) -> list[str]:
        """Find the names of the built-in roles with a permission whose id contains this word; none if PingOne does not
        say. https://developer.pingidentity.com/pingone-api/platform/roles/predefined-roles/read-all-roles.html"""
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
        """Read the JSON object at this address."""
        request = authorize(Request("GET", url), self._access_token, "oathbulk-doctor", f"oathbulk-{uuid4().hex[:8]}")
        envelope = open_envelope(*self._transport.exchange(request))
        if not (envelope.is_success and envelope.is_object):
            raise choose_error(envelope)
        return envelope.fields


def _has_permission(role: Mapping[str, Any], word: str) -> bool:
    permissions = role.get("permissions")
    ids = [find_part(permission, "id") for permission in permissions] if isinstance(permissions, list) else []
    return any(isinstance(id_, str) and word.lower() in id_.lower() for id_ in ids)


def measure_drift(environment: Environment, *, deadline: float) -> float:
    """Ask PingOne for its time; return how many seconds our clock is ahead of it, to the second. Raises NotDelivered,
    OutcomeUnknown."""
    url = f"{environment.api_url}/environments/{environment.environment_id}"
    with closing(Transport(url, deadline=deadline)) as transport:
        # Sent without an access token: a refusal has the time as well.
        date = open_envelope(*transport.exchange(Request("GET", url))).date
    if date is None:
        raise OutcomeUnknown(Answer(message="the answer carries no date"))
    return (datetime.now(UTC) - date).total_seconds()


# Default ports of proxies.
_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


def read_certificate_end(url: str, *, deadline: float) -> datetime | None:
    """Read when this server's certificate expires, after verifying it; None for http://. Raises NotDelivered;
    ConfigError if the proxy or the certificate authorities cannot be used."""
    if urlsplit(url).scheme != "https":
        return None
    try:
        with open_http(url, httpx.Timeout(deadline)) as http, http.stream("GET", url) as response:
            certificate = response.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()
    except HTTP_ERRORS as error:
        raise NotDelivered(Answer(message=f"{type(error).__name__}: {error}")) from error
    return datetime.fromtimestamp(cert_time_to_seconds(certificate["notAfter"]), UTC)


def reach_proxy(url: str, *, deadline: float) -> str | None:
    """Connect to the proxy for requests to this URL; return its host and port, or None if there is none. Raises
    NotDelivered."""
    proxy = find_proxy(url)
    if proxy is None:
        return None
    parts = urlsplit(proxy)
    place = (parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 80))
    name = f"{place[0]}:{place[1]}"
    try:
        socket.create_connection(place, timeout=deadline).close()
    except OSError as error:
        raise NotDelivered(Answer(message=f"{name}: {error.strerror or error}")) from error
    return name
