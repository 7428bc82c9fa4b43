"""What a worker does with one record, whether it has a device or gets one: claims, marks, settlements, and what is left
of them after a death, a stop or a replay. On both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from support.data.batches import (
    ENVIRONMENT_ID,
    TESTER,
    Made,
    attempts,
    enqueue,
    look,
    look_at_batch,
    make_batch,
    rescue,
    statuses,
)
from support.data.calls import called, write_answer
from support.data.moving_clock import ON_SQLITE, MovingDatabase

from models.attempt import Outcome
from models.base import LONGEST_ID
from models.batch import Batch, BatchState
from models.reason import CURES, SEED_CURES, PauseReason, Reason
from models.record import Record
from models.record_states import FINAL, NOBODY, OtpState, PairingState, Status
from worker.batches.commands import Batches, Replayed
from worker.leases.lease import Claim, Leases
from worker.leases.moves import give_up, put_first
from worker.leases.queue import Queue
from worker.pingone.errors import Answer
from worker.pingone.wire import read_plain_id
from worker.rules.steps import Active, DeadLetter, Decision, OtpProgress, PairingProgress, Pause, Retry, SentAgo
from worker.tenants import describe_pairing_answer

UNSENT, SENT, MISSED, PAIRED = PairingState
ANSWER = Answer(400, "INVALID_DATA", "INVALID_OTP", "error-1", "correlation-1", "not kept")
LATER = Retry(5.0, is_counted=True, why="outcome_unknown")
# How an attempt ends, what its line says of it, and whether it counts.
ENDS = [
    (Active(), Outcome.ACTIVE, None, 1),
    (LATER, Outcome.RETRY, "outcome_unknown", 1),
    (Retry(0.0, is_counted=False, why="hold"), Outcome.HANDED_BACK, "hold", 0),
    (DeadLetter(Reason.INVALID_OTP), Outcome.DEAD_LETTER, "invalid_otp", 1),
    (DeadLetter(Reason.FORBIDDEN, is_counted=False), Outcome.DEAD_LETTER, "forbidden", 0),
    (Pause(PauseReason.PROTOCOL, delay=30.0), Outcome.HANDED_BACK, "protocol", 0),
]
DECISIONS = [decision for decision, *_ in ENDS]
# A record whose device is still to be made.
FREE = {"device_id": "", "owner_id": NOBODY}


@pytest.fixture
def batches(database: MovingDatabase) -> Batches:
    return Batches(database, TESTER)


def make(database: MovingDatabase, records: Any = 1, *, may_pair: bool = True, **columns: Any) -> Made:
    """A batch whose inventory was read; it may make devices."""
    made = make_batch(database, records, **columns)
    mine = update(Batch).where(Batch.id == made.batch_id)
    database.change(mine.values(may_pair=may_pair, inventory_read_at=database.now()))
    return made


def claim_all(database: MovingDatabase, leases: Leases, made: Made) -> list[Claim]:
    """The batch's records, queued and claimed."""
    enqueue(database, made)
    return [leases.claim(record_id, ENVIRONMENT_ID) for record_id in made.ids]


def claim_new(database: MovingDatabase, leases: Leases, **columns: Any) -> Claim:
    (claimed,) = claim_all(database, leases, make(database, **columns))
    return claimed


def claim_again(database: MovingDatabase, leases: Leases, former: Claim) -> Claim:
    (claimed,) = claim_all(database, leases, Made(former.batch_id, "", [former.record_id]))
    return claimed


def settle(leases: Leases, claimed: Claim, decision: Decision) -> bool:
    return leases.settle(claimed, claimed.progress.with_otp_answered(1), decision, called(1, 0, ANSWER))


# Claiming.


