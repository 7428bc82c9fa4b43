"""One running simulator: the state that all calls share, and what a call needs before it is done: an access token, and
room within the rate limit of its group.

https://developer.pingidentity.com/pingone-api (token endpoint, client credentials; rate limits)
"""

import base64
import binascii
import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import get_args
from urllib.parse import parse_qsl, unquote_plus

from worker.simulator.calls import Answer, Call, Group, refusal, success
from worker.simulator.world import Settings, World, WorldSeed, add_to_world

# Seconds for which an access token is valid.
ACCESS_TOKEN_LIFE = 3600
# Seconds that a client is told to wait while the rate is 0.
UNTIL_NEXT_TRY = 1.0


class AccessTokens:
    """The clients that may ask for access tokens, with their secrets, and the tokens that were issued. `clock` gives
    monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.clients: dict[str, str] = {}
        self.expires_at: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<AccessTokens: {len(self.clients)} clients, {len(self.expires_at)} access tokens>"

    def answer_request(self, call: Call) -> Answer:
        """Answer a request to the token endpoint."""
        form = dict(parse_qsl(call.body.decode("utf-8", "replace")))
        if form.get("grant_type") != "client_credentials":
            return _oauth_error(400, "unsupported_grant_type", "Only client_credentials is supported")
        if not self.authenticates(call, form):
            return _oauth_error(401, "invalid_client", "Unknown client, or wrong client authentication")
        return success({"access_token": self._issue(), "token_type": "Bearer", "expires_in": ACCESS_TOKEN_LIFE})

    def authenticates(self, call: Call, form: Mapping[str, str]) -> bool:
        """Whether the client is who it says, by its secret."""
        client_id, client_secret = _read_credentials(call.header(b"authorization"), form)
        expected = self.clients.get(client_id)
        return expected is not None and secrets.compare_digest(expected.encode(), client_secret.encode())

    def admits(self, call: Call) -> bool:
        """Whether a call carries an access token that is still valid."""
        scheme, _, access_token = (call.header(b"authorization") or "").partition(" ")
        expires_at = self.expires_at.get(access_token.strip())
        return scheme.lower() == "bearer" and expires_at is not None and self._clock() < expires_at

    def _issue(self) -> str:
        """Make an access token, and forget those that have expired."""
        now = self._clock()
        self.expires_at = {token: until for token, until in self.expires_at.items() if until > now}
        access_token = secrets.token_urlsafe(32)
        self.expires_at[access_token] = now + ACCESS_TOKEN_LIFE
        return access_token


def _read_credentials(authorization: str | None, form: Mapping[str, str]) -> tuple[str, str]:
    """The client id and the client secret of a request; empty if it has none."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    client_id, _, client_secret = decoded.partition(":")
    # RFC 6749 section 2.3.1: both are form-encoded before they are joined.
    return unquote_plus(client_id), unquote_plus(client_secret)


def _oauth_error(status: int, error: str, description: str) -> Answer:
    """An error in the form of RFC 6749 section 5.2."""
    return success({"error": error, "error_description": description}, status)


class TokenBucket:
    """The rate limit of a group: a token bucket that fills at `rate` a second; None is unlimited."""

    def __init__(self, settings: Settings, group: Group) -> None:
        self.rate = settings.rate if group == "mfa" else settings.group_rates.get(group)
        self._burst = float(settings.burst)
        self._left = self._burst
        self._filled_at = -math.inf

    def take(self, now: float) -> float | None:
        """Count one request, at so many monotonic seconds: None if it is let through, else the seconds until the next
        one would be."""
        if self.rate is None:
            return None
        if not self.rate:
            return UNTIL_NEXT_TRY
        self._left = min(self._burst, self._left + (now - self._filled_at) * self.rate)
        self._filled_at = now
        # Sums of floats may fall short of 1 by a rounding error.
        if self._left < 1 - 1e-9:
            return (1 - self._left) / self.rate
        self._left -= 1
        return None


class Simulation:
    """The state that all calls share. Its methods may be called from any thread; a call holds `lock` while it does its
    operation."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.lock = threading.RLock()
        self.settings = settings or Settings()
        self.begin()

    def begin(self) -> None:
        """Begin with a world without users, tokens and devices, and with the client that seeds have by default."""
        self.world = World()
        self.access = self.make_access()
        self.limits = self.make_limits()
        self.seed(WorldSeed())

    def unix_time(self) -> float:
        """The time of the simulated service's own clock."""
        return time.time()

    def make_access(self) -> AccessTokens:
        """Make the token endpoint, which knows no client yet."""
        return AccessTokens()

    def make_limits(self) -> Mapping[Group, TokenBucket]:
        """Make the rate limits of all groups."""
        groups: tuple[Group, ...] = get_args(Group)
        return {group: TokenBucket(self.settings, group) for group in groups}

    def seed(self, seed: WorldSeed) -> None:
        """Add the seed's client, users, tokens and devices. The settings that it names are for whoever makes the
        simulation."""
        with self.lock:
            self.access.clients[seed.client_id] = seed.client_secret
            add_to_world(self.world, seed, self.unix_time())

    def admit(self, call: Call, now: float) -> Answer | None:
        """Count a request, at so many monotonic seconds, against the limit of its group: None, or the refusal of one
        that is over it. Requests for access tokens do not count."""
        if call.operation == "access_token":
            return None
        with self.lock:
            wait = self.limits[call.group].take(now)
        if wait is None:
            return None
        answer = refusal(429, "REQUEST_LIMITED", "LIMIT_EXCEEDED")
        return answer.with_header("retry-after", str(max(1, math.ceil(wait))))
