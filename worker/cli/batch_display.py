"""How a batch is displayed: as a drawing that fits into the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from worker.cli.dead_letter_display import draw_dead_letters
from worker.cli.room import Room, break_lines, count_lines, cut_line
from worker.reports.batch_status import BatchStatus
from worker.reports.sentences.costs import describe_costs
from worker.reports.sentences.outlook import describe_outlook, describe_outlook_after_run
from worker.reports.sentences.preparation import describe_made, put_waiting_first
from worker.reports.sentences.tokens import describe_fault_cures, describe_tokens
from worker.rules.resync import NeedsFlag
from worker.tenants.resync import LEARNT

# Columns of the bar, at most and at least.
WIDEST_BAR = 40
NARROWEST_BAR = 8

# Of the states.
COLOURS = {"running": "cyan", "paused": "yellow", "cancelled": "red", "finished": "green"}
_STATUS_COLOURS = {"active": "green", "dead_letter": "red", "cancelled": "red", "total": "bold"}


def draw_batch(
    status: BatchStatus,
    room: Room | None = None,
    *,
    stopped: str | None = None,
    notes: Sequence[str] = (),
    with_cures: bool = False,
) -> RenderableType:
    """Draw one batch: bar, counts, outlook, costs, `notes`, reasons of its dead letters: as many reasons as there is
    room for. `room` is None where it is no terminal. `stopped` is given if the run that worked on it has ended before
    the batch was finished: a sentence that says how to go on. `with_cures`: what to do about each reason is written
    out, however much room that takes."""
    future = describe_outlook(status) if stopped is None else describe_outlook_after_run(status, stopped)
    # The outlook stands high, so that it is seen in the smallest terminal.
    texts = [Text(put_waiting_first(status, future)), *map(Text, describe_tokens(status))]
    texts += map(Text, describe_fault_cures(status) if with_cures else ())
    texts.append(Text(f"{_choose_pace(status):.1f} records/s · {describe_costs(status)}", style="dim"))
    texts += [Text(said, style="dim") for said in (describe_made(status), _describe_lesson(status)) if said]
    texts += map(Text, notes)
    lines = [*_draw_counts(status), *(line for text in texts for line in break_lines(text, room))]
    left = None if room is None else max(room.height - 1 - count_lines(lines, room), 0)
    return Group(_draw_head(status, room), *lines, *draw_dead_letters(status, room, left, with_cures=with_cures))


def _draw_head(status: BatchStatus, room: Room | None) -> RenderableType:
    """Draw name, state, and how many records are settled, in one line; on a terminal with a bar."""
    settled = status.total - status.left
    name, state = Text(status.name, style="bold"), Text(status.state, style=COLOURS[status.state])
    progress = f"{settled} of {status.total}"
    if room is None:
        return Text("  ").join([name, state, Text(progress)])
    beside = room.narrow(state.cell_len + len(progress) + 6)
    # A batch's name may be longer than the terminal is wide.
    name = cut_line(name, beside.narrow(NARROWEST_BAR))
    width = min(beside.narrow(name.cell_len).width, WIDEST_BAR)
    head = Table.grid(padding=(0, 2))
    for _ in range(4):
        head.add_column(no_wrap=True, overflow="ellipsis")
    head.add_row(name, state, ProgressBar(total=max(status.total, 1), completed=settled, width=width), progress)
    return head


def _draw_counts(status: BatchStatus) -> tuple[Text, Text]:
    """Draw how many records have which status, without those that none has: names in one line, numbers below."""
    counts = {"total": status.total} | {name: number for name, number in status.counts.items() if number}
    names, numbers = [], []
    for name, number in counts.items():
        width = max(len(name), len(str(number)))
        names.append(Text(name.rjust(width), style="dim"))
        numbers.append(Text(str(number).rjust(width), style=_STATUS_COLOURS.get(name, "")))
    return Text("  ").join(names), Text("  ").join(numbers)


def _describe_lesson(status: BatchStatus) -> str | None:
    """Say what the batch's environment has taught, if anything."""
    return LEARNT[status.needs_flag] if status.needs_flag in (NeedsFlag.TRIED, NeedsFlag.YES) else None


def _choose_pace(status: BatchStatus) -> float:
    """Records a second: lately; if the batch is finished, over the whole time since it was loaded."""
    if status.finished_at is None:
        return status.pace
    return status.total / max((status.finished_at - status.created_at).total_seconds(), 1.0)
