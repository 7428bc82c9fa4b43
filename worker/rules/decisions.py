"""What each answer from PingOne means for a record. Pure functions: they decide what comes next from what is known and
what just happened.

    choose_first_step ──► Pair, FindDevice ── decide_after_pairing, decide_after_search ──┐
            │                 │  ▲                                                        │
            ├──────────► ReadDevice ──► decide_after_read ────────────────────────────────┤
            │                 ▲                                                           │
            └─────────────► SendOtp ──► decide_after_post ────────────────────────────────┴──► the decision

An attempt alternates: perform the step, pass its result or failure to the function that decides after it, and get the
next step or the decision that ends the attempt: Active, Retry, DeadLetter, or Pause. A pairing request with a lost
answer may have made a device, so the token is looked up before it is paired again: a look-up that finds it free counts
only if a second one, some seconds later, agrees."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from models.attempt import Failure
from models.reason import PauseReason, Reason
from models.record_states import OtpState, PairingState
from worker.pace.search import SlotTooFar
from worker.pingone import errors
from worker.pingone.devices import Device, PairedDevice, Pairing
from worker.rules import quota
from worker.rules.steps import (
    Active,
    DeadLetter,
    FindDevice,
    Limits,
    Next,
    Pair,
    PairingProgress,
    Pause,
    Progress,
    ReadDevice,
    Retry,
    SendOtp,
)

# How many times the same OTP may be posted.
POSTS_PER_OTP = 2
# How many pairing requests of a record may have made a device; a replay starts the count again.
MOST_PAIRINGS = 3
# Seconds between two look-ups that find the token free, before it is paired again.
_LOOK_AGAIN = 5.0

# The refusals by PingOne that are final, each with the reason for the record.
_REFUSALS: dict[type[errors.PingOneError], Reason] = {
    errors.TooManyDevices: Reason.TOO_MANY_DEVICES,
    errors.MethodOff: Reason.METHOD_OFF,
    errors.AccountNotUsable: Reason.ACCOUNT_NOT_USABLE,
    errors.LicenseExceeded: Reason.LICENSE,
}
# 404s after which the device is looked for again; the next one ends the record.
NOT_FOUND_READS = 3
# Longest delay in seconds for a record that is handed back because the fleet's slot is further away. While the fleet
# holds, the dispatcher publishes nothing anyway; and if a hold ends early, no record waits for its old end.
LONGEST_HAND_BACK = 5.0
# Delays between two reads, before the random part: the first and the longest, as shares of the limits' `read_delay`,
# and the minimum, in seconds.
_FIRST_READ_DELAY, _LONGEST_READ_DELAY = 1 / 6, 10.0
_SHORTEST_READ_DELAY = 0.5

# The decision if an OTP of a TOTP seed needs PingOne's time, but two answers did not have it.
NO_TIME = Pause(
    PauseReason.PROTOCOL,
    detail="PingOne's answers have no Date header, which OTPs of TOTP seeds need, or their times contradict each "
    "other. A proxy may remove or change the header: stop that, then resume.",
)

# The decision if no call may start: the record's batch no longer runs, the lease was lost, or the worker stops. The
# next claim finds out what comes next.
NO_PERMIT = Retry(0.0, is_counted=False, why=Failure.NOT_PERMITTED)
# How a call ends if it does not return a device.
CallFailure = errors.PingOneError | SlotTooFar

# The first type that matches names the failure.
_NAMES: dict[type, Failure] = {
    errors.TooLateToSend: Failure.TOO_LATE_TO_SEND,
    errors.NotDelivered: Failure.NOT_DELIVERED,
    errors.RateLimited: Failure.RATE_LIMITED,
    errors.Unauthorized: Failure.UNAUTHORIZED,
    errors.Forbidden: Failure.FORBIDDEN,
    errors.NotFound: Failure.NOT_FOUND,
    errors.OtherDevice: Failure.OTHER_DEVICE,
    errors.OutcomeUnknown: Failure.OUTCOME_UNKNOWN,
    errors.ResyncRequired: Failure.RESYNC_REQUIRED,
    errors.InvalidOtp: Failure.INVALID_OTP,
    errors.Rejected: Failure.REJECTED,
}


def choose_first_step(progress: Progress, limits: Limits) -> Next:
    """The first step of an attempt, or the decision that ends it at once."""
    if not progress.pairing.device_id:
        return choose_step_without_device(progress, limits)
    if progress.needs_read or progress.not_found:
        return progress, ReadDevice()
    return send_next_otp(progress, limits)


def decide_after_post(progress: Progress, ordinal: int, answer: Device | CallFailure, limits: Limits) -> Next:
    """What follows the answer to an OTP that `progress` has as sent."""
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
        case errors.Rejected():
            return replace(progress.with_otp_answered(ordinal), verdict=_name_rejection(answer)), ReadDevice()
        case errors.OutcomeUnknown() if answer.is_over:
            # No post is still running that a read would have to wait for.
            return replace(progress, is_just_posted=True), ReadDevice()
        case errors.OutcomeUnknown():
            return progress, _read_later(progress, limits, name_failure(answer))
    # Any other failure means that the OTP did not reach PingOne, or that PingOne did not act on it.
    return decide_after_no_effect(progress.with_otp_unsent(ordinal), answer, limits)


def decide_after_read(
    progress: Progress, answer: Device | CallFailure, limits: Limits, *, is_flag_open: bool = False
) -> Next:
    """What follows a read of the device. `is_flag_open`: it is not known yet whether PingOne wants `oathResync` with
    OTP 1 (see `resync`)."""
    if isinstance(answer, Device):
        return _decide_for_device(progress, answer, limits, is_flag_open)
    match answer:
        case errors.NotFound() if may_be_deleted(progress):
            # PingOne may have deleted it because of its age.
            return replace(progress, not_found=progress.not_found + 1), FindDevice()
        case errors.NotFound():
            return _decide_after_missing(progress, limits, _give_up_missing)
        case errors.Rejected() | errors.InvalidOtp() | errors.ResyncRequired() if not (
            progress.is_open or progress.pairing.is_open
        ):
            return _give_up(progress, progress.verdict or Reason.REJECTED)
        case errors.Forbidden() if not progress.needs_read:
            return progress, DeadLetter(Reason.FORBIDDEN, is_counted=False)
        case errors.Forbidden() if progress.attempts > limits.attempts:
            # The worker application may post but not read: it lacks a role without which no outcome is ever known.
            return progress, pause(progress, PauseReason.PERMISSIONS, limits)
        case (
            errors.OutcomeUnknown()
            | errors.Forbidden()
            | errors.Rejected()
            | errors.InvalidOtp()
            | errors.ResyncRequired()
        ):
            # None of these shows the state of the device.
            return progress, Retry(choose_read_delay(progress, limits), is_counted=True, why=name_failure(answer))
    return decide_after_no_effect(progress, answer, limits)


def _decide_for_device(progress: Progress, device: Device, limits: Limits, is_flag_open: bool) -> Next:
    """What follows a read that found the device."""
    over_after = timedelta(seconds=limits.over_after)
    progress = replace(progress, pairing=progress.pairing.with_age(device.age, over_after))
    if device.is_active:
        # Whatever was refused before, the device is as it should be.
        return replace(progress, verdict=None, pairing=progress.pairing.read()), Active()
    if progress.is_open and _was_just_posted(progress, limits):
        # The effect of a post is not visible everywhere at once.
        return replace(progress, is_just_posted=False), _read_later(progress, limits, Failure.OUTCOME_UNKNOWN)
    if progress.is_open and not device.is_waiting and not _find_obstacle(device):
        # An unknown status may mean that PingOne accepted the OTP.
        return progress, Retry(choose_read_delay(progress, limits), is_counted=True, why=Failure.OUTCOME_UNKNOWN)
    return _decide_for_waiting_device(progress, device, limits, is_flag_open)


def _was_just_posted(progress: Progress, limits: Limits) -> bool:
    """Whether an OTP went out in this attempt, or in an earlier one that ended less than the read delay ago. If the
    database's clock has been set back since, the OTP seems to come from the future, and nothing is known."""
    sent_ago, read_delay = progress.pairing.sent_ago, timedelta(seconds=limits.read_delay)
    return progress.is_just_posted or (sent_ago is not None and timedelta(0) <= sent_ago.last < read_delay)


