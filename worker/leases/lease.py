"""The life of a lease. In one statement, a worker claims a record and reads everything that its work needs. It records
each OTP before sending it. It settles the record with a decision: it sets a new status, drops the lease, and writes a
line of history. If the database is unavailable for a moment, a write under a lease is retried until the lease ends."""

import json
import os
import socket
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from time import sleep
from typing import Any

import tenacity
from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Float,
    Row,
    String,
    Update,
    and_,
    bindparam,
    case,
    cast,
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

from models.attempt import AttemptLine, Outcome, PastCall, find_last_answer
from models.base import Base
from models.batch import Batch, BatchState
from models.reason import Reason
from models.record import Record, needs_read
from models.record_states import NOBODY, OtpState, OtpType, PairingState, Status
from worker.clocks import boot_time
from worker.database.engine import Database
from worker.database.errors import is_away, is_refused_by_disk
from worker.leases.group_commit import THIS, Given, GroupCommit, bind
from worker.leases.moves import LAST_START, come_back, has_status, is_batch_in, may_call, may_work, move, write_detail
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
    """One record, held by one worker until its lease expires or is removed."""

    record_id: int
    batch_id: int
    row_number: int
    lease_id: str
    # `boot_time` before the claim was written, in seconds. Deadlines count from this time, so that they pass before the
    # lease ends.
    started: float
    serial_number: str
    user_id: str
    # Empty if the record has no device yet.
    device_id: str
    otps: bytes = field(repr=False)
    progress: Progress
    # Whether the claim has also marked OTP 1 as sent, in the same statement.
    is_otp1_marked: bool = False
    # Whether the claim has marked the pairing as sent.
    is_pairing_marked: bool = False

    def count_spent_posts(self, progress: Progress, *, leaves_pending: bool) -> int:
        """Count the OTPs that this attempt has spent if it ends with this progress. If PingOne asked for OTP 2, OTP 1
        is counted together with OTP 2, or when the record becomes final."""
        before = self.progress.posts - int(self.is_otp1_marked) - int(self.progress.is_half_done)
        return progress.posts - int(leaves_pending and progress.is_half_done) - before


# The columns that the claim of a fresh record returns. No OTP of such a record has been sent yet, so the claim marks
# OTP 1 as sent and needs no other column; each column costs processor time.
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
    Record.pairings,
    Record.is_device_made,
)
# The columns that the claim of any other record returns.
_ALL_COLUMNS: tuple[InstrumentedAttribute[Any], ...] = (
    *_FRESH_COLUMNS,
    Record.otp1_state,
    Record.otp1_posts,
    Record.otp2_state,
    Record.otp2_posts,
    Record.verdict,
    Record.not_found,
    Record.pairing,
    Record.owner_id,
    Record.pairing_began_at,
    Record.otp_sent_at,
)


def _claim_fresh_row(row: Row[Any], lease_id: str, started: float, jitter: float) -> Claim:
    """The claim of a fresh record, from a row with _FRESH_COLUMNS."""
    second = OtpProgress() if row.has_second_otp else None
    first = OtpProgress(OtpState.SENT, 1)
    pairing = PairingProgress(device_id=row.device_id, pairings=row.pairings, is_made=row.is_device_made)
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
            state=PairingState(row.pairing),
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


# Whether the record's batch may make devices.
_MAY_PAIR = select(Batch.may_pair).where(Batch.id == Record.batch_id).scalar_subquery()


def _build_claims(
    database: Database, *, lease: float, max_attempts: int
) -> tuple[tuple[GroupCommit, Callable[..., Claim]], ...]:
    """Build the statements that claim a queued record, in the order to try them, each with the function that makes a
    claim from its row. `lease` is in seconds.

    Nothing has to be decided between the claim of a fresh record and its first call, so one statement claims the record
    and marks its OTP 1 as sent, or its pairing if it has no device."""
    is_fresh = _is_fresh(database, max_attempts)
    all_columns = (
        *_ALL_COLUMNS,
        _is_stale(database).label("is_stale"),
        _MAY_PAIR.label("may_pair"),
        database.now().label("claimed_at"),
    )
    take = partial(_take, database, lease)

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
        # A call that is already marked as sent was made by an earlier attempt.
        calls = case((needs_read(), literal([], JSON())), else_=null())
        return take(given).values(calls=calls).returning(given["this_lease"], *all_columns)

    types = {"for_environment_id": String()}
    return (
        (GroupCommit(database, types, take_fresh), _claim_fresh_row),
        (GroupCommit(database, types, take_unpaired), partial(_claim_any_row, is_pairing_marked=True)),
        (GroupCommit(database, types, take_any), _claim_any_row),
    )


