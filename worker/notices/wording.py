"""Puts into words and numbers what a webhook is told of a batch. Values in, values out.

Only words of ours, the names that people gave, and counts are used. What PingOne or a machine answered may name a user
or a token, so a batch's `detail` is left out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from shlex import quote
from typing import Any

from models.batch import BatchState
from models.notice import Event
from models.reason import PAUSE_CURES, PauseReason
from worker.observability.counting import agree
from worker.reports.sentences.tokens import count_active
from worker.reports.stall import Cause, Stall
from worker.rules.hours import format_time

# Chat tools read commands such as <!channel> in a text; these look alike and are none.
_NO_MARKUP = str.maketrans({"<": "‹", ">": "›", "&": "+"})
# What keeps work from moving, where `status` would quote what a machine answered.
_STALLS = {
    Cause.HOLD: "All workers hold.",
    Cause.BROKER: "The broker cannot be used.",
    Cause.SICK: "No worker is well.",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """The batch that people are told of: its names, how many of its tokens are active, and why it does not go on.
    `rows`: those of its file, with those that became no record; `active`: tokens of these rows that are active,
    whichever batch made them so."""

    name: str
    environment: str
    counts: dict[str, int]
    rows: int
    active: int
    state: str
    reason: str | None
    occurred_at: datetime
    # When a paused batch goes on by itself.
    resumes_at: datetime | None = None
    stall: Stall | None = None

    @property
    def total(self) -> int:
        """Records of the batch."""
        return sum(self.counts.values())

    @property
    def status_command(self) -> str:
        """The command that tells more."""
        return f"oathbulk status {quote(self.name)}"


def describe(event: Event, subject: Subject) -> dict[str, Any]:
    """Say all that the webhook is told but for the notice's id."""
    reason, cure = _find_reason(event, subject)
    return {
        "text": write_text(event, subject, cure),
        "event": event,
        "batch": subject.name,
        "environment": subject.environment,
        "total": subject.total,
        "rows": subject.rows,
        "tokens_active": subject.active,
        "counts": subject.counts,
        "reason": reason,
        "cure": cure,
        "resumes_at": subject.resumes_at and subject.resumes_at.isoformat(),
        "occurred_at": subject.occurred_at.isoformat(),
    }


def write_text(event: Event, subject: Subject, cure: str | None) -> str:
    """Write the line that a chat tool shows as it is."""
    counted = count_active(subject.active, subject.rows)
    others = subject.rows - subject.active
    left = f"{others:,} {agree(others, 'is', 'are')} not"
    more = f"Next: {subject.status_command}"
    match event:
        case Event.FINISHED if not others:
            text = f"{subject.name} is finished: {counted}."
        case Event.FINISHED:
            text = f"{subject.name} is finished: {counted}, {left}. {more}"
        case Event.PAUSED:
            text = f"{subject.name} is paused until a person resumes it ({subject.reason}): {counted}. {cure} {more}"
        case Event.PAUSED_FOR_NOW:
            until = f" until {format_time(subject.resumes_at)}" if subject.resumes_at else ""
            text = f"{subject.name} is paused for now{until} ({subject.reason}): {counted}. {cure}"
        case Event.STALLED:
            text = f"{subject.name} does not move: {_describe_stall(subject.stall)} {cure} {more}"
        case Event.RESUMED:
            text = f"{subject.name} goes on: {counted}, {left}."
    return text.translate(_NO_MARKUP)


def _find_reason(event: Event, subject: Subject) -> tuple[str | None, str | None]:
    """Find the one word why the batch does not go on, and what to do about it."""
    if event == Event.STALLED and subject.stall is not None:
        return subject.stall.cause, subject.stall.cure.replace("BATCH", quote(subject.name))
    if event == Event.FINISHED or subject.state != BatchState.PAUSED or subject.reason is None:
        return None, None
    return subject.reason, PAUSE_CURES[PauseReason(subject.reason)]


def _describe_stall(stall: Stall | None) -> str:
    return _STALLS.get(stall.cause, stall.detail) if stall else ""
