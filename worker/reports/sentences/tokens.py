"""What is said of the tokens of a batch's file, whichever batch made them active: those that came back in a later
one, and the rows that were refused."""

from __future__ import annotations

from shlex import quote

from models.record_states import Status
from models.row_fault import FAULT_CURES, RowFault
from worker.reports.batch_status import BatchStatus


def describe_tokens(status: BatchStatus) -> list[str]:
    """Say how many of the batch's tokens are active in whichever batch, if some were loaded again; which rows were
    refused; and, once the batch is finished, how its dead letters come back."""
    return [*_describe_places(status), *describe_refused(status), *_describe_dead_letters(status)]


def describe_fault_cures(status: BatchStatus) -> list[str]:
    """Say what a person can do about each reason for which rows were refused."""
    return [f"{reason}: {FAULT_CURES[RowFault(reason)]}" for reason in status.refused or ()]


def _describe_places(status: BatchStatus) -> list[str]:
    """Say in which batch how many tokens are active; nothing where none was loaded again."""
    taken_over = status.taken_over
    if not taken_over.total:
        return []
    places = [f"{status.counts[Status.ACTIVE]:,} in {status.name}"]
    places += [f"{counts.get(Status.ACTIVE, 0):,} in {name}" for name, counts in taken_over.counts.items()]
    places += [f"{status.already_active:,} before it was loaded"] if status.already_active else []
    begin = f"{status.tokens_active:,} of {status.rows:,} tokens are active"
    return [f"{begin}: {', '.join(places)}; {status.tokens_left:,} left."]


def describe_refused(status: BatchStatus) -> list[str]:
    """Say how many rows were refused for which reasons, and how to get at them."""
    number = status.rows_refused
    if not number:
        return []
    rows = "1 row was refused" if number == 1 else f"{number:,} rows were refused"
    if status.refused is None:
        return [f"Loaded before refused rows were kept: {rows}; which, the output of that load told."]
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in status.refused.items())
    name = quote(status.name)
    which = f"oathbulk export {name} --status refused -o {quote(status.name + '-refused.csv')}"
    return [f"{rows[0].upper()}{rows[1:]} at loading: {reasons}. With reason and cure: {which}"]


def _describe_dead_letters(status: BatchStatus) -> list[str]:
    """Say how to get at the dead letters of a finished batch, unless all its tokens are active or loaded again."""
    taken_over = status.taken_over
    is_left = status.tokens_left > taken_over.total - taken_over.active
    if status.state != "finished" or status.purged_at or not status.counts[Status.DEAD_LETTER] or not is_left:
        return []
    name = quote(status.name)
    which = f"oathbulk export {name} --status {Status.DEAD_LETTER} -o {quote(status.name + '-again.csv')}"
    return [f"Dead letters, to mend and load again: {which}"]
