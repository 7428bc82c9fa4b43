"""When a part of the stack is started again."""

from __future__ import annotations

from worker.installation.stack import FIRST_PAUSE, LONGEST_PAUSE, GrowingPauses


def test_a_worker_that_fails_alone_again_and_again_is_started_more_and_more_rarely() -> None:
    pauses, now, lengths = GrowingPauses(), 1000.0, []
    for _ in range(6):
        began = now
        while pauses.last_at(now):
            now += 1
        lengths.append(now - began)
    assert lengths == [FIRST_PAUSE, 10, 20, 40, LONGEST_PAUSE, LONGEST_PAUSE]


def test_one_that_did_well_for_long_is_started_soon() -> None:
    pauses, now = GrowingPauses(), 1000.0
    for _ in range(4):
        while pauses.last_at(now):
            now += 1
    now += 11 * LONGEST_PAUSE
    assert pauses.last_at(now + FIRST_PAUSE - 1)
    assert not pauses.last_at(now + 2 * FIRST_PAUSE)
