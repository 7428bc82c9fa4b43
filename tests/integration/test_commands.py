"""What persons do with a batch: pause, resume, cancel and replay it; and with the database: restore it, and change its
encryption key. On both databases."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import Connection, update
from sqlalchemy.exc import DBAPIError
from support.data import audit_lines
from support.data.batches import (
    ENVIRONMENT_ID,
    TESTER,
    Made,
    attempts,
    enqueue,
    look,
    look_at_batch,
    make_batch,
    opened,
    pair_of,
    rescue,
    statuses,
)
from support.data.calls import called
from support.data.loading import file_bytes
from support.data.moving_clock import ON_SQLITE, MovingDatabase
from support.data.progress import Heard
from support.fleets.scripted_fleet import ScriptedFleet

from models.audit import Action
from models.batch import Batch, BatchState
from models.encrypted import DecryptionError, Keyring, generate_key
from models.reason import PAUSE_CURES, PauseReason, Reason
from models.record import Record
from models.record_states import NOBODY, TAKEN_BACK, OtpState, OtpType, PairingState, Status
from worker import audit
from worker.batches import commands
from worker.batches.commands import Batches, NotPossible, Replayed, WorkersLive, distrust_all
from worker.batches.finding import UnknownBatch
from worker.batches.upkeep import Upkeep
from worker.cli.doctor import check_keys
from worker.config.settings import Settings
from worker.fleet import GONE_AFTER, Processes
from worker.leases.lease import Claim, Leases
from worker.leases.replay import NotReplayed, Why, mend
from worker.pace.license_paces import PaceMemory
from worker.rules.breaker import Thresholds
from worker.rules.decisions import choose_first_step
from worker.rules.steps import Active, Decision, FindDevice, Limits, Progress, ReadDevice, Retry
from worker.vault import keys

AGAIN, HELD = Retry(0.0, is_counted=True, why="outcome_unknown"), Retry(0.0, is_counted=False, why="hold")
UNSENT, SENT, ANSWERED = OtpState
UNKNOWN = {"otp1_state": SENT, "otp1_posts": 1}
HALF_DONE = {"otp1_state": ANSWERED, "otp1_posts": 1}
EVERY_STATUS = [{"status": status} for status in Status]
FINISHED: list[dict[str, Any]] = [{"status": Status.ACTIVE}]


@pytest.fixture
def batches(database: MovingDatabase) -> Batches:
    return Batches(database, TESTER)


@pytest.fixture
def upkeep(database: MovingDatabase) -> Upkeep:
    return Upkeep(database, Thresholds())


def claim(database: MovingDatabase, leases: Leases, made: Made) -> Claim:
    enqueue(database, made)
    return leases.claim(made.id, ENVIRONMENT_ID)


def dead(*reasons: Reason, **columns: Any) -> list[dict[str, Any]]:
    return [{"status": Status.DEAD_LETTER, "reason": reason, **columns} for reason in reasons]


# Pause and resume.


def test_a_paused_batch_has_nothing_in_the_queue_and_what_is_in_flight_is_settled(
    database: MovingDatabase, leases: Leases, batches: Batches
) -> None:
    in_flight = make_batch(database, name="in flight")
    claimed = claim(database, leases, in_flight)
    made = make_batch(database, EVERY_STATUS)

    assert (batches.pause(made.name), batches.pause(in_flight.name)) == (1, 0)

    batch = look_at_batch(database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, PauseReason.PERSON)
    assert batch.detail == f"Paused by {TESTER.name}."
    assert statuses(database, made) == [Status.PENDING if status == Status.QUEUED else status for status in Status]
    assert leases.settle(claimed, claimed.progress.with_otp_answered(1), Active(), called(1))
    assert statuses(database, in_flight) == [Status.ACTIVE]


def test_a_resumed_batch_goes_on_where_it_was_and_one_that_runs_is_not_changed(
    database: MovingDatabase, leases: Leases, batches: Batches
) -> None:
    made = make_batch(database)
    enqueue(database, made)
    batches.pause(made.name)
    assert leases.claim(made.id, ENVIRONMENT_ID) is None
    database.ahead = 100

    batches.resume(made.name)

    batch = look_at_batch(database, made.batch_id)
    assert (batch.state, batch.reason, batch.detail) == (BatchState.RUNNING, None, None)
    assert batch.running_since - batch.created_at >= timedelta(seconds=100)
    database.ahead = 200
    batches.resume(made.name)
    assert look_at_batch(database, made.batch_id) == batch
    assert claim(database, leases, made).progress.attempts == 1


@pytest.mark.parametrize("state", BatchState)
def test_a_resume_may_lift_the_hold_of_the_batchs_license_unless_it_was_cancelled(
    database: MovingDatabase, batches: Batches, state: BatchState
) -> None:
    made, paces = make_batch(database, state=state), PaceMemory(database)
    is_resumed = state != BatchState.CANCELLED

    try:
        batches.resume(made.name, lift_in=lambda name, environment_id: f"license of {name} {environment_id}")
    except NotPossible:
        assert not is_resumed

    assert paces.read(f"license of default {ENVIRONMENT_ID}").is_to_be_lifted == is_resumed
    assert not paces.read("another").is_to_be_lifted


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


def test_a_cancelled_batch_is_not_paused_or_resumed_and_one_that_is_not_there_is_told_with_those_that_are(
    database: MovingDatabase, batches: Batches, upkeep: Upkeep
) -> None:
    made = make_batch(database, state=BatchState.CANCELLED, status=Status.CANCELLED)

    with pytest.raises(NotPossible, match="cancelled"):
        batches.pause(made.name)
    with pytest.raises(NotPossible, match="oathbulk replay shipment"):
        batches.resume(made.name)
    assert not upkeep.pause(made.batch_id, PauseReason.INTERNAL)
    assert look_at_batch(database, made.batch_id).state == BatchState.CANCELLED
    for command in (batches.pause, batches.resume, batches.cancel, batches.replay):
        with pytest.raises(UnknownBatch, match="shipment"):
            command("pallet 8")


def test_an_interrupted_run_hands_its_queue_back(database: MovingDatabase, batches: Batches) -> None:
    made = make_batch(database, 3)
    enqueue(database, made, room=2)

    assert batches.hand_back() == 2
    assert statuses(database, made) == [Status.PENDING] * 3
    assert look_at_batch(database, made.batch_id).state == BatchState.RUNNING


@pytest.mark.parametrize("state", [BatchState.RUNNING, BatchState.PAUSED])
def test_a_finished_batch_is_not_paused_resumed_or_cancelled(
    database: MovingDatabase, batches: Batches, state: BatchState
) -> None:
    made = make_batch(database, FINISHED * 2, state=state)
    before = look_at_batch(database, made.batch_id)

    for command, says in (
        (batches.pause, "there is nothing to pause"),
        (batches.resume, "nothing is left to do"),
        (batches.cancel, "nothing is left to do"),
    ):
        with pytest.raises(NotPossible, match=f"batch 'shipment' is finished: {says}"):
            command(made.name)
    assert look_at_batch(database, made.batch_id) == before


@pytest.mark.parametrize(
    ("record", "is_running"),
    [
        *(({"status": status}, True) for status in (Status.PENDING, Status.QUEUED, Status.ACTIVATING)),
        # Dead letters and what was undone are left to cancel.
        ({"status": Status.DEAD_LETTER, "reason": Reason.LOCKED}, False),
        ({"status": Status.CANCELLED}, False),
    ],
)
def test_one_record_that_is_not_final_is_enough_to_pause_and_one_that_is_not_active_to_cancel(
    database: MovingDatabase, batches: Batches, record: dict[str, Any], is_running: bool
) -> None:
    made = make_batch(database, [*FINISHED, record])
    make_batch(database, FINISHED, name="other")
    if is_running:
        batches.pause(made.name)
    else:
        with pytest.raises(NotPossible, match="there is nothing to pause"):
            batches.pause(made.name)

    batches.cancel(made.name)

    assert look_at_batch(database, made.batch_id).state == BatchState.CANCELLED


# Cancel.


def test_a_cancel_takes_everything_of_its_batch_that_no_worker_holds(
    database: MovingDatabase, batches: Batches
) -> None:
    made, other = make_batch(database, EVERY_STATUS), make_batch(database, EVERY_STATUS, name="other")

    assert batches.cancel(made.name) == 2

    assert look_at_batch(database, made.batch_id).state == BatchState.CANCELLED
    gone = (Status.PENDING, Status.QUEUED)
    assert statuses(database, made) == [Status.CANCELLED if status in gone else status for status in Status]
    assert (look(database, made.ids[0]).finalized_at is None, look(database, made.ids[1]).lease_until) == (False, None)
    assert statuses(database, other) == list(Status)


# How the attempt ends, by what is known then; None: the worker dies.
ENDS: dict[str, tuple[Callable[[Progress], Progress], Decision | None, Status]] = {
    "active": (lambda progress: progress.with_otp_answered(1), Active(), Status.ACTIVE),
    "nothing went out": (lambda progress: progress.with_otp_unsent(1), HELD, Status.CANCELLED),
    "of unknown fate": (lambda progress: progress, AGAIN, Status.PENDING),
    "dead": (lambda progress: progress, None, Status.PENDING),
}


@pytest.mark.parametrize(("progressed", "decision", "status"), ENDS.values(), ids=ENDS)
def test_a_cancelled_record_in_work_ends_active_where_pingone_made_it_so_and_else_cancelled_once_its_fate_is_known(
    database: MovingDatabase,
    leases: Leases,
    batches: Batches,
    progressed: Callable[[Progress], Progress],
    decision: Decision | None,
    status: Status,
) -> None:
    made = make_batch(database)
    claimed = claim(database, leases, made)
    assert (batches.cancel(made.name), statuses(database, made)) == (0, [Status.ACTIVATING])

    if decision:
        leases.settle(claimed, progressed(claimed.progress), decision, called(1))
    else:
        database.ahead = 61
        rescue(database)

    record = look(database, made.id)
    assert (record.status, record.lease_id, record.finalized_at is None) == (status, None, status == Status.PENDING)


def test_records_with_an_owed_read_are_not_cancelled(database: MovingDatabase, batches: Batches) -> None:
    owed = [UNKNOWN, HALF_DONE | {"otp2_state": SENT}, HALF_DONE | {"verdict": Reason.REJECTED}]
    made = make_batch(database, [*owed, UNKNOWN | {"status": Status.QUEUED}, HALF_DONE])

    assert batches.cancel(made.name) == 1

    assert statuses(database, made) == [Status.PENDING] * 3 + [Status.QUEUED, Status.CANCELLED]


# Replay.


def test_a_new_budget_does_not_make_an_unknown_outcome_known(
    database: MovingDatabase, leases: Leases, batches: Batches
) -> None:
    """An OTP got lost, and then the device could not be found."""
    seed = UNKNOWN | {"next_counter": 5, "has_second_otp": True}
    made = make_batch(database, dead(Reason.DEVICE_NOT_FOUND, **seed))
    assert batches.replay(made.name) == Replayed(records=1)
    claimed = claim(database, leases, made)
    assert (claimed.is_otp1_marked, claimed.progress.needs_read, claimed.progress.next_counter) == (False, True, 5)

    # Without the device there is nothing to read: another one is made, and gets an OTP.
    gone = make_batch(database, dead(Reason.DEVICE_NOT_FOUND, device_id="", **seed), name="gone")
    batches.replay(gone.name)
    assert look(database, gone.id).otp1_state == OtpState.UNSENT


@pytest.mark.parametrize("columns", [{}, UNKNOWN])
def test_a_replay_puts_dead_letters_back_with_a_new_budget_and_forgets_nothing_about_their_otps(
    database: MovingDatabase, leases: Leases, batches: Batches, columns: dict[str, Any]
) -> None:
    later = database.read_clock() + timedelta(hours=1)
    spent = {"attempts": 8, "not_found": 4, "scheduled_at": later} | columns
    made = make_batch(database, dead(Reason.ATTEMPTS_SPENT, **spent), state=BatchState.PAUSED)

    assert batches.replay(made.name) == Replayed(records=1)

    record = look(database, made.id)
    assert (record.status, record.reason, record.detail, record.finalized_at) == (Status.PENDING, None, None, None)
    assert (record.attempts, record.attempts_forgiven, record.not_found) == (8, 8, 0)
    batch = look_at_batch(database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.RUNNING, None)
    # It is due at once.
    claimed = claim(database, leases, made)
    assert (claimed.progress.attempts, claimed.is_otp1_marked, claimed.progress.needs_read) == (1, not columns, True)
    assert look(database, made.id).otp1_posts == 1


@pytest.mark.parametrize(
    ("reason", "columns", "goes_again"),
    [
        (Reason.ATTEMPTS_SPENT, UNKNOWN, True),
        (Reason.ATTEMPTS_SPENT, HALF_DONE, True),
        (Reason.DEVICE_NOT_FOUND, {}, True),
        (Reason.LOCKED, {}, True),
        (Reason.BLOCKED, {"otp1_posts": 1}, True),
        (Reason.LOCKED, HALF_DONE, False),
        (Reason.INVALID_OTP, HALF_DONE, False),
        (Reason.RESYNC_FAILED, HALF_DONE | {"otp2_state": ANSWERED, "otp2_posts": 1}, False),
        (Reason.SECOND_OTP_MISSING, HALF_DONE, False),
        (Reason.STALE_OTP, {}, False),
        (Reason.BUDGET_SPENT, {"otp1_posts": 2}, False),
    ],
)
def test_only_otps_that_may_still_be_sent_go_again(
    database: MovingDatabase, batches: Batches, reason: Reason, columns: dict[str, Any], goes_again: bool
) -> None:
    made = make_batch(database, dead(reason, **columns), state=BatchState.PAUSED)

    stays = NotReplayed(1, reason, Why.FRESH_OTPS)
    assert batches.replay(made.name) == (Replayed(1) if goes_again else Replayed(0, (stays,)))
    assert statuses(database, made) == [Status.PENDING if goes_again else Status.DEAD_LETTER]
    assert look_at_batch(database, made.batch_id).state == (BatchState.RUNNING if goes_again else BatchState.PAUSED)


def test_a_seed_that_was_erased_makes_no_otps_and_is_told_as_erased(database: MovingDatabase, batches: Batches) -> None:
    made = make_batch(database, [{"status": Status.CANCELLED, "next_counter": 7, "otps": None}])

    assert batches.replay(made.name) == Replayed(0, (NotReplayed(1, Status.CANCELLED, Why.SEED_ERASED),))


def test_a_replay_takes_a_cancel_back_and_never_touches_what_is_active_or_on_its_way(
    database: MovingDatabase, batches: Batches
) -> None:
    made = make_batch(database, EVERY_STATUS[:2])
    batches.cancel(made.name)
    on_its_way = [Status.PENDING, Status.QUEUED, Status.ACTIVATING, Status.ACTIVE]
    other = make_batch(database, [{"status": status} for status in on_its_way], name="other")

    assert (batches.replay(made.name).records, batches.replay(other.name).records) == (2, 0)

    assert statuses(database, made) == [Status.PENDING] * 2
    assert look_at_batch(database, made.batch_id).state == BatchState.RUNNING
    assert statuses(database, other) == on_its_way


def test_a_cancel_and_a_replay_of_a_large_batch_are_told_as_they_begin(
    monkeypatch: pytest.MonkeyPatch, database: MovingDatabase, batches: Batches
) -> None:
    monkeypatch.setattr(commands, "MANY", 2)
    made, heard = make_batch(database, 3), Heard()

    assert batches.cancel(made.name, on_progress=heard) == 3
    assert batches.replay(made.name, on_progress=heard) == Replayed(3)

    assert heard == [("Canceling a batch of 3 rows", 0, None), ("Replaying a batch of 3 rows", 0, None)]


@pytest.mark.parametrize("column", ["serial_number", "device_id"])
def test_a_token_that_was_loaded_again_is_replayed_there_only(
    database: MovingDatabase, batches: Batches, column: str
) -> None:
    first = make_batch(database, [*dead(*[Reason.ATTEMPTS_SPENT] * 5), {"status": Status.CANCELLED}], name="first")
    serials = [{column: getattr(look(database, record_id), column)} for record_id in first.ids]
    elsewhere = [status for status in Status if status != Status.QUEUED] + [Status.ACTIVE]
    again = [serial | {"status": status} for serial, status in zip(serials, elsewhere, strict=True)]
    make_batch(database, again, name="second", otp1_posts=1)

    assert batches.replay("first") == Replayed(
        0,
        (
            NotReplayed(3, Reason.ATTEMPTS_SPENT, Why.LOADED_AGAIN, "second"),
            NotReplayed(2, Reason.ATTEMPTS_SPENT, Why.IN_PROGRESS, "second"),
            NotReplayed(1, Status.CANCELLED, Why.LOADED_AGAIN, "second"),
        ),
    )
    assert statuses(database, first) == [Status.DEAD_LETTER] * 5 + [Status.CANCELLED]


def test_a_device_that_a_slip_gave_to_another_token_is_replayed_where_nothing_went_out_for_that(
    database: MovingDatabase, batches: Batches
) -> None:
    first = make_batch(database, dead(Reason.ATTEMPTS_SPENT), name="first")
    make_batch(database, [{"device_id": look(database, first.id).device_id}], name="slip")
    batches.cancel("slip")
    assert batches.replay_transient() == 1


def test_a_token_goes_again_once_an_undo_took_it_from_another_batch(database: MovingDatabase, batches: Batches) -> None:
    now = database.read_clock()
    undone = {"status": Status.CANCELLED, "reason": TAKEN_BACK, "finalized_at": now}
    earlier = make_batch(database, [undone], name="earlier")
    before = {"finalized_at": now - timedelta(minutes=1)}
    same = {"serial_number": look(database, earlier.id).serial_number} | before
    later = make_batch(database, dead(Reason.TOKEN_TAKEN, **same), name="later")
    assert batches.replay(later.name).records == 1


def test_a_token_that_went_again_in_an_earlier_batch_is_not_replayed_in_a_later_one(
    database: MovingDatabase, leases: Leases, batches: Batches
) -> None:
    """Its OTPs were brought to the earlier batch instead, and answered there."""
    first = make_batch(database, dead(Reason.ATTEMPTS_SPENT), name="first")
    make_batch(database, [{"serial_number": look(database, first.id).serial_number}], name="second")
    batches.cancel("second")
    database.ahead = 60
    with database.changing_many() as connection:
        mend(database, connection, Status.DEAD_LETTER, [{"this_id": first.id}])
    claimed = claim(database, leases, first)
    assert leases.settle(claimed, claimed.progress.with_otp_answered(1), Active(), called(1))

    stays = NotReplayed(1, Status.CANCELLED, Why.LOADED_AGAIN, "first")
    assert batches.replay("second") == Replayed(0, (stays,))


@pytest.mark.parametrize("column", ["device_id", "serial_number"])
def test_a_device_or_token_in_progress_elsewhere_in_its_environment_is_not_replayed_but_the_later_load_is(
    database: MovingDatabase, batches: Batches, column: str
) -> None:
    first = make_batch(database, dead(Reason.ATTEMPTS_SPENT), name="first")
    same = {column: getattr(look(database, first.id), column)}
    make_batch(database, [same], name="elsewhere", environment_id="9d0c5f40-2f4c-4f39-8b59-0d5b0a2f6c02")
    make_batch(database, name="second", **same)

    stays = NotReplayed(1, Reason.ATTEMPTS_SPENT, Why.IN_PROGRESS, "second")
    assert batches.replay("first") == Replayed(0, (stays,))
    batches.cancel("second")
    assert batches.replay("second") == Replayed(records=1)


def test_a_replay_of_a_reason_tells_of_each_dead_letter_of_it_that_stays_why(
    database: MovingDatabase, batches: Batches
) -> None:
    locked = dead(*[Reason.LOCKED] * 6, **HALF_DONE)
    made = make_batch(database, [*locked, *dead(Reason.LOCKED, Reason.INVALID_OTP), {"status": Status.CANCELLED}])
    first, second, third = ({"serial_number": look(database, made.ids[place]).serial_number} for place in range(3))
    make_batch(database, [first | FINISHED[0], second | FINISHED[0]], name="second")
    make_batch(database, [second | {"status": Status.QUEUED}], name="third")
    make_batch(database, [third], name="elsewhere", environment_id="9d0c5f40-2f4c-4f39-8b59-0d5b0a2f6c02")

    assert batches.replay(made.name, [Reason.LOCKED]) == Replayed(
        1,
        (
            NotReplayed(4, Reason.LOCKED, Why.FRESH_OTPS),
            NotReplayed(1, Reason.LOCKED, Why.IN_PROGRESS, "third"),
            NotReplayed(1, Reason.LOCKED, Why.LOADED_AGAIN, "second"),
        ),
    )
    assert statuses(database, made) == [Status.DEAD_LETTER] * 6 + [Status.PENDING, Status.DEAD_LETTER, Status.CANCELLED]


# A database that was restored from a backup is met with distrust.

SETTINGS = Settings()
BUDGET, OVER_AFTER = SETTINGS.otp_post_budget, SETTINGS.tuning.over_after
SKIPPED = 2 * BUDGET - 1
COLUMNS = ("otp1_state", "otp1_posts", "otp2_state", "otp2_posts", "next_counter", "pairing", "pairings", "verdict")


def otps(first: OtpState, posts: int, second: OtpState = UNSENT, more: int = 0) -> dict[str, Any]:
    return {"otp1_state": first, "otp1_posts": posts, "otp2_state": second, "otp2_posts": more}


def unpaired(state: PairingState = PairingState.UNSENT, pairings: int = 0) -> dict[str, Any]:
    return {"device_id": "", "owner_id": NOBODY, "pairing": state, "pairings": pairings}


BOTH = otps(SENT, 1, SENT)
ASKED = {"pairing": PairingState.SENT, "pairings": 1}
# Of a record that is not final: its columns in the backup, and those that differ afterwards.
STATES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing went out": ({}, otps(SENT, 1)),
    "OTP 1 went out": (otps(SENT, 1), {}),
    "OTP 1 was lost, and the device waits": (otps(UNSENT, 1), otps(SENT, 2)),
    "half done": (HALF_DONE, otps(ANSWERED, 1, SENT, 1)),
    "half done, OTP 2 was lost, and the device waits": (otps(ANSWERED, 1, UNSENT, 1), otps(ANSWERED, 1, SENT, 2)),
    "OTP 2 went out": (otps(ANSWERED, 1, SENT, 1), {}),
    "OTP 1 was refused": (HALF_DONE | {"verdict": Reason.INVALID_OTP}, {}),
    "OTP 2 was refused": (otps(ANSWERED, 1, ANSWERED, 1) | {"verdict": Reason.RESYNC_FAILED}, {}),
    "no second OTP": ({"has_second_otp": False}, otps(SENT, 1)),
    "a seed": ({"next_counter": 7}, BOTH | {"next_counter": 7 + SKIPPED}),
    "a seed, and OTP 1 went out": (otps(SENT, 1) | {"next_counter": 8}, BOTH | {"next_counter": 8 + SKIPPED}),
    "a seed, half done": (HALF_DONE | {"next_counter": 8}, BOTH | {"next_counter": 8 + SKIPPED}),
    "a seed, and OTP 2 went out": (
        otps(ANSWERED, 1, SENT, 1) | {"next_counter": 9},
        otps(SENT, 1, SENT, 1) | {"next_counter": 9 + SKIPPED},
    ),
    "a seed, lost and read": (
        otps(UNSENT, 1) | {"next_counter": 9},
        otps(SENT, 2, SENT) | {"next_counter": 9 + SKIPPED},
    ),
    "a TOTP seed goes by the time": ({"next_counter": 56_000_000, "otp_type": OtpType.TOTP}, BOTH),
    "not paired": (unpaired(), otps(SENT, 1) | ASKED),
    "not paired, with a seed": (unpaired() | {"next_counter": 7}, BOTH | {"next_counter": 7 + SKIPPED} | ASKED),
    "a pairing went out": (unpaired(PairingState.SENT, 1), otps(SENT, 1)),
    "looked up once": (unpaired(PairingState.MISSED, 1), otps(SENT, 1) | ASKED),
    "looked up twice": (unpaired(pairings=1), otps(SENT, 1) | ASKED | {"pairings": 2}),
    "paired": ({"pairing": PairingState.PAIRED, "pairings": 1}, otps(SENT, 1)),
    "not prepared": (unpaired() | {"is_in_inventory": False, "owner_id": None, "user_id": ""}, otps(SENT, 1) | ASKED),
}


def let_pair(database: MovingDatabase) -> None:
    database.change(update(Batch).values(may_pair=True, inventory_read_at=database.now()))


def read_columns(database: MovingDatabase, record_id: int) -> dict[str, Any]:
    record = look(database, record_id)
    return {name: getattr(record, name) for name in COLUMNS}


def distrust(database: MovingDatabase, *heard: Any) -> int:
    return distrust_all(database, SETTINGS, TESTER, *heard)[0]


@ON_SQLITE
@pytest.mark.parametrize("state", STATES)
def test_what_may_have_gone_out_is_marked_as_sent_and_typed_again_nothing_more(
    database: MovingDatabase, leases: Leases, state: str
) -> None:
    before, differing = STATES[state]
    made = make_batch(database, [before])
    let_pair(database)
    expected = read_columns(database, made.id) | differing
    clock = database.read_clock()

    assert distrust(database) == (1 if differing else 0)
    assert read_columns(database, made.id) == expected
    assert look(database, made.id).scheduled_at >= clock + timedelta(seconds=OVER_AFTER)
    # Before anything is imported the inventory is read again.
    assert look_at_batch(database, made.batch_id).inventory_read_at is None
    database.ahead += 10
    assert distrust(database) == 0
    assert read_columns(database, made.id) == expected

    if look(database, made.id).is_in_inventory:
        database.ahead += OVER_AFTER + 1
        claimed = claim(database, leases, made)
        step = choose_first_step(claimed.progress, Limits())[1]
        assert step == (ReadDevice() if claimed.device_id else FindDevice())


@ON_SQLITE
@pytest.mark.parametrize("status", [Status.QUEUED, Status.ACTIVATING])
def test_who_had_a_record_in_hand_has_lost_it_however_long_the_lease_lasts(
    database: MovingDatabase, status: Status
) -> None:
    later = database.read_clock() + timedelta(hours=1)
    made = make_batch(database, [{"status": status, "lease_until": later}])

    assert distrust(database) == 1

    record = look(database, made.id)
    assert (record.status, record.lease_id, record.lease_until) == (Status.PENDING, None, None)
    assert (record.otp1_state, record.otp1_posts) == (SENT, 1)
    assert [line.outcome for line in attempts(database, made.id)] == ["lost"] * (status == Status.ACTIVATING)


@ON_SQLITE
@pytest.mark.parametrize("state", BatchState)
def test_what_is_final_stays_and_so_do_the_state_of_a_batch_and_what_is_due_later_or_may_not_be_paired(
    database: MovingDatabase, state: BatchState
) -> None:
    later = database.read_clock().replace(microsecond=0) + timedelta(hours=1)
    final = [{"status": status} for status in (Status.ACTIVE, Status.DEAD_LETTER, Status.CANCELLED)]
    made = make_batch(database, [*final, unpaired() | {"scheduled_at": later}], state=state)
    before = [look(database, record_id) for record_id in made.ids]

    assert distrust(database) == 1

    assert [look(database, record_id) for record_id in made.ids[:3]] == before[:3]
    record = look(database, made.ids[3])
    assert (record.scheduled_at, record.pairing) == (later, PairingState.UNSENT)
    assert look_at_batch(database, made.batch_id).state == state


ON_THE_TABLE = unpaired() | {"is_in_inventory": False, "owner_id": None, "user_id": ""}
NOT_LOOKED_UP = ON_THE_TABLE | {"username": "ada"}


def test_whose_user_was_not_looked_up_waits_for_that_before_anything_is_read(
    database: MovingDatabase, scripted_fleet: ScriptedFleet
) -> None:
    made = make_batch(database, [NOT_LOOKED_UP, {}])
    let_pair(database)
    distrust(database)
    database.ahead += OVER_AFTER + 1
    assert scripted_fleet.tick() == [made.ids[1]]


def test_what_was_not_prepared_is_read_and_ends_where_its_batch_is_cancelled(
    database: MovingDatabase, batches: Batches, scripted_fleet: ScriptedFleet
) -> None:
    made = make_batch(database, [NOT_LOOKED_UP, NOT_LOOKED_UP | {"user_id": "user-1"}])
    let_pair(database)
    distrust(database)
    batches.cancel(made.name)
    database.ahead += OVER_AFTER + 1
    assert sorted(scripted_fleet.tick()) == sorted(made.ids)


@pytest.mark.parametrize("where", [(), ("site=Oslo",)])
def test_what_lies_on_the_table_ends_at_once_since_nobody_has_a_device_to_read(
    database: MovingDatabase, batches: Batches, where: tuple[str, ...]
) -> None:
    made = make_batch(database, [ON_THE_TABLE | {"device_id": "device", "extra": {"site": "Oslo"}}])
    database.change(update(Batch).values(columns=["serial", "site"]))
    let_pair(database)
    distrust(database)
    assert batches.cancel(made.name, where) == 1
    assert statuses(database, made) == [Status.CANCELLED]


@ON_SQLITE
def test_a_device_that_was_made_since_counts_as_the_batch_s(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, [unpaired()])
    let_pair(database)
    database.ahead = 3600
    distrust(database)
    database.ahead += OVER_AFTER + 1
    found = claim(database, leases, made).progress.pairing.found("device", is_made=True)
    lasts = timedelta(seconds=OVER_AFTER)
    assert found.with_age(timedelta(minutes=30), lasts).is_made
    # Before the batch began to run, none of its requests can have made one.
    assert not found.with_age(timedelta(hours=2), lasts).is_made


@ON_SQLITE
def test_beside_a_worker_that_lives_nothing_is_changed(database: MovingDatabase) -> None:
    made = make_batch(database)
    before = look(database, made.id)
    Processes(database, "host:4711").show_life()
    with pytest.raises(WorkersLive, match="1 worker process is alive: host:4711"):
        distrust(database)
    assert look(database, made.id) == before
    database.ahead += GONE_AFTER + 1
    assert distrust(database) == 1


@ON_SQLITE
def test_it_goes_on_where_it_was_interrupted_and_each_command_is_in_the_audit(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seed goes on behind every counter that its budget can have used: each post may have been lost, and after each a
    counter was left out."""
    monkeypatch.setattr(commands, "CHUNK", 2)
    made, heard = make_batch(database, 5, next_counter=7), Heard()
    since = Progress(next_counter=7)
    for _ in range(BUDGET):
        used = since.next_counter
        since = since.with_otp_sent(1, used).with_device_waiting()

    def interrupt(*told: Any) -> None:
        heard(*told)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distrust(database, interrupt)
    assert distrust(database, heard) == 3

    (counter,) = {look(database, record_id).next_counter for record_id in made.ids}
    assert (counter, counter > used) == (7 + SKIPPED, True)
    assert heard == [("Marking records", done, total) for done, total in [(2, 5), (0, 3), (2, 3)]]
    told = [(line.actor, line.action, line.facts) for line in audit_lines.read(database)]
    assert told == [(TESTER.name, "db restored", {"records": number}) for number in (5, 3)]


