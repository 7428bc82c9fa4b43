"""How an attempt ended, in a word or two for whoever watches tasks in Flower."""

from __future__ import annotations

from models.attempt import Failure
from worker.rules.progress import Progress
from worker.rules.steps import Active, DeadLetter, Decision, Pause, Retry

# The message came twice, or its record may not be worked on now.
NOTHING_TO_DO = "nothing to do"
NO_SLOT = "handed back: no slot"
WORKER_ENDS = "handed back: the worker ends"
LEASE_LOST = "nothing: the lease was lost"

_DEAD_LETTER = "dead letter: "


class DeadLettered(Exception):
    """An attempt ended with a dead letter, so that Celery shows a failed task. The text is `dead letter: REASON`."""

    def __repr__(self) -> str:
        return str(self)


# Why a record was handed back, where the word in its history says little by itself.
_WHY = {
    Failure.HOLD: "no slot",
    Failure.NOT_PERMITTED: "not permitted now",
    Failure.TIME_STEP: "until the next time step",
}


def describe_outcome(decision: Decision, progress: Progress) -> str:
    """Describe the decision that ended an attempt."""
    match decision:
        case Active():
            return _describe_active(progress)
        case DeadLetter(reason=reason):
            return f"{_DEAD_LETTER}{reason}"
        case Pause(reason=reason):
            return f"handed back: batch paused, {reason}"
        case Retry(is_counted=False, why=why):
            return f"handed back: {_WHY.get(why, why.replace('_', ' '))}"
        case Retry(delay=delay, why=why):
            return f"again in {delay:.0f} s: {why.replace('_', ' ')}"


def fail_if_dead_letter(outcome: str) -> str:
    """Return how an attempt ended. Raises DeadLettered if that is with a dead letter, which is written down by then."""
    if outcome.startswith(_DEAD_LETTER):
        raise DeadLettered(outcome)
    return outcome


def _describe_active(progress: Progress) -> str:
    if progress.second is not None and progress.second.posts:
        return "active after resync"
    return "active" if progress.first.posts else "active, unproved"
