"""All pages of the desk, put together: which address is which page, and what is said instead. Who may come in, and
under which name: by a link that works once, or through a proxy that says who it is; which requests another site may
have made; and what browsers are told that a page may do."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Protocol
from urllib.parse import parse_qsl

from redis import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.batches.commands import NotPossible
from worker.batches.finding import UnknownBatch
from worker.config.settings import ConfigError
from worker.database.schema import SchemaOutdated
from worker.desk import views
from worker.desk.views import COMMANDS, Desk, Order, Unfit, link_to
from worker.installation.installation import NothingLoaded
from worker.reports.token_history import UnknownToken

# Characters of a person's name; the audit has room for them.
LONGEST_NAME = 200
# Bytes of randomness in a link and in a session.
_SECRET_BYTES = 32

Network = IPv4Network | IPv6Network

# Of every answer. Nothing is fetched from elsewhere, nothing runs that is not a file of the desk, and no other page may
# frame it. See https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Content-Security-Policy
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # With `no-referrer` a browser would not say either from which site a form comes.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Bytes of what stands in an address behind the path.
LONGEST_QUERY = 8192
# The field of a form that shows that the form is one of our pages.
FORM_KEY = "form_key"


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


class Guard:
    """Answers requests for one of `hosts` only, and adds HEADERS to each answer. Another name may be that of a
    stranger's site that resolves to this address, so that its scripts could read our pages."""

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
        # PostgreSQL would refuse a NUL, and SQLite a text of such a length, as if they had failed.
        is_unfit = b"%00" in scope["query_string"] or len(scope["query_string"]) > LONGEST_QUERY
        return _unfit if is_unfit else self._app


_unfit = PlainTextResponse("The address has a NUL in it, or is too long.\n", status_code=400)
_misdirected = PlainTextResponse("This desk does not answer to that name.\n", status_code=421)


class Forms:
    """Makes the key of each visitor's forms, and reads the forms that come back. `origins`: where our pages come from,
    as browsers write it."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = origins
        self._secret = secrets.token_bytes(32)

    def make_key(self, visitor: Visitor) -> str:
        """Make the key that this visitor's forms carry: no other site can read it."""
        return hmac.new(self._secret, visitor.session.encode(), hashlib.sha256).hexdigest()

    async def read(self, request: Request, visitor: Visitor) -> dict[str, str]:
        """Read a form that was sent. Raises HTTPException if it is not one of our pages that sent it."""
        if request.headers.get("origin") not in self._origins:
            raise HTTPException(403, "The form was sent by another site. Nothing was done.")
        fields = dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))
        if not hmac.compare_digest(fields.get(FORM_KEY, "").encode(), self.make_key(visitor).encode()):
            raise HTTPException(
                403, "The form is from before the desk was started. Nothing was done: load its page again."
            )
        return fields


# Bytes of a form at most; ours have a few hundred.
MOST_BYTES = 16_384
# Answers a visitor's request.
View = Callable[[Desk, Visitor, Request], Response]

_VIEWS: dict[str, View] = {
    "/": views.show_shipments,
    "/batch": views.show_batch,
    "/batch/report": views.download_report,
    "/batch/left": views.download_left,
    "/token": views.show_token,
    "/search": views.show_search,
    "/audit": views.show_audit,
}


def make_app(desk: Desk, hosts: Collection[str]) -> Guard:
    """Make the application. `hosts`: the names, with their ports, that it answers to."""
    routes = [Route(path, _for_visitors(desk, view), methods=["GET"]) for path, view in _VIEWS.items()]
    if not desk.is_read_only:
        routes.append(Route("/batch/{command}", _for_visitors(desk, _show_form), methods=["GET"]))
        routes.append(Route("/batch/{command}", _make_taker(desk), methods=["POST"]))
    style = _read_template("style.css") + _read_template("desk.css")
    routes.append(_serve("/style.css", style, "text/css"))
    routes.append(_serve("/refresh.js", _read_template("refresh.js"), "text/javascript"))
    routes.append(_serve("/icon.svg", _read_template("icon.svg"), "image/svg+xml"))
    if isinstance(desk.door, LinkDoor):
        routes.append(Route("/enter", _make_entrance(desk, desk.door), methods=["GET"]))
    pages = Starlette(routes=routes, exception_handlers=_make_handlers(desk), max_body_size=MOST_BYTES)
    # Around all of it, and no middleware inside, so that the answer after a failure of ours has its headers too.
    return Guard(pages, hosts)


