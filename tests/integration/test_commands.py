"""What persons do with a batch, on both databases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from support.data.batches import (
    ENVIRONMENT_ID,
    TESTER,
    Made,
    enqueue,
    look,
    look_at_batch,
    make_batch,
    make_environment,
    rescue,
    statuses,
)
from support.data.moving_clock import MovingDatabase

from models.batch import BatchState
from models.encrypted import Keyring
from models.reason import PAUSE_CURES, TRANSIENT, PauseReason, Reason
from models.record_states import OtpState, Status
from worker.batches.commands import Batches, NotPossible, Replayed
from worker.batches.finding import UnknownBatch
from worker.batches.upkeep import Upkeep
from worker.config.settings import Settings
from worker.leases.commands import NotReplayed, Why
from worker.leases.queue import Queue
from worker.leases.settlement import CallSummary, Claim
from worker.leases.worker import Leases
from worker.pace.paces import PaceMemory
from worker.pace.slots import Slot
from worker.pingone.client import Call
from worker.pingone.devices import Device
from worker.pingone.errors import Answer
from worker.records import Activation
from worker.rules.breaker import Thresholds
from worker.rules.progress import Active, Retry
from worker.vault.otps import Otp

AGAIN = Retry(0.0, is_counted=True, why="outcome_unknown")
UNKNOWN = {"otp1_state": OtpState.SENT, "otp1_posts": 1}
HALF_DONE = {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1}
EVERY_STATUS = [{"status": status} for status in Status]


@pytest.fixture
def batches(database: MovingDatabase) -> Batches:
    return Batches(database, TESTER)


@pytest.fixture
def upkeep(database: MovingDatabase) -> Upkeep:
    return Upkeep(database, Thresholds())


def claim(database: MovingDatabase, leases: Leases, made: Made) -> Claim:
    enqueue(database, made)
    claimed = leases.claim(made.id, ENVIRONMENT_ID)
    assert claimed is not None
    return claimed


def dead(*reasons: Reason, **columns: Any) -> Sequence[dict[str, Any]]:
    return [{"status": Status.DEAD_LETTER, "reason": reason, **columns} for reason in reasons]


# Pause and resume.


def test_a_paused_batch_has_nothing_in_the_queue(database: MovingDatabase, batches: Batches) -> None:
    made = make_batch(database, EVERY_STATUS)

    assert batches.pause(made.name) == 1

    batch = look_at_batch(database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, PauseReason.PERSON)
    assert batch.detail == f"Paused by {TESTER.name}."
    assert statuses(database, made) == [Status.PENDING if status == Status.QUEUED else status for status in Status]


def test_a_call_in_flight_is_settled_while_the_batch_is_paused(
    database: MovingDatabase, leases: Leases, batches: Batches
) -> None:
    made = make_batch(database)
    claimed = claim(database, leases, made)
    batches.pause(made.name)

    assert leases.settle(claimed, claimed.progress.with_otp_answered(1), Active(), CallSummary(1))
    assert statuses(database, made) == [Status.ACTIVE]


def test_a_resumed_batch_goes_on_where_it_was(database: MovingDatabase, leases: Leases, batches: Batches) -> None:
    made = make_batch(database)
    enqueue(database, made)
    batches.pause(made.name)
    assert leases.claim(made.id, ENVIRONMENT_ID) is None
    database.ahead = 100

    batches.resume(made.name)

    batch = look_at_batch(database, made.batch_id)
    assert (batch.state, batch.reason, batch.detail) == (BatchState.RUNNING, None, None)
    assert batch.running_since - batch.created_at >= timedelta(seconds=100)
    assert claim(database, leases, made).progress.attempts == 1


def test_resuming_a_running_batch_changes_nothing(database: MovingDatabase, batches: Batches) -> None:
    made = make_batch(database)
    before = look_at_batch(database, made.batch_id)
    database.ahead = 100

    batches.resume(made.name)

    assert look_at_batch(database, made.batch_id) == before


@pytest.mark.parametrize("state", [BatchState.RUNNING, BatchState.PAUSED])
def test_a_resume_may_lift_the_hold_of_the_batchs_license_whether_it_ran_or_not(
    database: MovingDatabase, batches: Batches, state: BatchState
) -> None:
    made = make_batch(database, state=state)
    paces = PaceMemory(database)

    batches.resume(made.name, lift_in=lambda name, environment_id: f"license of {name} {environment_id}")

    assert look_at_batch(database, made.batch_id).state == BatchState.RUNNING
    assert paces.read(f"license of default {ENVIRONMENT_ID}").is_to_be_lifted
    batches.resume(made.name)
    assert not paces.read("another").is_to_be_lifted


def test_a_cancelled_batch_lifts_no_hold(database: MovingDatabase, batches: Batches) -> None:
    made = make_batch(database, state=BatchState.CANCELLED)
    with pytest.raises(NotPossible):
        batches.resume(made.name, lift_in=lambda *_: "license")
    assert not PaceMemory(database).read("license").is_to_be_lifted


def test_a_batch_that_paused_by_itself_keeps_its_reason(
    database: MovingDatabase, batches: Batches, upkeep: Upkeep
) -> None:
    made = make_batch(database)

    assert upkeep.pause(made.batch_id, PauseReason.CREDENTIALS)
    assert not upkeep.pause(made.batch_id, PauseReason.INTERNAL)
    batches.pause(made.name)

    batch = look_at_batch(database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, PauseReason.CREDENTIALS)
    assert batch.detail == PAUSE_CURES[PauseReason.CREDENTIALS]


def test_a_cancelled_batch_is_not_paused_or_resumed(database: MovingDatabase, batches: Batches, upkeep: Upkeep) -> None:
    made = make_batch(database, state=BatchState.CANCELLED, status=Status.CANCELLED)

    with pytest.raises(NotPossible, match="cancelled"):
        batches.pause(made.name)
    with pytest.raises(NotPossible, match="oathbulk replay shipment"):
        batches.resume(made.name)
    assert not upkeep.pause(made.batch_id, PauseReason.INTERNAL)
    assert look_at_batch(database, made.batch_id).state == BatchState.CANCELLED


@pytest.mark.parametrize("command", ["pause", "resume", "cancel", "replay"])
def test_a_batch_that_is_not_there_is_told_with_those_that_are(
    database: MovingDatabase, batches: Batches, command: str
) -> None:
    make_batch(database, name="pallet 7")

    with pytest.raises(UnknownBatch, match="pallet 7"):
        getattr(batches, command)("pallet 8")


def test_an_interrupted_run_hands_its_queue_back(database: MovingDatabase, batches: Batches) -> None:
    made = make_batch(database, 3)
    enqueue(database, made, room=2)

    assert batches.hand_back() == 2
    assert statuses(database, made) == [Status.PENDING] * 3
    assert look_at_batch(database, made.batch_id).state == BatchState.RUNNING


# A finished batch.


FINISHED: list[dict[str, Any]] = [{"status": Status.ACTIVE}]


@pytest.mark.parametrize("state", [BatchState.RUNNING, BatchState.PAUSED])
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("pause", "nothing of it runs"),
        ("resume", "nothing of it is left to run"),
        ("cancel", "nothing of it is left to cancel"),
    ],
)
def test_a_finished_batch_is_not_paused_resumed_or_cancelled(
    database: MovingDatabase, batches: Batches, command: str, says: str, state: BatchState
) -> None:
    made = make_batch(database, FINISHED * 2, state=state)
    before = look_at_batch(database, made.batch_id)

    with pytest.raises(NotPossible, match=f"batch 'shipment' is finished: {says}"):
        getattr(batches, command)(made.name)

    assert look_at_batch(database, made.batch_id) == before


@pytest.mark.parametrize("status", [Status.PENDING, Status.QUEUED, Status.ACTIVATING])
def test_one_record_that_is_not_final_is_enough_to_pause_and_to_cancel(
    database: MovingDatabase, batches: Batches, status: Status
) -> None:
    made = make_batch(database, [*FINISHED, {"status": status}])
    make_batch(database, FINISHED, name="other")

    batches.pause(made.name)
    batches.cancel(made.name)

    assert look_at_batch(database, made.batch_id).state == BatchState.CANCELLED


@pytest.mark.parametrize("given_up", [*dead(Reason.LOCKED), {"status": Status.CANCELLED}])
def test_dead_letters_and_what_was_undone_are_left_to_cancel_though_nothing_runs(
    database: MovingDatabase, batches: Batches, given_up: dict[str, Any]
) -> None:
    made = make_batch(database, [*FINISHED, given_up])
    with pytest.raises(NotPossible, match="nothing of it runs"):
        batches.pause(made.name)

    assert batches.cancel(made.name) == 0

    assert look_at_batch(database, made.batch_id).state == BatchState.CANCELLED


# Cancel.


def test_a_cancel_takes_everything_that_no_worker_holds(database: MovingDatabase, batches: Batches) -> None:
    made = make_batch(database, EVERY_STATUS)

    assert batches.cancel(made.name) == 2

    assert look_at_batch(database, made.batch_id).state == BatchState.CANCELLED
    gone = (Status.PENDING, Status.QUEUED)
    assert statuses(database, made) == [Status.CANCELLED if status in gone else status for status in Status]
    assert look(database, made.ids[0]).finalized_at is not None
    assert look(database, made.ids[1]).lease_until is None


def test_a_cancel_leaves_other_batches_alone(database: MovingDatabase, batches: Batches) -> None:
    made, other = make_batch(database), make_batch(database, EVERY_STATUS, name="other")

    batches.cancel(made.name)

    assert statuses(database, other) == list(Status)


def test_a_cancelled_record_in_work_ends_cancelled_instead_of_pending(
    database: MovingDatabase, leases: Leases, batches: Batches
) -> None:
    made = make_batch(database)
    claimed = claim(database, leases, made)
    assert batches.cancel(made.name) == 0
    assert statuses(database, made) == [Status.ACTIVATING]

    leases.settle(claimed, claimed.progress.with_otp_unsent(1), Retry(0.0, is_counted=False, why="hold"), CallSummary())

    record = look(database, made.id)
    assert (record.status, record.lease_id) == (Status.CANCELLED, None)
    assert record.finalized_at is not None


def test_what_pingone_made_active_ends_active_after_a_cancel(
    database: MovingDatabase, leases: Leases, batches: Batches
) -> None:
    made = make_batch(database)
    claimed = claim(database, leases, made)
    batches.cancel(made.name)

    leases.settle(claimed, claimed.progress.with_otp_answered(1), Active(), CallSummary(1))

    assert statuses(database, made) == [Status.ACTIVE]


def test_an_unknown_fate_is_read_before_a_cancelled_record_is_final(
    database: MovingDatabase, leases: Leases, batches: Batches
) -> None:
    made = make_batch(database)
    claimed = claim(database, leases, made)
    batches.cancel(made.name)
    leases.settle(claimed, claimed.progress, AGAIN, CallSummary(1))
    assert statuses(database, made) == [Status.PENDING]

    with database.writing() as connection:
        assert Queue(database).enqueue_reads(connection, made.batch_id, 10, 60.0) == made.ids
    claimed_again = leases.claim(made.id, ENVIRONMENT_ID)
    assert claimed_again is not None
    leases.settle(claimed_again, claimed_again.progress.with_device_waiting(), AGAIN, CallSummary(1))

    assert statuses(database, made) == [Status.CANCELLED]


def test_records_with_an_owed_read_are_not_cancelled(database: MovingDatabase, batches: Batches) -> None:
    owed = [UNKNOWN, HALF_DONE | {"otp2_state": OtpState.SENT}, HALF_DONE | {"verdict": Reason.REJECTED}]
    made = make_batch(database, [*owed, UNKNOWN | {"status": Status.QUEUED}, HALF_DONE])

    assert batches.cancel(made.name) == 1

    assert statuses(database, made) == [Status.PENDING] * 3 + [Status.QUEUED, Status.CANCELLED]


def test_a_worker_that_died_after_a_cancel_is_rescued(
    database: MovingDatabase, leases: Leases, batches: Batches
) -> None:
    made = make_batch(database)
    claim(database, leases, made)
    batches.cancel(made.name)
    database.ahead = 61

    rescue(database)

    assert statuses(database, made) == [Status.PENDING]
    database.ahead = 200
    with database.writing() as connection:
        assert Queue(database).enqueue_reads(connection, made.batch_id, 10, 60.0) == made.ids


class StoppingClient:
    """A client whose call a person stops between two tries: PingOne did nothing at the first."""

    def __init__(self, stop: Any) -> None:
        self.stop = stop
        self.posts = 0

    def activate(self, user_id: str, device_id: str, otp: Otp, *, resync: bool, call: Call) -> Device:
        self.stop()
        call.permit()
        self.posts += 1
        return Device("ACTIVE", is_locked=False, is_blocked=False, answer=Answer(200))


class OpenPace:
    """Every slot is now."""

    def wait(self) -> Slot:
        return Slot(0, 1.0)


@pytest.mark.parametrize(("command", "left"), [("pause", Status.PENDING), ("cancel", Status.CANCELLED)])
def test_no_otp_goes_out_between_two_tries_after_a_person_stopped_the_batch(
    database: MovingDatabase, leases: Leases, batches: Batches, keyring: Keyring, command: str, left: Status
) -> None:
    made = make_batch(database, keyring=keyring)
    enqueue(database, made)
    client: Any = StoppingClient(lambda: getattr(batches, command)(made.name))
    pairings: Any = None
    pace: Any = OpenPace()
    consequences: Any = SimpleNamespace(apply_decision=lambda *_: None)
    activation = Activation(make_environment(), Settings(), leases, client, pairings, pace, keyring, consequences)

    activation.run(made.id)

    record = look(database, made.id)
    assert client.posts == 0
    assert (record.status, record.otp1_state, record.otp1_posts) == (left, OtpState.UNSENT, 0)
    assert record.attempts == 0


# Replay.


def test_a_replay_puts_dead_letters_back_and_the_batch_to_running(database: MovingDatabase, batches: Batches) -> None:
    made = make_batch(database, dead(*sorted(TRANSIENT)), state=BatchState.PAUSED, attempts=8, not_found=4)

    assert batches.replay(made.name) == Replayed(records=2)

    record = look(database, made.ids[0])
    assert (record.status, record.reason, record.detail, record.finalized_at) == (Status.PENDING, None, None, None)
    assert (record.attempts, record.attempts_forgiven, record.not_found) == (8, 8, 0)
    batch = look_at_batch(database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.RUNNING, None)


def test_a_replayed_record_is_due_at_once_and_has_its_attempts_again(
    database: MovingDatabase, leases: Leases, batches: Batches
) -> None:
    later = database.read_clock() + timedelta(hours=1)
    made = make_batch(database, dead(Reason.ATTEMPTS_SPENT, attempts=8, scheduled_at=later))
    batches.replay(made.name)

    claimed = claim(database, leases, made)

    assert claimed.is_otp1_marked
    assert claimed.progress.attempts == 1


def test_a_replay_may_name_reasons(database: MovingDatabase, batches: Batches) -> None:
    made = make_batch(database, dead(Reason.FORBIDDEN, Reason.ATTEMPTS_SPENT))

    assert batches.replay(made.name, [Reason.FORBIDDEN]) == Replayed(records=1)
    assert statuses(database, made) == [Status.PENDING, Status.DEAD_LETTER]


@pytest.mark.parametrize(
    ("reason", "columns", "goes_again"),
    [
        (Reason.ATTEMPTS_SPENT, UNKNOWN, True),
        (Reason.ATTEMPTS_SPENT, HALF_DONE, True),
        (Reason.DEVICE_NOT_FOUND, {}, True),
        (Reason.FORBIDDEN, {}, True),
        (Reason.LOCKED, {}, True),
        (Reason.BLOCKED, {"otp1_posts": 1}, True),
        (Reason.LOCKED, HALF_DONE, False),
        (Reason.INVALID_OTP, HALF_DONE, False),
        (Reason.RESYNC_FAILED, HALF_DONE | {"otp2_state": OtpState.ANSWERED, "otp2_posts": 1}, False),
        (Reason.SECOND_OTP_MISSING, HALF_DONE, False),
        (Reason.STALE_OTP, {}, False),
        (Reason.BUDGET_SPENT, {"otp1_posts": 2}, False),
        (Reason.REJECTED, HALF_DONE, False),
    ],
)
def test_only_otps_that_may_still_be_sent_go_again(
    database: MovingDatabase, batches: Batches, reason: Reason, columns: dict[str, Any], goes_again: bool
) -> None:
    made = make_batch(database, dead(reason, **columns), state=BatchState.PAUSED)

    replayed = batches.replay(made.name)

    stays = NotReplayed(1, reason, Why.FRESH_OTPS)
    assert replayed == (Replayed(1) if goes_again else Replayed(0, (stays,)))
    assert statuses(database, made) == [Status.PENDING if goes_again else Status.DEAD_LETTER]
    assert look_at_batch(database, made.batch_id).state == (BatchState.RUNNING if goes_again else BatchState.PAUSED)


def test_a_seed_that_was_erased_makes_no_otps_and_is_told_as_erased(database: MovingDatabase, batches: Batches) -> None:
    made = make_batch(database, [{"status": Status.CANCELLED, "next_counter": 7, "otps": None}])

    assert batches.replay(made.name) == Replayed(0, (NotReplayed(1, Status.CANCELLED, Why.SEED_ERASED),))


def test_a_replay_forgets_nothing_about_the_otps(database: MovingDatabase, leases: Leases, batches: Batches) -> None:
    made = make_batch(database, dead(Reason.ATTEMPTS_SPENT, **UNKNOWN))
    batches.replay(made.name)

    claimed = claim(database, leases, made)

    assert not claimed.is_otp1_marked
    assert claimed.progress.needs_read
    assert look(database, made.id).otp1_posts == 1


def test_a_replay_takes_a_cancel_back(database: MovingDatabase, batches: Batches) -> None:
    made = make_batch(database, EVERY_STATUS[:2])
    batches.cancel(made.name)

    assert batches.replay(made.name).records == 2

    assert statuses(database, made) == [Status.PENDING] * 2
    assert look_at_batch(database, made.batch_id).state == BatchState.RUNNING


def test_a_replay_of_a_reason_leaves_what_was_cancelled(database: MovingDatabase, batches: Batches) -> None:
    made = make_batch(database, [{"status": Status.CANCELLED}, *dead(Reason.FORBIDDEN)])

    batches.replay(made.name, [Reason.FORBIDDEN])

    assert statuses(database, made) == [Status.CANCELLED, Status.PENDING]


def test_a_replay_never_touches_what_is_active_or_on_its_way(database: MovingDatabase, batches: Batches) -> None:
    on_its_way = [Status.PENDING, Status.QUEUED, Status.ACTIVATING, Status.ACTIVE]
    made = make_batch(database, [{"status": status} for status in on_its_way])

    assert batches.replay(made.name).records == 0
    assert statuses(database, made) == on_its_way


def test_a_token_that_was_loaded_again_is_replayed_there_only(database: MovingDatabase, batches: Batches) -> None:
    first = make_batch(database, [*dead(*[Reason.ATTEMPTS_SPENT] * 5), {"status": Status.CANCELLED}], name="first")
    serials = [{"serial_number": look(database, record_id).serial_number} for record_id in first.ids]
    elsewhere = [status for status in Status if status != Status.QUEUED] + [Status.ACTIVE]
    again = [serial | {"status": status} for serial, status in zip(serials, elsewhere, strict=True)]
    make_batch(database, again, name="second")

    assert batches.replay("first") == Replayed(
        0,
        (
            NotReplayed(3, Reason.ATTEMPTS_SPENT, Why.LOADED_AGAIN, "second"),
            NotReplayed(2, Reason.ATTEMPTS_SPENT, Why.IN_PROGRESS, "second"),
            NotReplayed(1, Status.CANCELLED, Why.LOADED_AGAIN, "second"),
        ),
    )
    assert statuses(database, first) == [Status.DEAD_LETTER] * 5 + [Status.CANCELLED]


def test_a_device_in_progress_elsewhere_is_not_replayed(database: MovingDatabase, batches: Batches) -> None:
    first = make_batch(database, dead(Reason.ATTEMPTS_SPENT), name="first")
    make_batch(database, name="second", device_id=look(database, first.id).device_id)

    stays = NotReplayed(1, Reason.ATTEMPTS_SPENT, Why.IN_PROGRESS, "second")
    assert batches.replay("first") == Replayed(0, (stays,))
    assert statuses(database, first) == [Status.DEAD_LETTER]


def test_the_later_of_two_loads_is_the_one_that_is_replayed(database: MovingDatabase, batches: Batches) -> None:
    first = make_batch(database, dead(Reason.ATTEMPTS_SPENT), name="first")
    same = {"serial_number": look(database, first.id).serial_number}
    make_batch(database, dead(Reason.ATTEMPTS_SPENT, **same), name="second")

    assert batches.replay("second") == Replayed(records=1)


def test_a_replay_of_a_reason_tells_of_each_dead_letter_of_it_that_stays_why(
    database: MovingDatabase, batches: Batches
) -> None:
    locked = dead(*[Reason.LOCKED] * 6, **HALF_DONE)
    made = make_batch(database, [*locked, *dead(Reason.LOCKED, Reason.INVALID_OTP), {"status": Status.CANCELLED}])
    serials = [{"serial_number": look(database, record_id).serial_number} for record_id in made.ids]
    make_batch(
        database, [serials[0] | {"status": Status.ACTIVE}, serials[1] | {"status": Status.ACTIVE}], name="second"
    )
    make_batch(database, [serials[1] | {"status": Status.QUEUED}], name="third")

    assert batches.replay(made.name, [Reason.LOCKED]) == Replayed(
        1,
        (
            NotReplayed(4, Reason.LOCKED, Why.FRESH_OTPS),
            NotReplayed(1, Reason.LOCKED, Why.IN_PROGRESS, "third"),
            NotReplayed(1, Reason.LOCKED, Why.LOADED_AGAIN, "second"),
        ),
    )


def test_a_batch_of_another_environment_keeps_nothing_back(database: MovingDatabase, batches: Batches) -> None:
    made = make_batch(database, dead(Reason.LOCKED, **HALF_DONE))
    same = {"serial_number": look(database, made.id).serial_number}
    make_batch(database, [same], name="elsewhere", environment_id="9d0c5f40-2f4c-4f39-8b59-0d5b0a2f6c02")

    assert batches.replay(made.name).not_replayed == (NotReplayed(1, Reason.LOCKED, Why.FRESH_OTPS),)


def test_the_schedule_replays_what_time_may_mend_in_running_batches(database: MovingDatabase, batches: Batches) -> None:
    reasons = [Reason.ATTEMPTS_SPENT, Reason.DEVICE_NOT_FOUND, Reason.FORBIDDEN, Reason.INVALID_OTP]
    running = make_batch(database, [*dead(*reasons), {"status": Status.CANCELLED}])
    paused = make_batch(database, dead(*reasons), name="paused", state=BatchState.PAUSED)
    cancelled = make_batch(database, dead(*reasons), name="cancelled", state=BatchState.CANCELLED)

    assert batches.replay_transient() == 2

    assert statuses(database, running) == [Status.PENDING] * 2 + [Status.DEAD_LETTER] * 2 + [Status.CANCELLED]
    assert statuses(database, paused) == statuses(database, cancelled) == [Status.DEAD_LETTER] * 4
