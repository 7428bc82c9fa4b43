"""When a batch was paused, as far as its commands tell."""

from __future__ import annotations

from typing import Any

from support.data.reports import minutes

from worker.reports.batch_report.contents import Command, Pause, State
from worker.reports.batch_report.pauses import find_pauses

FINISHED = State("finished", None, None, is_passing=False)
SETTLED = [minutes(number).timestamp() for number in (1, 2, 3)]


def command(at: float, action: str, **facts: Any) -> Command:
    return Command(minutes(at), "alice", action, None, facts)


def find(*commands: Command, state: State = FINISHED, settled: list[float] = SETTLED) -> list[Pause]:
    return find_pauses(commands, settled, state, minutes(60))


def test_a_pause_lasts_until_the_batch_runs_again_or_is_cancelled() -> None:
    for ending in ("resume", "replay", "cancel"):
        paused = find(command(0, "load"), command(4, "pause"), command(9, ending, reason="person"))
        assert paused == [Pause(minutes(4), minutes(9), "paused by alice")]


def test_a_pause_that_is_commanded_twice_is_one() -> None:
    (paused,) = find(command(4, "pause"), command(5, "pause"), command(9, "resume", reason="person"))
    assert (paused.start, paused.end) == (minutes(4), minutes(9))


def test_a_pause_of_its_own_begins_after_the_last_token_before_it_ended() -> None:
    (paused,) = find(command(0, "load"), command(2.5, "resume", reason="canary"))
    assert paused == Pause(minutes(2), minutes(2.5), "paused by itself: canary", is_start_known=False)


def test_a_resume_of_a_batch_that_ran_was_no_pause() -> None:
    assert find(command(9, "resume", reason=None)) == []


def test_a_batch_that_paused_before_its_first_token_tells_no_start() -> None:
    assert find(command(9, "resume", reason="credentials"), settled=[]) == []


def test_a_pause_that_lasts_has_no_end() -> None:
    by_person = State("paused", "person", "A person paused it.", is_passing=False)
    assert find(command(4, "pause"), state=by_person) == [Pause(minutes(4), None, "paused by alice")]
    by_itself = State("paused", "trial", "…", is_passing=False)
    (paused,) = find(command(0, "load"), state=by_itself)
    assert paused == Pause(minutes(3), None, "paused by itself: trial", is_start_known=False)
