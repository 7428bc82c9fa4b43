"""What each answer of PingOne means for a record. Pure: from what we know and what happened, to what comes next.

    choose_first_step ──► ReadDevice ──► decide_after_read ──┐
      │           ▲                       │
      └───────► SendOtp ──► decide_after_post ───┴──► Active | Retry | DeadLetter | Pause

A story is told by alternating: perform the step, hand the answer (a Device or the failure) back, get the next step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from models.reason import PauseReason, Reason
from models.record import OtpState
from worker.pace.errors import SlotTooFar
from worker.pingone import errors
from worker.pingone.wire import Device
from worker.rules import quota
from worker.rules.progress import Progress
from worker.rules.steps import Active, DeadLetter, Decision, Pause, ReadDevice, Retry, SendOtp, Step

POSTS_PER_OTP = 2
NOT_FOUND_READS = 3
# Seconds for which a record is handed back where the fleet's slot is further away. While the fleet holds, the
# dispatcher publishes nothing anyway; and a hold that ends sooner than was told leaves no record waiting for its end.
LONGEST_HAND_BACK = 5.0
_LONGEST_DELAY = 300.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What is allowed, and how long to wait, in seconds."""

    posts: int = 3
    attempts: int = 8
    read_delay: float = 30.0
    not_found_delay: float = 10.0
    longest_hold: float = 120.0


# How a call ends that brings no device.
CallFailure = errors.PingOneError | SlotTooFar
# What is known of the record now, and what it does next.
Next = tuple[Progress, Step | Decision]


def choose_first_step(progress: Progress, limits: Limits) -> Next:
    """The first step of an attempt."""
    if progress.needs_read or progress.not_found:
        return progress, ReadDevice()
    return _then_post(progress, limits)


def decide_after_post(progress: Progress, ordinal: int, answer: Device | CallFailure, limits: Limits) -> Next:
    """What follows the answer to an OTP that `progress` knows as sent."""
    match answer:
        case Device():
            return progress.with_otp_answered(ordinal), Active()
        case errors.ResyncRequired() if ordinal == 1:
            return _then_post(progress.with_otp_answered(1), limits)
        case errors.ResyncRequired():
            return progress.with_otp_answered(2), DeadLetter(Reason.RESYNC_FAILED)
        case errors.InvalidOtp():
            verdict = Reason.INVALID_OTP if ordinal == 1 else Reason.RESYNC_FAILED
            return replace(progress.with_otp_answered(ordinal), verdict=verdict), ReadDevice()
        case errors.Rejected():
            return replace(progress.with_otp_answered(ordinal), verdict=_rejection(answer)), ReadDevice()
        case errors.OutcomeUnknown() if answer.is_over:
            # No delay is needed: it guards against a post that still runs.
            return progress, ReadDevice()
        case errors.OutcomeUnknown():
            return progress, Retry(limits.read_delay * (1 + progress.jitter / 4), is_counted=True, why=_name(answer))
    # Everything else did not reach PingOne or made it do nothing.
    return _after_nothing(progress.with_otp_unsent(ordinal), answer, limits)


def decide_after_read(progress: Progress, answer: Device | CallFailure, limits: Limits) -> Next:
    """What follows a read of the device."""
    match answer:
        case Device() if answer.is_active:
            return progress, Active()
        case Device():
            return _after_waiting(progress, answer, limits)
        case errors.NotFound():
            return _after_missing(progress, limits)
        case errors.Rejected() | errors.InvalidOtp() | errors.ResyncRequired() if not progress.is_open:
            return _settled_by_read(progress, Reason.REJECTED)
        case errors.Forbidden() if not progress.needs_read:
            return progress, DeadLetter(Reason.FORBIDDEN, is_counted=False)
        case errors.Forbidden() if progress.attempts > limits.attempts:
            # It may post and not read: a role is missing, and without it no fate is ever known.
            return progress, _pause(progress, PauseReason.PERMISSIONS, limits)
        case (
            errors.OutcomeUnknown()
            | errors.Forbidden()
            | errors.Rejected()
            | errors.InvalidOtp()
            | errors.ResyncRequired()
        ):
            # None of these tells how the device stands.
            return progress, Retry(_backoff(progress), is_counted=True, why=_name(answer))
    return _after_nothing(progress, answer, limits)


def hand_back_without_slot(progress: Progress, far: SlotTooFar) -> Next:
    """The next slot of the fleet is far: the record waits in the database, not in a worker."""
    return progress, Retry(choose_hand_back_delay(far), is_counted=False, why="hold")


def choose_hand_back_delay(far: SlotTooFar) -> float:
    """Seconds until a record is due again for which there is no near slot."""
    return min(far.wait, LONGEST_HAND_BACK)


