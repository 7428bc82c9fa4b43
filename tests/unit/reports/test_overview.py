"""When a batch was paused, as far as its commands tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from support.data.facts import FINISHED, PAUSED, make_command, minutes

from worker.reports.facts import BatchStatus
from worker.reports.overview import Command, Pause, find_pauses

SETTLED = [minutes(number).timestamp() for number in (1, 2, 3)]


def command(at: float, action: str, **facts: Any) -> Command:
    return make_command(minutes(at), "alice", action, None, facts)


def find(*commands: Command, status: BatchStatus = FINISHED, settled: list[float] = SETTLED) -> list[Pause]:
    return find_pauses(commands, settled, replace(status, read_at=minutes(60)))


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
    by_person = replace(PAUSED, reason="person")
    assert find(command(4, "pause"), status=by_person) == [Pause(minutes(4), None, "paused by alice")]
    (paused,) = find(command(0, "load"), status=replace(PAUSED, reason="trial"))
    assert paused == Pause(minutes(3), None, "paused by itself: trial", is_start_known=False)
