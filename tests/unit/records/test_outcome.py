from __future__ import annotations

import pytest

from models.reason import PauseReason, Reason
from models.record_states import OtpState
from worker.records import describe_outcome
from worker.rules.progress import Active, DeadLetter, Decision, OtpProgress, Pause, Progress, Retry

UNSENT, ANSWERED = OtpProgress(), OtpProgress(OtpState.ANSWERED, 1)


@pytest.mark.parametrize(
    ("decision", "first", "second", "said"),
    [
        (Active(), ANSWERED, UNSENT, "active"),
        (Active(), ANSWERED, None, "active"),
        (Active(), ANSWERED, ANSWERED, "active after resync"),
        (Active(), UNSENT, UNSENT, "active, unproved"),
        (DeadLetter(Reason.LOCKED), ANSWERED, UNSENT, "dead letter: locked"),
        (Pause(PauseReason.CREDENTIALS), UNSENT, UNSENT, "handed back: batch paused, credentials"),
        (Retry(2.0, is_counted=False, why="hold"), UNSENT, UNSENT, "handed back: no slot"),
        (Retry(2.0, is_counted=False, why="rate_limited"), UNSENT, UNSENT, "handed back: rate limited"),
        (Retry(31.4, is_counted=True, why="outcome_unknown"), UNSENT, UNSENT, "again in 31 s: outcome unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_end_of_an_attempt_is_said_in_a_word_or_two(
    decision: Decision, first: OtpProgress, second: OtpProgress | None, said: str
) -> None:
    assert describe_outcome(decision, Progress(first, second, attempts=1)) == said
