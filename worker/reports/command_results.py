"""Describes what a person's command did to a batch: whether it runs, whether a worker works on it, and which records
are sent again. The terminal and the desk show the same sentences."""

from collections.abc import Iterator, Sequence
from shlex import quote

from models.reason import Reason
from models.record_states import Status
from worker.batches.commands import Replayed
from worker.batches.hours import OutOfHours
from worker.leases.replay import NotReplayed, Why
from worker.observability.wording import agree, count_things
from worker.reports.cures import write_export
from worker.reports.stall import Fleet, explain_stall


def describe_resumed(batch: str, outside: OutOfHours | None, fleet: Fleet, *, lifts_hold: bool) -> str:
    """Say whether a resumed batch runs: outside its hours it waits, and without workers nothing happens."""
    if outside is not None:
        return _describe_waiting(batch, outside)
    hold = " Its hold ends within seconds." if lifts_hold else ""
    return (f"{batch} runs." if fleet.alive else describe_unattended(batch, fleet)) + hold


def describe_cancelled(batch: str, records: int) -> str:
    """Say how many rows were closed, and which command sends them again."""
    closed = f"{count_things(records, 'row')} {agree(records, 'is', 'are')} closed"
    return f"{batch} is cancelled: {closed}. To send it again: oathbulk replay {quote(batch)}"


def describe_closed(batch: str, where: Sequence[str], rows: int) -> str:
    """Say how many rows were closed, and which command sends the loaded ones again."""
    if not rows:
        return f"No row of {batch} that failed or has not begun matches, so none was closed."
    again = " ".join(["oathbulk replay", quote(batch), *(f"--where {quote(condition)}" for condition in where)])
    closed = f"{count_things(rows, 'row')} of {batch} {agree(rows, 'is', 'are')} closed."
    return f"{closed} To send the loaded rows again: `{again}`; mend the rest."


def describe_replayed(batch: str, replayed: Replayed, reasons: Sequence[Reason] | None, fleet: Fleet) -> str:
    """Say how many records are sent again, whether a worker works on them, and which stay as they are and why; one line
    each."""
    are = agree(replayed.records, "is", "are")
    lines = [f"{count_things(replayed.records, 'record')} of {batch} {are} tried again."]
    if replayed.out_of_hours is not None:
        lines.append(_describe_waiting(batch, replayed.out_of_hours))
    elif replayed.records and not fleet.alive:
        lines.append(describe_unattended(batch, fleet))
    if replayed.not_replayed:
        lines.append(describe_staying(batch, replayed.not_replayed))
    elif reasons and not replayed.records:
        lines.append(f"No dead letter of {batch} has the reason {' or '.join(reasons)}.")
    return "\n".join(lines)


def describe_staying(batch: str, stay: Sequence[NotReplayed]) -> str:
    """Say which records a replay left as they are: for each reason, how many, why, and what to do."""
    records = sum(group.records for group in stay)
    lines = [f"{records} {agree(records, 'stays as it is', 'stay as they are')}:"]
    lines += [f"  {group.records} {group.reason}: {_explain_staying(batch, group)}" for group in stay]
    lines += [
        f"As a file, to enter fresh OTPs and mend: {write_export(batch, chosen, ending)}"
        for chosen, ending in _choose_for_export(stay)
    ]
    return "\n".join(lines)


def _choose_for_export(stay: Sequence[NotReplayed]) -> Iterator[tuple[str, str]]:
    """Write the options of `oathbulk export` that select the records in need of fresh OTPs, each with the ending of the
    file's name."""
    lacking = {group.reason for group in stay if group.why == Why.FRESH_OTPS}
    if reasons := sorted(lacking - {Status.CANCELLED}):
        yield " ".join(f"--reason {reason}" for reason in reasons), "fresh"
    if Status.CANCELLED in lacking:
        yield f"--status {Status.CANCELLED}", str(Status.CANCELLED)


def _explain_staying(batch: str, group: NotReplayed) -> str:
    """Say why these records of a batch cannot be sent again."""
    match group.why:
        case Why.FRESH_OTPS:
            return "they need fresh OTPs, because theirs were refused, used, or too old."
        case Why.SEED_ERASED:
            return (
                f"the seed was erased when the token became active. Give the vendor's file, and a list of who gets a "
                f"token again: oathbulk mend {quote(batch)} FILE --assign LIST"
            )
        case Why.TAKEN_BACK:
            again = f"oathbulk replay {quote(batch)} --where …"
            ended = "closed by an undo or a person"
            return f"{ended}. Mend them for other people; or to send some anyway: {again}"
        case Why.LOADED_AGAIN:
            return f"loaded again since then, in batch {group.batch}."
        case Why.IN_PROGRESS:
            return f"in progress in batch {group.batch}."


def describe_unattended(batch: str, fleet: Fleet) -> str:
    """Say that no worker works on a batch that may run, and how to get one."""
    return f"{batch} is allowed to run, but no worker is working on it. {explain_stall(fleet)}"


def _describe_waiting(batch: str, outside: OutOfHours) -> str:
    """Say that the batch waits for its hours, and which command runs it now."""
    return f"{batch} is {outside}. To run it now, and all day: oathbulk resume {quote(batch)} --no-window"
