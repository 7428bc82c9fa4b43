"""Imports and revokes many tokens at a time: starts the jobs, and asks how far they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from worker.config.environment import Environment
from worker.pace.rate_groups import RateGroup
from worker.pingone import import_jobs
from worker.pingone.client import Call, Client
from worker.pingone.import_jobs import ImportJob, NewToken
from worker.pingone.wire import build_read_request


class InventoryJobs:
    """Jobs on the inventory of one environment, for one thread; `client_of` gives the thread's client for a rate group.

    Every call may raise any PingOneError, and SlotTooFar. After a 429 it waits as PingOne asks, up to
    `Tuning.longest_hold` and a few seconds. A job is never started again here after OutcomeUnknown: look up first
    whether its tokens are there. A ValueError says that there is no token, one twice, or an empty id; then nothing was
    sent. A slot in hand is one of RateGroup.INVENTORY."""

    def __init__(self, environment: Environment, client_of: Callable[[RateGroup], Client]) -> None:
        self._environment = environment
        self._client_of = client_of

    def start_import(self, tokens: Sequence[NewToken], *, call: Call) -> str:
        """Start a job that imports these tokens, and return its id. Raises TooManyTokens: send half of them;
        BadToken: send the others; and AlreadyImported."""
        request = import_jobs.build_import_request(
            self._environment, tokens, session_id=call.session_id, transaction_id=call.transaction_id
        )
        parse = partial(import_jobs.parse_started_job, count=len(tokens))
        return self._client_of(RateGroup.INVENTORY).perform(request, parse, call)

    def start_revocation(self, token_ids: Sequence[str], *, call: Call) -> str:
        """Start a job that revokes the tokens with these ids, none of which may be paired, and return its id. Raises
        TooManyTokens and BadToken, as `start_import` does."""
        request = import_jobs.build_revocation_request(
            self._environment, token_ids, session_id=call.session_id, transaction_id=call.transaction_id
        )
        parse = partial(import_jobs.parse_started_job, count=len(token_ids))
        return self._client_of(RateGroup.INVENTORY).perform(request, parse, call)

    def read_job(self, job_id: str, *, call: Call) -> ImportJob:
        """Ask how far a job is. PingOne cleans up jobs that have ended, so keep the result when it is first seen;
        NotFound says that the job is gone, or that it was started moments ago and is not seen everywhere yet."""
        url = import_jobs.build_job_url(self._environment, job_id)
        request = build_read_request(url, session_id=call.session_id, transaction_id=call.transaction_id)
        return self._client_of(RateGroup.INVENTORY).perform(
            request, partial(import_jobs.parse_job, job_id=job_id), call
        )
