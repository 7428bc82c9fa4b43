"""Refuses requests that are not meant for this desk, and tells browsers what a page of it may do."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from urllib.parse import parse_qsl

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.desk.doors import Visitor

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
