"""What a worker does with one record: claim it, write each OTP down before it goes out, settle it. A write under a
lease is tried again while the lease lasts, if the database was away for a moment."""

import os
import socket
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from time import sleep
from typing import Any

import tenacity
from sqlalchemy import BigInteger, ColumnElement, Float, Update, and_, bindparam, or_, select, true, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.sql.dml import ReturningUpdate

from models.attempt import AttemptLine, Outcome
from models.batch import Batch
from models.record import Record
from models.record_states import OtpState, PairingState, Status
from worker.clocks import boot_time
from worker.database.engine import Database
from worker.database.errors import is_away, is_refused_by_disk
from worker.leases.group_commit import Given, GroupCommit
from worker.leases.moves import LAST_START, has_status, may_call, may_work, move
from worker.leases.settlement import (
    PAIRING_TYPES,
    PROGRESS_TYPES,
    CallSummary,
    Claim,
    Settlement,
    build_claims,
    mark_otp,
    mark_pairing,
    pairing_columns,
    pairing_parameters,
    progress_columns,
    progress_parameters,
)
from worker.rules.steps import Decision, Progress

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
        self._claims = build_claims(database, lease=lease, max_attempts=max_attempts)
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
            database, PROGRESS_TYPES, lambda given: _update(given).values(progress_columns(given))
        )
        self._write_pairing = GroupCommit(
            database,
            PROGRESS_TYPES | PAIRING_TYPES,
            lambda given: _update(given).values(progress_columns(given) | pairing_columns(given)),
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
