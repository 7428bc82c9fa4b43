"""The statements with which a worker claims a record, and those that mark what is about to go out."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, String, Update, and_, case, or_, select
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.base import Executable

from models.batch import Batch
from models.record import Record
from models.record_states import NOBODY, OtpState, OtpType, PairingState, Status
from worker.clocks.boot_clock import boot_time
from worker.database.engine import Database
from worker.leases.claim import ALL_COLUMNS, FRESH_COLUMNS, Claim, claim_any_row, claim_fresh_row, claim_unpaired_row
from worker.leases.group_commit import Given, GroupCommit
from worker.leases.moves import LAST_START, is_batch_running, may_work, move

# Whether the batch of a record may make devices.
_MAY_PAIR = select(Batch.may_pair).where(Batch.id == Record.batch_id).scalar_subquery()


class Claims:
    """Claims queued records. `lease` in seconds.

    Nothing needs to be decided between the claim of a fresh record and its first call, so one statement does both: it
    claims the record and marks OTP 1 as sent, or the pairing of a record that has no device."""

    def __init__(self, database: Database, *, lease: float, max_attempts: int) -> None:
        is_stale = and_(Record.otp_expires_at.is_not(None), Record.otp_expires_at <= database.now())
        is_fresh = and_(_is_fresh(database, max_attempts), ~is_stale)
        all_columns = (
            *ALL_COLUMNS,
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
            has_device = and_(Record.device_id != "", Record.pairing != PairingState.SENT)
            may_send = take(given).where(is_fresh, has_device, _was_not_found(), _may_mint_now())
            return may_send.values(mark_otp(database, 1, Record.next_counter)).returning(
                given["this_lease"], *FRESH_COLUMNS
            )

        def take_unpaired(given: Given) -> Executable:
            is_unpaired = and_(Record.device_id == "", Record.pairing == PairingState.UNSENT, Record.pairings == 0)
            may_pair = take(given).where(is_fresh, is_unpaired, _MAY_PAIR)
            return may_pair.values(mark_pairing(database)).returning(given["this_lease"], *all_columns)

        def take_any(given: Given) -> Executable:
            return take(given).returning(given["this_lease"], *all_columns)

        types = {"for_environment_id": String()}
        # In the order in which they are tried.
        self._statements: tuple[tuple[GroupCommit, Callable[..., Claim]], ...] = (
            (GroupCommit(database, types, take_fresh), claim_fresh_row),
            (GroupCommit(database, types, take_unpaired), claim_unpaired_row),
            (GroupCommit(database, types, take_any), claim_any_row),
        )

    def claim(self, record_id: int, environment_id: str, jitter: float) -> Claim | None:
        """Claim a queued record of this environment; None when it is not queued any more or may not be worked on."""
        started, lease_id = boot_time(), uuid.uuid4().hex
        values = {"this_id": record_id, "this_lease": lease_id, "for_environment_id": environment_id}
        for statement, make_claim in self._statements:
            if (row := statement.execute(values)) is not None:
                return make_claim(row, lease_id, started, jitter)
        return None


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
        is_batch_running(database),
        Record.otp1_state == OtpState.UNSENT,
        Record.otp1_posts == 0,
        Record.otp2_posts == 0,
        Record.not_found == 0,
        Record.verdict.is_(None),
        Record.attempts - Record.attempts_forgiven < max_attempts,
    )


def _was_not_found() -> ColumnElement[bool]:
    """Whether the inventory did not show the record's device, which may be ACTIVE then."""
    return or_(Record.owner_id.is_(None), Record.owner_id == NOBODY)


def _may_mint_now() -> ColumnElement[bool]:
    """Whether OTP 1 needs no decision: a TOTP seed makes its OTP for a time step, and which one that is has to be
    decided."""
    return or_(Record.next_counter.is_(None), Record.otp_type == OtpType.HOTP)
