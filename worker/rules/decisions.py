"""What each answer of PingOne means for a record. Pure: from what we know and what happened, to what comes next.

    choose_first_step ──► ReadDevice ──► decide_after_read ──┐
            │                 ▲                              │
            └─────────────► SendOtp ──► decide_after_post ───┴──► Active | Retry | DeadLetter | Pause

An attempt alternates: perform the step, pass the answer (a Device or the failure) to the function that decides after
such a step, and get the next step or the decision that ends the attempt.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from models.reason import PauseReason, Reason
from models.record import OtpState
from worker.pingone import errors
from worker.pingone.wire import Device
from worker.rules import no_effect
from worker.rules.limits import Limits
from worker.rules.no_effect import CallFailure, name_failure
from worker.rules.progress import Progress
from worker.rules.steps import Active, DeadLetter, Decision, Next, ReadDevice, Retry, SendOtp, Step

# Posts of one and the same OTP.
POSTS_PER_OTP = 2
# Seconds between two reads, before the part that is drawn at random.
_LONGEST_DELAY = 300.0


def choose_first_step(progress: Progress, limits: Limits) -> Next:
    """The first step of an attempt, or the decision that ends it at once."""
    if progress.needs_read or progress.not_found:
        return progress, ReadDevice()
    return _send_next_otp(progress, limits)


def decide_after_post(progress: Progress, ordinal: int, answer: Device | CallFailure, limits: Limits) -> Next:
    """What follows the answer to an OTP that `progress` knows as sent."""
    match answer:
        case Device():
            return progress.with_otp_answered(ordinal), Active()
        case errors.ResyncRequired() if ordinal == 1:
            return _send_next_otp(progress.with_otp_answered(1), limits)
        case errors.ResyncRequired():
            return progress.with_otp_answered(2), DeadLetter(Reason.RESYNC_FAILED)
        case errors.InvalidOtp():
            verdict = Reason.INVALID_OTP if ordinal == 1 else Reason.RESYNC_FAILED
            return replace(progress.with_otp_answered(ordinal), verdict=verdict), ReadDevice()
        case errors.Rejected():
            return replace(progress.with_otp_answered(ordinal), verdict=_name_rejection(answer)), ReadDevice()
        case errors.OutcomeUnknown() if answer.is_over:
            # No delay is needed: it guards against a post that still runs.
            return progress, ReadDevice()
        case errors.OutcomeUnknown():
            delay = limits.read_delay * (1 + progress.jitter / 4)
            return progress, Retry(delay, is_counted=True, why=name_failure(answer))
    # Everything else did not reach PingOne or made it do nothing.
    return no_effect.decide_after_no_effect(progress.with_otp_unsent(ordinal), answer, limits)


def decide_after_read(progress: Progress, answer: Device | CallFailure, limits: Limits) -> Next:
    """What follows a read of the device."""
    match answer:
        case Device() if answer.is_active:
            return progress, Active()
        case Device():
            return _decide_for_waiting_device(progress, answer, limits)
        case errors.NotFound():
            return no_effect.decide_after_missing(progress, limits)
        case errors.Rejected() | errors.InvalidOtp() | errors.ResyncRequired() if not progress.is_open:
            return no_effect.give_up_after_read(progress, Reason.REJECTED)
        case errors.Forbidden() if not progress.needs_read:
            return progress, DeadLetter(Reason.FORBIDDEN, is_counted=False)
        case errors.Forbidden() if progress.attempts > limits.attempts:
            # The worker application may post and not read: it lacks a role, and without that no fate is ever known.
            return progress, no_effect.pause(progress, PauseReason.PERMISSIONS, limits)
        case (
            errors.OutcomeUnknown()
            | errors.Forbidden()
            | errors.Rejected()
            | errors.InvalidOtp()
            | errors.ResyncRequired()
        ):
            # None of these tells how the device stands.
            return progress, Retry(_choose_read_delay(progress), is_counted=True, why=name_failure(answer))
    return no_effect.decide_after_no_effect(progress, answer, limits)


def begin_new_pair(progress: Progress, limits: Limits) -> Next:
    """What follows where the second OTP of a seed's pair cannot go any more: another pair, if both of its OTPs are
    within the budget. Its token is out of step, so one OTP alone would be wasted."""
    again = progress.with_new_pair()
    if again.posts_in_budget + 2 > limits.posts:
        return again, DeadLetter(Reason.BUDGET_SPENT)
    return _send_next_otp(again, limits)


def _send_next_otp(progress: Progress, limits: Limits) -> Next:
    return progress, _choose_otp(progress, limits)


def _choose_otp(progress: Progress, limits: Limits) -> Step | Decision:
    """The OTP that goes next, or the reason why none may. What became of every earlier post is known."""
    ordinal: Literal[1, 2] = 2 if progress.first.state == OtpState.ANSWERED else 1
    if ordinal == 2 and progress.second is None:
        return DeadLetter(Reason.SECOND_OTP_MISSING)
    otp = progress.otp(ordinal)
    if progress.is_stale:
        return DeadLetter(Reason.STALE_OTP, is_counted=False)
    # A seed makes another OTP for each post.
    is_used_up = progress.next_counter is None and otp.posts >= POSTS_PER_OTP
    if otp.state != OtpState.UNSENT or is_used_up or progress.posts_in_budget >= limits.posts:
        return DeadLetter(Reason.BUDGET_SPENT)
    if progress.attempts > limits.attempts:
        return DeadLetter(Reason.ATTEMPTS_SPENT, is_counted=False)
    return SendOtp(ordinal)


def _decide_for_waiting_device(progress: Progress, device: Device, limits: Limits) -> Next:
    """What follows a read that found the device, and found it not ACTIVE."""
    known = progress.with_device_waiting()
    obstacle = _find_obstacle(device)
    if known.verdict in (Reason.INVALID_OTP, Reason.RESYNC_FAILED):
        return no_effect.give_up_after_read(known, known.verdict)
    if obstacle is not None:
        return replace(known, verdict=None), DeadLetter(obstacle)
    if known.verdict is not None:
        return no_effect.give_up_after_read(known, known.verdict)
    # OTP 2 of a seed's pair was lost on its way: the pair cannot be completed.
    was_half_done = progress.first.state == OtpState.ANSWERED and known.first.state == OtpState.UNSENT
    return begin_new_pair(known, limits) if was_half_done else _send_next_otp(known, limits)


def _name_rejection(failure: errors.Rejected) -> Reason:
    if "ACCOUNT_NOT_USABLE" in (failure.answer.code, failure.answer.detail_code):
        return Reason.ACCOUNT_NOT_USABLE
    return Reason.REJECTED


def _find_obstacle(device: Device) -> Reason | None:
    """Why no OTP can make this device ACTIVE; None if one can."""
    if device.is_blocked:
        return Reason.BLOCKED
    return Reason.LOCKED if device.is_locked else None


def _choose_read_delay(progress: Progress) -> float:
    """Seconds until a read is tried again: 5, 10, 20 … 300, up to half as much again."""
    return float(min(_LONGEST_DELAY, 5.0 * 2 ** min(progress.attempts - 1, 10)) * (1 + progress.jitter / 2))
