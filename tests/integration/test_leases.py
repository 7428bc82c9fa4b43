"""What a worker does with one record, on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, attempts, enqueue, look, make_batch, rescue
from support.data.moving_clock import MovingDatabase

from models.attempt import Outcome
from models.batch import BatchState
from models.reason import CURES, SEED_CURES, PauseReason, Reason
from models.record_states import FINAL, OtpState, Status
from worker.batches.commands import Batches
from worker.leases.settlement import CallSummary, Claim
from worker.leases.worker import Leases
from worker.pingone.errors import Answer
from worker.rules.progress import Active, DeadLetter, Decision, OtpProgress, Pause, Retry

ANSWER = Answer(200, None, None, "error-1", "correlation-1", None)
ENDS: list[Decision] = [
    Active(),
    Retry(5.0, is_counted=True, why="outcome_unknown"),
    Retry(0.0, is_counted=False, why="hold"),
    DeadLetter(Reason.INVALID_OTP),
    Pause(PauseReason.INTERNAL, delay=30.0),
]


def claim_all(database: MovingDatabase, leases: Leases, made: Made) -> list[Claim]:
    """The batch's records, queued and claimed."""
    enqueue(database, made)
    claims = [leases.claim(record_id, ENVIRONMENT_ID) for record_id in made.ids]
    assert None not in claims
    return [claimed for claimed in claims if claimed is not None]


def claim(database: MovingDatabase, leases: Leases, made: Made) -> Claim:
    """Its only record."""
    (claimed,) = claim_all(database, leases, made)
    return claimed


def claim_new(database: MovingDatabase, leases: Leases, **columns: Any) -> Claim:
    return claim(database, leases, make_batch(database, **columns))


def unchanged(database: MovingDatabase, before: Row[Any]) -> bool:
    return look(database, before.id) == before


# Claiming.


def test_a_claim_takes_a_queued_record_under_a_lease_of_its_own(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database)
    enqueue(database, made)

    claimed = leases.claim(made.id, ENVIRONMENT_ID)

    record = look(database, made.id)
    assert claimed is not None
    assert (record.status, record.lease_id, record.attempts) == (Status.ACTIVATING, claimed.lease_id, 1)
    assert abs(record.lease_until - database.read_clock() - timedelta(seconds=60)) < timedelta(seconds=30)
    assert (claimed.user_id, claimed.device_id, claimed.otps) == (record.user_id, record.device_id, record.otps)


def test_a_claim_of_a_fresh_record_marks_its_first_otp_as_sent(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases)

    record = look(database, claimed.record_id)
    assert claimed.is_otp1_marked
    assert claimed.progress.first == OtpProgress(OtpState.SENT, 1)
    assert (record.otp1_state, record.otp1_posts, record.otp2_posts) == (OtpState.SENT, 1, 0)
    assert record.lease_until - record.otp_sent_at == timedelta(seconds=60)


def test_a_second_message_for_the_same_record_claims_nothing(database: MovingDatabase, leases: Leases) -> None:
    before = look(database, claim_new(database, leases).record_id)

    assert leases.claim(before.id, ENVIRONMENT_ID) is None
    assert unchanged(database, before)


def test_only_a_queued_record_is_claimed(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, [{"status": status} for status in Status])
    before = [look(database, record_id) for record_id in made.ids]

    claims = [leases.claim(record_id, ENVIRONMENT_ID) for record_id in made.ids]

    assert [claim is not None for claim in claims] == [status == Status.QUEUED for status in Status]
    assert [unchanged(database, record) for record in before] == [status != Status.QUEUED for status in Status]


def test_a_record_of_another_environment_is_not_claimed(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database)
    enqueue(database, made)

    assert leases.claim(made.id, "the id of another tenant") is None
    assert look(database, made.id).status == Status.QUEUED


def test_an_unknown_id_is_not_claimed(leases: Leases) -> None:
    assert leases.claim(12_345, ENVIRONMENT_ID) is None


