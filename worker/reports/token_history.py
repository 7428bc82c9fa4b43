"""The history of one token: all records with its serial number in all batches, their attempts, and the refused rows
with this number. Describes the status of each record, what each attempt sent and what PingOne answered, what happens
next if nobody intervenes, and which command a person can type. Contains no secret: neither an OTP nor a seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from shlex import quote
from typing import Any

from sqlalchemy import Connection, and_, func, select
from sqlalchemy.orm import aliased

from models.attempt import OTP_CALLS, AttemptLine, CallName, Outcome, PastCall
from models.audit import Action, AuditLine
from models.batch import Batch, BatchState
from models.change import Change
from models.person import NAMES, PERSON
from models.reason import NEEDS_MENDING, PASSING, TRANSIENT, Reason, find_cure
from models.record import Record, is_on_the_table, needs_fresh_otps
from models.record_states import UNTIL_LET_GO, OtpState, Status
from models.refused_row import NOT_LOADED, RefusedRow
from worker.batches.commands import LicenseOf
from worker.batches.finding import find_seed_file, is_of_kept_batch
from worker.batches.long_list import find_first, may_go
from worker.database.engine import Database
from worker.fleet import read_processes
from worker.leases.replay import is_replayable, may_be_put_back
from worker.observability.wording import agree, count_things, escape_line, format_duration, format_moment
from worker.pace.known_pace import Hold, read_pace
from worker.reports.cures import describe_seed_mend, write_export, write_mend
from worker.reports.export import describe_sign_on
from worker.reports.facts import take_environment_for_license
from worker.reports.outlook import describe_date
from worker.reports.search import Read, Token, find_tokens, name_user, read_refused, refused_to_json, row_to_json
from worker.reports.stall import Cause, Fleet, explain_stall
from worker.rules.hours import format_time


@dataclass(frozen=True)
class PastRecord:
    """One record of a token: its values, its batch, the lines of its attempts, and its state before each command that
    changed it, the oldest first. Its values are attributes with the names of `models.record.Record`, which explains
    them, and of _DERIVED."""

    read: Read
    batch: Read
    attempts: Sequence[Read] = ()
    changes: Sequence[Read] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.read, name)

    @property
    def meaning(self) -> str | None:
        """What the reason means and what a person can do: the record's own detail, or else the cure of the reason."""
        known = next((each for each in Reason if each == self.reason), None)
        return self.detail or (known and find_cure(known, has_seed=self.has_seed))

    def describe_otps(self) -> dict[str, str]:
        """Say where its OTPs come from, whether that source is still stored, and what happened to each OTP."""
        source = f"{self.otp_type.upper()} {'seed' if self.has_seed else 'pair'}"
        kept = "kept encrypted" if self.are_otps_kept else "erased"
        first, second = (
            self._describe_unknown_outcome(name)
            if state == OtpState.SENT
            else self._describe_known_outcome(state, is_posted=posts > 0)
            for name, state, posts in (
                (CallName.OTP1, self.otp1_state, self.otp1_posts),
                (CallName.OTP2, self.otp2_state, self.otp2_posts),
            )
        )
        return {
            "source": f"{source}, {kept}",
            "otp1": first,
            "otp2": second if self.has_second_otp else "the row had only one OTP",
        }

    def _describe_known_outcome(self, state: str, *, is_posted: bool) -> str:
        """Describe an OTP that PingOne answered, or that is to be sent. A seed makes another OTP for each post."""
        if state == OtpState.ANSWERED:
            return "answered by PingOne"
        if not is_posted:
            return "not sent"
        if self.has_seed:
            return "not sent; earlier ones of its seed may have been posted"
        return "may have been posted, and may be sent again" if self.are_otps_kept else "may have been posted"

    def _describe_unknown_outcome(self, name: CallName) -> str:
        """Describe an OTP that is marked as sent, but has no recorded answer. If no attempt has sent it since it was
        marked, the mark comes from a restore: what was sent since the backup is unknown."""
        since = [line for line in self.attempts if self.otp_sent_at and line.ended_at >= self.otp_sent_at]
        was_sent = any(call["call"] == name for line in since for call in line.calls or ())
        is_told = was_sent or self.status == Status.ACTIVATING or not self.otp_sent_at
        told = "sent, and no answer is recorded" if is_told else "not known, because the database was restored"
        if self.status == Status.ACTIVE:
            return f"{told}; a read found the device ACTIVE"
        return f"{told}; the device is read before anything else is sent"

    def to_json(self) -> dict[str, Any]:
        """The record with its attempts and changes, in the form in which `oathbulk show --json` prints it."""
        facts = row_to_json(self.read)
        return {
            "record": facts.pop("id"),
            "batch": self.batch.name,
            "row": facts.pop("row_number"),
            "file": self.batch.file,
            "batch_state": self.batch.state,
            "batch_reason": self.batch.reason,
            **{name: facts[name] for name in ("status", "reason")},
            "meaning": self.meaning,
            "otps": self.describe_otps(),
            **{name: value for name, value in facts.items() if name not in ("batch_id", "detail", "otp_sent_at")},
            "attempts": [
                {name: value for name, value in row_to_json(line).items() if name != "record_id"}
                for line in self.attempts
            ],
            "changes": [
                {name: value for name, value in row_to_json(line).items() if name != "record_id"}
                for line in self.changes
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHistory:
    """All records of a serial number in one environment, in the order in which they ended; its refused rows; and what
    determines when it continues. `now` is the database's time."""

    environment: str
    environment_id: str
    serial_number: str
    records: list[PastRecord]
    now: datetime
    fleet: Fleet = field(default_factory=Fleet)
    # The hold of all workers of the license; None if there is none.
    hold: Hold | None = None
    refused: Sequence[Read] = ()
    # How many records of its batch begin before the latest record; None unless a canary or a trial holds it back.
    go_before_it: int | None = None

    @property
    def latest(self) -> PastRecord:
        """The record that is not final, or else the one that ended last. Raises IndexError if every row of the token
        was refused, since there is no record then."""
        return self.records[-1]

    def to_json(self) -> dict[str, Any]:
        """The history in the form in which `oathbulk show --json` prints it, without what happens next."""
        return {
            "serial_number": self.serial_number,
            "environment": self.environment,
            "environment_id": self.environment_id,
            "records": [record.to_json() for record in self.records],
            "refused": list(map(refused_to_json, self.refused)),
        }


# Values computed from a record. Its OTPs are never read, only whether the database still has them.
_DERIVED = {
    "counted_attempts": Record.attempts,
    "has_seed": Record.next_counter.is_not(None),
    "are_otps_kept": Record.otps.is_not(None),
    "needs_fresh_otps": needs_fresh_otps(),
    "is_replayable": func.coalesce(and_(Record.otps.is_not(None), is_replayable()), False),
}
_PLAIN = (
    *("id", "batch_id", "row_number", "serial_number", *PERSON, "device_id", "lot", "extra"),
    *("is_in_inventory", "is_token_made", "is_device_made", "status", "reason", "detail"),
    *("not_before", "scheduled_at", "lease_until", "finalized_at", "otp_type", "has_second_otp"),
    *("otp1_state", "otp1_posts", "otp2_state", "otp2_posts", "posts_forgiven", "otp_sent_at"),
    *("requests", "first_counter", "next_counter", "pingone_error_id", "correlation_id"),
)
_GIVEN = (
    *("id", "serial_number", *PERSON, "status", "reason", "detail"),
    *("otp_type", "first_counter", "next_counter", "otp1_state", "otp2_state"),
)
_RECORD = [getattr(Record, name) for name in _PLAIN] + [value.label(name) for name, value in _DERIVED.items()]
_ATTEMPT = (
    *(AttemptLine.record_id, AttemptLine.number, AttemptLine.ended_at, AttemptLine.outcome, AttemptLine.reason),
    AttemptLine.calls,
)
_CHANGE = (
    *(Change.record_id, AuditLine.at, AuditLine.action, AuditLine.actor, AuditLine.ticket),
    *(getattr(Change, name) for name in (*PERSON, "device_id")),
)


class UnknownToken(Exception):
    """No record or row has this serial number, device id or record number."""


def read_histories(
    database: Database,
    token: str,
    license_of: LicenseOf = take_environment_for_license,
) -> list[TokenHistory]:
    """Read the history of each token that `token` names: a serial number, a device id, or a record number. There are
    several if several environments have the serial number. Raises UnknownToken."""
    # In one snapshot, since a purge may delete a record between two statements.
    with database.reading_snapshot() as connection:
        tokens = find_tokens(connection, token.strip())
        if not tokens:
            known_by = "as its serial number, device id or number (written '#123')"
            raise UnknownToken(f"no record has {token.strip()!r} {known_by}")
        return [_read_history(database, connection, each, license_of) for each in tokens]


def _read_history(database: Database, connection: Connection, token: Token, license_of: LicenseOf) -> TokenHistory:
    """Read the history of one token, and what determines when it continues."""
    environment_id, serial_number = token
    records = _read_records(connection, environment_id, serial_number)
    of_token = (RefusedRow.environment_id == environment_id, RefusedRow.serial_key == serial_number.lower())
    refused = read_refused(connection, *of_token)
    environment = records[-1].batch.environment if records else refused[0].environment
    return TokenHistory(
        environment=environment,
        environment_id=environment_id,
        serial_number=serial_number,
        records=records,
        now=connection.execute(select(database.now())).scalar_one(),
        fleet=Fleet(read_processes(database, connection), batch=records[-1].batch.name if records else None),
        hold=read_pace(database, connection, license_of(environment, environment_id)).hold,
        refused=refused,
        go_before_it=_count_before(connection, records[-1]) if records else None,
    )


def _count_before(connection: Connection, record: PastRecord) -> int | None:
    """Count the records that begin before a pending one during a canary or a trial; None if it may begin."""
    first = find_first(record.batch)
    if first is None or record.status != Status.PENDING:
        return None
    is_first = select(Record.id).where(*may_go(record.batch_id, first), Record.id == record.id)
    return first if connection.scalar(is_first) is None else None


def _read_records(connection: Connection, environment_id: str, serial_number: str) -> list[PastRecord]:
    """Read the records of a token in the order in which they ended, each with its batch, attempts and changes."""
    of_token = (
        select(*_RECORD)
        .where(Record.environment_id == environment_id, Record.serial_key == serial_number.lower(), is_of_kept_batch())
        .order_by(Record.finalized_at.is_(None), Record.finalized_at, Record.id)
    )
    rows = connection.execute(of_token).all()
    found = connection.execute(select(Batch.__table__).where(Batch.id.in_({row.batch_id for row in rows})))
    batches = {batch.id: batch for batch in found}
    ids = [row.id for row in rows]
    attempts = select(*_ATTEMPT).where(AttemptLine.record_id.in_(ids)).order_by(AttemptLine.record_id, AttemptLine.id)
    changes = select(*_CHANGE).join(AuditLine, AuditLine.id == Change.audit_id).where(Change.record_id.in_(ids))
    lines = [
        {record_id: list(of_record) for record_id, of_record in groupby(found, key=lambda line: line.record_id)}
        for found in map(connection.execute, (attempts, changes.order_by(Change.record_id, Change.id)))
    ]
    return [PastRecord(row, batches[row.batch_id], *(of_kind.get(row.id, ()) for of_kind in lines)) for row in rows]


# Reasons of dead letters whose last attempt does not count, since PingOne processed nothing.
_UNCOUNTED = (Reason.STALE_OTP, Reason.ATTEMPTS_SPENT, Reason.FORBIDDEN)


def describe_origin(record: PastRecord) -> str:
    """Name the origin of a record: its batch, its row and its file."""
    return escape_line(f"Batch {record.batch.name}, row {record.row_number} of {record.batch.file} (#{record.id})")


def list_facts(record: PastRecord) -> Iterator[tuple[str, str]]:
    """List the facts of a record: its status, its user, its values, and what happened to its OTPs."""
    finalized = f" since {format_moment(record.finalized_at)} UTC" if record.finalized_at else ""
    reason = f" ({record.reason})" if record.reason else ""
    yield "status", f"{record.status}{reason}{finalized}"
    if record.meaning:
        yield "meaning", record.meaning
    yield "user", record.user_id or "not known yet"
    made = " (made by this batch)" if record.is_device_made else ""
    # Pairs rather than a dict, since a column of the file may have the name of a built-in one.
    kept = [
        *((name, getattr(record, name)) for name in NAMES),
        ("device", f"{record.device_id}{made}" if record.device_id else "none yet"),
        ("lot", record.lot),
        ("not before", describe_date(record.not_before)),
        *(record.extra or {}).items(),
    ]
    yield from ((label, str(value)) for label, value in kept if value)
    otps = record.describe_otps()
    yield from (("OTPs", otps["source"]), ("OTP 1", otps["otp1"]), ("OTP 2", otps["otp2"]))
    if record.status == Status.ACTIVE:
        yield "sign-on", describe_sign_on(record)


def list_history(record: PastRecord) -> Iterator[tuple[str, str]]:
    """List each attempt in one line with its calls in lines below it, and each command that changed the record, by
    time. The last line sums up the attempts."""
    label = "history"
    for place, line in sort_history(record):
        if place is None:
            yield label, f"{format_moment(line.at)} UTC, {describe_change(line)}"
        else:
            yield label, f"{place}. {format_moment(line.ended_at)} UTC, {describe_attempt(line)}"
            yield from (("", f"→ {describe_call(call)}") for call in line.calls or ())
        label = ""
    yield ("in all", sum_up(record)) if record.attempts else ("attempts", "none yet")


def sort_history(record: PastRecord) -> list[tuple[int | None, Read]]:
    """Sort the attempts and changes of a record by time. An attempt comes with its number from 1, a change with
    None."""
    attempts = [(line.ended_at, place, line) for place, line in enumerate(record.attempts, 1)]
    changes = [(line.at, None, line) for line in record.changes]
    ordered = sorted([*attempts, *changes], key=lambda each: each[0])
    return [(place, line) for _, place, line in ordered]


def describe_change(line: Read) -> str:
    """Describe a person's command: who gave it, and which user and device the record had before."""
    ticket = f", ticket {line.ticket}" if line.ticket else ""
    whose = name_user(line)
    device = f" (device {line.device_id})" if line.device_id else ""
    return f"{line.action} by {line.actor}{ticket}; before: {whose or 'no user known yet'}{device}"


def read_given(database: Database, batch: str, most: int) -> Sequence[Read]:
    """Read at most `most` tokens of a batch that were given out last, the latest first, with the status of each."""
    columns = [getattr(Record, name) for name in _GIVEN]
    columns += [needs_fresh_otps().label("needs_fresh_otps"), may_be_put_back(database).label("may_be_put_back")]
    # Nobody else has had the token since: every later command kept its person.
    later = aliased(Change)
    former, person = (func.coalesce(*(getattr(of, name) for name in (*NAMES, "user_id"))) for of in (later, Record))
    since = select(later.id).where(later.record_id == Change.record_id, later.id > Change.id)
    is_latest = ~since.where(former.is_distinct_from(person)).exists()
    given = (
        select(*columns, AuditLine.at)
        .join(Change, Change.record_id == Record.id)
        .join(AuditLine, AuditLine.id == Change.audit_id)
        .join(Batch, Batch.id == Record.batch_id)
        .where(Batch.name == batch, AuditLine.action == Action.GIVE, is_latest, ~is_on_the_table())
    )
    with database.reading() as connection:
        return connection.execute(given.order_by(Change.id.desc()).limit(most)).all()


def describe_given(line: Read, step: NextStep | None) -> str:
    """Describe the state of a token that was given out: what to do before the first sign-on, or why it failed and the
    cure, or what it waits for. `step`: what happens next; None if its record is final."""
    match line.status:
        case Status.ACTIVE:
            return describe_sign_on(line)
        case Status.DEAD_LETTER | Status.CANCELLED:
            return str(line.detail or line.reason or line.status)
        case Status.PENDING | Status.QUEUED if step:
            return " ".join(filter(None, (f"on its way: {step.sentence}.", step.why)))
    return "on its way"


def describe_attempt(line: Read) -> str:
    """Describe how an attempt ended."""
    is_counted = line.outcome != Outcome.HANDED_BACK and line.reason not in _UNCOUNTED
    parts = [
        line.outcome + (f" ({line.reason})" if line.reason else ""),
        "" if is_counted else "not counted",
        "the worker died: what it had not recorded is not known" if line.outcome == Outcome.LOST else "",
    ]
    return ", ".join(filter(None, parts))


_CALLS = {
    CallName.OTP1: "OTP 1",
    CallName.OTP2: "OTP 2",
    CallName.PAIR: "pairing",
    CallName.READ: "read of the device",
    CallName.FIND: "look-up of the token",
}


def describe_call(call: PastCall) -> str:
    """Describe a call in one line: what was sent, the answer, how long it took, and PingOne's ids."""
    flag = " with oathResync" if call.get("resync") else ""
    codes = "/".join(filter(None, (call.get("code"), call.get("detail_code"))))
    answer = " ".join(filter(None, (f"HTTP {call['status']}", codes))) if "status" in call else "no answer"
    parts = [
        f"{_CALLS[CallName(call['call'])]}{flag}: {answer}",
        f"{call['milliseconds']:,} ms" if "milliseconds" in call else "",
        # Without a space, so that no line ends between the name and the id.
        *(f"{name}={call[name]}" for name in ("error_id", "correlation_id") if name in call),
    ]
    return ", ".join(filter(None, parts))


def sum_up(record: PastRecord) -> str:
    """Sum up the attempts of a record and their calls."""
    calls = [call for line in record.attempts for call in line.calls or ()]
    counted = record.counted_attempts - int(record.status == Status.ACTIVATING)
    parts = [
        count_things(len(record.attempts), "attempt"),
        f"{counted} of them counted" if counted < len(record.attempts) else "",
        count_things(len(calls), "request"),
        f"{count_things(sum(call['call'] in OTP_CALLS for call in calls), 'OTP')} posted",
        "and one attempt is running" if record.status == Status.ACTIVATING else "",
    ]
    return ", ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class NextStep:
    """What happens next if nobody intervenes. `why`: an explanation. `command`: a command that helps, if a person wants
    to act."""

    sentence: str
    why: str | None = None
    command: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def describe_next(token: TokenHistory, *, lease: float, replay_cron: str | None = None) -> NextStep:
    """Say what happens next to the token's latest record. `lease`: seconds that a worker has for an attempt.
    `replay_cron`: the schedule of automatic replays; None for never."""
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


def _describe_refused(line: Read) -> NextStep:
    """Say how to load a row that was refused."""
    if line.is_closed:
        return NextStep("nothing: its row was not loaded, and someone closed it. A mend with that row adds the token")
    nothing = f"nothing by itself: its row was not loaded ({line.reason})"
    if seed_file := find_seed_file(line):
        return NextStep(nothing, describe_seed_mend(line.batch, seed_file))
    return NextStep(
        nothing,
        f"Export the rows that were not loaded, correct them in the file, then: {write_mend(line.batch, NOT_LOADED)}",
        write_export(line.batch, f"--status {NOT_LOADED}", NOT_LOADED),
    )


_FIX_FIRST = "Fix the cause first, as its meaning says; after a mend, it needs no replay."


def _describe_dead_letter(record: PastRecord, replay_cron: str | None) -> NextStep:
    """Say whether a dead letter is sent again by itself, and which command sends it."""
    batch = quote(record.batch.name)
    is_sent_in_vain = record.reason in NEEDS_MENDING
    if is_sent_in_vain or not record.is_replayable:
        why, mended = "A replay has no OTP to send.", "write fresh OTPs into the file"
        if is_sent_in_vain:
            why, mended = "A replay would end the same way.", "correct the file"
        return NextStep(
            f"nothing by itself: it failed ({record.reason})",
            f"{why} Export what failed, {mended}, then: {write_mend(record.batch.name, 'failed')}",
            write_export(record.batch.name, "--failed", "failed"),
        )
    why = f"To replay all that failed for this reason: oathbulk replay {batch} --reason {record.reason}"
    command = f"oathbulk replay {batch} --where {quote(f'serial={record.serial_number}')}"
    if replay_cron and record.reason in TRANSIENT:
        return NextStep(f"it is due again at the next time of the replay schedule ({replay_cron})", why, command)
    return NextStep(f"nothing by itself: it failed ({record.reason})", f"{_FIX_FIRST} {why}", command)


def _describe_in_work(token: TokenHistory, lease: float) -> NextStep:
    """Say how long a worker has had the record, and when the worker counts as dead."""
    until = token.latest.lease_until or token.now
    if until <= token.now:
        return NextStep(
            f"its worker's time ran out at {until:%H:%M:%S} UTC, and it is due again as soon as a worker is running"
        )
    since = max((token.now - until + timedelta(seconds=lease)).total_seconds(), 0.0)
    return NextStep(
        f"being worked on for {format_duration(since)}; if its worker died, it is due again at {until:%H:%M:%S} UTC"
    )


def _describe_batch_that_stands(record: PastRecord) -> NextStep | None:
    """Say what happens to a record whose batch does not run; None if it runs."""
    batch = record.batch
    if batch.state == BatchState.CANCELLED:
        return NextStep(f"batch {batch.name} is cancelled; the device is read once more, then the record ends")
    if batch.state != BatchState.PAUSED:
        return None
    if batch.reason in PASSING:
        at = f" at {format_time(batch.resumes_at)}" if batch.resumes_at else ""
        return NextStep(f"batch {batch.name} is paused: {batch.reason}; it continues by itself{at}", batch.detail)
    sentence = f"batch {batch.name} is paused: {batch.reason}"
    return NextStep(sentence, batch.detail, f"oathbulk resume {quote(batch.name)}")


def _describe_waiting(token: TokenHistory) -> NextStep:
    """Say what a pending or queued record of a running batch waits for."""
    record, batch = token.latest, quote(token.latest.batch.name)
    is_pending, status = record.status == Status.PENDING, f"oathbulk status {batch}"
    if is_pending and not any(getattr(record, name) for name in PERSON):
        if record.device_id:
            why = "Find out whose it is, and unpair it there. If nobody is to get it from this batch, close its row:"
            close = f"oathbulk cancel {batch} --where serial={quote(record.serial_number)}"
            return NextStep("cannot be given out: PingOne already has the token as a device", why, close)
        return NextStep("waits to be given out", command=f"oathbulk give {batch} {record.serial_number} PERSON")
    if is_pending and not (record.user_id and record.is_in_inventory):
        found = "token is found in PingOne's inventory, or imported"
        unknown = found if record.user_id else "user is looked up in PingOne"
        return _describe_absent(token) or NextStep(f"waits until the {unknown}", command=status)
    if token.go_before_it is not None:
        first = f"{count_things(token.go_before_it, 'record')} of its batch {agree(token.go_before_it, 'goes', 'go')}"
        return NextStep(f"waits: {first} first", command=status)
    if is_pending and record.not_before and record.scheduled_at >= record.not_before > token.now:
        wait = (
            "is kept back"
            if record.not_before >= UNTIL_LET_GO
            else f"waits for its date, {format_time(record.not_before)}"
        )
        sooner = f"oathbulk resume {batch} --where serial={record.serial_number}"
        return NextStep(wait, command=sooner)
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
    """Say what a due or queued record waits for."""
    if absent := _describe_absent(token):
        return absent
    record = token.latest
    if record.status == Status.QUEUED and record.lease_until:
        return NextStep(f"waits for a worker; if none takes it, it is due again at {record.lease_until:%H:%M:%S} UTC")
    return NextStep("waits for a worker")


def _describe_absent(token: TokenHistory) -> NextStep | None:
    """Say why no worker can take the record; None if one can."""
    stall = explain_stall(token.fleet)
    if stall.cause == Cause.UNKNOWN or token.fleet.has_just_started:
        return None
    cause = stall.detail[:1].lower() + stall.detail[1:].rstrip(".")
    return NextStep(f"waits for a worker: {cause}", stall.cure, f"oathbulk status {quote(token.latest.batch.name)}")