def _for_visitors(desk: Desk, view: View) -> Callable[[Request], Response]:
    """Make a page that only visitors see who may come in."""

    def answer(request: Request) -> Response:
        visitor = desk.door.recognise(request)
        return view(desk, visitor, request) if visitor else _refuse_stranger(desk)

    return answer


def _refuse_stranger(desk: Desk) -> Response:
    return desk.refuse(401, desk.door.how_to_enter)


def _show_form(
    desk: Desk, visitor: Visitor, request: Request, mistake: str | None = None, typed: Mapping[str, str] | None = None
) -> Response:
    """Show the page on which a command is confirmed. `mistake`: what has to be mended first in what was `typed`."""
    command = request.path_params["command"]
    if command not in COMMANDS:
        raise HTTPException(404, "There is no such page.")
    status = views.read_status(desk, request)
    fields = request.query_params if typed is None else typed
    return desk.render(
        "confirm.html", visitor, 422 if mistake else 200, command=command, status=status, typed=fields, mistake=mistake
    )


def _make_taker(desk: Desk) -> Callable[[Request], Any]:
    """Make what takes a form, does what it commands, and goes back to the batch."""

    async def take(request: Request) -> Response:
        visitor = desk.door.recognise(request)
        if visitor is None:
            return _refuse_stranger(desk)
        fields = await desk.forms.read(request, visitor)
        return await run_in_threadpool(_do, desk, visitor, request, fields)

    return take


def _do(desk: Desk, visitor: Visitor, request: Request, fields: dict[str, str]) -> Response:
    """Do what was confirmed, in the visitor's name."""
    command = COMMANDS.get(request.path_params["command"])
    if command is None:
        raise HTTPException(404, "There is no such page.")
    status = views.read_status(desk, request)
    try:
        desk.done[visitor.session, status.name] = command(Order(desk.installation, status, visitor.name, fields))
    except Unfit as error:
        return _show_form(desk, visitor, request, str(error), fields)
    return RedirectResponse(link_to("/batch", name=status.name), 303)


def _make_entrance(desk: Desk, door: LinkDoor) -> Callable[[Request], Response]:
    """Make the page that the link leads to."""

    def enter(request: Request) -> Response:
        # A program that only asks whether the page is there (HEAD) must not use the link up.
        session = door.enter(request.query_params.get("key", "")) if request.method == "GET" else None
        if session is None:
            return _refuse_stranger(desk)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(door.cookie, session, httponly=True, samesite="lax")
        return answer

    return enter


def _make_handlers(desk: Desk) -> dict[Any, Callable[[Request, Exception], Response]]:
    """Say in a sentence what went wrong, with the status code of such a failure."""

    def refuse_as(status_code: int, explain: Callable[[Exception], str]) -> Callable[[Request, Exception], Response]:
        return lambda request, error: desk.refuse(status_code, explain(error), desk.door.recognise(request))

    def refuse_http(request: Request, error: Any) -> Response:
        return desk.refuse(error.status_code, error.detail, desk.door.recognise(request))

    return {
        HTTPException: refuse_http,
        **dict.fromkeys((UnknownBatch, UnknownToken, NothingLoaded), refuse_as(404, str)),
        NotPossible: refuse_as(409, str),
        **dict.fromkeys((ConfigError, SchemaOutdated), refuse_as(503, str)),
        **dict.fromkeys((DBAPIError, RedisError), refuse_as(503, desk.explain_failure)),
        NoConnection: refuse_as(503, lambda _: "The desk has no connection free: load the page again in a moment."),
        # It is raised again afterwards, and so stands in the log.
        Exception: refuse_as(500, lambda _: "Something failed in the desk itself. What it was stands in its log."),
    }


def _serve(path: str, text: str, media_type: str) -> Route:
    """Serve a text that anybody may read."""
    return Route(path, lambda _: Response(text, media_type=media_type), methods=["GET"])


def _read_template(name: str) -> str:
    return files("worker.desk").joinpath("templates", name).read_text(encoding="utf-8")