def find_age_of_others_work(progress: Progress, device: Device, since_claim: timedelta) -> timedelta | None:
    """Find out how long ago somebody else made the device that a read shows, or made it ACTIVE; None if it may have
    been us, or PingOne does not say. `progress`: what was known before the read. `since_claim`: how long the record has
    been in hand. The caller compares it with the batch's run: a device that was ACTIVE before is normal, since a
    shipment may be loaded into a new database."""
    if progress.pairing.was_paired_by_others:
        return device.age
    if not device.is_active or not _is_every_otp_refused(progress):
        return None
    if progress.second is not None and progress.second.posts:
        # By asking for a second OTP, PingOne said that the device waited; then it refused ours.
        return timedelta(0)
    # Our own post may be the latest change of the device; a change before the claim was not ours.
    is_from_before = device.updated_ago is not None and device.updated_ago > since_claim
    return device.updated_ago if is_from_before else None


def _is_every_otp_refused(progress: Progress) -> bool:
    """Whether no OTP can have made the device ACTIVE: each went out at most once, and was answered, the last one by a
    refusal."""
    second = progress.second
    posted = [progress.first, *([second] if second is not None and second.posts else [])]
    return progress.verdict is not None and all(otp.posts == 1 and otp.state == OtpState.ANSWERED for otp in posted)


