"""What is to be told, of how a batch stands and what was told last."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.batch import BatchState
from models.notice import Event
from models.reason import PASSING, PauseReason
from worker.notices.recording import NEWS_FOR, Standing, Told, find_event
from worker.reports.stall import Cause, Stall

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
RUNS = Standing(NOW, BatchState.RUNNING, None, NOW - HOUR, None)
FINISHED = replace(RUNS, finished_at=NOW - SECOND)
STALLED = replace(RUNS, stall=Stall(Cause.TICK, "No tick.", "Start beat."), is_stall_known=True)
MOVES = replace(RUNS, is_stall_known=True)


def paused(reason: PauseReason) -> Standing:
    return replace(RUNS, state=BatchState.PAUSED, reason=reason)


def told(event: Event, reason: str | None = None, at: datetime = NOW) -> Told:
    return Told(event, reason, at)


def test_a_batch_that_runs_is_nothing_new() -> None:
    assert find_event(RUNS, None) is None


def test_a_batch_that_is_finished_is_told_once() -> None:
    assert find_event(FINISHED, None) == Event.FINISHED
    assert find_event(FINISHED, told(Event.FINISHED)) is None


@pytest.mark.parametrize("state", [BatchState.RUNNING, BatchState.PAUSED])
def test_a_finished_batch_is_finished_whether_it_is_paused_or_not(state: BatchState) -> None:
    standing = replace(FINISHED, state=state, reason=PauseReason.CANARY)
    assert find_event(standing, told(Event.PAUSED, PauseReason.CANARY)) == Event.FINISHED


def test_a_batch_that_was_finished_long_before_anybody_could_be_told_is_no_news() -> None:
    assert find_event(replace(FINISHED, finished_at=NOW - NEWS_FOR - SECOND), None) is None
    assert find_event(replace(FINISHED, finished_at=NOW - NEWS_FOR + SECOND), None) == Event.FINISHED


def test_a_batch_that_was_told_of_before_is_told_to_be_finished_however_late() -> None:
    late = replace(FINISHED, finished_at=NOW - 3 * NEWS_FOR)
    assert find_event(late, told(Event.PAUSED, "credentials", NOW - 4 * NEWS_FOR)) == Event.FINISHED


def test_a_batch_that_was_replayed_and_finished_before_anybody_looked_is_told_again() -> None:
    before = told(Event.FINISHED, at=NOW - 10 * SECOND)
    again = replace(FINISHED, running_since=NOW - 5 * SECOND)
    assert find_event(again, before) == Event.FINISHED


def test_a_finished_batch_that_was_resumed_or_undone_is_not_told_again() -> None:
    before = told(Event.FINISHED, at=NOW - 10 * SECOND)
    assert find_event(replace(FINISHED, running_since=NOW, finished_at=NOW - HOUR), before) is None
    assert find_event(replace(FINISHED, running_since=NOW - HOUR, finished_at=NOW), before) is None


@pytest.mark.parametrize("reason", list(PauseReason))
def test_a_pause_that_passes_by_itself_has_another_name_than_one_for_a_person(reason: PauseReason) -> None:
    expected = Event.PAUSED_FOR_NOW if reason in PASSING else Event.PAUSED
    assert find_event(paused(reason), None) == expected
    assert find_event(paused(reason), told(expected, reason)) is None


def test_a_pause_for_another_reason_is_told() -> None:
    assert find_event(paused(PauseReason.CREDENTIALS), told(Event.PAUSED, "permissions")) == Event.PAUSED
    assert find_event(paused(PauseReason.CREDENTIALS), told(Event.PAUSED_FOR_NOW, "outage")) == Event.PAUSED


@pytest.mark.parametrize("event", [Event.PAUSED, Event.PAUSED_FOR_NOW, Event.FINISHED])
def test_a_batch_that_goes_on_is_told_once(event: Event) -> None:
    assert find_event(RUNS, told(event)) == Event.RESUMED
    assert find_event(RUNS, told(Event.RESUMED)) is None


def test_a_batch_that_only_tries_whether_the_outage_is_over_has_not_gone_on() -> None:
    probing = replace(RUNS, has_outage=True)
    before = told(Event.PAUSED_FOR_NOW, "outage")
    assert find_event(probing, before) is None
    assert find_event(paused(PauseReason.OUTAGE), before) is None
    assert find_event(RUNS, before) == Event.RESUMED


def test_a_stall_is_told_once_and_so_is_its_end() -> None:
    assert find_event(STALLED, None) == Event.STALLED
    assert find_event(STALLED, told(Event.STALLED, "tick")) is None
    assert find_event(MOVES, told(Event.STALLED, "tick")) == Event.RESUMED


def test_a_stall_is_not_over_while_nobody_has_looked() -> None:
    assert find_event(RUNS, told(Event.STALLED, "tick")) is None


def test_a_cancelled_batch_is_not_told_of() -> None:
    cancelled = replace(FINISHED, state=BatchState.CANCELLED)
    assert find_event(cancelled, None) is None
    assert find_event(cancelled, told(Event.PAUSED)) is None
