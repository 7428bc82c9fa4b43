"""Batches and records for tests, written straight into the tables, and looked at there."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Row, func, insert, select, update
from support.data.moving_clock import MovingDatabase

from models.attempt import AttemptLine
from models.batch import Batch, BatchState
from models.encrypted import Keyring, identify_row
from models.inventory_job import InventoryJob, JobKind, JobState
from models.record import Record
from models.record_states import FINAL, PairingState, Status
from worker.audit import Actor
from worker.batches.loading import Loaded
from worker.config.environment import Environment
from worker.leases.queue import Queue
from worker.vault.otps import Otp, OtpPair, OtpSource, read_otp_source

TESTER = Actor("tester")
ENVIRONMENT_ID = "2f6d8ad2-4b5e-4c5a-9c3b-1d0a7e9b6c01"


def make_environment(**fields: Any) -> Environment:
    """Make the environment of the batches that `make_batch` makes. OTP 1 goes without `oathResync`, since a tenant
    whose way is still to be learned gets one record at once."""
    usual = {
        "name": "default",
        "environment_id": ENVIRONMENT_ID,
        "client_id": "id",
        "client_secret": "secret",
        "resync_on_first_call": False,
    }
    return Environment.model_validate(usual | fields)


@dataclass(frozen=True)
class Made:
    """A batch that was made, and its records' ids in the order of their rows."""

    batch_id: int
    name: str
    ids: list[int]

    @property
    def id(self) -> int:
        """The id of the batch's only record."""
        (record_id,) = self.ids
        return record_id


def make_batch(
    database: MovingDatabase,
    records: int | Sequence[dict[str, Any]] = 1,
    *,
    name: str = "shipment",
    state: BatchState = BatchState.RUNNING,
    environment: str = "default",
    environment_id: str = ENVIRONMENT_ID,
    file_sha256: str | None = None,
    keyring: Keyring | None = None,
    **common: Any,
) -> Made:
    """Records are given by number, or by the columns in which each differs; `common` is a column of all of them."""
    now = database.read_clock()
    differing: Sequence[dict[str, Any]] = [{}] * records if isinstance(records, int) else records
    batch = {
        "name": name,
        "environment": environment,
        "environment_id": environment_id,
        "state": state,
        "file": f"{name}.csv",
        "file_sha256": file_sha256 or uuid.uuid4().hex * 2,
        "columns": ["serial", "otp1", "otp2", "user_id", "device_id"],
        "total": len(differing),
        "created_at": now,
        "running_since": now,
    }
    with database.writing() as connection:
        batch_id = connection.scalar(insert(Batch).values(batch).returning(Batch.id))
        assert batch_id is not None
        rows = [
            _with_pairing(
                _record(batch_id, number, environment_id, keyring)
                | {"scheduled_at": now}
                | _complete(common | columns, now)
            )
            for number, columns in enumerate(differing)
        ]
        # One statement names the same columns for all its rows.
        for _, alike in groupby(rows, key=lambda row: sorted(row)):
            connection.execute(insert(Record), list(alike))
        mine = select(Record.id).where(Record.batch_id == batch_id).order_by(Record.row_number)
        ids = list(connection.scalars(mine))
    return Made(batch_id, name, ids)


def pair_of(number: int) -> OtpPair:
    """The OTPs of the record on this place of its batch."""
    return OtpPair(Otp(f"{number:06}"), Otp(f"{number + 500_000:06}"))


def opened(record: Any, keyring: Keyring) -> OtpSource:
    """Open what a record, or a claim of it, has sealed."""
    return read_otp_source(keyring.open(record.otps, identify_row(record.batch_id, record.row_number)))


def _record(batch_id: int, number: int, environment_id: str, keyring: Keyring | None) -> dict[str, Any]:
    row_number = number + 2
    plaintext = pair_of(number).to_plaintext()
    return {
        "batch_id": batch_id,
        "row_number": row_number,
        "environment_id": environment_id,
        "serial_number": f"MADE{batch_id:03}{number:06}",
        "user_id": str(uuid.UUID(int=number)),
        "device_id": str(uuid.UUID(int=batch_id << 64 | number)),
        "has_second_otp": True,
        "otps": keyring.seal(plaintext, identify_row(batch_id, row_number)) if keyring else b"sealed",
    }


def _complete(columns: dict[str, Any], now: Any) -> dict[str, Any]:
    """What the schema, or the sense of a status, asks for beside these columns."""
    match columns.get("status"):
        case Status.ACTIVATING:
            return {"lease_id": uuid.uuid4().hex, "lease_until": now, "attempts": 1} | columns
        case Status.QUEUED:
            return {"lease_until": now} | columns
        case Status.ACTIVE:
            return {"finalized_at": now, "otps": None} | columns
        case status if status in FINAL:
            return {"finalized_at": now} | columns
    return columns


def _with_pairing(record: dict[str, Any]) -> dict[str, Any]:
    """A device of the file is paired, as the loader writes it; not so one that only the inventory has shown."""
    was_shown = record.get("owner_id") and not record.get("otp1_posts")
    is_paired = record["device_id"] and not was_shown
    return {"pairing": PairingState.PAIRED if is_paired else PairingState.UNSENT} | record


def look(database: MovingDatabase, record_id: int) -> Row[Any]:
    """The record as it stands."""
    return database.rows(select(Record.__table__).where(Record.id == record_id))[0]


def look_at_batch(database: MovingDatabase, batch_id: int) -> Row[Any]:
    return database.rows(select(Batch.__table__).where(Batch.id == batch_id))[0]


def statuses(database: MovingDatabase, made: Made) -> list[str]:
    """Read the statuses of a batch's records, in the order of their rows."""
    return database.values(select(Record.status).where(Record.batch_id == made.batch_id).order_by(Record.row_number))


def attempts(database: MovingDatabase, record_id: int) -> Sequence[Row[Any]]:
    """The record's history, the oldest first."""
    mine = select(AttemptLine.__table__).where(AttemptLine.record_id == record_id)
    return database.rows(mine.order_by(AttemptLine.id))


def count(database: MovingDatabase, table: type[Any], *conditions: Any) -> int:
    return int(database.values(select(func.count()).select_from(table).where(*conditions))[0])


def note_job(
    database: MovingDatabase,
    made: Made,
    state: JobState,
    *record_ids: int,
    kind: JobKind = JobKind.IMPORT,
    size: int = 0,
    sent_ago: float = 0.0,
) -> int:
    """Write down a job of the inventory for these records, or one of a size, that was sent so many seconds ago."""
    values = {"batch_id": made.batch_id, "kind": kind, "state": state, "size": size or len(record_ids)}
    with database.writing() as connection:
        written = insert(InventoryJob).values(values | {"sent_at": database.now(-sent_ago)})
        job_id = connection.scalars(written.returning(InventoryJob.id)).one()
        connection.execute(update(Record).where(Record.id.in_(record_ids)).values(import_job_id=job_id))
    return job_id


def enqueue(database: MovingDatabase, made: Made | Loaded, room: int = 1000, lease: float = 60.0) -> list[int]:
    """What is due of a batch, onto the queue; the ids in the order in which they go."""
    with database.writing() as connection:
        return Queue(database).enqueue(connection, made.batch_id, room, lease)


def rescue(database: MovingDatabase, **delays: float) -> int:
    with database.writing() as connection:
        return Queue(database, **delays).rescue(connection)
