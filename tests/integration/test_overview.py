"""How a batch came to where it is, as the desk reads it, on both databases: it says what the report says."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from support.data.batches import TESTER, make_batch
from support.data.moving_clock import MovingDatabase

from models.batch import Batch
from models.reason import Reason
from models.record import Record
from models.record_states import Status
from worker.batches.commands import Batches
from worker.batches.finding import UnknownBatch
from worker.reports.batch_report.contents import Report
from worker.reports.batch_report.reading import open_snapshot, read_report
from worker.reports.curve import SPANS, Curve, read_curve
from worker.reports.overview import Overview, read_overview
from worker.reports.status import read_statuses


def read(database: MovingDatabase, name: str = "shipment") -> tuple[Overview, Report]:
    """What the desk and the report say of the same batch."""
    (status,) = read_statuses(database, name)
    with open_snapshot(database) as connection:
        report = read_report(database, connection, name)
    return read_overview(database, status), report


def read_only_curve(database: MovingDatabase, batch_id: int) -> Curve:
    with database.reading() as connection:
        return read_curve(database, connection, batch_id)


def settle(database: MovingDatabase, *ends: tuple[Status, float], **batch: Any) -> int:
    """Make a batch whose records were settled so many seconds after a moment."""
    began = database.read_clock() - timedelta(hours=30)
    rows = [
        {"status": status, "finalized_at": began + timedelta(seconds=seconds)}
        | ({"reason": Reason.LOCKED} if status == Status.DEAD_LETTER else {})
        for status, seconds in ends
    ]
    return make_batch(database, rows, **batch).batch_id


def test_the_counts_are_the_reports_and_add_up_to_the_file(database: MovingDatabase) -> None:
    dead = [{"status": Status.DEAD_LETTER, "reason": reason} for reason in ("locked", "rejected", "locked", "blocked")]
    make_batch(database, [*({"status": status} for status in Status if status != Status.DEAD_LETTER), *dead])
    with database.writing() as connection:
        connection.execute(update(Batch).values(rows_refused=7, already_active=8))

    overview, report = read(database)

    assert overview.counts == report.counts
    assert overview.counts.rows == len(Status) + 3 + 7 + 8
    assert [(group.reason, group.count, group.cure) for group in overview.dead_letters] == [
        (group.reason, group.count, group.cure) for group in report.dead_letters
    ]
    assert [group.reason for group in overview.dead_letters] == ["locked", "blocked", "rejected"]
    assert (overview.origin, overview.commands) == (report.origin, report.commands)


def test_a_batch_of_which_nothing_is_settled_has_no_curve(database: MovingDatabase) -> None:
    made = make_batch(database, 3)
    assert read_only_curve(database, made.batch_id) == Curve()
    overview, report = read(database)
    assert overview.timeline.moments == report.timeline.moments == ()
    make_batch(database, 0, name="empty")
    assert read(database, "empty")[0].counts.rows == 0


@pytest.mark.parametrize("seconds", [0.0, 1e-6, 0.05, 1.0, 86_400.0])
def test_the_last_point_of_the_curve_is_all_that_are_active_however_long_it_took(
    database: MovingDatabase, seconds: float
) -> None:
    dice = random.Random(4226)
    ends = [
        (dice.choice([Status.ACTIVE, Status.ACTIVE, Status.DEAD_LETTER]), dice.random() * seconds) for _ in range(600)
    ]
    batch_id = settle(database, *ends, (Status.ACTIVE, 0.0), (Status.ACTIVE, seconds))
    settle(database, *[(Status.ACTIVE, 500.0)] * 5, name="other")

    curve = read_only_curve(database, batch_id)
    overview, report = read(database)

    active = sum(status == Status.ACTIVE for status, _ in ends) + 2
    assert curve.moments[-1][1] == overview.counts.active == report.timeline.moments[-1][1] == active
    assert curve.moments[-1][0] == report.timeline.moments[-1][0]
    assert len(curve.moments) <= SPANS + 1
    times, counts = zip(*curve.moments, strict=True)
    assert list(times) == sorted(times)
    assert list(counts) == sorted(counts)
    assert curve.settled == sorted(curve.settled)


def test_each_point_of_the_curve_is_true_at_its_moment(database: MovingDatabase) -> None:
    dice = random.Random(6238)
    ends = [(dice.choice([Status.ACTIVE, Status.DEAD_LETTER]), dice.random() ** 3 * 5000) for _ in range(400)]
    batch_id = settle(database, *ends)
    with database.reading() as connection:
        active_at = list(connection.scalars(select(Record.finalized_at).where(Record.status == Status.ACTIVE)))
    curve = read_only_curve(database, batch_id)
    assert len(curve.moments) > 50
    for at, count in curve.moments:
        assert sum(each <= at for each in active_at) == count


def test_pauses_are_those_of_the_report(database: MovingDatabase) -> None:
    make_batch(database, 3, name="shipment")
    batches = Batches(database, TESTER)
    for _ in range(2):
        batches.pause("shipment")
        database.ahead += 600
        batches.resume("shipment")
        database.ahead += 60
    batches.pause("shipment")

    overview, report = read(database)

    assert len(overview.timeline.pauses) == 3
    assert overview.timeline.pauses[-1].end is None
    assert [pause.start for pause in overview.timeline.pauses] == [pause.start for pause in report.timeline.pauses]


def test_the_time_of_a_finished_batch_ends_with_its_last_token(database: MovingDatabase) -> None:
    settle(database, (Status.ACTIVE, 10.0), (Status.DEAD_LETTER, 40.0))
    overview, report = read(database)
    assert overview.timeline.until == report.timeline.until
    assert overview.timeline.until < database.read_clock() - timedelta(hours=29)


def test_a_batch_that_was_purged_meanwhile_is_unknown(database: MovingDatabase) -> None:
    make_batch(database, 0)
    (status,) = read_statuses(database)
    with database.writing() as connection:
        connection.execute(Batch.__table__.delete())
    with pytest.raises(UnknownBatch):
        read_overview(database, status)