def hand_back_without_permit(progress: Progress) -> Next:
    """The batch does not run any more, or the lease was lost: whatever comes next is asked at the next claim."""
    return progress, Retry(0.0, is_counted=False, why="not_permitted")


def _then_post(progress: Progress, limits: Limits) -> Next:
    return progress, _next_post(progress, limits)


def _next_post(progress: Progress, limits: Limits) -> Step | Decision:
    """The OTP that goes next, if one may; the fate of every earlier one is known."""
    ordinal: Literal[1, 2] = 2 if progress.first.state == OtpState.ANSWERED else 1
    if ordinal == 2 and progress.second is None:
        return DeadLetter(Reason.SECOND_OTP_MISSING)
    otp = progress.otp(ordinal)
    if progress.is_stale:
        return DeadLetter(Reason.STALE_OTP, is_counted=False)
    if otp.state != OtpState.UNSENT or otp.posts >= POSTS_PER_OTP or progress.posts >= limits.posts:
        return DeadLetter(Reason.BUDGET_SPENT)
    if progress.attempts > limits.attempts:
        return DeadLetter(Reason.ATTEMPTS_SPENT, is_counted=False)
    return SendOtp(ordinal)


def _after_waiting(progress: Progress, device: Device, limits: Limits) -> Next:
    """The device is there and not ACTIVE."""
    known = progress.with_device_waiting()
    stands_in_the_way = _obstacle(device)
    if known.verdict in (Reason.INVALID_OTP, Reason.RESYNC_FAILED):
        return _settled_by_read(known, known.verdict)
    if stands_in_the_way is not None:
        return replace(known, verdict=None), DeadLetter(stands_in_the_way)
    if known.verdict is not None:
        return _settled_by_read(known, known.verdict)
    return _then_post(known, limits)


def _after_missing(progress: Progress, limits: Limits) -> Next:
    """404: a device that was paired moments ago may not be seen everywhere yet."""
    missing = replace(progress, not_found=progress.not_found + 1)
    if missing.not_found > NOT_FOUND_READS:
        return _settled_by_read(missing, Reason.DEVICE_NOT_FOUND)
    return missing, Retry(limits.not_found_delay, is_counted=False, why="not_found")


def _settled_by_read(progress: Progress, otherwise: Reason) -> Next:
    """A read has answered, and not ACTIVE: the verdict stands."""
    return replace(progress, verdict=None), DeadLetter(progress.verdict or otherwise)


def _after_nothing(progress: Progress, failure: CallFailure, limits: Limits) -> Next:
    """Nothing reached PingOne, or it did nothing: no attempt was spent."""
    match failure:
        case errors.CredentialsRefused():
            return progress, replace(_pause(progress, PauseReason.CREDENTIALS, limits), is_own=True)
        case errors.Unauthorized():
            # The token endpoint granted both: it may be this one call. Several records in a row are for the breaker.
            delay = limits.read_delay if progress.needs_read else 1.0 + progress.jitter
            return progress, Retry(delay, is_counted=False, why=_name(failure))
        case errors.ProtocolFault():
            return progress, _pause(progress, PauseReason.PROTOCOL, limits)
        case errors.Forbidden():
            return progress, DeadLetter(Reason.FORBIDDEN, is_counted=False)
        case errors.NotFound():
            return _after_missing(progress, limits)
        case SlotTooFar():
            return hand_back_without_slot(progress, failure)
        case errors.RateLimited() if spent := quota.read_quota(failure, limits.longest_hold):
            return progress, replace(_pause(progress, PauseReason.QUOTA, limits), quota=spent)
        case errors.NotDelivered() | errors.RateLimited():
            return progress, Retry(1.0 + progress.jitter, is_counted=False, why=_name(failure))
    raise TypeError(f"no decision for {type(failure).__name__}")


def _pause(progress: Progress, reason: PauseReason, limits: Limits) -> Pause:
    """A cancelled batch cannot pause: what it still owes a read must not ask again at every tick."""
    return Pause(reason, delay=limits.read_delay if progress.needs_read else 0.0)


def _rejection(failure: errors.Rejected) -> Reason:
    if "ACCOUNT_NOT_USABLE" in (failure.answer.code, failure.answer.detail_code):
        return Reason.ACCOUNT_NOT_USABLE
    return Reason.REJECTED


def _obstacle(device: Device) -> Reason | None:
    if device.is_blocked:
        return Reason.BLOCKED
    return Reason.LOCKED if device.is_locked else None


def _backoff(progress: Progress) -> float:
    """Seconds until a read is tried again: 5, 10, 20 … 300, up to half as much again."""
    return float(min(_LONGEST_DELAY, 5.0 * 2 ** min(progress.attempts - 1, 10)) * (1 + progress.jitter / 2))


def _name(failure: CallFailure) -> str:
    """The failure's class as one word, `OutcomeUnknown` → `outcome_unknown`."""
    name = type(failure).__name__
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")