@pytest.mark.parametrize(
    ("column", "value"),
    [("otp1_posts", 1), ("otp2_posts", 1), ("not_found", 2), ("verdict", Reason.INVALID_OTP)],
)
def test_a_claim_knows_all_that_is_known_of_its_record(
    database: MovingDatabase, leases: Leases, column: str, value: Any
) -> None:
    progress = claim_new(database, leases, **{column: value}).progress

    assert progress.second is not None
    known = {
        "otp1_posts": progress.first.posts,
        "otp2_posts": progress.second.posts,
        "not_found": progress.not_found,
        "verdict": progress.verdict,
    }
    assert known[column] == value


@pytest.mark.parametrize("state", [BatchState.PAUSED, BatchState.CANCELLED])
def test_a_record_of_a_stopped_batch_is_not_claimed(
    database: MovingDatabase, leases: Leases, state: BatchState
) -> None:
    made = make_batch(database, state=state, status=Status.QUEUED)

    assert leases.claim(made.id, ENVIRONMENT_ID) is None
    assert look(database, made.id).status == Status.QUEUED


@pytest.mark.parametrize(
    "owed",
    [
        {"otp1_state": OtpState.SENT, "otp1_posts": 1},
        {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1, "otp2_state": OtpState.SENT, "otp2_posts": 1},
        {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1, "verdict": Reason.INVALID_OTP},
    ],
)
def test_a_cancelled_batch_still_reads_what_it_does_not_know(
    database: MovingDatabase, leases: Leases, owed: dict[str, Any]
) -> None:
    made = make_batch(database, state=BatchState.CANCELLED, status=Status.QUEUED, **owed)

    claimed = leases.claim(made.id, ENVIRONMENT_ID)

    assert claimed is not None
    assert not claimed.is_otp1_marked
    assert claimed.progress.needs_read


def test_a_claim_of_unknown_fate_sends_nothing_by_itself(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases, otp1_state=OtpState.SENT, otp1_posts=1)

    assert not claimed.is_otp1_marked
    assert claimed.progress.first == OtpProgress(OtpState.SENT, 1)
    assert look(database, claimed.record_id).otp1_posts == 1


@pytest.mark.parametrize(
    "columns",
    [
        {"otp1_posts": 1},
        {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1},
        {"not_found": 1},
        {"verdict": Reason.REJECTED},
        {"attempts": 8},
    ],
)
def test_a_record_with_a_past_is_claimed_without_marking_an_otp(
    database: MovingDatabase, leases: Leases, columns: dict[str, Any]
) -> None:
    made = make_batch(database, **columns)
    before = look(database, made.id)

    claimed = claim(database, leases, made)

    record = look(database, made.id)
    assert not claimed.is_otp1_marked
    assert record.otp_sent_at is None
    assert (record.otp1_state, record.otp1_posts) == (before.otp1_state, before.otp1_posts)


def test_attempts_before_a_replay_do_not_count_in_a_claim(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases, attempts=8, attempts_forgiven=8)

    assert claimed.is_otp1_marked
    assert claimed.progress.attempts == 1


def test_a_totp_pair_is_sent_until_it_expires(database: MovingDatabase, leases: Leases) -> None:
    expires_at = database.read_clock() + timedelta(seconds=120)
    made = make_batch(database, 2, otp_expires_at=expires_at)
    enqueue(database, made)

    in_time = leases.claim(made.ids[0], ENVIRONMENT_ID)
    database.ahead = 121
    too_late = leases.claim(made.ids[1], ENVIRONMENT_ID)

    assert in_time is not None
    assert too_late is not None
    assert (in_time.is_otp1_marked, in_time.progress.is_stale) == (True, False)
    assert (too_late.is_otp1_marked, too_late.progress.is_stale) == (False, True)
    assert look(database, made.ids[1]).otp1_posts == 0


