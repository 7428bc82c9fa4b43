"""A worker whose turn to prepare a batch has passed to another: it sends nothing, and ends nothing."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select, update
from support.data.moving_clock import MovingDatabase

from models.batch import Batch, BatchState
from models.encrypted import Keyring
from models.inventory_job import InventoryJob, JobKind, JobState
from models.record import Record
from worker.batches.long_list import LEASE, Turns
from worker.batches.preparation import Superseded
from worker.batches.tokens import Tokens
from worker.config.settings import Tuning

# Parts that these do not need.
absent: Any = None

ENVIRONMENT_ID = "2f6d8ad2-4b5e-4c5a-9c3b-1d0a7e9b6c01"


@pytest.fixture
def batch_id(database: MovingDatabase) -> int:
    """A batch of one record, whose token is to be imported."""
    now = database.now()
    batch = {"name": "first", "environment": "default", "environment_id": ENVIRONMENT_ID, "file": "box.csv"}
    batch |= {"file_sha256": "0", "columns": [], "total": 1, "created_at": now, "running_since": now}
    record = {"row_number": 2, "environment_id": ENVIRONMENT_ID, "serial_number": "MADE1", "user_id": "user"}
    record |= {"device_id": "", "is_in_inventory": False, "has_second_otp": True, "scheduled_at": now}
    with database.writing() as connection:
        made = connection.execute(insert(Batch).values(batch).returning(Batch.id)).scalar_one()
        connection.execute(insert(Record).values(record | {"batch_id": made}))
    return made


@pytest.fixture
def job(database: MovingDatabase, batch_id: int) -> int:
    """The job that imports its token; its request is out."""
    values = {"batch_id": batch_id, "kind": JobKind.IMPORT, "state": JobState.SENT, "size": 1}
    with database.writing() as connection:
        sent = insert(InventoryJob).values(values | {"sent_at": database.now()})
        made = connection.execute(sent.returning(InventoryJob.id)).scalar_one()
        connection.execute(update(Record).values(import_job_id=made))
    return made


def imports(database: MovingDatabase, keyring: Keyring) -> Tokens:
    return Tokens(database, keyring, absent, absent, Tuning())


def mark_again(imports: Tokens, batch_id: int, job: int) -> None:
    imports.jobs.mark_sent_again(job, lambda connection: imports.require_running(connection, batch_id))


def read(database: MovingDatabase, column: object) -> object:
    with database.reading() as connection:
        return connection.scalar(select(column))  # type: ignore[call-overload]


def test_a_worker_that_stood_still_for_longer_than_its_turn_has_lost_it(
    database: MovingDatabase, batch_id: int
) -> None:
    slow, other = Turns(database), Turns(database)
    assert slow.begin() is not None
    slow.check(batch_id)
    assert other.begin() is None

    database.ahead += LEASE + 1
    assert other.begin() is not None
    with pytest.raises(Superseded):
        slow.check(batch_id)
    slow.end(batch_id, 0.0)
    other.check(batch_id)


def test_a_turn_ends_when_the_batch_is_paused(database: MovingDatabase, batch_id: int) -> None:
    turns = Turns(database)
    turns.begin()
    with database.writing() as connection:
        connection.execute(update(Batch).values(state=BatchState.PAUSED))
    with pytest.raises(Superseded):
        turns.check(batch_id)


def test_a_job_that_was_called_lost_does_not_go_out_and_does_not_begin_again(
    database: MovingDatabase, keyring: Keyring, batch_id: int, job: int
) -> None:
    slow = imports(database, keyring)
    mark_again(slow, batch_id, job)
    imports(database, keyring).note_lost(batch_id, job)

    with pytest.raises(Superseded):
        mark_again(slow, batch_id, job)
    slow.jobs.note_started(job, "job-of-pingone")
    slow.take_back(job)
    slow.note_refused(job, "refused")
    assert read(database, InventoryJob.state) == JobState.LOST
    assert read(database, Record.import_job_id) == job


def test_a_reading_that_began_before_a_loss_tells_nothing_of_it(
    database: MovingDatabase, keyring: Keyring, batch_id: int, job: int
) -> None:
    inventory = imports(database, keyring)
    before = inventory.find_lost(batch_id)
    imports(database, keyring).note_lost(batch_id, job)
    inventory.end_reading(batch_id, before)
    assert read(database, Record.import_job_id) == job
    assert read(database, Batch.inventory_read_at) is None

    inventory.end_reading(batch_id, inventory.find_lost(batch_id))
    assert read(database, Record.import_job_id) is None
    assert read(database, Batch.inventory_read_at) is not None


def test_a_job_does_not_go_out_again_once_its_batch_is_paused(
    database: MovingDatabase, keyring: Keyring, batch_id: int, job: int
) -> None:
    with database.writing() as connection:
        connection.execute(update(Batch).values(state=BatchState.PAUSED))

    with pytest.raises(Superseded):
        mark_again(imports(database, keyring), batch_id, job)
