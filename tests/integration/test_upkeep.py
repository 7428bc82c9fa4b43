"""What a batch does by itself: it pauses for its canary, for an outage, for failures that are no accident, and goes on
when PingOne is back. On both databases."""

from __future__ import annotations

import csv
import uuid
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import update
from support.data.batches import TESTER, Made, look_at_batch, make_batch, make_environment, statuses
from support.data.moving_clock import MovingDatabase
from support.fleets.scripted_fleet import HELD, LATER, PATIENT, THRESHOLDS, UNDELIVERED, UNKNOWN, ScriptedFleet

from models.attempt import SOMEBODY_ELSE, AttemptLine
from models.batch import BatchState
from models.encrypted import Keyring
from models.reason import PAUSE_CURES, PauseReason, Reason
from models.record import Record
from models.record_states import OtpState, Status
from worker.batches.loading import Loader
from worker.batches.upkeep import Upkeep
from worker.intake import open_shipment
from worker.leases.queue import Queue
from worker.pingone.errors import Answer
from worker.reports.facts import Outage, read_statuses
from worker.rules import breaker
from worker.rules.breaker import PROBES, Thresholds
from worker.rules.progress import Active, DeadLetter, Decision, Pause, Retry
from worker.simulator.shipment import make_shipment

HALF_DONE = {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1}

RUNNING = (BatchState.RUNNING, None)
CANARY = (BatchState.PAUSED, PauseReason.CANARY)
OUTAGE = (BatchState.PAUSED, PauseReason.OUTAGE)


# The canary.


def test_exactly_the_canarys_records_go_and_the_batch_pauses_when_they_are_final(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 8)
    scripted_fleet.set_canary(made, 3)

    assert scripted_fleet.tick() == made.ids[:3]
    scripted_fleet.end(made.ids[1], Active())
    scripted_fleet.end(made.ids[0], DeadLetter(Reason.LOCKED))
    assert scripted_fleet.tick() == []
    assert scripted_fleet.state(made) == RUNNING
    scripted_fleet.end(made.ids[2], Active())
    assert scripted_fleet.tick() == []

    assert scripted_fleet.state(made) == CANARY
    assert look_at_batch(scripted_fleet.database, made.batch_id).detail == PAUSE_CURES[PauseReason.CANARY]
    assert statuses(scripted_fleet.database, made)[3:] == [Status.PENDING] * 5


def test_a_resume_after_the_canary_lets_the_rest_go(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 5)
    scripted_fleet.set_canary(made, 2)
    scripted_fleet.end_all(scripted_fleet.tick(), Active())
    scripted_fleet.tick()

    scripted_fleet.batches.resume(made.name)

    assert look_at_batch(scripted_fleet.database, made.batch_id).canary_row is None
    rest = scripted_fleet.tick()
    assert sorted(rest) == made.ids[2:]
    scripted_fleet.end_all(rest, Active())
    scripted_fleet.tick()
    assert scripted_fleet.state(made) == RUNNING
    assert statuses(scripted_fleet.database, made) == [Status.ACTIVE] * 5


def test_a_canary_waits_for_its_retries(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 4)
    scripted_fleet.set_canary(made, 2)
    first, second = scripted_fleet.tick()
    scripted_fleet.end(first, Active())
    scripted_fleet.end(second, Retry(30.0, is_counted=True, why="outcome_unknown"))

    assert scripted_fleet.tick() == []
    assert scripted_fleet.state(made) == RUNNING
    scripted_fleet.pass_time(31)
    assert scripted_fleet.tick() == [second]
    assert scripted_fleet.tick() == []
    scripted_fleet.end(second, DeadLetter(Reason.ATTEMPTS_SPENT))
    scripted_fleet.tick()
    assert scripted_fleet.state(made) == CANARY


def test_a_canary_waits_for_what_a_worker_left_lying(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 3)
    scripted_fleet.set_canary(made, 1)
    scripted_fleet.claim(scripted_fleet.tick()[0])

    scripted_fleet.pass_time(61)
    assert scripted_fleet.tick() == made.ids[:1]
    assert scripted_fleet.tick() == []
    assert scripted_fleet.state(made) == RUNNING


def test_neither_half_done_records_nor_expiring_ones_overtake_the_canary(scripted_fleet: ScriptedFleet) -> None:
    soon = scripted_fleet.database.read_clock() + timedelta(seconds=60)
    made = make_batch(scripted_fleet.database, [{}, {}, HALF_DONE, {"otp_expires_at": soon}, {}])
    scripted_fleet.set_canary(made, 2)

    assert scripted_fleet.tick() == made.ids[:2]
    assert scripted_fleet.tick() == []