def test_a_row_with_one_otp_has_no_second_to_send(database: MovingDatabase, leases: Leases) -> None:
    assert claim_new(database, leases, has_second_otp=False).progress.second is None


def test_a_claim_does_not_show_the_otps(database: MovingDatabase, leases: Leases) -> None:
    assert "sealed" not in repr(claim_new(database, leases))


# In the middle of an attempt.


def test_the_second_otp_is_written_down_before_it_goes_out(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases)
    first_sent_at = look(database, claimed.record_id).otp_sent_at
    database.ahead = 5

    assert leases.write_progress(claimed, claimed.progress.with_otp_answered(1))
    assert leases.mark_sent(claimed, 2)

    record = look(database, claimed.record_id)
    assert (record.otp1_state, record.otp1_posts) == (OtpState.ANSWERED, 1)
    assert (record.otp2_state, record.otp2_posts) == (OtpState.SENT, 1)
    assert record.otp_sent_at - first_sent_at >= timedelta(seconds=5)


def test_an_otp_found_unused_is_sent_again_and_counted(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases, otp1_state=OtpState.SENT, otp1_posts=1)

    assert leases.write_progress(claimed, claimed.progress.with_device_waiting())
    assert leases.mark_sent(claimed, 1)

    record = look(database, claimed.record_id)
    assert (record.otp1_state, record.otp1_posts) == (OtpState.SENT, 2)


@pytest.mark.parametrize("ordinal", [1, 2])
def test_an_otp_that_was_sent_is_not_marked_again(database: MovingDatabase, leases: Leases, ordinal: int) -> None:
    pasts = [{f"otp{ordinal}_state": state, f"otp{ordinal}_posts": 1} for state in (OtpState.SENT, OtpState.ANSWERED)]
    for claimed in claim_all(database, leases, make_batch(database, pasts, verdict=Reason.REJECTED)):
        before = look(database, claimed.record_id)
        assert not leases.mark_sent(claimed, ordinal)
        assert unchanged(database, before)


def test_nothing_is_sent_for_a_batch_that_was_stopped_meanwhile(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database)
    claimed = claim(database, leases, made)
    leases.write_progress(claimed, claimed.progress.with_otp_answered(1))

    Batches(database, TESTER).pause(made.name)
    assert not leases.may_read(claimed)
    assert not leases.renew_mark(claimed)
    assert not leases.mark_sent(claimed, 2)

    Batches(database, TESTER).resume(made.name)
    assert leases.may_read(claimed)
    assert leases.renew_mark(claimed)

    Batches(database, TESTER).cancel(made.name)
    assert not leases.may_read(claimed)
    assert not leases.renew_mark(claimed)
    assert not leases.mark_sent(claimed, 2)


def test_another_try_of_a_post_renews_the_time_of_its_mark(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases)
    before = look(database, claimed.record_id)
    database.ahead = 9

    assert leases.renew_mark(claimed)
    after = look(database, claimed.record_id)
    assert after.otp_sent_at - before.otp_sent_at >= timedelta(seconds=9)
    assert (after.otp1_state, after.otp1_posts) == (before.otp1_state, before.otp1_posts)


def test_no_otp_is_sent_after_it_expired(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases, otp_expires_at=database.read_clock() + timedelta(seconds=20))
    leases.write_progress(claimed, claimed.progress.with_otp_answered(1))
    database.ahead = 21

    assert not leases.mark_sent(claimed, 2)


def test_a_worker_that_lost_its_lease_may_do_nothing_more(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases)
    database.ahead = 61
    assert rescue(database) == 1
    before = look(database, claimed.record_id)

    assert not leases.may_read(claimed)
    assert not leases.renew_mark(claimed)
    assert not leases.write_progress(claimed, claimed.progress.with_otp_answered(1))
    assert not leases.mark_sent(claimed, 2)
    assert unchanged(database, before)


# Handing back what was not claimed.