def test_a_claim_of_a_fresh_record_takes_it_under_a_lease_and_marks_its_first_otp_as_sent(
    database: MovingDatabase, leases: Leases
) -> None:
    claimed = claim_new(database, leases)

    record = look(database, claimed.record_id)
    assert (record.status, record.lease_id, record.attempts) == (Status.ACTIVATING, claimed.lease_id, 1)
    assert (record.otp1_state, record.otp1_posts, record.otp2_posts) == (OtpState.SENT, 1, 0)
    assert (claimed.user_id, claimed.device_id, claimed.otps) == (record.user_id, record.device_id, record.otps)
    assert (claimed.is_otp1_marked, claimed.progress.first) == (True, OtpProgress(OtpState.SENT, 1))
    assert record.lease_until - record.otp_sent_at == timedelta(seconds=60)
    assert abs(record.otp_sent_at - database.read_clock()) < timedelta(seconds=30)
    assert "sealed" not in repr(claimed)


def test_the_claim_of_a_fresh_record_without_a_device_marks_its_pairing(
    database: MovingDatabase, leases: Leases
) -> None:
    claimed = claim_new(database, leases, has_second_otp=False, **FREE)

    assert (claimed.is_pairing_marked, claimed.is_otp1_marked, claimed.device_id) == (True, False, "")
    assert claimed.progress.pairing == PairingProgress(SENT, pairings=1, was_free=True, is_allowed=True)
    assert (claimed.progress.first, claimed.progress.second) == (OtpProgress(), None)
    record = look(database, claimed.record_id)
    assert (record.pairing, record.pairings, record.otp1_state, record.otp1_posts) == (SENT, 1, OtpState.UNSENT, 0)
    assert record.otp_sent_at is not None


@pytest.mark.parametrize(
    "columns",
    [
        *[{"status": status} for status in Status if status != Status.QUEUED],
        {"state": BatchState.PAUSED},
        {"state": BatchState.CANCELLED},
        {"environment_id": "the id of another tenant"},
    ],
    ids=lambda columns: str(*columns.values()),
)
def test_only_a_queued_record_of_a_running_batch_of_this_environment_is_claimed(
    database: MovingDatabase, leases: Leases, columns: dict[str, Any]
) -> None:
    made = make_batch(database, **{"status": Status.QUEUED} | columns)
    before = look(database, made.id)

    assert leases.claim(made.id, ENVIRONMENT_ID) is None
    assert look(database, made.id) == before


@pytest.mark.parametrize(
    "past",
    [
        {"otp1_posts": 1},
        {"otp2_posts": 1},
        {"otp1_state": OtpState.SENT, "otp1_posts": 1},
        {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1},
        {"not_found": 2},
        {"verdict": Reason.INVALID_OTP},
        {"attempts": 8},
        FREE | {"may_pair": False},
        FREE | {"pairing": SENT, "pairings": 1},
        FREE | {"pairing": MISSED, "pairings": 1},
        FREE | {"pairings": 1},
        FREE | {"not_found": 1},
        FREE | {"verdict": Reason.REJECTED},
        FREE | {"otp1_posts": 1},
        FREE | {"attempts": 8},
    ],
    ids=str,
)
def test_a_record_with_a_past_is_claimed_with_all_that_is_known_of_it_and_nothing_is_marked(
    database: MovingDatabase, leases: Leases, past: dict[str, Any]
) -> None:
    made = make(database, **past)
    before = look(database, made.id)

    (claimed,) = claim_all(database, leases, made)

    progress = claimed.progress
    known = {
        "otp1_state": progress.first.state,
        "otp1_posts": progress.first.posts,
        "otp2_state": progress.second.state,
        "otp2_posts": progress.second.posts,
        "not_found": progress.not_found,
        "verdict": progress.verdict,
        "pairing": progress.pairing.state,
        "pairings": progress.pairing.pairings,
        "device_id": progress.pairing.device_id,
    }
    record = look(database, made.id)
    assert known == {name: getattr(before, name) for name in known} == {name: getattr(record, name) for name in known}
    assert (progress.attempts, progress.pairing.is_allowed) == (before.attempts + 1, past.get("may_pair", True))
    assert (claimed.is_otp1_marked, claimed.is_pairing_marked, record.otp_sent_at) == (False, False, None)


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
    assert claimed.progress.pairing.is_open is is_read_first
    assert claimed.is_otp1_marked is is_marked


