"""What happens to a token next if nobody does anything, in a sentence; and the command that a person may type."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from shlex import quote
from typing import Any

from models.batch import BatchState
from models.reason import NEEDS_MENDING, PASSING, TRANSIENT
from models.record_states import Status
from models.refused_row import REFUSED
from worker.reports.refused_rows import RefusedLine
from worker.reports.sentences.durations import format_duration
from worker.reports.sentences.export_command import write_export, write_mend
from worker.reports.stall import Cause, explain_stall
from worker.reports.token_history import PastRecord, TokenHistory
from worker.rules.hours import format_time


@dataclass(frozen=True, slots=True)
class NextStep:
    """What happens next by itself. `why` says more about it, `command` is what helps, if a person wants to act."""

    sentence: str
    why: str | None = None
    command: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def describe_next(token: TokenHistory, *, lease: float, replay_cron: str | None = None) -> NextStep:
    """Say what happens next to the token's latest record. `lease`: seconds that a worker has for an attempt;
    `replay_cron`: when dead letters are replayed by themselves, None for never."""
    if not token.records:
        return _describe_refused(token.refused[0])
    record = token.latest
    match record.status:
        case Status.ACTIVE:
            return NextStep("nothing: it is active")
        case Status.DEAD_LETTER:
            return _describe_dead_letter(record, replay_cron)
        case Status.CANCELLED:
            is_of_cancelled = record.are_otps_kept and record.batch.state == BatchState.CANCELLED
            command = f"oathbulk replay {quote(record.batch.name)}" if is_of_cancelled else None
            return NextStep("nothing by itself: it is cancelled", command=command)
        case Status.ACTIVATING:
            return _describe_in_work(token, lease)
    return _describe_batch_that_stands(record) or _describe_waiting(token)


def _describe_refused(line: RefusedLine) -> NextStep:
    """Say how a row that was refused comes back."""
    return NextStep(
        f"nothing by itself: its row was refused ({line.reason})",
        f"Export the refused rows, correct them in the file, then: {write_mend(line.batch, REFUSED)}",
        write_export(line.batch, f"--status {REFUSED}", REFUSED),
    )


def _describe_dead_letter(record: PastRecord, replay_cron: str | None) -> NextStep:
    """Say whether a dead letter goes again, and by which command."""
    batch = quote(record.batch.name)
    is_sent_in_vain = record.reason in NEEDS_MENDING
    if is_sent_in_vain or not record.is_replayable:
        why, mended = "A replay has no OTP of it to send.", "write fresh OTPs into the file"
        if is_sent_in_vain:
            why, mended = "A replay ends as this did.", "correct the file"
        return NextStep(
            f"nothing by itself: it is given up ({record.reason})",
            f"{why} Export what is left, {mended}, then: {write_mend(record.batch.name, 'left')}",
            write_export(record.batch.name, "--left", "left"),
        )
    why = f"A replay makes every dead letter of batch {record.batch.name} with this reason go again, not it alone."
    command = f"oathbulk replay {batch} --reason {record.reason}"
    if replay_cron and record.reason in TRANSIENT:
        return NextStep(f"it is due again at the next time of the replay schedule ({replay_cron})", why, command)
    return NextStep(f"nothing by itself: it is given up ({record.reason})", why, command)


def _describe_in_work(token: TokenHistory, lease: float) -> NextStep:
    """Say since when a worker has the record, and when it is taken for dead."""
    until = token.latest.lease_until or token.now
    if until <= token.now:
        return NextStep(
            f"the time of its worker ran out at {until:%H:%M:%S} UTC, and it is due again as soon as a worker runs"
        )
    since = max((token.now - until + timedelta(seconds=lease)).total_seconds(), 0.0)
    return NextStep(
        f"in work since {format_duration(since)}; if its worker died it is looked at again at {until:%H:%M:%S} UTC"
    )


def _describe_batch_that_stands(record: PastRecord) -> NextStep | None:
    """Say what becomes of a record whose batch does not run; None if it does."""
    batch = record.batch
    if batch.state == BatchState.CANCELLED:
        return NextStep(f"batch {batch.name} is cancelled; the device is read once more, and then the record ends")
    if batch.state != BatchState.PAUSED:
        return None
    if batch.reason in PASSING:
        at = f" at {format_time(batch.resumes_at)}" if batch.resumes_at else ""
        return NextStep(f"batch {batch.name} is paused: {batch.reason}; it goes on by itself{at}", batch.detail)
    sentence = f"batch {batch.name} is paused: {batch.reason}"
    return NextStep(sentence, batch.detail, f"oathbulk resume {quote(batch.name)}")


def _describe_waiting(token: TokenHistory) -> NextStep:
    """Say what a pending or queued record of a running batch waits for."""
    record, batch = token.latest, quote(token.latest.batch.name)
    is_pending, status = record.status == Status.PENDING, f"oathbulk status {batch}"
    if is_pending and not record.user_id:
        return NextStep("waits until its user is looked up in PingOne", command=status)
    if is_pending and not record.is_in_inventory:
        return NextStep("waits until its token is found in PingOne's inventory, or imported", command=status)
    if is_pending and record.batch.last_row is not None and record.row_number > record.batch.last_row:
        last = record.batch.last_row
        return NextStep(f"waits until the rows up to {last} are done, which go first", command=status)
    if token.hold is not None:
        return NextStep(
            f"all workers hold until {token.hold.until:%H:%M:%S} UTC ({format_duration(token.hold.left)})",
            token.hold.why,
            f"oathbulk resume {batch} --now",
        )
    due_in = (record.scheduled_at - token.now).total_seconds()
    if is_pending and due_in > 0:
        return NextStep(f"due {'again ' if record.attempts else ''}in {format_duration(due_in)}")
    return _describe_due(token)


def _describe_due(token: TokenHistory) -> NextStep:
    """Say who takes a record that is due, or on the queue."""
    record, stall = token.latest, explain_stall(token.fleet)
    if stall.cause != Cause.UNKNOWN:
        cause = stall.detail[:1].lower() + stall.detail[1:].rstrip(".")
        return NextStep(f"waits for a worker: {cause}", stall.cure, f"oathbulk status {quote(record.batch.name)}")
    if record.status == Status.QUEUED and record.lease_until:
        return NextStep(f"waits for a worker; if none takes it, it is due again at {record.lease_until:%H:%M:%S} UTC")
    return NextStep("waits for a worker")
