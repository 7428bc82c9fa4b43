"""How the history of a token is displayed: its records with their attempts, and what happens next."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from models.record_states import Status
from worker.cli.labelled_lines import LabelledLine
from worker.cli.next_step import NextStep
from worker.observability.escaping import escape_line
from worker.reports.token_history import PastAttempt, PastRecord, TokenHistory

STATUS_STYLES = {Status.ACTIVE: "green", Status.DEAD_LETTER: "red", Status.CANCELLED: "red"}
# Columns by which what belongs to a record is indented, and those of the widest label that is not a file's own.
_INDENT = 2
_LABEL = 10


def draw_history(token: TokenHistory, step: NextStep) -> RenderableType:
    """Draw all records of a token, the oldest first, and below them what happens next."""
    head = Text.assemble((escape_line(token.serial_number), "bold"), f" in environment {token.environment}")
    parts: list[RenderableType] = [head, Text(f"environment id {token.environment_id}", style="dim"), Text("")]
    for place, record in enumerate(token.records):
        parts.append(Text(_describe_origin(record), style="bold"))
        parts += _draw_record(record)
        parts += _draw_neighbours(token.records, place)
        parts += _draw_attempts(record)
        parts.append(Text(""))
    parts.append(LabelledLine("Next", step.sentence, width=_LABEL, style="bold"))
    if step.why:
        parts.append(LabelledLine("", step.why, width=_LABEL))
    if step.command:
        parts.append(LabelledLine("Command", step.command, width=_LABEL, style="cyan"))
    return Group(*parts)


def format_moment(at: datetime) -> str:
    """Write a time for a person, to the second: `2026-11-25 21:00:05 UTC`."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _describe_origin(record: PastRecord) -> str:
    """Say where a record stands: its batch, its row, and the file."""
    return escape_line(f"Batch {record.batch.name}, row {record.row_number} of {record.batch.file} (#{record.id})")


def _draw_record(record: PastRecord) -> Iterator[RenderableType]:
    """Draw how a record stands, and whose it is."""
    finalized = f" since {format_moment(record.finalized_at)}" if record.finalized_at else ""
    reason = f" ({record.reason})" if record.reason else ""
    style = STATUS_STYLES.get(Status(record.status), "")
    yield LabelledLine("status", f"{record.status}{reason}{finalized}", _INDENT, style=style)
    if record.reason and record.meaning:
        yield LabelledLine("meaning", record.meaning, _INDENT)
    yield LabelledLine("user", record.user_id or "not known yet", _INDENT)
    device = " (made by this batch)" if record.is_device_made else ""
    kept = {
        "username": record.username,
        "email": record.email,
        "external_id": record.external_id,
        "device": f"{record.device_id}{device}" if record.device_id else "none yet",
        "lot": record.lot,
        **{name: str(value) for name, value in (record.extra or {}).items()},
    }
    otps = record.describe_otps()
    kept |= {"OTPs": otps["source"], "OTP 1": otps["otp1"], "OTP 2": otps["otp2"]}
    for label, value in kept.items():
        if value:
            yield LabelledLine(escape_line(label), value, _INDENT)


def _draw_neighbours(records: list[PastRecord], place: int) -> Iterator[RenderableType]:
    """Draw which record took over from this one, and from which it took over."""
    if place:
        earlier = records[place - 1]
        yield LabelledLine("before", f"took over from #{earlier.id} of batch {earlier.batch.name}", _INDENT)
    if place + 1 < len(records):
        later = records[place + 1]
        yield LabelledLine("after", f"#{later.id} of batch {later.batch.name} took over", _INDENT)


def _draw_attempts(record: PastRecord) -> Iterator[RenderableType]:
    """Draw each attempt as one line."""
    if not record.attempts:
        yield LabelledLine("attempts", "none yet", _INDENT)
    for place, attempt in enumerate(record.attempts):
        yield LabelledLine("" if place else "attempts", describe_attempt(attempt), _INDENT)


def describe_attempt(attempt: PastAttempt) -> str:
    """Describe an attempt in one line: number, time, outcome, PingOne's last answer, and what it cost."""
    codes = "/".join(filter(None, (attempt.code, attempt.detail_code)))
    answer = f"HTTP {attempt.http_status} {codes}".strip() if attempt.http_status else codes
    parts = [
        f"{attempt.number}. {format_moment(attempt.ended_at)}",
        attempt.outcome + (f" ({attempt.reason})" if attempt.reason else ""),
        answer,
        attempt.pingone_error_id and f"error id {attempt.pingone_error_id}",
        attempt.correlation_id and f"correlation id {attempt.correlation_id}",
        _count(attempt.requests, "request"),
        _count(attempt.otp_posts, "OTP") + " posted",
    ]
    return ", ".join(filter(None, parts))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