@pytest.mark.parametrize(
    ("is_owed", "columns"),
    [
        (True, {"otp1_state": OtpState.SENT, "otp1_posts": 1}),
        (True, {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1, "otp2_state": OtpState.SENT, "otp2_posts": 1}),
        (True, {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1, "verdict": Reason.INVALID_OTP}),
        (True, FREE | {"pairing": SENT, "pairings": 1}),
        (True, FREE | {"pairing": MISSED, "pairings": 1}),
        (False, {}),
        (False, {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1}),
        (False, {"otp1_posts": 1}),
        (False, FREE),
        (False, FREE | {"user_id": ""}),
        (False, FREE | {"is_in_inventory": False}),
    ],
)
def test_a_cancelled_batch_still_reads_what_it_does_not_know_and_nothing_else(
    database: MovingDatabase, leases: Leases, batches: Batches, is_owed: bool, columns: dict[str, Any]
) -> None:
    made = make(database, **columns)
    batches.cancel(made.name)
    assert look(database, made.id).status == (Status.PENDING if is_owed else Status.CANCELLED)
    with database.writing() as connection:
        assert Queue(database).enqueue_reads(connection, made.batch_id, 10, 60.0) == (made.ids if is_owed else [])
    if is_owed:
        claimed = leases.claim(made.id, ENVIRONMENT_ID)
        assert (claimed.progress.needs_read, claimed.is_otp1_marked, claimed.is_pairing_marked) == (True, False, False)
        assert leases.may_read(claimed)
        told = replace(claimed.progress.pairing, state=PAIRED if claimed.device_id else UNSENT)
        told = replace(claimed.progress.with_device_waiting(), verdict=None, pairing=told)
        assert leases.settle(claimed, told, LATER, called())
        assert look(database, made.id).status == Status.CANCELLED


def test_a_claim_tells_how_long_ago_the_pairing_was_sent(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases, **FREE)
    assert claimed.progress.pairing.sent_ago == SentAgo(timedelta(0), timedelta(0))
    database.ahead += 3600.0
    assert rescue(database, over_after=100.0) == 1
    database.change(update(Record).values(pairing=UNSENT))
    assert leases.mark_pairing(claim_again(database, leases, claimed))
    database.ahead += 300.0
    assert rescue(database, over_after=100.0) == 1
    sent_ago = claim_again(database, leases, claimed).progress.pairing.sent_ago
    assert timedelta(seconds=3899) < sent_ago.first < timedelta(seconds=3960)
    assert timedelta(seconds=299) < sent_ago.last < timedelta(seconds=330)


def test_an_otp_is_sent_and_a_device_is_made_until_the_otps_expire(database: MovingDatabase, leases: Leases) -> None:
    expires_at = database.read_clock() + timedelta(seconds=120)
    made = make(database, [{}, {}, FREE], otp_expires_at=expires_at)
    enqueue(database, made)
    in_time = leases.claim(made.ids[0], ENVIRONMENT_ID)
    assert (in_time.is_otp1_marked, in_time.progress.is_stale) == (True, False)
    assert leases.write_progress(in_time, in_time.progress.with_otp_answered(1))
    database.ahead = 121

    assert not leases.mark_sent(in_time, 2)
    for late in [leases.claim(record_id, ENVIRONMENT_ID) for record_id in made.ids[1:]]:
        assert (late.is_otp1_marked, late.is_pairing_marked, late.progress.is_stale) == (False, False, True)


# In the middle of an attempt.