def _decide_for_waiting_device(progress: Progress, device: Device, limits: Limits, is_flag_open: bool) -> Next:
    """What follows a read that found the device, but not ACTIVE."""
    known = progress.with_device_waiting()
    obstacle = _find_obstacle(device)
    if is_flag_open and obstacle is None and may_go_again_with_flag(known, limits):
        return send_next_otp(known.with_new_pair(), limits)
    if obstacle is not None and known.verdict not in (Reason.INVALID_OTP, Reason.RESYNC_FAILED):
        return _give_up(known, obstacle)
    if known.verdict is not None:
        return _give_up(known, known.verdict)
    # OTP 2 of a seed's pair was lost on its way: the pair cannot be completed.
    was_half_done = progress.first.state == OtpState.ANSWERED and known.first.state == OtpState.UNSENT
    return begin_new_pair(known, limits) if was_half_done else send_next_otp(known, limits)


def _read_later(progress: Progress, limits: Limits, why: Failure) -> Retry:
    """Hand the record back until the post of its OTP is over and its effect is visible everywhere: then the device is
    read."""
    return Retry(limits.read_delay * (1 + progress.jitter / 4), is_counted=True, why=why)


def _name_rejection(failure: errors.Rejected) -> Reason:
    if "ACCOUNT_NOT_USABLE" in (failure.answer.code, failure.answer.detail_code):
        return Reason.ACCOUNT_NOT_USABLE
    return Reason.REJECTED


def _find_obstacle(device: Device) -> Reason | None:
    """Why no OTP can make this device ACTIVE; None if one can."""
    if device.is_blocked:
        return Reason.BLOCKED
    return Reason.LOCKED if device.is_locked else None


# A record without a device


def choose_step_without_device(progress: Progress, limits: Limits) -> Next:
    """What a record without a device does: look its token up if a request's outcome is unknown, otherwise pair it,
    unless no OTP could be sent afterwards."""
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
    """What follows the answer to a pairing request, which `progress` has as sent."""
    match answer:
        case PairedDevice():
            if not answer.status:
                # The device may or may not wait for an OTP. It is certainly ours, so its age does not matter.
                found = replace(progress.pairing.found(answer.id, is_made=True), sent_ago=None)
                return _with(replace(progress, not_found=0), found), ReadDevice()
            paired = _with(replace(progress, not_found=0), progress.pairing.paired(answer.id, is_made=True))
            return (paired, Active()) if answer.is_active else send_next_otp(paired, limits)
        case errors.OutcomeUnknown() if answer.is_over:
            return progress, FindDevice()
        case errors.OutcomeUnknown():
            return progress, _read_later(progress, limits, name_failure(answer))
    return _decide_after_refusal(_with(progress, progress.pairing.unsent()), answer, limits)


