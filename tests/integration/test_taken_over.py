"""Tokens that a later batch took over, on both databases."""

from __future__ import annotations

from typing import Any

from support.data.batches import TESTER, make_batch
from support.data.moving_clock import MovingDatabase

from worker.batches.commands import Batches
from worker.reports.status import read_statuses
from worker.reports.status_json import make_status_json
from worker.reports.taken_over import TakenOver


def record(serial: str, status: str) -> dict[str, Any]:
    return {
        "serial_number": serial,
        "device_id": f"device of {serial}",
        "status": status,
        "reason": "locked" if status == "dead_letter" else None,
    }


def taken_over(database: MovingDatabase, name: str) -> TakenOver:
    (status,) = read_statuses(database, name)
    return status.taken_over


def test_a_token_that_failed_and_was_loaded_again_counts_by_its_latest_record(database: MovingDatabase) -> None:
    july = [record("A", "active"), record("B", "dead_letter"), record("C", "dead_letter"), record("D", "cancelled")]
    make_batch(database, [*july, record("E", "dead_letter")], name="july")
    make_batch(database, [record("B", "active"), record("C", "dead_letter"), record("D", "pending")], name="july-fixed")
    make_batch(database, [record("C", "active")], name="july-fixed-twice")

    (status,) = read_statuses(database, "july")

    assert status.taken_over.counts == {
        "july-fixed": {"active": 1, "pending": 1},
        "july-fixed-twice": {"active": 1},
    }
    assert (status.taken_over.total, status.taken_over.active, status.tokens_active) == (3, 2, 3)
    assert make_status_json(status)["taken_over"] == status.taken_over.counts
    # Its own counts stay what they were.
    assert status.counts["dead_letter"] == 3
    assert status.dead_letters_left == {"locked": 1}
    assert status.taken_over.active_by_end == {"dead_letter": {"locked": 2}}


def test_no_replay_is_offered_of_a_token_that_was_loaded_again(database: MovingDatabase) -> None:
    make_batch(database, [record("A", "dead_letter"), record("B", "dead_letter")], name="july")
    assert read_statuses(database, "july")[0].replayable == {"locked": 2}
    make_batch(database, [record("A", "dead_letter")], name="july-fixed")
    assert read_statuses(database, "july")[0].replayable == {"locked": 1}
    assert Batches(database, TESTER).replay("july").records == 1


def test_of_the_batch_in_between_only_what_came_after_it_counts(database: MovingDatabase) -> None:
    make_batch(database, [record("A", "dead_letter")], name="july")
    make_batch(database, [record("A", "dead_letter"), record("B", "dead_letter")], name="august")
    make_batch(database, [record("A", "active")], name="september")
    assert taken_over(database, "august").counts == {"september": {"active": 1}}
    assert taken_over(database, "september").counts == {}


def test_the_same_serial_number_in_another_environment_is_another_token(database: MovingDatabase) -> None:
    make_batch(database, [record("A", "dead_letter")], name="july")
    make_batch(database, [record("A", "active")], name="elsewhere", environment="second", environment_id="another")
    assert taken_over(database, "july").counts == {}
