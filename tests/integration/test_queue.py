"""What the dispatcher does with many records, on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from support.data.batches import (
    ENVIRONMENT_ID,
    attempts,
    enqueue,
    look,
    make_batch,
    rescue,
    statuses,
)
from support.data.moving_clock import MovingDatabase
from support.judges.status_moves import seen_moves

from models.attempt import Outcome
from models.batch import BatchState
from models.reason import Reason
from models.record_states import OtpState, Status
from worker.leases.queue import CHUNK, Queue
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.rules.progress import Retry

UNKNOWN_FIRST = {"otp1_state": OtpState.SENT, "otp1_posts": 1}
HALF_DONE = {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1}


# Onto the queue.


def test_due_records_are_queued_under_a_lease(database: MovingDatabase) -> None:
    made = make_batch(database, 2)

    assert sorted(enqueue(database, made, lease=60)) == made.ids

    record = look(database, made.ids[0])
    assert record.status == Status.QUEUED
    assert abs(record.lease_until - database.read_clock() - timedelta(seconds=60)) < timedelta(seconds=30)
    assert (record.lease_id, record.attempts) == (None, 0)


def test_a_record_waits_until_it_is_due(database: MovingDatabase) -> None:
    made = make_batch(database, scheduled_at=database.read_clock() + timedelta(seconds=30))

    assert enqueue(database, made) == []
    database.ahead = 31
    assert enqueue(database, made) == [made.id]


def test_no_more_are_queued_than_there_is_room_for(database: MovingDatabase) -> None:
    made = make_batch(database, [HALF_DONE, HALF_DONE, {}, {}, {}])

    assert len(enqueue(database, made, room=3)) == 3
    assert statuses(database, made).count(Status.QUEUED) == 3
    assert enqueue(database, made, room=0) == []


def test_a_record_is_queued_once(database: MovingDatabase) -> None:
    made = make_batch(database)
    enqueue(database, made)

    assert enqueue(database, made) == []


def test_half_done_goes_first_then_what_expires_soonest_then_owed_reads_then_the_rest(database: MovingDatabase) -> None:
    now = database.read_clock()
    made = make_batch(
        database,
        [
            {"scheduled_at": now - timedelta(seconds=50)},
            {"scheduled_at": now - timedelta(seconds=90)},
            {"otp_expires_at": now + timedelta(seconds=100)},
            {"otp_expires_at": now + timedelta(seconds=40)},
            HALF_DONE | {"scheduled_at": now - timedelta(seconds=1)},
            HALF_DONE | {"scheduled_at": now - timedelta(seconds=2), "otp_expires_at": now + timedelta(seconds=500)},
            {"otp1_state": OtpState.SENT, "scheduled_at": now - timedelta(seconds=1)},
            {"verdict": Reason.INVALID_OTP, "scheduled_at": now - timedelta(seconds=2)},
        ],
    )

    queued = enqueue(database, made)

    assert [made.ids.index(record_id) for record_id in queued] == [5, 4, 3, 2, 7, 6, 1, 0]


def test_more_records_are_queued_than_one_statement_names(database: MovingDatabase) -> None:
    made = make_batch(database, CHUNK + 1)

    queued = enqueue(database, made, room=CHUNK + 1)

    assert sorted(queued) == made.ids
    assert set(statuses(database, made)) == {Status.QUEUED}


def test_records_of_another_batch_stay(database: MovingDatabase) -> None:
    mine, other = make_batch(database, name="mine"), make_batch(database, name="other")

    assert enqueue(database, mine) == mine.ids
    assert statuses(database, other) == [Status.PENDING]


@pytest.mark.parametrize(
    ("owed", "columns"),
    [
        (True, UNKNOWN_FIRST),
        (True, HALF_DONE | {"otp2_state": OtpState.SENT, "otp2_posts": 1}),
        (True, HALF_DONE | {"verdict": Reason.INVALID_OTP}),
        (False, {}),
        (False, HALF_DONE),
        (False, {"otp1_posts": 1}),
    ],
)
def test_of_a_cancelled_batch_only_owed_reads_are_queued(
    database: MovingDatabase, owed: bool, columns: dict[str, Any]
) -> None:
    made = make_batch(database, state=BatchState.CANCELLED, **columns)

    with database.writing() as connection:
        queued = Queue(database).enqueue_reads(connection, made.batch_id, 10, 60.0)

    assert queued == (made.ids if owed else [])


def test_the_sweep_of_a_cancelled_batch_leaves_what_must_be_read(database: MovingDatabase) -> None:
    expires_at = database.read_clock() + timedelta(seconds=60)
    pasts = [{}, HALF_DONE, {"otp_expires_at": expires_at}, UNKNOWN_FIRST, HALF_DONE | {"verdict": Reason.REJECTED}]
    made = make_batch(database, pasts, state=BatchState.CANCELLED)
    running = make_batch(database, name="running")

    with database.writing() as connection:
        Queue(database).sweep_cancelled(connection)

    assert statuses(database, made) == [Status.CANCELLED] * 3 + [Status.PENDING] * 2
    assert look(database, made.ids[0]).finalized_at is not None
    assert statuses(database, running) == [Status.PENDING]


def test_the_window_counts_what_is_queued_or_in_work(database: MovingDatabase) -> None:
    first = make_batch(database, [{"status": status} for status in Status], name="first")
    second = make_batch(database, name="second", status=Status.QUEUED)
    make_batch(database, name="third", status=Status.ACTIVE)

    with database.reading() as connection:
        assert Queue(database).count_window(connection) == {first.batch_id: 2, second.batch_id: 1}


# Off the queue again.


def test_what_could_not_be_published_is_pending_again(database: MovingDatabase) -> None:
    made = make_batch(database, CHUNK + 1)
    queued = enqueue(database, made, room=CHUNK + 1)

    with database.writing() as connection:
        Queue(database).unqueue(connection, queued)

    assert set(statuses(database, made)) == {Status.PENDING}
    assert look(database, made.ids[0]).attempts == 0
    assert sorted(enqueue(database, made, room=CHUNK + 1)) == made.ids


def test_only_queued_records_are_taken_off_the_queue(database: MovingDatabase) -> None:
    made = make_batch(database, [{"status": status} for status in Status])
    expected = [Status.PENDING if status == Status.QUEUED else status for status in Status]

    with database.writing() as connection:
        Queue(database).unqueue(connection, made.ids)

    assert statuses(database, made) == expected


# The rescue.


def test_a_lost_message_makes_its_record_due_again(database: MovingDatabase) -> None:
    made = make_batch(database)
    enqueue(database, made, lease=60)

    database.ahead = 59
    assert rescue(database) == 0
    database.ahead = 61
    assert rescue(database) == 1

    record = look(database, made.id)
    assert (record.status, record.lease_until, record.attempts) == (Status.PENDING, None, 0)
    assert attempts(database, made.id) == []
    assert enqueue(database, made) == [made.id]


def test_a_dead_worker_leaves_a_lost_attempt(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database)
    enqueue(database, made)
    claimed = leases.claim(made.id, ENVIRONMENT_ID)
    assert claimed is not None

    database.ahead = 59
    assert rescue(database) == 0
    database.ahead = 61
    assert rescue(database) == 1

    record = look(database, made.id)
    assert (record.status, record.lease_id, record.lease_until) == (Status.PENDING, None, None)
    assert (record.attempts, record.otp1_state, record.otp1_posts) == (1, OtpState.SENT, 1)
    (line,) = attempts(database, made.id)
    assert (line.number, line.outcome, line.reason) == (1, Outcome.LOST, "lease_ran_out")
    assert (line.lease_id, line.worker) == (claimed.lease_id, None)


def test_a_lost_attempt_is_numbered_from_the_last_replay(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, attempts=5, attempts_forgiven=5)
    enqueue(database, made)
    leases.claim(made.id, ENVIRONMENT_ID)
    database.ahead = 61
    rescue(database)

    assert [line.number for line in attempts(database, made.id)] == [1]


def test_an_unknown_fate_is_read_only_when_the_lost_call_is_over(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database)
    enqueue(database, made)
    leases.claim(made.id, ENVIRONMENT_ID)
    database.ahead = 61
    rescue(database, over_after=145.0)

    record = look(database, made.id)
    assert record.scheduled_at - record.otp_sent_at == timedelta(seconds=145)
    database.ahead = 144
    assert enqueue(database, made) == []
    database.ahead = 146
    assert enqueue(database, made) == [made.id]


def test_a_verdict_waits_for_its_read_too(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, otp1_posts=1, verdict=Reason.REJECTED, otp_sent_at=database.read_clock())
    enqueue(database, made)
    leases.claim(made.id, ENVIRONMENT_ID)
    database.ahead = 61
    rescue(database, over_after=145.0)

    record = look(database, made.id)
    assert record.scheduled_at - record.otp_sent_at >= timedelta(seconds=145)


def test_a_record_with_nothing_sent_is_due_at_once(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, not_found=1)
    enqueue(database, made)
    claimed = leases.claim(made.id, ENVIRONMENT_ID)
    assert claimed is not None
    assert not claimed.is_otp1_marked
    database.ahead = 61
    rescue(database, over_after=1025.0)

    assert enqueue(database, made) == [made.id]


def test_a_worker_that_settled_in_time_is_not_rescued(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database)
    enqueue(database, made)
    claimed = leases.claim(made.id, ENVIRONMENT_ID)
    assert claimed is not None
    leases.settle(claimed, claimed.progress, Retry(1000.0, is_counted=True, why="outcome_unknown"), CallSummary(1))
    scheduled_at = look(database, made.id).scheduled_at
    database.ahead = 500

    assert rescue(database) == 0
    assert look(database, made.id).scheduled_at == scheduled_at


def test_the_rescue_touches_nothing_that_is_pending_or_final(database: MovingDatabase) -> None:
    others = [status for status in Status if status not in (Status.QUEUED, Status.ACTIVATING)]
    make_batch(database, [{"status": status} for status in others])
    database.ahead = 10_000

    assert rescue(database) == 0
    assert seen_moves(database) == []


def test_a_batch_does_not_matter_to_the_rescue(database: MovingDatabase) -> None:
    paused = make_batch(database, [{"status": Status.QUEUED}, {"status": Status.ACTIVATING}], state=BatchState.PAUSED)
    database.ahead = 1

    assert rescue(database) == 2
    assert statuses(database, paused) == [Status.PENDING, Status.PENDING]