def test_each_otp_is_written_down_once_and_counted_before_it_goes_out_and_another_try_only_renews_its_time(
    database: MovingDatabase, leases: Leases
) -> None:
    """OTP 1 was found unused, and goes again."""
    claimed = claim_new(database, leases, otp1_state=OtpState.SENT, otp1_posts=1)
    sent = []
    for ordinal, progress in (
        (1, claimed.progress.with_device_waiting()),
        (2, claimed.progress.with_otp(1, OtpProgress(OtpState.ANSWERED, 2))),
    ):
        database.ahead += 5
        assert leases.write_progress(claimed, progress)
        assert [leases.mark_sent(claimed, ordinal) for _ in range(2)] == [True, False]
        sent.append(look(database, claimed.record_id))
    database.ahead += 5
    assert (leases.renew_mark(claimed), leases.mark_sent(claimed, 1)) == (True, False)
    sent.append(look(database, claimed.record_id))

    assert [(each.otp1_state, each.otp1_posts) for each in sent] == [("sent", 2), ("answered", 2), ("answered", 2)]
    assert [(each.otp2_state, each.otp2_posts) for each in sent] == [("unsent", 0), ("sent", 1), ("sent", 1)]
    for before, after in pairwise(sent):
        assert after.otp_sent_at - before.otp_sent_at >= timedelta(seconds=5)


def test_a_pairing_is_marked_once(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases, not_found=1, **FREE)
    assert [leases.mark_pairing(claimed), leases.mark_pairing(claimed)] == [True, False]
    record = look(database, claimed.record_id)
    assert (record.pairing, record.pairings) == (SENT, 1)


def test_nothing_is_sent_for_a_batch_that_was_stopped_meanwhile(
    database: MovingDatabase, leases: Leases, batches: Batches
) -> None:
    made = make(database, [{}, FREE | {"not_found": 1}, FREE])
    paired, free, lost = claim_all(database, leases, made)
    leases.write_progress(paired, paired.progress.with_otp_answered(1))

    for stop in (batches.pause, batches.cancel):
        stop(made.name)
        assert [leases.may_read(paired), leases.renew_mark(paired), leases.renew_mark(free)] == [False] * 3
        assert [leases.mark_sent(paired, 2), leases.mark_pairing(free)] == [False] * 2
        if stop == batches.pause:
            assert leases.settle(lost, lost.progress, LATER, called(1))
            record = look(database, lost.record_id)
            assert (record.status, record.pairing) == (Status.PENDING, SENT), "what became of it is not known"
            batches.resume(made.name)
            assert [leases.may_read(paired), leases.renew_mark(paired)] == [True] * 2


def test_a_worker_that_lost_its_lease_may_do_nothing_more(database: MovingDatabase, leases: Leases) -> None:
    made = make(database, [{}, FREE | {"not_found": 1}])
    paired, free = claim_all(database, leases, made)
    database.ahead = 61
    assert rescue(database) == 2
    before = [look(database, record_id) for record_id in made.ids]

    assert [leases.may_read(paired), leases.renew_mark(paired), leases.mark_sent(paired, 2)] == [False] * 3
    assert [leases.mark_pairing(free), settle(leases, paired, Active())] == [False] * 2
    assert not leases.write_progress(paired, paired.progress.with_otp_answered(1))
    device = free.progress.pairing.paired("device-1", is_made=True)
    assert not leases.write_progress(free, replace(free.progress, pairing=device))
    assert [look(database, record_id) for record_id in made.ids] == before


def test_a_device_is_written_down_before_its_first_otp_and_one_that_is_gone_is_forgotten(
    database: MovingDatabase, leases: Leases
) -> None:
    claimed = claim_new(database, leases, **FREE)
    progress = replace(claimed.progress, pairing=claimed.progress.pairing.paired("device-1", is_made=True))
    assert leases.write_progress(claimed, progress)
    record = look(database, claimed.record_id)
    assert (record.device_id, record.pairing, record.is_device_made) == ("device-1", PAIRED, True)
    assert leases.mark_sent(claimed, 1)

    gone = replace(progress, pairing=progress.pairing.without_device())
    assert leases.settle(claimed, gone, DeadLetter(Reason.DEVICE_NOT_FOUND), called())
    record = look(database, claimed.record_id)
    assert (record.device_id, record.is_device_made, record.pairing) == ("", False, UNSENT)


