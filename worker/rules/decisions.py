"""What each answer of PingOne means for a record. Pure: from what we know and what happened, to what comes next.

    choose_first_step ──► Pair, FindDevice (see `pairing`) ──┐
            │                 │  ▲                           │
            ├──────────► ReadDevice ──► decide_after_read ───┤
            │                 ▲                              │
            └─────────────► SendOtp ──► decide_after_post ───┴──► Active | Retry | DeadLetter | Pause

An attempt alternates: perform the step, pass the answer (a Device or the failure) to the function that decides after
such a step, and get the next step or the decision that ends the attempt.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from models.reason import PauseReason, Reason
from models.record_states import OtpState
from worker.pingone import errors, refusals
from worker.pingone.wire import Device
from worker.rules import next_otp, no_effect, pairing
from worker.rules.limits import Limits
from worker.rules.next_otp import send_next_otp
from worker.rules.no_effect import CallFailure, choose_read_delay, name_failure
from worker.rules.progress import Progress
from worker.rules.steps import Active, DeadLetter, FindDevice, Next, ReadDevice, Retry

# Why a record is read again whose device was read, and did not tell what became of its OTP.
_NOT_TOLD = name_failure(errors.OutcomeUnknown())


def choose_first_step(progress: Progress, limits: Limits) -> Next:
    """The first step of an attempt, or the decision that ends it at once."""
    if not progress.pairing.device_id:
        return pairing.choose_step(progress, limits)
    if progress.needs_read or progress.not_found:
        return progress, ReadDevice()
    return send_next_otp(progress, limits)


def decide_after_post(progress: Progress, ordinal: int, answer: Device | CallFailure, limits: Limits) -> Next:
    """What follows the answer to an OTP that `progress` knows as sent."""
    match answer:
        case Device():
            return progress.with_otp_answered(ordinal), Active()
        case errors.ResyncRequired() if ordinal == 1:
            return send_next_otp(replace(progress.with_otp_answered(1), verdict=None), limits)
        case errors.ResyncRequired():
            return progress.with_otp_answered(2), DeadLetter(Reason.RESYNC_FAILED)
        case errors.InvalidOtp():
            verdict = Reason.INVALID_OTP if ordinal == 1 else Reason.RESYNC_FAILED
            return replace(progress.with_otp_answered(ordinal), verdict=verdict), ReadDevice()
        case refusals.Rejected():
            return replace(progress.with_otp_answered(ordinal), verdict=_name_rejection(answer)), ReadDevice()
        case errors.OutcomeUnknown() if answer.is_over:
            # No post still runs that a read would have to wait for.
            return replace(progress, is_just_posted=True), ReadDevice()
        case errors.OutcomeUnknown():
            return progress, _read_later(progress, limits, name_failure(answer))
    # Everything else did not reach PingOne or made it do nothing.
    return no_effect.decide_after_no_effect(progress.with_otp_unsent(ordinal), answer, limits)


def decide_after_read(
    progress: Progress, answer: Device | CallFailure, limits: Limits, *, is_flag_open: bool = False
) -> Next:
    """What follows a read of the device. `is_flag_open`: it is not known yet whether PingOne wants `oathResync` with
    OTP 1 (see `resync`)."""
    if isinstance(answer, Device):
        over_after = timedelta(seconds=limits.over_after)
        progress = replace(progress, pairing=progress.pairing.with_age(answer.age, over_after))
    match answer:
        case Device() if answer.is_active:
            # Whatever was refused before: the device is what it should be.
            return replace(progress, verdict=None, pairing=progress.pairing.read()), Active()
        case Device() if progress.is_open and progress.is_just_posted:
            # What a post did is not seen everywhere at once.
            return replace(progress, is_just_posted=False), _read_later(progress, limits, _NOT_TOLD)
        case Device() if progress.is_open and not answer.is_waiting and not _find_obstacle(answer):
            # In a word that we do not know, PingOne may say that it took the OTP.
            return progress, Retry(choose_read_delay(progress, limits), is_counted=True, why=_NOT_TOLD)
        case Device():
            return _decide_for_waiting_device(progress, answer, limits, is_flag_open)
        case errors.NotFound() if pairing.may_be_deleted(progress):
            # PingOne may have deleted it for its age.
            return replace(progress, not_found=progress.not_found + 1), FindDevice()
        case errors.NotFound():
            return no_effect.decide_after_missing(progress, limits)
        case refusals.Rejected() | errors.InvalidOtp() | errors.ResyncRequired() if not (
            progress.is_open or progress.pairing.is_open
        ):
            return no_effect.give_up_after_read(progress, Reason.REJECTED)
        case errors.Forbidden() if not progress.needs_read:
            return progress, DeadLetter(Reason.FORBIDDEN, is_counted=False)
        case errors.Forbidden() if progress.attempts > limits.attempts:
            # The worker application may post and not read: it lacks a role, and without that no fate is ever known.
            return progress, no_effect.pause(progress, PauseReason.PERMISSIONS, limits)
        case (
            errors.OutcomeUnknown()
            | errors.Forbidden()
            | refusals.Rejected()
            | errors.InvalidOtp()
            | errors.ResyncRequired()
        ):
            # None of these tells how the device stands.
            return progress, Retry(choose_read_delay(progress, limits), is_counted=True, why=name_failure(answer))
    return no_effect.decide_after_no_effect(progress, answer, limits)


def find_age_of_others_work(progress: Progress, device: Device, since_claim: timedelta) -> timedelta | None:
    """Find out how long ago somebody else made the device that a read shows, or made it ACTIVE; None where it may have
    been us, or PingOne does not tell. `progress`: what was known before the read. `since_claim`: for how long the
    record has been in hand.

    Who asks goes on to compare it with the run of the batch: a device that was ACTIVE before is normal, since a
    shipment may be loaded into a fresh database."""
    if progress.pairing.was_paired_by_others:
        return device.age
    if not device.is_active or not _is_every_otp_refused(progress):
        return None
    if progress.second is not None and progress.second.posts:
        # Asked for a second OTP, PingOne has told that the device waited, and then it did not take ours.
        return timedelta(0)
    # Our own post may count as the latest change of the device; what came before the claim was none of ours.
    is_from_before = device.updated_ago is not None and device.updated_ago > since_claim
    return device.updated_ago if is_from_before else None


def _is_every_otp_refused(progress: Progress) -> bool:
    """Whether no OTP can have made the device ACTIVE: each went out once at the most, and was answered, the last one by
    a refusal."""
    second = progress.second
    posted = [progress.first, *([second] if second is not None and second.posts else [])]
    return progress.verdict is not None and all(otp.posts == 1 and otp.state == OtpState.ANSWERED for otp in posted)


def _decide_for_waiting_device(progress: Progress, device: Device, limits: Limits, is_flag_open: bool) -> Next:
    """What follows a read that found the device, and found it not ACTIVE."""
    known = progress.with_device_waiting()
    obstacle = _find_obstacle(device)
    if is_flag_open and obstacle is None and next_otp.may_go_again_with_flag(known, limits):
        return send_next_otp(known.with_new_pair(), limits)
    if known.verdict in (Reason.INVALID_OTP, Reason.RESYNC_FAILED):
        return no_effect.give_up_after_read(known, known.verdict)
    if obstacle is not None:
        return replace(known, verdict=None), DeadLetter(obstacle)
    if known.verdict is not None:
        return no_effect.give_up_after_read(known, known.verdict)
    # OTP 2 of a seed's pair was lost on its way: the pair cannot be completed.
    was_half_done = progress.first.state == OtpState.ANSWERED and known.first.state == OtpState.UNSENT
    return next_otp.begin_new_pair(known, limits) if was_half_done else send_next_otp(known, limits)


def _read_later(progress: Progress, limits: Limits, why: str) -> Retry:
    """Hand the record back until the post of its OTP is over, and seen everywhere: then its device is read."""
    return Retry(limits.read_delay * (1 + progress.jitter / 4), is_counted=True, why=why)


def _name_rejection(failure: refusals.Rejected) -> Reason:
    if "ACCOUNT_NOT_USABLE" in (failure.answer.code, failure.answer.detail_code):
        return Reason.ACCOUNT_NOT_USABLE
    return Reason.REJECTED


def _find_obstacle(device: Device) -> Reason | None:
    """Why no OTP can make this device ACTIVE; None if one can."""
    if device.is_blocked:
        return Reason.BLOCKED
    return Reason.LOCKED if device.is_locked else None