def _take(database: Database, lease: float, given: Given) -> Update:
    """The update that takes the lease of a queued record."""
    return (
        move(database, Status.QUEUED, Status.ACTIVATING, is_by_key=True)
        .where(Record.id == given["this_id"], Record.environment_id == given["for_environment_id"])
        .where(may_work(database, LAST_START))
        .values(lease_id=given["this_lease"], lease_until=database.now(lease), attempts=Record.attempts + 1)
    )


def mark_otp(
    database: Database, ordinal: int, counter: ColumnElement[Any] | InstrumentedAttribute[Any]
) -> dict[Any, Any]:
    """The columns that mark an OTP as sent now, and its counter as used. Without a seed, the counter stays NULL."""
    sent = {Record.otp_sent_at: database.now(), Record.next_counter: counter + 1}
    if ordinal == 1:
        return sent | {Record.otp1_state: OtpState.SENT, Record.otp1_posts: Record.otp1_posts + 1}
    return sent | {Record.otp2_state: OtpState.SENT, Record.otp2_posts: Record.otp2_posts + 1}


def mark_pairing(database: Database) -> dict[Any, Any]:
    """The columns that mark a pairing request as sent now."""
    return {
        Record.otp_sent_at: database.now(),
        Record.pairing: PairingState.SENT,
        Record.pairings: Record.pairings + 1,
        Record.pairing_began_at: case((Record.pairings == 0, database.now()), else_=Record.pairing_began_at),
    }


def _is_stale(database: Database) -> ColumnElement[bool]:
    """Whether a record's OTPs are too old to send."""
    return and_(Record.otp_expires_at.is_not(None), Record.otp_expires_at <= database.now())


def _is_fresh(database: Database, max_attempts: int) -> ColumnElement[bool]:
    """Whether no OTP of a record was sent, and nothing prevents its first call."""
    return and_(
        may_call(database),
        ~_is_stale(database),
        Record.otp1_state == OtpState.UNSENT,
        Record.otp1_posts == 0,
        Record.otp2_posts == 0,
        Record.not_found == 0,
        Record.verdict.is_(None),
        Record.attempts - Record.attempts_forgiven < max_attempts,
    )


def _may_mint_now() -> ColumnElement[bool]:
    """Whether OTP 1 needs no decision: a TOTP seed's OTP belongs to a time step, which has to be chosen first."""
    return or_(Record.next_counter.is_(None), Record.otp_type == OtpType.HOTP)


# The status of an answer to a throttled request.
RATE_LIMITED = 429

# What an attempt records: tables of columns, each with the function that reads its value. The statements' columns,
# their parameters' types, and the values all come from these tables.

_NO_OTP = OtpProgress()
# What is known about a record's OTPs and device. A missing second OTP counts as unsent.
_PROGRESS: dict[str, Callable[[Progress], Any]] = {
    "otp1_state": lambda progress: progress.first.state,
    "otp1_posts": lambda progress: progress.first.posts,
    "otp2_state": lambda progress: (progress.second or _NO_OTP).state,
    "otp2_posts": lambda progress: (progress.second or _NO_OTP).posts,
    "verdict": lambda progress: progress.verdict,
    "next_counter": lambda progress: progress.next_counter,
    "pairing": lambda progress: progress.pairing.state,
    "pairings": lambda progress: progress.pairing.pairings,
    "device_id": lambda progress: progress.pairing.device_id,
    "is_device_made": lambda progress: progress.pairing.is_made,
    "owner_id": lambda progress: NOBODY if progress.pairing.was_free else None,
}
# Columns that the value is added to, and columns that stay unchanged if the value is None. Every other column is set to
# the value.
_ADDED = frozenset({"attempts", "requests", "rate_limited"})
_KEPT = frozenset({"owner_id", "pingone_error_id", "correlation_id"})


def _build_columns(database: Database, names: Iterable[str], given: Given) -> dict[str, ColumnElement[Any]]:
    """The columns of a record with these names, and their new values."""
    return {name: _combine(database, name, given[f"new_{name}"]) for name in names}


