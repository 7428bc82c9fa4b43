"""How a batch is displayed: as a drawing that fits into the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from models.record_states import Status
from worker.cli.dead_letter_display import draw_dead_letters
from worker.cli.room import Room, break_lines, count_lines, cut_line
from worker.reports.facts import BatchStatus
from worker.reports.sentences import (
    describe_costs,
    describe_made,
    describe_outlook,
    describe_outlook_after_run,
    describe_tokens,
    list_refused,
    put_waiting_first,
)
from worker.rules.resync import NeedsFlag
from worker.tenants.resync import LEARNT

# Columns of the bar, at most and at least.
WIDEST_BAR = 40
NARROWEST_BAR = 8

# Marks of the bar that differ without colours too: active, given up, still to do; and the same where the terminal has
# only ASCII.
_MARKS, _ASCII_MARKS = "━╍─", "=x-"
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
    texts += (Text(f"{reason}: {cure}") for reason, _, cure in (list_refused(status) if with_cures else ()))
    texts.append(Text(f"{_choose_pace(status):.1f} records/s · {describe_costs(status)}", style="dim"))
    texts += [Text(said, style="dim") for said in (describe_made(status), _describe_lesson(status)) if said]
    texts += map(Text, notes)
    lines = [*_draw_counts(status), *(line for text in texts for line in break_lines(text, room))]
    left = None if room is None else max(room.height - 1 - count_lines(lines, room), 0)
    return Group(_draw_head(status, room), *lines, *draw_dead_letters(status, room, left, with_cures=with_cures))


def _draw_head(status: BatchStatus, room: Room | None) -> RenderableType:
    """Draw name, state, and how many tokens of all rows are active, in one line; on a terminal with a bar."""
    name, state = Text(status.name, style="bold"), Text(status.state, style=COLOURS[status.state])
    progress = f"{status.tokens_active} of {status.rows} active"
    if room is None:
        return Text("  ").join([name, state, Text(progress)])
    beside = room.narrow(state.cell_len + len(progress) + 6)
    # A batch's name may be longer than the terminal is wide.
    name = cut_line(name, beside.narrow(NARROWEST_BAR))
    width = min(beside.narrow(name.cell_len).width, WIDEST_BAR)
    head = Table.grid(padding=(0, 2))
    for _ in range(4):
        head.add_column(no_wrap=True, overflow="ellipsis")
    head.add_row(name, state, _Bar(status, width), progress)
    return head


@dataclass(frozen=True, slots=True)
class _Bar:
    """The tokens of a batch as a bar: those that are active, those that were given up, those still to do."""

    status: BatchStatus
    width: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = max(self.status.rows, 1)
        active = self.width * self.status.tokens_active // rows
        # Rounded up: a single token that was given up is seen.
        given_up = -(-self.width * self.status.given_up // rows)
        parts = (active, given_up, self.width - active - given_up)
        marks = _ASCII_MARKS if options.ascii_only else _MARKS
        colours = (_STATUS_COLOURS[Status.ACTIVE], _STATUS_COLOURS[Status.DEAD_LETTER], "dim")
        yield Text.assemble(*((mark * part, colour) for mark, part, colour in zip(marks, parts, colours, strict=True)))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.width, self.width)


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
