"""What journals show, and how that corrects a database that lost its last commits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations

import pytest
from support.data.progress import progress_with_device

from models.reason import Reason
from models.record_states import OtpState
from worker.journal.evidence import ACTIVE, NEXT_OTP, Evidence, Row, find_consequence, gather_evidence
from worker.journal.reader import Line
from worker.pingone import errors, refusals
from worker.pingone.errors import Answer
from worker.pingone.wire import Device
from worker.rules import decisions
from worker.rules.limits import Limits
from worker.rules.progress import OtpProgress, Progress
from worker.rules.steps import Active, DeadLetter, ReadDevice, Retry, SendOtp

FRESH = progress_with_device()
SENT, UNSENT, ANSWERED = OtpState.SENT, OtpState.UNSENT, OtpState.ANSWERED
LIMITS = Limits()


def line(
    state: OtpState,
    posts: int,
    then: str | None = None,
    *,
    otp: int = 1,
    lease: str = "a",
    next_counter: int | None = None,
) -> Line:
    return Line.model_validate(
        {
            "at": datetime(2026, 7, 1, tzinfo=UTC),
            "batch": 7,
            "row": 12,
            "device": "device",
            "lease": lease,
            "otp": otp,
            "state": state,
            "posts": posts,
            "then": then,
            "next_counter": next_counter,
        }
    )


def evidence(*lines: Line) -> Evidence:
    return gather_evidence(lines)[Row(7, 12, "device")]


def otps(progress: Progress) -> tuple[tuple[OtpState, int], ...]:
    return tuple((otp.state, otp.posts) for otp in (progress.first, progress.second) if otp)


def test_an_otp_that_went_out_unknown_to_the_database_is_of_unknown_fate() -> None:
    learnt = evidence(line(SENT, 1)).correct(FRESH)
    assert otps(learnt) == ((SENT, 1), (UNSENT, 0))
    assert decisions.choose_first_step(learnt, LIMITS)[1] == ReadDevice()


def test_a_post_that_the_database_counts_tells_it_nothing_whatever_a_read_found_since() -> None:
    for known in (OtpProgress(SENT, 1), OtpProgress(UNSENT, 1), OtpProgress(SENT, 2), OtpProgress(ANSWERED, 1)):
        assert evidence(line(SENT, 1)).correct(progress_with_device(first=known)) == progress_with_device(first=known)


def test_a_second_post_of_an_otp_is_one_more_than_the_database_counts() -> None:
    learnt = evidence(line(SENT, 2)).correct(progress_with_device(first=OtpProgress(UNSENT, 1)))
    assert learnt.first == OtpProgress(SENT, 2)


def test_an_otp_that_was_taken_back_never_went_out() -> None:
    assert evidence(line(SENT, 1), line(UNSENT, 0)).correct(FRESH) == FRESH


def test_an_otp_that_was_taken_back_leaves_an_earlier_lease_open() -> None:
    seen = evidence(line(SENT, 1), line(SENT, 2, lease="b"), line(UNSENT, 1, lease="b"))
    assert seen.correct(FRESH).first == OtpProgress(SENT, 1)


def test_a_late_word_of_an_earlier_lease_does_not_take_back_a_later_one() -> None:
    seen = evidence(line(SENT, 1), line(SENT, 2, lease="b"), line(UNSENT, 0))
    assert seen.correct(FRESH).first == OtpProgress(SENT, 2)


def test_the_order_of_two_leases_decides_nothing() -> None:
    leases = [
        [line(SENT, 1), line(SENT, 1)],
        [line(SENT, 2, lease="b"), line(UNSENT, 1, lease="b")],
        [line(SENT, 2, lease="c"), line(ANSWERED, 2, Reason.INVALID_OTP, lease="c")],
    ]
    learnt = {evidence(*[each for lease in order for each in lease]).correct(FRESH) for order in permutations(leases)}
    assert learnt == {progress_with_device(first=OtpProgress(ANSWERED, 2), verdict=Reason.INVALID_OTP)}


def test_after_a_request_for_the_second_otp_that_one_goes_next() -> None:
    learnt = evidence(line(SENT, 1), line(ANSWERED, 1, NEXT_OTP)).correct(FRESH)
    assert otps(learnt) == ((ANSWERED, 1), (UNSENT, 0))
    assert decisions.choose_first_step(learnt, LIMITS)[1] == SendOtp(2)


def test_a_second_otp_that_went_out_says_that_the_first_was_answered_with_a_request_for_it() -> None:
    for second in (line(SENT, 1, otp=2), line(UNSENT, 0, otp=2)):
        for first in ([], [line(SENT, 1)], [line(ANSWERED, 1, Reason.ATTEMPTS_SPENT)]):
            learnt = evidence(*first, second).correct(FRESH)
            assert learnt.first == OtpProgress(ANSWERED, 1)
            assert learnt.verdict is None


def test_what_the_database_knows_already_stays() -> None:
    known = progress_with_device(first=OtpProgress(ANSWERED, 2), verdict=Reason.REJECTED, attempts=4)
    assert evidence(line(ANSWERED, 1, Reason.INVALID_OTP)).correct(known) == known


def test_a_record_without_a_second_otp_learns_of_its_first_alone() -> None:
    known = progress_with_device(second=None)
    learnt = evidence(line(ANSWERED, 1, Reason.SECOND_OTP_MISSING)).correct(known)
    assert (learnt.first, learnt.second, learnt.verdict) == (
        OtpProgress(ANSWERED, 1),
        None,
        Reason.SECOND_OTP_MISSING,
    )


RESYNC = errors.ResyncRequired(Answer(status=400))
INVALID = errors.InvalidOtp(Answer(status=400))
REJECTED = refusals.Rejected(Answer(status=400))
UNUSABLE = refusals.Rejected(Answer(status=400, code="ACCOUNT_NOT_USABLE"))
DEVICE = Device("ACTIVE", False, False, Answer(status=200))
SECOND = progress_with_device(first=OtpProgress(ANSWERED, 1), second=OtpProgress(SENT, 1))


@pytest.mark.parametrize(
    ("sent", "ordinal", "answer", "then"),
    [
        (FRESH.with_otp_sent(1), 1, DEVICE, ACTIVE),
        (FRESH.with_otp_sent(1), 1, RESYNC, NEXT_OTP),
        (progress_with_device(second=None).with_otp_sent(1), 1, RESYNC, Reason.SECOND_OTP_MISSING),
        (FRESH.with_otp_sent(1), 1, INVALID, Reason.INVALID_OTP),
        (FRESH.with_otp_sent(1), 1, REJECTED, Reason.REJECTED),
        (FRESH.with_otp_sent(1), 1, UNUSABLE, Reason.ACCOUNT_NOT_USABLE),
        (SECOND, 2, DEVICE, ACTIVE),
        (SECOND, 2, RESYNC, Reason.RESYNC_FAILED),
        (SECOND, 2, INVALID, Reason.RESYNC_FAILED),
    ],
    ids=str,
)
def test_every_answer_is_learnt_so_that_no_answered_otp_goes_again(
    sent: Progress, ordinal: int, answer: Device | errors.PingOneError, then: str
) -> None:
    """And a record ends as it would have ended, had the database lost nothing."""
    progress, step = decisions.decide_after_post(sent, ordinal, answer, LIMITS)
    assert find_consequence(progress, step) == then
    written = [line(SENT, 1, otp=ordinal), line(ANSWERED, 1, find_consequence(progress, step), otp=ordinal)]
    forgotten = replace(sent, first=OtpProgress(), second=sent.second and OtpProgress())

    learnt = evidence(*written).correct(forgotten)

    assert learnt.otp(ordinal) == OtpProgress(ANSWERED, 1)
    assert evidence(*written).correct(learnt) == learnt
    known, first_step = decisions.choose_first_step(learnt, LIMITS)
    if then == NEXT_OTP:
        assert first_step == SendOtp(2)
        return
    assert first_step == ReadDevice()
    assert decisions.decide_after_read(known, DEVICE, LIMITS)[1] == Active()
    waiting = replace(DEVICE, status="ACTIVATION_REQUIRED")
    ends = then if then != ACTIVE else Reason.BUDGET_SPENT
    assert decisions.decide_after_read(known, waiting, LIMITS)[1] == DeadLetter(Reason(ends))


def test_what_follows_no_answer_is_nothing() -> None:
    assert find_consequence(FRESH.with_otp_sent(1), Retry(30.0, is_counted=True, why="outcome_unknown")) is None


def test_a_word_that_is_not_known_asks_for_a_read() -> None:
    for word in (None, "from_another_version"):
        learnt = evidence(line(ANSWERED, 1, word)).correct(FRESH)
        assert decisions.choose_first_step(learnt, LIMITS)[1] == ReadDevice()


def test_rows_of_the_same_number_with_another_device_or_batch_are_others() -> None:
    lines = [
        line(SENT, 1),
        line(SENT, 1).model_copy(update={"device": "x"}),
        line(SENT, 1).model_copy(update={"batch": 8}),
    ]
    assert len(gather_evidence(lines)) == 3


SEED = progress_with_device(next_counter=5)


def test_a_seed_goes_on_behind_a_counter_that_the_database_does_not_know_as_used() -> None:
    learnt = evidence(line(SENT, 1, next_counter=6)).correct(SEED)
    assert (otps(learnt), learnt.next_counter) == (((SENT, 1), (UNSENT, 0)), 6)
    assert decisions.choose_first_step(learnt, LIMITS)[1] == ReadDevice()


def test_what_the_database_knows_of_a_seed_stays() -> None:
    known = replace(SEED, first=OtpProgress(SENT, 1), next_counter=6)
    assert evidence(line(SENT, 1, next_counter=6)).correct(known) == known


def test_after_pairs_that_the_database_does_not_know_a_seed_begins_another_after_a_read() -> None:
    pairs = [
        *(line(SENT, 1, next_counter=6), line(ANSWERED, 1, NEXT_OTP, next_counter=6)),
        *(line(SENT, 1, otp=2, next_counter=7), line(SENT, 2, lease="b", next_counter=8)),
    ]
    for known in (SEED, replace(SEED, first=OtpProgress(ANSWERED, 1), next_counter=6)):
        learnt = evidence(*pairs).correct(known)
        assert (learnt.first.state, learnt.next_counter) == (SENT, 8)
        assert learnt.posts == 3
        assert decisions.choose_first_step(learnt, LIMITS)[1] == ReadDevice()


def test_a_refusal_that_the_database_does_not_know_decides_a_seeds_record_too() -> None:
    learnt = evidence(line(SENT, 1, next_counter=6), line(ANSWERED, 1, "invalid_otp", next_counter=6)).correct(SEED)
    assert (learnt.verdict, learnt.next_counter) == (Reason.INVALID_OTP, 6)


@pytest.mark.parametrize("then", [Reason.INVALID_OTP, ACTIVE, NEXT_OTP])
def test_an_answer_from_before_a_seed_began_another_pair_tells_nothing_of_that_pair(then: str) -> None:
    began_again = replace(SEED, first=OtpProgress(UNSENT, 1), next_counter=7, posts_forgiven=1)
    seen = evidence(line(SENT, 1, next_counter=6), line(ANSWERED, 1, then, next_counter=6))
    assert seen.correct(began_again) == began_again


def test_a_second_otp_from_before_a_seed_began_another_pair_tells_nothing_of_that_pair() -> None:
    began_again = replace(SEED, first=OtpProgress(UNSENT, 1), second=OtpProgress(UNSENT, 1), next_counter=7)
    seen = evidence(
        *(line(SENT, 1, next_counter=6), line(ANSWERED, 1, NEXT_OTP, next_counter=6)),
        *(line(SENT, 1, otp=2, next_counter=7), line(ANSWERED, 1, "resync_failed", otp=2, next_counter=7)),
    )
    assert seen.correct(began_again) == began_again