def test_a_canary_holds_back_its_own_batch_only(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 3)
    other = make_batch(scripted_fleet.database, 3, name="other")
    scripted_fleet.set_canary(made, 1)

    assert scripted_fleet.tick() == [made.ids[0], *other.ids]
    scripted_fleet.end_all([made.ids[0], *other.ids], Active())
    scripted_fleet.tick()

    assert scripted_fleet.state(made) == CANARY
    assert scripted_fleet.state(other) == RUNNING


@pytest.mark.parametrize("reason", [PauseReason.CREDENTIALS, PauseReason.INVALID_OTPS, None])
def test_a_resume_from_another_pause_does_not_end_the_canary(
    scripted_fleet: ScriptedFleet, reason: PauseReason | None
) -> None:
    """Nobody has looked at how its records ended."""
    made = make_batch(scripted_fleet.database, 4)
    scripted_fleet.set_canary(made, 2)
    first, second = scripted_fleet.tick()
    scripted_fleet.end(first, Active())
    if reason is None:
        scripted_fleet.batches.pause(made.name)
    else:
        scripted_fleet.end(second, Pause(reason))
        scripted_fleet.upkeep.pause(made.batch_id, reason)

    scripted_fleet.batches.resume(made.name)

    assert scripted_fleet.tick() == [second]
    scripted_fleet.end(second, Active())
    assert scripted_fleet.tick() == []
    assert scripted_fleet.state(made) == CANARY


def test_a_person_who_pauses_after_the_canary_still_has_to_resume_it_once(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 3)
    scripted_fleet.set_canary(made, 1)
    scripted_fleet.end_all(scripted_fleet.tick(), Active())
    scripted_fleet.tick()

    scripted_fleet.batches.pause(made.name)
    assert scripted_fleet.state(made) == CANARY
    scripted_fleet.batches.resume(made.name)

    assert scripted_fleet.tick() == made.ids[1:]


def test_a_replay_of_the_canarys_dead_letters_is_part_of_the_canary(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 4)
    scripted_fleet.set_canary(made, 2)
    scripted_fleet.end_all(scripted_fleet.tick(), DeadLetter(Reason.FORBIDDEN))
    scripted_fleet.tick()
    assert scripted_fleet.state(made) == CANARY

    assert scripted_fleet.batches.replay(made.name).records == 2

    again = scripted_fleet.tick()
    assert sorted(again) == made.ids[:2]
    scripted_fleet.end_all(again, Active())
    assert scripted_fleet.tick() == []
    assert scripted_fleet.state(made) == CANARY


def test_a_cancelled_canary_stays_cancelled(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 3)
    scripted_fleet.set_canary(made, 1)
    scripted_fleet.tick()
    scripted_fleet.batches.cancel(made.name)

    scripted_fleet.tick()

    assert scripted_fleet.state(made) == (BatchState.CANCELLED, None)
    assert statuses(scripted_fleet.database, made) == [Status.CANCELLED] * 3


# A canary from a file.


