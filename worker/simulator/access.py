"""Access tokens by client credentials, which expire and can be revoked.

https://developer.pingidentity.com/pingone-api (token endpoint, client credentials)
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote_plus

from worker.simulator.answers import Answer, success
from worker.simulator.settings import Settings


class Access:
    """Who may come in. `clock` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.clients: dict[str, str] = {}
        self._expires_at: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Access: {len(self.clients)} clients, {len(self._expires_at)} access tokens>"

    def answer(self, authorization: str | None, body: bytes, settings: Settings) -> Answer:
        """The answer of the token endpoint to a request with this Authorization header and form."""
        form = dict(parse_qsl(body.decode("utf-8", "replace")))
        if form.get("grant_type") != "client_credentials":
            return _oauth_error(400, "unsupported_grant_type", "Only client_credentials is supported")
        way, client_id, client_secret = _credentials(authorization, form)
        expected = self.clients.get(client_id)
        is_right = expected is not None and secrets.compare_digest(expected.encode(), client_secret.encode())
        if not is_right or settings.client_auth not in ("any", way):
            return _oauth_error(401, "invalid_client", "Unknown client, or wrong client authentication")
        return success(
            {
                "access_token": self._issue(settings.access_token_life),
                "token_type": "Bearer",
                "expires_in": int(settings.access_token_life),
            }
        )

    def admits(self, authorization: str | None) -> bool:
        """Whether this Authorization header carries an access token that still holds."""
        scheme, _, access_token = (authorization or "").partition(" ")
        expires_at = self._expires_at.get(access_token.strip())
        return scheme.lower() == "bearer" and expires_at is not None and self._clock() < expires_at

    def revoke_all(self) -> int:
        revoked = len(self._expires_at)
        self._expires_at.clear()
        return revoked

    def _issue(self, life: float) -> str:
        now = self._clock()
        self._expires_at = {token: until for token, until in self._expires_at.items() if until > now}
        access_token = secrets.token_urlsafe(32)
        self._expires_at[access_token] = now + life
        return access_token


def _credentials(authorization: str | None, form: dict[str, str]) -> tuple[str, str, str]:
    """The way (`basic` or `post`), client id and client secret of a request; empty where it names none."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return "post", form.get("client_id", ""), form.get("client_secret", "")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "basic", "", ""
    client_id, _, client_secret = decoded.partition(":")
    # RFC 6749 section 2.3.1: both are form-encoded before they are joined.
    return "basic", unquote_plus(client_id), unquote_plus(client_secret)


def _oauth_error(status: int, error: str, description: str) -> Answer:
    body = json.dumps({"error": error, "error_description": description}).encode()
    return Answer(status, body, code=error)
