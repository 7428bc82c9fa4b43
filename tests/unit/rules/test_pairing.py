"""How a record gets its device: every answer to a pairing and to a look-up, in every state."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from models.reason import PauseReason, Reason
from models.record_states import OtpState, PairingState
from worker.pace.errors import SlotTooFar
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
from worker.rules.progress import (
    Active,
    DeadLetter,
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
)

UNSENT, SENT, MISSED, PAIRED = PairingState
LIMITS = Limits()
USER, OTHER = "6f1d3c1e-user", "9a2b4d6e-other"
DEVICE, NEW = "0f0b7a52-device", "1a1b7a52-device"
ANSWERED = OtpProgress(OtpState.ANSWERED, 1)
FREE = PairingProgress(UNSENT, was_free=True, is_allowed=True)
WAITS = PairedDevice(NEW, "ACTIVATION_REQUIRED", Answer(status=201))
HAS_NO_TOKEN = errors.TokenNotInInventory(Answer(status=400))


def known(state: PairingState = UNSENT, pairings: int = 0, **fields: object) -> Progress:
    """A record without a device, whose token was free, and may be paired."""
    facts = {"was_free": True, "is_allowed": True} | {key: fields.pop(key) for key in ("was_free",) if key in fields}
    return Progress(pairing=PairingProgress(state, pairings=pairings, **facts), **fields)


def paired(device_id: str = DEVICE, *, is_allowed: bool = True, **fields: object) -> Progress:
    return Progress(pairing=PairingProgress(PAIRED, device_id, is_allowed=is_allowed), **fields)


def ask(progress: Progress, answer: object) -> tuple[Progress, object]:
    """What follows this answer to a request to pair, before which this was known."""
    return decide_after_pairing(replace(progress, pairing=progress.pairing.sent()), answer, LIMITS)


def find(progress: Progress, answer: object) -> tuple[Progress, object]:
    return decide_after_search(progress, answer, USER, LIMITS)


# What comes first.


@pytest.mark.parametrize("state", [SENT, MISSED])
def test_a_pairing_of_unknown_fate_is_looked_up_before_anything_else(state):
    assert choose_first_step(known(state, 1), LIMITS) == (known(state, 1), FindDevice())


def test_a_record_without_a_device_is_paired():
    assert choose_first_step(known(), LIMITS) == (known(), Pair())


def test_where_no_device_may_be_made_none_is():
    progress = Progress(pairing=PairingProgress(UNSENT))
    assert choose_step_without_device(progress, LIMITS) == (progress, DeadLetter(Reason.DEVICE_NOT_FOUND))


def test_a_verdict_waits_for_a_look_up():
    assert choose_step_without_device(known(verdict=Reason.REJECTED), LIMITS)[1] == FindDevice()


@pytest.mark.parametrize(
    ("progress", "reason"),
    [
        (known(is_stale=True), Reason.STALE_OTP),
        (known(attempts=9), Reason.ATTEMPTS_SPENT),
        (known(first=OtpProgress(OtpState.UNSENT, 2)), Reason.BUDGET_SPENT),
        (known(first=ANSWERED, second=None), Reason.SECOND_OTP_MISSING),
    ],
)
def test_a_token_that_could_send_no_otp_afterwards_is_not_paired(progress, reason):
    _, step = choose_step_without_device(progress, LIMITS)
    assert isinstance(step, DeadLetter)
    assert step.reason == reason


def test_a_token_is_paired_three_times_at_the_most():
    assert MOST_PAIRINGS == 3
    assert choose_step_without_device(known(pairings=2), LIMITS)[1] == Pair()
    assert choose_step_without_device(known(pairings=3), LIMITS)[1] == DeadLetter(Reason.PAIRING_FAILED)


# Answers to a request to pair.


def test_a_device_that_waits_gets_its_otp_and_is_ours():
    progress, step = ask(known(), WAITS)
    assert step == SendOtp(1)
    assert progress.pairing == PairingProgress(PAIRED, NEW, pairings=1, is_made=True, was_free=True, is_allowed=True)


def test_a_device_that_is_active_at_once_is_done_without_an_otp():
    progress, step = ask(known(), PairedDevice(NEW, "ACTIVE", Answer(status=201)))
    assert step == Active()
    assert (progress.posts, progress.pairing.device_id, progress.pairing.is_made) == (0, NEW, True)


def test_a_device_whose_status_is_not_told_is_read_before_an_otp_goes():
    progress, step = ask(known(), PairedDevice(NEW, None, Answer(status=201)))
    assert (step, progress.pairing.device_id) == (ReadDevice(), NEW)


def test_a_device_of_a_pair_whose_otps_are_used_up_gets_none():
    _, step = ask(known(first=OtpProgress(OtpState.UNSENT, 2)), WAITS)
    assert step == DeadLetter(Reason.BUDGET_SPENT)


def test_after_a_lost_answer_the_record_waits_and_its_pairing_stays_open():
    progress, step = ask(known(jitter=0.5), errors.OutcomeUnknown())
    assert step == Retry(LIMITS.read_delay * 1.125, is_counted=True, why="outcome_unknown")
    assert (progress.pairing.state, progress.pairing.pairings) == (SENT, 1)
    assert progress.needs_read


def test_where_pingone_is_done_with_the_request_it_is_looked_up_at_once():
    progress, step = ask(known(), errors.OutcomeUnknown(Answer(status=200, correlation_id="3f0c8a52")))
    assert (step, progress.pairing.state) == (FindDevice(), SENT)


@pytest.mark.parametrize(
    ("failure", "step"),
    [
        (errors.NotDelivered(), Retry(1.0, is_counted=False, why="not_delivered")),
        (errors.TooLateToSend(), Retry(1.0, is_counted=False, why="too_late_to_send")),
        (errors.RateLimited(), Retry(1.0, is_counted=False, why="rate_limited")),
        (errors.Unauthorized(), Retry(1.0, is_counted=False, why="unauthorized")),
        (SlotTooFar(9.0), Retry(5.0, is_counted=False, why="hold")),
        (errors.CredentialsRefused(), Pause(PauseReason.CREDENTIALS, is_own=True)),
        (errors.ProtocolFault(), Pause(PauseReason.PROTOCOL)),
        (errors.Forbidden(), DeadLetter(Reason.FORBIDDEN, is_counted=False)),
    ],
)
def test_what_made_nothing_leaves_the_record_as_it_was(failure, step):
    assert ask(known(), failure) == (known(), step)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (errors.TooManyDevices(), Reason.TOO_MANY_DEVICES),
        (errors.MethodOff(), Reason.METHOD_OFF),
        (errors.AccountNotUsable(), Reason.ACCOUNT_NOT_USABLE),
        (errors.LicenseExceeded(), Reason.LICENSE),
    ],
)
def test_what_pingone_refuses_for_good_is_given_up(failure, reason):
    assert ask(known(), failure) == (known(), DeadLetter(reason))


@pytest.mark.parametrize(
    "failure", [errors.Rejected(), errors.StatusRefused(), errors.InvalidOtp(), errors.ResyncRequired()]
)
def test_a_refusal_of_which_it_is_not_clear_what_was_refused_is_given_up_after_a_look_up(failure):
    progress, step = ask(known(), failure)
    assert (progress, step) == (known(verdict=Reason.REJECTED), FindDevice())
    assert find(progress, None) == (known(), DeadLetter(Reason.REJECTED))


def test_a_refusal_after_a_pairing_of_unknown_fate_is_given_up_after_a_look_up():
    """The first one may have made the device that is one too many."""
    progress, step = ask(known(pairings=1), errors.TooManyDevices())
    assert (step, progress.verdict) == (FindDevice(), Reason.TOO_MANY_DEVICES)
    found, step = find(progress, Pairing(NEW, USER))
    assert (step, found.verdict, found.pairing.device_id) == (ReadDevice(), None, NEW)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(HAS_NO_TOKEN, Reason.TOKEN_NOT_IN_INVENTORY), (errors.NotFound(), Reason.USER_NOT_FOUND)],
)
def test_a_token_or_a_user_that_pingone_does_not_know_is_asked_for_again_before_it_is_given_up(failure, reason):
    progress = known()
    for count in range(1, NOT_FOUND_READS + 1):
        progress, step = ask(progress, failure)
        assert progress == known(not_found=count)
        assert step == Retry(LIMITS.not_found_delay, is_counted=False, why="not_found")
        assert choose_first_step(progress, LIMITS)[1] == Pair()
    progress, step = ask(progress, failure)
    if reason == Reason.USER_NOT_FOUND:
        assert (step, progress.verdict) == (FindDevice(), reason)
        progress, step = find(progress, None)
    assert step == DeadLetter(reason)
    assert progress.verdict is None


def test_a_token_that_is_paired_already_is_looked_up_and_is_not_ours():
    progress, step = ask(known(was_free=False), errors.AlreadyPaired())
    assert (step, progress) == (FindDevice(), known(was_free=False))
    found, step = find(progress, Pairing(NEW, USER))
    assert (step, found.pairing.device_id, found.pairing.is_made) == (ReadDevice(), NEW, False)


def test_even_a_token_that_was_free_is_not_ours_if_somebody_paired_it_before_our_first_request():
    progress, _ = ask(known(), errors.AlreadyPaired())
    assert not find(progress, Pairing(NEW, USER))[0].pairing.is_made


def test_a_token_that_is_paired_already_is_not_ours_though_an_earlier_request_made_a_device_once():
    """That one is gone, or never came: the help desk may have paired the token since."""
    progress, step = ask(known(pairings=1), errors.AlreadyPaired())
    assert step == FindDevice()
    assert not find(progress, Pairing(NEW, USER))[0].pairing.is_made


# Answers to a look-up.


@pytest.mark.parametrize("state", [UNSENT, SENT, MISSED])
@pytest.mark.parametrize("user_id", [USER, USER.upper(), None])
def test_a_device_of_this_user_is_taken_and_read(state, user_id):
    progress, step = find(known(state, 1), Pairing(NEW, user_id))
    assert (step, progress.pairing.state, progress.pairing.device_id) == (ReadDevice(), SENT, NEW)
    assert progress.pairing.is_made is (state != UNSENT)


@pytest.mark.parametrize("state", [UNSENT, SENT, MISSED])
def test_a_device_that_was_found_is_not_ours_if_the_token_was_not_known_to_be_free(state):
    progress, _ = find(known(state, 1, was_free=False), Pairing(NEW, USER))
    assert not progress.pairing.is_made


@pytest.mark.parametrize("progress", [known(), known(SENT, 1), known(MISSED, 1), paired()])
def test_a_device_of_another_user_is_left_alone(progress):
    before = progress.pairing
    # It is known now that none of our requests made a device.
    settled = replace(before, state=UNSENT) if before.is_open else before
    progress, step = find(progress, Pairing(NEW, OTHER))
    told = f"It is the device of user {OTHER}."
    assert (step, progress.pairing) == (DeadLetter(Reason.TOKEN_TAKEN, told=told), settled)


def test_a_pairing_is_made_again_only_after_two_look_ups_found_the_token_free():
    once, step = find(known(SENT, 1, was_free=False, jitter=0.5), None)
    assert step == Retry(7.5, is_counted=False, why="not_found")
    assert (once.pairing.state, once.pairing.was_free) == (MISSED, False)
    assert once.needs_read
    twice, step = find(once, None)
    assert step == Pair()
    assert twice.pairing == replace(FREE, pairings=1)


OTP_SENT = OtpProgress(OtpState.SENT, 1)


def test_an_otp_of_a_token_that_is_nobody_s_made_no_device_active_and_may_go_again():
    """After a restore, OTPs count as sent that may not have had a device."""
    once, _ = find(known(SENT, 1, first=OTP_SENT), None)
    assert once.first == OTP_SENT
    twice, step = find(once, None)
    assert (twice.first, step) == (OtpProgress(OtpState.UNSENT, 1), Pair())


def test_a_seed_of_a_token_that_is_nobody_s_begins_another_pair():
    twice, step = find(known(MISSED, 1, first=OTP_SENT, second=replace(OTP_SENT, posts=0), next_counter=12), None)
    assert (twice.is_open, twice.posts, twice.next_counter, step) == (False, 1, 13, Pair())


@pytest.mark.parametrize(
    ("progress", "answer"), [(known(SENT, 1), Pairing(NEW, OTHER)), (known(SENT, 1, verdict=Reason.REJECTED), None)]
)
def test_a_record_that_is_given_up_without_a_device_leaves_no_otp_of_unknown_fate(progress, answer):
    given_up, step = find(replace(progress, first=OTP_SENT), answer)
    assert isinstance(step, DeadLetter)
    assert given_up.first == OtpProgress(OtpState.UNSENT, 1)


def test_a_third_request_that_came_to_nothing_ends_the_record():
    twice, step = find(known(MISSED, MOST_PAIRINGS), None)
    assert step == DeadLetter(Reason.PAIRING_FAILED)
    assert not twice.needs_read


def test_a_record_whose_otps_expired_meanwhile_is_not_paired_again():
    _, step = find(known(MISSED, 1, is_stale=True), None)
    assert step == DeadLetter(Reason.STALE_OTP, is_counted=False)


def test_a_device_that_is_said_to_be_and_is_not_shown_is_looked_for_later():
    """PingOne said that the token is paired already, and shows nobody's device."""
    progress, step = find(known(was_free=False, attempts=2), None)
    assert step == Retry(10.0, is_counted=True, why="not_found")
    assert progress.pairing == FREE