def test_a_record_handed_back_is_due_again_after_the_delay(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database)
    enqueue(database, made)

    assert leases.hand_back(made.id, 30.0)

    record = look(database, made.id)
    assert (record.status, record.lease_until, record.attempts) == (Status.PENDING, None, 0)
    assert enqueue(database, made) == []
    database.ahead = 31
    assert enqueue(database, made) == [made.id]


def test_only_a_queued_record_is_handed_back(database: MovingDatabase, leases: Leases) -> None:
    others = [status for status in Status if status != Status.QUEUED]
    made = make_batch(database, [{"status": status} for status in others], state=BatchState.PAUSED)

    for record_id in made.ids:
        before = look(database, record_id)
        assert not leases.hand_back(record_id, 0.0)
        assert not leases.hand_back_stopped(record_id)
        assert unchanged(database, before)


def test_a_queued_record_goes_back_if_its_batch_was_stopped(database: MovingDatabase, leases: Leases) -> None:
    running = make_batch(database, status=Status.QUEUED)
    paused = make_batch(database, name="paused", state=BatchState.PAUSED, status=Status.QUEUED)

    assert not leases.hand_back_stopped(running.id)
    assert leases.hand_back_stopped(paused.id)

    assert look(database, running.id).status == Status.QUEUED
    assert look(database, paused.id).status == Status.PENDING


# Settling.


def test_an_active_record_keeps_no_otp(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases)

    assert leases.settle(claimed, claimed.progress.with_otp_answered(1), Active(), CallSummary(1, 0, ANSWER))

    record = look(database, claimed.record_id)
    assert (record.status, record.otps, record.lease_id, record.lease_until) == (Status.ACTIVE, None, None, None)
    assert (record.otp1_state, record.reason, record.resynced) == (OtpState.ANSWERED, None, False)
    assert record.finalized_at is not None


def test_a_line_says_for_how_long_pingone_was_called(database: MovingDatabase, leases: Leases) -> None:
    called, spared = claim_new(database, leases), claim_new(database, leases, name="other")

    for claimed, summary in ((called, CallSummary(2, 0, ANSWER, 0.2504)), (spared, CallSummary())):
        leases.settle(claimed, claimed.progress, Retry(0.0, is_counted=True, why="hold"), summary)

    assert [line.call_milliseconds for line in attempts(database, called.record_id)] == [250]
    assert [line.call_milliseconds for line in attempts(database, spared.record_id)] == [None]


def test_a_record_that_took_both_otps_was_resynced(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases)
    progress = claimed.progress.with_otp_answered(1).with_otp_sent(2).with_otp_answered(2)

    leases.settle(claimed, progress, Active(), CallSummary(2, 0, ANSWER))

    assert look(database, claimed.record_id).resynced


def test_a_dead_letter_says_why_and_keeps_its_otps(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases)

    leases.settle(
        claimed, claimed.progress.with_otp_answered(1), DeadLetter(Reason.INVALID_OTP), CallSummary(2, 0, ANSWER)
    )

    record = look(database, claimed.record_id)
    assert (record.status, record.reason) == (Status.DEAD_LETTER, Reason.INVALID_OTP)
    assert record.detail == CURES[Reason.INVALID_OTP]
    assert (record.pingone_error_id, record.correlation_id) == ("error-1", "correlation-1")
    assert record.otps == b"sealed"
    assert record.finalized_at is not None
    assert record.lease_id is None


def test_a_dead_letter_with_a_seed_has_the_cure_of_a_seed(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases, next_counter=7)

    refused = DeadLetter(Reason.INVALID_OTP)
    leases.settle(claimed, claimed.progress.with_otp_answered(1), refused, CallSummary(2, 0, ANSWER))

    assert look(database, claimed.record_id).detail == SEED_CURES[Reason.INVALID_OTP]


