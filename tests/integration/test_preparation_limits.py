"""What a batch's preparation leaves alone, on both databases, while the batch is tried with a few rows or its hours are
over."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from support.data.batches import TESTER, Made, look
from support.data.moving_clock import MovingDatabase
from support.data.preparations import ALICE, ANSWER_WITHIN, Site, describe, finish, make

from models.batch import Batch, BatchState
from models.encrypted import Keyring
from models.inventory_job import InventoryJob, JobKind, JobState
from models.reason import PauseReason, Reason
from models.record import Record
from models.record_states import Status
from worker.batches.commands import Batches
from worker.batches.preparation import restart_times
from worker.pingone.users import User


@pytest.fixture
def site(database: MovingDatabase, keyring: Keyring) -> Site:
    return Site(database, keyring)


def change(site: Site, made: Made, **values: Any) -> None:
    with site.database.writing() as connection:
        connection.execute(update(Batch).where(Batch.id == made.batch_id).values(values))


def people(count: int) -> list[dict[str, Any]]:
    """Records of people who are to be looked up."""
    return [{"user_id": "", "username": f"person{number}"} for number in range(count)]


@pytest.mark.parametrize("held", ["canary_row", "trial_row"])
def test_beyond_a_canary_or_a_trial_nothing_is_looked_up_and_nothing_imported(site: Site, held: str) -> None:
    site.pingone.people = [User(f"{ALICE[:-2]}{number:02}", username=f"person{number}") for number in range(6)]
    made = make(site, people(6))
    change(site, made, **{held: look(site.database, made.ids[1]).row_number})
    finish(site)
    records = [look(site.database, each) for each in made.ids]
    assert [record.is_token_made for record in records] == [True, True, False, False, False, False]
    assert [bool(record.user_id) for record in records] == [True, True, False, False, False, False]

    change(site, made, **{held: None})
    finish(site)
    assert site.count(Record.is_token_made) == 6


def test_beyond_a_canary_nothing_is_given_up_either(site: Site) -> None:
    made = make(site, 3, may_import=False)
    change(site, made, canary_row=look(site.database, made.ids[0]).row_number)
    finish(site)
    assert site.count(Record.status == Status.PENDING) == 2


def test_beyond_a_canary_a_token_that_differs_is_given_up_only_when_it_goes(site: Site) -> None:
    made = make(site, 4)
    serial_numbers = [look(site.database, each).serial_number for each in made.ids]
    site.pingone.tokens = {each: describe(each, digits=8) for each in serial_numbers}
    change(site, made, canary_row=look(site.database, made.ids[0]).row_number)
    finish(site)
    given_up = [Status.DEAD_LETTER, *[Status.PENDING] * 3]
    assert [look(site.database, each).status for each in made.ids] == given_up

    site.database.ahead += 1.0
    change(site, made, state=BatchState.PAUSED, reason=PauseReason.CANARY)
    Batches(site.database, TESTER).resume(made.name)
    finish(site)
    records = [look(site.database, each) for each in made.ids]
    assert {(record.status, record.reason) for record in records} == {(Status.DEAD_LETTER, Reason.TOKEN_DIFFERS)}
    assert site.jobs(made) == []


def test_outside_its_hours_a_batch_is_not_prepared(site: Site) -> None:
    made = make(site)
    change(site, made, closes_at=site.database.now(30.0))
    with site.database.reading() as connection:
        assert connection.scalar(select(Batch.closes_at)) is not None
    site.database.ahead += 31.0
    assert not site.prepare()


def test_an_import_does_not_begin_after_the_hours_have_ended(site: Site) -> None:
    made = make(site)
    change(site, made, closes_at=site.database.now(30.0))

    def wait() -> None:
        site.database.ahead += 31.0

    site.on_renew = wait
    site.prepare()
    with site.database.reading() as connection:
        assert connection.scalars(select(InventoryJob.id)).all() == []


@pytest.mark.parametrize("held", ["canary_row", "trial_row"])
def test_beyond_a_canary_or_a_trial_tokens_of_known_people_are_not_imported(site: Site, held: str) -> None:
    made = make(site, 6)
    change(site, made, **{held: look(site.database, made.ids[1]).row_number})
    finish(site)
    assert [look(site.database, each).is_token_made for each in made.ids] == [True, True, False, False, False, False]


def test_no_import_begins_whose_result_nobody_would_ask_for_before_the_hours_end(site: Site) -> None:
    made = make(site)
    change(site, made, closes_at=site.database.now(10.0))
    site.prepare()
    assert site.jobs(made) == []


def test_a_lost_job_keeps_the_time_of_its_request_when_nothing_ran_for_days(site: Site) -> None:
    """What somebody else imported meanwhile is not ours."""
    made = make(site)
    serial_number = look(site.database, made.id).serial_number
    site.pingone.tokens = {serial_number: replace(describe(serial_number), age=timedelta(hours=3))}
    with site.database.writing() as connection:
        values = {"batch_id": made.batch_id, "kind": JobKind.IMPORT, "state": JobState.SENT, "size": 1}
        begun = insert(InventoryJob).values(values | {"sent_at": site.database.now(-172800.0)})
        job = connection.scalars(begun.returning(InventoryJob.id)).one()
        connection.execute(update(Record).values(import_job_id=job))
        restart_times(site.database, connection)
    # The request may have gone out a moment ago by another clock: it is not over yet.
    site.prepare()
    assert site.jobs(made) == [("sent", 1)]

    site.database.ahead += ANSWER_WITHIN + 1
    finish(site)
    record = look(site.database, made.id)
    assert (site.jobs(made), record.is_in_inventory, record.is_token_made) == ([("lost", 1)], True, False)


def test_a_reading_of_a_time_to_come_is_not_believed_after_the_clock_was_set_back(site: Site) -> None:
    made = make(site)
    change(site, made, inventory_read_at=site.database.now(7200.0))
    with site.database.writing() as connection:
        restart_times(site.database, connection)
    finish(site)
    assert "list" in site.pingone.log
