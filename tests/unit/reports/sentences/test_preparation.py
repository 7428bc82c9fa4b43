"""What is displayed of the way before the first OTP."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from unit.cli.test_batch_display import batch, seen

from models.record_states import Status
from worker.cli.batch_display import draw_batch
from worker.cli.batch_table import draw_batches
from worker.cli.room import Room
from worker.fleet.processes import KnownProcess
from worker.reports.sentences.outlook import WAITING, describe_outlook, format_log_line
from worker.reports.sentences.preparation import describe_made, describe_waiting
from worker.reports.stall import UNPREPARED_AFTER, Fleet

SEEN_AT = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
FLEET = Fleet([KnownProcess("host:1", True, SEEN_AT, 1.0, None, None, None)])
WAITS = "12 wait until their person is found, 300 wait until their token is imported."
# Of 1000 records, 312 are being prepared.
PREPARED = replace(
    batch(pace=10.0, pending=500, queued=60, activating=40, active=400),
    waiting={"user": 12, "token": 300},
    may_import=True,
    fleet=FLEET,
)


def test_it_is_said_how_many_wait_for_what_wherever_a_batch_is_shown():
    assert WAITS in seen(draw_batch(PREPARED))
    assert WAITS in seen(draw_batches([PREPARED]))
    assert WAITS in format_log_line(PREPARED)
    assert WAITS in seen(draw_batch(replace(PREPARED, state="paused", reason="person", detail="A person paused it.")))


def test_what_nobody_waits_for_is_not_mentioned():
    assert describe_waiting(replace(PREPARED, waiting={"user": 0, "token": 0})) == ""
    assert describe_waiting(replace(PREPARED, waiting={"user": 1, "token": 0})) == (
        "1 waits until its person is found."
    )


def test_a_batch_that_may_not_import_waits_until_its_tokens_are_found():
    waits = describe_waiting(replace(PREPARED, waiting={"user": 0, "token": 7}, may_import=False))
    assert waits == "7 wait until their token is found in the inventory."


def test_what_was_made_and_what_is_unproved_is_counted():
    assert describe_made(PREPARED) == ""
    made = describe_made(replace(PREPARED, imported=74, paired=75, unproved=2))
    assert made == "74 tokens imported · 75 devices paired · 2 active unproved (PingOne wanted no OTP)"
    assert made in seen(draw_batch(replace(PREPARED, imported=74, paired=75, unproved=2)))
    assert describe_made(replace(PREPARED, unproved=1)) == "1 active unproved (PingOne wanted no OTP)"


def test_the_time_left_is_that_of_the_slower_of_activation_and_preparation():
    # 600 are left, 10 a second; 312 are being prepared.
    assert describe_outlook(replace(PREPARED, preparation_pace=100.0)) == "1 min 0 s left at this pace."
    assert describe_outlook(replace(PREPARED, preparation_pace=1.0)) == "5 min 12 s left at this pace."


def test_the_time_left_is_not_known_while_one_of_the_two_has_shown_no_pace():
    assert describe_outlook(PREPARED) == "The time left is not known yet."
    assert describe_outlook(replace(PREPARED, preparation_pace=1.0, pace=0.0)) == "The time left is not known yet."
    assert replace(PREPARED, preparation_pace=1.0, pace=0.0).to_json()["eta_seconds"] is None


def test_a_record_that_waits_for_its_time_says_nothing_of_a_batch_that_is_being_prepared():
    alone = replace(
        PREPARED,
        counts=PREPARED.counts | {Status.QUEUED: 0, Status.ACTIVATING: 0},
        next_due_at=datetime.now(UTC) + timedelta(hours=1),
        preparation_pace=1.0,
    )
    assert "wait for their time" not in describe_outlook(alone)
    assert "wait for their time" in describe_outlook(replace(alone, waiting={}))


def test_without_a_worker_nothing_is_prepared_either():
    assert describe_outlook(replace(PREPARED, pace=0.0, fleet=Fleet())) == WAITING


def test_a_batch_that_nobody_prepares_is_stalled_and_the_queue_is_named():
    late = replace(PREPARED, unprepared_for=UNPREPARED_AFTER)
    assert describe_outlook(late) == (
        "Nothing has moved for 3 min 0 s. No worker looks up persons and imports tokens. "
        "Start one that takes this queue: celery -A worker worker -Q oathbulk.prepare"
    )
    assert late.stall
    assert late.to_json()["stall"]["cause"] == "preparation"
    assert replace(late, waiting={}).stall is None
    assert replace(late, unprepared_for=UNPREPARED_AFTER - 1).stall is None


def test_all_of_it_fits_a_terminal_of_80_columns():
    large = replace(
        batch(pace=55.5, pending=48000, queued=600, activating=200, active=1000, dead_letter=200),
        waiting={"user": 30000, "token": 17000},
        may_import=True,
        imported=4000,
        paired=3000,
        unproved=100,
        fleet=FLEET,
    )
    lines = seen(draw_batch(large, Room(80, 23)), 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 23
    # Each count stands below its name.
    for name in ("pending", "queued", "activating", "active", "dead_letter"):
        end = lines[1].index(f" {name}") + 1 + len(name)
        assert lines[2][:end].endswith(f" {large.counts[name]}")
