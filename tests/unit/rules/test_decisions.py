"""What each answer means for a record: the tables of the design, a sentence a row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.data.progress import progress_with_device

from models.attempt import Failure
from models.reason import PauseReason, Reason
from models.record_states import OtpState, PairingState
from worker.pace.search import SlotTooFar
from worker.pingone import errors
from worker.pingone.devices import Device, PairedDevice, Pairing
from worker.pingone.errors import Answer, RateLimited
from worker.rules import decisions
from worker.rules.decisions import (
    begin_new_pair,
    choose_first_step,
    choose_otp,
    decide_after_pairing,
    decide_after_post,
    decide_after_read,
    decide_after_search,
    find_age_of_others_work,
    send_next_otp,
)
from worker.rules.quota import NEXT_TRY, Quota, explain_quota, read_quota
from worker.rules.steps import (
    Active,
    DeadLetter,
    Decision,
    Limits,
    OtpProgress,
    PairingProgress,
    Pause,
    Progress,
    ReadDevice,
    Retry,
    SendOtp,
    SentAgo,
    Step,
)

LIMITS = Limits(posts=3, attempts=8, read_delay=30.0, not_found_delay=10.0)
ANSWER, DONE = Answer(status=400), Answer(status=200, correlation_id="3f0c8a52")
INVALID, RESYNC, NOT_FOUND = errors.InvalidOtp(ANSWER), errors.ResyncRequired(ANSWER), errors.NotFound(ANSWER)
FORBIDDEN, LOST, LOST_AND_OVER = errors.Forbidden(ANSWER), errors.OutcomeUnknown(), errors.OutcomeUnknown(DONE)
OTHER_DEVICE = errors.OtherDevice(DONE)
NOTHING_HAPPENED = (errors.NotDelivered(), errors.TooLateToSend(), RateLimited(ANSWER, 7.0))
RESET = datetime(2026, 11, 26, tzinfo=UTC)
QUOTA = RateLimited(Answer(status=429, detail_code="QUOTA_EXCEEDED"), 3600.0, RESET)


def device(status: str = "ACTIVATION_REQUIRED", *, is_locked: bool = False, is_blocked: bool = False) -> Device:
    return Device(status, is_locked, is_blocked, Answer(status=200))


def refused(code: str | None = None, detail_code: str | None = None) -> errors.Rejected:
    return errors.Rejected(Answer(status=400, code=code, detail_code=detail_code))


ACTIVE, WAITING, ASLEEP = device("ACTIVE"), device(), device("ASLEEP")
LOCKED, BLOCKED = device(is_locked=True), device(is_blocked=True)
# A record from before its first OTP until after its second.
FRESH = progress_with_device()
SENT_1 = FRESH.with_otp_sent(1)
ANSWERED_1 = SENT_1.with_otp_answered(1)
SENT_2 = ANSWERED_1.with_otp_sent(2)
ANSWERED_2 = SENT_2.with_otp_answered(2)
# By ordinal: the OTP before it goes, while it is out, and after its answer.
UNSENT, SENT, ANSWERED = {1: FRESH, 2: ANSWERED_1}, {1: SENT_1, 2: SENT_2}, {1: ANSWERED_1, 2: ANSWERED_2}
REFUSED_1 = replace(ANSWERED_1, verdict=Reason.INVALID_OTP)
REFUSED_2 = replace(ANSWERED_2, verdict=Reason.RESYNC_FAILED)
# An OTP that went out once, and whose device was found waiting.
ONCE = progress_with_device(first=OtpProgress(OtpState.UNSENT, 1))
# PingOne did not find the device; nothing of its OTPs is open.
MISSING, SPENT_ATTEMPTS = progress_with_device(not_found=1), replace(SENT_1, attempts=LIMITS.attempts + 1)
STALE = DeadLetter(Reason.STALE_OTP, is_counted=False)
NOT_PERMITTED_TO = DeadLetter(Reason.FORBIDDEN, is_counted=False)


def back(why: str, delay: float = 1.0) -> Retry:
    return Retry(delay, is_counted=False, why=Failure(why))


def counted(delay: float, why: str = "outcome_unknown") -> Retry:
    return Retry(delay, is_counted=True, why=Failure(why))


def waits_for_quota(delay: float = 0.0) -> Pause:
    return Pause(PauseReason.QUOTA, delay, quota=Quota(3600.0, RESET))


# What follows an answer to OTP 1 or 2 of a record of which it was the first thing that went out.
AFTER_POST: list[tuple[int, Any, Progress, Step | Decision]] = [
    (1, ACTIVE, ANSWERED_1, Active()),
    (2, ACTIVE, ANSWERED_2, Active()),
    (1, RESYNC, ANSWERED_1, SendOtp(2)),
    (2, RESYNC, ANSWERED_2, DeadLetter(Reason.RESYNC_FAILED)),
    (1, INVALID, REFUSED_1, ReadDevice()),
    (2, INVALID, REFUSED_2, ReadDevice()),
    (1, refused("REQUEST_FAILED"), replace(ANSWERED_1, verdict=Reason.REJECTED), ReadDevice()),
    (2, refused(), replace(ANSWERED_2, verdict=Reason.REJECTED), ReadDevice()),
    (
        1,
        refused("INVALID_DATA", "ACCOUNT_NOT_USABLE"),
        replace(ANSWERED_1, verdict=Reason.ACCOUNT_NOT_USABLE),
        ReadDevice(),
    ),
    (2, refused("ACCOUNT_NOT_USABLE"), replace(ANSWERED_2, verdict=Reason.ACCOUNT_NOT_USABLE), ReadDevice()),
    (1, NOT_FOUND, MISSING, back("not_found", 10.0)),
    # Its fate is open: later, or at once where no post still runs that a read would have to wait for.
    (1, OTHER_DEVICE, SENT_1, counted(30.0, "other_device")),
    *((ordinal, LOST, sent, counted(30.0)) for ordinal, sent in SENT.items()),
    *((ordinal, LOST_AND_OVER, sent, ReadDevice()) for ordinal, sent in SENT.items()),
    # As if it had not been sent.
    *(
        (ordinal, answer, unsent, step)
        for ordinal, unsent in UNSENT.items()
        for answer, step in [
            (errors.NotDelivered(), back("not_delivered")),
            (errors.TooLateToSend(), back("too_late_to_send")),
            (RateLimited(ANSWER, 7.0), back("rate_limited")),
            # A limit that is over soon pauses nothing.
            (RateLimited(QUOTA.answer, LIMITS.longest_hold, RESET), back("rate_limited")),
            (QUOTA, waits_for_quota()),
            # For seconds, however far the slot is.
            (SlotTooFar(3.5), back("hold", 3.5)),
            (SlotTooFar(12.5), back("hold", 5.0)),
            (SlotTooFar(86_400.0), back("hold", 5.0)),
            (errors.Unauthorized(ANSWER), back("unauthorized")),
            (errors.CredentialsRefused(ANSWER), Pause(PauseReason.CREDENTIALS, is_own=True)),
            (errors.ProtocolFault(ANSWER), Pause(PauseReason.PROTOCOL)),
            (FORBIDDEN, NOT_PERMITTED_TO),
        ]
    ),
]


@pytest.mark.parametrize(("ordinal", "answer", "progress", "step"), AFTER_POST)
def test_what_follows_an_answer_to_an_otp(ordinal, answer, progress, step):
    assert decide_after_post(SENT[ordinal], ordinal, answer, LIMITS) == (progress, step)
    # Where it did not go, it goes next.
    assert progress != UNSENT[ordinal] or choose_first_step(progress, LIMITS)[1] == SendOtp(ordinal)


@pytest.mark.parametrize(
    ("before", "step"),
    [
        (replace(SENT_1, second=None), DeadLetter(Reason.SECOND_OTP_MISSING)),
        (replace(SENT_1, is_stale=True), STALE),
    ],
)
def test_a_second_otp_that_is_asked_for_and_cannot_go_ends_the_record(before, step):
    assert decide_after_post(before, 1, RESYNC, LIMITS) == (before.with_otp_answered(1), step)


def sent_before(progress: Progress, seconds: float) -> Progress:
    """The same, marked as sent so many seconds before this attempt."""
    ago = timedelta(seconds=seconds)
    return replace(progress, pairing=replace(progress.pairing, sent_ago=SentAgo(ago, ago)))


# What follows a read of the device.
AFTER_READ: list[tuple[Progress, Any, Progress, Step | Decision]] = [
    (SENT_1, ACTIVE, SENT_1, Active()),
    # Whatever was refused before, and however old the OTPs are.
    (REFUSED_1, ACTIVE, ANSWERED_1, Active()),
    (REFUSED_2, ACTIVE, ANSWERED_2, Active()),
    (replace(SENT_1, is_stale=True), ACTIVE, replace(SENT_1, is_stale=True), Active()),
    # It still waits, so an OTP of unknown fate goes again, a refused one was refused.
    (SENT_1, WAITING, ONCE, SendOtp(1)),
    (SENT_2, WAITING, replace(ANSWERED_1, second=OtpProgress(OtpState.UNSENT, 1)), SendOtp(2)),
    (MISSING, WAITING, MISSING, SendOtp(1)),
    (replace(SENT_1, is_stale=True), WAITING, replace(ONCE, is_stale=True), STALE),
    (replace(SENT_1, attempts=8), WAITING, replace(ONCE, attempts=8), SendOtp(1)),
    (
        SPENT_ATTEMPTS,
        WAITING,
        replace(ONCE, attempts=9),
        DeadLetter(Reason.ATTEMPTS_SPENT, is_counted=False),
    ),
    # Right after its post, the device may not be seen everywhere as it is.
    (replace(SENT_1, is_just_posted=True), WAITING, SENT_1, counted(30.0)),
    (replace(SENT_2, is_just_posted=True), WAITING, SENT_2, counted(30.0)),
    # Nor if an attempt ended right after the post, since the read failed.
    (sent_before(SENT_1, 29), WAITING, SENT_1, counted(30.0)),
    (sent_before(SENT_1, 30), WAITING, ONCE, SendOtp(1)),
    *(
        (before, found, replace(before, verdict=None), DeadLetter(before.verdict))
        for before in (REFUSED_1, REFUSED_2)
        for found in (WAITING, LOCKED, BLOCKED)
    ),
    # Any other refusal is named by what the device says.
    *(
        (replace(ANSWERED_1, verdict=verdict), found, ANSWERED_1, DeadLetter(reason))
        for verdict, found, reason in [
            (Reason.REJECTED, WAITING, Reason.REJECTED),
            (Reason.REJECTED, LOCKED, Reason.LOCKED),
            (Reason.REJECTED, BLOCKED, Reason.BLOCKED),
            (Reason.REJECTED, device(is_locked=True, is_blocked=True), Reason.BLOCKED),
            (Reason.ACCOUNT_NOT_USABLE, WAITING, Reason.ACCOUNT_NOT_USABLE),
        ]
    ),
    (SENT_1, LOCKED, ONCE, DeadLetter(Reason.LOCKED)),
    (SENT_1, BLOCKED, ONCE, DeadLetter(Reason.BLOCKED)),
    # An unknown status does not tell what became of an OTP, but does not forbid one of which nothing is open.
    (SENT_1, ASLEEP, SENT_1, counted(5.0)),
    (SENT_2, ASLEEP, SENT_2, counted(5.0)),
    (SENT_1, device("ASLEEP", is_locked=True), ONCE, DeadLetter(Reason.LOCKED)),
    (MISSING, ASLEEP, MISSING, SendOtp(1)),
    # A read that tells nothing is made again; one that was not made, too, and not at every tick.
    (SENT_1, LOST, SENT_1, counted(5.0)),
    (SENT_1, LOST_AND_OVER, SENT_1, counted(5.0)),
    (REFUSED_1, LOST, REFUSED_1, counted(5.0)),
    (SENT_1, OTHER_DEVICE, SENT_1, counted(5.0, "other_device")),
    (SENT_1, SlotTooFar(12.5), SENT_1, back("hold", 5.0)),
    (SENT_1, errors.Unauthorized(ANSWER), SENT_1, back("unauthorized", 30.0)),
    (SENT_1, QUOTA, SENT_1, waits_for_quota(30.0)),
    (SENT_1, errors.CredentialsRefused(ANSWER), SENT_1, Pause(PauseReason.CREDENTIALS, 30.0, is_own=True)),
    (SENT_1, errors.ProtocolFault(ANSWER), SENT_1, Pause(PauseReason.PROTOCOL, 30.0)),
    # Forbidden or refused, it ends a record only if no fate is open; and in the end it calls a person.
    (MISSING, FORBIDDEN, MISSING, NOT_PERMITTED_TO),
    (SENT_1, FORBIDDEN, SENT_1, counted(5.0, "forbidden")),
    (REFUSED_1, FORBIDDEN, REFUSED_1, counted(5.0, "forbidden")),
    (replace(SENT_1, attempts=8), FORBIDDEN, replace(SENT_1, attempts=8), counted(300.0, "forbidden")),
    (SPENT_ATTEMPTS, FORBIDDEN, SPENT_ATTEMPTS, Pause(PauseReason.PERMISSIONS, 30.0)),
    (MISSING, refused(), MISSING, DeadLetter(Reason.REJECTED)),
    (SENT_1, refused(), SENT_1, counted(5.0, "rejected")),
    # A verdict stands where the device is not found or not told.
    (replace(REFUSED_1, not_found=3), NOT_FOUND, replace(ANSWERED_1, not_found=4), DeadLetter(Reason.INVALID_OTP)),
    (replace(REFUSED_1, not_found=3), refused(), replace(ANSWERED_1, not_found=3), DeadLetter(Reason.INVALID_OTP)),
]


@pytest.mark.parametrize(("before", "answer", "progress", "step"), AFTER_READ)
def test_what_follows_a_read(before, answer, progress, step):
    assert decide_after_read(before, answer, LIMITS) == (progress, step)


@pytest.mark.parametrize("before", [SENT_1, SENT_2, REFUSED_1, SPENT_ATTEMPTS, MISSING, replace(SENT_1, is_stale=True)])
def test_a_device_that_a_read_is_owed_is_read_first(before):
    assert choose_first_step(before, LIMITS) == (before, ReadDevice())


def test_jitter_spreads_the_records_that_come_back():
    spread = replace(SENT_1, jitter=1.0)
    assert decide_after_post(spread, 1, LOST, LIMITS)[1] == counted(37.5)
    assert decide_after_read(spread, LOST, LIMITS)[1] == counted(7.5)
    assert decide_after_post(spread, 1, errors.Unauthorized(ANSWER), LIMITS)[1] == back("unauthorized", 2.0)
    assert decide_after_post(spread, 1, errors.NotDelivered(), LIMITS)[1] == back("not_delivered", 2.0)
    assert decisions.hand_back_without_slot(SlotTooFar(12.5)) == back("hold", 5.0)


def test_a_read_that_fails_is_made_again_ever_later():
    reads = [decide_after_read(replace(SENT_1, attempts=attempt), LOST, LIMITS)[1] for attempt in range(1, 40)]
    delays = [read.delay for read in reads if isinstance(read, Retry)]
    assert delays[:4] == [5, 10, 20, 40]
    assert delays == sorted(delays)
    assert delays[-1] == 300
    assert decisions.choose_read_delay(replace(SENT_1, attempts=2), replace(LIMITS, read_delay=60.0)) == 20
    assert decisions.choose_read_delay(SENT_1, replace(LIMITS, read_delay=0.0)) == 0.5


@pytest.mark.parametrize("answer", NOTHING_HAPPENED, ids=lambda answer: type(answer).__name__)
def test_an_outage_of_hours_dead_letters_nothing(answer):
    progress = progress_with_device(attempts=LIMITS.attempts)
    for _ in range(5000):
        progress, step = choose_first_step(progress, LIMITS)
        assert step == SendOtp(1)
        progress, step = decide_after_post(progress.with_otp_sent(1), 1, answer, LIMITS)
        assert isinstance(step, Retry)
        assert not step.is_counted


def test_a_device_that_is_not_found_is_read_three_times_in_about_30_seconds_and_then_given_up():
    progress, step = decide_after_post(SENT_1, 1, NOT_FOUND, LIMITS)
    waited, reads = 0.0, 0
    while isinstance(step, Retry):
        waited += step.delay
        reads += 1
        assert choose_first_step(progress, LIMITS) == (progress, ReadDevice())
        progress, step = decide_after_read(progress, NOT_FOUND, LIMITS)
    assert (step, reads, waited) == (DeadLetter(Reason.DEVICE_NOT_FOUND), 3, 30.0)


def test_a_device_that_can_be_read_and_not_posted_to_is_given_up_too():
    progress, posts = FRESH, 0
    step: Step | Decision = SendOtp(1)
    while not isinstance(step, DeadLetter):
        posts += 1
        assert posts < 10
        progress, step = decide_after_post(progress.with_otp_sent(1), 1, NOT_FOUND, LIMITS)
        if isinstance(step, Retry):
            progress, step = decide_after_read(choose_first_step(progress, LIMITS)[0], WAITING, LIMITS)
    assert step.reason == Reason.DEVICE_NOT_FOUND


# Which OTP goes next, or why none.

HALF_DONE = OtpProgress(OtpState.ANSWERED, 1)
POSTED_TWICE, POSTED_THRICE = OtpProgress(OtpState.UNSENT, 2), OtpProgress(OtpState.UNSENT, 3)
BUDGET_SPENT = DeadLetter(Reason.BUDGET_SPENT)


@pytest.mark.parametrize(
    ("progress", "step"),
    [
        (Progress(), SendOtp(1)),
        (Progress(second=None), SendOtp(1)),
        (Progress(first=HALF_DONE), SendOtp(2)),
        (Progress(first=HALF_DONE, second=None), DeadLetter(Reason.SECOND_OTP_MISSING)),
        (Progress(is_stale=True), STALE),
        (Progress(first=HALF_DONE, is_stale=True), STALE),
        # An OTP of a pair goes twice at the most, one of a seed once.
        (Progress(first=OtpProgress(OtpState.UNSENT, 1)), SendOtp(1)),
        (Progress(first=POSTED_TWICE), BUDGET_SPENT),
        (Progress(first=HALF_DONE, second=POSTED_TWICE), BUDGET_SPENT),
        (Progress(first=POSTED_TWICE, next_counter=9), SendOtp(1)),
        (Progress(first=POSTED_THRICE, next_counter=9), BUDGET_SPENT),
        (Progress(first=replace(HALF_DONE, posts=2), second=OtpProgress(OtpState.UNSENT, 1)), BUDGET_SPENT),
        # What was answered, or is of unknown fate, never goes.
        (Progress(first=HALF_DONE, second=HALF_DONE), BUDGET_SPENT),
        (Progress(first=OtpProgress(OtpState.SENT, 1)), BUDGET_SPENT),
        (Progress(attempts=8), SendOtp(1)),
        (Progress(attempts=9), DeadLetter(Reason.ATTEMPTS_SPENT, is_counted=False)),
    ],
)
def test_the_next_otp_or_the_reason_why_none_goes(progress, step):
    assert choose_otp(progress, LIMITS) == step
    assert send_next_otp(progress, LIMITS) == (progress, step)


@pytest.mark.parametrize(("posts", "step"), [(1, SendOtp(1)), (2, BUDGET_SPENT)])
def test_a_new_pair_begins_only_where_the_budget_has_room_for_both_of_its_otps(posts, step):
    before = Progress(first=OtpProgress(OtpState.ANSWERED, posts), next_counter=9)
    again = replace(before, first=OtpProgress(OtpState.UNSENT, posts))
    assert begin_new_pair(before, LIMITS) == (again, step)


# A device that was found, or made without its status being told, is read before anything is believed of it.

USER, DEVICE = "6f1d3c1e-user", "0f0b7a52-device"
PAIRING_SENT = Progress(pairing=PairingProgress(PairingState.SENT, pairings=1, was_free=True, is_allowed=True))
FOUND, _ = decide_after_search(PAIRING_SENT, Pairing(DEVICE, USER), USER, LIMITS)
PAIRED_UNTOLD = decide_after_pairing(PAIRING_SENT, PairedDevice(DEVICE, None, Answer(status=201)), LIMITS)
SETTLED = replace(FOUND, pairing=replace(FOUND.pairing, state=PairingState.PAIRED))


@pytest.mark.parametrize(
    ("answer", "progress", "step"),
    [(LOST, FOUND, counted(5.0)), (ACTIVE, SETTLED, Active()), (WAITING, SETTLED, SendOtp(1))],
)
def test_a_read_is_owed_until_the_found_device_was_read(answer, progress, step):
    assert PAIRED_UNTOLD == (FOUND, ReadDevice()) == choose_first_step(FOUND, LIMITS)
    assert decide_after_read(FOUND, answer, LIMITS) == (progress, step)
    assert progress.needs_read is (progress == FOUND)


# Somebody else's work, as a read shows it.

IN_HAND, LONG_AGO, JUST_NOW = timedelta(seconds=3), timedelta(seconds=40), timedelta(seconds=2)
REJECTED_1, REJECTED_2 = (decide_after_post(SENT[ordinal], ordinal, refused(), LIMITS)[0] for ordinal in (1, 2))
REJECTED_AGAIN, _ = decide_after_post(SENT_1.with_device_waiting().with_otp_sent(1), 1, refused(), LIMITS)
SECOND_AGAIN, _ = decide_after_post(SENT_2.with_device_waiting().with_otp_sent(2), 2, refused(), LIMITS)
FREE = PairingProgress(PairingState.UNSENT, was_free=True, is_allowed=True)
PAIRED_BEFORE, _ = decide_after_pairing(Progress(pairing=FREE.sent()), errors.AlreadyPaired(ANSWER), LIMITS)


def changed(ago: timedelta | None, status: str = "ACTIVE") -> Device:
    return replace(device(status), updated_ago=ago)


def find(pairing: PairingProgress) -> Progress:
    """After a look-up that finds the token with its person."""
    progress, step = decide_after_search(Progress(pairing=pairing), Pairing("device", "user"), "user", LIMITS)
    assert step == ReadDevice()
    return progress


@pytest.mark.parametrize(
    ("progress", "read", "ago"),
    [
        (REJECTED_1, changed(LONG_AGO), LONG_AGO),
        # The refused OTP itself may count as a change.
        (REJECTED_1, changed(JUST_NOW), None),
        (REJECTED_1, changed(None), None),
        (REJECTED_1, changed(LONG_AGO, "ACTIVATION_REQUIRED"), None),
        # A device that waited for a second OTP and refused ours, whatever PingOne tells of its changes.
        (REJECTED_2, changed(None), timedelta(0)),
        # An OTP of unknown fate may have made it ACTIVE.
        (SENT_1, changed(LONG_AGO), None),
        (SENT_2, changed(LONG_AGO), None),
        (REJECTED_AGAIN, changed(LONG_AGO), None),
        (SECOND_AGAIN, changed(LONG_AGO), None),
        # A device from the inventory, and a token that is paired at our first request.
        (
            Progress(pairing=PairingProgress(PairingState.SENT, "device", is_allowed=True)),
            replace(WAITING, age=LONG_AGO),
            LONG_AGO,
        ),
        (find(PAIRED_BEFORE.pairing), replace(WAITING, age=LONG_AGO), LONG_AGO),
        # A request of ours may have made it: the only one, or one of unknown fate before one that was refused.
        (find(FREE.sent()), replace(WAITING, age=LONG_AGO), None),
        (
            find(replace(FREE.sent(), state=PairingState.UNSENT).sent().unsent()),
            replace(WAITING, age=LONG_AGO),
            None,
        ),
    ],
)
def test_what_a_read_shows_of_somebody_elses_work_and_of_when_that_was(progress, read, ago):
    assert find_age_of_others_work(progress, read, IN_HAND) == ago


# A used-up quota: when batches wait for it, how long, and what a person is told.

LIMIT = Answer(429, "REQUEST_LIMITED", "LIMIT_EXCEEDED")


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        # The hold is enough.
        (RateLimited(LIMIT), None),
        (RateLimited(LIMIT, 0.0), None),
        (RateLimited(LIMIT, 120.0), None),
        (RateLimited(QUOTA.answer, 1.0, RESET), None),
        (RateLimited(QUOTA.answer, 120.0, RESET), None),
        # Too far for a hold, whatever it is called.
        (RateLimited(QUOTA.answer, 120.5, RESET), Quota(120.5, RESET)),
        (RateLimited(LIMIT, 3600.0), Quota(3600.0)),
        # Nothing of use is said of when it resets.
        (RateLimited(QUOTA.answer), Quota(NEXT_TRY)),
        (RateLimited(QUOTA.answer, 0.0, RESET), Quota(NEXT_TRY, RESET)),
        (RateLimited(Answer(429, "QUOTA_EXCEEDED")), Quota(NEXT_TRY)),
    ],
)
def test_when_batches_wait_for_a_quota_and_how_long(failure: RateLimited, expected: Quota | None) -> None:
    assert read_quota(failure, LIMITS.longest_hold) == expected


@pytest.mark.parametrize(
    ("quota", "resumes_at", "hours", "told"),
    [
        (
            Quota(3600, RESET),
            RESET + timedelta(seconds=3),
            None,
            "PingOne's quota is used up until 2026-11-26 00:00 UTC: continues by itself then.",
        ),
        (
            Quota(86_400, datetime(9999, 12, 31, 23, 59, tzinfo=UTC)),
            RESET,
            None,
            "PingOne's quota is used up, until 9999-12-31 23:59 UTC, according to PingOne: tried again by itself at"
            " 2026-11-26 00:00 UTC.",
        ),
        (
            Quota(60),
            RESET,
            "22:00-05:30 Europe/Berlin",
            "PingOne's quota is used up, and PingOne does not say until when: tried again by itself at"
            " 2026-11-26 00:00 UTC, inside its window 22:00-05:30 Europe/Berlin.",
        ),
    ],
    ids=["waited for", "not waited for", "not named"],
)
def test_a_reset_is_named_once_or_beside_the_next_try_or_told_as_not_named(quota, resumes_at, hours, told):
    assert explain_quota(quota, resumes_at, hours) == told