@pytest.mark.parametrize(
    "failure",
    [errors.OutcomeUnknown(), errors.Forbidden(), errors.NotFound(), errors.Rejected(), errors.ExpandRefused()],
)
@pytest.mark.parametrize("progress", [known(SENT, 1), known(MISSED, 1), known(verdict=Reason.REJECTED), known()])
def test_a_look_up_that_told_nothing_is_made_again(progress, failure):
    after, step = find(progress, failure)
    assert after == replace(progress, verdict=after.verdict)
    # A refusal tells nothing of a request that is out, and ends the record where none is.
    is_final = isinstance(failure, errors.Rejected) and not progress.pairing.is_open
    assert isinstance(step, DeadLetter if is_final else Retry)
    assert step.is_counted


@pytest.mark.parametrize(
    "failure", [errors.NotDelivered(), errors.RateLimited(), SlotTooFar(9.0), errors.Unauthorized()]
)
def test_a_look_up_that_did_not_happen_costs_no_attempt(failure):
    after, step = find(known(SENT, 1), failure)
    assert after == known(SENT, 1)
    assert isinstance(step, Retry)
    assert not step.is_counted


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(errors.CredentialsRefused(), PauseReason.CREDENTIALS), (errors.ProtocolFault(), PauseReason.PROTOCOL)],
)
def test_a_look_up_that_only_a_person_can_mend_pauses_the_batch_and_waits(failure, reason):
    after, step = find(known(SENT, 1), failure)
    assert (after, step.reason, step.delay) == (known(SENT, 1), reason, LIMITS.read_delay)


