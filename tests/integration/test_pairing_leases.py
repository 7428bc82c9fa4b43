"""Records without a device on both databases: claimed, marked, settled, rescued, stopped, and replayed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, enqueue, look, look_at_batch, make_batch, rescue
from support.data.moving_clock import MovingDatabase

from models.batch import Batch, BatchState
from models.reason import Reason
from models.record_states import NOBODY, OtpState, PairingState, Status
from worker.batches.commands import Batches, Replayed
from worker.leases.queue import Queue
from worker.leases.settlement import CallSummary, Claim
from worker.leases.worker import Leases
from worker.rules.progress import Active, DeadLetter, OtpProgress, PairingProgress, Retry, SentAgo

UNSENT, SENT, MISSED, PAIRED = PairingState
LATER = Retry(5.0, is_counted=True, why="outcome_unknown")
OPEN_STATES = [SENT, MISSED]


@pytest.fixture
def batches(database: MovingDatabase) -> Batches:
    return Batches(database, TESTER)


def make(database: MovingDatabase, *, may_pair: bool = True, records: int = 1, **columns: Any) -> Made:
    made = make_batch(database, records, **({"device_id": "", "owner_id": NOBODY} | columns))
    with database.writing() as connection:
        mine = update(Batch).where(Batch.id == made.batch_id)
        connection.execute(mine.values(may_pair=may_pair, inventory_read_at=database.now()))
    return made


def claim(database: MovingDatabase, leases: Leases, made: Made) -> Claim:
    enqueue(database, made)
    claimed = leases.claim(made.id, ENVIRONMENT_ID)
    assert claimed is not None
    return claimed


def claim_new(database: MovingDatabase, leases: Leases, **columns: Any) -> Claim:
    return claim(database, leases, make(database, **columns))


# Claiming.


def test_a_claim_tells_how_long_ago_the_pairing_was_sent(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases)
    assert claimed.progress.pairing.sent_ago == SentAgo(timedelta(0), timedelta(0))
    database.ahead += 3600.0
    assert rescue(database, over_after=100.0) == 1
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE record SET pairing = 'unsent'")
    again = claim(database, leases, Made(claimed.batch_id, "", [claimed.record_id]))
    assert leases.mark_pairing(again)
    database.ahead += 300.0
    assert rescue(database, over_after=100.0) == 1
    sent_ago = claim(database, leases, Made(claimed.batch_id, "", [claimed.record_id])).progress.pairing.sent_ago
    assert sent_ago is not None
    assert timedelta(seconds=3899) < sent_ago.first < timedelta(seconds=3960)
    assert timedelta(seconds=299) < sent_ago.last < timedelta(seconds=330)


def test_the_claim_of_a_fresh_record_without_a_device_marks_its_pairing(
    database: MovingDatabase, leases: Leases
) -> None:
    claimed = claim_new(database, leases)
    assert (claimed.is_pairing_marked, claimed.is_otp1_marked, claimed.device_id) == (True, False, "")
    assert claimed.progress.pairing == PairingProgress(SENT, pairings=1, was_free=True, is_allowed=True)
    record = look(database, claimed.record_id)
    assert (record.pairing, record.pairings, record.otp1_state, record.otp1_posts) == (SENT, 1, OtpState.UNSENT, 0)
    assert record.otp_sent_at is not None


@pytest.mark.parametrize(
    "columns",
    [
        {"may_pair": False},
        {"pairing": SENT, "pairings": 1},
        {"pairing": MISSED, "pairings": 1},
        {"pairings": 1},
        {"not_found": 1},
        {"verdict": Reason.REJECTED},
        {"otp1_posts": 1},
        {"attempts": 8},
    ],
)
def test_a_record_of_which_more_is_known_is_claimed_without_a_mark(
    database: MovingDatabase, leases: Leases, columns: dict[str, Any]
) -> None:
    made = make(database, **columns)
    before = look(database, made.id)
    claimed = claim(database, leases, made)
    record = look(database, claimed.record_id)
    assert not claimed.is_pairing_marked
    assert not claimed.is_otp1_marked
    assert (record.pairing, record.pairings) == (before.pairing, before.pairings)
    assert claimed.progress.pairing.is_allowed is columns.get("may_pair", True)


@pytest.mark.parametrize(
    ("columns", "is_read_first", "is_marked"),
    [
        ({"owner_id": "user-1"}, True, False),
        ({"owner_id": "user-1", "otp1_posts": 1, "otp1_state": OtpState.SENT}, False, False),
        ({"owner_id": "user-1", "pairing": PAIRED}, False, True),
        ({"owner_id": NOBODY}, False, True),
        ({"owner_id": None}, False, True),
        # So a version before loaded the devices of a file.
        ({"owner_id": None, "pairing": UNSENT}, True, False),
    ],
)
def test_a_device_that_the_inventory_showed_is_read_before_an_otp_is_spent_on_it(
    database: MovingDatabase, leases: Leases, columns: dict[str, Any], is_read_first: bool, is_marked: bool
) -> None:
    """It may be ACTIVE already. One that the file names, or that was read, is not read again."""
    claimed = claim_new(database, leases, device_id="device-1", **columns)
    assert (claimed.progress.pairing.state == SENT) is is_read_first
    assert claimed.is_otp1_marked is is_marked


def test_a_stale_record_is_not_marked(database: MovingDatabase, leases: Leases) -> None:
    made = make(database, otp_expires_at=database.read_clock())
    assert not claim(database, leases, made).is_pairing_marked


@pytest.mark.parametrize("columns", [{"user_id": ""}, {"is_in_inventory": False}])
def test_a_record_that_is_not_prepared_is_not_due(database: MovingDatabase, columns: dict[str, Any]) -> None:
    made = make(database, **columns)
    assert enqueue(database, made) == []


# Writing down.


def test_a_pairing_is_marked_once(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases, not_found=1)
    assert leases.mark_pairing(claimed)
    assert not leases.mark_pairing(claimed)
    record = look(database, claimed.record_id)
    assert (record.pairing, record.pairings) == (SENT, 1)


@pytest.mark.parametrize("state", [BatchState.PAUSED, BatchState.CANCELLED])
def test_no_pairing_is_marked_in_a_batch_that_was_stopped(
    database: MovingDatabase, leases: Leases, state: BatchState
) -> None:
    claimed = claim_new(database, leases, not_found=1)
    with database.writing() as connection:
        connection.execute(update(Batch).values(state=state))
    assert not leases.mark_pairing(claimed)
    assert not leases.renew_mark(claimed)


def test_without_the_lease_nothing_is_marked_or_written(database: MovingDatabase, leases: Leases) -> None:
    claimed = replace(claim_new(database, leases, not_found=1), lease_id="another")
    assert not leases.mark_pairing(claimed)
    paired = replace(claimed.progress, pairing=claimed.progress.pairing.paired("device-1", is_made=True))
    assert not leases.write_progress(claimed, paired)
    assert look(database, claimed.record_id).device_id == ""


def test_a_device_is_written_down_before_its_first_otp(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases)
    progress = replace(claimed.progress, pairing=claimed.progress.pairing.paired("device-1", is_made=True))
    assert leases.write_progress(claimed, progress)
    record = look(database, claimed.record_id)
    assert (record.device_id, record.pairing, record.is_device_made) == ("device-1", PAIRED, True)
    assert leases.mark_sent(claimed, 1)
    assert leases.settle(claimed, progress.with_otp_sent(1).with_otp_answered(1), Active(), CallSummary(2))
    record = look(database, claimed.record_id)
    assert (record.status, record.device_id, record.is_device_made, record.otps) == (
        Status.ACTIVE,
        "device-1",
        True,
        None,
    )


def test_what_a_look_up_finds_free_is_written_down_and_an_owner_is_kept_otherwise(
    database: MovingDatabase, leases: Leases
) -> None:
    for was_free, owner in ((True, NOBODY), (False, "somebody")):
        made = make(database, name=f"free {was_free}", owner_id="somebody", pairing=MISSED, pairings=1)
        claimed = claim(database, leases, made)
        progress = replace(claimed.progress, pairing=replace(claimed.progress.pairing, state=UNSENT, was_free=was_free))
        assert leases.settle(claimed, progress, LATER, CallSummary())
        assert look(database, made.id).owner_id == owner


def test_a_device_that_is_gone_is_forgotten(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases, device_id="device-1", not_found=4, is_device_made=True, pairing=PAIRED)
    progress = replace(claimed.progress, pairing=claimed.progress.pairing.without_device())
    assert leases.settle(claimed, progress, DeadLetter(Reason.DEVICE_NOT_FOUND), CallSummary())
    record = look(database, claimed.record_id)
    assert (record.device_id, record.is_device_made, record.pairing) == ("", False, UNSENT)


def test_a_device_of_the_file_counts_as_paired_and_as_not_ours(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases, not_found=1, owner_id=None, device_id="device-1")
    assert claimed.progress.pairing == PairingProgress(PAIRED, "device-1", is_allowed=True)


# What ends otherwise.


@pytest.mark.parametrize("state", OPEN_STATES)
def test_a_worker_that_died_after_a_mark_leaves_its_record_to_a_look_up_and_not_too_early(
    database: MovingDatabase, leases: Leases, state: PairingState
) -> None:
    claimed = claim_new(database, leases)
    database.ahead += 61.0
    assert rescue(database, over_after=3625.0) == 1
    record = look(database, claimed.record_id)
    assert (record.status, record.pairing, record.pairings) == (Status.PENDING, SENT, 1)
    assert record.scheduled_at > database.read_clock(), "it is looked up while the request may still run"
    with database.writing() as connection:
        connection.exec_driver_sql(f"UPDATE record SET pairing = '{state}'")
    database.ahead += 3600.0
    again = claim(database, leases, Made(record.batch_id, "", [record.id]))
    assert not again.is_pairing_marked
    assert again.progress.needs_read


@pytest.mark.parametrize("state", OPEN_STATES)
def test_a_cancelled_batch_still_looks_up_a_pairing_of_unknown_fate(
    database: MovingDatabase, leases: Leases, batches: Batches, state: PairingState
) -> None:
    made = make(database, records=1, pairing=state, pairings=1)
    batches.cancel(made.name)
    assert look(database, made.id).status == Status.PENDING
    with database.writing() as connection:
        assert Queue(database).enqueue_reads(connection, made.batch_id, 10, 60.0) == [made.id]
    claimed = leases.claim(made.id, ENVIRONMENT_ID)
    assert claimed is not None
    assert leases.may_read(claimed)
    missed = replace(claimed.progress, pairing=replace(claimed.progress.pairing, state=UNSENT))
    assert leases.settle(claimed, missed, LATER, CallSummary())
    assert look(database, made.id).status == Status.CANCELLED


@pytest.mark.parametrize("columns", [{}, {"user_id": ""}, {"is_in_inventory": False}, {"pairing": UNSENT}])
def test_a_cancelled_batch_ends_what_was_not_paired(
    database: MovingDatabase, batches: Batches, columns: dict[str, Any]
) -> None:
    made = make(database, **columns)
    batches.cancel(made.name)
    assert look(database, made.id).status == Status.CANCELLED


def test_a_batch_that_is_paused_during_a_lost_pairing_keeps_it_open(
    database: MovingDatabase, leases: Leases, batches: Batches
) -> None:
    made = make(database)
    claimed = claim(database, leases, made)
    batches.pause(made.name)
    assert leases.settle(claimed, claimed.progress, LATER, CallSummary(1))
    record = look(database, made.id)
    assert (record.status, record.pairing) == (Status.PENDING, SENT)


# Replay.


INVENTORY_REASONS = [
    Reason.TOKEN_NOT_IN_INVENTORY,
    Reason.TOKEN_DIFFERS,
    Reason.TOKEN_TAKEN,
    Reason.TOKEN_REFUSED,
]


@pytest.mark.parametrize("reason", INVENTORY_REASONS)
def test_a_replay_looks_for_a_token_again_that_the_inventory_stood_in_the_way_of(
    database: MovingDatabase, batches: Batches, reason: Reason
) -> None:
    dead = {"status": Status.DEAD_LETTER, "reason": reason, "detail": "why", "pairings": 2, "import_job_id": 7}
    made = make(database, **dead, owner_id="somebody", device_id="device-1", is_in_inventory=True)
    assert batches.replay(made.name) == Replayed(records=1)
    record = look(database, made.id)
    assert (record.status, record.reason, record.pairings) == (Status.PENDING, None, 0)
    assert (record.is_in_inventory, record.import_job_id, record.owner_id, record.device_id) == (False, None, None, "")
    assert look_at_batch(database, made.batch_id).inventory_read_at is None


def test_a_token_that_we_imported_is_still_there_at_a_replay(database: MovingDatabase, batches: Batches) -> None:
    dead = {"status": Status.DEAD_LETTER, "reason": Reason.TOKEN_TAKEN, "is_token_made": True}
    made = make(database, **dead)
    batches.replay(made.name)
    record = look(database, made.id)
    assert (record.is_in_inventory, record.is_token_made) == (True, True)


@pytest.mark.parametrize(
    "reason",
    [
        *(Reason.USER_NOT_FOUND, Reason.USER_AMBIGUOUS, Reason.TOO_MANY_DEVICES, Reason.METHOD_OFF, Reason.LICENSE),
        *(Reason.PAIRING_FAILED, Reason.ACCOUNT_NOT_USABLE),
    ],
)
def test_a_record_that_was_not_paired_for_another_reason_goes_again_as_it_is(
    database: MovingDatabase, batches: Batches, reason: Reason
) -> None:
    made = make(database, status=Status.DEAD_LETTER, reason=reason, pairings=3)
    assert batches.replay(made.name) == Replayed(records=1)
    record = look(database, made.id)
    assert (record.status, record.pairings, record.is_in_inventory) == (Status.PENDING, 0, True)
    assert look_at_batch(database, made.batch_id).inventory_read_at is not None


def test_a_replay_of_one_reason_leaves_what_the_inventory_said_of_the_others(
    database: MovingDatabase, batches: Batches
) -> None:
    made = make(database, status=Status.DEAD_LETTER, reason=Reason.TOKEN_TAKEN, owner_id="somebody")
    batches.replay(made.name, reasons=[Reason.PAIRING_FAILED])
    assert look(database, made.id).owner_id == "somebody"


def test_the_otps_of_a_fresh_claim_are_as_the_file_brought_them(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases, has_second_otp=False)
    assert (claimed.progress.first, claimed.progress.second) == (OtpProgress(), None)
