"""Who may come in, and under which name: by a link that works once, or through a proxy that says who it is."""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Protocol

from starlette.requests import Request

# Characters of a person's name; the audit has room for them.
LONGEST_NAME = 200
# Bytes of randomness in a link and in a session.
_SECRET_BYTES = 32

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks at a page: the name for the audit, and what tells one session from another."""

    name: str
    session: str


class Door(Protocol):
    """Tells who makes a request."""

    # What a person who may not come in is told to do.
    how_to_enter: str

    def recognise(self, request: Request) -> Visitor | None:
        """Who makes this request; None for somebody who may not come in."""


class LinkDoor:
    """Lets in who has the link, which works once: its first use begins a session, by a cookie of that browser. Who
    comes in is the person who started the desk. `on_new_link` gets the path of each new link."""

    how_to_enter = (
        "The terminal in which `oathbulk desk` runs shows a link that opens the desk. A link works once; after it was "
        "used, the next one stands there."
    )

    def __init__(self, name: str, cookie: str, on_new_link: Callable[[str], None]) -> None:
        self.cookie = cookie
        self._name = name
        self._on_new_link = on_new_link
        self._sessions: set[str] = set()
        # Requests are answered by several threads, and two that come at once must not both use the link.
        self._entering = threading.Lock()
        self._make_link()

    def enter(self, key: str) -> str | None:
        """Use the link up, and begin a session; None if this is not the key of the link."""
        with self._entering:
            if not hmac.compare_digest(key.encode(), self._key.encode()):
                return None
            self._make_link()
        session = secrets.token_urlsafe(_SECRET_BYTES)
        self._sessions.add(session)
        return session

    def recognise(self, request: Request) -> Visitor | None:
        session = request.cookies.get(self.cookie)
        return Visitor(self._name, session) if session in self._sessions else None

    def _make_link(self) -> None:
        self._key = secrets.token_urlsafe(_SECRET_BYTES)
        self._on_new_link(f"/enter?key={self._key}")


class ProxyDoor:
    """Lets in whom a proxy names in a header. The header counts only from an address in one of `networks`: anybody else
    could write it."""

    def __init__(self, header: str, networks: Sequence[Network]) -> None:
        self.how_to_enter = (
            f"This desk is open to whom its proxy names in the header {header}. Come in through the proxy."
        )
        self._header = header
        self._networks = networks

    def recognise(self, request: Request) -> Visitor | None:
        names = request.headers.getlist(self._header)
        # A second header of that name may be the visitor's own, which the proxy has let through.
        if len(names) != 1 or not self._is_trusted(request.client.host if request.client else ""):
            return None
        name = _read_name(names[0])
        is_fit = 0 < len(name) <= LONGEST_NAME and name.isprintable()
        return Visitor(name, name) if is_fit else None

    def _is_trusted(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def _read_name(header: str) -> str:
    """Read a person's name, which proxies write as UTF-8; empty if it is not. Starlette reads headers as Latin-1."""
    try:
        return header.encode("latin-1").decode("utf-8").strip()
    except UnicodeDecodeError:
        return ""