# A device that PingOne does not find any more.


@pytest.mark.parametrize("count", range(NOT_FOUND_READS))
def test_a_device_that_is_not_found_is_read_again_first(count):
    progress, step = decide_after_read(paired(not_found=count), errors.NotFound(), LIMITS)
    assert (progress.not_found, isinstance(step, Retry)) == (count + 1, True)


def test_a_device_that_may_not_be_made_again_is_given_up():
    missing = paired(is_allowed=False, not_found=NOT_FOUND_READS)
    _, step = decide_after_read(missing, errors.NotFound(), LIMITS)
    assert step == DeadLetter(Reason.DEVICE_NOT_FOUND)
    assert not decisions.may_be_deleted(missing)


def gone(**fields: object) -> tuple[Progress, object]:
    """What follows where a device was not found again and again, and a look-up finds its token free."""
    progress, step = decide_after_read(paired(not_found=NOT_FOUND_READS, **fields), errors.NotFound(), LIMITS)
    assert step == FindDevice()
    return find(progress, None)


def test_a_deleted_device_is_made_again():
    progress, step = gone()
    assert step == Pair()
    assert (progress.pairing, progress.not_found) == (FREE, 0)


def test_a_deleted_device_of_unknown_fate_is_made_again_and_its_otp_goes_again():
    progress, step = gone(first=OtpProgress(OtpState.SENT, 1))
    assert step == Pair()
    assert progress.first == OtpProgress(OtpState.UNSENT, 1)


