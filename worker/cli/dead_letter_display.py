"""How the reasons of a batch's dead letters are displayed, with what to do about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote

from rich.text import Text

from models.reason import Reason, find_cure
from worker.cli.room import Room, break_lines, count_lines, cut_line
from worker.observability.counting import agree
from worker.reports.facts import BatchStatus
from worker.reports.sentences import SHORT_CURES, SHORT_SEED_CURES

_HEAD = ("count", "reason", "what to do (dead letters are given up until then)")


def draw_dead_letters(status: BatchStatus, room: Room | None, left: int | None, *, with_cures: bool) -> list[Text]:
    """Draw the reasons of the dead letters, the most frequent first, in no more than
    `left` lines (None: in as many as it takes). Of a finished batch the cures are written out if they go into these
    lines; with `with_cures`, in any case."""
    if not status.dead_letters:
        return []
    reasons = sorted(status.dead_letters.items(), key=lambda item: -item[1])
    if status.purged_at:
        # No cure is left.
        return [Text(f"{number} {reason}") for reason, number in reasons[:left]]
    if with_cures or status.state == "finished":
        written_out = _write_out(reasons, room, has_seeds=status.has_seeds)
        if with_cures or left is None or len(written_out) <= left:
            return written_out
    command = status.write_command(f"oathbulk status {quote(status.name)} --cures")
    return _list_reasons(reasons, room, left, command, SHORT_SEED_CURES if status.has_seeds else SHORT_CURES)


def _list_reasons(
    reasons: Sequence[tuple[str, int]], room: Room | None, left: int | None, command: str, cures: Mapping[Reason, str]
) -> list[Text]:
    """List the reasons, one to a line. Below them stands with which `command` the cures are read, and how many reasons
    there was no room for."""
    below = 1 if room is None else count_lines(break_lines(_describe_rest(len(reasons), command), room), room)
    fitting = len(reasons) if left is None else max(min(len(reasons), left - 1 - below), 0)
    width = max(len(reason) for reason, _ in reasons)
    rows = [(str(number), reason, cures[Reason(reason)]) for reason, number in reasons[:fitting]]
    lines = [Text(_format_row(_HEAD, width), style="dim")] if rows else []
    lines += [Text(_format_row(row, width)) for row in rows]
    # The command is not cut: it is there to be pasted.
    return [
        *(cut_line(line, room) for line in lines),
        *break_lines(_describe_rest(len(reasons) - fitting, command), room),
    ]


def _describe_rest(hidden: int, command: str) -> Text:
    """Say how many reasons there was no room for, and how the cures are read."""
    more = f"and {hidden} more {agree(hidden, 'reason', 'reasons')}" if hidden else "What to do, in full"
    return Text(f"{more}: {command}", style="dim")


def _write_out(reasons: Sequence[tuple[str, int]], room: Room | None, *, has_seeds: bool) -> list[Text]:
    """Write out what to do about each reason; on a terminal below it."""
    width = max(len(reason) for reason, _ in reasons)
    rows = [(str(number), reason, find_cure(Reason(reason), has_seed=has_seeds)) for reason, number in reasons]
    if room is None:
        return [Text(_format_row(row, width)) for row in (_HEAD, *rows)]
    indent = Text(" " * (len(_HEAD[0]) + 2))
    lines = []
    for number, reason, cure in rows:
        lines.append(Text(_format_row((number, reason, ""), 0).rstrip(), style="bold"))
        lines += [indent + line for line in break_lines(Text(cure), room.narrow(len(indent)))]
    return lines


def _format_row(row: tuple[str, str, str], width: int) -> str:
    """Write a count, a reason and a cure in columns. `width`: that of the longest reason."""
    count, reason, cure = row
    return f"{count.rjust(len(_HEAD[0]))}  {reason.ljust(width)}  {cure}"