def load(database: MovingDatabase, keyring: Keyring, path: Path, rows: int, canary: int, refused: int = 3) -> Made:
    """A shipment of so many rows, of which the line `refused` cannot be loaded."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["serial", "otp1", "otp2", "user_id", "device_id"])
        for line in range(2, rows + 2):
            ids = str(uuid.UUID(int=line)), str(uuid.UUID(int=1 << 100 | line))
            writer.writerow([f"MADE{line:04}", "no OTP" if line == refused else f"{line:06}", "123456", *ids])
    loaded = Loader(database, keyring, make_environment(), TESTER).load(open_shipment(path), path.stem, canary)
    return Made(loaded.batch_id, loaded.name, [])


@pytest.mark.parametrize(("canary", "last_row"), [(1, 2), (2, 4), (4, 6), (5, None), (6, None), (1000, None)])
def test_a_canary_counts_records_and_one_of_all_of_them_is_none(
    database: MovingDatabase, keyring: Keyring, tmp_path: Path, canary: int, last_row: int | None
) -> None:
    """Six rows, the second of them refused."""
    made = load(database, keyring, tmp_path / "shipment.csv", 6, canary)
    assert look_at_batch(database, made.batch_id).canary_row == last_row


def test_a_batch_that_is_smaller_than_its_canary_finishes_without_a_pause(
    scripted_fleet: ScriptedFleet, keyring: Keyring, tmp_path: Path
) -> None:
    made = load(scripted_fleet.database, keyring, tmp_path / "shipment.csv", 4, canary=10)

    ids = scripted_fleet.tick()
    assert len(ids) == 3
    scripted_fleet.end_all(ids, Active())
    scripted_fleet.tick()

    assert scripted_fleet.state(made) == RUNNING
    assert statuses(scripted_fleet.database, made) == [Status.ACTIVE] * 3


# An outage.


@pytest.mark.parametrize("failures", [[UNKNOWN] * 4, [UNDELIVERED] * 4, [UNKNOWN, UNDELIVERED, UNDELIVERED, UNKNOWN]])
def test_so_many_attempts_in_a_row_without_an_answer_are_an_outage(
    scripted_fleet: ScriptedFleet, failures: list[Decision]
) -> None:
    made = make_batch(scripted_fleet.database, 10)

    for failure in failures[:-1]:
        assert scripted_fleet.fail(made, 1, failure, requests=failure is UNKNOWN) == [None]
        assert scripted_fleet.state(made) == RUNNING
    assert scripted_fleet.fail(made, 1, failures[-1]) == [PauseReason.OUTAGE]

    assert scripted_fleet.state(made) == OUTAGE
    batch = look_at_batch(scripted_fleet.database, made.batch_id)
    assert (batch.detail, batch.outages) == (PAUSE_CURES[PauseReason.OUTAGE], 1)
    assert scripted_fleet.seconds_to_probe(made) == pytest.approx(breaker.FIRST_PROBE, abs=7)
    assert scripted_fleet.tick() == []


@pytest.mark.parametrize(
    "answer",
    [Active(), DeadLetter(Reason.INVALID_OTP), Retry(LATER, False, "rate_limited"), Retry(LATER, False, "not_found")],
)
def test_any_answer_among_them_shows_that_pingone_is_there(scripted_fleet: ScriptedFleet, answer: Decision) -> None:
    made = make_batch(scripted_fleet.database, 10)

    assert scripted_fleet.fail(made, 3) == [None] * 3
    assert scripted_fleet.fail(made, 1, answer) == [None]
    assert scripted_fleet.fail(made, 3) == [None] * 3
    assert scripted_fleet.fail(made, 1) == [PauseReason.OUTAGE]


@pytest.mark.parametrize(
    ("answer", "is_out"),
    [
        # A success that names no status; an answer to OTP 1, before OTP 2 was lost.
        (Answer(status=200, correlation_id="b8ee5b23"), False),
        (Answer(status=400, code="INVALID_DATA", correlation_id="b8ee5b23"), False),
        # A proxy's page for whatever is asked of it; PingOne itself, when it fails.
        (Answer(status=200), True),
        (Answer(status=503, correlation_id="b8ee5b23"), True),
    ],
)
def test_an_answer_of_pingones_that_leaves_the_fate_open_is_no_outage(
    scripted_fleet: ScriptedFleet, answer: Answer, is_out: bool
) -> None:
    made = make_batch(scripted_fleet.database, 10)

    scripted_fleet.answer = answer
    assert scripted_fleet.fail(made, 4) == [None, None, None, PauseReason.OUTAGE if is_out else None]


@pytest.mark.parametrize(
    ("decision", "requests"),
    [
        (HELD, 0),
        (Retry(LATER, is_counted=False, why="not_permitted"), 0),
        (Retry(LATER, is_counted=False, why="database"), 1),
        # Given up without a request.
        (DeadLetter(Reason.STALE_OTP, is_counted=False), 0),
    ],
)
def test_what_asked_nothing_says_nothing(scripted_fleet: ScriptedFleet, decision: Decision, requests: int) -> None:
    made = make_batch(scripted_fleet.database, 20)

    assert scripted_fleet.fail(made, 6, decision, requests) == [None] * 6
    assert scripted_fleet.fail(made, 3) == [None] * 3
    assert scripted_fleet.fail(made, 2, decision, requests) == [None] * 2
    assert scripted_fleet.fail(made, 1) == [PauseReason.OUTAGE]


def test_a_lost_worker_says_nothing_either(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 10)
    scripted_fleet.fail(made, 3)
    with scripted_fleet.database.writing() as connection:
        (lost,) = Queue(scripted_fleet.database).enqueue(connection, made.batch_id, 1, PATIENT)
    scripted_fleet.claim(lost)
    scripted_fleet.pass_time(61)
    with scripted_fleet.database.writing() as connection:
        assert Queue(scripted_fleet.database).rescue(connection) == 1

    assert scripted_fleet.fail(made, 1) == [PauseReason.OUTAGE]


def test_other_batches_answers_between_say_nothing_of_this_one(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 10)
    other = make_batch(scripted_fleet.database, 10, name="other")

    for _ in range(3):
        assert scripted_fleet.fail(made, 1) == [None]
        scripted_fleet.fail(other, 2, Active())
    assert scripted_fleet.fail(made, 1) == [PauseReason.OUTAGE]

    assert scripted_fleet.state(made) == OUTAGE
    assert scripted_fleet.state(other) == RUNNING
    assert scripted_fleet.fail(other, 3) == [None] * 3


def test_nothing_goes_until_the_probe_and_then_a_few_records_only(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 30)
    scripted_fleet.begin_outage(made)
    scripted_fleet.pass_time(breaker.FIRST_PROBE - 2)
    assert scripted_fleet.tick() == []
    assert scripted_fleet.state(made) == OUTAGE

    scripted_fleet.pass_time(2)

    probes = scripted_fleet.tick()
    assert len(probes) == PROBES
    assert scripted_fleet.state(made) == RUNNING
    assert scripted_fleet.tick() == []
    scripted_fleet.claim(probes[0])
    assert scripted_fleet.tick() == []


def test_an_outage_is_told_from_the_first_attempt_without_an_answer_until_one_is_answered(
    scripted_fleet: ScriptedFleet,
) -> None:
    database = scripted_fleet.database
    made = make_batch(database, 30)
    scripted_fleet.fail(made, 2)
    scripted_fleet.fail(made, 1, Active())
    before = database.read_clock()

    scripted_fleet.begin_outage(made)
    (status,) = read_statuses(database, made.name)
    assert status.outage is not None
    since = status.outage.since
    assert since is not None
    assert (since - before).total_seconds() == pytest.approx(1, abs=0.9)
    assert status.outage.next_try_at == look_at_batch(database, made.batch_id).probe_at
    assert not status.outage.is_overdue

    # Nobody ticks, and then somebody does.
    scripted_fleet.pass_time(breaker.FIRST_PROBE + 1)
    (status,) = read_statuses(database, made.name)
    assert status.outage == Outage(since, look_at_batch(database, made.batch_id).probe_at, is_overdue=True)
    probe, *_ = scripted_fleet.tick()
    (status,) = read_statuses(database, made.name)
    assert status.outage == Outage(since, None)
    scripted_fleet.end(probe, Active())
    (status,) = read_statuses(database, made.name)
    assert status.outage is None


def test_an_outage_that_lasts_is_probed_less_and_less_often(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 60)
    scripted_fleet.begin_outage(made)
    expected = breaker.FIRST_PROBE

    for outages in range(1, 8):
        assert look_at_batch(scripted_fleet.database, made.batch_id).outages == outages
        assert scripted_fleet.seconds_to_probe(made) == pytest.approx(expected, abs=1)
        scripted_fleet.pass_time(expected + 1)
        first, second = scripted_fleet.tick()
        scripted_fleet.end(first, UNKNOWN)
        assert scripted_fleet.upkeep.apply_breaker(made.batch_id) is None
        scripted_fleet.end(second, UNDELIVERED)
        assert scripted_fleet.upkeep.apply_breaker(made.batch_id) == PauseReason.OUTAGE
        assert scripted_fleet.state(made) == OUTAGE
        expected = min(2 * expected, breaker.LONGEST_PROBE)
    assert expected == breaker.LONGEST_PROBE


@pytest.mark.parametrize("answer", [Active(), DeadLetter(Reason.INVALID_OTP), Retry(LATER, False, "rate_limited")])
def test_one_answered_attempt_ends_an_outage(scripted_fleet: ScriptedFleet, answer: Decision) -> None:
    made = make_batch(scripted_fleet.database, 30)
    scripted_fleet.begin_outage(made)
    scripted_fleet.pass_time(breaker.FIRST_PROBE + 1)
    first, second = scripted_fleet.tick()
    scripted_fleet.end(first, UNKNOWN)
    assert scripted_fleet.upkeep.apply_breaker(made.batch_id) is None
    assert scripted_fleet.tick() != []
    scripted_fleet.end(second, answer)

    rest = scripted_fleet.tick()

    assert len(rest) > PROBES
    batch = look_at_batch(scripted_fleet.database, made.batch_id)
    assert (batch.state, batch.outages, batch.probe_at) == (BatchState.RUNNING, 0, None)
    # The next outage is a new one: it takes as many failures, and is probed as soon.
    scripted_fleet.end_all(rest[: THRESHOLDS.unanswered - 1], UNKNOWN)
    assert scripted_fleet.upkeep.apply_breaker(made.batch_id) is None
    scripted_fleet.end(rest[THRESHOLDS.unanswered - 1], UNKNOWN)
    assert scripted_fleet.upkeep.apply_breaker(made.batch_id) == PauseReason.OUTAGE
    assert scripted_fleet.seconds_to_probe(made) == pytest.approx(breaker.FIRST_PROBE, abs=1)


def test_a_batch_that_is_answered_already_does_not_keep_another_from_probing(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 30)
    scripted_fleet.begin_outage(made)
    other = make_batch(scripted_fleet.database, 40, name="other")
    busy = scripted_fleet.tick()
    assert len(busy) == 40

    scripted_fleet.pass_time(breaker.FIRST_PROBE + 1)

    probes = scripted_fleet.tick()
    assert len(probes) == PROBES
    assert set(probes) <= set(made.ids)
    assert scripted_fleet.tick() == []
    scripted_fleet.end(busy[0], Active())
    assert scripted_fleet.state(other) == RUNNING


@pytest.mark.parametrize("nothing", [HELD, DeadLetter(Reason.STALE_OTP, is_counted=False)])
def test_a_probe_that_asked_nothing_does_not_end_an_outage(scripted_fleet: ScriptedFleet, nothing: Decision) -> None:
    made = make_batch(scripted_fleet.database, 30)
    scripted_fleet.begin_outage(made)
    scripted_fleet.pass_time(breaker.FIRST_PROBE + 1)
    for record_id in scripted_fleet.tick():
        scripted_fleet.end(record_id, nothing, requests=0)

    assert len(scripted_fleet.tick()) == PROBES
    assert look_at_batch(scripted_fleet.database, made.batch_id).outages == 1


def test_attempts_that_end_after_the_pause_do_not_make_the_outage_a_longer_one(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 10)
    in_flight = [scripted_fleet.claim(record_id) for record_id in scripted_fleet.tick()[THRESHOLDS.unanswered :]]
    assert len(in_flight) == 6
    for record_id in made.ids[: THRESHOLDS.unanswered]:
        scripted_fleet.end(record_id, UNKNOWN)
    assert scripted_fleet.upkeep.apply_breaker(made.batch_id) == PauseReason.OUTAGE

    for claimed in in_flight:
        scripted_fleet.settle(claimed, UNKNOWN)
        assert scripted_fleet.upkeep.apply_breaker(made.batch_id) is None

    assert look_at_batch(scripted_fleet.database, made.batch_id).outages == 1


def test_a_persons_pause_during_an_outage_stays(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 30)
    scripted_fleet.begin_outage(made)

    scripted_fleet.batches.pause(made.name)

    person = (BatchState.PAUSED, PauseReason.PERSON)
    assert scripted_fleet.state(made) == person
    scripted_fleet.pass_time(LATER)
    assert scripted_fleet.tick() == []
    assert scripted_fleet.state(made) == person
    scripted_fleet.batches.resume(made.name)
    assert len(scripted_fleet.tick()) == 30
    assert look_at_batch(scripted_fleet.database, made.batch_id).outages == 0


def test_a_persons_pause_while_probing_stays(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 30)
    scripted_fleet.begin_outage(made)
    scripted_fleet.pass_time(breaker.FIRST_PROBE + 1)
    first, _ = scripted_fleet.tick()
    claimed = scripted_fleet.claim(first)

    scripted_fleet.batches.pause(made.name)

    scripted_fleet.settle(claimed, UNKNOWN)
    assert scripted_fleet.upkeep.apply_breaker(made.batch_id) is None
    scripted_fleet.pass_time(LATER)
    assert scripted_fleet.tick() == []
    assert scripted_fleet.state(made) == (BatchState.PAUSED, PauseReason.PERSON)


def test_a_person_need_not_wait_for_the_probe(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 30)
    scripted_fleet.begin_outage(made)

    scripted_fleet.batches.resume(made.name)

    assert len(scripted_fleet.tick()) == 30 - THRESHOLDS.unanswered


def test_a_cancel_during_an_outage_stays(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 10)
    scripted_fleet.begin_outage(made)

    scripted_fleet.batches.cancel(made.name)

    scripted_fleet.pass_time(breaker.FIRST_PROBE + 1)
    scripted_fleet.tick()
    assert scripted_fleet.state(made) == (BatchState.CANCELLED, None)
    # Those of unknown fate are read as soon as that may be, outage or not; nothing else goes.
    assert statuses(scripted_fleet.database, made) == [Status.PENDING] * 4 + [Status.CANCELLED] * 6
    scripted_fleet.pass_time(LATER)
    assert scripted_fleet.tick() == made.ids[:4]
    scripted_fleet.batches.replay(made.name)
    assert scripted_fleet.state(made) == RUNNING
    assert scripted_fleet.tick() == made.ids[4:]


def test_an_outage_during_a_canary_ends_in_the_canary(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 12)
    scripted_fleet.set_canary(made, 6)
    ids = scripted_fleet.tick()
    scripted_fleet.end_all(ids[:4], Retry(20.0, is_counted=True, why="outcome_unknown"))
    assert scripted_fleet.upkeep.apply_breaker(made.batch_id) == PauseReason.OUTAGE
    scripted_fleet.pass_time(LATER)

    # The two that still waited in the queue have come back to it meanwhile.
    probes = scripted_fleet.tick()
    assert len(probes) == PROBES
    while probes:
        scripted_fleet.end_all(probes, Active())
        probes = scripted_fleet.tick()

    assert scripted_fleet.state(made) == CANARY
    assert statuses(scripted_fleet.database, made) == [Status.ACTIVE] * 6 + [Status.PENDING] * 6


# What only a person can mend.


def settle_next(scripted_fleet: ScriptedFleet, made: Made, decision: Decision) -> PauseReason | None:
    """What the breaker says to the next record's end."""
    (verdict,) = scripted_fleet.fail(made, 1, decision)
    return verdict