@pytest.mark.parametrize(
    "known",
    [
        {"pairing": PAIRED, "pairings": 1, "is_device_made": True, "owner_id": "somebody"},
        {"pairing": UNSENT, "pairings": 0, "is_device_made": False, "owner_id": "user-1"},
        {"pairing": SENT, "pairings": 2, "is_device_made": True, "owner_id": NOBODY},
    ],
)
def test_what_is_known_of_a_device_outlives_an_attempt_that_learns_nothing_of_it(
    database: MovingDatabase, leases: Leases, known: dict[str, Any]
) -> None:
    """Also that of the first attempt, whose claim returns little, and of a device that only the inventory has shown."""
    claimed = claim_new(database, leases, device_id="device-1", **known)
    assert leases.write_progress(claimed, claimed.progress)
    assert leases.settle(claimed, claimed.progress, LATER, called())
    record = look(database, claimed.record_id)
    assert (record.device_id, {name: getattr(record, name) for name in known}) == ("device-1", known)


def test_the_longest_ids_that_an_answer_may_have_are_kept(database: MovingDatabase, leases: Leases) -> None:
    long_id = "d" * LONGEST_ID
    assert (read_plain_id(long_id), read_plain_id(long_id + "d")) == (long_id, None)
    claimed = claim_new(database, leases, **FREE)
    paired = replace(claimed.progress, pairing=claimed.progress.pairing.paired(long_id, is_made=True))
    assert leases.write_progress(claimed, paired)
    assert look(database, claimed.record_id).device_id == long_id


@pytest.mark.parametrize(("was_free", "owner"), [(True, NOBODY), (False, "somebody")])
def test_what_a_look_up_finds_free_is_written_down_and_an_owner_is_kept_otherwise(
    database: MovingDatabase, leases: Leases, was_free: bool, owner: str
) -> None:
    claimed = claim_new(database, leases, device_id="", owner_id="somebody", pairing=MISSED, pairings=1)
    progress = replace(claimed.progress, pairing=replace(claimed.progress.pairing, state=UNSENT, was_free=was_free))
    assert leases.settle(claimed, progress, LATER, called())
    assert look(database, claimed.record_id).owner_id == owner


def test_a_batch_ran_at_a_time_since_which_it_was_neither_loaded_nor_resumed(
    database: MovingDatabase, leases: Leases, batches: Batches
) -> None:
    claimed = claim_new(database, leases)
    assert not leases.ran(claimed, timedelta(seconds=5))
    database.ahead += 10
    assert leases.ran(claimed, timedelta(seconds=5))

    batches.pause("shipment")
    batches.resume("shipment")
    assert not leases.ran(claimed, timedelta(seconds=5))


def test_a_preparation_gives_up_nothing_whose_device_a_read_has_still_to_tell_of(database: MovingDatabase) -> None:
    open_pairing = FREE | {"pairing": SENT, "pairings": 1}
    made = make_batch(database, [open_pairing, open_pairing | {"user_id": ""}, FREE])
    with database.writing() as connection:
        assert give_up(database, connection, made.ids, Reason.TOKEN_NOT_IN_INVENTORY) == 2
    assert statuses(database, made) == ["pending", "dead_letter", "dead_letter"]


# Handing back what was not claimed.


def test_what_is_handed_back_or_tried_again_is_due_after_the_delay(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, 2)
    enqueue(database, made)
    claimed = leases.claim(made.ids[0], ENVIRONMENT_ID)

    leases.settle(claimed, claimed.progress, Retry(30.0, is_counted=True, why="outcome_unknown"), called(1))
    assert leases.hand_back(made.ids[1], 30.0)

    tried, handed_back = (look(database, record_id) for record_id in made.ids)
    assert (tried.status, tried.lease_id, tried.otp1_state, tried.finalized_at) == ("pending", None, "sent", None)
    assert (handed_back.status, handed_back.lease_until, handed_back.attempts) == ("pending", None, 0)
    for ahead, due in ((0, []), (31, made.ids)):
        database.ahead = ahead
        assert sorted(enqueue(database, made)) == due


