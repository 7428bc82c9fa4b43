"""What a monitor reads out of the database, on both databases."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, insert, select, update
from support.data.batches import ENVIRONMENT_ID, Made, enqueue, make_batch
from support.data.facts import find_values, parse_metrics, write_metrics
from support.data.moving_clock import MovingDatabase

from models.attempt import AttemptLine, Outcome
from models.batch import Batch, BatchState
from models.pace import LicensePace
from models.process import WorkerProcess
from models.reason import PauseReason, Reason
from models.record import Record
from models.record_states import OtpState, Status
from worker.fleet import Processes, Sickness
from worker.installation.installation import Installation
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.pingone.errors import Answer
from worker.reports import metrics
from worker.reports.facts import BatchStatus, read_statuses
from worker.reports.metrics import LONGEST_REST, AttemptCounter, AttemptTotals, MetricsReader, Scrape
from worker.reports.stall import STILL_AFTER, UNPREPARED_AFTER, Cause
from worker.rules.progress import Active, DeadLetter, Decision, Retry

ANSWER = Answer(400, "INVALID_DATA", "INVALID_OTP", "error-1", "correlation-1", None)


@pytest.fixture
def read(database: MovingDatabase) -> Callable[[], Scrape]:
    """Reads by a reader that has kept nothing, as `--once` does."""
    return lambda: MetricsReader(database, partial(read_statuses, database)).read()


@pytest.fixture
def read_batch(read: Callable[[], Scrape]) -> Callable[[], BatchStatus]:
    """Reads the only batch."""

    def read_only() -> BatchStatus:
        (batch,) = read().statuses
        return batch

    return read_only


def end(database: MovingDatabase, made: Made, decision: Decision, seconds: float, requests: int = 1) -> None:
    """The next record of the batch ends so, after calls that took so long."""
    leases = Leases(database)
    (record_id,) = enqueue(database, made, room=1)
    claimed = leases.claim(record_id, ENVIRONMENT_ID)
    assert claimed is not None
    summary = CallSummary(requests, 0, ANSWER, seconds)
    assert leases.settle(claimed, claimed.progress.with_otp_answered(1), decision, summary)


# Records.


def test_records_are_counted_by_status_and_dead_letters_by_reason(read: Callable[[], Scrape], database: Any) -> None:
    dead = [{"status": Status.DEAD_LETTER, "reason": reason} for reason in ("locked", "locked", "rejected")]
    make_batch(database, [{}, {}, {"status": Status.ACTIVE}, {"status": Status.QUEUED}, *dead])
    make_batch(database, 1, name="other", state=BatchState.PAUSED, environment="second", environment_id="another")
    first, second = read().statuses

    assert {status: count for status, count in first.counts.items() if count} == {
        "pending": 2,
        "queued": 1,
        "active": 1,
        "dead_letter": 3,
    }
    assert first.dead_letters == {"locked": 2, "rejected": 1}
    assert (first.name, first.environment, first.state) == ("shipment", "default", "running")
    assert (second.name, second.environment, second.state) == ("other", "second", "paused")


def test_a_batch_whose_records_are_all_final_is_finished(read_batch: Callable[[], BatchStatus], database: Any) -> None:
    make_batch(database, 2, status=Status.ACTIVE)
    assert read_batch().state == "finished"


def change(database: MovingDatabase, made: Made, **columns: Any) -> None:
    with database.writing() as connection:
        connection.execute(update(Record).where(Record.id == made.ids[0]).values(columns))


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
    change(database, made, status=Status.QUEUED, lease_until=database.read_clock())

    moments.append(moments[-1] + rest / 2)
    reading = reader.read()
    assert (reading.statuses[0].counts["pending"], reading.counts_age) == (2, rest / 2)
    moments.append(moments[-1] + rest / 2 + 0.01)
    reading = reader.read()
    assert (reading.statuses[0].counts["pending"], reading.counts_age) == (1, 0)


HOUR = 3600.0
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
    database: MovingDatabase, read_batch: Callable[[], BatchStatus], age: int, columns: dict[str, Any], is_old: bool
) -> None:
    began_at = database.read_clock() + timedelta(hours=30 - age)
    make_batch(database, [columns | {"pairing_began_at": began_at}])
    database.ahead += 30 * HOUR
    assert read_batch().old_devices == is_old


@pytest.mark.parametrize(("age", "is_old"), [(19, False), (21, True), (25, False)])
def test_a_device_of_the_file_is_as_old_as_the_batch(
    database: MovingDatabase, read_batch: Callable[[], BatchStatus], age: int, is_old: bool
) -> None:
    make_batch(database, 1)
    database.ahead += age * HOUR
    assert read_batch().old_devices == is_old


# Movement.


def test_a_batch_that_nobody_prepares_stands_still(
    database: MovingDatabase, read_batch: Callable[[], BatchStatus]
) -> None:
    make_batch(database, 2, user_id="", username="somebody")
    database.ahead += UNPREPARED_AFTER / 2
    assert (read_batch().still_for, read_batch().stall) == (None, None)
    database.ahead += UNPREPARED_AFTER
    stall = read_batch().stall
    assert stall is not None
    assert stall.cause == Cause.WORKER
    assert find_values(
        parse_metrics(write_metrics(MetricsReader(database, partial(read_statuses, database)).read())),
        "oathbulk_batch_still_seconds",
        "batch",
    )["shipment"] == pytest.approx(1.5 * UNPREPARED_AFTER, abs=30)


def test_a_hold_of_the_batchs_license_is_the_cause(database: MovingDatabase, read: Callable[[], Scrape]) -> None:
    make_batch(database, 1)
    make_batch(database, 1, name="other", environment="second", environment_id="another")
    database.ahead += STILL_AFTER + 1
    now = database.read_clock()
    hold = {"held_since": now, "held_until": now + timedelta(minutes=2), "held_why": "PingOne asked for it"}
    with database.writing() as connection:
        connection.execute(insert(LicensePace).values(license=ENVIRONMENT_ID, rate=40.0, ceiling=50.0, **hold))
    reading = read()

    assert [batch.stall and batch.stall.cause for batch in reading.statuses] == [Cause.HOLD, Cause.WORKER]
    # A license without a name is called by its environment's, and not by its id.
    (license,) = reading.paces
    assert license == "default"
    assert reading.paces[license].hold is not None


@pytest.mark.parametrize(
    "columns",
    [{}, {"otp1_state": OtpState.ANSWERED}, {"otp_type": "totp", "otp_expires_at": timedelta(hours=1)}],
    ids=["lasting", "half done", "expiring"],
)
def test_the_oldest_due_record_is_found_wherever_it_stands_in_line(
    database: MovingDatabase, read_batch: Callable[[], BatchStatus], columns: dict[str, Any]
) -> None:
    now = database.read_clock()
    dated = {name: now + value if isinstance(value, timedelta) else value for name, value in columns.items()}
    later = {"scheduled_at": now + timedelta(hours=1)}
    make_batch(database, [later, dated | {"scheduled_at": now - timedelta(hours=1)}, dated | later])
    assert read_batch().oldest_due_for == pytest.approx(HOUR, abs=30)


def test_where_nothing_is_due_yet_nothing_is_old(
    database: MovingDatabase, read_batch: Callable[[], BatchStatus]
) -> None:
    make_batch(database, 1, scheduled_at=database.read_clock() + timedelta(hours=1))
    assert read_batch().oldest_due_for == 0


def test_workers_that_live_are_counted_and_so_are_the_sick(database: MovingDatabase, read: Any) -> None:
    for name in ("a", "b", "gone"):
        Processes(database, name).show_life()
    with database.writing() as connection:
        Processes(database, "a").note_tick(connection)
        long_ago = database.read_clock() - timedelta(minutes=5)
        connection.execute(update(WorkerProcess).where(WorkerProcess.name == "gone").values(seen_at=long_ago))
    Processes(database, "b").fall_sick(Sickness("network", "no way to PingOne"))
    database.ahead += 7
    samples = parse_metrics(write_metrics(read()))

    assert samples["oathbulk_workers_alive", ()] == 1
    assert find_values(samples, "oathbulk_workers_sick", "reason") == {"network": 1}
    assert 7 <= samples["oathbulk_last_tick_age_seconds", ()] < 30


# Attempts.


def read_totals(database: MovingDatabase, counter: AttemptCounter) -> AttemptTotals:
    with database.reading() as connection:
        return counter.read(connection)


def test_attempts_are_counted_by_outcome_and_by_how_long_pingone_took(
    database: MovingDatabase, read: Callable[[], Scrape]
) -> None:
    made = make_batch(database, 4)
    end(database, made, Active(), 0.05)
    end(database, made, Active(), 0.051)
    end(database, made, DeadLetter(Reason.LOCKED), 99.5)
    end(database, made, Retry(60.0, is_counted=False, why="hold"), 0.0, requests=0)
    totals = read().attempts

    batch = made.batch_id
    assert totals.attempts == {(batch, "active"): 2, (batch, "dead_letter"): 1, (batch, "handed_back"): 1}
    assert totals.durations == {("active", 0): 1, ("active", 1): 1, ("dead_letter", 13): 1}
    assert totals.milliseconds == {"active": 101, "dead_letter": 99_500}


def write_lines(database: MovingDatabase, *ids: int, took: int = 100) -> None:
    line = {"record_id": 1, "batch_id": 1, "number": 1, "outcome": Outcome.ACTIVE, "lease_id": "lease", "requests": 1}
    with database.writing() as connection:
        ended_at = connection.execute(select(database.now())).scalar_one()
        lines = [line | {"id": number, "call_milliseconds": took, "ended_at": ended_at} for number in ids]
        connection.execute(insert(AttemptLine), lines)


def test_what_was_counted_is_not_read_again_and_what_came_late_is_not_lost(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "OVERLAP", 10)
    make_batch(database, 1)
    counter = AttemptCounter()
    write_lines(database, *range(1, 31), 35)
    assert read_totals(database, counter).attempts[1, "active"] == 31

    # They took their ids before that one, and were committed after it.
    write_lines(database, 33, 34)
    assert read_totals(database, counter).attempts[1, "active"] == 33
    assert read_totals(database, counter).attempts[1, "active"] == 33
    write_lines(database, *range(36, 100))
    totals = read_totals(database, counter)
    assert (totals.attempts[1, "active"], totals.durations["active", 1], totals.milliseconds["active"]) == (
        97,
        97,
        9700,
    )

    # This is far below the last ids: it would be seen if the history were read from its beginning.
    with database.writing() as connection:
        connection.execute(update(AttemptLine).where(AttemptLine.id <= 30).values(call_milliseconds=0))
    assert read_totals(database, counter).milliseconds["active"] == 9700


def test_after_a_restored_backup_the_history_is_counted_anew(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "OVERLAP", 10)
    make_batch(database, 1)
    counter = AttemptCounter()
    write_lines(database, *range(1, 101))
    assert read_totals(database, counter).attempts[1, "active"] == 100
    with database.writing() as connection:
        connection.execute(AttemptLine.__table__.delete().where(AttemptLine.id > 20))
    assert read_totals(database, counter).attempts[1, "active"] == 20


# What stands in the text.


def values_of(database: MovingDatabase, table: Table, *left_out: str) -> set[str]:
    """The texts in the rows of a table, but for these columns."""
    with database.reading() as connection:
        rows = connection.execute(select(table)).mappings().all()
    texts = (str(value) for row in rows for name, value in row.items() if name not in left_out and value is not None)
    # Numbers and short words of ours would be found in any text.
    return {text for text in texts if len(text) > 4 and not text.isdigit()}


def test_no_secret_serial_number_user_or_id_stands_in_the_text(
    database: MovingDatabase, read: Callable[[], Scrape]
) -> None:
    personal = {"username": "mallory", "email": "mallory@example.com", "external_id": "person-4711", "lot": "lot-4711"}
    made = make_batch(database, 4, otps=b"sealed-otps", extra={"note": "a note of a person"}, **personal)
    paused = make_batch(database, 1, name="august", state=BatchState.PAUSED)
    with database.writing() as connection:
        stop = {"reason": PauseReason.PERSON, "detail": "quotes PingOne about mallory"}
        connection.execute(update(Batch).where(Batch.id == paused.batch_id).values(stop))
        connection.execute(
            insert(LicensePace).values(license=ENVIRONMENT_ID, rate=40.0, set_by="alice", ticket="CHG-1")
        )
    end(database, made, Active(), 0.1)
    end(database, made, DeadLetter(Reason.LOCKED), 0.1)
    end(database, made, Retry(60.0, is_counted=True, why="outcome_unknown"), 0.1)
    Processes(database, "host-4711:1").show_life()

    text = write_metrics(read())

    hidden = values_of(
        database, Record.__table__, "status", "reason", "otp1_state", "otp2_state", "otp_type", "pairing"
    )
    hidden |= values_of(database, AttemptLine.__table__, "outcome", "reason")
    hidden |= {ENVIRONMENT_ID, "host-4711", "alice", "CHG-1", "quotes PingOne", "shipment.csv", "a note"}
    assert {"mallory", "correlation-1", f"MADE{made.batch_id:03}000000"} <= hidden
    assert [value for value in hidden if value in text] == []
    labels = set(re.findall(r'(\w+)="', text))
    assert labels == {"batch", "environment", "license", "status", "outcome", "reason", "state", "cause", "le"}


def test_the_command_prints_the_metrics_of_an_empty_home_once(tmp_path: Path) -> None:
    """`--once` is for a first look."""
    environment = os.environ | {"OATHBULK_HOME": str(tmp_path / "home")}
    Installation({"OATHBULK_HOME": str(tmp_path / "home")}, makes_home=True).database.close()
    done = subprocess.run(
        [sys.executable, "-m", "worker", "metrics", "--once"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    samples = parse_metrics(done.stdout)
    assert samples["oathbulk_workers_alive", ()] == 0
    assert samples["oathbulk_batches", (("state", "running"),)] == 0