def test_a_missing_role_pauses_a_batch(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 3)
    for expected in [None, None, PauseReason.PERMISSIONS]:
        assert settle_next(scripted_fleet, made, DeadLetter(Reason.FORBIDDEN)) == expected

    batch = look_at_batch(scripted_fleet.database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, PauseReason.PERMISSIONS)
    told = "3 OTPs were spent on 3 attempts that made no device ACTIVE: 3 forbidden. "
    assert batch.detail == told + PAUSE_CURES[PauseReason.PERMISSIONS]


def test_devices_that_are_gone_pause_a_batch_with_the_rule_that_deletes_them(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 20)
    scripted_fleet.answer = Answer(status=404, code="NOT_FOUND", correlation_id="c")
    gone = DeadLetter(Reason.DEVICE_NOT_FOUND)
    ends: list[Decision] = [gone, gone, gone, Active(), gone, gone, gone]
    for decision in ends:
        assert settle_next(scripted_fleet, made, decision) is None
    assert settle_next(scripted_fleet, made, gone) == PauseReason.DEVICES_GONE

    batch = look_at_batch(scripted_fleet.database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, PauseReason.DEVICES_GONE)
    assert batch.detail.endswith("4 device_not_found (HTTP 404 NOT_FOUND). " + PAUSE_CURES[PauseReason.DEVICES_GONE])
    assert "24 hours" in batch.detail


