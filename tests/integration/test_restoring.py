"""A database that was restored from a backup is met with distrust, on both databases: each state of a record."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from support.data.batches import ENVIRONMENT_ID, TESTER, attempts, enqueue, look, look_at_batch, make_batch
from support.data.moving_clock import MovingDatabase
from support.data.progress import Heard

from models.batch import Batch, BatchState
from models.reason import Reason
from models.record_states import NOBODY, OtpState, OtpType, PairingState, Status
from worker import audit
from worker.batches import commands as restoring
from worker.batches.commands import WorkersLive, distrust_all
from worker.config.settings import Settings
from worker.fleet import GONE_AFTER, Processes
from worker.leases.worker import Leases
from worker.rules.decisions import choose_first_step
from worker.rules.progress import FindDevice, Limits, Progress, ReadDevice

SETTINGS = Settings()
UNSENT, SENT, ANSWERED = OtpState
BUDGET, OVER_AFTER = SETTINGS.otp_post_budget, SETTINGS.tuning.over_after
SKIPPED = 2 * BUDGET - 1
COLUMNS = ("otp1_state", "otp1_posts", "otp2_state", "otp2_posts", "next_counter", "pairing", "pairings", "verdict")


def otps(first: OtpState, posts: int, second: OtpState = UNSENT, more: int = 0) -> dict[str, Any]:
    return {"otp1_state": first, "otp1_posts": posts, "otp2_state": second, "otp2_posts": more}


def unpaired(state: PairingState = PairingState.UNSENT, pairings: int = 0) -> dict[str, Any]:
    return {"device_id": "", "owner_id": NOBODY, "pairing": state, "pairings": pairings}


HALF_DONE = otps(ANSWERED, 1)
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


def let_pair(database: MovingDatabase, batch_id: int) -> None:
    with database.writing() as connection:
        mine = update(Batch).where(Batch.id == batch_id)
        connection.execute(mine.values(may_pair=True, inventory_read_at=database.now()))


def read_columns(database: MovingDatabase, record_id: int) -> dict[str, Any]:
    record = look(database, record_id)
    return {name: getattr(record, name) for name in COLUMNS}


@pytest.mark.parametrize("state", STATES)
def test_what_may_have_gone_out_is_marked_as_sent_and_typed_again_nothing_more(
    database: MovingDatabase, leases: Leases, state: str
) -> None:
    before, differing = STATES[state]
    made = make_batch(database, [before])
    let_pair(database, made.batch_id)
    expected = read_columns(database, made.id) | differing
    clock = database.read_clock()

    assert distrust_all(database, SETTINGS, TESTER) == (1 if differing else 0)
    assert read_columns(database, made.id) == expected
    assert look(database, made.id).scheduled_at >= clock + timedelta(seconds=OVER_AFTER)
    database.ahead += 10
    assert distrust_all(database, SETTINGS, TESTER) == 0
    assert read_columns(database, made.id) == expected

    if look(database, made.id).is_in_inventory:
        database.ahead += OVER_AFTER + 1
        assert enqueue(database, made) == made.ids
        claimed = leases.claim(made.id, ENVIRONMENT_ID)
        assert claimed is not None
        step = choose_first_step(claimed.progress, Limits())[1]
        assert step == (ReadDevice() if claimed.device_id else FindDevice())


@pytest.mark.parametrize("status", [Status.QUEUED, Status.ACTIVATING])
def test_who_had_a_record_in_hand_has_lost_it_however_long_the_lease_lasts(
    database: MovingDatabase, leases: Leases, status: Status
) -> None:
    later = database.read_clock() + timedelta(hours=1)
    made = make_batch(database, [{"status": status, "lease_until": later}])

    assert distrust_all(database, SETTINGS, TESTER) == 1

    record = look(database, made.id)
    assert (record.status, record.lease_id, record.lease_until) == (Status.PENDING, None, None)
    assert (record.otp1_state, record.otp1_posts) == (SENT, 1)
    assert [line.outcome for line in attempts(database, made.id)] == ["lost"] * (status == Status.ACTIVATING)


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.DEAD_LETTER, Status.CANCELLED])
def test_what_is_final_stays_as_it_is(database: MovingDatabase, status: Status) -> None:
    made = make_batch(database, [{"status": status}])
    before = look(database, made.id)
    assert distrust_all(database, SETTINGS, TESTER) == 0
    assert look(database, made.id) == before


def test_a_record_that_is_due_later_stays_so(database: MovingDatabase) -> None:
    later = database.read_clock().replace(microsecond=0) + timedelta(hours=1)
    made = make_batch(database, scheduled_at=later)
    distrust_all(database, SETTINGS, TESTER)
    assert look(database, made.id).scheduled_at == later


def test_a_seed_goes_on_behind_every_counter_that_its_budget_can_have_used(database: MovingDatabase) -> None:
    """Each post may have been lost, and after each a counter was left out."""
    made = make_batch(database, next_counter=7)
    since = Progress(next_counter=7)
    for _ in range(BUDGET):
        used = since.next_counter
        since = since.with_otp_sent(1, used).with_device_waiting()
    distrust_all(database, SETTINGS, TESTER)
    assert look(database, made.id).next_counter > used


def test_a_record_is_not_paired_where_its_batch_may_not(database: MovingDatabase) -> None:
    made = make_batch(database, [unpaired()])
    distrust_all(database, SETTINGS, TESTER)
    assert look(database, made.id).pairing == PairingState.UNSENT


def test_a_device_that_was_made_since_counts_as_the_batch_s(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, [unpaired()])
    let_pair(database, made.batch_id)
    database.ahead = 3600
    distrust_all(database, SETTINGS, TESTER)
    database.ahead += OVER_AFTER + 1
    enqueue(database, made)
    claimed = leases.claim(made.id, ENVIRONMENT_ID)
    assert claimed is not None
    found = claimed.progress.pairing.found("device", is_made=True)
    lasts = timedelta(seconds=OVER_AFTER)
    assert found.with_age(timedelta(minutes=30), lasts).is_made
    # Before the batch began to run, none of its requests can have made one.
    assert not found.with_age(timedelta(hours=2), lasts).is_made


def test_the_inventory_is_read_again_before_anything_is_imported(database: MovingDatabase) -> None:
    made = make_batch(database)
    let_pair(database, made.batch_id)
    distrust_all(database, SETTINGS, TESTER)
    assert look_at_batch(database, made.batch_id).inventory_read_at is None


@pytest.mark.parametrize("state", BatchState)
def test_a_batch_stays_in_its_state(database: MovingDatabase, state: BatchState) -> None:
    made = make_batch(database, [otps(SENT, 1)], state=state)
    distrust_all(database, SETTINGS, TESTER)
    assert look_at_batch(database, made.batch_id).state == state


def test_beside_a_worker_that_lives_nothing_is_changed(database: MovingDatabase) -> None:
    made = make_batch(database)
    before = look(database, made.id)
    Processes(database, "host:4711").show_life()
    with pytest.raises(WorkersLive, match="1 worker process lives: host:4711"):
        distrust_all(database, SETTINGS, TESTER)
    assert look(database, made.id) == before
    database.ahead += GONE_AFTER + 1
    assert distrust_all(database, SETTINGS, TESTER) == 1


def test_it_goes_on_where_it_was_interrupted_and_each_command_is_in_the_audit(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "CHUNK", 2)
    made = make_batch(database, 5, next_counter=7)
    heard = Heard()

    def interrupt(*told: Any) -> None:
        heard(*told)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distrust_all(database, SETTINGS, TESTER, interrupt)
    assert distrust_all(database, SETTINGS, TESTER, heard) == 3

    assert {look(database, record_id).next_counter for record_id in made.ids} == {7 + SKIPPED}
    assert heard == [("Marking records", done, total) for done, total in [(2, 5), (0, 3), (2, 3)]]
    with database.reading() as connection:
        told = [(line.actor, line.action, line.facts) for line in audit.read(connection)]
    assert told == [(TESTER.name, "reconcile", {"records": number}) for number in (5, 3)]