def decide_after_search(progress: Progress, answer: Pairing | CallFailure | None, user_id: str, limits: Limits) -> Next:
    """What follows the look-up of the token's device. None: as far as PingOne shows, the token is nobody's device."""
    match answer:
        case Pairing() | errors.Forbidden() if not user_id and progress.verdict is None:
            # The record was cancelled after a restore, before its person was looked up: nothing shows whether the
            # device is theirs.
            return _without_request(progress), Retry(0.0, is_counted=False, why=Failure.NOT_FOUND)
        case Pairing() if answer.user_id is not None and answer.user_id.lower() != user_id.lower():
            return _give_up(_without_request(progress), Reason.TOKEN_TAKEN, tell_owner(answer.user_id))
        case Pairing() if answer.device_id == progress.pairing.device_id:
            # It is listed, but unreadable.
            return _give_up_missing(progress)
        case Pairing():
            return _take_device(progress, answer)
        case None:
            return _decide_for_free_token(progress, limits)
        case errors.Rejected() if not progress.pairing.is_open:
            return _give_up(progress, progress.verdict or Reason.REJECTED)
        case errors.Forbidden() if progress.attempts > limits.attempts and not progress.pairing.is_open:
            return _give_up(progress, progress.verdict or Reason.FORBIDDEN)
        case errors.Forbidden() if progress.attempts > limits.attempts:
            # Without a look-up, the outcome of the pairing request will never be known.
            return progress, pause(progress, PauseReason.PERMISSIONS, limits)
        case errors.OutcomeUnknown() | errors.Forbidden() | errors.NotFound() | errors.Rejected():
            delay = choose_read_delay(progress, limits)
            return progress, Retry(delay, is_counted=True, why=name_failure(answer))
    return decide_after_no_effect(progress, answer, limits)


def may_be_deleted(progress: Progress) -> bool:
    """Whether a device that PingOne still does not find may have been deleted, and may be made again: PingOne deletes
    devices that wait for activation longer than 24 hours."""
    return progress.pairing.is_allowed and progress.not_found >= NOT_FOUND_READS


def tell_owner(user_id: str) -> str:
    """Name the owner of a token by the person's id."""
    return f"The device belongs to user {user_id.lower()}."


def give_up_device(progress: Progress) -> Next:
    """Fail a record whose device belongs to another unfinished record: the device is not this record's."""
    without = replace(progress.pairing, state=PairingState.UNSENT, device_id="", is_made=False)
    return _give_up(_with(progress, without), Reason.DEVICE_IN_PROGRESS)


def _with(progress: Progress, pairing: PairingProgress) -> Progress:
    return replace(progress, pairing=pairing)


def _decide_after_refusal(progress: Progress, answer: CallFailure, limits: Limits) -> Next:
    """What follows a pairing request that did not make a device."""
    match answer:
        case errors.AlreadyPaired():
            return progress, FindDevice()
        case errors.TokenNotInInventory():
            return _decide_after_missing(
                progress, limits, lambda missing: _refuse(missing, Reason.TOKEN_NOT_IN_INVENTORY)
            )
        case errors.NotFound():
            return _decide_after_missing(progress, limits, lambda missing: _refuse(missing, Reason.USER_NOT_FOUND))
        case errors.Rejected() | errors.LicenseExceeded() | errors.InvalidOtp() | errors.ResyncRequired():
            return _refuse(progress, _REFUSALS.get(type(answer), Reason.REJECTED))
    return decide_after_no_effect(progress, answer, limits)


def _take_device(progress: Progress, found: Pairing) -> Next:
    """Continue with a device that was found. We made it if the token was known to be free before a request of ours of
    unknown outcome; otherwise it existed before, or somebody else made it, and it is not ours to remove."""
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
        # PingOne said that the token was paired, but does not show with whom.
        return missed, Retry(choose_read_delay(progress, limits), is_counted=True, why=Failure.NOT_FOUND)
    # A free token has no device that an OTP can have made ACTIVE.
    return choose_step_without_device(missed.with_device_waiting(), limits)


