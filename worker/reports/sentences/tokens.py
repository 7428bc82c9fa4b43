"""What is said of the tokens of a batch that are not active: which rows are refused, and what is left for a person."""

from __future__ import annotations

from shlex import quote

from models.record_states import Status
from models.row_fault import FAULT_CURES, RowFault
from worker.observability.counting import agree, count_things
from worker.reports.facts import BatchStatus
from worker.reports.sentences.export_command import write_export, write_mend


def describe_tokens(status: BatchStatus, *, has_buttons: bool = False) -> list[str]:
    """Say which rows of the batch are refused, which command lists all that is left for a person, and which lets those
    go again for which that is enough; in words where it `has_buttons`."""
    return [
        *_describe_refused(status),
        *_name_export_of_left(status, has_buttons=has_buttons),
        *_name_replay(status, has_buttons=has_buttons),
    ]


def describe_fault_cures(status: BatchStatus) -> list[str]:
    """Say what a person can do about each reason for which rows were refused, and are left."""
    return [f"{reason}: {FAULT_CURES[RowFault(reason)]}" for reason in status.refused or ()]


def count_active(active: int, rows: int) -> str:
    """Say how many tokens of a file of so many rows are active: `2,959 of 3,000 tokens are active`."""
    return f"{active:,} of {count_things(rows, 'token')} {'is' if 1 in (active, rows) else 'are'} active"


def _describe_refused(status: BatchStatus) -> list[str]:
    """Say how many rows are refused for which reasons."""
    if status.refused is None:
        number = status.rows_refused
        return [f"Loaded before refused rows were kept: {_were_refused(number)}; which, the output of that load told."]
    number = sum(status.refused.values())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in status.refused.items())
    return [f"{_were_refused(number)} at loading: {reasons}."] if number else []


def _were_refused(number: int) -> str:
    return f"{count_things(number, 'row')} {agree(number, 'was', 'were')} refused"


def _name_export_of_left(status: BatchStatus, *, has_buttons: bool) -> list[str]:
    """Name the commands that list the tokens that are left for a person, and let them go again; nothing where there is
    none, or none is known any more."""
    if not status.is_left_known:
        return []
    command = status.write_command(write_export(status.name, "--left", "left"))
    lines = [] if has_buttons else [f"Those that are left, with their reasons: {command}"]
    # Of a rehearsal nothing goes again.
    return lines if status.rehearsal else [*lines, f"Corrected, they go again: {write_mend(status.name, 'left')}"]


def _name_replay(status: BatchStatus, *, has_buttons: bool) -> list[str]:
    """Name the command that lets those dead letters go again that need no fresh OTPs; nothing before the batch is
    finished, or where all need them. Of a rehearsal none can: how that is practised instead."""
    if status.rehearsal and status.tokens_left and not status.left:
        return [status.rehearsal.describe_end()]
    reasons = sorted(reason for reason in status.dead_letters if status.replayable.get(reason))
    if status.left or not reasons:
        return []
    # Without a reason, cancelled records would go too; otherwise it means the same, and is soon typed.
    chosen = "".join(f" --reason {reason}" for reason in reasons if status.counts[Status.CANCELLED])
    gone = f"Without fresh OTPs, once their cause is gone ({', '.join(reasons)})"
    return [f"{gone}: {'replay them.' if has_buttons else f'oathbulk replay {quote(status.name)}{chosen}'}"]
