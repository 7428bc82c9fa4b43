"""What a worker does with one record: claim it, write each OTP down before it goes out, settle it."""

from __future__ import annotations

import os
import socket
from typing import Any

from sqlalchemy import BigInteger, Float, Update, and_, bindparam, or_, select, true, update
from sqlalchemy.exc import IntegrityError

from models.attempt import AttemptLine, Outcome
from models.record import Record
from models.record_states import OtpState, PairingState, Status
from worker.database.engine import Database
from worker.leases.attempt_line import CallSummary
from worker.leases.claim import Claim
from worker.leases.claims import Claims, mark_otp, mark_pairing
from worker.leases.moves import LAST_START, is_batch_running, may_work, move
from worker.leases.settlement import (
    PAIRING_COLUMNS,
    PROGRESS_COLUMNS,
    Settlement,
    pairing_parameters,
    progress_parameters,
)
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


class DeviceInProgress(Exception):
    """Another record that is not final has the device that was found for this one."""


class Leases:
    """The leases of one worker process; thread-safe. `lease` in seconds.

    Every statement is built once, here: building one costs more than running it."""

    def __init__(self, database: Database, *, lease: float = 60.0, max_attempts: int = 8) -> None:
        self._database = database
        self._lease = lease
        is_stale = and_(Record.otp_expires_at.is_not(None), Record.otp_expires_at <= database.now())
        self._claims = Claims(database, lease=lease, max_attempts=max_attempts)
        held = update(Record).where(_THIS_RECORD, _THIS_LEASE, Record.status == Status.ACTIVATING)
        may_send = held.where(is_batch_running(database), ~is_stale)
        self._mark_sent = {
            1: may_send.where(Record.otp1_state == OtpState.UNSENT, _IS_UNUSED).values(mark_otp(database, 1, _COUNTER)),
            2: may_send.where(Record.otp2_state == OtpState.UNSENT, _IS_UNUSED).values(mark_otp(database, 2, _COUNTER)),
        }
        self._mark_pairing = may_send.where(Record.pairing == PairingState.UNSENT).values(mark_pairing(database))
        self._write_progress = held.values(PROGRESS_COLUMNS)
        self._write_pairing = held.values(PROGRESS_COLUMNS | PAIRING_COLUMNS)
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
        return self._claims.claim(record_id, environment_id, jitter)

    def check_database(self) -> None:
        """Ask the database something that costs nothing, to see that it answers. Raises what it raises."""
        with self._database.reading() as connection:
            connection.execute(_NOTHING)

    def mark_sent(self, claim: Claim, ordinal: int, counter: int | None = None) -> bool:
        """Write down, durably, that this OTP is about to go out, and in the same statement that the counter is used up
        from which it is made, if a seed makes it. False: it must not go, since the batch was paused, the OTP is too
        old, or the lease was lost."""
        return self._update_one(self._mark_sent[ordinal], _name_lease(claim) | {"counter": counter})

    def mark_pairing(self, claim: Claim) -> bool:
        """Write down, durably, that the request to pair is about to go out. False: it must not go, since the batch was
        paused or the lease was lost."""
        return self._update_one(self._mark_pairing, _name_lease(claim))

    def write_progress(self, claim: Claim, progress: Progress) -> bool:
        """Write down in the middle of an attempt what is known of the OTPs, and of the device if that has changed since
        the claim. False: the lease was lost. Raises DeviceInProgress."""
        values = _name_lease(claim) | progress_parameters(progress)
        statement = self._write_progress
        if progress.pairing != claim.progress.pairing:
            statement, values = self._write_pairing, values | pairing_parameters(progress)
        try:
            # Written twice under the same lease, the second write finds the lease again.
            return write_until(self._ends_at(claim), lambda: self._update_one(statement, values), lambda: False)
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
    """The parameters of _THIS_RECORD and _THIS_LEASE."""
    return {"record_id": claim.record_id, "held_lease_id": claim.lease_id}
