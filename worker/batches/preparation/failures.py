"""What a failure of a preparation means: its batch is paused for what only a person can mend, and anything else is
tried again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import structlog

from models.encrypted import DecryptionError
from models.reason import OUTAGE_CURE, PauseReason
from worker.batches.consequences import Consequences, explain_decryption_failure
from worker.batches.preparation.obstacles import Obstacle
from worker.batches.preparation.turns import Turn
from worker.batches.upkeep import Upkeep
from worker.config.environment import Environment
from worker.database.errors import is_away
from worker.pace.errors import SlotTooFar
from worker.pingone.errors import (
    CredentialsRefused,
    NotActedOn,
    NotDelivered,
    OutcomeUnknown,
    PingOneError,
    ProtocolFault,
    RateLimited,
    TooLateToSend,
    Unauthorized,
)
from worker.pingone.refusals import Rejected
from worker.rules.breaker_evidence import is_own_answer
from worker.rules.quota import read_quota

T = TypeVar("T")

log = structlog.get_logger()

# Seconds until a preparation is tried again after PingOne did not answer, or had no slot.
WAIT_AFTER_FAILURE = 5.0
# Refusals of a batch, or answers that cannot be used, in a row until time will hardly mend it.
MOST_REFUSALS = 5
# Seconds that PingOne may ask for a pause, and be asked again in the same turn; after a longer one it is an outage.
LONGEST_PAUSE = 15.0
# Seconds from the first call without an answer until a turn ends that has still not found out whether it is an outage.
LONGEST_DOUBT = 30.0

_IMPORTER = (
    "PingOne refused the credentials of the application that imports. Check PINGONE_IMPORT_CLIENT_ID and"
    " PINGONE_IMPORT_CLIENT_SECRET, then resume."
)


class Failures:
    """Handles the failures of preparations; thread-safe. `longest_hold`: seconds for which the fleet waits at most when
    PingOne asks it to."""

    def __init__(self, consequences: Consequences, *, longest_hold: float) -> None:
        self._consequences = consequences
        self._longest_hold = longest_hold
        # Refusals of one kind in a row, by batch, part and kind, as this process has seen them.
        self._refusals = Counter[tuple[int, str, type[PingOneError]]]()

    def forget(self, batch_id: int, part: str) -> None:
        """Count refusals anew: this part of the batch's preparation went well."""
        for key in [key for key in list(self._refusals) if key[:2] == (batch_id, part)]:
            self._refusals.pop(key, None)

    def handle(
        self, batch_id: int, part: str, environment: Environment, failure: Obstacle | PingOneError | SlotTooFar
    ) -> float:
        """Pause the batch for what only a person can mend, or the whole license for a used-up quota. `environment`: the
        one with the application that made the call. Returns for how many seconds nothing is tried."""
        match failure:
            case SlotTooFar():
                return min(failure.wait, WAIT_AFTER_FAILURE)
            case RateLimited() if quota := read_quota(failure, self._longest_hold):
                self._consequences.pause_for_quota(environment, quota)
            case Obstacle():
                self._consequences.pause(batch_id, failure.reason, failure.cure)
            case CredentialsRefused() if environment.is_importer:
                # What makes a process well again are the other application's credentials, so these are not its own.
                self._pause_for_credentials(batch_id, environment)
            case CredentialsRefused():
                self._consequences.stop_process_or_batch(batch_id, PauseReason.CREDENTIALS)
            case ProtocolFault():
                self._consequences.pause(batch_id, PauseReason.PROTOCOL)
            case NotActedOn() | Rejected() if not isinstance(failure, RateLimited):
                self._count_refusal(batch_id, part, environment, failure)
            case OutcomeUnknown() if failure.is_over:
                # PingOne itself answers so: no outage, which would pass.
                self._count_refusal(batch_id, part, environment, failure)
            case _:
                log.warning("preparation_failed", batch_id=batch_id, error=str(failure), cure="it is tried again")
        return WAIT_AFTER_FAILURE

    def handle_own(self, batch_id: int, failure: Exception) -> None:
        """Pause the batch after a failure of our own. A database that is away mends itself."""
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
        """Pause the batch where one call after the other is refused in the same way."""
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
            detail = f"PingOne {did} what prepares the batch: {failure}. Mend the cause, then resume, or cancel."
            self._consequences.pause(batch_id, PauseReason.REFUSED, detail)


class Silence:
    """Whether PingOne answers the calls of one turn. Where it answers none of them for WAIT_AFTER_FAILURE seconds after
    the first that got no answer, and no attempt either, the batch is paused for an outage. `clock` counts seconds."""

    def __init__(self, turn: Turn, upkeep: Upkeep, clock: Callable[[], float]) -> None:
        self._batch_id = turn.batch_id
        self._is_probing = turn.is_probing
        self._upkeep = upkeep
        self._clock = clock
        # Calls of which it was noted how they ended.
        self.calls = 0
        # Whether it was found out in this turn.
        self._is_settled = False
        # When the first call without an answer ended, and the newest attempt then.
        self._since: float | None = None
        self._latest_attempt = 0

    @property
    def is_in_doubt(self) -> bool:
        """Whether the next call decides if this is an outage, or if one is over."""
        return self._is_probing or (self._since is not None and self._clock() >= self._since + WAIT_AFTER_FAILURE)

    @property
    def is_to_be_settled(self) -> bool:
        """Whether the turn has to last until another call tells an outage from one answer that got lost."""
        return self._since is not None and self._clock() < self._since + LONGEST_DOUBT

    def listen(self, read: Callable[[], T]) -> T:
        """Make a read, and note whether it is answered. Raises what the read raises."""
        try:
            result = read()
        except PingOneError as failure:
            self.note_failure(failure)
            raise
        self.note_answer()
        return result

    def note_answer(self) -> None:
        """Note that PingOne answered, whatever it said; the outage of a batch that probes is over."""
        self.calls += 1
        self._since = None
        if self._is_probing:
            self._is_probing = False
            self._upkeep.end_outage(self._batch_id)

    def note_failure(self, failure: Obstacle | PingOneError | SlotTooFar) -> None:
        """Note how a call failed, and pause the batch if that shows an outage."""
        self.calls += 1
        if self._is_settled or isinstance(failure, SlotTooFar | TooLateToSend):
            return
        if not isinstance(failure, NotDelivered | OutcomeUnknown) or is_own_answer(
            failure.answer.status, failure.answer.correlation_id
        ):
            self.note_answer()
            return
        if self._since is None:
            self._since, self._latest_attempt = self._clock(), self._upkeep.read_latest_attempt()
        asks_for_long = (failure.retry_after or 0.0) > LONGEST_PAUSE
        if asks_for_long or self._clock() >= self._since + WAIT_AFTER_FAILURE:
            detail = f"The last call ended with: {failure}. {OUTAGE_CURE}"
            self._upkeep.pause_for_outage(self._batch_id, detail, after=self._latest_attempt)
            self._since, self._is_settled = None, True
