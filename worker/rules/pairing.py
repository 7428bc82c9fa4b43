"""How a record gets its device: what it does while it has none, and what each answer to a pairing or a look-up means.
Pure.

A request to pair whose answer got lost may have made a device, so the token is looked up before it is paired again: a
look-up that finds it free counts only if a second one, some seconds later, does so too."""

from __future__ import annotations

from dataclasses import replace

from models.attempt import Failure
from models.reason import PauseReason, Reason
from models.record_states import OtpState, PairingState
from worker.pingone import errors
from worker.pingone.devices import PairedDevice, Pairing
from worker.rules import no_effect
from worker.rules.limits import Limits
from worker.rules.next_otp import choose_otp, send_next_otp
from worker.rules.no_effect import CallFailure, name_failure
from worker.rules.progress import PairingProgress, Progress
from worker.rules.steps import Active, DeadLetter, FindDevice, Next, Pair, ReadDevice, Retry

# Requests to pair that may have made a device, up to a replay.
MOST_PAIRINGS = 3
# Seconds between two look-ups that find the token free, before it is paired again.
_LOOK_AGAIN = 5.0

# What PingOne refuses for good, and the reason that the record is given up for.
_REFUSALS: dict[type[errors.PingOneError], Reason] = {
    errors.TooManyDevices: Reason.TOO_MANY_DEVICES,
    errors.MethodOff: Reason.METHOD_OFF,
    errors.AccountNotUsable: Reason.ACCOUNT_NOT_USABLE,
    errors.LicenseExceeded: Reason.LICENSE,
}


def choose_step(progress: Progress, limits: Limits) -> Next:
    """What a record does that has no device: look its token up if a request is of unknown fate, or else pair it, unless
    it could send no OTP afterwards."""
    if progress.pairing.is_open or progress.verdict is not None:
        return progress, FindDevice()
    if not progress.pairing.is_allowed:
        return progress, DeadLetter(Reason.DEVICE_NOT_FOUND)
    if isinstance(obstacle := choose_otp(progress, limits), DeadLetter):
        return progress, obstacle
    if progress.pairing.pairings >= MOST_PAIRINGS:
        return progress, DeadLetter(Reason.PAIRING_FAILED)
    return progress, Pair()


def decide_after_pairing(progress: Progress, answer: PairedDevice | CallFailure, limits: Limits) -> Next:
    """What follows the answer to a request to pair, which `progress` knows as sent."""
    match answer:
        case PairedDevice():
            if not answer.status:
                # It is not known whether it waits for an OTP. It is ours for certain, so its age does not matter.
                found = replace(progress.pairing.found(answer.id, is_made=True), sent_ago=None)
                return _with(replace(progress, not_found=0), found), ReadDevice()
            paired = _with(replace(progress, not_found=0), progress.pairing.paired(answer.id, is_made=True))
            return (paired, Active()) if answer.is_active else send_next_otp(paired, limits)
        case errors.OutcomeUnknown() if answer.is_over:
            return progress, FindDevice()
        case errors.OutcomeUnknown():
            delay = limits.read_delay * (1 + progress.jitter / 4)
            return progress, Retry(delay, is_counted=True, why=name_failure(answer))
    return _decide_after_refusal(_with(progress, progress.pairing.unsent()), answer, limits)


def decide_after_search(progress: Progress, answer: Pairing | CallFailure | None, user_id: str, limits: Limits) -> Next:
    """What follows a look-up of whose device the token is. None: it is nobody's, as far as can be seen."""
    match answer:
        case Pairing() if answer.user_id is not None and answer.user_id.lower() != user_id.lower():
            return _give_up(_without_request(progress), Reason.TOKEN_TAKEN, tell_owner(answer.user_id))
        case Pairing() if answer.device_id == progress.pairing.device_id:
            # It is listed, and cannot be read.
            return _give_up(progress, progress.verdict or Reason.DEVICE_NOT_FOUND)
        case Pairing():
            return _take_device(progress, answer)
        case None:
            return _decide_for_free_token(progress, limits)
        case errors.Rejected() if not progress.pairing.is_open:
            return _give_up(progress, progress.verdict or Reason.REJECTED)
        case errors.Forbidden() if progress.attempts > limits.attempts and not progress.pairing.is_open:
            return _give_up(progress, progress.verdict or Reason.FORBIDDEN)
        case errors.Forbidden() if progress.attempts > limits.attempts:
            # Without a look-up, nobody will ever know what became of it.
            return progress, no_effect.pause(progress, PauseReason.PERMISSIONS, limits)
        case errors.OutcomeUnknown() | errors.Forbidden() | errors.NotFound() | errors.Rejected():
            delay = no_effect.choose_read_delay(progress, limits)
            return progress, Retry(delay, is_counted=True, why=name_failure(answer))
    return no_effect.decide_after_no_effect(progress, answer, limits)


def may_be_deleted(progress: Progress) -> bool:
    """Whether a device that PingOne does not find, once more, was deleted and may be made again: PingOne deletes what
    waits for activation longer than 24 hours."""
    return progress.pairing.is_allowed and progress.not_found >= no_effect.NOT_FOUND_READS


def tell_owner(user_id: str) -> str:
    """Tell whose device a token is, by the person's id."""
    return f"It is the device of user {user_id.lower()}."