def test_the_work_of_somebody_else_pauses_a_batch_and_counts_anew_after_a_resume(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 20)
    judge = partial(scripted_fleet.upkeep.look_for_others, made.batch_id)
    for _ in range(4):
        settle_next(scripted_fleet, made, Active(SOMEBODY_ELSE))
        settle_next(scripted_fleet, made, Active())
    assert judge() is None
    settle_next(scripted_fleet, made, Active(SOMEBODY_ELSE))
    assert judge() == PauseReason.SOMEBODY_ELSE
    batch = look_at_batch(scripted_fleet.database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, PauseReason.SOMEBODY_ELSE)

    scripted_fleet.batches.resume(made.name)
    settle_next(scripted_fleet, made, Active(SOMEBODY_ELSE))
    assert judge() is None


def test_what_is_long_past_among_the_latest_attempts_pauses_nothing(scripted_fleet: ScriptedFleet) -> None:
    """A person who pairs a token by hand now and then is no other installation."""
    made = make_batch(scripted_fleet.database, 15)
    upkeep = Upkeep(scripted_fleet.database, Thresholds(by_others=2, latest=10))
    for decision in [Active(SOMEBODY_ELSE), *[Active()] * 10, Active(SOMEBODY_ELSE)]:
        settle_next(scripted_fleet, made, decision)
    assert upkeep.look_for_others(made.batch_id) is None


