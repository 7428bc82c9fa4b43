"""The life of a lease. A worker claims a record: the right to work on it, and all that the work needs to know, in one
statement. It writes each OTP down before it goes out. It settles the record with a decision: a new status, the lease
dropped, a line of history. A write under a lease is tried again while the lease lasts, if the database was away for a
moment."""

import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from time import sleep
from typing import Any

import tenacity
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Float,
    Integer,
    Row,
    String,
    Update,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.types import TypeEngine

from models.attempt import AttemptLine, Outcome
from models.base import LONGEST_DETAIL
from models.batch import Batch, BatchState
from models.reason import Reason
from models.record import Record
from models.record_states import NOBODY, OtpState, OtpType, PairingState, Status
from worker.clocks import boot_time
from worker.database.engine import Database
from worker.database.errors import is_away, is_refused_by_disk
from worker.leases.group_commit import THIS, Given, GroupCommit, bind
from worker.leases.moves import LAST_START, has_status, is_batch_in, may_call, may_work, move, write_detail
from worker.pingone.errors import Answer
from worker.rules.steps import (
    Active,
    DeadLetter,
    Decision,
    OtpProgress,
    PairingProgress,
    Pause,
    Progress,
    Retry,
    count_ago,
)


@dataclass(frozen=True, slots=True)
class Claim:
    """One record in the hands of one worker, until its lease runs out or is taken away."""

    record_id: int
    batch_id: int
    row_number: int
    lease_id: str
    # `boot_time` before the claim was written, in seconds. Deadlines count from here, so that they end before the
    # lease.
    started: float
    serial_number: str
    user_id: str
    # Empty where the record has no device yet.
    device_id: str
    otps: bytes = field(repr=False)
    progress: Progress
    # Whether the claim has marked OTP 1 as sent too, in the same statement.
    is_otp1_marked: bool = False
    # Whether the claim has marked the pairing as sent.
    is_pairing_marked: bool = False

    def may_have_changed(self, pairing: PairingProgress) -> bool:
        """Whether the database may have something else of the pairing: where it may be made, it may be marked too."""
        return pairing.is_allowed or pairing != self.progress.pairing

    def count_spent_posts(self, progress: Progress, *, leaves_pending: bool) -> int:
        """How many OTPs this attempt has spent, if it ends with this progress. An OTP 1 after which PingOne asked for
        OTP 2 is counted together with that one, or when the record becomes final."""
        before = self.progress.posts - int(self.is_otp1_marked) - int(self.progress.is_half_done)
        return progress.posts - int(leaves_pending and progress.is_half_done) - before


# The columns that a claim needs of a fresh record: one of which nothing is known but its file's row, and whose first
# OTP is marked as sent with the claim. No more of them, since each column costs as much as a parameter does.
_FRESH_COLUMNS: tuple[InstrumentedAttribute[Any], ...] = (
    Record.id,
    Record.batch_id,
    Record.row_number,
    Record.serial_number,
    Record.user_id,
    Record.device_id,
    Record.otps,
    Record.has_second_otp,
    Record.next_counter,
    Record.attempts,
    Record.attempts_forgiven,
)
# The columns that a claim needs of any other record.
_ALL_COLUMNS: tuple[InstrumentedAttribute[Any], ...] = (
    *_FRESH_COLUMNS,
    Record.otp1_state,
    Record.otp1_posts,
    Record.otp2_state,
    Record.otp2_posts,
    Record.verdict,
    Record.not_found,
    Record.pairing,
    Record.pairings,
    Record.is_device_made,
    Record.owner_id,
    Record.pairing_began_at,
    Record.otp_sent_at,
)


def _claim_fresh_row(row: Row[Any], lease_id: str, started: float, jitter: float) -> Claim:
    """The claim of a fresh record, from a row with _FRESH_COLUMNS."""
    second = OtpProgress() if row.has_second_otp else None
    first = OtpProgress(OtpState.SENT, 1)
    pairing = PairingProgress(device_id=row.device_id)
    attempts = row.attempts - row.attempts_forgiven
    progress = Progress(first, second, attempts, next_counter=row.next_counter, pairing=pairing, jitter=jitter)
    return _claim(row, lease_id, started, progress, is_otp1_marked=True)


