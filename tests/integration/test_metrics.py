"""What a monitor reads out of the database. How it is written, a golden file holds."""

import re
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Table, delete, insert, select, update
from support.data.batches import ENVIRONMENT_ID, Made, enqueue, make_batch
from support.data.facts import write_metrics
from support.data.moving_clock import MovingDatabase

from models.attempt import AttemptLine, Outcome
from models.batch import Batch, BatchState
from models.pace import LicensePace
from models.reason import PauseReason, Reason
from models.record import Record
from models.record_states import Status
from worker.fleet import Processes
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.pingone.errors import Answer
from worker.reports import metrics
from worker.reports.facts import LONGEST_REST, BatchStatus, read_statuses
from worker.reports.metrics import AttemptCounter, AttemptTotals, MetricsReader, Scrape
from worker.reports.stall import STILL_AFTER, UNPREPARED_AFTER, Cause
from worker.rules.steps import Active, DeadLetter, Decision, Retry

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ANSWER = Answer(400, "INVALID_DATA", "INVALID_OTP", "error-1", "correlation-1", None)
HOUR = 3600.0


def read(database: MovingDatabase) -> Scrape:
    """Read by a reader that has kept nothing, as `--once` does."""
    return MetricsReader(database, partial(read_statuses, database)).read()


def end(
    database: MovingDatabase, leases: Leases, made: Made, decision: Decision, seconds: float, requests: int = 1
) -> None:
    """The next record of the batch ends so, after calls that took so long."""
    (record_id,) = enqueue(database, made, room=1)
    claimed = leases.claim(record_id, ENVIRONMENT_ID)
    assert claimed is not None
    summary = CallSummary(requests, 0, ANSWER, seconds)
    assert leases.settle(claimed, claimed.progress.with_otp_answered(1), decision, summary)


@on_sqlite
@pytest.mark.parametrize(("took", "rest"), [(0.1, 10.0), (5.0, LONGEST_REST)], ids=["quickly", "slowly"])
def test_what_was_read_is_used_again_for_so_long_that_reading_takes_little_of_the_time(
    database: MovingDatabase, took: float, rest: float
) -> None:
    made, moments = make_batch(database, 2), [1000.0]

    def read_slowly() -> list[BatchStatus]:
        moments.append(moments[-1] + took)
        return read_statuses(database)

    reader = MetricsReader(database, read_slowly, lambda: moments[-1])
    assert reader.read().statuses[0].counts["pending"] == 2
    with database.writing() as connection:
        queued = {"status": Status.QUEUED, "lease_until": database.read_clock()}
        connection.execute(update(Record).where(Record.id == made.ids[0]).values(queued))

    for wait, pending, age in ((rest / 2, 2, rest / 2), (rest / 2 + 0.01, 1, 0)):
        moments.append(moments[-1] + wait)
        reading = reader.read()
        assert (reading.statuses[0].counts["pending"], reading.counts_age) == (pending, age)


OURS = {"is_device_made": True, "pairing": "paired"}


@pytest.mark.parametrize(
    ("age", "columns", "is_old"),
    [
        (19, OURS, False),
        (21, OURS, True),
        (25, OURS, False),
        (21, OURS | {"status": Status.DEAD_LETTER, "reason": "locked"}, True),
        (21, OURS | {"status": Status.DEAD_LETTER, "reason": Reason.DEVICE_NOT_FOUND}, False),
        (21, OURS | {"status": Status.ACTIVE}, False),
        (21, OURS | {"status": Status.CANCELLED}, False),
        (21, {"device_id": ""}, False),
    ],
)
def test_a_device_that_oathbulk_made_is_as_old_as_its_pairing(
    database: MovingDatabase, age: int, columns: dict[str, Any], is_old: bool
) -> None:
    began_at = database.read_clock() + timedelta(hours=30 - age)
    make_batch(database, [columns | {"pairing_began_at": began_at}])
    database.ahead += 30 * HOUR
    assert [batch.old_devices for batch in read(database).statuses] == [is_old]


@on_sqlite
def test_a_device_of_the_file_is_as_old_as_the_batch(database: MovingDatabase) -> None:
    make_batch(database, 1)
    found = []
    for hours in (19, 2, 4):
        database.ahead += hours * HOUR
        found += [batch.old_devices for batch in read(database).statuses]
    assert found == [0, 1, 0]


@on_sqlite
def test_a_batch_stands_still_that_nobody_prepares_or_whose_own_license_holds(database: MovingDatabase) -> None:
    make_batch(database, 2, name="unprepared", user_id="", username="somebody")
    make_batch(database, 1, name="held", environment="second", environment_id="another")
    assert [batch.stall for batch in read(database).statuses] == [None, None]
    database.ahead += max(UNPREPARED_AFTER, STILL_AFTER) + 1
    now = database.read_clock()
    hold = {"held_since": now, "held_until": now + timedelta(minutes=2), "held_why": "PingOne asked for it"}
    with database.writing() as connection:
        connection.execute(insert(LicensePace).values(license="another", rate=40.0, ceiling=50.0, **hold))

    reading = read(database)

    assert [batch.stall and batch.stall.cause for batch in reading.statuses] == [Cause.WORKER, Cause.HOLD]
    # A license without a name is called by its environment's, and not by its id.
    assert {name: pace.hold is not None for name, pace in reading.paces.items()} == {"second": True}