def _without_request(progress: Progress) -> Progress:
    """The same record after a look-up showed that no request of ours has made a device, so that no OTP can have made
    one ACTIVE."""
    known = progress if progress.pairing.device_id else progress.with_device_waiting()
    pairing = known.pairing.read()
    return _with(known, replace(pairing, state=PairingState.UNSENT) if pairing.is_open else pairing)


def _pair_again(progress: Progress, limits: Limits) -> Next:
    """What follows if the device is gone: pair the token again, unless its OTPs were refused, or the new device would
    first need one that was already answered."""
    again = _with_new_device(progress)
    if verdict := _judge_otps_for_another_device(again, progress.verdict):
        return _give_up(again, verdict)
    return choose_step_without_device(replace(again, not_found=0), limits)


def _judge_otps_for_another_device(progress: Progress, verdict: Reason | None) -> Reason | None:
    """Why a record's OTPs are useless for a device other than the one they were sent to; None if they can still be
    used. A pair with an answered OTP 1 is useless: the other device would need that OTP first."""
    is_begun = progress.next_counter is None and progress.first.state == OtpState.ANSWERED
    return verdict or (Reason.DEVICE_NOT_FOUND if is_begun else None)


def _with_new_device(progress: Progress) -> Progress:
    """The same record without its device: no OTP made that device ACTIVE, and a seed begins a new pair for the next
    one."""
    waiting = progress.with_device_waiting()
    if waiting.next_counter is not None and waiting.first.state == OtpState.ANSWERED:
        waiting = waiting.with_new_pair()
    return _with(waiting, waiting.pairing.without_device())


def _decide_after_missing(progress: Progress, limits: Limits, give_up: Callable[[Progress], Next]) -> Next:
    """What follows if PingOne does not know the device, the token, or the user: new things may not be visible
    everywhere yet, so it is looked for again, NOT_FOUND_READS times, before the record fails."""
    missing = replace(progress, not_found=progress.not_found + 1)
    if missing.not_found > NOT_FOUND_READS:
        return give_up(missing)
    return missing, Retry(limits.not_found_delay, is_counted=False, why=Failure.NOT_FOUND)


def _give_up_missing(progress: Progress) -> Next:
    return _give_up(progress, progress.verdict or Reason.DEVICE_NOT_FOUND)


def _refuse(progress: Progress, reason: Reason) -> Next:
    """Fail a record whose token PingOne does not pair; but look the token up first if an earlier request may have made
    a device, or if it is not clear what was refused."""
    if progress.pairing.pairings or reason in (Reason.REJECTED, Reason.USER_NOT_FOUND):
        return replace(progress, verdict=reason), FindDevice()
    return _give_up(progress, reason)


def _give_up(progress: Progress, reason: Reason, evidence: str = "") -> Next:
    return replace(progress, verdict=None), DeadLetter(reason, evidence=evidence)


# Which OTP is sent next


def send_next_otp(progress: Progress, limits: Limits) -> Next:
    """Send the next OTP, or fail the record."""
    return progress, choose_otp(progress, limits)


def begin_new_pair(progress: Progress, limits: Limits) -> Next:
    """What follows if the second OTP of a seed's pair can no longer be sent: another pair, if both of its OTPs are
    within the budget. The token is out of step, so one OTP alone would be wasted."""
    again = progress.with_new_pair()
    if again.posts + 2 > limits.posts:
        return again, DeadLetter(Reason.BUDGET_SPENT)
    return send_next_otp(again, limits)


def may_go_again_with_flag(progress: Progress, limits: Limits) -> bool:
    """Whether a seed whose first OTP was refused sends its next one with `oathResync`. Its token may be out of step in
    an environment that asks for a second OTP only then, so the budget needs room for that OTP too."""
    was_refused = progress.verdict == Reason.INVALID_OTP and progress.posts == 1
    return was_refused and progress.next_counter is not None and progress.posts + 2 <= limits.posts


