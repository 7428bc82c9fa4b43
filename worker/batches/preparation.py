"""Prepares batches: looks up people, reads the inventory, imports tokens. Each part is written down before the next
begins, so the work can stop at any moment.

One worker at a time prepares a batch, for some seconds: its turn is a lease on the batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog
from sqlalchemy import Connection, exists, or_, select, text, update

from models.batch import Batch
from models.encrypted import DecryptionError
from models.inventory_job import UNFINISHED, InventoryJob
from models.reason import OUTAGE_CURE, PauseReason
from models.record_indexes import LACKS_TOKEN, LACKS_USER
from worker.batches.imports import Tokens
from worker.batches.long_list import LEASE, Obstacle, Superseded, Turn, Turns, may_go
from worker.batches.people import People
from worker.batches.upkeep import Consequences, Upkeep, explain_decryption_failure
from worker.clocks import boot_time
from worker.config.environment import Environment, Environments
from worker.config.settings import ConfigError
from worker.database.engine import Database
from worker.database.errors import is_away
from worker.pace.search import SlotTooFar
from worker.pingone.client import Call
from worker.pingone.clients import Clients
from worker.pingone.errors import (
    CredentialsRefused,
    NotActedOn,
    NotDelivered,
    OutcomeUnknown,
    PingOneError,
    ProtocolFault,
    RateLimited,
    Rejected,
    TooLateToSend,
    Unauthorized,
)
from worker.rules.breaker import is_own_answer
from worker.rules.quota import read_quota

log = structlog.get_logger()

# Seconds for which one batch is prepared before another batch has its turn.
TURN = 15.0
# Seconds for which a reading of the inventory counts as current. If somebody else imported a token after that reading,
# and the answer to our import was lost, we would take the token for ours.
BELIEVED_FOR = 600.0
# Seconds before a preparation is tried again after PingOne did not answer, or no slot was available.
WAIT_AFTER_FAILURE = 5.0
# Number of calls in a row, in a batch's preparation, that may be refused or get no answer before the batch pauses.
MOST_REFUSALS = 5

_IMPORTER = (
    "PingOne refused the credentials of the application that imports. Check PINGONE_IMPORT_CLIENT_ID and"
    " PINGONE_IMPORT_CLIENT_SECRET, then resume."
)


class Preparation:
    """Prepares the batches of all environments; thread-safe."""

    def __init__(
        self,
        database: Database,
        environments: Environments,
        clients: Clients,
        turns: Turns,
        people: People,
        tokens: Tokens,
        failures: Failures,
        *,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._database = database
        self._environments = environments
        self._clients = clients
        self._turns = turns
        self._people = people
        self._tokens = tokens
        self._failures = failures
        self._is_stopping = is_stopping

    def prepare_next(self) -> bool:
        """Prepare the batch that has waited longest, for one turn. False: no batch needs preparation. Raises any
        failure on our side, after pausing the batch."""
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
        """Work on a batch for one turn. Returns the seconds until the batch may have something to do again."""
        environment = self._find_environment(turn)
        if environment is None:
            # The dispatcher also notices this, and pauses the batch or ends this process.
            return WAIT_AFTER_FAILURE

        def permit() -> None:
            if self._is_stopping():
                raise Superseded
            self._turns.check(turn.batch_id)

        call = Call(f"oathbulk-batch-{turn.batch_id}", f"oathbulk-preparation-{turn.batch_id}", permit=permit)
        people, tokens = _Part("people", environment), _Part("tokens", environment.as_importer())
        reads = self._clients.reads(environment)
        unknown = self._people.list_unknown(
            turn, lambda attribute, names: reads.find_users(attribute, names, call=call)
        )
        look_up = partial(self._do, turn, people, unknown.advance, call)
        ends_at, is_left = boot_time() + TURN, True
        with suppress(Superseded):
            while is_left and boot_time() < ends_at:
                permit()
                is_busy = look_up()
                advance = partial(self._advance_tokens, turn, tokens.environment, call, look_up, is_busy=is_busy)
                is_left = self._do(turn, tokens, advance, call) or is_busy
        return max(people.resumes_at, tokens.resumes_at, boot_time()) - boot_time()

    def _do(self, turn: Turn, part: _Part, do: Callable[[], bool], call: Call) -> bool:
        """Make one request of a part, unless the part has to wait after a failure; the other part continues meanwhile.
        False: the part has nothing to do now."""
        if boot_time() < part.resumes_at:
            return False
        requests = call.requests
        try:
            is_left = do()
        except (Obstacle, PingOneError, SlotTooFar) as failure:
            part.resumes_at = boot_time() + self._failures.handle(turn, part.name, part.environment, failure)
            # The other part must do nothing more for a batch that was paused because of this failure.
            self._turns.check(turn.batch_id)
            return False
        self._failures.forget(turn.batch_id, part.name)
        if call.requests > requests:
            self._failures.note_answer(turn)
        return is_left

    def _advance_tokens(
        self, turn: Turn, environment: Environment, call: Call, look_up: Callable[[], object], *, is_busy: bool
    ) -> bool:
        """Do the next step with tokens: follow an import, read the inventory, or start an import. False: nothing is
        left to do. `look_up` looks people up meanwhile; `is_busy`: there is other work, so this call does not wait."""
        if job := self._tokens.jobs.find_unfinished(turn.batch_id):
            self._tokens.follow(turn.batch_id, job, environment, call, is_busy=is_busy)
            return True
        was_read_lately, lacks = self._read_state(turn)
        if not lacks:
            return False
        if not was_read_lately:
            self._tokens.read_inventory(turn, environment, call, self._turns, look_up)
            return True
        if turn.may_import:
            return self._tokens.start_next(turn, environment, call, is_busy=is_busy)
        return self._tokens.give_up_all(turn) > 0

    def _read_state(self, turn: Turn) -> tuple[bool, bool]:
        """Whether the inventory was recently read to its end for this batch, and whether a record's token is still to
        be found or imported."""
        # Two conditions, since each has its own index.
        going = may_go(turn.batch_id, turn.first)
        lacks = [exists().where(*going, text(condition)) for condition in (LACKS_TOKEN, LACKS_USER)]
        with self._database.reading() as connection:
            was_read_lately = Batch.inventory_read_at > self._database.now(-BELIEVED_FOR)
            lately, has_some = connection.execute(
                select(was_read_lately, or_(*lacks)).where(Batch.id == turn.batch_id)
            ).one()
        return bool(lately), has_some

    def _find_environment(self, turn: Turn) -> Environment | None:
        """Find the environment that a batch was loaded for; None if its name means another tenant here, where nothing
        may be created for it."""
        try:
            environment = self._environments.get(turn.environment)
        except ConfigError:
            return None
        return environment if environment.environment_id == turn.environment_id else None


@dataclass(slots=True)
class _Part:
    """Part of the work on a batch: the environment, with the application that does the work, and when the part
    continues after a failure, in `boot_time` seconds."""

    name: str
    environment: Environment
    resumes_at: float = 0.0


class Failures:
    """Handles the failures of preparations; thread-safe. `longest_hold`: seconds, at most, that the fleet waits when
    PingOne asks it to."""

    def __init__(self, consequences: Consequences, upkeep: Upkeep, *, longest_hold: float) -> None:
        self._consequences = consequences
        self._upkeep = upkeep
        self._longest_hold = longest_hold
        # Refusals in a row that this process has seen, by batch, part and kind.
        self._refusals = Counter[tuple[int, str, type[PingOneError]]]()
        # By batch: how many calls in a row PingOne did not answer, and the newest attempt before the first of them.
        self._silences: dict[int, tuple[int, int]] = {}

    def forget(self, batch_id: int, part: str) -> None:
        """Start counting refusals from zero: this part of the batch's preparation went well."""
        for key in [key for key in list(self._refusals) if key[:2] == (batch_id, part)]:
            self._refusals.pop(key, None)

    def note_answer(self, turn: Turn) -> None:
        """Record that PingOne answered a call, whatever the answer. If the batch was paused for an outage, the outage
        is over."""
        self._silences.pop(turn.batch_id, None)
        if turn.is_probing:
            self._upkeep.end_outage(turn.batch_id)

    def handle(
        self, turn: Turn, part: str, environment: Environment, failure: Obstacle | PingOneError | SlotTooFar
    ) -> float:
        """Pause the batch for a failure that only a person can fix, or for an outage; or pause the whole license for a
        used-up quota. `environment`: the one with the application that made the call. Returns for how many seconds to
        try nothing."""
        batch_id, is_answer = turn.batch_id, _is_answer(failure)
        if is_answer:
            self.note_answer(turn)
        match failure:
            case SlotTooFar():
                return min(failure.wait, WAIT_AFTER_FAILURE)
            case RateLimited() if quota := read_quota(failure, self._longest_hold):
                self._consequences.pause_for_quota(environment, quota)
            case Obstacle():
                self._consequences.pause(batch_id, failure.reason, failure.cure)
            case CredentialsRefused() if environment.is_importer:
                # This is no reason to end the process: its fitness depends on the credentials of the other application.
                self._pause_for_credentials(batch_id, environment)
            case CredentialsRefused():
                self._consequences.stop_process_or_batch(batch_id, PauseReason.CREDENTIALS)
            case ProtocolFault():
                self._consequences.pause(batch_id, PauseReason.PROTOCOL)
            case NotActedOn() | Rejected() if not isinstance(failure, RateLimited):
                self._count_refusal(batch_id, part, environment, failure)
            case OutcomeUnknown() if failure.is_over:
                # This answer comes from PingOne itself: it is not an outage, and will not go away by itself.
                self._count_refusal(batch_id, part, environment, failure)
            case NotDelivered() | OutcomeUnknown() if not is_answer and not isinstance(failure, TooLateToSend):
                self._count_silence(batch_id, failure)
            case _:
                log.warning("preparation_failed", batch_id=batch_id, error=str(failure), cure="it is tried again")
        return WAIT_AFTER_FAILURE

    def handle_own(self, batch_id: int, failure: Exception) -> None:
        """Pause the batch after a failure on our side. Does not pause for an unavailable database, which comes back by
        itself."""
        if is_away(failure):
            return
        if isinstance(failure, DecryptionError):
            self._consequences.stop_process_or_batch(
                batch_id, PauseReason.INTERNAL, explain_decryption_failure(failure)
            )
        else:
            self._consequences.pause(batch_id, PauseReason.INTERNAL)

    def _pause_for_credentials(self, batch_id: int, environment: Environment) -> None:
        self._consequences.pause(batch_id, PauseReason.CREDENTIALS, _IMPORTER if environment.is_importer else None)

    def _count_refusal(self, batch_id: int, part: str, environment: Environment, failure: PingOneError) -> None:
        """Count a refusal, and pause the batch after MOST_REFUSALS of the same kind in a row."""
        key = batch_id, part, type(failure)
        self._refusals[key] += 1
        times = self._refusals[key]
        log.warning("preparation_refused", batch_id=batch_id, part=part, error=str(failure), times=times)
        if times < MOST_REFUSALS:
            return
        self.forget(batch_id, part)
        if isinstance(failure, Unauthorized):
            self._pause_for_credentials(batch_id, environment)
        else:
            did = "gives no usable answer to" if isinstance(failure, OutcomeUnknown) else "refuses"
            detail = f"PingOne {did} the calls that prepare the batch: {failure}. Fix the cause, then resume or cancel."
            self._consequences.pause(batch_id, PauseReason.REFUSED, detail)

    def _count_silence(self, batch_id: int, failure: PingOneError) -> None:
        """Count a call without an answer. After MOST_REFUSALS in a row, pause the batch for an outage, unless PingOne
        answered an attempt meanwhile. The batch resumes by itself."""
        calls, latest_attempt = self._silences.get(batch_id) or (0, self._upkeep.read_latest_attempt())
        self._silences[batch_id] = calls + 1, latest_attempt
        log.warning("preparation_failed", batch_id=batch_id, error=str(failure), times=calls + 1)
        if calls + 1 == MOST_REFUSALS:
            del self._silences[batch_id]
            detail = f"The last call ended with: {failure}. {OUTAGE_CURE}"
            self._upkeep.pause_for_outage(batch_id, detail, after=latest_attempt)


def _is_answer(failure: Obstacle | PingOneError | SlotTooFar) -> bool:
    """Whether a failed call shows that PingOne is available."""
    if isinstance(failure, NotDelivered | OutcomeUnknown):
        return is_own_answer(failure.answer.status, failure.answer.correlation_id)
    return not isinstance(failure, SlotTooFar)


def restart_times(database: Database, connection: Connection) -> None:
    """Reset times after a jump of the clock, in the caller's transaction: no turn lasts longer than a lease from now,
    no reading of the inventory is dated in the future, and jobs are timed from now."""
    is_too_far = Batch.prepared_until > database.now(LEASE)
    connection.execute(update(Batch).where(is_too_far).values(prepared_until=database.now(LEASE)))
    read_later = update(Batch).where(Batch.inventory_read_at > database.now())
    connection.execute(read_later.values(inventory_read_at=None))
    unfinished = update(InventoryJob).where(text(UNFINISHED))
    connection.execute(unfinished.values(counted_from=database.now()))
    connection.execute(unfinished.where(InventoryJob.sent_at > database.now()).values(sent_at=database.now()))