@pytest.mark.parametrize("is_counted", [False, True])
def test_what_somebody_waits_for_keeps_its_place_if_nothing_was_done(
    database: MovingDatabase, leases: Leases, *, is_counted: bool
) -> None:
    made = make_batch(database, 6)
    *given, claimed_id = made.ids[2:]
    with database.changing_many() as connection:
        put_first(connection, made.batch_id, made.ids[2:])
    enqueue(database, made, 4)
    claimed = leases.claim(claimed_id, ENVIRONMENT_ID)
    unsent = claimed.progress.with_otp(1, OtpProgress())
    leases.settle(claimed, unsent, Retry(30.0, is_counted=is_counted, why="rate_limited"), called(1))
    assert leases.hand_back(given[0], 30.0)
    with database.writing() as connection:
        Queue(database).unqueue(connection, given[1:2], 30.0)
    database.ahead = 61
    rescue(database)
    assert sorted(enqueue(database, made, 4)) == sorted([*given, made.ids[0] if is_counted else claimed_id])


def test_only_a_queued_record_is_handed_back_and_a_running_batch_keeps_it(
    database: MovingDatabase, leases: Leases
) -> None:
    running = make_batch(database, status=Status.QUEUED)
    stopped = make_batch(database, [{"status": status} for status in Status], name="stopped", state=BatchState.PAUSED)
    is_queued = [status == Status.QUEUED for status in Status]

    assert not leases.hand_back_stopped(running.id)
    before = [look(database, record_id) for record_id in stopped.ids]
    assert [leases.hand_back_stopped(record_id) for record_id in stopped.ids] == is_queued
    after = [look(database, record_id) for record_id in stopped.ids]
    assert [record not in before for record in after] == is_queued
    assert not any(leases.hand_back(record_id, 0.0) for record_id in stopped.ids)
    assert [look(database, record_id) for record_id in stopped.ids] == after


# Settling.


@pytest.mark.parametrize("is_resynced", [False, True])
def test_an_active_record_keeps_no_otp(database: MovingDatabase, leases: Leases, is_resynced: bool) -> None:
    claimed = claim_new(database, leases)
    progress = claimed.progress.with_otp_answered(1)
    if is_resynced:
        progress = progress.with_otp_sent(2).with_otp_answered(2)
    assert leases.settle(claimed, progress, Active(), called(1, 0, ANSWER))

    record = look(database, claimed.record_id)
    assert (record.status, record.otps, record.lease_id, record.lease_until) == (Status.ACTIVE, None, None, None)
    assert (record.otp1_state, record.reason, record.resynced) == (OtpState.ANSWERED, None, is_resynced)
    assert record.finalized_at is not None


@pytest.mark.parametrize(
    ("columns", "decision", "detail"),
    [
        ({}, DeadLetter(Reason.INVALID_OTP), CURES[Reason.INVALID_OTP]),
        ({"next_counter": 7}, DeadLetter(Reason.INVALID_OTP), SEED_CURES[Reason.INVALID_OTP]),
        ({}, DeadLetter(Reason.TOKEN_TAKEN, evidence="It is A's."), f"{CURES[Reason.TOKEN_TAKEN]} It is A's."),
    ],
    ids=["pair", "seed", "what PingOne showed"],
)
def test_a_dead_letter_says_why_with_its_cure_and_keeps_its_otps(
    database: MovingDatabase, leases: Leases, columns: dict[str, Any], decision: DeadLetter, detail: str
) -> None:
    claimed = claim_new(database, leases, **columns)

    assert settle(leases, claimed, decision)

    record = look(database, claimed.record_id)
    assert (record.status, record.reason, record.detail) == (Status.DEAD_LETTER, decision.reason, detail)
    assert (record.pingone_error_id, record.correlation_id) == ("error-1", "correlation-1")
    assert (record.otps, record.lease_id, record.finalized_at is None) == (b"sealed", None, False)