def test_a_pair_whose_first_otp_was_answered_is_not_sent_to_another_device():
    """The new device would ask for an OTP 1, and that one is used up."""
    progress, step = gone(first=ANSWERED)
    assert step == DeadLetter(Reason.DEVICE_NOT_FOUND)
    assert progress.pairing.device_id == ""


def test_a_seed_whose_first_otp_was_answered_begins_a_new_pair_for_the_new_device():
    progress, step = gone(first=ANSWERED, next_counter=8)
    assert step == Pair()
    assert (progress.first, progress.next_counter) == (OtpProgress(OtpState.UNSENT, 1), 8)


def test_a_seed_leaves_out_the_counter_after_an_otp_of_unknown_fate():
    progress, _ = gone(first=OtpProgress(OtpState.SENT, 1), next_counter=8)
    assert progress.next_counter == 9


def test_a_seed_without_budget_is_not_paired_again():
    _, step = gone(first=OtpProgress(OtpState.ANSWERED, 3), next_counter=8)
    assert step == DeadLetter(Reason.BUDGET_SPENT)


def test_an_otp_that_was_refused_ends_the_record_though_its_device_is_gone():
    progress, step = gone(first=ANSWERED, verdict=Reason.INVALID_OTP)
    assert step == DeadLetter(Reason.INVALID_OTP)
    assert (progress.verdict, progress.pairing.device_id) == (None, "")


