"""Records with seeds: no counter is used twice, whatever the database is asked, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, enqueue, look, make_batch
from support.data.moving_clock import MovingDatabase

from models.record_states import OtpState, OtpType, Status
from worker.batches.commands import Batches
from worker.leases.settlement import CallSummary, Claim
from worker.leases.worker import Leases
from worker.rules.progress import Active, OtpProgress, Retry

BACK = Retry(0.0, is_counted=False, why="time_step")


def claim(database: MovingDatabase, leases: Leases, made: Made) -> Claim:
    enqueue(database, made)
    claimed = leases.claim(made.id, ENVIRONMENT_ID)
    assert claimed is not None
    return claimed


def test_the_claim_of_a_fresh_hotp_record_uses_up_its_counter(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim(database, leases, make_batch(database, next_counter=7))
    assert claimed.is_otp1_marked
    assert (claimed.progress.next_counter, claimed.progress.last_counter) == (8, 7)
    assert look(database, claimed.record_id).next_counter == 8


def test_a_totp_record_is_claimed_before_its_time_step_is_chosen(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim(database, leases, make_batch(database, next_counter=0, otp_type=OtpType.TOTP))
    assert not claimed.is_otp1_marked
    assert look(database, claimed.record_id).next_counter == 0


def test_a_pair_has_no_counter_before_and_after(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim(database, leases, make_batch(database))
    assert claimed.progress.next_counter is None
    leases.write_progress(claimed, claimed.progress.with_otp_answered(1))
    assert leases.mark_sent(claimed, 2)
    assert look(database, claimed.record_id).next_counter is None


def test_a_counter_is_marked_once_and_an_older_one_never(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim(database, leases, make_batch(database, next_counter=0, otp_type=OtpType.TOTP))
    assert leases.mark_sent(claimed, 1, 60_000_000)
    assert look(database, claimed.record_id).next_counter == 60_000_001
    leases.write_progress(claimed, claimed.progress.with_otp_sent(1, 60_000_000).with_otp_answered(1))
    for used in (60_000_000, 59_999_999):
        assert not leases.mark_sent(claimed, 2, used)
    assert leases.mark_sent(claimed, 2, 60_000_001)
    record = look(database, claimed.record_id)
    assert (record.otp2_state, record.next_counter) == (OtpState.SENT, 60_000_002)


def test_a_worker_without_its_lease_moves_no_counter(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim(database, leases, make_batch(database, next_counter=0, otp_type=OtpType.TOTP))
    leases.settle(claimed, claimed.progress, BACK, CallSummary())
    assert not leases.mark_sent(claimed, 1, 5)
    assert look(database, claimed.record_id).next_counter == 0


def test_an_otp_that_did_not_go_out_gives_its_counter_back_with_its_mark(
    database: MovingDatabase, leases: Leases
) -> None:
    claimed = claim(database, leases, make_batch(database, next_counter=7))
    leases.settle(claimed, claimed.progress.with_otp_unsent(1), BACK, CallSummary())
    record = look(database, claimed.record_id)
    assert (record.otp1_state, record.otp1_posts, record.next_counter) == (OtpState.UNSENT, 0, 7)


def test_what_was_sent_stays_used_after_the_record_is_active(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim(database, leases, make_batch(database, next_counter=7))
    leases.settle(claimed, claimed.progress.with_otp_answered(1), Active(), CallSummary(1))
    record = look(database, claimed.record_id)
    assert (record.status, record.otps, record.next_counter) == (Status.ACTIVE, None, 8)


SPENT: dict[str, Any] = {
    "status": Status.DEAD_LETTER,
    "reason": "invalid_otp",
    "otp1_state": OtpState.ANSWERED,
    "otp1_posts": 2,
    "otp2_state": OtpState.ANSWERED,
    "otp2_posts": 1,
    "attempts": 2,
}


def test_a_replay_of_a_seed_begins_a_new_pair_and_a_new_budget(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, [SPENT | {"next_counter": 9}])
    assert Batches(database, TESTER).replay(made.name).records == 1

    claimed = claim(database, leases, made)
    progress = claimed.progress
    # OTP 1 is marked with the claim.
    assert (progress.first, progress.second) == (OtpProgress(OtpState.SENT, 1), OtpProgress())
    assert (progress.next_counter, look(database, made.id).posts_forgiven) == (10, 3)


def test_a_replay_leaves_a_pair_that_was_refused(database: MovingDatabase) -> None:
    made = make_batch(database, [SPENT])
    assert Batches(database, TESTER).replay(made.name).records == 0


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.DEAD_LETTER])
def test_a_replay_leaves_out_the_counter_that_pingone_may_wait_for(database: MovingDatabase, status: Status) -> None:
    past = {"status": status, "otp1_state": OtpState.ANSWERED, "otp1_posts": 1, "next_counter": 4}
    made = make_batch(database, [past | ({"reason": "locked"} if status == Status.DEAD_LETTER else {})])
    Batches(database, TESTER).replay(made.name)
    assert look(database, made.id).next_counter == 5


def test_a_replay_of_a_seed_whose_otps_never_went_out_begins_with_its_next_counter(database: MovingDatabase) -> None:
    made = make_batch(database, [{"status": Status.CANCELLED, "next_counter": 4}])
    Batches(database, TESTER).replay(made.name)
    assert look(database, made.id).next_counter == 4
