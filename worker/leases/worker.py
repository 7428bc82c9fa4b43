"""What a worker does with one record: claim it, write each OTP down before it goes out, settle."""

from __future__ import annotations

import os
import socket
import uuid
from time import monotonic
from typing import Any

from sqlalchemy import Update, and_, insert, literal, select, true, update

from models.attempt import Attempt
from models.batch import BatchState
from models.record import OtpState, Record, Status
from worker.database import Database
from worker.decisions import Decision, Progress
from worker.leases.claim import CLAIMED, Claim, from_row
from worker.leases.moves import batch_is, may_work, move
from worker.leases.settlement import Tally, count_columns, history, otp_columns, status_after


class Leases:
    """The leases of one worker process; thread-safe. `lease` in seconds."""

    def __init__(self, database: Database, *, lease: float = 60.0, max_attempts: int = 8) -> None:
        self._database = database
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._is_stale = and_(Record.otp_expires_at.is_not(None), Record.otp_expires_at <= database.now())
        self._take = (
            move(database, Status.QUEUED, Status.ACTIVATING)
            .where(may_work())
            .values(lease_until=database.now(lease), attempts=Record.attempts + 1)
        )
        # A fresh record needs no thought between claim and sending, so that one commit serves both.
        self._is_fresh = and_(
            batch_is(BatchState.RUNNING),
            Record.otp1_state == OtpState.UNSENT,
            Record.otp1_posts == 0,
            Record.not_found == 0,
            Record.verdict.is_(None),
            Record.attempts - Record.attempts_forgiven < max_attempts,
            ~self._is_stale,
        )

    def claim(self, record_id: int, environment_id: str, jitter: float = 0.0) -> Claim | None:
        """Take a queued record of this environment; None when it is not queued any more or may not be worked on."""
        started, lease_id = monotonic(), uuid.uuid4().hex
        take = (
            self._take.where(Record.id == record_id, Record.environment_id == environment_id)
            .values(lease_id=lease_id)
            .returning(*CLAIMED)
        )
        with self._database.writing() as connection:
            fresh = take.where(self._is_fresh).values(self._sent(1)).returning(literal(False).label("is_stale"))
            row = connection.execute(fresh).one_or_none()
            if is_sending := row is not None:
                return from_row(row, lease_id, started, jitter, is_sending=is_sending)
            row = connection.execute(take.returning(self._is_stale.label("is_stale"))).one_or_none()
        return from_row(row, lease_id, started, jitter, is_sending=False) if row else None

    def sending(self, claim: Claim, ordinal: int) -> bool:
        """Write down, durably, that this OTP is about to go out. False: it must not (paused, stale, lease lost)."""
        state = Record.otp1_state if ordinal == 1 else Record.otp2_state
        statement = self._held(claim).where(state == OtpState.UNSENT, batch_is(BatchState.RUNNING), ~self._is_stale)
        return self._changes_one(statement.values(self._sent(ordinal)))

    def answered(self, claim: Claim, progress: Progress) -> bool:
        """Write down what became of the OTPs in the middle of an attempt. False: the lease was lost."""
        return self._changes_one(self._held(claim).values(otp_columns(progress)))

    def may_call(self, claim: Claim) -> bool:
        """Whether another call may start: the lease stands, and the batch was not paused."""
        statement = select(true()).where(Record.id == claim.record_id, Record.lease_id == claim.lease_id, may_work())
        with self._database.reading() as connection:
            return connection.scalar(statement) is not None

    def hand_back(self, record_id: int, delay: float) -> bool:
        """A queued record that was not claimed: pending again, due after `delay` seconds."""
        back = move(self._database, Status.QUEUED, Status.PENDING).where(Record.id == record_id)
        return self._changes_one(back.values(scheduled_at=self._database.now(delay)))

    def hand_back_stopped(self, record_id: int) -> bool:
        """A queued record whose batch does not run any more: pending, until it does."""
        back = move(self._database, Status.QUEUED, Status.PENDING).where(
            Record.id == record_id, ~batch_is(BatchState.RUNNING)
        )
        return self._changes_one(back)

    def settle(self, claim: Claim, progress: Progress, decision: Decision, tally: Tally) -> bool:
        """End the attempt. False: a rescue took the lease away, and nothing was changed."""
        columns = otp_columns(progress) | count_columns(progress, decision, tally)
        statement = (
            status_after(self._database, progress, decision)
            .where(Record.id == claim.record_id, Record.lease_id == claim.lease_id)
            .values(columns)
        )
        line = history(claim, decision, tally) | {"worker": self._worker, "ended_at": self._database.now()}
        with self._database.writing() as connection:
            if connection.execute(statement).rowcount == 0:
                return False
            connection.execute(insert(Attempt).values(line))
        return True

    def _held(self, claim: Claim) -> Update:
        return update(Record).where(
            Record.id == claim.record_id,
            Record.lease_id == claim.lease_id,
            Record.status == Status.ACTIVATING,
        )

    def _sent(self, ordinal: int) -> dict[Any, Any]:
        sent_at = {Record.otp_sent_at: self._database.now()}
        if ordinal == 1:
            return sent_at | {Record.otp1_state: OtpState.SENT, Record.otp1_posts: Record.otp1_posts + 1}
        return sent_at | {Record.otp2_state: OtpState.SENT, Record.otp2_posts: Record.otp2_posts + 1}

    def _changes_one(self, statement: Update) -> bool:
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount == 1