@pytest.mark.parametrize(("decision", "outcome", "reason", "counted"), ENDS)
def test_every_attempt_leaves_a_line_of_history_and_counts_only_where_pingone_did_something(
    database: MovingDatabase, leases: Leases, decision: Decision, outcome: Outcome, reason: str | None, counted: int
) -> None:
    claimed = claim_new(database, leases)

    leases.settle(claimed, claimed.progress, decision, called(3, 1, ANSWER, 0.2504))

    assert look(database, claimed.record_id).attempts == counted
    (line,) = attempts(database, claimed.record_id)
    assert (line.number, line.outcome, line.reason, line.lease_id) == (1, outcome, reason, claimed.lease_id)
    assert (line.requests, line.call_milliseconds) == (3, 250)
    first, _, last = line.calls
    assert first == {"call": "otp1", "resync": False, "milliseconds": 250, "status": 429}
    assert last == {"call": "otp1", "resync": False, "milliseconds": 0, **write_answer(ANSWER)}
    assert None not in (line.worker, line.ended_at)


def test_attempts_are_numbered_costs_add_up_and_pingones_last_answer_is_kept(
    database: MovingDatabase, leases: Leases
) -> None:
    made = make_batch(database, not_found=1)
    for is_counted, summary in ((True, called(2, 1, ANSWER)), (False, called(2, 1)), (True, called())):
        (claimed,) = claim_all(database, leases, made)
        leases.settle(claimed, claimed.progress, Retry(0.0, is_counted=is_counted, why="not_found"), summary)

    record = look(database, made.id)
    lines = [(line.number, line.call_milliseconds) for line in attempts(database, made.id)]
    assert lines == [(1, 0), (2, 0), (2, None)]
    assert (record.attempts, record.requests, record.rate_limited) == (2, 4, 2)
    assert record.correlation_id == "correlation-1"


def test_an_attempt_is_settled_once_and_late_as_well_while_its_lease_stands(
    database: MovingDatabase, leases: Leases
) -> None:
    claims = claim_all(database, leases, make_batch(database, len(DECISIONS)))
    database.ahead = 600

    for claimed, decision in zip(claims, DECISIONS, strict=True):
        assert settle(leases, claimed, decision)
        before = look(database, claimed.record_id)
        assert before.status != Status.ACTIVATING
        assert not settle(leases, claimed, decision)
        assert look(database, claimed.record_id) == before
        assert len(attempts(database, claimed.record_id)) == 1


@pytest.mark.parametrize("is_claimed_again", [False, True])
def test_a_settle_after_the_rescue_changes_nothing_whoever_has_the_record_by_then(
    database: MovingDatabase, leases: Leases, is_claimed_again: bool
) -> None:
    made = make_batch(database, len(DECISIONS))
    late = claim_all(database, leases, made)
    database.ahead = 61
    rescue(database)
    if is_claimed_again:
        claim_all(database, leases, made)

    for claimed, decision in zip(late, DECISIONS, strict=True):
        before = look(database, claimed.record_id)
        assert not settle(leases, claimed, decision)
        assert look(database, claimed.record_id) == before
        assert [line.outcome for line in attempts(database, claimed.record_id)] == [Outcome.LOST]


# Replay of what was not paired.


NOT_PAIRED = (Reason.USER_NOT_FOUND, Reason.METHOD_OFF, Reason.PAIRING_FAILED, Reason.USER_AMBIGUOUS)
NOT_PAIRED += (Reason.TOO_MANY_DEVICES, Reason.LICENSE, Reason.ACCOUNT_NOT_USABLE)
IN_THE_WAY = (Reason.TOKEN_NOT_IN_INVENTORY, Reason.TOKEN_DIFFERS, Reason.TOKEN_TAKEN, Reason.TOKEN_REFUSED)


