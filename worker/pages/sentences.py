"""What a report says in sentences: how the batch came out, what to do, and what stands out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from shlex import quote

from models.refused_row import REFUSED
from worker.observability.counting import agree, count_things, write_share
from worker.pages.left import leave_out_active
from worker.pages.wording import list_words, write_number, write_span, write_time
from worker.reports.batch_report.contents import Command, Report, RowCounts, StepShare, Timeline
from worker.reports.sentences.export_command import write_export
from worker.reports.sentences.tokens import count_active, describe_places
from worker.reports.taken_over import TakenOver


def describe_shipment(batch: str, counts: RowCounts, taken_over: TakenOver) -> str:
    """Say in one sentence how many tokens of a batch are active, in whichever batch, and how many are left; if none was
    loaded again, what became of the others."""
    if not taken_over.total:
        return describe_outcome(counts)
    return describe_places(batch, counts.active, counts.already_active, counts.rows, taken_over)


def describe_outcome(counts: RowCounts) -> str:
    """Say in one sentence how many tokens are active, and what became of the others."""
    active = counts.active + counts.already_active
    others = counts.rows - active
    if not counts.rows:
        return "The batch has no tokens."
    if not others:
        return (
            "The only token is active." if counts.rows == 1 else f"All {write_number(counts.rows)} tokens are active."
        )
    ends = (
        (counts.dead_letter, f"{agree(counts.dead_letter, 'was', 'were')} given up"),
        (counts.refused, f"{agree(counts.refused, 'was', 'were')} refused when the file was loaded"),
        (counts.cancelled, f"{agree(counts.cancelled, 'was', 'were')} cancelled"),
        (counts.open, f"{agree(counts.open, 'is', 'are')} still to do"),
    )
    told = [(number, how) for number, how in ends if number]
    begin = count_active(active, counts.rows)
    if counts.rows == 1:
        return f"{begin}; it {told[0][1]}."
    if len(told) == 1:
        return f"{begin}; {'the other one' if others == 1 else f'the other {write_number(others)}'} {told[0][1]}."
    return (
        f"{begin}; {write_number(others)} are not: "
        f"{list_words([f'{write_number(number)} {ending}' for number, ending in told])}."
    )


def list_next_steps(report: Report) -> list[str]:
    """Say what a person does now for the tokens that no later batch made active, the most important first."""
    report = leave_out_active(report)
    steps = [*_tell_dead_letters(report), *_tell_open(report), *_tell_refused(report), *_tell_cancelled(report)]
    steps += [f"{sentence} Tell who delivered them." for sentence in list_standing_out(report)]
    return steps or ["Nothing is left to do."]


def tell_active_later(number: int) -> str:
    """Say that later batches made so many of some tokens active."""
    return f"Later batches made {write_number(number)} of these tokens active."


def list_reasons_left(report: Report) -> list[str]:
    """Name the reasons of the dead letters that no later batch made active."""
    return [group.reason for group in leave_out_active(report).dead_letters]


def _tell_dead_letters(report: Report) -> Iterator[str]:
    if not report.dead_letters:
        return
    most, number = report.dead_letters[0], report.counts.dead_letter
    given_up = f"{count_things(number, 'token')} {agree(number, 'was', 'were')} given up"
    if len(report.dead_letters) == 1:
        yield f"{given_up} for one reason, {most.reason}: {most.cure}"
    elif most.count == report.dead_letters[1].count:
        yield f"{given_up} for {len(report.dead_letters)} reasons. What to do about each stands under Dead letters."
    else:
        yield (
            f"{given_up} for {len(report.dead_letters)} reasons, most often {most.reason} "
            f"({write_number(most.count)}): {most.cure} What to do about the others stands under Dead letters."
        )


def _tell_open(report: Report) -> Iterator[str]:
    if not report.counts.open:
        return
    number = report.counts.open
    left = f"{count_things(number, 'token')} {agree(number, 'is', 'are')} still to do"
    if report.state.word != "paused":
        them = agree(number, "it", "them")
        yield f"{left}, and the batch is {report.state.word}: nothing needs to be done for {them}."
    elif report.state.is_passing:
        yield f"{left}. The batch is paused ({report.state.reason}) and goes on by itself: {report.state.detail}"
    else:
        yield (
            f"{left}. The batch is paused ({report.state.reason}): {report.state.detail} "
            f"Go on with `oathbulk resume {quote(report.batch)}`."
        )


def _tell_refused(report: Report) -> Iterator[str]:
    number = report.counts.refused
    if not number:
        return
    begin = f"{count_things(number, 'row')} of the file {agree(number, 'was', 'were')} refused when it was loaded"
    if report.refused is None:
        yield (
            f"{begin}, before refused rows were kept. `oathbulk check FILE` names each with its reason; mend them, and "
            "load these rows as a file of their own."
        )
        return
    # Once some came back, a file of all refused rows would bring these again.
    left = write_export(report.batch, "--left", "left")
    command = left if report.taken_over.count_active(REFUSED) else write_refused_export(report)
    yield (
        f"{begin}, {list_words([f'{write_number(group.count)} {group.reason}' for group in report.refused])}. "
        f"`{command}` writes them with reason and cure; mend them, and load that file."
    )


def write_refused_export(report: Report) -> str:
    """Write the command that lists every row that was refused when the batch was loaded."""
    return write_export(report.batch, f"--status {REFUSED}", REFUSED)


def _tell_cancelled(report: Report) -> Iterator[str]:
    if cancelled := report.counts.cancelled:
        yield (
            f"{count_things(cancelled, 'token')} {agree(cancelled, 'was', 'were')} cancelled on a person's command; "
            f"nothing happens to {agree(cancelled, 'it', 'them')} until a person acts."
        )


def list_standing_out(report: Report) -> list[str]:
    """Name each lot, vendor or model of which far more tokens were out of step than elsewhere."""
    return [
        describe_standing_out(column.name, group)
        for column in report.step_columns
        for group in column.groups
        if group.stands_out
    ]


def describe_standing_out(column: str, group: StepShare) -> str:
    """Say how far a group is off, such as `18 of 20 tokens of lot B7 were out of step, against 12 % elsewhere.`"""
    return (
        f"{write_number(group.out_of_step)} of {count_things(group.tokens, 'token')} of {column} {group.name} were out "
        f"of step, against {write_share(group.elsewhere)} elsewhere."
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
