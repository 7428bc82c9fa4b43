"""What is said of the tokens of a batch's file, whichever batch made them active: those that came back in a later
one, and the rows that were refused."""

from __future__ import annotations

from shlex import quote

from models.record_states import Status
from models.refused_row import REFUSED
from models.row_fault import FAULT_CURES, RowFault
from worker.observability.counting import agree, count_things
from worker.reports.batch_status import BatchStatus
from worker.reports.sentences.export_command import write_export
from worker.reports.taken_over import TakenOver


def describe_tokens(status: BatchStatus) -> list[str]:
    """Say how many of the batch's tokens are active in whichever batch, if some were loaded again; which rows were
    refused; and how to get at what is left."""
    taken_over = status.taken_over
    places = (
        [describe_places(status.name, status.counts[Status.ACTIVE], status.already_active, status.rows, taken_over)]
        if taken_over.total
        else []
    )
    return [*places, *describe_left(status)]


def describe_left(status: BatchStatus) -> list[str]:
    """Say which of the batch's tokens came back and are no longer to be mended, which rows are refused, which command
    lists all that is left for a person, and which lets those go again for which that is enough."""
    return [
        *_describe_returned(status),
        *_describe_refused(status),
        *_name_export_of_left(status),
        *_name_replay(status),
    ]


def describe_fault_cures(status: BatchStatus) -> list[str]:
    """Say what a person can do about each reason for which rows were refused, and are left."""
    return [f"{reason}: {FAULT_CURES[RowFault(reason)]}" for reason in status.refused_left or ()]


def describe_places(name: str, active: int, already_active: int, rows: int, taken_over: TakenOver) -> str:
    """Say in which batch how many tokens of a file of so many rows are active. `active`: those of the batch of this
    name; `already_active`: before it was loaded."""
    places = [f"{active:,} in {name}"]
    places += [f"{counts.get(Status.ACTIVE, 0):,} in {later}" for later, counts in taken_over.counts.items()]
    places += [f"{already_active:,} before it was loaded"] if already_active else []
    all_active = active + already_active + taken_over.active
    return f"{count_active(all_active, rows)}: {', '.join(places)}; {rows - all_active:,} left."


def count_active(active: int, rows: int) -> str:
    """Say how many tokens of a file of so many rows are active: `2,959 of 3,000 tokens are active`."""
    return f"{active:,} of {count_things(rows, 'token')} {'is' if 1 in (active, rows) else 'are'} active"


def _describe_returned(status: BatchStatus) -> list[str]:
    """Say how many dead letters, cancelled records and refused rows are active in later batches; nothing if none is."""
    ends = (Status.DEAD_LETTER, Status.CANCELLED, REFUSED)
    numbers = {str(ended): status.taken_over.count_active(ended) for ended in ends}
    words = {
        Status.DEAD_LETTER: "of its dead letters",
        Status.CANCELLED: "cancelled records",
        REFUSED: agree(numbers[REFUSED], "refused row", "refused rows"),
    }
    told = [f"{number:,} {words[ended]}" for ended, number in numbers.items() if number]
    listed = " and ".join(part for part in (", ".join(told[:-1]), *told[-1:]) if part)
    return [f"{listed} came back in later batches, now active there."] if told else []


def _describe_refused(status: BatchStatus) -> list[str]:
    """Say how many rows were refused for which reasons, without those that are active by now."""
    if status.refused_left is None:
        number = status.rows_refused
        return [f"Loaded before refused rows were kept: {_were_refused(number)}; which, the output of that load told."]
    number = sum(status.refused_left.values())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in status.refused_left.items())
    if status.taken_over.count_active(REFUSED) and number:
        return [f"Of its refused rows, {number:,} {agree(number, 'is', 'are')} left: {reasons}."]
    return [f"{_were_refused(number)} at loading: {reasons}."] if number else []


def _were_refused(number: int) -> str:
    return f"{count_things(number, 'row')} {agree(number, 'was', 'were')} refused"


def _name_export_of_left(status: BatchStatus) -> list[str]:
    """Name the command that lists the tokens that are left for a person; nothing where there is none, or none is known
    any more."""
    unknown = status.rows_refused if status.refused is None else 0
    if status.tokens_left <= status.left + unknown or status.purged_at:
        return []
    command = status.write_command(write_export(status.name, "--left", "left", status.names_taken))
    return [f"Those that are left, with their reasons: {command}"]


def _name_replay(status: BatchStatus) -> list[str]:
    """Name the command that lets those dead letters go again that need no fresh OTPs; nothing before the batch is
    finished, or where all need them. Of a rehearsal none can: how that is practised instead."""
    if status.rehearsal and status.tokens_left and not status.left:
        return [status.rehearsal.describe_end()]
    reasons = sorted(reason for reason in status.dead_letters_left if status.replayable.get(reason))
    if status.left or not reasons:
        return []
    # Without a reason, cancelled records would go too; otherwise it means the same, and is soon typed.
    chosen = "".join(f" --reason {reason}" for reason in reasons if status.counts[Status.CANCELLED])
    mended = f"Without fresh OTPs, once their cause is mended ({', '.join(reasons)})"
    return [f"{mended}: oathbulk replay {quote(status.name)}{chosen}"]