def test_a_device_that_is_listed_and_cannot_be_read_is_given_up():
    missing = paired(not_found=NOT_FOUND_READS + 1)
    assert find(missing, Pairing(DEVICE, USER))[1] == DeadLetter(Reason.DEVICE_NOT_FOUND)
    refused = replace(missing, verdict=Reason.INVALID_OTP)
    assert find(refused, Pairing(DEVICE, USER)) == (missing, DeadLetter(Reason.INVALID_OTP))


@pytest.mark.parametrize("next_counter", [None, 8])
def test_a_device_that_somebody_has_paired_anew_is_taken_with_the_next_otps_and_is_not_ours(next_counter):
    missing = paired(not_found=4, first=OtpProgress(OtpState.SENT, 1), next_counter=next_counter)
    progress, step = find(missing, Pairing(NEW, USER))
    assert (step, progress.pairing.device_id, progress.pairing.is_made) == (ReadDevice(), NEW, False)
    assert progress.first == OtpProgress(OtpState.UNSENT, 1)


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
    found, _ = find(lost, Pairing(NEW, USER))
    device = Device(status, False, False, Answer(status=200), age=age)
    assert decide_after_read(found, device, LIMITS)[0].pairing.is_made is is_made


def test_the_first_request_stays_the_first():
    hour, now = timedelta(hours=1), timedelta(0)
    lost = PairingProgress(SENT, pairings=1, sent_ago=SentAgo(hour, hour))
    assert lost.missed().missed().sent().sent_ago == SentAgo(hour, now)
    # One that made nothing does not count.
    assert lost.unsent().sent().sent_ago == SentAgo(now, now)


def test_a_device_of_an_answer_is_ours_whatever_its_age():
    sent = replace(known(), pairing=known().pairing.sent())
    found, step = decide_after_pairing(sent, PairedDevice(NEW, None, Answer(status=201)), LIMITS)
    assert step == ReadDevice()
    device = Device("ACTIVE", False, False, Answer(status=200), age=timedelta(days=2))
    assert decide_after_read(found, device, LIMITS)[0].pairing.is_made


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
    gone = replace(paired(not_found=NOT_FOUND_READS + 1), **fields)
    found, step = find(gone, Pairing(NEW, USER))
    assert step == ReadDevice()
    waiting = Device("ACTIVATION_REQUIRED", False, False, Answer(status=200))
    assert decide_after_read(found, waiting, LIMITS)[1] == DeadLetter(reason)
    assert isinstance(decide_after_read(found, Device("ACTIVE", False, False, Answer(status=200)), LIMITS)[1], Active)


def test_404s_from_before_a_device_was_made_do_not_count_against_it():
    assert ask(known(not_found=NOT_FOUND_READS), WAITS)[0].not_found == 0
    assert find(known(SENT, 1, not_found=NOT_FOUND_READS), Pairing(NEW, USER))[0].not_found == 0


def test_a_look_up_that_is_forbidden_again_and_again_pauses_the_batch():
    progress = known(SENT, 1, attempts=LIMITS.attempts + 1)
    decision = find(progress, errors.Forbidden())[1]
    assert isinstance(decision, Pause)
    assert decision.reason == PauseReason.PERMISSIONS


@pytest.mark.parametrize(
    ("verdict", "reason"), [(None, Reason.FORBIDDEN), (Reason.TOO_MANY_DEVICES, Reason.TOO_MANY_DEVICES)]
)
def test_a_look_up_that_is_forbidden_again_and_again_with_nothing_open_ends_the_record(verdict, reason):
    progress = known(verdict=verdict, attempts=LIMITS.attempts + 1)
    assert find(progress, errors.Forbidden())[1] == DeadLetter(reason)


def test_a_refused_look_up_with_nothing_open_ends_the_record():
    assert find(known(verdict=Reason.TOO_MANY_DEVICES), errors.Rejected())[1] == DeadLetter(Reason.TOO_MANY_DEVICES)


def test_a_device_that_another_record_has_is_left_to_it():
    found, _ = find(known(SENT, 1), Pairing(NEW, USER))
    progress, decision = decisions.give_up_device(found)
    assert decision == DeadLetter(Reason.DEVICE_IN_PROGRESS)
    assert (progress.pairing.device_id, progress.pairing.is_made, progress.needs_read) == ("", False, False)
