"""`oathbulk status`, and how `run` shows batches: one in full, with as many failure reasons as there is room for; or
all, in a table. Batches are shown once, or repeatedly until nothing more will happen to them. A monitor reads the exit
code."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from shlex import quote
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from models.batch import BatchState
from models.reason import PASSING, PauseReason
from models.record_states import Status
from worker.cli.console import (
    GAP,
    PIPE,
    Cell,
    Room,
    align,
    break_lines,
    can_redraw,
    console,
    count_lines,
    cut_line,
    measure_room,
    print_json,
)
from worker.cli.exit_codes import ALL_ACTIVE, STALLED, WAITING_FOR_A_PERSON
from worker.cli.homes import find_rehearsal, is_own_home, open_installation_with
from worker.cli.options import AsJson, By, Where, complete_batch
from worker.installation.installation import Installation, read_statuses
from worker.observability.wording import agree, escape, write_share
from worker.reports.cures import SHORT_CURES, SHORT_SEED_CURES, Why, describe_failed, list_failed
from worker.reports.facts import BatchStatus, PartStatus, RowCounts, describe_costs, describe_made, read_parts
from worker.reports.outlook import (
    describe_outlook,
    describe_outlook_after_run,
    describe_start,
    describe_steps,
    explain_fleet,
    format_log_line,
    put_waiting_first,
)
from worker.rules.resync import NeedsFlag
from worker.tenants import LEARNED

# Seconds between two looks of `--watch`.
LOOK_EVERY = 1.0
# Columns of the bar, at most and at least.
WIDEST_BAR = 40
NARROWEST_BAR = 8
# Marks of the bar that differ without colors too: active, failed, the rest; then the same for a terminal that has only
# ASCII.
_MARKS, _ASCII_MARKS = "━╍─", "=x-"
COLORS = {
    **{"running": "cyan", "paused": "yellow", "finished": "green"},
    **{"cancelled": "red", "active": "green", "failed": "red", "rows": "bold"},
}
_FAILED_HEAD = ("failed", "reason", "what to do")
# The four kinds of rows, after the total, as in every table.
_ROWS_HEAD = ("rows", "active", "to do", "failed", "closed")
_BATCHES_HEAD = ("batch", "state", *_ROWS_HEAD)
_PARTS_HEAD = ("waits until", *_ROWS_HEAD, "wrong OTPs")
# Their columns that hold numbers.
_NUMBERS = range(2, 8)
# How far the outlook is indented on a terminal, in columns.
_INDENT = 4
# Seconds between two lines where lines cannot be redrawn, so that a log does not overflow.
LINE_EVERY = 5.0


def status(
    batch: Annotated[
        str | None,
        typer.Argument(metavar="[BATCH]", autocompletion=complete_batch, help="The batch's name. Default: all."),
    ] = None,
    watches: Annotated[
        bool, typer.Option("--watch/--no-watch", help="Keep watching until everything is finished, or Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
    by: By = None,
    where: Where = None,
    cures: Annotated[
        bool,
        typer.Option("--cures", help="Explain in full what to do about each reason."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit with code 5 if due work is stuck or PingOne does not answer, with code 4 if a batch needs "
            "someone to act, otherwise with code 0.",
        ),
    ] = False,
) -> None:
    """Show counts, pace, time left, reasons, and what happens if nobody does anything."""
    if (by or where) and (batch is None or watches or check or cures or not by):
        problem = "name a batch, and a column with --by; omit --watch, --check, and --cures"
        raise typer.BadParameter(problem, param_hint="--by and --where")
    if cures and (batch is None or watches):
        raise typer.BadParameter("name a batch, and omit --watch", param_hint="--cures")
    installation = open_installation_with(batch)
    if by is not None and batch is not None:
        parts = read_parts(installation.database, batch, by, where or ())
        if as_json:
            print_json({"batch": batch, "by": by, "parts": [part.to_json() for part in parts]})
        else:
            console.print(draw_parts(by, parts, measure_room(console)))
        return
    if as_json:
        statuses = [status.to_json() for status in read_statuses(installation, batch)]
        print_json(statuses[0] if batch else {"batches": statuses})
    elif watches:
        watch(
            console,
            lambda: read_statuses(installation, batch),
            lambda statuses: _draw(installation, batch, statuses),
            lambda status: not status.to_do,
            look_every=LOOK_EVERY if can_redraw(console) else LINE_EVERY,
        )
    else:
        console.print(_draw(installation, batch, read_statuses(installation, batch), with_cures=cures))
    if check:
        raise typer.Exit(max(map(choose_check_code, read_statuses(installation, batch)), default=ALL_ACTIVE))


def choose_check_code(status: BatchStatus) -> int:
    """Choose the exit code of `--check` for one batch."""
    if status.stall or status.outage:
        return STALLED
    is_all_kept_back = status.to_do > 0 and status.to_do == status.kept_back
    return WAITING_FOR_A_PERSON if status.waits_for_a_person or is_all_kept_back else ALL_ACTIVE


def _draw(
    installation: Installation, batch: str | None, read: Sequence[BatchStatus], *, with_cures: bool = False
) -> RenderableType:
    """Draw this batch, or all batches and the name of their home, as they were read; also say why no worker takes work,
    and which workers shut down because they failed where others did not."""
    rehearsal = find_rehearsal(installation)
    statuses = [replace(status, rehearsal=rehearsal) for status in read]
    notes, room, settings = explain_fleet(statuses), measure_room(console), installation.settings
    if batch:
        return draw_batch(statuses[0], room, notes=notes, with_cures=with_cures)
    # A rehearsal's home was named on stderr.
    is_named = settings.is_embedded_database and is_own_home(installation)
    home = [Text(f"Home: {settings.home}", style="dim")] if is_named else []
    return Group(draw_batches(statuses, room), *(line for note in notes for line in break_lines(note, room)), *home)


def watch(
    shown_on: Console,
    read: Callable[[], Sequence[BatchStatus]],
    draw: Callable[[Sequence[BatchStatus]], RenderableType],
    is_over: Callable[[BatchStatus], bool],
    *,
    look_every: float,
    is_quiet: bool = False,
    stays: bool = True,
    restart_ended: Callable[[], str | None] = lambda: None,
) -> str | None:
    """Show the statuses of the batches until all are over. `stays`: the last statuses are shown too, and stay on the
    terminal. `restart_ended` is called between two looks; if it names a part of the stack that keeps failing, this ends
    at once and returns that name. Otherwise returns None."""
    is_live, next_line_at = can_redraw(shown_on) and not is_quiet, 0.0
    display = Live(console=shown_on, auto_refresh=False, transient=not stays)
    with display if is_live else nullcontext():
        while True:
            statuses = read()
            are_over = all(map(is_over, statuses))
            if are_over and not stays:
                return None
            if is_live:
                display.update(draw(statuses), refresh=True)
            elif not is_quiet and (are_over or time.monotonic() >= next_line_at):
                for status in statuses:
                    shown_on.print(format_log_line(status))
                next_line_at = time.monotonic() + LINE_EVERY
            if are_over:
                return None
            if failing_part := restart_ended():
                return failing_part
            time.sleep(look_every)


def is_over(status: BatchStatus) -> bool:
    """Whether a run is done with the batch: every record is final; or the batch paused by itself for something that
    only a person can fix, and no worker has one of its records."""
    if status.state == BatchState.PAUSED:
        if status.reason in PASSING or status.reason == PauseReason.PERSON:
            # Such a pause ends by itself, or when the person who paused the batch resumes it.
            return False
        return not status.counts[Status.ACTIVATING]
    return not status.to_do


def draw_any(statuses: Sequence[BatchStatus], room: Room = PIPE, *, stopped: str | None = None) -> RenderableType:
    """Draw one batch whole, or several in a table. `stopped`: how to continue, if the run ended before all were
    finished."""
    if len(statuses) == 1:
        return draw_batch(statuses[0], room, stopped=stopped)
    drawn = draw_batches(statuses, room)
    return drawn if stopped is None else Group(drawn, Text(stopped))


def draw_batch(
    status: BatchStatus,
    room: Room = PIPE,
    *,
    stopped: str | None = None,
    notes: Sequence[str] = (),
    with_cures: bool = False,
) -> RenderableType:
    """Draw one batch: bar, rows, outlook, costs, `notes`, and the reasons for failures. `stopped`: a sentence that says
    how to continue, if the run that worked on the batch ended before it was finished. `with_cures`: write out what to
    do about each reason, however much room that takes."""
    future = describe_outlook(status) if stopped is None else describe_outlook_after_run(status, stopped)
    # The outlook is near the top, so that it is visible even in the smallest terminal.
    texts: list[Text | str] = [put_waiting_first(status, future), *describe_failed(status)]
    lesson = LEARNED[status.resync.needs] if status.resync.needs in (NeedsFlag.TRIED, NeedsFlag.YES) else ""
    costs = " · ".join(filter(None, (describe_steps(status), _describe_pace(status), describe_costs(status))))
    texts += [Text(note, style="dim") for note in (costs, describe_made(status), lesson) if note]
    lines = [*_draw_rows(status), *(line for text in [*texts, *notes] for line in break_lines(text, room))]
    free = max(room.height - 1 - count_lines(lines, room), 0)
    return Group(_draw_head(status, room), *lines, *draw_failed(status, room, free, with_cures=with_cures))


def draw_batches(statuses: Sequence[BatchStatus], room: Room = PIPE) -> RenderableType:
    """Draw a line with the row counts of each batch. The outlook is below it on a terminal; in a pipe, it is at the end
    of the same line, so that a script reads one batch per line."""
    if not statuses:
        return Text("No batch has been loaded yet. Start with: oathbulk run FILE, or oathbulk rehearse.")
    rows, futures = list[list[Cell]](), list[str]()
    for status in statuses:
        rows.append([escape(status.name), (status.state, COLORS[status.state]), *_list_numbers(status)])
        futures.append(put_waiting_first(status, describe_outlook(status)))
    if room is PIPE:
        whole = [(*row, escape(future)) for row, future in zip(rows, futures, strict=True)]
        head, *lines = align([(*_BATCHES_HEAD, "outlook"), *whole], _NUMBERS)
    else:
        beside = max(line.cell_len for line in align([_BATCHES_HEAD[1:], *(row[1:] for row in rows)]))
        # A batch's name may be longer than the terminal is wide.
        longest = max(room.width - beside - len(GAP), len(_BATCHES_HEAD[0]))
        cut = [[cut_line(str(name), longest).plain, *others] for name, *others in rows]
        head, *drawn = align([_BATCHES_HEAD, *cut], _NUMBERS)
        lines = [
            line
            for row, future in zip(drawn, futures, strict=True)
            for line in (row, *break_lines(future, room, _INDENT))
        ]
    head.stylize("bold")
    return Group(head, *lines)


def draw_parts(by: str, parts: Sequence[PartStatus], room: Room = PIPE) -> RenderableType:
    """Draw a line for each value of a column: its date, and the counts of the rows that have it."""
    rows: list[list[Cell]] = [
        [
            escape(part.value) if part.value else "(none)",
            describe_start(part),
            *_list_numbers(part),
            "" if part.otps_wrong is None else write_share(part.otps_wrong),
        ]
        for part in parts
    ]
    head, *lines = align([(by, *_PARTS_HEAD), *rows], _NUMBERS, room.width)
    head.stylize("bold")
    return Group(head, *lines)


def _list_numbers(rows: RowCounts) -> list[str]:
    """Write the numbers of _ROWS_HEAD."""
    return list(map(str, rows.rows_to_json().values()))


def draw_failed(status: BatchStatus, room: Room, free: int, *, with_cures: bool) -> list[Text]:
    """Draw the reasons for failures, the most frequent first, in no more than `free` lines. For a finished batch, the
    cures are written out if they fit into these lines; with `with_cures`, they always are."""
    failed = list_failed(status)
    if status.purged_at or not failed:
        # There is nothing to do about these reasons anymore.
        return [Text(f"{number} {reason}") for reason, number, _ in failed[:free]]
    if with_cures or status.state == "finished":
        written_out = _write_out(failed, room)
        if with_cures or len(written_out) <= free:
            return written_out
    command = status.write_command(f"oathbulk status {quote(status.name)} --cures")
    below = count_lines(break_lines(_describe_rest(len(failed), command), room), room)
    fitting = len(failed) if room is PIPE else max(min(len(failed), free - 1 - below), 0)
    cures = SHORT_SEED_CURES if status.has_seeds else SHORT_CURES
    rows = [(str(number), reason, cures[reason]) for reason, number, _ in failed]
    head, *lines = align([_FAILED_HEAD, *rows], (0,), room.width)
    head.stylize("dim")
    rest = Text(_describe_rest(len(failed) - fitting, command), style="dim")
    return [*([head, *lines[:fitting]] if fitting else []), *break_lines(rest, room)]


def _draw_head(status: BatchStatus, room: Room) -> Text:
    """Draw name, state, and how many of all rows are active, in one line; on a terminal with a bar."""
    state, progress = Text(status.state, style=COLORS[status.state]), f"{status.active} of {status.rows} active"
    if room is PIPE:
        return Text(GAP).join([Text(status.name, style="bold"), state, Text(progress)])
    beside = room.width - state.cell_len - len(progress) - 3 * len(GAP)
    # A batch's name may be longer than the terminal is wide.
    name = cut_line(Text(status.name, style="bold"), beside - NARROWEST_BAR)
    # As a bar: the rows that are active, those that failed, and the rest.
    width, rows = max(min(beside - name.cell_len, WIDEST_BAR), 1), max(status.rows, 1)
    active = width * status.active // rows
    # Rounded up, so that a single failed row is visible.
    failed = -(-width * status.failed // rows)
    parts = zip(
        _ASCII_MARKS if room.is_ascii else _MARKS,
        (active, failed, width - active - failed),
        ("green", "red", "dim"),
        strict=True,
    )
    bar = Text.assemble(*((mark * part, color) for mark, part, color in parts))
    return Text(GAP, no_wrap=True, overflow="ignore").join([name, state, bar, Text(progress)])


def _draw_rows(status: BatchStatus) -> list[Text]:
    """Draw how many rows are active, to do, failed, and closed: names in one line, numbers below."""
    numbers: list[Cell] = [
        (number, COLORS.get(name, "")) for name, number in zip(_ROWS_HEAD, _list_numbers(status), strict=True)
    ]
    return align([[(name, "dim") for name in _ROWS_HEAD], numbers], right=range(len(_ROWS_HEAD)))


def _describe_pace(status: BatchStatus) -> str:
    """The recent pace; empty if the batch is finished."""
    return f"{status.pace:.1f} records/s" if status.finished_at is None else ""


def _describe_rest(hidden: int, command: str) -> str:
    """Say how many reasons there was no room for, and how to read the cures."""
    more = f"and {hidden} more {agree(hidden, 'reason', 'reasons')}" if hidden else "What to do, in full"
    return f"{more}: {command}"


def _write_out(failed: Sequence[tuple[Why, int, str]], room: Room) -> list[Text]:
    """Write out what to do about each reason; on a terminal, below the reason."""
    if room is PIPE:
        return align([_FAILED_HEAD, *((str(number), reason, cure) for reason, number, cure in failed)], right=(0,))
    indent = len(_FAILED_HEAD[0]) + len(GAP)
    return [
        line
        for reason, number, cure in failed
        for line in (
            Text(f"{str(number).rjust(indent - len(GAP))}{GAP}{reason}", style="bold"),
            *break_lines(cure, room, indent),
        )
    ]