def choose_otp(progress: Progress, limits: Limits) -> SendOtp | DeadLetter:
    """The OTP to send next, or the reason why none may be sent. The outcome of every earlier post is known."""
    ordinal: Literal[1, 2] = 2 if progress.first.state == OtpState.ANSWERED else 1
    if ordinal == 2 and progress.second is None:
        return DeadLetter(Reason.SECOND_OTP_MISSING)
    otp = progress.otp(ordinal)
    if progress.is_stale:
        return DeadLetter(Reason.STALE_OTP, is_counted=False)
    # A seed makes another OTP for each post.
    is_used_up = progress.next_counter is None and otp.posts >= POSTS_PER_OTP
    if otp.state != OtpState.UNSENT or is_used_up or progress.posts >= limits.posts:
        return DeadLetter(Reason.BUDGET_SPENT)
    if progress.attempts > limits.attempts:
        return DeadLetter(Reason.ATTEMPTS_SPENT, is_counted=False)
    return SendOtp(ordinal)


# When PingOne did nothing: no slot was near, nothing was delivered, or PingOne refused to act. No attempt is counted
# then.


def hand_back_without_slot(far: SlotTooFar) -> Retry:
    """Hand the record back because the fleet's next slot is far away: it waits in the database, not in a worker."""
    return Retry(choose_hand_back_delay(far), is_counted=False, why=Failure.HOLD)


def choose_hand_back_delay(far: SlotTooFar) -> float:
    """Seconds until a record without a near slot is due again."""
    return min(far.wait, LONGEST_HAND_BACK)


def decide_after_no_effect(progress: Progress, failure: CallFailure, limits: Limits) -> Next:
    """What follows a call that did not reach PingOne, or on which PingOne did not act. Raises TypeError for any other
    failure."""
    match failure:
        case errors.CredentialsRefused():
            return progress, replace(pause(progress, PauseReason.CREDENTIALS, limits), is_own=True)
        case errors.Unauthorized():
            # The token endpoint granted both access tokens, so perhaps only this call is refused. The breaker notices
            # when several records in a row end this way.
            delay = limits.read_delay if progress.needs_read else 1.0 + progress.jitter
            return progress, Retry(delay, is_counted=False, why=name_failure(failure))
        case errors.ProtocolFault():
            return progress, pause(progress, PauseReason.PROTOCOL, limits)
        case errors.Forbidden():
            return progress, DeadLetter(Reason.FORBIDDEN, is_counted=False)
        case errors.NotFound():
            return _decide_after_missing(progress, limits, _give_up_missing)
        case SlotTooFar():
            return progress, hand_back_without_slot(failure)
        case errors.RateLimited() if used_up := quota.read_quota(failure, limits.longest_hold):
            return progress, replace(pause(progress, PauseReason.QUOTA, limits), quota=used_up)
        case errors.NotDelivered() | errors.RateLimited():
            return progress, Retry(1.0 + progress.jitter, is_counted=False, why=name_failure(failure))
    raise TypeError(f"no decision for {type(failure).__name__}")


def pause(progress: Progress, reason: PauseReason, limits: Limits) -> Pause:
    """Pause the batch. A cancelled batch cannot pause; so a record that needs a read waits, and does not ask again at
    every tick."""
    return Pause(reason, delay=limits.read_delay if progress.needs_read else 0.0)


def choose_read_delay(progress: Progress, limits: Limits) -> float:
    """Seconds until a read without a result is repeated: 5, 10, 20 … 300 for a `read_delay` of 30, otherwise in
    proportion; up to half as much again."""
    share = min(_LONGEST_READ_DELAY, _FIRST_READ_DELAY * 2 ** min(progress.attempts - 1, 10))
    return float(max(_SHORTEST_READ_DELAY, limits.read_delay * share) * (1 + progress.jitter / 2))


def name_failure(failure: CallFailure) -> Failure:
    """Name a failed call after which the record is tried again. Raises TypeError for any other."""
    for kind, name in _NAMES.items():
        if isinstance(failure, kind):
            return name
    raise TypeError(f"no record goes again after {type(failure).__name__}")
