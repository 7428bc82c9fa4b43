"""What the page of a batch says in sentences: how the batch came out, when its tokens became active, what was
commanded."""

from __future__ import annotations

from collections.abc import Mapping

from worker.observability.counting import agree
from worker.pages.wording import list_words, write_number, write_span, write_time
from worker.reports.audited import Command
from worker.reports.overview import RowCounts
from worker.reports.sentences.tokens import count_active
from worker.reports.timeline import Timeline


def describe_outcome(counts: RowCounts) -> str:
    """Say in one sentence how many tokens are active, and what became of the others."""
    others = counts.rows - counts.active
    if not counts.rows:
        return "The batch has no tokens."
    if not others:
        return (
            "The only token is active." if counts.rows == 1 else f"All {write_number(counts.rows)} tokens are active."
        )
    ends = (
        (counts.dead_letter, f"{agree(counts.dead_letter, 'was', 'were')} given up"),
        (counts.refused, f"{agree(counts.refused, 'was', 'were')} refused at loading"),
        (counts.cancelled, f"{agree(counts.cancelled, 'was', 'were')} cancelled"),
        (counts.open, f"{agree(counts.open, 'is', 'are')} still to do"),
    )
    told = [(number, how) for number, how in ends if number]
    begin = count_active(counts.active, counts.rows)
    if counts.rows == 1:
        return f"{begin}; it {told[0][1]}."
    if len(told) == 1:
        return f"{begin}; {'the other one' if others == 1 else f'the other {write_number(others)}'} {told[0][1]}."
    return (
        f"{begin}; {write_number(others)} are not: "
        f"{list_words([f'{write_number(number)} {ending}' for number, ending in told])}."
    )


def describe_timeline(timeline: Timeline) -> str:
    """Say in words what the chart shows."""
    if not timeline.moments:
        return "No token is active."
    total = timeline.moments[-1][1]
    (first, _), (last, _) = timeline.moments[0], timeline.moments[-1]
    half = next(at for at, count in timeline.moments if 2 * count >= total)
    if total == 1:
        return f"The only active token became so at {write_time(first)} UTC."
    span = write_span((last - first).total_seconds())
    return (
        f"The first token became active at {write_time(first)} UTC, half of the {write_number(total)} were active by "
        f"{write_time(half)}, and the last became so at {write_time(last)}, {span} after the first."
    )


def describe_command(command: Command) -> str:
    """Write the facts of a command as `name: value; …`, without those that are empty."""
    return "; ".join(
        f"{name.replace('_', ' ')}: {_write_fact(value)}"
        for name, value in command.facts.items()
        if value not in (None, [], {}, "")
    )


def _write_fact(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