def _claim_any_row(
    row: Row[Any], lease_id: str, started: float, jitter: float, *, is_pairing_marked: bool = False
) -> Claim:
    """The claim of any other record, from a row with _ALL_COLUMNS, `is_stale`, `may_pair` and `claimed_at`."""
    second = OtpProgress(OtpState(row.otp2_state), row.otp2_posts) if row.has_second_otp else None
    progress = Progress(
        first=OtpProgress(OtpState(row.otp1_state), row.otp1_posts),
        second=second,
        attempts=row.attempts - row.attempts_forgiven,
        verdict=Reason(row.verdict) if row.verdict else None,
        not_found=row.not_found,
        is_stale=row.is_stale,
        next_counter=row.next_counter,
        pairing=PairingProgress(
            # A device that only the inventory has shown may be ACTIVE already: it is read before an OTP is spent on it.
            state=PairingState(
                PairingState.SENT if row.device_id and row.pairing == PairingState.UNSENT else row.pairing
            ),
            device_id=row.device_id,
            pairings=row.pairings,
            is_made=row.is_device_made,
            was_free=row.owner_id == NOBODY,
            is_allowed=row.may_pair,
            sent_ago=count_ago(row.claimed_at, row.otp_sent_at, row.pairing_began_at),
        ),
        jitter=jitter,
    )
    return _claim(row, lease_id, started, progress, is_pairing_marked=is_pairing_marked)


def _claim(row: Row[Any], lease_id: str, started: float, progress: Progress, **marked: bool) -> Claim:
    return Claim(
        record_id=row.id,
        batch_id=row.batch_id,
        row_number=row.row_number,
        serial_number=row.serial_number,
        lease_id=lease_id,
        started=started,
        user_id=row.user_id,
        device_id=row.device_id,
        otps=row.otps,
        progress=progress,
        **marked,
    )


# Whether the batch of a record may make devices.
_MAY_PAIR = select(Batch.may_pair).where(Batch.id == Record.batch_id).scalar_subquery()


def _build_claims(
    database: Database, *, lease: float, max_attempts: int
) -> tuple[tuple[GroupCommit, Callable[..., Claim]], ...]:
    """Build the statements that claim queued records, in the order in which they are tried, each with what makes a
    claim of its row. `lease` in seconds.

    Nothing needs to be decided between the claim of a fresh record and its first call, so one statement does both: it
    claims the record and marks OTP 1 as sent, or the pairing of a record that has no device."""
    is_stale = and_(Record.otp_expires_at.is_not(None), Record.otp_expires_at <= database.now())
    is_fresh = and_(_is_fresh(database, max_attempts), ~is_stale)
    all_columns = (
        *_ALL_COLUMNS,
        is_stale.label("is_stale"),
        _MAY_PAIR.label("may_pair"),
        database.now().label("claimed_at"),
    )

    def take(given: Given) -> Update:
        return (
            move(database, Status.QUEUED, Status.ACTIVATING, is_by_key=True)
            .where(Record.id == given["this_id"], Record.environment_id == given["for_environment_id"])
            .where(may_work(database, LAST_START))
            .values(lease_id=given["this_lease"], lease_until=database.now(lease), attempts=Record.attempts + 1)
        )

    def take_fresh(given: Given) -> Executable:
        is_paired = and_(Record.device_id != "", Record.pairing == PairingState.PAIRED)
        may_send = take(given).where(is_fresh, is_paired, _may_mint_now())
        return may_send.values(mark_otp(database, 1, Record.next_counter)).returning(
            given["this_lease"], *_FRESH_COLUMNS
        )

    def take_unpaired(given: Given) -> Executable:
        is_unpaired = and_(Record.device_id == "", Record.pairing == PairingState.UNSENT, Record.pairings == 0)
        may_pair = take(given).where(is_fresh, is_unpaired, _MAY_PAIR)
        return may_pair.values(mark_pairing(database)).returning(given["this_lease"], *all_columns)

    def take_any(given: Given) -> Executable:
        return take(given).returning(given["this_lease"], *all_columns)

    types = {"for_environment_id": String()}
    return (
        (GroupCommit(database, types, take_fresh), _claim_fresh_row),
        (GroupCommit(database, types, take_unpaired), partial(_claim_any_row, is_pairing_marked=True)),
        (GroupCommit(database, types, take_any), _claim_any_row),
    )


