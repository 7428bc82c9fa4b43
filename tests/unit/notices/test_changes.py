"""What is to be told, of how a batch stands and what was told last."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.data.facts import batch

from models.batch import BatchState
from models.notice import Event
from models.reason import PASSING, PauseReason
from worker.notices import NEWS_FOR, LastTold
from worker.notices import find_event as find
from worker.reports.facts import BatchStatus, Outage
from worker.reports.stall import STILL_AFTER

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
RUNS = replace(batch(pending=1), read_at=NOW)
FINISHED = replace(batch("finished", active=1), read_at=NOW, finished_at=NOW - SECOND)
STALLED = replace(RUNS, still_for=STILL_AFTER)


def find_event(status: BatchStatus, before: LastTold | None, running_since: datetime = NOW - HOUR) -> Event | None:
    return find(status, running_since, before)


def paused(reason: PauseReason) -> BatchStatus:
    return replace(RUNS, state=BatchState.PAUSED, reason=reason)


def told(event: Event, reason: str | None = None, at: datetime = NOW) -> LastTold:
    return LastTold(event, reason, at)


def test_a_batch_that_runs_is_nothing_new() -> None:
    assert find_event(RUNS, None) is None


def test_a_batch_that_is_finished_is_told_once() -> None:
    assert find_event(FINISHED, None) == Event.FINISHED
    assert find_event(FINISHED, told(Event.FINISHED)) is None


def test_a_batch_that_finishes_after_its_pause_is_told() -> None:
    assert find_event(FINISHED, told(Event.PAUSED, PauseReason.CANARY)) == Event.FINISHED


def test_a_batch_without_a_record_ended_when_it_was_loaded() -> None:
    empty = replace(FINISHED, finished_at=None, created_at=NOW - SECOND)
    assert find_event(empty, None) == Event.FINISHED
    assert find_event(replace(empty, created_at=NOW - NEWS_FOR), None) is None


def test_a_batch_that_was_finished_long_before_anybody_could_be_told_is_no_news() -> None:
    assert find_event(replace(FINISHED, finished_at=NOW - NEWS_FOR - SECOND), None) is None
    assert find_event(replace(FINISHED, finished_at=NOW - NEWS_FOR + SECOND), None) == Event.FINISHED


def test_a_batch_that_was_told_of_before_is_told_to_be_finished_however_late() -> None:
    late = replace(FINISHED, finished_at=NOW - 3 * NEWS_FOR)
    assert find_event(late, told(Event.PAUSED, "credentials", NOW - 4 * NEWS_FOR)) == Event.FINISHED


def test_a_batch_that_was_replayed_and_finished_before_anybody_looked_is_told_again() -> None:
    before = told(Event.FINISHED, at=NOW - 10 * SECOND)
    assert find_event(FINISHED, before, running_since=NOW - 5 * SECOND) == Event.FINISHED


def test_a_finished_batch_that_was_resumed_or_undone_is_not_told_again() -> None:
    before = told(Event.FINISHED, at=NOW - 10 * SECOND)
    assert find_event(replace(FINISHED, finished_at=NOW - HOUR), before, running_since=NOW) is None
    assert find_event(replace(FINISHED, finished_at=NOW), before) is None


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
    probing = replace(RUNS, outage=Outage(None, None))
    before = told(Event.PAUSED_FOR_NOW, "outage")
    assert find_event(probing, before) is None
    assert find_event(paused(PauseReason.OUTAGE), before) is None
    assert find_event(RUNS, before) == Event.RESUMED


def test_a_stall_is_told_once_and_so_is_its_end() -> None:
    assert find_event(STALLED, None) == Event.STALLED
    assert find_event(STALLED, told(Event.STALLED, "tick")) is None
    assert find_event(RUNS, told(Event.STALLED, "tick")) == Event.RESUMED


def test_a_cancelled_batch_is_not_told_of() -> None:
    cancelled = replace(FINISHED, state=BatchState.CANCELLED)
    assert find_event(cancelled, None) is None
    assert find_event(cancelled, told(Event.PAUSED)) is None