def give_up_device(progress: Progress) -> Next:
    """Give a record up whose device another record has that is not final: nothing of it is this record's."""
    without = replace(progress.pairing, state=PairingState.UNSENT, device_id="", is_made=False)
    return _give_up(_with(progress, without), Reason.DEVICE_IN_PROGRESS)


def _with(progress: Progress, pairing: PairingProgress) -> Progress:
    return replace(progress, pairing=pairing)


def _decide_after_refusal(progress: Progress, answer: CallFailure, limits: Limits) -> Next:
    """What follows where a request to pair made nothing."""
    match answer:
        case errors.AlreadyPaired():
            return progress, FindDevice()
        case errors.TokenNotInInventory():
            return _decide_after_missing(progress, Reason.TOKEN_NOT_IN_INVENTORY, limits)
        case errors.NotFound():
            return _decide_after_missing(progress, Reason.USER_NOT_FOUND, limits)
        case errors.Rejected() | errors.LicenseExceeded() | errors.InvalidOtp() | errors.ResyncRequired():
            return _refuse(progress, _REFUSALS.get(type(answer), Reason.REJECTED))
    return no_effect.decide_after_no_effect(progress, answer, limits)


def _take_device(progress: Progress, found: Pairing) -> Next:
    """Go on with a device that was found. We made it if the token was known to be free before a request of ours that is
    of unknown fate; otherwise it was there before, or somebody else has made it, and it is not ours to remove."""
    pairing = progress.pairing
    is_made = pairing.was_free and pairing.is_open and not pairing.device_id
    known = _with_new_device(progress) if pairing.device_id else progress
    verdict = _judge_otps_for_another_device(known, progress.verdict) if pairing.device_id else None
    return (
        replace(_with(known, known.pairing.found(found.device_id, is_made=is_made)), verdict=verdict, not_found=0),
        ReadDevice(),
    )


def _decide_for_free_token(progress: Progress, limits: Limits) -> Next:
    """What follows a look-up that found the token free."""
    if progress.pairing.device_id:
        return _pair_again(progress, limits)
    if progress.verdict is not None:
        return _give_up(_without_request(progress), progress.verdict)
    missed = _with(progress, progress.pairing.missed())
    if missed.pairing.state == PairingState.MISSED:
        return missed, Retry(_LOOK_AGAIN * (1 + progress.jitter), is_counted=False, why=Failure.NOT_FOUND)
    if progress.pairing.state == PairingState.UNSENT:
        # PingOne said that it was paired, and does not show with whom.
        return missed, Retry(no_effect.choose_read_delay(progress, limits), is_counted=True, why=Failure.NOT_FOUND)
    # Nobody's token has no device that an OTP can have made ACTIVE.
    return choose_step(missed.with_device_waiting(), limits)


def _without_request(progress: Progress) -> Progress:
    """The same record where a look-up told that no request of ours has made a device, so that no OTP can have made one
    ACTIVE."""
    known = progress if progress.pairing.device_id else progress.with_device_waiting()
    pairing = known.pairing.read()
    return _with(known, replace(pairing, state=PairingState.UNSENT) if pairing.is_open else pairing)


def _pair_again(progress: Progress, limits: Limits) -> Next:
    """What follows where the device is gone: pair the token anew, unless its OTPs were refused, or the new device would
    ask first for one that was answered."""
    again = _with_new_device(progress)
    if verdict := _judge_otps_for_another_device(again, progress.verdict):
        return _give_up(again, verdict)
    return choose_step(replace(again, not_found=0), limits)


def _judge_otps_for_another_device(progress: Progress, verdict: Reason | None) -> Reason | None:
    """Why the OTPs of a record are of no use to another device than they were sent to; None if they are. A pair whose
    OTP 1 was answered is not: the other device would have to be sent that one first."""
    is_begun = progress.next_counter is None and progress.first.state == OtpState.ANSWERED
    return verdict or (Reason.DEVICE_NOT_FOUND if is_begun else None)


def _with_new_device(progress: Progress) -> Progress:
    """The same record without its device: no OTP made that ACTIVE, and a seed begins a new pair for the next one."""
    waiting = progress.with_device_waiting()
    if waiting.next_counter is not None and waiting.first.state == OtpState.ANSWERED:
        waiting = waiting.with_new_pair()
    return _with(waiting, waiting.pairing.without_device())


def _decide_after_missing(progress: Progress, reason: Reason, limits: Limits) -> Next:
    """What follows where PingOne does not know the token, or the user: what was imported or created moments ago may
    not be seen everywhere yet, so it is tried again, NOT_FOUND_READS times."""
    missing = replace(progress, not_found=progress.not_found + 1)
    if missing.not_found > no_effect.NOT_FOUND_READS:
        return _refuse(missing, reason)
    return missing, Retry(limits.not_found_delay, is_counted=False, why=Failure.NOT_FOUND)


def _refuse(progress: Progress, reason: Reason) -> Next:
    """Give a record up that PingOne does not pair; but look the token up first if an earlier request may have made a
    device, or it is not clear what was refused."""
    if progress.pairing.pairings or reason in (Reason.REJECTED, Reason.USER_NOT_FOUND):
        return replace(progress, verdict=reason), FindDevice()
    return _give_up(progress, reason)


def _give_up(progress: Progress, reason: Reason, told: str = "") -> Next:
    return replace(progress, verdict=None), DeadLetter(reason, told=told)
