"""How fast a batch is prepared, measured on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import insert, update
from support.data.batches import make_batch
from support.data.moving_clock import MovingDatabase

from models.batch import Batch, BatchState
from models.inventory_job import InventoryJob, JobKind, JobState
from models.reason import Reason
from models.record_states import Status
from worker.reports.facts import FEWEST_SETTLED, BatchStatus, read_statuses

LACKS_USER = {"user_id": "", "is_in_inventory": False, "email": "ada@example.com", "device_id": ""}
LACKS_TOKEN = LACKS_USER | {"user_id": "u1"}
PREPARED = LACKS_TOKEN | {"is_in_inventory": True}


def read(database: MovingDatabase) -> BatchStatus:
    (status,) = read_statuses(database)
    return status


def change_batch(database: MovingDatabase, **values: Any) -> None:
    with database.writing() as connection:
        connection.execute(update(Batch).values(values))


def note_job(database: MovingDatabase, batch_id: int, size: int, state: JobState = JobState.DONE) -> None:
    values = {"batch_id": batch_id, "kind": JobKind.IMPORT, "state": state, "size": size}
    with database.writing() as connection:
        connection.execute(insert(InventoryJob).values(values | {"sent_at": database.now()}))


def test_the_tokens_of_the_jobs_that_have_ended_give_the_pace(database: MovingDatabase) -> None:
    made = make_batch(database, [LACKS_TOKEN] * 3)
    change_batch(database, may_import=True)
    note_job(database, made.batch_id, 500)
    note_job(database, made.batch_id, 300)
    note_job(database, made.batch_id, 9000, JobState.RUNNING)
    database.ahead = 80.0

    status = read(database)

    assert status.waiting == {"user": 0, "token": 3}
    assert status.may_import
    assert 9.0 < status.preparation_pace <= 10.0


def test_jobs_from_before_a_pause_do_not_count(database: MovingDatabase) -> None:
    made = make_batch(database, [LACKS_TOKEN] * 3)
    note_job(database, made.batch_id, 500)
    database.ahead = 3600.0
    change_batch(database, may_import=True, running_since=database.read_clock())

    assert read(database).preparation_pace == 0.0


def test_without_imports_the_persons_found_since_the_load_give_the_pace(database: MovingDatabase) -> None:
    make_batch(database, [LACKS_USER] * 5 + [PREPARED] * 20)
    database.ahead = 10.0
    assert 1.5 < read(database).preparation_pace <= 2.0

    # When they were found is not written down, so after a pause that is no measure.
    change_batch(database, running_since=database.read_clock() - timedelta(seconds=1))
    assert read(database).preparation_pace == 0.0


def test_a_batch_in_which_nothing_is_to_be_prepared_has_no_such_pace(database: MovingDatabase) -> None:
    make_batch(database, [PREPARED] * 20)
    database.ahead = 600.0
    assert (read(database).preparation_pace, read(database).unprepared_for) == (0.0, None)


def test_nobody_has_prepared_it_since_its_last_turn_ended(database: MovingDatabase) -> None:
    make_batch(database, [LACKS_USER])
    database.ahead = 100.0
    assert 99.0 < (read(database).unprepared_for or 0.0) < 160.0
    # A worker has it: until then.
    change_batch(database, prepared_until=database.read_clock() + timedelta(seconds=180))
    assert read(database).unprepared_for == 0.0
    change_batch(database, state=BatchState.PAUSED, reason="person", detail="A person paused it.")
    assert read(database).unprepared_for is None


def test_records_that_their_preparation_gave_up_do_not_count_as_pace(database: MovingDatabase) -> None:
    given_up = {"status": Status.DEAD_LETTER, "reason": Reason.USER_NOT_FOUND, "finalized_at": database.read_clock()}
    make_batch(database, [LACKS_USER | given_up] * (FEWEST_SETTLED * 10) + [LACKS_USER])
    database.ahead = 2.0

    status = read(database)

    assert status.pace == 0.0
    assert status.eta_seconds is None