# The encryption key is changed.

OLD, NEW, THIRD = generate_key(), generate_key(), generate_key()
BEFORE, ROTATING, AFTER = Keyring([OLD]), Keyring([NEW, OLD]), Keyring([NEW])


def reencrypt(database: MovingDatabase, keyring: Keyring, *heard: Any) -> int:
    def write_down(connection: Connection, records: int) -> None:
        audit.append(database, connection, TESTER, Action.REENCRYPT, None, {"records": records})

    return keys.reencrypt(database, keyring, write_down, *heard)


def read_records(database: MovingDatabase, made: Made) -> list[Any]:
    return [look(database, record_id) for record_id in made.ids]


def test_every_pair_opens_with_the_new_key_alone_and_nothing_but_the_seal_changes(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "CHUNK", 2)
    made, heard = make_batch(database, EVERY_STATUS, keyring=BEFORE), Heard()
    before = read_records(database, made)

    assert reencrypt(database, ROTATING, heard) == 5

    assert heard == [("Encrypting records", done, 5) for done in (2, 4, 5)]
    after = read_records(database, made)
    # What was erased stays so.
    pairs = [record.otps and opened(record, AFTER) for record in after]
    assert pairs == [record.otps and pair_of(number) for number, record in enumerate(before)]
    with pytest.raises(DecryptionError):
        opened(after[0], BEFORE)
    without_seals = [[{**record._asdict(), "otps": None} for record in records] for records in (before, after)]
    assert without_seals[0] == without_seals[1]

    # A second one finds nothing to do, and has no line in the audit.
    assert (reencrypt(database, ROTATING), reencrypt(database, AFTER)) == (0, 0)
    assert read_records(database, made) == after
    (line,) = audit_lines.read(database)
    assert (line.actor, line.action, line.batch, line.facts) == ("tester", "db reencrypt", None, {"records": 5})


