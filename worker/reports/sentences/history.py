"""What is known of a record and of each attempt on it, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from models.attempt import Outcome
from models.reason import Reason
from models.record_states import Status
from worker.observability.counting import count_things
from worker.observability.escaping import escape_line
from worker.pingone.wire import EXTRA_OTP_REQUIRED
from worker.reports.token_history import PastAttempt, PastRecord

# Reasons of dead letters for which the attempt does not count, since PingOne did nothing with it.
_UNCOUNTED = (Reason.STALE_OTP, Reason.ATTEMPTS_SPENT, Reason.FORBIDDEN)


def format_moment(at: datetime, zone: str = " UTC") -> str:
    """Write a time for a person, to the second: `2026-11-25 21:00:05 UTC`. `zone` is left out where it stands above."""
    return f"{at:%Y-%m-%d %H:%M:%S}{zone}"


def describe_origin(record: PastRecord) -> str:
    """Say where a record stands: its batch, its row, and the file."""
    return escape_line(f"Batch {record.batch.name}, row {record.row_number} of {record.batch.file} (#{record.id})")


def list_facts(record: PastRecord) -> Iterator[tuple[str, str]]:
    """List how a record stands, whose it is, and what became of its OTPs."""
    finalized = f" since {format_moment(record.finalized_at)}" if record.finalized_at else ""
    reason = f" ({record.reason})" if record.reason else ""
    yield "status", f"{record.status}{reason}{finalized}"
    if record.reason and record.meaning:
        yield "meaning", record.meaning
    yield "user", record.user_id or "not known yet"
    made = " (made by this batch)" if record.is_device_made else ""
    # Pairs, since a column of the file may have the name of one of ours.
    kept = [
        ("username", record.username),
        ("email", record.email),
        ("external_id", record.external_id),
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
        f"{told.place}. {format_moment(line.ended_at)}",
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
