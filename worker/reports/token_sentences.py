"""What is said of one token: how its records stand, what each attempt sent and what came back, what happens next if
nobody does anything, and the command that a person may type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from shlex import quote
from typing import Any

from models.attempt import Outcome
from models.batch import BatchState
from models.person import NAMES
from models.reason import NEEDS_MENDING, PASSING, TRANSIENT, Reason
from models.record_states import Status
from models.refused_row import REFUSED
from worker.observability.counting import count_things, format_duration, format_moment
from worker.observability.escaping import escape_line
from worker.pingone.wire import EXTRA_OTP_REQUIRED
from worker.reports.search import RefusedLine
from worker.reports.sentences import write_export, write_mend
from worker.reports.stall import Cause, explain_stall
from worker.reports.token_history import PastAttempt, PastRecord, TokenHistory
from worker.rules.hours import format_time

# Reasons of dead letters for which the attempt does not count, since PingOne did nothing with it.
_UNCOUNTED = (Reason.STALE_OTP, Reason.ATTEMPTS_SPENT, Reason.FORBIDDEN)


def describe_origin(record: PastRecord) -> str:
    """Say where a record stands: its batch, its row, and the file."""
    return escape_line(f"Batch {record.batch.name}, row {record.row_number} of {record.batch.file} (#{record.id})")


def list_facts(record: PastRecord) -> Iterator[tuple[str, str]]:
    """List how a record stands, whose it is, and what became of its OTPs."""
    finalized = f" since {format_moment(record.finalized_at)} UTC" if record.finalized_at else ""
    reason = f" ({record.reason})" if record.reason else ""
    yield "status", f"{record.status}{reason}{finalized}"
    if record.reason and record.meaning:
        yield "meaning", record.meaning
    yield "user", record.user_id or "not known yet"
    made = " (made by this batch)" if record.is_device_made else ""
    # Pairs, since a column of the file may have the name of one of ours.
    kept = [
        *((name, getattr(record, name)) for name in NAMES),
        ("device", f"{record.device_id}{made}" if record.device_id else "none yet"),
        ("lot", record.lot),
        *(record.extra or {}).items(),
    ]
    yield from ((label, str(value)) for label, value in kept if value)
    otps = record.describe_otps()
    yield from (("OTPs", otps["source"]), ("OTP 1", otps["otp1"]), ("OTP 2", otps["otp2"]))


@dataclass(frozen=True, slots=True)
class ToldAttempt:
    """An attempt as it is shown. `place`: counted from 1 in the order of the attempts; `posts`: the OTPs that it posted
    itself; `calls`: what it sent, and what came back."""

    place: int
    line: PastAttempt
    is_counted: bool
    posts: int
    calls: str


def list_attempts(record: PastRecord) -> Iterator[tuple[str, str]]:
    """List each attempt in one line, and below them their sum."""
    if not record.attempts:
        yield "attempts", "none yet"
        return
    for told in tell_attempts(record):
        yield "attempts" if told.place == 1 else "", describe_attempt(told)
    yield "in all", sum_up(record)


def tell_attempts(record: PastRecord) -> list[ToldAttempt]:
    """Tell of each attempt what it sent and what came back. A line counts an OTP 1 after which PingOne asked for OTP 2
    only in the attempt that posts that one: here it is told where it was posted."""
    told = []
    is_half_done = is_first_answered = False
    for place, line in enumerate(record.attempts, 1):
        was_half_done, has_asked = is_half_done, EXTRA_OTP_REQUIRED in (line.code, line.detail_code)
        is_half_done = has_asked and line.outcome == Outcome.HANDED_BACK
        posts = line.otp_posts + int(is_half_done) - int(was_half_done and line.otp_posts > 0)
        ordinal = 2 if was_half_done or (is_first_answered and not record.has_seed) else 1
        is_counted = line.outcome != Outcome.HANDED_BACK and line.reason not in _UNCOUNTED
        told.append(ToldAttempt(place, line, is_counted, posts, _describe_calls(line, posts, ordinal)))
        is_final = line.outcome in (Outcome.ACTIVE, Outcome.DEAD_LETTER)
        is_half_done |= was_half_done and line.otp_posts == 0 and not is_final
        # A record that goes again after its end has fresh OTPs, unless none was answered.
        is_first_answered = not is_final and (is_first_answered or has_asked)
    return told


def sum_up(record: PastRecord) -> str:
    """Sum the attempts of a record up, from its own totals."""
    counted = record.counted_attempts - int(record.status == Status.ACTIVATING)
    posts = record.otp1_posts + record.otp2_posts + record.posts_forgiven
    missing = posts - sum(told.posts for told in tell_attempts(record))
    rest = f" ({missing} of them by attempts that were lost or still go on)" if missing > 0 else ""
    parts = [
        count_things(len(record.attempts), "attempt"),
        f"{counted} of them counted" if counted < len(record.attempts) else "",
        count_things(record.requests, "request"),
        f"{count_things(posts, 'OTP')} posted{rest}",
    ]
    return ", ".join(filter(None, parts))


def describe_attempt(told: ToldAttempt) -> str:
    """Describe an attempt in one line: its place, time and outcome, what it sent, what came back, and what it cost."""
    line = told.line
    parts = [
        f"{told.place}. {format_moment(line.ended_at)} UTC",
        line.outcome + (f" ({line.reason})" if line.reason else ""),
        "" if told.is_counted else "not counted",
        told.calls,
        count_things(line.requests, "request") if line.requests else "",
        # Without a space, so that no line ends between the name and the id.
        line.pingone_error_id and f"error_id={line.pingone_error_id}",
        line.correlation_id and f"correlation_id={line.correlation_id}",
    ]
    return ", ".join(filter(None, parts))


def _describe_calls(line: PastAttempt, posts: int, ordinal: int) -> str:
    """Say which OTPs an attempt sent, and what came back. `ordinal`: that of the first of them."""
    if line.outcome == Outcome.LOST:
        return "what was sent is not known: the worker died"
    if not posts:
        return f"no OTP sent → {_describe_answer(line)}" if line.requests else "nothing sent"
    if posts == 1:
        return f"OTP {ordinal} → {_describe_answer(line)}"
    if posts > 2 or ordinal == 2:
        return f"{posts} OTPs → {_describe_answer(line)}"
    was_lost = line.outcome == Outcome.RETRY and EXTRA_OTP_REQUIRED in (line.code, line.detail_code)
    return f"OTP 1 → {EXTRA_OTP_REQUIRED}, OTP 2 → {'no clear answer' if was_lost else _describe_answer(line)}"


def _describe_answer(line: PastAttempt) -> str:
    """Describe the last answer to an attempt."""
    if line.outcome == Outcome.ACTIVE:
        return "ACTIVE"
    codes = "/".join(filter(None, (line.code, line.detail_code)))
    status = f"HTTP {line.http_status}" if line.http_status else ""
    return " ".join(filter(None, (status, codes))) or "no answer"


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
