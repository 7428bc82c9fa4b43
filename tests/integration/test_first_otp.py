"""The first OTP of a record: which counter it takes, whether the claim marks it, and what an environment wants with it.
On both databases."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import combinations, product
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, update
from support.data.audit_lines import read as read_audit
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, enqueue, look, look_at_batch, make_batch
from support.data.calls import called
from support.data.moving_clock import MovingDatabase

from models.audit import Action
from models.batch import Batch, BatchState
from models.reason import Reason
from models.record_states import NOBODY, OtpState, OtpType, PairingState, Status
from models.tenant_fact import TenantFact
from worker.batches.commands import Batches
from worker.batches.upkeep import Upkeep
from worker.leases.lease import Claim, Leases
from worker.rules.breaker import Thresholds
from worker.rules.decisions import choose_first_step
from worker.rules.resync import REFUSALS, TAKEN, FirstOtpAnswer, NeedsFlag
from worker.rules.steps import Active, Limits, OtpProgress, Pair, Retry, SendOtp
from worker.tenants import LearnedResync, read_resync

# Which counter it takes: none is used twice.

BACK = Retry(0.0, is_counted=False, why="time_step")
TOTP = {"next_counter": 0, "otp_type": OtpType.TOTP}


def claim(database: MovingDatabase, leases: Leases, made: Made) -> Claim:
    enqueue(database, made)
    claimed = leases.claim(made.id, ENVIRONMENT_ID)
    assert claimed is not None
    return claimed


@pytest.mark.parametrize(("is_sent", "left"), [(True, 8), (False, 7)])
def test_the_claim_of_a_fresh_hotp_record_uses_up_its_counter_and_gives_it_back_if_nothing_went_out(
    database: MovingDatabase, leases: Leases, is_sent: bool, left: int
) -> None:
    claimed = claim(database, leases, make_batch(database, next_counter=7))
    progress, written = claimed.progress, look(database, claimed.record_id).next_counter
    assert (claimed.is_otp1_marked, progress.next_counter, progress.last_counter, written) == (True, 8, 7, 8)

    progress = claimed.progress.with_otp_answered(1) if is_sent else claimed.progress.with_otp_unsent(1)
    leases.settle(claimed, progress, Active() if is_sent else BACK, called(1))

    record = look(database, claimed.record_id)
    assert (record.next_counter, record.otp1_posts, record.otps is None) == (left, int(is_sent), is_sent)
    assert record.status == (Status.ACTIVE if is_sent else Status.PENDING)


def test_a_counter_is_marked_once_under_the_lease_and_an_older_one_never(
    database: MovingDatabase, leases: Leases
) -> None:
    """A TOTP record is claimed before its time step is chosen."""
    claimed = claim(database, leases, make_batch(database, **TOTP))
    assert (claimed.is_otp1_marked, look(database, claimed.record_id).next_counter) == (False, 0)
    assert leases.mark_sent(claimed, 1, 60_000_000)
    assert look(database, claimed.record_id).next_counter == 60_000_001
    answered = claimed.progress.with_otp_sent(1, 60_000_000).with_otp_answered(1)
    leases.write_progress(claimed, answered)
    assert [leases.mark_sent(claimed, 2, used) for used in (60_000_000, 59_999_999, 60_000_001)] == [False, False, True]
    record = look(database, claimed.record_id)
    assert (record.otp2_state, record.next_counter) == (OtpState.SENT, 60_000_002)

    leases.settle(claimed, answered, BACK, called())
    assert not leases.mark_sent(claimed, 2, 60_000_009)


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

    progress = claim(database, leases, made).progress
    # OTP 1 is marked with the claim.
    assert (progress.first, progress.second) == (OtpProgress(OtpState.SENT, 1), OtpProgress())
    assert (progress.next_counter, look(database, made.id).posts_forgiven) == (10, 3)


@pytest.mark.parametrize(
    ("record", "following"),
    [
        ({"status": Status.CANCELLED, "otp1_state": OtpState.ANSWERED, "otp1_posts": 1, "next_counter": 4}, 5),
        (SPENT | {"reason": "locked", "otp2_state": OtpState.UNSENT, "otp2_posts": 0, "next_counter": 4}, 5),
        # Whose OTPs never went out.
        ({"status": Status.CANCELLED, "next_counter": 4}, 4),
    ],
)
def test_a_replay_leaves_out_the_counter_that_pingone_may_wait_for(
    database: MovingDatabase, record: dict[str, Any], following: int
) -> None:
    made = make_batch(database, [record], state=BatchState.CANCELLED)
    Batches(database, TESTER).replay(made.name)
    assert look(database, made.id).next_counter == following


# The claim of a fresh record marks its first call in the same statement: held to what the rules decide, in all states
# that differ from a fresh record's in two respects at most.

LIMITS = Limits(posts=3, attempts=8, read_delay=30.0, not_found_delay=10.0)
PAIRED: dict[str, Any] = {}
UNPAIRED = {"device_id": "", "owner_id": NOBODY}
# Columns of a record, and in what else than in a fresh one each of them can stand.
DIFFERENT: dict[str, list[dict[str, Any]]] = {
    "pairing": [{"pairing": state} for state in PairingState],
    "pairings": [{"pairings": 1}, {"pairings": 3}],
    "owner": [{"owner_id": None}, {"owner_id": NOBODY}, {"owner_id": "somebody"}],
    "otp1": [
        {"otp1_state": OtpState.UNSENT, "otp1_posts": 1},
        {"otp1_state": OtpState.SENT, "otp1_posts": 1},
        {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1},
    ],
    "otp2": [{"otp2_posts": 1}, {"otp2_state": OtpState.SENT, "otp2_posts": 1}, {"has_second_otp": False}],
    "verdict": [{"verdict": Reason.INVALID_OTP}],
    "not_found": [{"not_found": 1}],
    "attempts": [{"attempts": 7}, {"attempts": 8}, {"attempts": 9, "attempts_forgiven": 8}],
    "seed": [{"next_counter": 7, "otp_type": "hotp"}, {"next_counter": 7, "otp_type": "totp"}],
    "stale": [{"otp_expires_at": timedelta(seconds=-1)}, {"otp_expires_at": timedelta(hours=1)}],
}


def find_states(fresh: dict[str, Any]) -> list[dict[str, Any]]:
    pairs = (product(DIFFERENT[one], DIFFERENT[other]) for one, other in combinations(DIFFERENT, 2))
    return [fresh, *(fresh | one | other for pair in pairs for one, other in pair)]


@pytest.mark.parametrize(("fresh", "may_pair"), [(PAIRED, False), (UNPAIRED, True), (UNPAIRED, False)])
def test_what_a_claim_marks_is_what_the_rules_would_do_first(
    database: MovingDatabase, leases: Leases, monkeypatch: pytest.MonkeyPatch, fresh: dict[str, Any], may_pair: bool
) -> None:
    states = find_states(fresh)
    marked = claim_each(database, leases, states, may_pair)
    # Without the statements for fresh records a claim decides nothing.
    monkeypatch.setattr(leases, "_claims", leases._claims[-1:])
    read = claim_each(database, leases, states, may_pair)
    firsts = list[SendOtp | Pair]()
    for state, claimed, undecided in zip(states, marked, read, strict=True):
        known, step = choose_first_step(undecided.progress, LIMITS)
        if claimed.is_otp1_marked:
            firsts.append(SendOtp(1))
            sent = known.with_otp_sent(1, known.next_counter)
            found = claimed.progress
            assert (step, found.first, found.next_counter) == (SendOtp(1), sent.first, sent.next_counter), state
        elif claimed.is_pairing_marked:
            firsts.append(Pair())
            assert (step, claimed.progress.pairing) == (Pair(), known.pairing.sent()), state
    assert not firsts or firsts[0] == choose_first_step(read[0].progress, LIMITS)[1]
    assert bool(firsts) == (may_pair or fresh == PAIRED)


def claim_each(database: MovingDatabase, leases: Leases, states: list[dict[str, Any]], may_pair: bool) -> list[Claim]:
    now = database.read_clock()
    made = make_batch(
        database,
        [
            {name: now + value if isinstance(value, timedelta) else value for name, value in state.items()}
            for state in states
        ],
        name=uuid4().hex,
    )
    mine = update(Batch).where(Batch.id == made.batch_id)
    database.change(mine.values(may_pair=may_pair, inventory_read_at=now))
    enqueue(database, made)
    claims = [leases.claim(record_id, ENVIRONMENT_ID) for record_id in made.ids]
    return [claim for claim in claims if claim is not None]


# Whether an environment wants the flag for a resync with it, learned by several workers at once.


def known(database: MovingDatabase, environment_id: str = ENVIRONMENT_ID) -> Any:
    with database.reading() as connection:
        return read_resync(connection, environment_id)


@pytest.fixture
def resync(database: MovingDatabase) -> LearnedResync:
    return LearnedResync(database, ENVIRONMENT_ID, TESTER)


def test_what_one_worker_learns_the_others_of_its_environment_know_and_the_audit_says_it_once(
    database: MovingDatabase, resync: LearnedResync
) -> None:
    other = LearnedResync(database, ENVIRONMENT_ID, TESTER)
    assert known(database).needs == NeedsFlag.UNKNOWN
    for record_id in range(REFUSALS + 3):
        assert other.sends_flag() == (record_id >= REFUSALS)
        resync.learn(FirstOtpAnswer.REFUSED, had_flag=False, record_id=record_id)
    told = [line.facts for line in read_audit(database) if line.action == Action.LEARN]
    assert [(each["resync_on_first_call"], each["record"]) for each in told] == [(NeedsFlag.TRIED, REFUSALS - 1)]
    other.learn(FirstOtpAnswer.ASKED_FOR_SECOND, had_flag=True, record_id=9)
    assert (known(database).needs, known(database, "another").needs) == (NeedsFlag.YES, NeedsFlag.UNKNOWN)


def test_no_answer_is_lost_when_many_learn_at_once(database: MovingDatabase) -> None:
    workers = [LearnedResync(database, ENVIRONMENT_ID, TESTER) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda worker: worker.learn(FirstOtpAnswer.TAKEN, had_flag=False, record_id=1), workers * 3))
    assert known(database).taken == 24


def test_first_records_that_all_failed_hold_nothing_back_once_the_cause_is_found(database: MovingDatabase) -> None:
    made = make_batch(database, 5)
    database.change(update(Batch).values(trial=3))
    resync = LearnedResync(database, ENVIRONMENT_ID, TESTER, Upkeep(database, Thresholds()).end_trials)
    for record_id in made.ids[:REFUSALS]:
        resync.learn(FirstOtpAnswer.REFUSED, had_flag=False, record_id=record_id)
    assert look_at_batch(database, made.batch_id).trial is None


def test_where_nothing_is_learned_any_more_nothing_is_written(database: MovingDatabase, resync: LearnedResync) -> None:
    for _ in range(TAKEN + 5):
        resync.learn(FirstOtpAnswer.TAKEN, had_flag=False, record_id=1)
    seen_at = database.values(select(TenantFact.seen_at))
    database.ahead = 60
    resync.learn(FirstOtpAnswer.TAKEN, had_flag=False, record_id=2)
    assert (known(database).taken, database.values(select(TenantFact.seen_at))) == (TAKEN, seen_at)
    # A refusal still counts.
    resync.learn(FirstOtpAnswer.REFUSED, had_flag=False, record_id=3)
    assert known(database).refused == 1
