"""The claim of a fresh record marks its first call in the same statement: held to what the rules decide, in all states
that differ from a fresh record's in two respects at most, on both databases."""

from __future__ import annotations

from datetime import timedelta
from itertools import combinations, product
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update
from support.data.batches import ENVIRONMENT_ID, enqueue, make_batch
from support.data.moving_clock import MovingDatabase

from models.batch import Batch
from models.reason import Reason
from models.record_states import NOBODY, OtpState, PairingState
from worker.leases.settlement import Claim
from worker.leases.worker import Leases
from worker.rules.decisions import choose_first_step
from worker.rules.progress import Limits, Pair, SendOtp

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


@pytest.mark.parametrize("may_pair", [True, False])
@pytest.mark.parametrize("fresh", [PAIRED, UNPAIRED])
def test_what_a_claim_marks_is_what_the_rules_would_do_first(
    database: MovingDatabase, leases: Leases, monkeypatch: pytest.MonkeyPatch, fresh: dict[str, Any], may_pair: bool
) -> None:
    states = find_states(fresh)
    marked = claim_each(database, leases, states, may_pair)
    # Without the statements for fresh records a claim decides nothing.
    monkeypatch.setattr(leases, "_claims", leases._claims[-1:])
    read = claim_each(database, leases, states, may_pair)
    firsts = list[SendOtp | Pair]()
    for state, claim, undecided in zip(states, marked, read, strict=True):
        known, step = choose_first_step(undecided.progress, LIMITS)
        if claim.is_otp1_marked:
            firsts.append(SendOtp(1))
            assert step == SendOtp(1), state
            sent = known.with_otp_sent(1, known.next_counter)
            assert (claim.progress.first, claim.progress.next_counter) == (sent.first, sent.next_counter), state
        elif claim.is_pairing_marked:
            firsts.append(Pair())
            assert step == Pair(), state
            assert claim.progress.pairing == known.pairing.sent(), state
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
    with database.writing() as connection:
        mine = update(Batch).where(Batch.id == made.batch_id)
        connection.execute(mine.values(may_pair=may_pair, inventory_read_at=now))
    enqueue(database, made)
    claims = [leases.claim(record_id, ENVIRONMENT_ID) for record_id in made.ids]
    return [claim for claim in claims if claim is not None]