def test_a_wrong_file_pauses_a_batch_and_says_how_many_otps_were_refused(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 20)
    ends: list[Decision] = [DeadLetter(Reason.INVALID_OTP), Active(), DeadLetter(Reason.RESYNC_FAILED), Active()]
    for decision in [*ends, DeadLetter(Reason.INVALID_OTP)]:
        assert settle_next(scripted_fleet, made, decision) is None
    assert settle_next(scripted_fleet, made, DeadLetter(Reason.INVALID_OTP)) == PauseReason.INVALID_OTPS

    batch = look_at_batch(scripted_fleet.database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, PauseReason.INVALID_OTPS)
    told = "4 OTPs were spent on 4 attempts that made no device ACTIVE: 3 invalid_otp, 1 resync_failed. "
    assert batch.detail == told + PAUSE_CURES[PauseReason.INVALID_OTPS]


def test_the_breaker_judges_only_what_came_after_a_resume(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 6)
    for _ in range(3):
        settle_next(scripted_fleet, made, DeadLetter(Reason.FORBIDDEN))
    assert scripted_fleet.state(made) == (BatchState.PAUSED, PauseReason.PERMISSIONS)
    scripted_fleet.pass_time(1)

    scripted_fleet.batches.resume(made.name)

    assert settle_next(scripted_fleet, made, DeadLetter(Reason.FORBIDDEN)) is None
    assert settle_next(scripted_fleet, made, DeadLetter(Reason.FORBIDDEN)) is None
    assert scripted_fleet.state(made) == RUNNING


