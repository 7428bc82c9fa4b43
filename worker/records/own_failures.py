"""What an attempt comes to where oathbulk itself failed."""

from __future__ import annotations

from models.encrypted import DecryptionError
from models.reason import PauseReason
from worker.batches.consequences import explain_decryption_failure
from worker.database.errors import is_away
from worker.rules.limits import Limits
from worker.rules.steps import Decision, Pause, Retry


def decide_after_own_failure(failure: Exception, limits: Limits) -> Decision:
    """Pause the batch after a failure of our own. A database that was restarted mends itself, so there the record only
    goes back; where it is still away, this cannot be written either, and the lease runs out."""
    if is_away(failure):
        return Retry(limits.read_delay, is_counted=False, why="database")
    if isinstance(failure, DecryptionError):
        detail = explain_decryption_failure(failure)
        return Pause(PauseReason.INTERNAL, delay=limits.read_delay, is_own=True, detail=detail)
    return Pause(PauseReason.INTERNAL, delay=limits.read_delay)