def test_a_dead_letter_keeps_what_pingone_showed_behind_its_cure(database: MovingDatabase, leases: Leases) -> None:
    claimed = claim_new(database, leases)
    taken = DeadLetter(Reason.TOKEN_TAKEN, told="It is the device of user 17.")

    leases.settle(claimed, claimed.progress.with_otp_answered(1), taken, CallSummary(2, 0, ANSWER))

    assert look(database, claimed.record_id).detail == f"{CURES[Reason.TOKEN_TAKEN]} It is the device of user 17."


def test_a_retry_is_due_after_its_delay(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database)
    claimed = claim(database, leases, made)

    leases.settle(claimed, claimed.progress, Retry(30.0, is_counted=True, why="outcome_unknown"), CallSummary(1))

    record = look(database, made.id)
    assert (record.status, record.attempts, record.lease_id) == (Status.PENDING, 1, None)
    assert (record.otp1_state, record.finalized_at) == (OtpState.SENT, None)
    assert enqueue(database, made) == []
    database.ahead = 31
    assert enqueue(database, made) == [made.id]


@pytest.mark.parametrize(
    ("decision", "counted"),
    [
        (Active(), 1),
        (Retry(0.0, is_counted=True, why="outcome_unknown"), 1),
        (Retry(0.0, is_counted=False, why="hold"), 0),
        (DeadLetter(Reason.INVALID_OTP), 1),
        (DeadLetter(Reason.FORBIDDEN, is_counted=False), 0),
        (Pause(PauseReason.CREDENTIALS), 0),
    ],
)
def test_an_attempt_counts_only_where_pingone_did_something(
    database: MovingDatabase, leases: Leases, decision: Decision, counted: int
) -> None:
    claimed = claim_new(database, leases)

    leases.settle(claimed, claimed.progress, decision, CallSummary())

    assert look(database, claimed.record_id).attempts == counted


@pytest.mark.parametrize(
    ("decision", "outcome", "reason"),
    [
        (Active(), Outcome.ACTIVE, None),
        (Retry(0.0, is_counted=True, why="outcome_unknown"), Outcome.RETRY, "outcome_unknown"),
        (Retry(0.0, is_counted=False, why="hold"), Outcome.HANDED_BACK, "hold"),
        (DeadLetter(Reason.LOCKED), Outcome.DEAD_LETTER, "locked"),
        (Pause(PauseReason.PROTOCOL), Outcome.HANDED_BACK, "protocol"),
    ],
)
def test_every_attempt_leaves_a_line_of_history(
    database: MovingDatabase, leases: Leases, decision: Decision, outcome: Outcome, reason: str | None
) -> None:
    claimed = claim_new(database, leases)
    answer = Answer(400, "INVALID_DATA", "INVALID_OTP", "error-1", "correlation-1", "not kept")

    leases.settle(claimed, claimed.progress, decision, CallSummary(3, 1, answer))

    (line,) = attempts(database, claimed.record_id)
    assert (line.number, line.outcome, line.reason, line.requests) == (1, outcome, reason, 3)
    assert (line.http_status, line.code, line.detail_code) == (400, "INVALID_DATA", "INVALID_OTP")
    assert (line.pingone_error_id, line.correlation_id) == ("error-1", "correlation-1")
    assert line.lease_id == claimed.lease_id
    assert line.worker
    assert line.ended_at is not None


def test_attempts_are_numbered_and_costs_add_up(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, not_found=1)
    for is_counted in (True, False, True):
        claimed = claim(database, leases, made)
        leases.settle(claimed, claimed.progress, Retry(0.0, is_counted=is_counted, why="not_found"), CallSummary(2, 1))

    record = look(database, made.id)
    assert [line.number for line in attempts(database, made.id)] == [1, 2, 2]
    assert (record.attempts, record.requests, record.rate_limited) == (2, 6, 3)


