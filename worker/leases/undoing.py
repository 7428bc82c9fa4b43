"""Writes down that what a record had in PingOne was taken away again: its device, or its token. Every function works in
the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, false, func, null, or_, select, update

from models.record import Record
from models.record_states import NOBODY, OtpState, PairingState, Status
from worker.database.engine import Database
from worker.leases.moves import move

# Ids that one statement names: SQLite takes 32,766 parameters, and PostgreSQL 65,535.
_CHUNK = 1000
# The statuses in which a record may be undone. Of these, `cancelled` stays as it is.
_SOURCES = (Status.ACTIVE, Status.DEAD_LETTER, Status.PENDING)


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """A pending record that workers are kept from: it was due at `due_at`, and is due at `until`."""

    id: int
    due_at: datetime
    until: datetime


def had_device() -> ColumnElement[bool]:
    """Whether a record made a device that was taken away since, or was found gone."""
    return and_(Record.is_device_made, Record.device_id == "")


def had_token() -> ColumnElement[bool]:
    """Whether a record imported a token that was taken away since, or was found gone."""
    return and_(Record.is_token_made, ~Record.is_in_inventory)


def note_device_gone(
    database: Database, connection: Connection, record_id: int, device_id: str, *, was_made: bool
) -> bool:
    """Write down that the record has no device any more, and cancel it unless it is cancelled. `device_id` is the one
    that its row has: empty where only a look-up showed what came of its pairing, and with that whether a device
    `was_made`. False: the row has changed meanwhile, or somebody is at work on it."""
    mine = and_(Record.id == record_id, Record.device_id == device_id)
    return _cancel(database, connection, mine, _without_device() | {"is_device_made": was_made}) == 1


def note_tokens_gone(database: Database, connection: Connection, record_ids: Sequence[int]) -> int:
    """Write down that PingOne's inventory does not have the tokens of these records any more, nor a device of them, and
    cancel the records. Returns how many; records that somebody is at work on stay as they are."""
    gone = {"is_in_inventory": False, "import_job_id": null(), "owner_id": null()}
    values, count = _without_device() | gone, 0
    for start in range(0, len(record_ids), _CHUNK):
        mine = Record.id.in_(record_ids[start : start + _CHUNK])
        count += _cancel(database, connection, mine, values)
    return count


def count_in_hand(database: Database, connection: Connection, batch_id: int) -> int:
    """Count the records that are queued, or that a worker may be at work on."""
    is_held = and_(Record.status == Status.ACTIVATING, Record.lease_until > database.now())
    in_hand = or_(Record.status == Status.QUEUED, is_held)
    return connection.scalar(select(func.count()).where(Record.batch_id == batch_id, in_hand)) or 0


def keep_from_work(
    database: Database, connection: Connection, record_ids: Sequence[int], seconds: float
) -> list[KeptRecord]:
    """Let no worker take those of these records that are pending, for so many seconds, or until they are let go.
    Returns which those are."""
    until = connection.scalars(select(database.now(seconds))).one()
    pending = select(Record.id, Record.scheduled_at).where(
        Record.id.in_(record_ids), Record.status == Status.PENDING, Record.scheduled_at < until
    )
    kept = [KeptRecord(record.id, record.scheduled_at, until) for record in connection.execute(pending)]
    mine = update(Record).where(Record.id.in_([record.id for record in kept]))
    connection.execute(mine.values(scheduled_at=until))
    return kept


def let_go(connection: Connection, kept: Sequence[KeptRecord]) -> None:
    """Let workers take these records again at the time at which they were due before, unless that was changed
    meanwhile."""
    mine = update(Record).where(
        Record.id == bindparam("record_id"),
        Record.status == Status.PENDING,
        Record.scheduled_at == bindparam("kept_until"),
    )
    rows = [{"record_id": each.id, "was_due_at": each.due_at, "kept_until": each.until} for each in kept]
    if rows:
        connection.execute(mine.values(scheduled_at=bindparam("was_due_at")), rows)


def _cancel(database: Database, connection: Connection, mine: ColumnElement[bool], values: dict[str, Any]) -> int:
    """Write these values into the records, and cancel those that are not cancelled. Returns how many records."""
    # First, so that no record is counted twice.
    cancelled = update(Record).where(Record.status == Status.CANCELLED, mine).values(values)
    count = connection.execute(cancelled).rowcount
    for status in _SOURCES:
        count += connection.execute(move(database, status, Status.CANCELLED).where(mine).values(values)).rowcount
    return count


def _without_device() -> dict[str, Any]:
    """The columns of a record whose device is gone, and whose token is free.

    No OTP made the next device ACTIVE: a seed begins another pair, and leaves a counter out where OTP 1 was of unknown
    fate. A pair of which PingOne has answered an OTP is of no use to another device, so it is erased: a replay leaves
    such a record, and says that it needs fresh OTPs."""
    has_seed = Record.next_counter.is_not(None)
    is_answered = or_(Record.otp1_state == OtpState.ANSWERED, Record.otp2_state == OtpState.ANSWERED)
    return {
        "device_id": "",
        "pairing": PairingState.UNSENT,
        "owner_id": NOBODY,
        "otp1_state": _forget_fate(Record.otp1_state, has_seed),
        "otp2_state": _forget_fate(Record.otp2_state, has_seed),
        "next_counter": case((Record.otp1_state == OtpState.SENT, Record.next_counter + 1), else_=Record.next_counter),
        "otps": case((and_(~has_seed, is_answered), null()), else_=Record.otps),
        "verdict": null(),
        "not_found": 0,
        "resynced": false(),
        "reason": null(),
        "detail": null(),
    }


def _forget_fate(state: Any, has_seed: ColumnElement[bool]) -> ColumnElement[str]:
    """The state of an OTP once its device is gone: with a seed there is another one, and what is of unknown fate did
    nothing."""
    return case((or_(has_seed, state == OtpState.SENT), OtpState.UNSENT), else_=state)
