"""The token endpoint: access tokens for client credentials, which expire and can be revoked.

https://developer.pingidentity.com/pingone-api (token endpoint, client credentials)
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from worker.simulator.answers import Answer, success
from worker.simulator.assertions import Assertions
from worker.simulator.settings import Settings


class AccessTokens:
    """The clients that may ask for access tokens, with their secrets and public keys (JWKS), and the tokens that were
    issued. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.clients: dict[str, str] = {}
        self.keys: dict[str, dict[str, Any]] = {}
        self._assertions = Assertions(self.clients, self.keys)
        self._expires_at: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<AccessTokens: {len(self.clients)} clients, {len(self._expires_at)} access tokens>"

    def answer_request(self, authorization: str | None, body: bytes, settings: Settings, endpoint: str = "") -> Answer:
        """Answer a request to the token endpoint that has this Authorization header and form. `endpoint` is the URL
        that it came to, for which a client assertion must be."""
        form = dict(parse_qsl(body.decode("utf-8", "replace")))
        if form.get("grant_type") != "client_credentials":
            return _oauth_error(400, "unsupported_grant_type", "Only client_credentials is supported")
        method = self._authenticate(authorization, form, endpoint)
        if method is None or settings.client_auth not in ("any", method):
            return _oauth_error(401, "invalid_client", "Unknown client, or wrong client authentication")
        return success(
            {
                "access_token": self._issue(settings.access_token_life),
                "token_type": "Bearer",
                "expires_in": int(settings.access_token_life),
            }
        )

    def _authenticate(self, authorization: str | None, form: dict[str, str], endpoint: str) -> str | None:
        """Find in which way the client is who it says; None if it is not."""
        if "client_assertion" in form:
            return self._assertions.check(form, endpoint)
        method, client_id, client_secret = _read_credentials(authorization, form)
        expected = self.clients.get(client_id)
        is_right = expected is not None and secrets.compare_digest(expected.encode(), client_secret.encode())
        return method if is_right else None

    def admits(self, authorization: str | None) -> bool:
        """Whether this Authorization header carries an access token that is still valid."""
        scheme, _, access_token = (authorization or "").partition(" ")
        expires_at = self._expires_at.get(access_token.strip())
        return scheme.lower() == "bearer" and expires_at is not None and self._clock() < expires_at

    def revoke_all(self) -> int:
        """Make every access token invalid at once; how many there were."""
        revoked = len(self._expires_at)
        self._expires_at.clear()
        return revoked

    def _issue(self, life: float) -> str:
        """Make an access token that is valid for `life` seconds, and forget those that have expired."""
        now = self._clock()
        self._expires_at = {token: until for token, until in self._expires_at.items() if until > now}
        access_token = secrets.token_urlsafe(32)
        self._expires_at[access_token] = now + life
        return access_token


def _read_credentials(authorization: str | None, form: dict[str, str]) -> tuple[str, str, str]:
    """How a request authenticates (`basic` or `post`), its client id and its client secret; empty if it has none."""
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
    """An error in the form of RFC 6749 section 5.2."""
    body = json.dumps({"error": error, "error_description": description}).encode()
    return Answer(status, body, code=error)
