from __future__ import annotations

from worker.clocks.waiting_time import WaitingTime


def test_seconds_count_while_they_pass() -> None:
    """Counted where a wait ends or begins, a hold of the fleet would look like a second in which nobody was free."""
    now = [1000.0]
    waiting = WaitingTime(lambda: now[0])
    assert waiting.seconds == 0
    with waiting:
        now[0] += 2
        assert waiting.seconds == 2
        with waiting:
            now[0] += 3
            assert waiting.seconds == 2 + 3 + 3
    now[0] += 10
    assert waiting.seconds == 8