def mark_otp(
    database: Database, ordinal: int, counter: ColumnElement[Any] | InstrumentedAttribute[Any]
) -> dict[Any, Any]:
    """The columns that mark an OTP as sent, now, and its counter as used up; without a seed that is NULL, and stays
    so."""
    sent = {Record.otp_sent_at: database.now(), Record.next_counter: counter + 1}
    if ordinal == 1:
        return sent | {Record.otp1_state: OtpState.SENT, Record.otp1_posts: Record.otp1_posts + 1}
    return sent | {Record.otp2_state: OtpState.SENT, Record.otp2_posts: Record.otp2_posts + 1}


def mark_pairing(database: Database) -> dict[Any, Any]:
    """The columns that mark a request to pair as sent, now."""
    return {
        Record.otp_sent_at: database.now(),
        Record.pairing: PairingState.SENT,
        Record.pairings: Record.pairings + 1,
        Record.pairing_began_at: case((Record.pairings == 0, database.now()), else_=Record.pairing_began_at),
    }


def _is_fresh(database: Database, max_attempts: int) -> ColumnElement[bool]:
    """Whether no OTP of a record was sent, and nothing stands against its first call."""
    return and_(
        may_call(database),
        Record.otp1_state == OtpState.UNSENT,
        Record.otp1_posts == 0,
        Record.otp2_posts == 0,
        Record.not_found == 0,
        Record.verdict.is_(None),
        Record.attempts - Record.attempts_forgiven < max_attempts,
    )


def _may_mint_now() -> ColumnElement[bool]:
    """Whether OTP 1 needs no decision: a TOTP seed makes its OTP for a time step, and which one that is has to be
    decided."""
    return or_(Record.next_counter.is_(None), Record.otp_type == OtpType.HOTP)


_PROGRESS_TYPES: dict[str, TypeEngine[Any]] = {
    "first_state": String(),
    "first_posts": Integer(),
    "second_state": String(),
    "second_posts": Integer(),
    "new_verdict": String(),
    "new_next_counter": BigInteger(),
}
_PAIRING_TYPES: dict[str, TypeEngine[Any]] = {
    "new_pairing": String(),
    "new_pairings": Integer(),
    "new_device_id": String(),
    "new_is_device_made": Boolean(),
    "new_was_free": Boolean(),
}


def _progress_columns(given: Given) -> dict[str, Any]:
    """The columns that keep what is known of a record's OTPs, by name, and expressions for them."""
    return {
        "otp1_state": given["first_state"],
        "otp1_posts": given["first_posts"],
        "otp2_state": given["second_state"],
        "otp2_posts": given["second_posts"],
        "verdict": given["new_verdict"],
        "next_counter": given["new_next_counter"],
    }


def _pairing_columns(given: Given) -> dict[str, Any]:
    """The columns that keep what is known of a record's device. They are written only where that has changed."""
    return {
        "pairing": given["new_pairing"],
        "pairings": given["new_pairings"],
        "device_id": given["new_device_id"],
        "is_device_made": given["new_is_device_made"],
        "owner_id": case((given["new_was_free"], NOBODY), else_=Record.owner_id),
    }


