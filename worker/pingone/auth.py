"""Access tokens: one for all threads of a process, asked for by one thread at a time.

https://developer.pingidentity.com/pingone-api/workflow-library/application-management/configure-a-non-interactive-worker-application/step-3-get-a-token.html
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.config.environment import Environment
from worker.pingone.errors import CredentialsRefused, NotDelivered, OutcomeUnknown
from worker.pingone.token_endpoint import build_access_token_request, parse_access_token
from worker.pingone.transport import Transport

# Seconds before its expiry at which an access token is renewed; but never more than a fifth of its life.
RENEWED_BEFORE = 60.0

# Seconds between tries to renew an access token that is still good.
EARLY_RETRY = 5.0


@dataclass(frozen=True)
class _Grant:
    """An access token as the token endpoint granted it. `round` is the number of the request that brought it; times are
    on the clock of AccessTokens."""

    access_token: str = field(repr=False)
    round: int
    renew_at: float
    expires_at: float


class AccessTokens:
    """One environment's access token. Threads that come while one of them asks share its answer, or its failure.

    `get` and `renew` raise CredentialsRefused, or NotDelivered if the token endpoint is out of reach, busy or broken: a
    call without an access token has not gone out. No outcome is unknown here, for asking twice does no harm. A token
    endpoint that asks for a pause is asked again after `longest_hold` seconds at the latest.

    `reread` returns the environment with the credentials that are configured now: after a refusal they are tried once,
    if they are others, since a person may have changed them."""

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
        """Return the access token, which is asked for first if there is none, or if it expires soon."""
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
            # The token endpoint may hand out the same access token twice; what was fetched after the refusal counts as
            # new.
            if grant is not None and grant.access_token == refused and grant.round <= seen:
                self._grant = None
            return self._share_or_ask(seen)

    def end_pause(self) -> None:
        """End the pause that the token endpoint asked for, because a person says so: it may be asked at once."""
        self._asks_again_at = -math.inf

    def _share_or_ask(self, seen: int) -> str:
        """Return what another thread has been told meanwhile, or raise its failure; otherwise ask the token endpoint.

        Call with the lock held; `seen` is the number of requests that were made before waiting for it."""
        grant, now = self._grant, self._clock()
        if grant is not None and now < grant.expires_at:
            return grant.access_token
        if self._failure is not None and now < self._asks_again_at:
            raise NotDelivered(self._failure.answer, self._asks_again_at - now)
        if self._failure is not None and self._rounds > seen:
            raise copy.copy(self._failure)
        return self._ask_and_keep()

    def _renew_early(self, grant: _Grant, now: float) -> str:
        """Let one thread ask for the next access token while the old one is still good; no other thread waits for it,
        or fails with it."""
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
        """Ask the token endpoint once, and keep its access token or its failure.

        The life of an access token is counted from before the request: rather too short than too long."""
        asked_at = self._clock()
        try:
            access_token, expires_in = self._request_with_newest()
        except (CredentialsRefused, NotDelivered) as error:
            self._failure, self._failed_at = copy.copy(error), self._clock()
            pause = getattr(error, "retry_after", None) or 0
            self._asks_again_at = self._failed_at + min(pause, self._longest_hold)
            raise
        else:
            self._failure = None
            renew_at = asked_at + expires_in - min(RENEWED_BEFORE, expires_in / 5)
            self._grant = _Grant(access_token, self._rounds + 1, renew_at, asked_at + expires_in)
            return access_token
        finally:
            self._rounds += 1

    def _request_with_newest(self) -> tuple[str, float]:
        """Return an access token and the seconds that it lives; if the credentials are refused, and others are
        configured by now, with those."""
        try:
            return self._request_access_token()
        except CredentialsRefused:
            newer = self._reread(self._environment) if self._reread else self._environment
            if newer == self._environment:
                raise
            self._environment = newer
            # Not at the top: few processes ever have this to say.
            import structlog

            structlog.get_logger().warning("credentials_changed", environment=newer.name)
            return self._request_access_token()

    def _request_access_token(self) -> tuple[str, float]:
        """Return an access token from the token endpoint, and the seconds that it lives."""
        # This happens once an hour or so: a connection that was kept for it would be closed by the other side
        # meanwhile.
        transport = Transport(self._environment.token_url, deadline=self._deadline)
        try:
            return parse_access_token(*transport.exchange(build_access_token_request(self._environment)))
        except OutcomeUnknown as error:
            raise NotDelivered(error.answer) from error
        finally:
            transport.close()
