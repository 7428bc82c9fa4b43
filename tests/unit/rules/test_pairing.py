"""How a record gets its device: every answer to a pairing and to a look-up, in every state."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from models.attempt import Failure
from models.reason import PauseReason, Reason
from models.record_states import OtpState, PairingState
from worker.pace.search import SlotTooFar
from worker.pingone import errors
from worker.pingone.devices import Device, PairedDevice, Pairing
from worker.pingone.errors import Answer
from worker.rules import decisions
from worker.rules.decisions import (
    MOST_PAIRINGS,
    NOT_FOUND_READS,
    choose_first_step,
    choose_step_without_device,
    decide_after_pairing,
    decide_after_read,
    decide_after_search,
)
from worker.rules.steps import (
    Active,
    DeadLetter,
    Decision,
    FindDevice,
    Limits,
    OtpProgress,
    Pair,
    PairingProgress,
    Pause,
    Progress,
    ReadDevice,
    Retry,
    SendOtp,
    SentAgo,
    Step,
)

UNSENT, SENT, MISSED, PAIRED = PairingState
LIMITS = Limits()
USER, OTHER = "6f1d3c1e-user", "9a2b4d6e-other"
DEVICE, NEW = "0f0b7a52-device", "1a1b7a52-device"
ANSWERED, OTP_SENT, POSTED = (OtpProgress(state, 1) for state in (OtpState.ANSWERED, OtpState.SENT, OtpState.UNSENT))
USED_UP = OtpProgress(OtpState.UNSENT, 2)
FREE = PairingProgress(UNSENT, was_free=True, is_allowed=True)
MADE = PairingProgress(PAIRED, NEW, pairings=1, is_made=True, was_free=True, is_allowed=True)
CREATED = Answer(status=201)
WAITS, DONE = PairedDevice(NEW, "ACTIVATION_REQUIRED", CREATED), Answer(status=200, correlation_id="3f0c8a52")
READS = NOT_FOUND_READS


def device(status: str, age: timedelta | None = None) -> Device:
    return Device(status, False, False, Answer(status=200), age=age)


ACTIVE, WAITING = device("ACTIVE"), device("ACTIVATION_REQUIRED")


def known(state: PairingState = UNSENT, pairings: int = 0, *, was_free: bool = True, **fields: Any) -> Progress:
    """A record without a device, which may be paired."""
    pairing = PairingProgress(state, pairings=pairings, was_free=was_free, is_allowed=True)
    return Progress(pairing=pairing, **fields)


def paired(device_id: str = DEVICE, *, is_allowed: bool = True, **fields: Any) -> Progress:
    return Progress(pairing=PairingProgress(PAIRED, device_id, is_allowed=is_allowed), **fields)


def found(before: Progress, *, is_made: bool) -> Progress:
    """The same record with a device that a look-up has found, and that is to be read."""
    return replace(before, pairing=before.pairing.found(NEW, is_made=is_made), not_found=0, verdict=None)


def ask(progress: Progress, answer: Any) -> tuple[Progress, Step | Decision]:
    """What follows this answer to a request to pair, before which this was known."""
    return decide_after_pairing(replace(progress, pairing=progress.pairing.sent()), answer, LIMITS)


def find(progress: Progress, answer: Any) -> tuple[Progress, Step | Decision]:
    return decide_after_search(progress, answer, USER, LIMITS)


def back(why: str, delay: float = 1.0) -> Retry:
    return Retry(delay, is_counted=False, why=Failure(why))


def counted(why: str, delay: float = 5.0) -> Retry:
    return Retry(delay, is_counted=True, why=Failure(why))


# What comes first.


@pytest.mark.parametrize(
    ("progress", "step"),
    [
        (known(), Pair()),
        # A pairing of unknown fate is looked up before anything else, and a verdict waits for a look-up.
        (known(SENT, 1), FindDevice()),
        (known(MISSED, 1), FindDevice()),
        (known(verdict=Reason.REJECTED), FindDevice()),
        (Progress(pairing=PairingProgress(UNSENT)), DeadLetter(Reason.DEVICE_NOT_FOUND)),
        # It could send no OTP afterwards.
        (known(is_stale=True), DeadLetter(Reason.STALE_OTP, is_counted=False)),
        (known(attempts=9), DeadLetter(Reason.ATTEMPTS_SPENT, is_counted=False)),
        (known(first=USED_UP), DeadLetter(Reason.BUDGET_SPENT)),
        (known(first=ANSWERED, second=None), DeadLetter(Reason.SECOND_OTP_MISSING)),
        (known(pairings=2), Pair()),
        (known(pairings=3), DeadLetter(Reason.PAIRING_FAILED)),
    ],
)
def test_a_record_without_a_device_is_looked_up_or_paired_three_times_or_given_up(progress, step):
    assert MOST_PAIRINGS == 3
    assert choose_first_step(progress, LIMITS) == choose_step_without_device(progress, LIMITS) == (progress, step)


# What follows an answer to a request to pair, by what was known before it.
AFTER_PAIRING: list[tuple[Progress, Any, Progress, Step | Decision]] = [
    (known(), WAITS, Progress(pairing=MADE), SendOtp(1)),
    (known(), PairedDevice(NEW, "ACTIVE", CREATED), Progress(pairing=MADE), Active()),
    (known(), PairedDevice(NEW, None, CREATED), Progress(pairing=replace(MADE, state=SENT)), ReadDevice()),
    (known(first=USED_UP), WAITS, Progress(USED_UP, pairing=MADE), DeadLetter(Reason.BUDGET_SPENT)),
    # 404s from before it was made do not count against it.
    (known(not_found=READS), WAITS, Progress(pairing=MADE), SendOtp(1)),
    # A lost answer leaves it open.
    (known(jitter=0.5), errors.OutcomeUnknown(), known(SENT, 1, jitter=0.5), counted("outcome_unknown", 33.75)),
    (known(), errors.OutcomeUnknown(DONE), known(SENT, 1), FindDevice()),
    # It is given up only after a look-up, where an earlier request may have made the device that is one too many.
    (known(pairings=1), errors.TooManyDevices(), known(pairings=1, verdict=Reason.TOO_MANY_DEVICES), FindDevice()),
    (known(), errors.AlreadyPaired(), known(), FindDevice()),
    (known(pairings=1), errors.AlreadyPaired(), known(pairings=1), FindDevice()),
    (known(was_free=False), errors.AlreadyPaired(), known(was_free=False), FindDevice()),
    # What made nothing leaves the record as it was.
    *(
        (known(), failure, known(), step)
        for failure, step in [
            (errors.NotDelivered(), back("not_delivered")),
            (errors.TooLateToSend(), back("too_late_to_send")),
            (errors.RateLimited(), back("rate_limited")),
            (errors.Unauthorized(), back("unauthorized")),
            (SlotTooFar(9.0), back("hold", 5.0)),
            (errors.CredentialsRefused(), Pause(PauseReason.CREDENTIALS, is_own=True)),
            (errors.ProtocolFault(), Pause(PauseReason.PROTOCOL)),
            (errors.Forbidden(), DeadLetter(Reason.FORBIDDEN, is_counted=False)),
            (errors.TooManyDevices(), DeadLetter(Reason.TOO_MANY_DEVICES)),
            (errors.MethodOff(), DeadLetter(Reason.METHOD_OFF)),
            (errors.AccountNotUsable(), DeadLetter(Reason.ACCOUNT_NOT_USABLE)),
            (errors.LicenseExceeded(), DeadLetter(Reason.LICENSE)),
        ]
    ),
    # It is not clear what was refused.
    *(
        (known(), failure, known(verdict=Reason.REJECTED), FindDevice())
        for failure in (errors.Rejected(), errors.StatusRefused(), errors.InvalidOtp(), errors.ResyncRequired())
    ),
]


@pytest.mark.parametrize(("before", "answer", "progress", "step"), AFTER_PAIRING)
def test_what_follows_a_request_to_pair(before, answer, progress, step):
    assert ask(before, answer) == (progress, step)


# What follows a look-up of whose device the token is.
@pytest.mark.parametrize("answer", [Pairing(NEW, OTHER), errors.Forbidden()])
def test_whose_person_was_not_looked_up_is_not_said_to_have_anothers_token(answer) -> None:
    """A batch was cancelled after a restore: its records are read, and nobody is looked up any more."""
    restored = known(SENT, 1, first=OtpProgress(OtpState.SENT, 1), attempts=1)
    progress, decision = decide_after_search(restored, answer, "", LIMITS)
    assert (progress.needs_read, progress.pairing.device_id) == (False, "")
    assert decision == back("not_found", 0.0)


TAKEN = DeadLetter(Reason.TOKEN_TAKEN, evidence=f"The device belongs to user {OTHER}.")
AFTER_SEARCH: list[tuple[Progress, Any, Progress, Step | Decision]] = [
    # A device of this user is taken and read; it is ours if a request of ours may have made it, and the token was free.
    *(
        (known(state, 1), Pairing(NEW, user_id), found(known(state, 1), is_made=state != UNSENT), ReadDevice())
        for state in (UNSENT, SENT, MISSED)
        for user_id in (USER, USER.upper(), None)
    ),
    *(
        (before, Pairing(NEW, USER), found(before, is_made=False), ReadDevice())
        for before in (*(known(state, 1, was_free=False) for state in (UNSENT, SENT, MISSED)), known())
    ),
    (known(SENT, 1, not_found=READS), Pairing(NEW, USER), found(known(SENT, 1), is_made=True), ReadDevice()),
    (
        known(pairings=1, verdict=Reason.TOO_MANY_DEVICES),
        Pairing(NEW, USER),
        found(known(pairings=1), is_made=False),
        ReadDevice(),
    ),
    # A device of another user is left alone, and it is known now that none of our requests made a device.
    (known(), Pairing(NEW, OTHER), known(), TAKEN),
    (known(SENT, 1), Pairing(NEW, OTHER), known(UNSENT, 1), TAKEN),
    (known(MISSED, 1), Pairing(NEW, OTHER), known(UNSENT, 1), TAKEN),
    (known(SENT, 1, first=OTP_SENT), Pairing(NEW, OTHER), known(UNSENT, 1, first=POSTED), TAKEN),
    (paired(), Pairing(NEW, OTHER), paired(), TAKEN),
    # It is paired again only after two look-ups found the token free. An OTP made no device ACTIVE that is nobody's.
    (
        known(SENT, 1, was_free=False, jitter=0.5),
        None,
        known(MISSED, 1, was_free=False, jitter=0.5),
        back("not_found", 7.5),
    ),
    (known(SENT, 1, first=OTP_SENT), None, known(MISSED, 1, first=OTP_SENT), back("not_found", 5.0)),
    (known(MISSED, 1, was_free=False), None, known(UNSENT, 1), Pair()),
    (known(MISSED, 1, first=OTP_SENT), None, known(UNSENT, 1, first=POSTED), Pair()),
    (
        known(MISSED, 1, first=OTP_SENT, next_counter=12),
        None,
        known(UNSENT, 1, first=POSTED, next_counter=13),
        Pair(),
    ),
    (known(MISSED, 3), None, known(UNSENT, 3), DeadLetter(Reason.PAIRING_FAILED)),
    (
        known(MISSED, 1, is_stale=True),
        None,
        known(UNSENT, 1, is_stale=True),
        DeadLetter(Reason.STALE_OTP, is_counted=False),
    ),
    # A verdict holds where the token is nobody's.
    (known(verdict=Reason.REJECTED), None, known(), DeadLetter(Reason.REJECTED)),
    (
        known(SENT, 1, verdict=Reason.REJECTED, first=OTP_SENT),
        None,
        known(UNSENT, 1, first=POSTED),
        DeadLetter(Reason.REJECTED),
    ),
    # PingOne said that the token is paired already, and shows nobody's device.
    (known(was_free=False, attempts=2), None, known(attempts=2), counted("not_found", 10.0)),
    # A look-up that told nothing is made again; a refusal ends the record where no request is out.
    *(
        (progress, failure, progress, counted(why))
        for progress in (known(SENT, 1), known(MISSED, 1))
        for failure, why in [
            (errors.OutcomeUnknown(), "outcome_unknown"),
            (errors.Forbidden(), "forbidden"),
            (errors.NotFound(), "not_found"),
            (errors.Rejected(), "rejected"),
            (errors.ExpandRefused(), "rejected"),
        ]
    ),
    (known(verdict=Reason.REJECTED), errors.NotFound(), known(verdict=Reason.REJECTED), counted("not_found")),
    (known(), errors.Rejected(), known(), DeadLetter(Reason.REJECTED)),
    (known(verdict=Reason.TOO_MANY_DEVICES), errors.Rejected(), known(), DeadLetter(Reason.TOO_MANY_DEVICES)),
    # Forbidden again and again, it pauses the batch, or ends the record where nothing is open.
    (known(SENT, 1, attempts=9), errors.Forbidden(), known(SENT, 1, attempts=9), Pause(PauseReason.PERMISSIONS, 30.0)),
    (known(attempts=9), errors.Forbidden(), known(attempts=9), DeadLetter(Reason.FORBIDDEN)),
    (known(verdict=Reason.LICENSE, attempts=9), errors.Forbidden(), known(attempts=9), DeadLetter(Reason.LICENSE)),
    # One that did not happen costs no attempt; what only a person can mend pauses the batch and waits.
    (known(SENT, 1), errors.NotDelivered(), known(SENT, 1), back("not_delivered")),
    (known(SENT, 1), errors.RateLimited(), known(SENT, 1), back("rate_limited")),
    (known(SENT, 1), SlotTooFar(9.0), known(SENT, 1), back("hold", 5.0)),
    (known(SENT, 1), errors.Unauthorized(), known(SENT, 1), back("unauthorized", 30.0)),
    (
        known(SENT, 1),
        errors.CredentialsRefused(),
        known(SENT, 1),
        Pause(PauseReason.CREDENTIALS, 30.0, is_own=True),
    ),
    (known(SENT, 1), errors.ProtocolFault(), known(SENT, 1), Pause(PauseReason.PROTOCOL, 30.0)),
    # A device that is listed and cannot be read is given up.
    (
        paired(not_found=READS + 1),
        Pairing(DEVICE, USER),
        paired(not_found=READS + 1),
        DeadLetter(Reason.DEVICE_NOT_FOUND),
    ),
    (
        paired(not_found=READS + 1, verdict=Reason.INVALID_OTP),
        Pairing(DEVICE, USER),
        paired(not_found=READS + 1),
        DeadLetter(Reason.INVALID_OTP),
    ),
]


@pytest.mark.parametrize(("before", "answer", "progress", "step"), AFTER_SEARCH)
def test_what_follows_a_look_up(before, answer, progress, step):
    assert find(before, answer) == (progress, step)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(errors.TokenNotInInventory(), Reason.TOKEN_NOT_IN_INVENTORY), (errors.NotFound(), Reason.USER_NOT_FOUND)],
)
def test_a_token_or_a_user_that_pingone_does_not_know_is_asked_for_again_before_it_is_given_up(failure, reason):
    progress = known()
    for count in range(1, READS + 1):
        progress, step = ask(progress, failure)
        assert (progress, step) == (known(not_found=count), back("not_found", 10.0))
        assert choose_first_step(progress, LIMITS)[1] == Pair()
    progress, step = ask(progress, failure)
    if reason == Reason.USER_NOT_FOUND:
        assert (step, progress.verdict) == (FindDevice(), reason)
        progress, step = find(progress, None)
    assert (progress, step) == (known(not_found=READS + 1), DeadLetter(reason))


# A device that PingOne does not find any more.


@pytest.mark.parametrize("count", range(READS))
def test_a_device_that_is_not_found_is_read_again_first(count):
    read_again = (paired(not_found=count + 1), back("not_found", 10.0))
    assert decide_after_read(paired(not_found=count), errors.NotFound(), LIMITS) == read_again


def test_a_device_that_may_not_be_made_again_is_given_up():
    missing = paired(is_allowed=False, not_found=READS)
    assert decide_after_read(missing, errors.NotFound(), LIMITS)[1] == DeadLetter(Reason.DEVICE_NOT_FOUND)
    assert not decisions.may_be_deleted(missing)


@pytest.mark.parametrize(
    ("fields", "left", "step"),
    [
        ({}, {}, Pair()),
        # An OTP of unknown fate goes again.
        ({"first": OTP_SENT}, {"first": POSTED}, Pair()),
        # The new device would ask for an OTP 1, and that one of the pair is used up.
        ({"first": ANSWERED}, {"first": ANSWERED, "not_found": READS + 1}, DeadLetter(Reason.DEVICE_NOT_FOUND)),
        # A seed begins a new pair, and leaves out the counter after an OTP of unknown fate.
        ({"first": ANSWERED, "next_counter": 8}, {"first": POSTED, "next_counter": 8}, Pair()),
        ({"first": OTP_SENT, "next_counter": 8}, {"first": POSTED, "next_counter": 9}, Pair()),
        (
            {"first": OtpProgress(OtpState.ANSWERED, 3), "next_counter": 8},
            {"first": OtpProgress(OtpState.UNSENT, 3), "next_counter": 8},
            DeadLetter(Reason.BUDGET_SPENT),
        ),
        # An OTP that was refused ends the record though its device is gone.
        (
            {"first": ANSWERED, "verdict": Reason.INVALID_OTP},
            {"first": ANSWERED, "not_found": READS + 1},
            DeadLetter(Reason.INVALID_OTP),
        ),
    ],
)
def test_a_device_that_is_not_found_again_and_again_is_made_again_where_its_otps_are_good(fields, left, step):
    progress, search = decide_after_read(paired(not_found=READS, **fields), errors.NotFound(), LIMITS)
    assert search == FindDevice()
    assert find(progress, None) == (known(**left), step)


@pytest.mark.parametrize("next_counter", [None, 8])
def test_a_device_that_somebody_has_paired_anew_is_taken_with_the_next_otps_and_is_not_ours(next_counter):
    missing = paired(not_found=4, first=OTP_SENT, next_counter=next_counter)
    progress, step = find(missing, Pairing(NEW, USER))
    assert (step, progress.pairing.device_id, progress.pairing.is_made) == (ReadDevice(), NEW, False)
    assert progress.first == POSTED


@pytest.mark.parametrize(
    ("age", "is_made"),
    [
        (timedelta(days=2), False),
        (timedelta(minutes=21), True),
        (timedelta(minutes=10), True),
        # Somebody else made it since.
        (timedelta(seconds=5), False),
    ],
)
@pytest.mark.parametrize("status", ["ACTIVE", "ACTIVATION_REQUIRED"])
def test_a_device_that_was_not_made_when_we_asked_for_it_is_not_ours(age, is_made, status):
    """The token may have been looked up days before. Our requests went out twenty and ten minutes ago."""
    sent_ago = SentAgo(timedelta(minutes=20), timedelta(minutes=10))
    lost = replace(known(SENT, 2), pairing=replace(known(SENT, 2).pairing, sent_ago=sent_ago))
    progress, _ = find(lost, Pairing(NEW, USER))
    assert decide_after_read(progress, device(status, age), LIMITS)[0].pairing.is_made is is_made


def test_a_device_of_an_answer_is_ours_whatever_its_age():
    progress, _ = ask(known(), PairedDevice(NEW, None, CREATED))
    assert decide_after_read(progress, device("ACTIVE", timedelta(days=2)), LIMITS)[0].pairing.is_made


def test_the_first_request_stays_the_first():
    hour, now = timedelta(hours=1), timedelta(0)
    lost = PairingProgress(SENT, pairings=1, sent_ago=SentAgo(hour, hour))
    assert lost.missed().missed().sent().sent_ago == SentAgo(hour, now)
    # One that made nothing does not count.
    assert lost.unsent().sent().sent_ago == SentAgo(now, now)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"first": ANSWERED, "verdict": Reason.INVALID_OTP}, Reason.INVALID_OTP),
        ({"first": ANSWERED}, Reason.DEVICE_NOT_FOUND),
        ({"first": ANSWERED, "next_counter": 5, "verdict": Reason.INVALID_OTP}, Reason.INVALID_OTP),
    ],
)
def test_a_device_that_never_got_otp_1_gets_no_otp_2(fields, reason):
    """Somebody paired the token anew after OTP 1 was answered for the device that is gone."""
    progress, _ = find(replace(paired(not_found=READS + 1), **fields), Pairing(NEW, USER))
    assert decide_after_read(progress, WAITING, LIMITS)[1] == DeadLetter(reason)
    assert decide_after_read(progress, ACTIVE, LIMITS)[1] == Active()


def test_a_device_that_another_record_has_is_left_to_it():
    progress, decision = decisions.give_up_device(find(known(SENT, 1), Pairing(NEW, USER))[0])
    assert decision == DeadLetter(Reason.DEVICE_IN_PROGRESS)
    assert (progress.pairing.device_id, progress.pairing.is_made, progress.needs_read) == ("", False, False)