@ON_SQLITE
def test_a_rotation_that_fails_half_way_was_written_down_and_one_that_cannot_be_changes_nothing(
    database: MovingDatabase,
) -> None:
    """It fails at a pair that was copied to another row."""
    made = make_batch(database, 2, keyring=BEFORE)
    sealed = look(database, made.ids[0]).otps
    database.change(update(Record).where(Record.id == made.ids[1]).values(otps=sealed))
    with pytest.raises(DecryptionError, match="do not belong to this record"):
        reencrypt(database, ROTATING)
    assert [line.action for line in audit_lines.read(database)] == ["db reencrypt"]

    audit_lines.refuse_lines(database)
    with pytest.raises(DBAPIError, match="no room"):
        reencrypt(database, ROTATING)
    assert look(database, made.ids[1]).otps == sealed


@ON_SQLITE
def test_a_key_that_is_missing_is_told_at_the_end_and_the_rest_is_done_once_that_is_there(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "CHUNK", 2)
    lost = make_batch(database, name="lost", keyring=Keyring([THIRD]))
    known = make_batch(database, 2, name="known", keyring=BEFORE)

    told = (
        f"1 record stays as it was; the first: token {look(database, lost.id).serial_number} of batch 'lost': the key"
    )
    with pytest.raises(DecryptionError, match=f"{told}.* OATHBULK_ENCRYPTION_KEYS"):
        reencrypt(database, ROTATING)
    assert [opened(record, AFTER) for record in read_records(database, known)] == [pair_of(0), pair_of(1)]
    assert opened(look(database, lost.id), Keyring([THIRD])) == pair_of(0)

    assert reencrypt(database, Keyring([NEW, OLD, THIRD])) == 1
    assert opened(look(database, lost.id), AFTER) == pair_of(0)


