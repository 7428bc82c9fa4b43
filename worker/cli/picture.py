"""How a batch looks on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from shlex import quote

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from models.reason import CURES, PASSING, Reason
from models.record import Status
from worker.pace.memory import Hold
from worker.reports.batch_status import BatchStatus
from worker.rules.hours import format_time

WAITING = "Waiting for a worker."
_COLOURS = {"running": "cyan", "paused": "yellow", "cancelled": "red", "finished": "green"}
_STATUS_COLOURS = {Status.ACTIVE: "green", Status.DEAD_LETTER: "red", Status.CANCELLED: "red"}


def draw_batch(status: BatchStatus, *, stopped: str | None = None) -> RenderableType:
    """One batch: bar, counts, pace, reasons, outlook. `stopped` says how to go on where its run has ended before it."""
    settled = status.total - status.left
    bar = Table.grid(padding=(0, 2))
    bar.add_row(
        Text(status.name, style="bold"),
        Text(status.state, style=_COLOURS[status.state]),
        ProgressBar(total=max(status.total, 1), completed=settled, width=40),
        f"{settled} of {status.total}",
    )
    counts = Table.grid(padding=(0, 3))
    counts.add_row(*(_count(name, number) for name, number in status.counts.items()))
    costs = (
        f"{_pace(status):.1f} records/s · {status.otp_posts} OTPs posted · {status.resynced} resynced · "
        f"{status.requests} requests, {status.rate_limited} of them answered 429 · {status.attempts} attempts"
    )
    future = outlook(status) if stopped is None else outlook_after(status, stopped)
    parts: list[RenderableType] = [bar, counts, Text(costs, style="dim"), Text(future)]
    if status.dead_letters:
        parts.append(_dead_letters(status))
    return Group(*parts)


def draw_batches(statuses: Sequence[BatchStatus]) -> RenderableType:
    """Every batch on a line."""
    if not statuses:
        return Text("No batch was loaded yet. Begin with: oathbulk run FILE, or oathbulk rehearse.")
    table = Table("batch", "state", "total", "active", "dead letters", "left", "outlook", box=None)
    for status in statuses:
        table.add_row(
            Text(status.name),
            Text(status.state, style=_COLOURS[status.state]),
            str(status.total),
            str(status.counts[Status.ACTIVE]),
            str(status.counts[Status.DEAD_LETTER]),
            str(status.left),
            Text(outlook(status)),
        )
    return table


def outlook(status: BatchStatus) -> str:
    """What will happen if nobody does anything."""
    match status.state:
        case "finished":
            return _finished(status)
        case "cancelled":
            return (
                f"Cancelled. {status.left} records are read once more before they end." if status.left else "Cancelled."
            )
        case "paused" if status.reason in PASSING:
            return f"Paused ({status.reason}): {status.detail}"
        case "paused":
            return f"Paused ({status.reason}): {status.detail} Go on with: oathbulk resume {quote(status.name)}"
    if status.hold:
        return holding(status.hold, quote(status.name))
    waits = (status.next_due_at - datetime.now(UTC)).total_seconds() if status.next_due_at else 0.0
    is_waiting = not (status.counts[Status.QUEUED] or status.counts[Status.ACTIVATING])
    if is_waiting and waits > 1:
        return f"{status.left} wait for their time; the next is due in {duration(waits)}."
    if status.stall:
        return f"Nothing has moved for {duration(status.still_for or 0.0)}. {status.stall}"
    if status.eta_seconds:
        return f"{duration(status.eta_seconds)} left at this pace.{_why(status)}{_closing(status)}"
    return WAITING


def outlook_after(status: BatchStatus, stopped: str) -> str:
    """The same when the run that worked on it has ended. Elsewhere, other workers may go on."""
    waits_for_a_person = status.state == "paused" and status.reason not in PASSING
    if waits_for_a_person or not status.left:
        return outlook(status)
    nothing_runs = f"Nothing works on it here any more; {status.left} records are left. {stopped}"
    return nothing_runs if status.state == "running" else f"{outlook(status)} {nothing_runs}"


def holding(hold: Hold, batch: str = "BATCH") -> str:
    """All workers wait: until when, why, and how a person ends it."""
    return (
        f"All workers hold until {hold.until:%H:%M:%S} UTC ({duration(hold.left)}): {hold.why}. "
        f"To go on now: oathbulk resume {batch} --now"
    )


def _why(status: BatchStatus) -> str:
    """What decides the time that is left, where it is the license's pace, and what could be done about it."""
    known = status.license_pace
    if known is None:
        return ""
    if known.fixed_rate:
        return f" It stays at {known.fixed_rate:g} requests/s, as {known.set_by} set it."
    if status.eta_if_listed_seconds is None:
        return ""
    if known.share < 1:
        return f" That is {known.share:.0%} of the {known.ceiling:.0f} requests/s that PingOne permits."
    return (
        f" PingOne permits {known.ceiling:.0f} requests/s. If this address were listed under Rate Limits and Allowed "
        f"IPs, and is not yet: about {duration(status.eta_if_listed_seconds)}."
    )


def _closing(status: BatchStatus) -> str:
    """Its window may be over before the batch is."""
    if status.closes_at is None:
        return ""
    return f" Its window {status.window} {status.zone} closes at {format_time(status.closes_at)}."


def plain_line(status: BatchStatus) -> str:
    """The same as one line, for a log."""
    counts = ", ".join(f"{number} {name}" for name, number in status.counts.items() if number)
    return f"{status.name}: {counts}; {status.pace:.1f} records/s; {outlook(status)}"


def duration(seconds: float) -> str:
    """`95` → `1 min 35 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _pace(status: BatchStatus) -> float:
    """Lately; of a finished batch, over all."""
    if status.finished_at is None:
        return status.pace
    return status.total / max((status.finished_at - status.created_at).total_seconds(), 1.0)


def _finished(status: BatchStatus) -> str:
    took = duration((status.finished_at - status.created_at).total_seconds()) if status.finished_at else "no time"
    left = status.total - status.counts[Status.ACTIVE]
    if not left:
        return f"Finished after {took}: every token is active."
    return f"Finished after {took}: {left} are not active; nothing happens to them until a person acts."


def _count(name: str, number: int) -> Text:
    colour = _STATUS_COLOURS.get(Status(name), "") if number else "dim"
    return Text(f"{number} {name}", style=colour)


def _dead_letters(status: BatchStatus) -> RenderableType:
    table = Table("dead letters", "reason", "what to do", box=None, padding=(0, 2, 0, 0))
    for reason, number in sorted(status.dead_letters.items(), key=lambda item: -item[1]):
        table.add_row(str(number), reason, CURES[Reason(reason)])
    return table
