"""Access to the desk: who may enter and under which name, by a link that works once or through a proxy that names the
person; a check against requests from other sites; and headers that restrict what a page may do."""

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TypeAlias
from urllib.parse import parse_qsl

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Maximum characters of a person's name, for which the audit has room.
LONGEST_NAME = 200
# Bytes of randomness in a link and in a session.
_SECRET_BYTES = 32

Network = IPv4Network | IPv6Network

# Headers of every answer. A page loads nothing from elsewhere, runs only the desk's own files, and cannot be framed by
# another page. See https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Content-Security-Policy
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # With `no-referrer`, browsers would also omit a form's origin.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Maximum bytes of a URL's query.
LONGEST_QUERY = 8192
# The field that proves that a form came from a page of this desk.
FORM_KEY = "form_key"


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person who views a page: the name for the audit, and the id of the session."""

    name: str
    session: str


class LinkLogin:
    """Admits anybody who has the link, which works once: its first use starts a session with a cookie in that browser.
    The visitor counts as the person who started the desk. `on_new_link` gets the path of each new link."""

    how_to_enter = (
        "The terminal that runs `oathbulk desk` shows a link that opens the desk. A link works once; then the "
        "terminal shows the next one."
    )

    def __init__(self, name: str, cookie: str, on_new_link: Callable[[str], None]) -> None:
        self.cookie = cookie
        self._name = name
        self._on_new_link = on_new_link
        self._sessions: set[str] = set()
        # Several threads answer requests, and two simultaneous requests must not both use the link.
        self._entering = threading.Lock()
        self._make_link()

    def enter(self, key: str) -> str | None:
        """Use up the link, and return a new session; None if this is not the link's key."""
        with self._entering:
            if not hmac.compare_digest(key.encode(), self._key.encode()):
                return None
            self._make_link()
        session = secrets.token_urlsafe(_SECRET_BYTES)
        self._sessions.add(session)
        return session

    def recognize(self, request: Request) -> Visitor | None:
        """Find out who makes this request; None if that person may not enter."""
        session = request.cookies.get(self.cookie)
        return Visitor(self._name, session) if session in self._sessions else None

    def _make_link(self) -> None:
        self._key = secrets.token_urlsafe(_SECRET_BYTES)
        self._on_new_link(f"/enter?key={self._key}")


class ProxyLogin:
    """Admits the person whom a proxy names in a header. The header counts only if the request comes from an address in
    one of `networks`, since anybody can send such a header."""

    def __init__(self, header: str, networks: Sequence[Network]) -> None:
        self.how_to_enter = (
            f"This desk is open to people whom its proxy names in the header {header}. Use the proxy's address."
        )
        self._header = header
        self._networks = networks

    def recognize(self, request: Request) -> Visitor | None:
        names = request.headers.getlist(self._header)
        # A second header of that name may come from the visitor, if the proxy passes it on.
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


# Finds out who makes a request, and explains how to enter.
Login: TypeAlias = LinkLogin | ProxyLogin


def _read_name(header: str) -> str:
    """Read a person's name, which proxies send as UTF-8; empty if it is not. Starlette decodes headers as Latin-1."""
    try:
        return header.encode("latin-1").decode("utf-8").strip()
    except UnicodeDecodeError:
        return ""


class Guard:
    """Answers only requests for one of `hosts`, and adds HEADERS to each answer. Another host name may belong to a
    stranger's site that resolves to this address, so that its scripts could read the desk's pages (DNS rebinding)."""

    # Not Starlette's TrustedHostMiddleware: it compares names without their ports, so it would accept the address of
    # another program on this machine; and its refusal does not say what is wrong.

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._choose(scope)(scope, receive, send_with_headers)

    def _choose(self, scope: Scope) -> ASGIApp:
        if Request(scope).headers.get("host", "").lower() not in self._hosts:
            return _misdirected
        # PostgreSQL would reject a NUL, and SQLite a very long LIKE pattern, with an error that looks like an outage.
        is_unfit = b"%00" in scope["query_string"] or len(scope["query_string"]) > LONGEST_QUERY
        return _unfit if is_unfit else self._app


_unfit = PlainTextResponse("The address contains a NUL, or is too long.\n", status_code=400)
_misdirected = PlainTextResponse("This desk does not answer to that name.\n", status_code=421)


class Forms:
    """Makes the key of each visitor's forms, and reads the forms that are submitted. `origins`: the origins of the
    desk's pages, as browsers write them."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = origins
        self._secret = secrets.token_bytes(32)

    def make_key(self, visitor: Visitor) -> str:
        """Make the key that this visitor's forms contain. No other site can read it."""
        return hmac.new(self._secret, visitor.session.encode(), hashlib.sha256).hexdigest()

    async def read(self, request: Request, visitor: Visitor) -> dict[str, str]:
        """Read a submitted form. Raises HTTPException if it does not come from a page of this desk."""
        if request.headers.get("origin") not in self._origins:
            raise HTTPException(403, "The form was sent by another site. Nothing was done.")
        fields = dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))
        if not hmac.compare_digest(fields.get(FORM_KEY, "").encode(), self.make_key(visitor).encode()):
            raise HTTPException(
                403,
                "This form was opened before the desk was restarted, or in another session. Nothing was done: reload"
                " its page, and try again.",
            )
        return fields