@ON_SQLITE
@pytest.mark.parametrize("reason", [*IN_THE_WAY, *NOT_PAIRED])
def test_a_replay_looks_for_a_token_again_only_where_the_inventory_stood_in_the_way(
    database: MovingDatabase, batches: Batches, reason: Reason
) -> None:
    dead = {"status": Status.DEAD_LETTER, "reason": reason, "detail": "why", "pairings": 2, "import_job_id": 7}
    made = make(database, **dead, owner_id="somebody", device_id="device-1" if reason in IN_THE_WAY else "")
    before = look(database, made.id)
    batches.replay(made.name, reasons=[Reason.LOCKED])
    assert look(database, made.id) == before
    assert batches.replay(made.name) == Replayed(records=1)
    record = look(database, made.id)
    assert (record.status, record.reason, record.pairings, record.device_id) == (Status.PENDING, None, 0, "")
    known = (record.is_in_inventory, record.import_job_id, record.owner_id)
    assert known == ((False, None, None) if reason in IN_THE_WAY else (True, 7, "somebody"))
    assert (look_at_batch(database, made.batch_id).inventory_read_at is None) == (reason in IN_THE_WAY)


@ON_SQLITE
def test_a_token_that_we_imported_is_still_there_and_not_looked_for(database: MovingDatabase, batches: Batches) -> None:
    made = make(database, status=Status.DEAD_LETTER, reason=Reason.TOKEN_TAKEN, is_token_made=True, **FREE)
    assert batches.replay(made.name) == Replayed(records=1)
    assert (look(database, made.id).is_token_made, look(database, made.id).is_in_inventory) == (True, True)


# What the tables themselves forbid.


@pytest.mark.parametrize("column", ["serial_number", "device_id"])
def test_a_token_or_a_device_is_worked_on_in_one_place_at_a_time_and_again_once_it_is_final(
    database: MovingDatabase, column: str
) -> None:
    first = make_batch(database, [{"status": status} for status in Status], name="first", file_sha256="1" * 64)
    for record in [look(database, record_id) for record_id in first.ids]:
        again = {"name": f"after {record.status}", column: getattr(record, column)}
        if record.status in FINAL:
            assert make_batch(database, **again).ids
        else:
            with pytest.raises(IntegrityError):
                make_batch(database, **again)


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "done"},
        {"status": Status.PENDING, "lease_id": "f" * 32},
        {"status": Status.ACTIVATING, "lease_id": None},
        {"otp1_state": "lost"},
        {"otp_type": "ocra"},
    ],
)
def test_words_and_leases_that_make_no_sense_are_refused(database: MovingDatabase, columns: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        make_batch(database, **columns)


# Whether an environment's devices wait for an OTP once they are made, by what became of its records.

DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)
MADE: dict[str, Any] = {"is_device_made": True, "status": Status.ACTIVE, "finalized_at": DAY}
# What says nothing of how a device is made.
OTHERS: list[dict[str, Any]] = [
    {"status": Status.ACTIVE, "finalized_at": DAY},
    {"is_device_made": True, "status": Status.CANCELLED, "finalized_at": DAY},
    {"is_device_made": True},
]


@ON_SQLITE
@pytest.mark.parametrize(("posts", "says"), [(0, "ACTIVE at once"), (1, "waits for an OTP")])
def test_the_last_device_that_was_made_shows_whether_one_waits_for_an_otp(
    database: MovingDatabase, posts: int, says: str
) -> None:
    make_batch(database, OTHERS, name="others", environment_id="others")
    made = make_batch(database, [MADE | {"otp1_posts": 1 - posts}, MADE | {"otp1_posts": posts}, *OTHERS])
    with database.reading() as connection:
        told = describe_pairing_answer(connection, ENVIRONMENT_ID)
        assert describe_pairing_answer(connection, "others") is None
    assert says in told
    assert f"(record {made.ids[1]}, 2026-03-01)" in told
