"""What a webhook is told, in words and numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from support.data.facts import batch

from models.batch import BatchState
from models.notice import Event
from models.reason import PAUSE_CURES, PauseReason
from models.record_states import Status
from worker.notices import describe
from worker.reports.facts import BatchStatus
from worker.reports.stall import Cause, Stall

AT = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
COUNTS = {str(status): 0 for status in Status} | {"active": 2959, "dead_letter": 41}
JULY = replace(batch(active=2959, dead_letter=41), name="july")
STALL = Stall(Cause.TICK, "No tick ever came.", "Start beat, once: celery -A worker beat")


def text(event: Event, status: BatchStatus, stall: Stall | None = None) -> str:
    said: str = describe(event, status, AT, stall)["text"]
    return said


def test_a_finished_batch_is_told_with_what_is_left_and_the_next_command() -> None:
    expected = "july is finished: 2,959 of 3,000 tokens are active, 41 are not. Next: oathbulk status july"
    assert text(Event.FINISHED, JULY) == expected


def test_where_all_tokens_are_active_nothing_is_left_to_do() -> None:
    complete = replace(batch(active=3000), name="july")
    assert text(Event.FINISHED, complete) == "july is finished: 3,000 of 3,000 tokens are active."


def test_the_facts_are_whole_and_fit_into_json() -> None:
    paused = replace(JULY, state=BatchState.PAUSED, reason="credentials")
    assert json.loads(json.dumps(describe(Event.PAUSED, paused, AT))) == {
        "text": "july is paused until a person resumes it (credentials): 2,959 of 3,000 tokens are active. "
        + PAUSE_CURES[PauseReason.CREDENTIALS]
        + " Next: oathbulk status july",
        "event": "paused",
        "batch": "july",
        "environment": "default",
        "total": 3000,
        "rows": 3000,
        "tokens_active": 2959,
        "counts": COUNTS,
        "reason": "credentials",
        "cure": PAUSE_CURES[PauseReason.CREDENTIALS],
        "resumes_at": None,
        "occurred_at": "2026-11-28T12:00:00+00:00",
    }


def test_a_pause_that_passes_says_until_when() -> None:
    paused = replace(JULY, state=BatchState.PAUSED, reason="quota", resumes_at=AT)
    facts = describe(Event.PAUSED_FOR_NOW, paused, AT)
    assert facts["text"].startswith("july is paused for now until 2026-11-28 12:00 UTC (quota): ")
    assert facts["resumes_at"] == "2026-11-28T12:00:00+00:00"


@pytest.mark.parametrize("reason", list(PauseReason))
def test_every_pause_has_a_cure(reason: PauseReason) -> None:
    facts = describe(Event.PAUSED, replace(JULY, state=BatchState.PAUSED, reason=reason), AT)
    assert facts["cure"] == PAUSE_CURES[reason]
    assert PAUSE_CURES[reason] in facts["text"]


def test_a_stall_names_cause_and_cure() -> None:
    facts = describe(Event.STALLED, JULY, AT, STALL)
    assert facts["text"] == (
        "july does not move: No tick ever came. Start beat, once: celery -A worker beat Next: oathbulk status july"
    )
    assert (facts["reason"], facts["cure"]) == ("tick", STALL.cure)


@pytest.mark.parametrize("cause", [Cause.HOLD, Cause.BROKER, Cause.SICK])
def test_what_a_machine_answered_is_not_passed_on(cause: Cause) -> None:
    said = describe(Event.STALLED, JULY, AT, Stall(cause, "user a@b.example said no", "Mend BATCH"))
    assert "example" not in json.dumps(said)
    assert said["cure"] == "Mend july"


def test_a_batch_that_goes_on_has_no_reason() -> None:
    facts = describe(Event.RESUMED, JULY, AT)
    assert facts["text"] == "july goes on: 2,959 of 3,000 tokens are active, 41 are not."
    assert (facts["reason"], facts["cure"]) == (None, None)


def test_a_name_is_no_command_for_a_chat_tool_or_a_shell() -> None:
    facts = describe(Event.FINISHED, replace(JULY, name="<!channel> & co"), AT)
    assert "<" not in facts["text"]
    assert "&" not in facts["text"]
    assert facts["text"].endswith("oathbulk status '‹!channel› + co'")
    assert facts["batch"] == "<!channel> & co"


@pytest.mark.parametrize("event", list(Event))
def test_every_text_is_one_line(event: Event) -> None:
    paused = replace(JULY, state=BatchState.PAUSED, reason="outage")
    assert "\n" not in text(event, paused, STALL)