def test_the_last_answer_of_pingone_is_kept_when_an_attempt_has_none(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database)
    claimed = claim(database, leases, made)
    leases.settle(
        claimed, claimed.progress, Retry(0.0, is_counted=True, why="outcome_unknown"), CallSummary(1, 0, ANSWER)
    )
    claimed = claim(database, leases, made)
    leases.settle(claimed, claimed.progress, Retry(0.0, is_counted=False, why="hold"), CallSummary())

    assert look(database, made.id).correlation_id == "correlation-1"


def test_a_settle_works_late_while_the_lease_stands(database: MovingDatabase, leases: Leases) -> None:
    claims = claim_all(database, leases, make_batch(database, len(ENDS)))
    database.ahead = 600

    for claimed, decision in zip(claims, ENDS, strict=True):
        assert leases.settle(claimed, claimed.progress.with_otp_answered(1), decision, CallSummary())
        assert look(database, claimed.record_id).status != Status.ACTIVATING


def test_a_settle_after_the_rescue_changes_nothing(database: MovingDatabase, leases: Leases) -> None:
    claims = claim_all(database, leases, make_batch(database, len(ENDS)))
    database.ahead = 61
    rescue(database)

    for claimed, decision in zip(claims, ENDS, strict=True):
        before = look(database, claimed.record_id)
        assert not leases.settle(claimed, claimed.progress.with_otp_answered(1), decision, CallSummary(1, 0, ANSWER))
        assert unchanged(database, before)
        assert [line.outcome for line in attempts(database, claimed.record_id)] == [Outcome.LOST]


def test_a_settle_under_an_old_lease_leaves_the_new_one_alone(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, len(ENDS))
    late = claim_all(database, leases, made)
    database.ahead = 61
    rescue(database)
    current = claim_all(database, leases, made)

    for old, new, decision in zip(late, current, ENDS, strict=True):
        before = look(database, old.record_id)
        assert not leases.settle(old, old.progress.with_otp_answered(1), decision, CallSummary(1, 0, ANSWER))
        assert unchanged(database, before)
        assert before.lease_id == new.lease_id != old.lease_id


def test_an_attempt_is_settled_once(database: MovingDatabase, leases: Leases) -> None:
    for claimed, decision in zip(claim_all(database, leases, make_batch(database, len(ENDS))), ENDS, strict=True):
        assert leases.settle(claimed, claimed.progress.with_otp_answered(1), decision, CallSummary())
        before = look(database, claimed.record_id)

        assert not leases.settle(claimed, claimed.progress.with_otp_answered(1), decision, CallSummary())
        assert unchanged(database, before)
        assert len(attempts(database, claimed.record_id)) == 1


# What the tables themselves forbid.


@pytest.mark.parametrize("column", ["serial_number", "device_id"])
def test_a_token_or_a_device_is_worked_on_in_one_place_at_a_time(database: MovingDatabase, column: str) -> None:
    first = look(database, make_batch(database, name="first").id)

    with pytest.raises(IntegrityError):
        make_batch(database, name="second", **{column: getattr(first, column)})


def test_a_token_comes_again_once_it_is_final(database: MovingDatabase) -> None:
    first = make_batch(database, [{"status": status} for status in sorted(FINAL)], name="first")
    tokens = [look(database, record_id) for record_id in first.ids]

    again = [{"serial_number": token.serial_number, "device_id": token.device_id} for token in tokens]
    assert len(make_batch(database, again, name="second").ids) == len(FINAL)


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


def test_a_batch_ran_at_a_time_since_which_it_was_neither_loaded_nor_resumed(
    database: MovingDatabase, leases: Leases
) -> None:
    claimed = claim_new(database, leases)
    assert not leases.ran(claimed, timedelta(seconds=5))
    database.ahead += 10
    assert leases.ran(claimed, timedelta(seconds=5))

    batches = Batches(database, TESTER)
    batches.pause("shipment")
    batches.resume("shipment")
    assert not leases.ran(claimed, timedelta(seconds=5))
