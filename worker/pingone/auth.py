"""Access tokens: one for all threads of a process, requested by one thread at a time.

https://developer.pingidentity.com/pingone-api/workflow-library/application-management/configure-a-non-interactive-worker-application/step-3-get-a-token.html
"""

from __future__ import annotations

import base64
import copy
import math
import re
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote_plus, urlencode
from uuid import uuid4

from worker.config.environment import Environment, find_algorithm, read_private_key
from worker.pingone.errors import CredentialsRefused, NotDelivered, OutcomeUnknown
from worker.pingone.transport import Transport
from worker.pingone.wire import Envelope, Request, open_envelope

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, OctKey, RSAKey

# How many seconds before its expiry an access token is renewed; at most a fifth of its lifetime.
RENEWED_BEFORE = 60.0

# Seconds between tries to renew a valid access token.
EARLY_RETRY = 5.0


@dataclass(frozen=True)
class _Grant:
    """An access token as the token endpoint granted it. `round` is the number of the request that brought it; times are
    by the clock of AccessTokens."""

    access_token: str = field(repr=False)
    round: int
    renew_at: float
    expires_at: float


class AccessTokens:
    """One environment's access token. Threads that ask for it during a request share that request's answer or failure.

    `get` and `renew` raise CredentialsRefused, or NotDelivered if the token endpoint is out of reach, busy or broken: a
    call without an access token is never sent. No outcome is unknown here, because asking twice does no harm. A token
    endpoint that asks for a pause is asked again after `longest_hold` seconds at the latest.

    `reread` returns the environment with the credentials that are configured now: after a refusal they are tried once
    if they differ, since a person may have changed them."""

    def __init__(
        self,
        environment: Environment,
        *,
        deadline: float = 20.0,
        longest_hold: float = 120.0,
        reread: Callable[[Environment], Environment] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environment = environment
        self._deadline = deadline
        self._longest_hold = longest_hold
        self._reread = reread
        self._clock = clock
        self._asking = threading.Lock()
        # Requests to the token endpoint that have ended.
        self._rounds = 0
        self._grant: _Grant | None = None
        self._failure: CredentialsRefused | NotDelivered | None = None
        self._failed_at = self._asks_again_at = -math.inf

    def get(self) -> str:
        """Return the access token; request it first if there is none, or if it expires soon."""
        grant, now, seen = self._grant, self._clock(), self._rounds
        if grant is not None and now < grant.renew_at:
            return grant.access_token
        if grant is not None and now < grant.expires_at:
            return self._renew_early(grant, now)
        with self._asking:
            return self._share_or_ask(seen)

    def renew(self, refused: str) -> str:
        """Return an access token in place of a refused one: the newer one if another thread has fetched it
        meanwhile."""
        seen = self._rounds
        with self._asking:
            grant = self._grant
            # The token endpoint may return the same access token twice; anything fetched after the refusal counts as
            # new.
            if grant is not None and grant.access_token == refused and grant.round <= seen:
                self._grant = None
            return self._share_or_ask(seen)

    def end_pause(self) -> None:
        """End the pause that the token endpoint asked for, because a person asked for that."""
        self._asks_again_at = -math.inf

    def _share_or_ask(self, seen: int) -> str:
        """Return the access token that another thread has fetched meanwhile, or raise its failure; otherwise ask the
        token endpoint.

        Call with the lock held; `seen` is the number of requests that were made before waiting for the lock."""
        grant, now = self._grant, self._clock()
        if grant is not None and now < grant.expires_at:
            return grant.access_token
        if self._failure is not None and now < self._asks_again_at:
            raise NotDelivered(self._failure.answer, self._asks_again_at - now)
        if self._failure is not None and self._rounds > seen:
            raise copy.copy(self._failure)
        return self._ask_and_keep()

    def _renew_early(self, grant: _Grant, now: float) -> str:
        """Let one thread ask for the next access token while the old one is still valid; no other thread waits for that
        thread, or fails with it."""
        if now < max(self._failed_at + EARLY_RETRY, self._asks_again_at):
            return grant.access_token
        if not self._asking.acquire(blocking=False):
            return grant.access_token
        try:
            return self._ask_and_keep() if self._grant is grant else self._share_or_ask(self._rounds)
        except NotDelivered:
            return grant.access_token
        finally:
            self._asking.release()

    def _ask_and_keep(self) -> str:
        """Ask the token endpoint once, and keep its access token or failure. The access token's life counts from before
        the request, to be on the safe side."""
        asked_at = self._clock()
        try:
            access_token, expires_in = self._request_with_newest()
        except (CredentialsRefused, NotDelivered) as error:
            self._failure, self._failed_at = copy.copy(error), self._clock()
            self._asks_again_at = self._failed_at + min(error.retry_after or 0, self._longest_hold)
            raise
        else:
            self._failure = None
            renew_at = asked_at + expires_in - min(RENEWED_BEFORE, expires_in / 5)
            self._grant = _Grant(access_token, self._rounds + 1, renew_at, asked_at + expires_in)
            return access_token
        finally:
            self._rounds += 1

    def _request_with_newest(self) -> tuple[str, float]:
        """Request an access token; if the credentials are refused and others are configured by now, request it with
        those. Returns the access token and its lifetime in seconds."""
        try:
            return self._request_access_token()
        except CredentialsRefused:
            newer = self._reread(self._environment) if self._reread else self._environment
            if newer == self._environment:
                raise
            self._environment = newer
            # Not at the top: few processes ever log this.
            import structlog

            structlog.get_logger().warning("credentials_changed", environment=newer.name)
            return self._request_access_token()

    def _request_access_token(self) -> tuple[str, float]:
        """Return an access token from the token endpoint, and its lifetime in seconds."""
        # This happens about once an hour: the other side would close a kept connection meanwhile.
        with closing(Transport(self._environment.token_url, deadline=self._deadline)) as transport:
            try:
                answer = transport.exchange(build_access_token_request(self._environment))
            except OutcomeUnknown as error:
                raise NotDelivered(error.answer) from error
        return parse_access_token(open_envelope(*answer))


# Lifetime in seconds if the token endpoint gives none: short, so that the access token is renewed often.
DEFAULT_EXPIRES_IN = 300.0


# Longest lifetime in seconds that is believed.
LONGEST_EXPIRES_IN = 86_400.0


# Everything that may follow "Bearer" (RFC 6750, section 2.1). Anything else could smuggle a header into our requests.
_B64TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def build_access_token_request(environment: Environment) -> Request:
    """Build the request for an access token.
    https://developer.pingidentity.com/pingone-api/workflow-library/application-management/configure-a-non-interactive-worker-application/step-3-get-a-token.html"""
    client_id = environment.client_id
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    form = {"grant_type": "client_credentials"}
    if environment.client_auth in ("secret_jwt", "private_key_jwt"):
        form |= {"client_id": client_id, "client_assertion_type": ASSERTION_TYPE}
        form |= {"client_assertion": sign_assertion(environment)}
    elif environment.client_auth == "basic":
        # Both are form-encoded before they are joined (RFC 6749, section 2.3.1): a secret may contain a colon or a %.
        pair = f"{quote_plus(client_id)}:{quote_plus(environment.secret)}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    else:
        form |= {"client_id": client_id, "client_secret": environment.secret}
    return Request("POST", environment.token_url, headers, urlencode(form).encode())


def parse_access_token(envelope: Envelope) -> tuple[str, float]:
    """Read the access token and its lifetime in seconds. Asking again does no harm, so anything but a refusal counts as
    not delivered. Every 4xx that does not ask us to try again later is a refusal: waiting does not fix a wrong path or
    method either."""
    fields = envelope.fields
    access_token = fields.get("access_token")
    if envelope.is_success and isinstance(access_token, str) and _B64TOKEN.fullmatch(access_token):
        return access_token, _parse_lifetime(fields.get("expires_in"))
    status = envelope.answer.status or 0
    if 400 <= status < 500 and status not in (408, 425, 429):
        raise CredentialsRefused(envelope.answer)
    answer = replace(envelope.answer, message=envelope.answer.message or "no access token in the answer")
    raise NotDelivered(answer, envelope.retry_after)


def _parse_lifetime(value: object) -> float:
    try:
        seconds = float(value) if isinstance(value, int | float | str) and value is not True else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    return min(seconds, LONGEST_EXPIRES_IN) if seconds > 0 else DEFAULT_EXPIRES_IN


# The kind of assertion, as RFC 7523 names it in section 2.2.
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Seconds for which an assertion is valid. It is used at once, but our clock may be behind; PingOne refuses more than an
# hour.
GOOD_FOR = 600


def sign_assertion(environment: Environment) -> str:
    """Sign an assertion with the private key or the client secret of this environment's worker application."""
    # Not at the top: the import takes time, and most commands never sign.
    from joserfc import jwt

    now = int(time.time())
    claims = {
        "iss": environment.client_id,
        "sub": environment.client_id,
        "aud": environment.token_url,
        "exp": now + GOOD_FOR,
        "iat": now,
        "jti": str(uuid4()),
    }
    header, key = _choose_key(environment)
    return jwt.encode(header, claims, key, algorithms=[header["alg"]])


def _choose_key(environment: Environment) -> tuple[dict[str, str], OctKey | RSAKey | ECKey]:
    """Choose the key that signs, and the header that names its algorithm."""
    from joserfc.jwk import OctKey

    if environment.private_key is not None and environment.client_auth == "private_key_jwt":
        key = read_private_key(environment.private_key.get_secret_value())
        key_id = environment.key_id or key.kid or key.thumbprint()
        return {"alg": find_algorithm(key), "typ": "JWT", "kid": key_id}, key
    with warnings.catch_warnings():
        # The length of the secret is PingOne's choice, so a warning that it is short is ignored.
        warnings.simplefilter("ignore")
        return {"alg": "HS256", "typ": "JWT"}, OctKey.import_key(environment.secret)