def test_a_success_among_them_keeps_the_batch_running(scripted_fleet: ScriptedFleet) -> None:
    made = make_batch(scripted_fleet.database, 5)
    ends: list[Decision] = [DeadLetter(Reason.FORBIDDEN)] * 5
    ends[2] = Active()

    assert [settle_next(scripted_fleet, made, decision) for decision in ends] == [None] * 5


def test_a_worker_that_pingone_does_not_answer_while_it_answers_another_fails_alone(
    scripted_fleet: ScriptedFleet,
) -> None:
    made = make_batch(scripted_fleet.database, 40)
    first, *rest = scripted_fleet.tick()
    scripted_fleet.end_all(rest[: breaker.UNANSWERED_ALONE], UNKNOWN)
    with scripted_fleet.database.writing() as connection:
        connection.execute(update(AttemptLine).values(worker="sick"))
    assert not scripted_fleet.upkeep.fails_alone(made.batch_id, "sick")

    scripted_fleet.end(first, Active())

    assert scripted_fleet.upkeep.fails_alone(made.batch_id, "sick")
    assert not scripted_fleet.upkeep.fails_alone(made.batch_id, "another")


# Whatever PingOne answers, few OTPs are spent.


def test_a_reason_that_dominates_pauses_a_batch_with_what_pingone_said(scripted_fleet: ScriptedFleet) -> None:
    """Whichever it is: unit/rules/test_breaker.py."""
    reason = Reason.ACCOUNT_NOT_USABLE
    made = make_batch(scripted_fleet.database, 20)
    scripted_fleet.answer = Answer(status=400, code="INVALID_DATA", detail_code="NEW_CODE", correlation_id="c")

    verdicts = scripted_fleet.fail(made, THRESHOLDS.spent, DeadLetter(reason))

    assert verdicts == [None] * (THRESHOLDS.spent - 1) + [PauseReason.REFUSED]
    batch = look_at_batch(scripted_fleet.database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, PauseReason.REFUSED)
    told = (
        f"12 OTPs were spent on 12 attempts that made no device ACTIVE: 12 {reason} (HTTP 400 INVALID_DATA NEW_CODE)."
    )
    assert batch.detail == f"{told} {PAUSE_CURES[PauseReason.REFUSED]}"


