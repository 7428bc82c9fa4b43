"""What a worker does with one record: claim it, write each OTP down before it goes out, settle it."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Float, Update, and_, bindparam, or_, select, true, update
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.dml import ReturningUpdate

from models.attempt import AttemptLine, Outcome
from models.record import OtpState, OtpType, Record, Status
from worker.clocks.boot_clock import boot_time
from worker.database.engine import Database
from worker.leases.attempt_line import CallSummary
from worker.leases.claim import ALL_COLUMNS, FRESH_COLUMNS, Claim, claim_any_row, claim_fresh_row
from worker.leases.moves import LAST_START, is_batch_running, may_work, move
from worker.leases.settlement import PROGRESS_COLUMNS, Settlement, progress_parameters
from worker.leases.write_retries import write_until
from worker.rules.progress import Progress
from worker.rules.steps import Decision

_THIS_RECORD = Record.id == bindparam("record_id")
_THIS_LEASE = Record.lease_id == bindparam("held_lease_id")
# The counter that an OTP is made from; NULL without a seed.
_COUNTER = bindparam("counter", type_=BigInteger())
# Whether no OTP was made from it yet. There is nothing to ask of a record without a seed.
_IS_UNUSED = or_(Record.next_counter.is_(None), Record.next_counter <= _COUNTER)
# A query of no table.
_NOTHING = select(true())
# The line of the attempt under this lease, unless a rescue wrote it.
_OWN_LINE = select(AttemptLine.id).where(
    AttemptLine.record_id == bindparam("record_id"),
    AttemptLine.lease_id == bindparam("held_lease_id"),
    AttemptLine.outcome != Outcome.LOST,
)


class Leases:
    """The leases of one worker process; thread-safe. `lease` in seconds.

    Every statement is built once, here: building one costs more than running it."""

    def __init__(self, database: Database, *, lease: float = 60.0, max_attempts: int = 8) -> None:
        self._database = database
        self._lease = lease
        is_stale = and_(Record.otp_expires_at.is_not(None), Record.otp_expires_at <= database.now())
        self._claims = self._build_claims(is_stale, max_attempts)
        held = update(Record).where(_THIS_RECORD, _THIS_LEASE, Record.status == Status.ACTIVATING)
        may_send = held.where(is_batch_running(database), ~is_stale)
        self._mark_sent = {
            1: may_send.where(Record.otp1_state == OtpState.UNSENT, _IS_UNUSED).values(self._mark_values(1, _COUNTER)),
            2: may_send.where(Record.otp2_state == OtpState.UNSENT, _IS_UNUSED).values(self._mark_values(2, _COUNTER)),
        }
        self._write_progress = held.values(PROGRESS_COLUMNS)
        self._renew_mark = may_send.values(otp_sent_at=database.now())
        self._may_read = select(true()).where(_THIS_RECORD, _THIS_LEASE, may_work(database))
        self._find_foreign_batch = select(Record.batch_id).where(
            _THIS_RECORD, Record.status == Status.QUEUED, Record.environment_id != bindparam("for_environment_id")
        )
        back = move(database, Status.QUEUED, Status.PENDING).where(_THIS_RECORD)
        self._hand_back = back.values(scheduled_at=database.now(bindparam("delay", type_=Float())))
        self._hand_back_stopped = back.where(~is_batch_running(database, LAST_START))
        self._settlement = Settlement(database, f"{socket.gethostname()}:{os.getpid()}")

    def claim(self, record_id: int, environment_id: str, jitter: float = 0.0) -> Claim | None:
        """Claim a queued record of this environment; None when it is not queued any more or may not be worked on."""
        started, lease_id = boot_time(), uuid.uuid4().hex
        values = {"record_id": record_id, "for_environment_id": environment_id, "new_lease_id": lease_id}
        for statement, claim in self._claims:
            with self._database.writing_one() as connection:
                row = connection.execute(statement, values).one_or_none()
            if row is not None:
                return claim(row, lease_id, started, jitter)
        return None

    def check_database(self) -> None:
        """Ask the database something that costs nothing, to see that it answers. Raises what it raises."""
        with self._database.reading() as connection:
            connection.execute(_NOTHING)

    def mark_sent(self, claim: Claim, ordinal: int, counter: int | None = None) -> bool:
        """Write down, durably, that this OTP is about to go out, and in the same statement that the counter is used up
        from which it is made, if a seed makes it. False: it must not go, since the batch was paused, the OTP is too
        old, or the lease was lost."""
        return self._update_one(self._mark_sent[ordinal], _name_lease(claim) | {"counter": counter})

    def write_progress(self, claim: Claim, progress: Progress) -> bool:
        """Write down in the middle of an attempt what is known of the OTPs. False: the lease was lost."""
        values = _name_lease(claim) | progress_parameters(progress)
        # Written twice under the same lease, the second write finds the lease again.
        return write_until(self._ends_at(claim), lambda: self._update_one(self._write_progress, values), lambda: False)

    def renew_mark(self, claim: Claim) -> bool:
        """Mark an OTP that did not go out as sent anew, before it is tried again. False: it must not go (paused, too
        old, lease lost). A rescue counts from the new time: it lets the device be read only when a call that begins now
        is over for certain."""
        return self._update_one(self._renew_mark, _name_lease(claim))

    def may_read(self, claim: Claim) -> bool:
        """Whether a read may start: the lease stands, and the batch was not paused. A record of a cancelled batch may
        still be read where that is needed."""
        with self._database.reading() as connection:
            return connection.scalar(self._may_read, _name_lease(claim)) is not None

    def find_foreign_batch(self, record_id: int, environment_id: str) -> int | None:
        """The batch of a queued record, if it belongs to another environment than this; else None."""
        with self._database.reading() as connection:
            names = {"record_id": record_id, "for_environment_id": environment_id}
            return connection.scalar(self._find_foreign_batch, names)

    def hand_back(self, record_id: int, delay: float) -> bool:
        """Make a queued record that was not claimed pending again, due after `delay` seconds."""
        return self._update_one(self._hand_back, {"record_id": record_id, "delay": delay})

    def hand_back_stopped(self, record_id: int) -> bool:
        """Make a queued record pending again if its batch does not run any more."""
        return self._update_one(self._hand_back_stopped, {"record_id": record_id})

    def settle(self, claim: Claim, progress: Progress, decision: Decision, summary: CallSummary) -> bool:
        """End the attempt. False: a rescue took the lease away, and nothing was changed."""
        return write_until(
            self._ends_at(claim),
            lambda: self._settlement.write(claim, progress, decision, summary),
            lambda: self._was_settled(claim),
        )

    def _build_claims(
        self, is_stale: ColumnElement[bool], max_attempts: int
    ) -> tuple[tuple[ReturningUpdate[Any], Callable[..., Claim]], ...]:
        """The statements that claim a record, in the order in which they are tried, and what makes a Claim of a row of
        each. Nothing needs to be decided between the claim of a fresh record and its first OTP, so one statement does
        both."""
        database = self._database
        may_begin = may_work(database, LAST_START)
        take = (
            move(database, Status.QUEUED, Status.ACTIVATING)
            .where(_THIS_RECORD, Record.environment_id == bindparam("for_environment_id"), may_begin)
            .values(
                lease_id=bindparam("new_lease_id"),
                lease_until=database.now(self._lease),
                attempts=Record.attempts + 1,
            )
        )
        fresh = take.where(_is_fresh(database, max_attempts), ~is_stale).values(
            self._mark_values(1, Record.next_counter)
        )
        return (
            (fresh.returning(*FRESH_COLUMNS), claim_fresh_row),
            (take.returning(*ALL_COLUMNS, is_stale.label("is_stale")), claim_any_row),
        )

    def _was_settled(self, claim: Claim) -> bool:
        """Whether the attempt under this lease has a line of its own, and not one of a rescue."""
        with self._database.reading() as connection:
            return connection.scalar(_OWN_LINE, _name_lease(claim)) is not None

    def _ends_at(self, claim: Claim) -> float:
        """When the lease ends, by `boot_time`."""
        return claim.started + self._lease

    def _mark_values(self, ordinal: int, counter: ColumnElement[Any] | InstrumentedAttribute[Any]) -> dict[Any, Any]:
        """The columns that mark an OTP as sent, now, and its counter as used up; without a seed that is NULL, and stays
        so."""
        sent = {Record.otp_sent_at: self._database.now(), Record.next_counter: counter + 1}
        if ordinal == 1:
            return sent | {Record.otp1_state: OtpState.SENT, Record.otp1_posts: Record.otp1_posts + 1}
        return sent | {Record.otp2_state: OtpState.SENT, Record.otp2_posts: Record.otp2_posts + 1}

    def _update_one(self, statement: Update, values: dict[str, Any]) -> bool:
        """Execute a statement, and return whether it changed its record."""
        with self._database.writing_one() as connection:
            return connection.execute(statement, values).rowcount == 1


def _is_fresh(database: Database, max_attempts: int) -> ColumnElement[bool]:
    """Whether nothing is known of a record but its file's row, so that its first OTP may go at once."""
    return and_(
        is_batch_running(database),
        Record.otp1_state == OtpState.UNSENT,
        Record.otp1_posts == 0,
        Record.otp2_posts == 0,
        Record.not_found == 0,
        Record.verdict.is_(None),
        Record.attempts - Record.attempts_forgiven < max_attempts,
        # A TOTP seed makes its OTP for a time step, and which one that is has to be decided.
        or_(Record.next_counter.is_(None), Record.otp_type == OtpType.HOTP),
    )


def _name_lease(claim: Claim) -> dict[str, Any]:
    """The parameters of _THIS_RECORD and _THIS_LEASE."""
    return {"record_id": claim.record_id, "held_lease_id": claim.lease_id}
