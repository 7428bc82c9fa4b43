"""Claims, marks and settlements of several records in one statement, on both databases: each thread gets its own
result, every condition counts for its record alone, and only a record at fault fails."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from support.data.batches import ENVIRONMENT_ID, Made, look, make_batch
from support.data.moving_clock import MovingDatabase

from models.attempt import AttemptLine
from models.batch import Batch, BatchState
from models.record import Record
from models.record_states import OtpState, Status
from worker.leases.group_commit import Values
from worker.leases.settlement import CallSummary, Claim
from worker.leases.worker import Leases
from worker.rules.progress import Active


def queued(database: MovingDatabase, count: int, **common: Any) -> Made:
    return make_batch(database, count, status=Status.QUEUED, **common)


def claim_together(leases: Leases, ids: list[int]) -> list[Claim | None]:
    """Claim fresh records in one statement; None for those that it did not find."""
    statement, make_claim = leases._claims[0]
    asked = [
        {"this_id": record_id, "this_lease": uuid.uuid4().hex, "for_environment_id": ENVIRONMENT_ID}
        for record_id in ids
    ]
    found = statement._commit(asked)
    return [
        None if row is None else make_claim(row, values["this_lease"], 0.0, 0.0)
        for row, values in zip(found, asked, strict=True)
    ]


@pytest.fixture
def leases(database: MovingDatabase) -> Leases:
    return Leases(database)


def test_every_thread_gets_the_record_that_it_asked_for(database: MovingDatabase, leases: Leases) -> None:
    made = queued(database, 20)
    ids = [made.ids[number] for number in (7, 3, 19, 0, 11)]
    claims = claim_together(leases, ids)
    assert [claim.record_id for claim in claims if claim] == ids
    for claim in claims:
        assert claim is not None
        record = look(database, claim.record_id)
        assert (record.lease_id, record.serial_number) == (claim.lease_id, claim.serial_number)
        assert (record.status, record.otp1_state, record.otp1_posts) == (Status.ACTIVATING, OtpState.SENT, 1)
    assert look(database, made.ids[1]).status == Status.QUEUED


def test_what_one_record_lacks_keeps_no_other_back(database: MovingDatabase, leases: Leases) -> None:
    made = queued(database, [{}, {"status": Status.ACTIVE}, {}, {"otp1_posts": 1}, {"environment_id": "other"}])
    claims = claim_together(leases, made.ids)
    assert [claim is not None for claim in claims] == [True, False, True, False, False]


def test_a_record_that_is_asked_for_twice_is_claimed_once(database: MovingDatabase, leases: Leases) -> None:
    made = queued(database, 2)
    claims = claim_together(leases, [made.ids[0], made.ids[0], made.ids[1]])
    held = [claim for claim in claims if claim is not None]
    assert sorted(claim.record_id for claim in held) == sorted(made.ids)
    assert all(look(database, claim.record_id).lease_id == claim.lease_id for claim in held)
    assert look(database, made.ids[0]).otp1_posts == 1


def test_marks_of_several_records_ask_for_each_record_s_lease_and_batch(
    database: MovingDatabase, leases: Leases
) -> None:
    first, second = queued(database, 2), queued(database, 2, name="second")
    claims = [claim for claim in claim_together(leases, [*first.ids, *second.ids]) if claim]
    with database.writing() as connection:
        connection.execute(update(Record).where(Record.id == first.ids[1]).values(lease_id="another"))
        connection.execute(update(Batch).where(Batch.id == second.batch_id).values(state=BatchState.PAUSED))
    asked = [{"this_id": claim.record_id, "this_lease": claim.lease_id, "counter": None} for claim in claims]
    assert [row is not None for row in leases._mark_sent[2]._commit(asked)] == [True, False, False, False]
    assert look(database, first.ids[0]).otp2_posts == 1


def test_settlements_of_several_records_have_a_line_each(database: MovingDatabase, leases: Leases) -> None:
    made = queued(database, 3)
    claims = [claim for claim in claim_together(leases, made.ids) if claim]
    with database.writing() as connection:
        connection.execute(update(Record).where(Record.id == made.ids[1]).values(lease_id="another"))
    statement = leases._settlement._statements["active", False]
    asked = [values_of(leases, claim, requests=number + 1) for number, claim in enumerate(claims)]
    assert [row is not None for row in statement._commit(asked)] == [True, False, True]
    with database.reading() as connection:
        lines = connection.execute(
            select(AttemptLine.record_id, AttemptLine.lease_id, AttemptLine.requests).order_by(AttemptLine.record_id)
        ).all()
    assert [tuple(line) for line in lines] == [
        (made.ids[0], claims[0].lease_id, 1),
        (made.ids[2], claims[2].lease_id, 3),
    ]
    assert look(database, made.ids[2]).status == Status.ACTIVE


def values_of(leases: Leases, claim: Claim, requests: int) -> Values:
    """The values of a settlement as active."""
    taken: list[Values] = []
    statement = leases._settlement._statements["active", False]

    def take(values: Values) -> None:
        taken.append(values)

    before = statement.execute
    statement.execute = take  # type: ignore[method-assign, assignment]
    try:
        progress = claim.progress.with_otp_answered(1)
        leases._settlement.write(claim, progress, Active(), CallSummary(requests))
    finally:
        statement.execute = before  # type: ignore[method-assign]
    return taken[0]


def test_only_the_record_at_fault_fails(database: MovingDatabase, leases: Leases) -> None:
    """Two records may not have the same device while both are in work."""
    made = queued(database, [{"device_id": ""}, {"device_id": ""}, {"device_id": "device-2"}])
    claims = []
    for record_id in made.ids[:2]:
        with database.writing() as connection:
            lease = {"status": Status.ACTIVATING, "lease_id": uuid.uuid4().hex, "otps": b""}
            connection.execute(update(Record).where(Record.id == record_id).values(lease))
        claims.append((record_id, lease["lease_id"]))
    statement = leases._write_pairing
    asked = [
        {
            "this_id": record_id,
            "this_lease": lease_id,
            "first_state": OtpState.UNSENT,
            "first_posts": 0,
            "second_state": OtpState.UNSENT,
            "second_posts": 0,
            "new_verdict": None,
            "new_next_counter": None,
            "new_pairing": "paired",
            "new_pairings": 1,
            "new_device_id": device_id,
            "new_is_device_made": True,
            "new_was_free": True,
        }
        for (record_id, lease_id), device_id in zip(claims, ("device-1", "device-2"), strict=True)
    ]
    with pytest.raises(IntegrityError):
        statement._commit(asked)
    assert look(database, made.ids[0]).device_id == "", "half of it was committed"
    assert statement._commit(asked[:1]) != [None]
    assert look(database, made.ids[0]).device_id == "device-1"