@ON_SQLITE
def test_what_was_erased_meanwhile_is_not_told_as_lost(database: MovingDatabase) -> None:
    lost = make_batch(database, name="lost", keyring=Keyring([THIRD]))
    make_batch(database, 2, name="known", keyring=BEFORE)

    def erase(*_: object) -> None:
        database.change(update(Record).where(Record.id == lost.id).values(otps=None))

    assert reencrypt(database, ROTATING, erase) == 2


def test_doctor_tries_the_keys_on_what_each_of_them_has_encrypted(database: MovingDatabase) -> None:
    for name, keyring in (("first", BEFORE), ("later", AFTER)):
        make_batch(database, 2, name=name, keyring=keyring)
    assert check_keys(Mock(keyring=ROTATING, database=database), opens=True).is_well
    with pytest.raises(DecryptionError):
        check_keys(Mock(keyring=AFTER, database=database), opens=True)


@ON_SQLITE
def test_the_former_seals_are_gone_from_sqlites_files_while_others_work_with_it(
    database: MovingDatabase, tmp_path: Path
) -> None:
    made = make_batch(database, 50, keyring=BEFORE)
    former = [record.otps for record in read_records(database, made)]
    with closing(sqlite3.connect(tmp_path / "oathbulk.db")) as another:
        another.execute("SELECT count(*) FROM record").fetchone()

        reencrypt(database, ROTATING)

        found = file_bytes(tmp_path)
    assert [seal for seal in former if seal in found] == []
