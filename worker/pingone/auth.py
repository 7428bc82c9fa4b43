"""pingone: access tokens, one at a time for all threads of a process.

https://developer.pingidentity.com/pingone-api/workflow-library/application-management/configure-a-non-interactive-worker-application/step-3-get-a-token.html
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.config.settings import Environment
from worker.pingone.errors import CredentialsRefused, NotDelivered, OutcomeUnknown
from worker.pingone.transport import Transport
from worker.pingone.wire import access_token_request, parse_access_token

# Seconds before its expiry at which an access token is renewed; never more than a fifth of its life.
MARGIN = 60.0

# Seconds between tries to renew an access token that is still good.
EARLY_RETRY = 5.0


@dataclass(frozen=True)
class _Grant:
    """`round` is the number of the request that brought it; times are on the clock of AccessTokens."""

    access_token: str = field(repr=False)
    round: int
    renew_at: float
    expires_at: float


class AccessTokens:
    """One environment's access token. Threads that come while one of them asks share its answer, or its
    failure.

    Both methods raise CredentialsRefused, or NotDelivered if the token endpoint is out of reach, busy or
    broken: a call without an access token has not gone out. Nothing is ever unknown here, for asking twice
    does no harm. A token endpoint that asks for a pause is asked again after `longest_hold` seconds at the latest."""

    def __init__(
        self,
        environment: Environment,
        *,
        deadline: float = 20.0,
        longest_hold: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environment = environment
        self._deadline = deadline
        self._longest_hold = longest_hold
        self._clock = clock
        self._asking = threading.Lock()
        self._rounds = 0
        self._grant: _Grant | None = None
        self._failure: CredentialsRefused | NotDelivered | None = None
        self._failed_at = self._asks_again_at = -math.inf

    def get(self) -> str:
        grant, now, seen = self._grant, self._clock(), self._rounds
        if grant is not None and now < grant.renew_at:
            return grant.access_token
        if grant is not None and now < grant.expires_at:
            return self._renewed_early(grant, now)
        with self._asking:
            return self._settled(seen)

    def renew(self, refused: str) -> str:
        """An access token in place of a refused one: the newer one if another thread has fetched it
        meanwhile."""
        seen = self._rounds
        with self._asking:
            grant = self._grant
            # The token endpoint may hand out the same token twice; what was fetched after the refusal counts
            # as new.
            if grant is not None and grant.access_token == refused and grant.round <= seen:
                self._grant = None
            return self._settled(seen)

    def ask_again(self) -> None:
        """The token endpoint may be asked at once, whatever pause it asked for: a person says so."""
        self._asks_again_at = -math.inf

    def _settled(self, seen: int) -> str:
        """Call with the lock held; `seen` is the number of rounds before waiting for it."""
        grant, now = self._grant, self._clock()
        if grant is not None and now < grant.expires_at:
            return grant.access_token
        if self._failure is not None and now < self._asks_again_at:
            raise NotDelivered(self._failure.answer, self._asks_again_at - now)
        if self._failure is not None and self._rounds > seen:
            raise copy.copy(self._failure)
        return self._ask()

    def _renewed_early(self, grant: _Grant, now: float) -> str:
        """While the old token is good, one thread asks for the next, and no thread waits for it or fails with
        it."""
        if now < max(self._failed_at + EARLY_RETRY, self._asks_again_at):
            return grant.access_token
        if not self._asking.acquire(blocking=False):
            return grant.access_token
        try:
            return self._ask() if self._grant is grant else self._settled(self._rounds)
        except NotDelivered:
            return grant.access_token
        finally:
            self._asking.release()

    def _ask(self) -> str:
        """One request to the token endpoint. Its life is counted from before the request: rather too
        short."""
        asked_at = self._clock()
        try:
            access_token, expires_in = self._exchange()
        except (CredentialsRefused, NotDelivered) as error:
            self._failure, self._failed_at = copy.copy(error), self._clock()
            asked = getattr(error, "retry_after", None) or 0
            self._asks_again_at = self._failed_at + min(asked, self._longest_hold)
            raise
        else:
            self._failure = None
            renew_at = asked_at + expires_in - min(MARGIN, expires_in / 5)
            self._grant = _Grant(access_token, self._rounds + 1, renew_at, asked_at + expires_in)
            return access_token
        finally:
            self._rounds += 1

    def _exchange(self) -> tuple[str, float]:
        # Once an hour: connections kept until then would be closed on the other side.
        transport = Transport(deadline=self._deadline)
        try:
            return parse_access_token(*transport.exchange(access_token_request(self._environment)))
        except OutcomeUnknown as error:
            raise NotDelivered(error.answer) from error
        finally:
            transport.close()