# Attempts.


def test_attempts_are_counted_by_outcome_and_by_how_long_pingone_took(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, 4)
    end(database, leases, made, Active(), 0.05)
    end(database, leases, made, Active(), 0.051)
    end(database, leases, made, DeadLetter(Reason.LOCKED), 99.5)
    end(database, leases, made, Retry(60.0, is_counted=False, why="hold"), 0.0, requests=0)
    totals, batch = read(database).attempts, made.batch_id

    assert totals.attempts == {(batch, "active"): 2, (batch, "dead_letter"): 1, (batch, "handed_back"): 1}
    assert totals.durations == {("active", 0): 1, ("active", 1): 1, ("dead_letter", 13): 1}
    assert totals.milliseconds == {"active": 101, "dead_letter": 99_500}


def write_lines(database: MovingDatabase, *ids: int) -> None:
    line = {"record_id": 1, "batch_id": 1, "number": 1, "outcome": Outcome.ACTIVE, "lease_id": "lease", "requests": 1}
    line |= {"call_milliseconds": 100, "ended_at": database.read_clock()}
    with database.writing() as connection:
        for number in ids:
            connection.execute(insert(AttemptLine).values(line | {"id": number}))


@on_sqlite
def test_what_was_counted_is_not_read_again_and_what_came_late_is_not_lost(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "OVERLAP", 10)
    make_batch(database, 1)
    counter = AttemptCounter()

    def count() -> AttemptTotals:
        with database.reading() as connection:
            return counter.read(connection)

    # The second ones took their ids before the last of the first, and were committed after it.
    for ids, total in (((*range(1, 31), 35), 31), ((33, 34), 33), ((), 33), (range(36, 100), 97)):
        write_lines(database, *ids)
        totals = count()
        assert (totals.attempts[1, "active"], totals.durations["active", 1]) == (total, total)

    # This is far below the last ids: it would be seen if the history were read from its beginning.
    with database.writing() as connection:
        connection.execute(update(AttemptLine).where(AttemptLine.id <= 30).values(call_milliseconds=0))
    assert count().milliseconds["active"] == 9700
    # After a restored backup it is.
    with database.writing() as connection:
        connection.execute(delete(AttemptLine).where(AttemptLine.id > 20))
    assert (count().attempts[1, "active"], count().milliseconds["active"]) == (20, 0)


# What stands in the text.


def list_texts(database: MovingDatabase, table: Table, *left_out: str) -> set[str]:
    """The texts in the rows of a table, but for these columns."""
    with database.reading() as connection:
        rows = connection.execute(select(table)).mappings().all()
    texts = (str(value) for row in rows for name, value in row.items() if name not in left_out and value is not None)
    # Numbers and short words of ours would be found in any text.
    return {text for text in texts if len(text) > 4 and not text.isdigit()}


@on_sqlite
def test_no_secret_serial_number_user_or_id_stands_in_the_text(database: MovingDatabase, leases: Leases) -> None:
    personal = {"username": "mallory", "email": "mallory@example.com", "external_id": "person-4711", "lot": "lot-4711"}
    made = make_batch(database, 4, otps=b"sealed-otps", extra={"note": "a note of a person"}, **personal)
    paused = make_batch(database, 1, name="august", state=BatchState.PAUSED)
    with database.writing() as connection:
        stop = {"reason": PauseReason.PERSON, "detail": "quotes PingOne about mallory"}
        connection.execute(update(Batch).where(Batch.id == paused.batch_id).values(stop))
        connection.execute(
            insert(LicensePace).values(license=ENVIRONMENT_ID, rate=40.0, set_by="alice", ticket="CHG-1")
        )
    for decision in (Active(), DeadLetter(Reason.LOCKED), Retry(60.0, is_counted=True, why="outcome_unknown")):
        end(database, leases, made, decision, 0.1)
    Processes(database, "host-4711:1").show_life()

    text = write_metrics(read(database))

    ours = ("status", "reason", "otp1_state", "otp2_state", "otp_type", "pairing")
    hidden = list_texts(database, Record.__table__, *ours)
    hidden |= list_texts(database, AttemptLine.__table__, "outcome", "reason")
    hidden |= {ENVIRONMENT_ID, "host-4711", "alice", "CHG-1", "quotes PingOne", "shipment.csv", "a note"}
    assert {"mallory", "correlation-1", f"MADE{made.batch_id:03}000000"} <= hidden
    assert [value for value in hidden if value in text] == []
    labels = set(re.findall(r'(\w+)="', text))
    assert labels == {"batch", "environment", "license", "status", "outcome", "reason", "state", "cause", "le"}