def _combine(database: Database, name: str, value: ColumnElement[Any]) -> ColumnElement[Any]:
    """A column's new content, from the value and its current content."""
    column = Record.__table__.c[name]
    if name in _ADDED:
        return column + value
    if name in _KEPT:
        return func.coalesce(value, column)
    return database.now(value) if name == "scheduled_at" else value


def _list_types(names: Iterable[str]) -> dict[str, TypeEngine[Any]]:
    """The types of these columns' values, by parameter name."""
    return {f"new_{name}": Float() if name == "scheduled_at" else _find_type(Record, name) for name in names}


def _find_type(table: type[Base], name: str) -> TypeEngine[Any]:
    """The type of a column's parameter. A text type has no length, since a cast to a length would cut the text; JSON is
    passed as text."""
    kind = table.__table__.c[name].type
    return String() if isinstance(kind, String | JSON) else kind


def read_progress(progress: Progress) -> dict[str, Any]:
    """The values of _PROGRESS, by parameter name."""
    return {f"new_{name}": read(progress) for name, read in _PROGRESS.items()}


def write_calls(calls: Sequence[PastCall]) -> str | None:
    """Write calls as JSON; None if there are none."""
    return json.dumps(calls, separators=(",", ":")) if calls else None


def _store_calls(database: Database, text: ColumnElement[Any]) -> ColumnElement[Any]:
    """A column's new content, from calls that are passed as JSON text. A cast would make SQLite turn the text into a
    number."""
    return text if database.is_sqlite else cast(text, JSON)


@dataclass(frozen=True, slots=True)
class CallSummary:
    """The calls that went out during an attempt. `spent`: if a pair of OTPs made its device ACTIVE, the OTPs that were
    sent, encrypted."""

    calls: Sequence[PastCall] = ()
    spent: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Ending:
    """How an attempt ends: everything that its settlement needs."""

    claim: Claim
    progress: Progress
    decision: Decision
    summary: CallSummary

    @property
    def calls(self) -> Sequence[PastCall]:
        return self.summary.calls

    @property
    def answer(self) -> PastCall:
        return find_last_answer(self.calls)


def leaves_pending(decision: Decision) -> bool:
    """Whether this decision makes the record pending again instead of final (unless its batch was cancelled)."""
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


def _read_detail(ending: _Ending) -> str:
    assert isinstance(ending.decision, DeadLetter), "only a dead letter has a cure"  # noqa: S101
    has_seed = ending.progress.next_counter is not None
    return write_detail(ending.decision.reason, ending.decision.evidence, has_seed=has_seed)


def _read_delay(ending: _Ending) -> float:
    assert isinstance(ending.decision, Retry | Pause), "only what is pending is due again"  # noqa: S101
    return ending.decision.delay


# What a settlement writes into the record besides its progress: _ENDING always, and _KINDS depending on what becomes of
# the record.
_ENDING: dict[str, Callable[[_Ending], Any]] = {
    "not_found": lambda ending: ending.progress.not_found,
    # The claim has counted the attempt already.
    "attempts": lambda ending: 0 if is_counted(ending.decision) else -1,
    "requests": lambda ending: len(ending.calls),
    "rate_limited": lambda ending: sum(call.get("status") == RATE_LIMITED for call in ending.calls),
    "pingone_error_id": lambda ending: ending.answer.get("error_id"),
    "correlation_id": lambda ending: ending.answer.get("correlation_id"),
}
_KINDS: dict[str, dict[str, Callable[[_Ending], Any]]] = {
    "active": _ENDING
    | {
        "resynced": lambda ending: bool(ending.progress.second and ending.progress.second.posts),
        "spent": lambda ending: ending.summary.spent,
    },
    "dead_letter": _ENDING | {"reason": lambda ending: _reason(ending.decision), "detail": _read_detail},
    # The record needs a read, so it stays pending even if its batch was cancelled.
    "unread": _ENDING | {"scheduled_at": _read_delay},
    # The batch may have been cancelled meanwhile.
    "pending": _ENDING | {"scheduled_at": _read_delay},
}

# Columns of the attempt's line that reuse a parameter of the record, since every parameter costs processor time.
_LINE_SHARED = {
    "record_id": "this_id",
    "lease_id": "this_lease",
    "requests": "new_requests",
}
# The other columns of the line that differ between attempts.
_LINE: dict[str, Callable[[_Ending], Any]] = {
    "batch_id": lambda ending: ending.claim.batch_id,
    "number": lambda ending: ending.claim.progress.attempts,
    "outcome": lambda ending: _outcome(ending.decision),
    "reason": lambda ending: _reason(ending.decision),
    "otp_posts": lambda ending: ending.claim.count_spent_posts(
        ending.progress, leaves_pending=leaves_pending(ending.decision)
    ),
    "call_milliseconds": lambda ending: sum(call["milliseconds"] for call in ending.calls) if ending.calls else None,
    "calls": lambda ending: write_calls(ending.calls),
}


