"""What a failure of a preparation means: its batch is paused for what only a person can mend, and anything else is
tried again."""

from __future__ import annotations

from collections import Counter

import structlog

from models.encrypted import DecryptionError
from models.reason import PauseReason
from worker.batches.consequences import Consequences, explain_decryption_failure
from worker.batches.preparation.obstacles import Obstacle
from worker.config.environment import Environment
from worker.database.away import is_away
from worker.pace.errors import SlotTooFar
from worker.pingone.errors import (
    CredentialsRefused,
    NotActedOn,
    OutcomeUnknown,
    PingOneError,
    ProtocolFault,
    RateLimited,
    Unauthorized,
)
from worker.pingone.refusals import Rejected
from worker.rules.quota import read_quota

log = structlog.get_logger()

# Seconds until a preparation is tried again after PingOne did not answer, or had no slot.
WAIT_AFTER_FAILURE = 5.0
# Refusals of a batch, or answers that cannot be used, in a row until time will hardly mend it.
MOST_REFUSALS = 5

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
