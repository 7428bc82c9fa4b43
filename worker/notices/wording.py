"""Puts into words and numbers what a webhook is told of a batch. Values in, values out.

Only words of ours, the names that people gave, and counts are used. What PingOne or a machine answered may name a user
or a token, so a batch's `detail` is left out."""

from __future__ import annotations

from datetime import datetime
from shlex import quote
from typing import Any

from models.batch import BatchState
from models.notice import Event
from models.reason import PAUSE_CURES, PauseReason
from worker.observability.counting import agree
from worker.reports.facts import BatchStatus
from worker.reports.sentences import count_active
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


def describe(event: Event, status: BatchStatus, occurred_at: datetime, stall: Stall | None = None) -> dict[str, Any]:
    """Say all that the webhook is told but for the notice's id. `stall`: why the work of the batch does not move."""
    reason, cure = _find_reason(event, status, stall)
    resumes_at = status.resumes_at if event == Event.PAUSED_FOR_NOW else None
    return {
        "text": write_text(event, status, cure, stall),
        "event": event,
        "batch": status.name,
        "environment": status.environment,
        "total": status.total,
        "rows": status.rows,
        "tokens_active": status.tokens_active,
        "counts": status.counts,
        "reason": reason,
        "cure": cure,
        "resumes_at": resumes_at and resumes_at.isoformat(),
        "occurred_at": occurred_at.isoformat(),
    }


def write_text(event: Event, status: BatchStatus, cure: str | None, stall: Stall | None) -> str:
    """Write the line that a chat tool shows as it is."""
    counted = count_active(status.tokens_active, status.rows)
    others = status.tokens_left
    left = f"{others:,} {agree(others, 'is', 'are')} not"
    more = f"Next: oathbulk status {quote(status.name)}"
    match event:
        case Event.FINISHED if not others:
            text = f"{status.name} is finished: {counted}."
        case Event.FINISHED:
            text = f"{status.name} is finished: {counted}, {left}. {more}"
        case Event.PAUSED:
            text = f"{status.name} is paused until a person resumes it ({status.reason}): {counted}. {cure} {more}"
        case Event.PAUSED_FOR_NOW:
            until = f" until {format_time(status.resumes_at)}" if status.resumes_at else ""
            text = f"{status.name} is paused for now{until} ({status.reason}): {counted}. {cure}"
        case Event.STALLED:
            text = f"{status.name} does not move: {_describe_stall(stall)} {cure} {more}"
        case Event.RESUMED:
            text = f"{status.name} goes on: {counted}, {left}."
    return text.translate(_NO_MARKUP)


def _find_reason(event: Event, status: BatchStatus, stall: Stall | None) -> tuple[str | None, str | None]:
    """Find the one word why the batch does not go on, and what to do about it."""
    if event == Event.STALLED and stall is not None:
        return stall.cause, stall.cure.replace("BATCH", quote(status.name))
    if event == Event.FINISHED or status.state != BatchState.PAUSED or status.reason is None:
        return None, None
    return status.reason, PAUSE_CURES[PauseReason(status.reason)]


def _describe_stall(stall: Stall | None) -> str:
    return _STALLS.get(stall.cause, stall.detail) if stall else ""
