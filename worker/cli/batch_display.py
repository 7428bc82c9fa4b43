"""How a batch is displayed: as a drawing on a terminal, as a line in a table or a log; and what will become of it, in a
sentence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from shlex import quote

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from models.reason import CURES, PASSING, Reason
from models.record import Status
from worker.cli.preparation_display import describe_made, put_waiting_first
from worker.pace.memory import Hold
from worker.reports.batch_status import BatchStatus
from worker.rules.hours import format_time
from worker.rules.resync import NeedsFlag
from worker.tenants.resync import LEARNT

# The outlook of a batch that runs while no record is in work.
WAITING = "Waiting for a worker."
_COLOURS = {"running": "cyan", "paused": "yellow", "cancelled": "red", "finished": "green"}
_STATUS_COLOURS = {Status.ACTIVE: "green", Status.DEAD_LETTER: "red", Status.CANCELLED: "red"}


def draw_batch(status: BatchStatus, *, stopped: str | None = None) -> RenderableType:
    """Draw one batch: bar, counts, pace, outlook, reasons of its dead letters. `stopped` is given if the run that
    worked on it has ended before the batch was finished: a sentence that says how to go on."""
    settled = status.total - status.left
    bar = Table.grid(padding=(0, 2))
    bar.add_row(
        Text(status.name, style="bold"),
        Text(status.state, style=_COLOURS[status.state]),
        ProgressBar(total=max(status.total, 1), completed=settled, width=40),
        f"{settled} of {status.total}",
    )
    counts = Columns([_draw_count(name, number) for name, number in status.counts.items()], padding=(0, 3))
    costs = (
        f"{_choose_pace(status):.1f} records/s · {status.otp_posts} OTPs posted · {status.resynced} resynced · "
        f"{status.requests} requests, {status.rate_limited} of them answered 429 · {status.attempts} attempts"
    )
    future = describe_outlook(status) if stopped is None else describe_outlook_after_run(status, stopped)
    parts: list[RenderableType] = [bar, counts, Text(costs, style="dim")]
    if made := describe_made(status):
        parts.append(Text(made, style="dim"))
    parts.append(Text(put_waiting_first(status, future)))
    if status.needs_flag in (NeedsFlag.TRIED, NeedsFlag.YES):
        parts.append(Text(LEARNT[status.needs_flag], style="dim"))
    if status.parent:
        parts.insert(1, Text(f"Its rows come back from batch {status.parent}."))
    if status.dead_letters:
        parts.append(_draw_dead_letters(status))
    return Group(*parts)


def draw_batches(statuses: Sequence[BatchStatus]) -> RenderableType:
    """Draw a table with a line for each batch."""
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
            Text(put_waiting_first(status, describe_outlook(status))),
        )
    return table


def describe_outlook(status: BatchStatus) -> str:
    """Say what will happen to the batch if nobody does anything."""
    match status.state:
        case "finished":
            return _describe_finished(status)
        case "cancelled":
            return (
                f"Cancelled. {status.left} records are read once more before they end." if status.left else "Cancelled."
            )
        case "paused" if status.reason in PASSING:
            return f"Paused ({status.reason}): {status.detail}"
        case "paused":
            return f"Paused ({status.reason}): {status.detail} Go on with: oathbulk resume {quote(status.name)}"
    if status.hold:
        return describe_hold(status.hold, quote(status.name))
    waits = (status.next_due_at - datetime.now(UTC)).total_seconds() if status.next_due_at else 0.0
    is_waiting = not (status.counts[Status.QUEUED] or status.counts[Status.ACTIVATING])
    if is_waiting and waits > 1 and not status.preparing:
        return f"{status.left} wait for their time; the next is due in {format_duration(waits)}."
    if status.stall:
        return f"Nothing has moved for {format_duration(status.standstill)}. {status.stall}"
    if status.eta_seconds:
        left = f"{format_duration(status.eta_seconds)} left at this pace."
        return left + _explain_time_left(status) + _describe_end_of_hours(status)
    if status.preparing and status.fleet.alive:
        return "The time left is not known yet."
    return WAITING


def describe_outlook_after_run(status: BatchStatus, stopped: str) -> str:
    """Say what will happen to a batch after the run that worked on it has ended, and how to go on (`stopped`). Workers
    elsewhere may go on with it."""
    waits_for_a_person = status.state == "paused" and status.reason not in PASSING
    if waits_for_a_person or not status.left:
        return describe_outlook(status)
    nothing_runs = f"Nothing works on it here any more; {status.left} records are left. {stopped}"
    return nothing_runs if status.state == "running" else f"{describe_outlook(status)} {nothing_runs}"


def describe_hold(hold: Hold, batch: str = "BATCH") -> str:
    """Say until when all workers hold, why, and how a person ends that."""
    return (
        f"All workers hold until {hold.until:%H:%M:%S} UTC ({format_duration(hold.left)}): {hold.why}. "
        f"To go on now: oathbulk resume {batch} --now"
    )


def _explain_time_left(status: BatchStatus) -> str:
    """Say what makes the batch take so long, and what could be done about it; empty unless that is the license's
    pace."""
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
        f"IPs, and is not yet: about {format_duration(status.eta_if_listed_seconds)}."
    )


def _describe_end_of_hours(status: BatchStatus) -> str:
    """Say when the batch's hours (`--window`) end, which may be before the batch is finished; empty if it has none."""
    if status.closes_at is None:
        return ""
    return f" Its window {status.hours} {status.zone} closes at {format_time(status.closes_at)}."


def format_log_line(status: BatchStatus) -> str:
    """Describe the batch in one line, for a log."""
    outlook = put_waiting_first(status, describe_outlook(status))
    counts = ", ".join(f"{number} {name}" for name, number in status.counts.items() if number)
    return f"{status.name}: {counts}; {status.pace:.1f} records/s; {outlook}"


def format_duration(seconds: float) -> str:
    """Write a number of seconds for a person: 95 becomes `1 min 35 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _choose_pace(status: BatchStatus) -> float:
    """Records a second: lately; if the batch is finished, over the whole time since it was loaded."""
    if status.finished_at is None:
        return status.pace
    return status.total / max((status.finished_at - status.created_at).total_seconds(), 1.0)


def _describe_finished(status: BatchStatus) -> str:
    """Say how long a finished batch took, and how many of its tokens are not active."""
    took = (
        format_duration((status.finished_at - status.created_at).total_seconds()) if status.finished_at else "no time"
    )
    left = status.total - status.counts[Status.ACTIVE]
    if not left:
        return f"Finished after {took}: every token is active."
    return f"Finished after {took}: {left} are not active; nothing happens to them until a person acts."


def _draw_count(name: str, number: int) -> Text:
    colour = _STATUS_COLOURS.get(Status(name), "") if number else "dim"
    return Text(f"{number} {name}", style=colour)


def _draw_dead_letters(status: BatchStatus) -> RenderableType:
    table = Table("dead letters", "reason", "what to do", box=None, padding=(0, 2, 0, 0))
    for reason, number in sorted(status.dead_letters.items(), key=lambda item: -item[1]):
        table.add_row(str(number), reason, CURES[Reason(reason)])
    return table
