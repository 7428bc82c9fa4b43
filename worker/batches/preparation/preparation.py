"""Prepares batches, one part of the work after the other: people are looked up, the inventory is read, tokens are
imported. Each part is written down before the next, so that it may end at any moment."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from worker.batches.preparation.failures import WAIT_AFTER_FAILURE, Failures, Silence
from worker.batches.preparation.obstacles import Obstacle
from worker.batches.preparation.people import People
from worker.batches.preparation.token_work import TokenWork
from worker.batches.preparation.turns import Turn, TurnLost, Turns
from worker.batches.upkeep import Upkeep
from worker.clocks.boot_clock import boot_time
from worker.config.environment import Environment, Environments
from worker.config.settings import ConfigError
from worker.pace.errors import SlotTooFar
from worker.pingone.client import Call
from worker.pingone.clients import Clients
from worker.pingone.errors import Forbidden, NotActedOn, PingOneError, Rejected

# Seconds that a preparation goes on before another batch has its turn.
TURN = 15.0


class Preparation:
    """Prepares the batches of all environments; thread-safe. `wait` waits so many seconds, unless the process ends."""

    def __init__(
        self,
        environments: Environments,
        clients: Clients,
        turns: Turns,
        people: People,
        tokens: TokenWork,
        failures: Failures,
        upkeep: Upkeep,
        wait: Callable[[float], object],
        *,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._environments = environments
        self._clients = clients
        self._turns = turns
        self._people = people
        self._tokens = tokens
        self._failures = failures
        self._upkeep = upkeep
        self._wait = wait
        self._is_stopping = is_stopping

    def run(self) -> bool:
        """Prepare the batch that has waited longest, for one turn. False: no batch has anything to prepare. Raises what
        failed on our side, after pausing the batch."""
        turn = self._turns.begin()
        if turn is None:
            return False
        wait = WAIT_AFTER_FAILURE
        try:
            wait = self._prepare(turn)
        except Exception as failure:
            self._failures.handle_own(turn.batch_id, failure)
            raise
        finally:
            self._turns.end(turn.batch_id, wait)
        return True

    def _prepare(self, turn: Turn) -> float:
        """Do parts of the work for one turn. Returns for how many seconds nothing is to be done for this batch."""
        environment = self._find_environment(turn)
        if environment is None:
            # The dispatcher finds this out as well, and pauses the batch or ends this process.
            return WAIT_AFTER_FAILURE

        def permit() -> None:
            if self._is_stopping():
                raise TurnLost
            self._turns.check(turn.batch_id)

        call = Call(f"oathbulk-batch-{turn.batch_id}", f"oathbulk-preparation-{turn.batch_id}", permit=permit)
        silence = Silence(turn, self._upkeep, boot_time)
        people, tokens = _Part("people", environment), _Part("tokens", environment.as_importer())
        presence = _Part("presence", environment)
        ends_at = boot_time() + TURN
        with suppress(TurnLost):
            while boot_time() < ends_at or silence.is_to_be_settled:
                permit()
                calls = silence.calls
                is_busy = self._do(turn, people, partial(self._look_up, turn, environment, call), call, silence)
                advance = partial(self._tokens.advance, turn, tokens.environment, call, is_busy=is_busy)
                is_left = self._do(turn, tokens, partial(advance, make_read=silence.listen), call, silence) or is_busy
                if silence.is_in_doubt and silence.calls == calls:
                    # A job whose answer got lost is not asked about for minutes.
                    self._do(turn, presence, partial(self._ask_anything, environment, call), call, silence)
                if not is_left:
                    if not silence.is_to_be_settled:
                        break
                    self._wait(WAIT_AFTER_FAILURE)
        return max(people.resumes_at, tokens.resumes_at, boot_time()) - boot_time()

    def _do(self, turn: Turn, part: _Part, do: Callable[[], bool], call: Call, silence: Silence) -> bool:
        """Do a request's worth of a part, unless it has to wait after a failure: the other goes on meanwhile. False:
        nothing of it is left to do now. Whether PingOne answers is noted by `silence`."""
        if boot_time() < part.resumes_at:
            return False
        requests = call.requests
        try:
            is_left = do()
        except (Obstacle, PingOneError, SlotTooFar) as failure:
            silence.note_failure(failure)
            wait = self._failures.handle(turn.batch_id, part.name, part.environment, failure)
            part.resumes_at = boot_time() + wait
            # The other part must do nothing more for a batch that was paused for this.
            self._turns.check(turn.batch_id)
            return False
        self._failures.forget(turn.batch_id, part.name)
        if call.requests > requests:
            silence.note_answer()
        return is_left

    def _look_up(self, turn: Turn, environment: Environment, call: Call) -> bool:
        """Look up a request's worth of people. False: everybody is known."""
        reads = self._clients.reads(environment)
        try:
            found = self._people.look_up(turn, lambda attribute, names: reads.find_users(attribute, names, call=call))
        except Forbidden as failure:
            raise Obstacle("users") from failure
        return found > 0

    def _ask_anything(self, environment: Environment, call: Call) -> bool:
        """Read something small: whatever PingOne answers, it is there."""
        with suppress(NotActedOn, Rejected):
            self._clients.reads(environment).read_mfa_settings(call=call)
        return False

    def _find_environment(self, turn: Turn) -> Environment | None:
        """The environment that a batch was loaded for; None if it is not configured so here: in another tenant, nothing
        may be created for it."""
        try:
            environment = self._environments.get(turn.environment)
        except ConfigError:
            return None
        return environment if environment.environment_id == turn.environment_id else None


@dataclass(slots=True)
class _Part:
    """A part of the work on a batch: the environment with the application that does it, and until when, in `boot_time`
    seconds, it waits after a failure."""

    name: str
    environment: Environment
    resumes_at: float = 0.0