def progress_parameters(progress: Progress) -> dict[str, Any]:
    """The values of _PROGRESS_TYPES. A second OTP that a record does not have is unsent."""
    second = progress.second or OtpProgress()
    return {
        "first_state": progress.first.state,
        "first_posts": progress.first.posts,
        "second_state": second.state,
        "second_posts": second.posts,
        "new_verdict": progress.verdict,
        "new_next_counter": progress.next_counter,
    }


def pairing_parameters(progress: Progress) -> dict[str, Any]:
    """The values of _PAIRING_TYPES."""
    pairing = progress.pairing
    return {
        "new_pairing": pairing.state,
        "new_pairings": pairing.pairings,
        "new_device_id": pairing.device_id,
        "new_is_device_made": pairing.is_made,
        "new_was_free": pairing.was_free,
    }


# The columns of a line that come from what the settlement of the record has as well, and the names of these values.
# Each value costs as much as a column does.
_SHARED = {
    "record_id": "this_id",
    "lease_id": "this_lease",
    "requests": "new_requests",
    "pingone_error_id": "error_id",
    "correlation_id": "new_correlation_id",
}
# The other columns that differ from one attempt to the next, and the names of their values.
_OWN = {
    "batch_id": "line_batch_id",
    "number": "line_number",
    "outcome": "line_outcome",
    "reason": "line_reason",
    "otp_posts": "line_otp_posts",
    "call_milliseconds": "line_call_milliseconds",
    "http_status": "line_http_status",
    "code": "line_code",
    "detail_code": "line_detail_code",
}
# The SQL types of the values that only the line has. Texts have no length, since a cast to one would cut them.
_LINE_TYPES: dict[str, TypeEngine[Any]] = {
    name: String() if isinstance(kind := AttemptLine.__table__.c[column].type, String) else kind
    for column, name in _OWN.items()
}


@dataclass(frozen=True, slots=True)
class CallSummary:
    """What the calls of an attempt cost, and PingOne's last answer if there was one. `requests` counts what went out,
    `rate_limited` the 429s among the answers; `call_seconds` is how long PingOne took for all of them together."""

    requests: int = 0
    rate_limited: int = 0
    answer: Answer | None = None
    call_seconds: float = 0.0


def _build_line(worker: str, database: Database, given: Given) -> dict[str, ColumnElement[Any]]:
    """The columns of a line and the expressions for them."""
    varying = {column: given[name] for column, name in (_SHARED | _OWN).items()}
    return varying | {"worker": literal(worker), "ended_at": database.now()}


