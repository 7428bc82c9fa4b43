"""Compares PingOne's inventory with the records of a batch: which tokens are there, with their seed's parameters, and
whose device each of them is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, text, update
from sqlalchemy.exc import IntegrityError

from models.batch import Batch
from models.encrypted import Keyring
from models.inventory_job import InventoryJob, JobState
from models.reason import Reason
from models.record import Record
from models.record_states import NOBODY, Status
from worker.batches.preparation.turns import LAST_ROW
from worker.database.engine import Database
from worker.leases.giving_up import give_up
from worker.pingone.inventory import InventoryToken
from worker.rules.ages import SentAgo, count_ago, may_be_made_by
from worker.rules.pairing import tell_owner
from worker.vault.sealed_otps import open_otps
from worker.vault.seed import Seed

# After which a job that still runs counts as lost: its tokens are looked for in the inventory.
LONGEST_JOB = timedelta(minutes=10)

_COLUMNS = (
    Record.id,
    Record.batch_id,
    Record.row_number,
    Record.serial_number,
    Record.user_id,
    Record.otps,
    Record.import_job_id,
)
_WRITE = (
    update(Record)
    .where(Record.id == bindparam("record_id"), text("status = 'pending'"))
    .values(
        is_in_inventory=True,
        is_token_made=bindparam("made"),
        owner_id=bindparam("found_owner_id"),
        device_id=bindparam("found_device_id"),
    )
)


@dataclass(slots=True)
class _Found:
    """What the inventory says of some records: what is to be written of each, and those that are given up."""

    there: list[dict[str, Any]] = field(default_factory=list)
    # By the reason, and what PingOne showed.
    given_up: dict[tuple[Reason, str], list[int]] = field(default_factory=dict)


class Inventory:
    """Writes down what PingOne's inventory says of the records of a batch."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    def take(self, batch_id: int, tokens: Sequence[InventoryToken], last_row: int = LAST_ROW) -> None:
        """Take in some tokens of the inventory: those of pending records of the batch are there, or differ. A record
        beyond `last_row`, which does not go yet, is not given up: a canary of five ends five, and when the rest goes,
        the inventory is read again."""
        by_serial = {token.serial_number.lower(): token for token in tokens if token.serial_number}
        with self._database.changing_many() as connection:
            lost = self._read_lost(connection, batch_id)
            rows = self._read_rows(connection, batch_id, [token.serial_number for token in tokens])
            found = _Found()
            for row in rows:
                token = by_serial[row.serial_number.lower()]
                # Made by the job, and by nobody else before or after it.
                is_made = row.import_job_id in lost and may_be_made_by(lost[row.import_job_id], token.age, LONGEST_JOB)
                self._judge(row, token, found, is_made=is_made)
            _write(connection, found.there)
            going = {row.id for row in rows if row.row_number <= last_row}
            for (reason, told), ids in found.given_up.items():
                give_up(self._database, connection, [each for each in ids if each in going], reason, told)

    def find_lost(self, batch_id: int) -> frozenset[int]:
        """Find the import jobs of a batch that are of unknown fate: a reading that begins now will tell it."""
        with self._database.reading() as connection:
            return frozenset(self._read_lost(connection, batch_id))

    def end_reading(self, batch_id: int, told: frozenset[int]) -> None:
        """Note that the inventory was read to its end. `told`: the jobs of unknown fate when the reading began; their
        tokens that were not found are not there, and go again. Of a job that was lost since then, another reading has
        to tell."""
        with self._database.changing_many() as connection:
            if told >= self._read_lost(connection, batch_id).keys():
                read = update(Batch).where(Batch.id == batch_id)
                connection.execute(read.values(inventory_read_at=self._database.now()))
            not_there = update(Record).where(
                Record.batch_id == batch_id, Record.import_job_id.in_(told), ~Record.is_in_inventory
            )
            connection.execute(not_there.values(import_job_id=None))

    def assume(self, batch_id: int, serial_number: str | None = None) -> None:
        """Take all tokens of the batch to be in the inventory, or the one with this serial number, since they cannot be
        read there: their pairing will show it."""
        with self._database.changing_many() as connection:
            mine = update(Record).where(Record.batch_id == batch_id, Record.status == Status.PENDING)
            if serial_number is not None:
                mine = mine.where(Record.serial_number == serial_number)
            connection.execute(mine.where(~Record.is_in_inventory).values(is_in_inventory=True))

    def _read_lost(self, connection: Connection, batch_id: int) -> dict[int, SentAgo | None]:
        """Read the import jobs of a batch that are of unknown fate, and how long ago the request of each was sent."""
        columns = InventoryJob.id, InventoryJob.sent_at, self._database.now().label("now")
        lost = select(*columns).where(InventoryJob.batch_id == batch_id, InventoryJob.state == JobState.LOST)
        return {job.id: count_ago(job.now, job.sent_at) for job in connection.execute(lost)}

    def _read_rows(
        self, connection: Connection, batch_id: int, serial_numbers: Iterable[str | None]
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        """Read the records of the batch that have one of these serial numbers, and whose token was not found yet."""
        # PingOne may write a serial number in other letters than the file.
        named = {form for serial in serial_numbers if serial for form in (serial, serial.lower(), serial.upper())}
        environment_id = select(Batch.environment_id).where(Batch.id == batch_id).scalar_subquery()
        mine = select(*_COLUMNS).where(
            # Together with the serial number, this is what the index of tokens has.
            Record.environment_id == environment_id,
            Record.serial_number.in_(named),
            Record.status == Status.PENDING,
            ~Record.is_in_inventory,
        )
        # Asked for the batch too, SQLite would go through all of its records.
        return [row for row in connection.execute(mine) if row.batch_id == batch_id]

    def _judge(self, row: Row[*tuple[Any, ...]], token: InventoryToken, found: _Found, *, is_made: bool) -> None:
        """Sort a record by what the inventory says of its token."""
        source = open_otps(self._keyring, row.otps, row.batch_id, row.row_number)
        # A device whose user is not told is somebody's.
        owner = token.user_id.lower() if token.user_id else (None if token.device_id else NOBODY)
        if isinstance(source, Seed) and find_difference(source, token):
            found.given_up.setdefault((Reason.TOKEN_DIFFERS, ""), []).append(row.id)
        elif owner and row.user_id and owner != row.user_id.lower():
            found.given_up.setdefault((Reason.TOKEN_TAKEN, tell_owner(owner)), []).append(row.id)
        else:
            device = {"found_owner_id": owner, "found_device_id": (token.device_id or "").lower() if owner else ""}
            found.there.append({"record_id": row.id, "made": is_made and owner == NOBODY} | device)


def find_difference(seed: Seed, token: InventoryToken) -> str | None:
    """Find the parameter that PingOne has otherwise, so that every OTP would be refused; None if all that it tells are
    the seed's."""
    ours = {
        "type": seed.otp_type,
        "number of digits": seed.digits,
        "hash": seed.hash_algorithm,
        "time step": seed.time_step,
    }
    theirs = {
        "type": token.type and token.type.lower(),
        "number of digits": token.digits,
        "hash": token.hash_name and token.hash_name.lower().removeprefix("hmac"),
        "time step": token.time_step if seed.time_step else None,
    }
    return next((name for name, value in theirs.items() if value is not None and value != ours[name]), None)


def _write(connection: Connection, there: list[dict[str, Any]]) -> None:
    """Write down which tokens are there. A device that another record has is left out: its owner is looked up when the
    token is paired."""
    if not there:
        return
    try:
        with connection.begin_nested():
            connection.execute(_WRITE, there)
    except IntegrityError:
        connection.execute(_WRITE, [values | {"found_device_id": ""} for values in there])
