"""What each answer means for a record: the table of the design, a sentence a row."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.data.progress import progress_with_device

from models.reason import PauseReason, Reason
from models.record_states import OtpState, PairingState
from worker.pace.errors import SlotTooFar
from worker.pingone import errors
from worker.pingone.devices import Device, Pairing
from worker.pingone.errors import Answer
from worker.rules import decisions
from worker.rules.decisions import (
    choose_first_step,
    decide_after_pairing,
    decide_after_post,
    decide_after_read,
    decide_after_search,
    find_age_of_others_work,
)
from worker.rules.progress import (
    Active,
    DeadLetter,
    Decision,
    FindDevice,
    Limits,
    OtpProgress,
    PairingProgress,
    Pause,
    Progress,
    ReadDevice,
    Retry,
    SendOtp,
    Step,
)
from worker.rules.quota import Quota

LIMITS = Limits(posts=3, attempts=8, read_delay=30.0, not_found_delay=10.0)
ANSWER = Answer(status=400)
NOTHING_HAPPENED = (errors.NotDelivered(), errors.TooLateToSend(), errors.RateLimited(ANSWER, 7.0))


def device(status: str = "ACTIVATION_REQUIRED", *, is_locked: bool = False, is_blocked: bool = False) -> Device:
    return Device(status, is_locked, is_blocked, Answer(status=200))


ACTIVE, WAITING = device("ACTIVE"), device()


def posted(ordinal: int, progress: Progress | None = None) -> Progress:
    """A record whose first or second OTP has just gone out."""
    before = progress or progress_with_device()
    return before.with_otp_sent(1) if ordinal == 1 else before.with_otp_sent(1).with_otp_answered(1).with_otp_sent(2)


def refused(code: str | None = None, detail_code: str | None = None) -> errors.Rejected:
    return errors.Rejected(Answer(status=400, code=code, detail_code=detail_code))


def post_then_read(ordinal: int, answer: errors.PingOneError, then: Device) -> tuple[Progress, Step | Decision]:
    progress, step = decide_after_post(posted(ordinal), ordinal, answer, LIMITS)
    assert step == ReadDevice()
    return decide_after_read(progress, then, LIMITS)


def test_a_fresh_record_begins_with_its_first_otp():
    assert choose_first_step(progress_with_device(), LIMITS) == (progress_with_device(), SendOtp(1))


@pytest.mark.parametrize("ordinal", [1, 2])
def test_an_active_device_is_active(ordinal):
    progress, step = decide_after_post(posted(ordinal), ordinal, ACTIVE, LIMITS)
    assert step == Active()
    assert progress.otp(ordinal).state == OtpState.ANSWERED


def test_extra_otp_required_to_otp_1_sends_otp_2():
    progress, step = decide_after_post(posted(1), 1, errors.ResyncRequired(ANSWER), LIMITS)
    assert step == SendOtp(2)
    assert progress.first == OtpProgress(OtpState.ANSWERED, 1)


def test_extra_otp_required_without_a_second_otp_is_a_dead_letter():
    progress = posted(1, progress_with_device(second=None))
    assert decide_after_post(progress, 1, errors.ResyncRequired(ANSWER), LIMITS)[1] == DeadLetter(
        Reason.SECOND_OTP_MISSING
    )


def test_extra_otp_required_to_otp_2_is_a_dead_letter():
    progress, step = decide_after_post(posted(2), 2, errors.ResyncRequired(ANSWER), LIMITS)
    assert step == DeadLetter(Reason.RESYNC_FAILED)
    assert not progress.needs_read


@pytest.mark.parametrize(("ordinal", "reason"), [(1, Reason.INVALID_OTP), (2, Reason.RESYNC_FAILED)])
@pytest.mark.parametrize("found", [WAITING, device(is_locked=True), device(is_blocked=True)])
def test_a_refused_otp_is_a_dead_letter_once_a_read_finds_the_device_not_active(ordinal, reason, found):
    progress, step = post_then_read(ordinal, errors.InvalidOtp(ANSWER), found)
    assert step == DeadLetter(reason)
    assert progress.otp(ordinal).state == OtpState.ANSWERED


@pytest.mark.parametrize("ordinal", [1, 2])
@pytest.mark.parametrize("answer", [errors.InvalidOtp(ANSWER), refused("REQUEST_FAILED")])
def test_a_refusal_by_a_device_that_is_active_already_ends_active(ordinal, answer):
    assert post_then_read(ordinal, answer, ACTIVE)[1] == Active()


@pytest.mark.parametrize("ordinal", [1, 2])
@pytest.mark.parametrize("answer", NOTHING_HAPPENED, ids=lambda answer: type(answer).__name__)
def test_what_was_not_delivered_or_not_acted_on_is_as_if_it_had_not_been_sent(ordinal, answer):
    progress, step = decide_after_post(posted(ordinal), ordinal, answer, LIMITS)
    assert progress.otp(ordinal) == OtpProgress(OtpState.UNSENT, 0)
    assert isinstance(step, Retry)
    assert not step.is_counted
    assert choose_first_step(progress, LIMITS)[1] == SendOtp(ordinal)


QUOTA = errors.RateLimited(Answer(status=429, detail_code="QUOTA_EXCEEDED"), 3600.0, datetime(2026, 11, 26, tzinfo=UTC))


@pytest.mark.parametrize("ordinal", [1, 2])
def test_a_quota_that_resets_far_off_pauses_the_batch_and_costs_the_record_nothing(ordinal):
    progress, step = decide_after_post(posted(ordinal), ordinal, QUOTA, LIMITS)
    assert progress.otp(ordinal) == OtpProgress(OtpState.UNSENT, 0)
    assert step == Pause(PauseReason.QUOTA, quota=Quota(3600.0, QUOTA.quota_reset_at))
    assert choose_first_step(progress, LIMITS)[1] == SendOtp(ordinal)


def test_a_read_that_the_quota_does_not_let_through_is_still_owed():
    progress, step = decide_after_read(posted(1), QUOTA, LIMITS)
    assert progress == posted(1)
    assert (step.reason, step.quota) == (PauseReason.QUOTA, Quota(3600.0, QUOTA.quota_reset_at))
    # A cancelled batch cannot pause: it asks again, and not at every tick.
    assert step.delay == LIMITS.read_delay


def test_a_limit_that_is_over_soon_pauses_nothing():
    soon = errors.RateLimited(QUOTA.answer, LIMITS.longest_hold, QUOTA.quota_reset_at)
    assert isinstance(decide_after_post(posted(1), 1, soon, LIMITS)[1], Retry)


@pytest.mark.parametrize("answer", NOTHING_HAPPENED, ids=lambda answer: type(answer).__name__)
def test_an_outage_of_hours_dead_letters_nothing(answer):
    progress = progress_with_device(attempts=LIMITS.attempts)
    for _ in range(5000):
        progress, step = choose_first_step(progress, LIMITS)
        assert step == SendOtp(1)
        progress, step = decide_after_post(progress.with_otp_sent(1), 1, answer, LIMITS)
        assert isinstance(step, Retry)
        assert not step.is_counted


@pytest.mark.parametrize(("wait", "delay"), [(3.5, 3.5), (12.5, 5.0), (86_400.0, 5.0)])
def test_a_far_slot_hands_the_record_back_for_seconds_however_far_it_is(wait, delay):
    for _, step in (
        decide_after_post(posted(1), 1, SlotTooFar(wait), LIMITS),
        decide_after_read(posted(1), SlotTooFar(wait), LIMITS),
        (None, decisions.hand_back_without_slot(SlotTooFar(wait))),
    ):
        assert step == Retry(delay, is_counted=False, why="hold")


@pytest.mark.parametrize("ordinal", [1, 2])
@pytest.mark.parametrize(("jitter", "delay"), [(0.0, 30.0), (1.0, 37.5)])
def test_an_unknown_outcome_waits_before_the_device_is_read(ordinal, jitter, delay):
    before = replace(posted(ordinal), jitter=jitter)
    progress, step = decide_after_post(before, ordinal, errors.OutcomeUnknown(), LIMITS)
    assert step == Retry(delay, is_counted=True, why="outcome_unknown")
    assert progress.otp(ordinal).state == OtpState.SENT
    assert choose_first_step(progress, LIMITS)[1] == ReadDevice()


DONE = Answer(status=200, correlation_id="3f0c8a52")


@pytest.mark.parametrize("ordinal", [1, 2])
def test_a_post_that_pingone_is_done_with_is_read_at_once_and_its_otp_stays_of_unknown_fate(ordinal):
    progress, step = decide_after_post(posted(ordinal), ordinal, errors.OutcomeUnknown(DONE), LIMITS)
    assert step == ReadDevice()
    assert progress.otp(ordinal).state == OtpState.SENT
    assert decide_after_read(progress, ACTIVE, LIMITS)[1] == Active()
    # A read that fails leaves it so.
    progress, step = decide_after_read(progress, errors.OutcomeUnknown(DONE), LIMITS)
    assert isinstance(step, Retry)
    assert progress.needs_read


@pytest.mark.parametrize("ordinal", [1, 2])
def test_a_device_that_still_waits_right_after_its_post_is_read_again_before_the_otp_goes_again(ordinal):
    progress, _ = decide_after_post(posted(ordinal), ordinal, errors.OutcomeUnknown(DONE), LIMITS)
    progress, step = decide_after_read(progress, WAITING, LIMITS)
    assert step == Retry(30.0, is_counted=True, why="outcome_unknown")
    assert progress.otp(ordinal).state == OtpState.SENT


@pytest.mark.parametrize("ordinal", [1, 2])
def test_a_device_of_unknown_status_does_not_tell_what_became_of_its_otp(ordinal):
    progress, step = decide_after_read(posted(ordinal), device("ASLEEP"), LIMITS)
    assert (progress, step) == (posted(ordinal), Retry(5.0, is_counted=True, why="outcome_unknown"))
    assert decide_after_read(posted(ordinal), device("ASLEEP", is_locked=True), LIMITS)[1] == DeadLetter(Reason.LOCKED)


def test_a_device_of_unknown_status_may_get_an_otp_of_which_nothing_is_open():
    progress = progress_with_device(not_found=1)
    assert decide_after_read(progress, device("ASLEEP"), LIMITS)[1] == SendOtp(1)


def test_another_devices_answer_is_no_answer_and_told_by_its_name():
    progress, step = decide_after_post(posted(1), 1, errors.OtherDevice(DONE), LIMITS)
    assert (progress, step) == (posted(1), Retry(30.0, is_counted=True, why="other_device"))
    progress, step = decide_after_read(posted(1), errors.OtherDevice(DONE), LIMITS)
    assert (progress, step) == (posted(1), Retry(5.0, is_counted=True, why="other_device"))


@pytest.mark.parametrize("ordinal", [1, 2])
def test_after_an_unknown_outcome_the_same_otp_goes_again_if_the_device_still_waits(ordinal):
    progress, step = decide_after_read(posted(ordinal), WAITING, LIMITS)
    assert step == SendOtp(ordinal)
    assert progress.otp(ordinal) == OtpProgress(OtpState.UNSENT, 1)


def test_after_an_unknown_outcome_an_active_device_is_active():
    assert decide_after_read(posted(1), ACTIVE, LIMITS)[1] == Active()


def test_a_read_that_fails_is_made_again_ever_later_and_decides_nothing():
    delays = []
    for attempt in range(1, 40):
        progress = replace(posted(1), attempts=attempt)
        after, step = decide_after_read(progress, errors.OutcomeUnknown(), LIMITS)
        assert after == progress
        assert isinstance(step, Retry)
        assert step.is_counted
        delays.append(step.delay)
    assert delays[:4] == [5, 10, 20, 40]
    assert delays == sorted(delays)
    assert delays[-1] == 300
    slow = replace(LIMITS, read_delay=60.0)
    assert decisions.choose_read_delay(replace(posted(1), attempts=2), slow) == 20
    assert decisions.choose_read_delay(posted(1), replace(LIMITS, read_delay=0.0)) == 0.5
    spread = decide_after_read(replace(posted(1), jitter=1.0), errors.OutcomeUnknown(), LIMITS)[1]
    assert isinstance(spread, Retry)
    assert spread.delay == 7.5


def test_an_access_token_that_was_refused_twice_sends_the_record_back_and_costs_it_nothing():
    refused = errors.Unauthorized(ANSWER)
    assert decide_after_post(posted(1), 1, refused, LIMITS) == (
        progress_with_device(),
        Retry(1.0, is_counted=False, why="unauthorized"),
    )
    # A read that is owed is not asked for at every tick.
    owed = Retry(LIMITS.read_delay, is_counted=False, why="unauthorized")
    assert decide_after_read(posted(1), refused, LIMITS) == (posted(1), owed)


def test_refused_credentials_pause_the_batch_and_cost_the_record_nothing():
    answer = errors.CredentialsRefused(ANSWER)
    progress, step = decide_after_post(posted(1), 1, answer, LIMITS)
    assert (progress, step) == (progress_with_device(), Pause(PauseReason.CREDENTIALS, is_own=True))
    # Not at once again: a cancelled batch cannot pause, and is asked at every tick for the read that it owes.
    owed = Pause(PauseReason.CREDENTIALS, LIMITS.read_delay, is_own=True)
    assert decide_after_read(posted(1), answer, LIMITS) == (posted(1), owed)


def test_a_protocol_fault_pauses_the_batch_and_costs_the_record_nothing():
    fault = errors.ProtocolFault(ANSWER)
    assert decide_after_post(posted(1), 1, fault, LIMITS) == (progress_with_device(), Pause(PauseReason.PROTOCOL))
    assert decide_after_read(posted(1), fault, LIMITS) == (posted(1), Pause(PauseReason.PROTOCOL, LIMITS.read_delay))


def test_a_read_that_stays_forbidden_while_a_fate_is_open_calls_a_person():
    forbidden = errors.Forbidden(ANSWER)
    assert isinstance(decide_after_read(replace(posted(1), attempts=LIMITS.attempts), forbidden, LIMITS)[1], Retry)
    step = decide_after_read(replace(posted(1), attempts=LIMITS.attempts + 1), forbidden, LIMITS)[1]
    assert step == Pause(PauseReason.PERMISSIONS, LIMITS.read_delay)


@pytest.mark.parametrize("ordinal", [1, 2])
def test_a_forbidden_post_is_a_dead_letter_that_keeps_its_otp(ordinal):
    progress, step = decide_after_post(posted(ordinal), ordinal, errors.Forbidden(ANSWER), LIMITS)
    assert step == DeadLetter(Reason.FORBIDDEN, is_counted=False)
    assert progress.otp(ordinal) == OtpProgress(OtpState.UNSENT, 0)


def test_a_forbidden_read_is_a_dead_letter_only_if_no_fate_is_open():
    assert decide_after_read(progress_with_device(not_found=1), errors.Forbidden(ANSWER), LIMITS)[1] == DeadLetter(
        Reason.FORBIDDEN, is_counted=False
    )
    for progress in (posted(1), progress_with_device(verdict=Reason.INVALID_OTP)):
        assert isinstance(decide_after_read(progress, errors.Forbidden(ANSWER), LIMITS)[1], Retry)


def test_a_device_that_is_not_found_is_read_three_times_in_about_30_seconds_and_then_given_up():
    progress, step = decide_after_post(posted(1), 1, errors.NotFound(ANSWER), LIMITS)
    assert progress.first == OtpProgress(OtpState.UNSENT, 0)
    waited, reads = 0.0, 0
    while isinstance(step, Retry):
        assert not step.is_counted
        waited += step.delay
        progress, step = choose_first_step(progress, LIMITS)
        assert step == ReadDevice()
        reads += 1
        progress, step = decide_after_read(progress, errors.NotFound(ANSWER), LIMITS)
    assert isinstance(step, DeadLetter)
    assert (step.reason, reads, waited) == (Reason.DEVICE_NOT_FOUND, 3, 30.0)


def test_a_device_that_was_not_found_gets_its_otp_once_a_read_finds_it():
    progress, _ = decide_after_post(posted(1), 1, errors.NotFound(ANSWER), LIMITS)
    assert choose_first_step(progress, LIMITS)[1] == ReadDevice()
    assert decide_after_read(progress, WAITING, LIMITS)[1] == SendOtp(1)


def test_a_device_that_can_be_read_and_not_posted_to_is_given_up_too():
    progress, posts = progress_with_device(), 0
    step: Step | Decision = SendOtp(1)
    while not isinstance(step, DeadLetter):
        posts += 1
        assert posts < 10
        progress, step = decide_after_post(progress.with_otp_sent(1), 1, errors.NotFound(ANSWER), LIMITS)
        if isinstance(step, Retry):
            progress, step = decide_after_read(choose_first_step(progress, LIMITS)[0], WAITING, LIMITS)
    assert step.reason == Reason.DEVICE_NOT_FOUND


@pytest.mark.parametrize(
    ("answer", "found", "reason"),
    [
        (refused("INVALID_DATA", "CONSTRAINT_VIOLATION"), WAITING, Reason.REJECTED),
        (refused(), device(is_locked=True), Reason.LOCKED),
        (refused(), device(is_blocked=True), Reason.BLOCKED),
        (refused(), device(is_locked=True, is_blocked=True), Reason.BLOCKED),
        (refused("INVALID_DATA", "ACCOUNT_NOT_USABLE"), WAITING, Reason.ACCOUNT_NOT_USABLE),
        (refused("ACCOUNT_NOT_USABLE"), WAITING, Reason.ACCOUNT_NOT_USABLE),
    ],
)
@pytest.mark.parametrize("ordinal", [1, 2])
def test_any_other_refusal_is_named_by_what_the_device_says(ordinal, answer, found, reason):
    progress, step = post_then_read(ordinal, answer, found)
    assert step == DeadLetter(reason)
    assert progress.verdict is None


def test_a_verdict_waits_for_its_read_over_attempts():
    progress, _ = decide_after_post(posted(1), 1, errors.InvalidOtp(ANSWER), LIMITS)
    progress, step = decide_after_read(progress, errors.OutcomeUnknown(), LIMITS)
    assert isinstance(step, Retry)
    assert choose_first_step(progress, LIMITS) == (progress, ReadDevice())
    assert decide_after_read(progress, WAITING, LIMITS)[1] == DeadLetter(Reason.INVALID_OTP)


@pytest.mark.parametrize("answer", [errors.NotFound(ANSWER), refused()])
def test_a_verdict_stands_where_the_device_is_not_found_or_not_told(answer):
    progress = progress_with_device(first=OtpProgress(OtpState.ANSWERED, 1), verdict=Reason.INVALID_OTP, not_found=3)
    assert decide_after_read(progress, answer, LIMITS)[1] == DeadLetter(Reason.INVALID_OTP)


def test_a_refused_read_ends_a_record_only_if_no_fate_is_open():
    assert decide_after_read(progress_with_device(not_found=1), refused(), LIMITS)[1] == DeadLetter(Reason.REJECTED)
    assert isinstance(decide_after_read(posted(1), refused(), LIMITS)[1], Retry)


@pytest.mark.parametrize(("found", "reason"), [("is_locked", Reason.LOCKED), ("is_blocked", Reason.BLOCKED)])
def test_no_otp_goes_to_a_device_that_a_read_finds_locked_or_blocked(found, reason):
    assert decide_after_read(posted(1), device(**{found: True}), LIMITS)[1] == DeadLetter(reason)


def test_an_expired_otp_is_not_sent():
    assert choose_first_step(progress_with_device(is_stale=True), LIMITS)[1] == DeadLetter(
        Reason.STALE_OTP, is_counted=False
    )
    stale = replace(posted(1), is_stale=True)
    assert decide_after_post(stale, 1, errors.ResyncRequired(ANSWER), LIMITS)[1] == DeadLetter(
        Reason.STALE_OTP, is_counted=False
    )


def test_an_expired_otp_of_unknown_fate_is_read_first():
    stale = replace(posted(1), is_stale=True)
    assert choose_first_step(stale, LIMITS)[1] == ReadDevice()
    assert decide_after_read(stale, ACTIVE, LIMITS)[1] == Active()
    assert decide_after_read(stale, WAITING, LIMITS)[1] == DeadLetter(Reason.STALE_OTP, is_counted=False)


@pytest.mark.parametrize(
    "progress",
    [
        progress_with_device(first=OtpProgress(OtpState.UNSENT, 2)),
        progress_with_device(first=OtpProgress(OtpState.ANSWERED, 1), second=OtpProgress(OtpState.UNSENT, 2)),
        progress_with_device(first=OtpProgress(OtpState.ANSWERED, 2), second=OtpProgress(OtpState.UNSENT, 1)),
    ],
)
def test_no_otp_goes_more_than_twice_and_no_device_gets_more_than_the_budget(progress):
    assert choose_first_step(progress, LIMITS)[1] == DeadLetter(Reason.BUDGET_SPENT)


def test_the_last_allowed_attempt_still_posts_and_the_next_gives_up():
    waits = replace(posted(1), attempts=LIMITS.attempts)
    assert decide_after_read(waits, WAITING, LIMITS)[1] == SendOtp(1)
    beyond = replace(waits, attempts=LIMITS.attempts + 1)
    assert decide_after_read(beyond, WAITING, LIMITS)[1] == DeadLetter(Reason.ATTEMPTS_SPENT, is_counted=False)
    assert choose_first_step(beyond, LIMITS)[1] == ReadDevice()


# Somebody else's work, as a read shows it.


IN_HAND = timedelta(seconds=3)
LONG_AGO = timedelta(seconds=40)


def changed(ago: timedelta | None, status: str = "ACTIVE") -> Device:
    return replace(device(status), updated_ago=ago)


def refused_otp(ordinal: int) -> Progress:
    return decide_after_post(posted(ordinal), ordinal, refused(), LIMITS)[0]


def test_a_device_that_was_active_before_our_first_otp_is_somebody_elses_work_of_that_time():
    assert find_age_of_others_work(refused_otp(1), changed(LONG_AGO), IN_HAND) == LONG_AGO


@pytest.mark.parametrize(
    "read",
    [
        # The refused OTP itself may count as a change.
        changed(timedelta(seconds=2)),
        changed(None),
        changed(LONG_AGO, "ACTIVATION_REQUIRED"),
    ],
)
def test_what_may_be_our_own_change_or_is_not_told_is_no_sign_of_others(read):
    assert find_age_of_others_work(refused_otp(1), read, IN_HAND) is None


def test_a_device_that_waited_for_a_second_otp_and_refused_ours_is_somebody_elses_work():
    """Whatever PingOne tells of its changes."""
    assert find_age_of_others_work(refused_otp(2), changed(None), IN_HAND) == timedelta(0)


def test_an_otp_of_unknown_fate_may_have_made_the_device_active():
    again = posted(1).with_device_waiting().with_otp_sent(1)
    for progress in (
        posted(1),
        posted(2),
        decide_after_post(again, 1, refused(), LIMITS)[0],
    ):
        assert find_age_of_others_work(progress, changed(LONG_AGO), IN_HAND) is None


FREE = PairingProgress(PairingState.UNSENT, was_free=True, is_allowed=True)
FOUND = replace(device(), age=LONG_AGO)


def find(pairing: PairingProgress) -> Progress:
    """After a look-up that finds the token with its person."""
    progress, step = decide_after_search(Progress(pairing=pairing), Pairing("device", "user"), "user", LIMITS)
    assert step == ReadDevice()
    return progress


def test_a_device_that_was_found_in_the_inventory_is_somebody_elses_work():
    inventory = PairingProgress(PairingState.SENT, "device", is_allowed=True)
    assert find_age_of_others_work(Progress(pairing=inventory), FOUND, IN_HAND) == LONG_AGO


def test_a_token_that_is_paired_at_our_first_request_is_somebody_elses_work():
    progress, step = decide_after_pairing(Progress(pairing=FREE.sent()), errors.AlreadyPaired(ANSWER), LIMITS)
    assert step == FindDevice()
    assert find_age_of_others_work(find(progress.pairing), FOUND, IN_HAND) == LONG_AGO


@pytest.mark.parametrize(
    "pairing",
    [
        FREE.sent(),
        # One request is of unknown fate, and the next one is refused.
        replace(FREE.sent(), state=PairingState.UNSENT).sent().unsent(),
    ],
)
def test_a_device_that_a_request_of_ours_may_have_made_is_no_sign_of_others(pairing):
    assert find_age_of_others_work(find(pairing), FOUND, IN_HAND) is None