def _line_parameters(claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> dict[str, Any]:
    """The values of _LINE_TYPES for this attempt."""
    answer = summary.answer or Answer()
    return {
        "line_batch_id": claim.batch_id,
        "line_otp_posts": claim.count_spent_posts(progress, leaves_pending=leaves_pending(decision)),
        "line_call_milliseconds": round(summary.call_seconds * 1000) if summary.requests else None,
        "line_number": claim.progress.attempts,
        "line_outcome": _outcome(decision),
        "line_reason": _reason(decision),
        "line_http_status": answer.status,
        "line_code": answer.code,
        "line_detail_code": answer.detail_code,
    }


def leaves_pending(decision: Decision) -> bool:
    """Whether the record goes back to pending with this decision, and not to a final status (unless its batch was
    cancelled)."""
    return isinstance(decision, Retry | Pause)


def is_counted(decision: Decision) -> bool:
    """Whether the attempt counts against the limit of attempts."""
    match decision:
        case Retry() | DeadLetter():
            return decision.is_counted
    return isinstance(decision, Active)


def _outcome(decision: Decision) -> Outcome:
    match decision:
        case Active():
            return Outcome.ACTIVE
        case DeadLetter():
            return Outcome.DEAD_LETTER
    return Outcome.RETRY if is_counted(decision) else Outcome.HANDED_BACK


def _reason(decision: Decision) -> str | None:
    match decision:
        case Retry(why=why) | Active(why=why):
            return why
        case DeadLetter(reason=reason) | Pause(reason=reason):
            return str(reason)
    return None


# What every settlement has, beside the record's progress and the line of the attempt.
_TYPES: dict[str, TypeEngine[Any]] = {
    "new_not_found": Integer(),
    "uncounted": Integer(),
    "new_requests": Integer(),
    "new_rate_limited": Integer(),
    "error_id": String(),
    "new_correlation_id": String(),
}
# What a settlement has by what becomes of the record.
_KINDS: dict[str, dict[str, TypeEngine[Any]]] = {
    "active": {"is_resynced": Boolean()},
    "dead_letter": {"new_reason": String(), "new_detail": String(LONGEST_DETAIL)},
    # A read is owed, so not even a cancelled batch makes the record final.
    "unread": {"delay": Float()},
    # The batch may have been cancelled meanwhile.
    "pending": {"delay": Float()},
}


class Settlement:
    """Takes records out of `activating`. The statements are built once, here: building one costs more than running
    it."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        self._worker = worker
        # By what becomes of the record, and whether what is known of its device has changed.
        self._statements = {
            (kind, has_changed): self._make_statement(kind, types, has_changed=has_changed)
            for kind, types in _KINDS.items()
            for has_changed in (False, True)
        }

    def _make_statement(self, kind: str, types: dict[str, TypeEngine[Any]], *, has_changed: bool) -> GroupCommit:
        types = _PROGRESS_TYPES | _TYPES | _LINE_TYPES | types | (_PAIRING_TYPES if has_changed else {})
        settle = partial(_settle, self._database, kind)
        if not self._database.is_sqlite:
            # PostgreSQL writes both in one statement: the line goes in if the record was updated.
            return GroupCommit(self._database, types, partial(self._settle_with_line, settle))
        line = _build_line(self._worker, self._database, bind(THIS | types))
        return GroupCommit(
            self._database,
            types,
            lambda given: settle(given).returning(given["this_lease"]),
            then=insert(AttemptLine).inline().values(line),
        )

    def _settle_with_line(self, settle: Callable[[Given], Update], given: Given) -> Executable:
        line = _build_line(self._worker, self._database, given)
        settled = settle(given).returning(*(value.label(name) for name, value in line.items())).cte("settled")
        lines = insert(AttemptLine).from_select(list(line), select(*(settled.c[name] for name in line)))
        return lines.returning(AttemptLine.lease_id)

    def write(self, claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> bool:
        """Write the record and the line of its attempt in one transaction. False: a rescue took the lease away, and
        nothing was written."""
        has_changed = claim.may_have_changed(progress.pairing)
        values = _parameters(claim, progress, decision, summary) | _line_parameters(claim, progress, decision, summary)
        if has_changed:
            values |= pairing_parameters(progress)
        return self._statements[_choose_kind(progress, decision), has_changed].execute(values) is not None


def _choose_kind(progress: Progress, decision: Decision) -> str:
    """What becomes of the record with this decision, a key of _KINDS."""
    match decision:
        case Active():
            return "active"
        case DeadLetter():
            return "dead_letter"
    return "unread" if progress.needs_read else "pending"


def _settle(database: Database, kind: str, given: Given) -> Update:
    """The update of a record that takes it out of `activating`, where its lease still stands."""
    columns: dict[str, Any] = {
        **_progress_columns(given),
        "not_found": given["new_not_found"],
        "attempts": Record.attempts - given["uncounted"],
        "requests": Record.requests + given["new_requests"],
        "rate_limited": Record.rate_limited + given["new_rate_limited"],
        "pingone_error_id": func.coalesce(given["error_id"], Record.pingone_error_id),
        "correlation_id": func.coalesce(given["new_correlation_id"], Record.correlation_id),
    }
    is_cancelled = is_batch_in(BatchState.CANCELLED)
    match kind:
        case "active":
            # What is done needs no OTP any more, so none is kept.
            told = {"reason": null(), "detail": null(), "pingone_error_id": null(), "otps": null()}
            columns |= told | {"resynced": given["is_resynced"]}
        case "dead_letter":
            columns |= {"reason": given["new_reason"], "detail": given["new_detail"]}
        case "unread":
            columns |= {"scheduled_at": database.now(given["delay"])}
        case "pending":
            columns |= {
                "scheduled_at": database.now(given["delay"]),
                "status": case((is_cancelled, Status.CANCELLED), else_=Status.PENDING),
                "finalized_at": case((is_cancelled, database.now()), else_=null()),
            }
    target = {"active": Status.ACTIVE, "dead_letter": Status.DEAD_LETTER}.get(kind, Status.PENDING)
    held = Record.id == given["this_id"], Record.lease_id == given["this_lease"]
    changed = _pairing_columns(given) if "new_pairing" in given else {}
    return move(database, Status.ACTIVATING, target, is_by_key=True).where(*held).values(columns | changed)


def _parameters(claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> dict[str, Any]:
    """The values of the settlement that the decision takes."""
    answer = summary.answer or Answer()
    values = progress_parameters(progress) | {
        "this_id": claim.record_id,
        "this_lease": claim.lease_id,
        "new_not_found": progress.not_found,
        "uncounted": 0 if is_counted(decision) else 1,
        "new_requests": summary.requests,
        "new_rate_limited": summary.rate_limited,
        "error_id": answer.error_id,
        "new_correlation_id": answer.correlation_id,
    }
    match decision:
        case Active():
            return values | {"is_resynced": progress.second is not None and progress.second.posts > 0}
        case DeadLetter(reason=reason, told=told):
            detail = write_detail(reason, told, has_seed=progress.next_counter is not None)
            return values | {"new_reason": reason, "new_detail": detail}
        case Retry(delay=delay) | Pause(delay=delay):
            return values | {"delay": delay}


_THIS_RECORD = Record.id == bindparam("this_id")
_THIS_LEASE = Record.lease_id == bindparam("this_lease")
# A query of no table.
_NOTHING = select(true())
# The line of the attempt under this lease, unless a rescue wrote it.
_OWN_LINE = select(AttemptLine.id).where(
    AttemptLine.record_id == bindparam("this_id"),
    AttemptLine.lease_id == bindparam("this_lease"),
    AttemptLine.outcome != Outcome.LOST,
)

# The second try is made at once: where a connection went away, another may be good. Then up to 0.2, 0.4, 0.8 … and 2
# seconds pass between two tries, at random, so that threads which were in each other's way do not meet again.
_WAIT_BETWEEN_TRIES = tenacity.wait_random_exponential(multiplier=0.2, max=2)


class DeviceInProgress(Exception):
    """Another record that is not final has the device that was found for this one."""


class Leases:
    """The leases of one worker process; thread-safe. `lease` in seconds.

    Every statement is built once, here: building one costs more than running it."""

    def __init__(self, database: Database, *, lease: float = 60.0, max_attempts: int = 8) -> None:
        self._database = database
        self._lease = lease
        is_stale = and_(Record.otp_expires_at.is_not(None), Record.otp_expires_at <= database.now())
        self._claims = _build_claims(database, lease=lease, max_attempts=max_attempts)
        may_send = and_(may_call(database), ~is_stale)
        self._mark_sent = {
            ordinal: GroupCommit(database, {"counter": BigInteger()}, partial(_mark_sent, database, ordinal, may_send))
            for ordinal in (1, 2)
        }
        mark = mark_pairing(database)
        self._mark_pairing = GroupCommit(
            database, {}, lambda given: _update(given, may_send, Record.pairing == PairingState.UNSENT).values(mark)
        )
        self._write_progress = GroupCommit(
            database, _PROGRESS_TYPES, lambda given: _update(given).values(_progress_columns(given))
        )
        self._write_pairing = GroupCommit(
            database,
            _PROGRESS_TYPES | _PAIRING_TYPES,
            lambda given: _update(given).values(_progress_columns(given) | _pairing_columns(given)),
        )
        held = update(Record).where(_THIS_RECORD, _THIS_LEASE, has_status(Status.ACTIVATING))
        self._renew_mark = held.where(may_send).values(otp_sent_at=database.now())
        self._may_read = select(true()).where(_THIS_RECORD, _THIS_LEASE, may_work(database))
        ran_then = Batch.running_since < database.now(bindparam("seconds", type_=Float()))
        self._ran = select(true()).where(Batch.id == bindparam("of_batch"), ran_then)
        self._find_foreign_batch = select(Record.batch_id).where(
            _THIS_RECORD, has_status(Status.QUEUED), Record.environment_id != bindparam("for_environment_id")
        )
        back = move(database, Status.QUEUED, Status.PENDING, is_by_key=True).where(_THIS_RECORD)
        self._hand_back = back.values(scheduled_at=database.now(bindparam("delay", type_=Float())))
        self._hand_back_stopped = back.where(~may_call(database, LAST_START))
        self._settlement = Settlement(database, f"{socket.gethostname()}:{os.getpid()}")

    def claim(self, record_id: int, environment_id: str, jitter: float = 0.0) -> Claim | None:
        """Claim a queued record of this environment; None when it is not queued any more or may not be worked on."""
        started, lease_id = boot_time(), uuid.uuid4().hex
        values = {"this_id": record_id, "this_lease": lease_id, "for_environment_id": environment_id}
        for statement, make_claim in self._claims:
            if (row := statement.execute(values)) is not None:
                return make_claim(row, lease_id, started, jitter)
        return None

    def check_database(self) -> None:
        """Ask the database something that costs nothing, to see that it answers. Raises what it raises."""
        with self._database.reading() as connection:
            connection.execute(_NOTHING)

    def mark_sent(self, claim: Claim, ordinal: int, counter: int | None = None) -> bool:
        """Write down, durably, that this OTP is about to go out, and in the same statement that the counter is used up
        from which it is made, if a seed makes it. False: it must not go, since the batch was paused, the OTP is too
        old, or the lease was lost."""
        return self._mark_sent[ordinal].execute(_name_lease(claim) | {"counter": counter}) is not None

    def mark_pairing(self, claim: Claim) -> bool:
        """Write down, durably, that the request to pair is about to go out. False: it must not go, since the batch was
        paused or the lease was lost."""
        return self._mark_pairing.execute(_name_lease(claim)) is not None

    def write_progress(self, claim: Claim, progress: Progress) -> bool:
        """Write down in the middle of an attempt what is known of the OTPs, and of the device if that has changed since
        the claim. False: the lease was lost. Raises DeviceInProgress."""
        values = _name_lease(claim) | progress_parameters(progress)
        statement = self._write_progress
        if claim.may_have_changed(progress.pairing):
            statement, values = self._write_pairing, values | pairing_parameters(progress)
        try:
            # Written twice under the same lease, the second write finds the lease again.
            return write_until(self._ends_at(claim), lambda: statement.execute(values) is not None, lambda: False)
        except IntegrityError as error:
            raise DeviceInProgress from error

    def renew_mark(self, claim: Claim) -> bool:
        """Mark an OTP or a pairing that did not go out as sent anew, before it is tried again. False: it must not go
        (paused, too old, lease lost). A rescue counts from the new time: it lets PingOne be asked only when a call that
        begins now is over for certain."""
        return self._update_one(self._renew_mark, _name_lease(claim))

    def may_read(self, claim: Claim) -> bool:
        """Whether a read may start: the lease stands, and the batch was not paused. A record of a cancelled batch may
        still be read where that is needed."""
        with self._database.reading() as connection:
            return connection.scalar(self._may_read, _name_lease(claim)) is not None

    def ran(self, claim: Claim, ago: timedelta) -> bool:
        """Whether the record's batch ran so long ago, and has run ever since, or waited to go on by itself."""
        with self._database.reading() as connection:
            return (
                connection.scalar(self._ran, {"of_batch": claim.batch_id, "seconds": -ago.total_seconds()}) is not None
            )

    def find_foreign_batch(self, record_id: int, environment_id: str) -> int | None:
        """The batch of a queued record, if it belongs to another environment than this; else None."""
        with self._database.reading() as connection:
            names = {"this_id": record_id, "for_environment_id": environment_id}
            return connection.scalar(self._find_foreign_batch, names)

    def hand_back(self, record_id: int, delay: float) -> bool:
        """Make a queued record that was not claimed pending again, due after `delay` seconds."""
        return self._update_one(self._hand_back, {"this_id": record_id, "delay": delay})

    def hand_back_stopped(self, record_id: int) -> bool:
        """Make a queued record pending again if its batch does not run any more."""
        return self._update_one(self._hand_back_stopped, {"this_id": record_id})

    def settle(self, claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> bool:
        """End the attempt. False: a rescue took the lease away, and nothing was changed."""
        return write_until(
            self._ends_at(claim),
            lambda: self._settlement.write(claim, progress, decision, summary),
            lambda: self._was_settled(claim),
        )

    def _was_settled(self, claim: Claim) -> bool:
        """Whether the attempt under this lease has a line of its own, and not one of a rescue."""
        with self._database.reading() as connection:
            return connection.scalar(_OWN_LINE, _name_lease(claim)) is not None

    def _ends_at(self, claim: Claim) -> float:
        """When the lease ends, by `boot_time`."""
        return claim.started + self._lease

    def _update_one(self, statement: Update, values: dict[str, Any]) -> bool:
        """Execute a statement, and return whether it changed its record."""
        with self._database.writing_one() as connection:
            return connection.execute(statement, values).rowcount == 1


def _name_lease(claim: Claim) -> dict[str, Any]:
    """The values by which a statement finds this record, as long as its lease stands."""
    return {"this_id": claim.record_id, "this_lease": claim.lease_id}


def _update(given: Given, *conditions: ColumnElement[bool]) -> ReturningUpdate[Any]:
    """The update of a record under its lease, where these conditions hold. It returns the lease."""
    held = Record.id == given["this_id"], Record.lease_id == given["this_lease"], has_status(Status.ACTIVATING)
    return update(Record).where(*held, *conditions).returning(given["this_lease"])


def _mark_sent(database: Database, ordinal: int, may_send: ColumnElement[bool], given: Given) -> ReturningUpdate[Any]:
    """The statement that marks an OTP as sent, and its counter as used up, from which no OTP was made yet; without a
    seed both counters are NULL."""
    is_unsent = (Record.otp1_state if ordinal == 1 else Record.otp2_state) == OtpState.UNSENT
    is_unused = or_(Record.next_counter.is_(None), Record.next_counter <= given["counter"])
    return _update(given, may_send, is_unsent, is_unused).values(mark_otp(database, ordinal, given["counter"]))


def write_until(ends_at: float, write: Callable[[], bool], was_written: Callable[[], bool]) -> bool:
    """Call `write` until it succeeds, and return whether it found its lease. A call that failed may have been committed
    all the same, and would not find the lease a second time: then `was_written` is asked. After `ends_at` (by
    `boot_time`) no try begins; raises what the last one raised."""
    try:
        return write()
    except Exception as failure:
        if not _may_pass(failure) or boot_time() >= ends_at:
            raise
    # Built only now: nearly every write succeeds at once.
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        wait=_WAIT_BETWEEN_TRIES,
        stop=lambda state: boot_time() + state.upcoming_sleep >= ends_at,
        sleep=lambda seconds: sleep(seconds),
        reraise=True,
    )(lambda: write() or was_written())


def _may_pass(error: BaseException) -> bool:
    """Whether the database may be back in a moment. A full disk counts as no, so that whoever can make room hears of it
    at once."""
    return is_away(error) and not (isinstance(error, DBAPIError) and is_refused_by_disk(error))
