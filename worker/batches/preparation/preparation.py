"""Prepares batches, one part of the work after the other: people are looked up, the inventory is read, tokens are
imported. Each part is written down before the next, so that it may end at any moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import Row

from models.reason import PauseReason
from worker.batches.preparation.not_permitted import CURES, NotPermitted
from worker.batches.preparation.people import People
from worker.batches.preparation.token_work import TokenWork
from worker.batches.preparation.turns import TurnLost, Turns
from worker.clocks.boot_clock import boot_time
from worker.config.environments import Environments
from worker.config.settings import ConfigError, Environment
from worker.pace.errors import SlotTooFar
from worker.pingone.client import Call
from worker.pingone.clients import Clients
from worker.pingone.errors import CredentialsRefused, Forbidden, PingOneError, ProtocolFault

log = structlog.get_logger()

# Seconds that a preparation goes on before another batch has its turn.
TURN = 15.0
# Seconds until it is tried again after PingOne did not answer, or had no slot.
WAIT_AFTER_FAILURE = 5.0


class Preparation:
    """Prepares the batches of all environments; thread-safe. `pause` pauses a batch for what only a person can mend."""

    def __init__(
        self,
        environments: Environments,
        clients: Clients,
        turns: Turns,
        people: People,
        tokens: TokenWork,
        *,
        pause: Callable[[int, PauseReason, str | None], object],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._environments = environments
        self._clients = clients
        self._turns = turns
        self._people = people
        self._tokens = tokens
        self._pause = pause
        self._is_stopping = is_stopping

    def run(self) -> bool:
        """Prepare the batch that has waited longest, for one turn. False: no batch has anything to prepare."""
        batch = self._turns.begin()
        if batch is None:
            return False
        wait = WAIT_AFTER_FAILURE
        try:
            wait = self._prepare(batch)
        finally:
            self._turns.end(batch.id, wait)
        return True

    def _prepare(self, batch: Row[*tuple[Any, ...]]) -> float:
        """Do parts of the work for one turn. Returns for how many seconds nothing is to be done for this batch."""
        environment = self._find_environment(batch)
        if environment is None:
            # The dispatcher finds this out as well, and pauses the batch or takes this process out of work.
            return WAIT_AFTER_FAILURE
        ends_at = boot_time() + TURN

        def permit() -> None:
            if self._is_stopping():
                raise TurnLost
            self._turns.check(batch.id)

        session_id, transaction_id = f"oathbulk-batch-{batch.id}", f"oathbulk-preparation-{batch.id}"
        call = Call(session_id, transaction_id, permit=permit)
        try:
            while boot_time() < ends_at:
                permit()
                if not self._do_next(batch, environment, call):
                    break
        except TurnLost:
            return 0.0
        except (NotPermitted, PingOneError, SlotTooFar) as failure:
            return self._handle(batch.id, failure)
        return 0.0

    def _find_environment(self, batch: Row[*tuple[Any, ...]]) -> Environment | None:
        """The environment that a batch was loaded for; None if it is not configured so here: in another tenant, nothing
        may be created for it."""
        try:
            environment = self._environments.get(batch.environment)
        except ConfigError:
            return None
        return environment if environment.environment_id == batch.environment_id else None

    def _do_next(self, batch: Row[*tuple[Any, ...]], environment: Environment, call: Call) -> bool:
        """Do the next parts: a request's worth of people, and something about tokens. False: nothing is left to do."""
        reads = self._clients.reads(environment)
        try:
            people = self._people.look_up(
                batch.id, lambda attribute, names: reads.find_users(attribute, names, call=call)
            )
        except Forbidden as failure:
            raise NotPermitted("users") from failure
        return self._tokens.advance(batch, environment.as_importer(), call, is_busy=people > 0) or people > 0

    def _handle(self, batch_id: int, failure: NotPermitted | PingOneError | SlotTooFar) -> float:
        """Pause the batch for what only a person can mend; for anything else, wait and try again. Returns how many
        seconds."""
        match failure:
            case NotPermitted():
                self._pause(batch_id, PauseReason.PERMISSIONS, CURES[failure.what])
            case CredentialsRefused():
                self._pause(batch_id, PauseReason.CREDENTIALS, None)
            case ProtocolFault():
                self._pause(batch_id, PauseReason.PROTOCOL, None)
            case SlotTooFar():
                return min(failure.wait, WAIT_AFTER_FAILURE)
            case _:
                log.warning("preparation_failed", batch_id=batch_id, error=str(failure), cure="it is tried again")
        return WAIT_AFTER_FAILURE
