"""A worker claims a record: the right to work on it and all that the work needs to know, in one statement; and the
statements that mark what is about to go out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Row, String, Update, and_, case, or_, select
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.base import Executable

from models.batch import Batch
from models.reason import Reason
from models.record import Record
from models.record_states import NOBODY, OtpState, OtpType, PairingState, Status
from worker.database.engine import Database
from worker.leases.group_commit import Given, GroupCommit
from worker.leases.moves import LAST_START, is_batch_running, may_work, move
from worker.rules.progress import OtpProgress, PairingProgress, Progress, count_ago


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
FRESH_COLUMNS: tuple[InstrumentedAttribute[Any], ...] = (
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
ALL_COLUMNS: tuple[InstrumentedAttribute[Any], ...] = (
    *FRESH_COLUMNS,
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


def claim_fresh_row(row: Row[Any], lease_id: str, started: float, jitter: float) -> Claim:
    """The claim of a fresh record, from a row with FRESH_COLUMNS."""
    second = OtpProgress() if row.has_second_otp else None
    first = OtpProgress(OtpState.SENT, 1)
    pairing = PairingProgress(device_id=row.device_id)
    attempts = row.attempts - row.attempts_forgiven
    progress = Progress(first, second, attempts, next_counter=row.next_counter, pairing=pairing, jitter=jitter)
    return _claim(row, lease_id, started, progress, is_otp1_marked=True)


def claim_any_row(
    row: Row[Any], lease_id: str, started: float, jitter: float, *, is_pairing_marked: bool = False
) -> Claim:
    """The claim of any other record, from a row with ALL_COLUMNS, `is_stale`, `may_pair` and `claimed_at`."""
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


def build_claims(
    database: Database, *, lease: float, max_attempts: int
) -> tuple[tuple[GroupCommit, Callable[..., Claim]], ...]:
    """Build the statements that claim queued records, in the order in which they are tried, each with what makes a
    claim of its row. `lease` in seconds.

    Nothing needs to be decided between the claim of a fresh record and its first call, so one statement does both: it
    claims the record and marks OTP 1 as sent, or the pairing of a record that has no device."""
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
        is_paired = and_(Record.device_id != "", Record.pairing == PairingState.PAIRED)
        may_send = take(given).where(is_fresh, is_paired, _may_mint_now())
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
    return (
        (GroupCommit(database, types, take_fresh), claim_fresh_row),
        (GroupCommit(database, types, take_unpaired), partial(claim_any_row, is_pairing_marked=True)),
        (GroupCommit(database, types, take_any), claim_any_row),
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
        is_batch_running(database),
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