def test_what_takes_long_to_fail_is_judged_with_the_records_that_were_begun_with_it(
    scripted_fleet: ScriptedFleet,
) -> None:
    made = make_batch(scripted_fleet.database, 80)
    for _ in range(THRESHOLDS.spent):
        assert scripted_fleet.fail(made, 1, Retry(LATER, is_counted=False, why="not_found")) == [None]
        scripted_fleet.fail(made, 2, Active())
    scripted_fleet.pass_time(LATER)

    assert set(scripted_fleet.fail(made, THRESHOLDS.spent, DeadLetter(Reason.LOCKED))) == {None}
    # Half of those that were begun last are begun now.
    verdicts = scripted_fleet.fail(made, THRESHOLDS.spent // 2, DeadLetter(Reason.LOCKED))
    assert verdicts == [None] * (THRESHOLDS.spent // 2 - 1) + [PauseReason.REFUSED]


@pytest.mark.parametrize("where", ["pending", "queued", "without a person"])
def test_a_batch_is_not_paused_for_fewer_records_than_it_took_to_find_out(
    scripted_fleet: ScriptedFleet, where: str
) -> None:
    later = scripted_fleet.database.read_clock() + timedelta(hours=1)
    untried = {
        "pending": {"scheduled_at": later},
        "queued": {"status": Status.QUEUED, "lease_until": later},
        "without a person": {"user_id": "", "username": "alice"},
    }[where]
    for left, expected in ((THRESHOLDS.spent - 1, None), (THRESHOLDS.spent, PauseReason.REFUSED)):
        records = [{}] * (1 + THRESHOLDS.spent) + [untried] * left
        made = make_batch(scripted_fleet.database, records, name=f"{left} left")
        scripted_fleet.fail(made, 1, Active())
        assert scripted_fleet.fail(made, THRESHOLDS.spent, DeadLetter(Reason.LOCKED))[-1] == expected


def test_a_batch_is_judged_by_its_own_attempts_however_many_others_there_are_between(
    scripted_fleet: ScriptedFleet,
) -> None:
    made, other = make_batch(scripted_fleet.database, 20), make_batch(scripted_fleet.database, 60, name="other")
    for expected in [None] * 11 + [PauseReason.REFUSED]:
        scripted_fleet.fail(other, 5, Active())
        assert scripted_fleet.fail(made, 1, DeadLetter(Reason.LOCKED)) == [expected]
    assert scripted_fleet.state(other) == RUNNING


def test_the_breaker_counts_by_attempts_whatever_the_clock_does(scripted_fleet: ScriptedFleet) -> None:
    """A clock that was set back made everything before it look like nothing."""
    made = make_batch(scripted_fleet.database, 20)
    scripted_fleet.fail(made, 6, DeadLetter(Reason.LOCKED))
    scripted_fleet.pass_time(-3600)
    with scripted_fleet.database.writing() as connection:
        connection.execute(update(Record).values(scheduled_at=scripted_fleet.database.read_clock()))

    assert scripted_fleet.fail(made, 6, DeadLetter(Reason.LOCKED))[-1] == PauseReason.REFUSED


def test_a_token_refused_for_several_records_in_a_row_pauses_a_batch_and_one_at_random_does_not(
    scripted_fleet: ScriptedFleet,
) -> None:
    made = make_batch(scripted_fleet.database, 20)
    refused = Retry(LATER, is_counted=False, why="unauthorized")
    for decision in (refused, refused, Active(), refused, refused):
        assert scripted_fleet.fail(made, 1, decision) == [None]
    assert scripted_fleet.fail(made, 1, refused) == [PauseReason.CREDENTIALS]


# The first records in an environment of which nothing is known.

TRIAL = (BatchState.PAUSED, PauseReason.TRIAL)


def test_in_an_unknown_environment_three_records_go_first_and_one_that_is_active_lets_the_others_go(
    scripted_fleet: ScriptedFleet,
) -> None:
    made = make_batch(scripted_fleet.database, 8)
    scripted_fleet.set_trial(made, 3)
    first = scripted_fleet.tick()
    assert sorted(first) == made.ids[:3]
    scripted_fleet.end(first[0], DeadLetter(Reason.LOCKED))
    assert scripted_fleet.tick() == []

    scripted_fleet.end(first[1], Active())

    assert scripted_fleet.tick() == made.ids[3:]
    assert scripted_fleet.state(made) == RUNNING


def test_where_none_of_the_first_records_is_active_the_batch_pauses_until_a_person_has_looked(
    scripted_fleet: ScriptedFleet,
) -> None:
    made = make_batch(scripted_fleet.database, 8)
    scripted_fleet.set_trial(made, 3)
    scripted_fleet.end_all(scripted_fleet.tick(), DeadLetter(Reason.LOCKED))

    assert scripted_fleet.tick() == []
    assert scripted_fleet.state(made) == TRIAL
    scripted_fleet.batches.resume(made.name)
    assert scripted_fleet.tick() == made.ids[3:]


@pytest.mark.parametrize(("records", "is_known", "row"), [(5, False, 4), (3, False, None), (5, True, None)])
def test_a_load_knows_whether_any_token_ever_became_active_in_its_environment(
    database: MovingDatabase, keyring: Keyring, tmp_path: Path, records: int, is_known: bool, row: int | None
) -> None:
    if is_known:
        make_batch(database, [{"status": Status.ACTIVE}], name="earlier")
    make_batch(database, [{"status": Status.ACTIVE}], name="elsewhere", environment_id="another tenant")
    file = tmp_path / "shipment.csv"
    make_shipment(records).write_pairs(file)

    loader = Loader(database, keyring, make_environment(), TESTER, first_records=3)
    loaded = loader.load(open_shipment(file), "shipment")

    assert look_at_batch(database, loaded.batch_id).trial_row == row