def _read_ending(ending: _Ending, kind: str) -> dict[str, Any]:
    """The values of a settlement, by parameter name."""
    record = {f"new_{name}": read(ending) for name, read in _KINDS[kind].items()}
    line = {f"line_{name}": read(ending) for name, read in _LINE.items()}
    return _name_lease(ending.claim) | read_progress(ending.progress) | record | line


class Settlement:
    """Takes records out of `activating`. The statements are built once, here: building one costs more than running
    it."""

    def __init__(self, database: Database, worker: str) -> None:
        self._database = database
        self._worker = worker
        self._statements = {kind: self._make_statement(kind) for kind in _KINDS}

    def _make_statement(self, kind: str) -> GroupCommit:
        types = _list_types(_PROGRESS | _KINDS[kind])
        types |= {f"line_{name}": _find_type(AttemptLine, name) for name in _LINE}
        settle = partial(_settle, self._database, kind)
        if not self._database.is_sqlite:
            # PostgreSQL writes the record and the line in one statement, and the line only if the record was updated.
            return GroupCommit(self._database, types, partial(self._settle_with_line, settle))
        return GroupCommit(
            self._database,
            types,
            lambda given: settle(given).returning(given["this_lease"]),
            then=insert(AttemptLine).inline().values(self._build_line(bind(THIS | types))),
        )

    def _settle_with_line(self, settle: Callable[[Given], Update], given: Given) -> Executable:
        line = self._build_line(given)
        settled = settle(given).returning(*(value.label(name) for name, value in line.items())).cte("settled")
        lines = insert(AttemptLine).from_select(list(line), select(*(settled.c[name] for name in line)))
        return lines.returning(AttemptLine.lease_id)

    def _build_line(self, given: Given) -> dict[str, ColumnElement[Any]]:
        """The columns of the attempt's line, and their values."""
        shared = {name: given[parameter] for name, parameter in _LINE_SHARED.items()}
        own = {name: given[f"line_{name}"] for name in _LINE}
        own["calls"] = _store_calls(self._database, own["calls"])
        return shared | own | {"worker": literal(self._worker), "ended_at": self._database.now()}

    def write(self, claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> bool:
        """Write the record and its attempt's line in one transaction. False: a rescue removed the lease, and nothing
        was written."""
        kind = _choose_kind(progress, decision)
        values = _read_ending(_Ending(claim, progress, decision, summary), kind)
        return self._statements[kind].execute(values) is not None


def _choose_kind(progress: Progress, decision: Decision) -> str:
    """Choose the key of _KINDS that says what becomes of the record after this decision."""
    match decision:
        case Active():
            return "active"
        case DeadLetter():
            return "dead_letter"
    return "unread" if progress.needs_read else "pending"


def _settle(database: Database, kind: str, given: Given) -> Update:
    """The update that takes a record out of `activating`, if its lease is valid."""
    columns: dict[str, Any] = _build_columns(database, _PROGRESS | _KINDS[kind], given)
    # The attempt's line has the calls now.
    columns["calls"] = null()
    if kind == "active":
        # An active record no longer needs its OTPs, so they are erased.
        columns |= dict.fromkeys(("reason", "detail", "pingone_error_id", "otps"), null())
    elif kind == "pending":
        is_cancelled = is_batch_in(BatchState.CANCELLED)
        columns |= {
            "scheduled_at": case(
                (given["new_attempts"] < 0, come_back(database, given["new_scheduled_at"])),
                else_=columns["scheduled_at"],
            ),
            "status": case((is_cancelled, Status.CANCELLED), else_=Status.PENDING),
            "finalized_at": case((is_cancelled, database.now()), else_=null()),
        }
    target = {"active": Status.ACTIVE, "dead_letter": Status.DEAD_LETTER}.get(kind, Status.PENDING)
    held = Record.id == given["this_id"], Record.lease_id == given["this_lease"]
    return move(database, Status.ACTIVATING, target, is_by_key=True).where(*held).values(columns)


_THIS_RECORD = Record.id == bindparam("this_id")
_THIS_LEASE = Record.lease_id == bindparam("this_lease")
# A query that reads no table.
_NOTHING = select(true())
# The line of the attempt under this lease, unless a rescue wrote it.
_OWN_LINE = select(AttemptLine.id).where(
    AttemptLine.record_id == bindparam("this_id"),
    AttemptLine.lease_id == bindparam("this_lease"),
    AttemptLine.outcome != Outcome.LOST,
)

# The second try is immediate: if one connection broke, another may work. Before each further try, a random time of up
# to 0.2, 0.4, 0.8 … and finally 2 seconds passes, so that colliding threads do not collide again.
_WAIT_BETWEEN_TRIES = tenacity.wait_random_exponential(multiplier=0.2, max=2)


class DeviceInProgress(Exception):
    """Another unfinished record has the device that was found for this one."""


class Leases:
    """The leases of one worker process; thread-safe. `lease` is in seconds.

    Every statement is built once, here: building one costs more than running it."""

    def __init__(self, database: Database, *, lease: float = 60.0, max_attempts: int = 8) -> None:
        self._database = database
        self._lease = lease
        self._claims = _build_claims(database, lease=lease, max_attempts=max_attempts)
        may_send = and_(may_call(database), ~_is_stale(database))
        self._mark_sent = {
            ordinal: GroupCommit(database, {"counter": BigInteger()}, partial(_mark_sent, database, ordinal, may_send))
            for ordinal in (1, 2)
        }
        mark, is_unsent = mark_pairing(database), Record.pairing == PairingState.UNSENT
        self._mark_pairing = GroupCommit(database, {}, lambda given: _update(given, may_send, is_unsent).values(mark))
        self._write_progress = GroupCommit(
            database,
            _list_types(_PROGRESS) | {"calls_so_far": String()},
            lambda given: _update(given).values(
                _build_columns(database, _PROGRESS, given) | {"calls": _store_calls(database, given["calls_so_far"])}
            ),
        )
        held = update(Record).where(_THIS_RECORD, _THIS_LEASE, has_status(Status.ACTIVATING))
        self._renew_mark = held.where(may_send).values(otp_sent_at=database.now())
        self._may_read = select(true()).where(_THIS_RECORD, _THIS_LEASE, may_work(database))
        ran_before = Batch.running_since < database.now(bindparam("seconds", type_=Float()))
        self._ran = select(true()).where(Batch.id == bindparam("of_batch"), ran_before)
        self._find_foreign_batch = (
            select(Record.batch_id)
            .join(Batch, Batch.id == Record.batch_id)
            .where(
                _THIS_RECORD,
                has_status(Status.QUEUED),
                Batch.environment == bindparam("name"),
                Record.environment_id != bindparam("for_environment_id"),
            )
        )
        back = move(database, Status.QUEUED, Status.PENDING, is_by_key=True).where(_THIS_RECORD)
        self._hand_back = back.values(scheduled_at=come_back(database, bindparam("delay", type_=Float())))
        self._hand_back_stopped = back.where(~may_call(database, LAST_START))
        self._settlement = Settlement(database, f"{socket.gethostname()}:{os.getpid()}")

    def claim(self, record_id: int, environment_id: str, jitter: float = 0.0) -> Claim | None:
        """Claim a queued record of this environment; None if it is no longer queued or may not be worked on."""
        started, lease_id = boot_time(), uuid.uuid4().hex
        values = {"this_id": record_id, "this_lease": lease_id, "for_environment_id": environment_id}
        for statement, make_claim in self._claims:
            if (row := statement.execute(values)) is not None:
                return make_claim(row, lease_id, started, jitter)
        return None

    def check_database(self) -> None:
        """Ask the database a trivial question, to see that it answers. Raises its error."""
        with self._database.reading() as connection:
            connection.execute(_NOTHING)

    def mark_sent(self, claim: Claim, ordinal: int, counter: int | None = None) -> bool:
        """Record durably that this OTP is about to go out and, if a seed makes it, that its counter is used. False: the
        OTP must not be sent, because the batch was paused, the OTP is too old, or the lease was lost."""
        return self._mark_sent[ordinal].execute(_name_lease(claim) | {"counter": counter}) is not None

    def mark_pairing(self, claim: Claim) -> bool:
        """Record durably that the pairing request is about to go out. False: it must not be sent, because the batch was
        paused or the lease was lost."""
        return self._mark_pairing.execute(_name_lease(claim)) is not None

    def write_progress(self, claim: Claim, progress: Progress, calls: Sequence[PastCall] = ()) -> bool:
        """During an attempt, record what is known about the OTPs and the device, and the calls so far. False: the lease
        was lost. Raises DeviceInProgress."""
        values = _name_lease(claim) | read_progress(progress) | {"calls_so_far": write_calls(calls)}
        try:
            # This write keeps the lease, so a repeated write finds it.
            return write_until(
                self._ends_at(claim), lambda: self._write_progress.execute(values) is not None, lambda: False
            )
        except IntegrityError as error:
            raise DeviceInProgress from error

    def renew_mark(self, claim: Claim) -> bool:
        """Before the next try, update the time at which an OTP or a pairing that did not go out was marked as sent.
        False: it must not be sent (paused, too old, lease lost). A rescue counts from the new time, so that PingOne is
        asked only when a call that begins now is certainly over."""
        return self._update_one(self._renew_mark, _name_lease(claim))

    def may_read(self, claim: Claim) -> bool:
        """Whether a read may start: the lease is valid, and the batch runs, or was cancelled and the record needs a
        read."""
        with self._database.reading() as connection:
            return connection.scalar(self._may_read, _name_lease(claim)) is not None

    def ran(self, claim: Claim, ago: timedelta) -> bool:
        """Whether the record's batch has run for this long, interrupted only by pauses that end by themselves."""
        with self._database.reading() as connection:
            return (
                connection.scalar(self._ran, {"of_batch": claim.batch_id, "seconds": -ago.total_seconds()}) is not None
            )

    def find_foreign_batch(self, record_id: int, name: str, environment_id: str = "") -> int | None:
        """Find the batch of a queued record, if that batch was loaded for the environment with this name but with
        another id; otherwise None. Without an id, the name alone decides."""
        with self._database.reading() as connection:
            names = {"this_id": record_id, "name": name, "for_environment_id": environment_id}
            return connection.scalar(self._find_foreign_batch, names)

    def hand_back(self, record_id: int, delay: float) -> bool:
        """Make an unclaimed queued record pending again, due after `delay` seconds."""
        return self._update_one(self._hand_back, {"this_id": record_id, "delay": delay})

    def hand_back_stopped(self, record_id: int) -> bool:
        """Make a queued record pending again if its batch no longer runs."""
        return self._update_one(self._hand_back_stopped, {"this_id": record_id})

    def settle(self, claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> bool:
        """End the attempt. False: a rescue removed the lease, and nothing was changed."""
        return write_until(
            self._ends_at(claim),
            lambda: self._settlement.write(claim, progress, decision, summary),
            lambda: self._was_settled(claim),
        )

    def _was_settled(self, claim: Claim) -> bool:
        """Whether the attempt under this lease has its own line, not a rescue's."""
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
    """The values by which a statement finds this record while its lease is valid."""
    return {"this_id": claim.record_id, "this_lease": claim.lease_id}


def _update(given: Given, *conditions: ColumnElement[bool]) -> ReturningUpdate[Any]:
    """The update of a record under its lease, if these conditions are met. It returns the lease."""
    held = Record.id == given["this_id"], Record.lease_id == given["this_lease"], has_status(Status.ACTIVATING)
    return update(Record).where(*held, *conditions).returning(given["this_lease"])


def _mark_sent(database: Database, ordinal: int, may_send: ColumnElement[bool], given: Given) -> ReturningUpdate[Any]:
    """The statement that marks an OTP as sent and its counter as used up, if no OTP has been made from that counter
    yet. Without a seed, there are no counters."""
    is_unsent = (Record.otp1_state if ordinal == 1 else Record.otp2_state) == OtpState.UNSENT
    is_unused = or_(Record.next_counter.is_(None), Record.next_counter <= given["counter"])
    return _update(given, may_send, is_unsent, is_unused).values(mark_otp(database, ordinal, given["counter"]))


def write_until(ends_at: float, write: Callable[[], bool], was_written: Callable[[], bool]) -> bool:
    """Call `write` until it succeeds, and return whether it found its lease. A failed call may have committed its
    write; then the next call finds no lease, and `was_written` says whether an earlier call wrote. No try begins after
    `ends_at` (by `boot_time`). Raises the last try's error."""
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
    """Whether the database may be available again in a moment. False if it refused because its disk is full: a person
    has to know at once, and free space."""
    return is_away(error) and not (isinstance(error, DBAPIError) and is_refused_by_disk(error))
