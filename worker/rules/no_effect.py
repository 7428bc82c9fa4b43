"""What follows for a record where PingOne did nothing: no slot was near, no call was permitted, nothing was delivered,
or PingOne refused to act. No attempt is counted then. Pure."""

from __future__ import annotations

from dataclasses import replace

from models.attempt import Failure
from models.reason import PauseReason, Reason
from worker.pace.errors import SlotTooFar
from worker.pingone import errors
from worker.rules import quota
from worker.rules.limits import Limits
from worker.rules.progress import Progress
from worker.rules.steps import DeadLetter, Next, Pause, Retry

# 404s after which the device is looked for again; the next one ends the record.
NOT_FOUND_READS = 3
# Seconds for which a record is handed back at most, where the fleet's slot is further away. While the fleet holds, the
# dispatcher publishes nothing anyway; and where a hold ends sooner than announced, no record waits for its old end.
LONGEST_HAND_BACK = 5.0
# Between two reads, before the part that is drawn at random: the first and the longest delay, as shares of the limits'
# `read_delay`, and the shortest at all, in seconds.
_FIRST_READ_DELAY, _LONGEST_READ_DELAY = 1 / 6, 10.0
_SHORTEST_READ_DELAY = 0.5

# The decision where an OTP of a TOTP seed needs PingOne's time, and an answer did not tell it.
NO_TIME = Pause(
    PauseReason.PROTOCOL,
    detail="PingOne's answers come without the header Date, by which OTPs of TOTP seeds are made. A proxy may take it"
    " away: have it left in, then resume.",
)

# How a call ends that brings no device.
CallFailure = errors.PingOneError | SlotTooFar

# The first of these that fits names a failure.
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


def hand_back_without_slot(progress: Progress, far: SlotTooFar) -> Next:
    """Hand the record back, since the fleet's next slot is far: it waits in the database, not in a worker."""
    return progress, Retry(choose_hand_back_delay(far), is_counted=False, why=Failure.HOLD)


def choose_hand_back_delay(far: SlotTooFar) -> float:
    """Seconds until a record is due again for which no slot was near."""
    return min(far.wait, LONGEST_HAND_BACK)


def hand_back_without_permit(progress: Progress) -> Next:
    """Hand the record back, since no call may start: its batch does not run any more, the lease was lost, or the worker
    stops. The next claim finds out what comes next."""
    return progress, Retry(0.0, is_counted=False, why=Failure.NOT_PERMITTED)


def hand_back_until_step(progress: Progress, seconds: float) -> Next:
    """Hand the record back until the time step begins that its next OTP is made for."""
    return progress, Retry(seconds, is_counted=False, why=Failure.TIME_STEP)


def decide_after_no_effect(progress: Progress, failure: CallFailure, limits: Limits) -> Next:
    """What follows a call that did not reach PingOne, or on which PingOne did not act. Raises TypeError for any other
    failure."""
    match failure:
        case errors.CredentialsRefused():
            return progress, replace(pause(progress, PauseReason.CREDENTIALS, limits), is_own=True)
        case errors.Unauthorized():
            # The token endpoint granted both access tokens, so it may be this one call. The breaker notices when
            # several records in a row end so.
            delay = limits.read_delay if progress.needs_read else 1.0 + progress.jitter
            return progress, Retry(delay, is_counted=False, why=name_failure(failure))
        case errors.ProtocolFault():
            return progress, pause(progress, PauseReason.PROTOCOL, limits)
        case errors.Forbidden():
            return progress, DeadLetter(Reason.FORBIDDEN, is_counted=False)
        case errors.NotFound():
            return decide_after_missing(progress, limits)
        case SlotTooFar():
            return hand_back_without_slot(progress, failure)
        case errors.RateLimited() if used_up := quota.read_quota(failure, limits.longest_hold):
            return progress, replace(pause(progress, PauseReason.QUOTA, limits), quota=used_up)
        case errors.NotDelivered() | errors.RateLimited():
            return progress, Retry(1.0 + progress.jitter, is_counted=False, why=name_failure(failure))
    raise TypeError(f"no decision for {type(failure).__name__}")


def decide_after_missing(progress: Progress, limits: Limits) -> Next:
    """What follows a 404. A device that was paired moments ago may not be seen everywhere yet, so it is looked for
    again, NOT_FOUND_READS times."""
    missing = replace(progress, not_found=progress.not_found + 1)
    if missing.not_found > NOT_FOUND_READS:
        return give_up_after_read(missing, Reason.DEVICE_NOT_FOUND)
    return missing, Retry(limits.not_found_delay, is_counted=False, why=Failure.NOT_FOUND)


def give_up_after_read(progress: Progress, otherwise: Reason) -> Next:
    """Make the record a dead letter, since a read did not find the device ACTIVE: for the verdict that waited for this
    read, or for the reason `otherwise`."""
    return replace(progress, verdict=None), DeadLetter(progress.verdict or otherwise)


def pause(progress: Progress, reason: PauseReason, limits: Limits) -> Pause:
    """Pause the batch. A cancelled batch cannot pause; so what still owes a read waits, and does not ask again at every
    tick."""
    return Pause(reason, delay=limits.read_delay if progress.needs_read else 0.0)


def choose_read_delay(progress: Progress, limits: Limits) -> float:
    """Seconds until a read is tried again that told nothing: 5, 10, 20 … 300 where `read_delay` is 30, else in
    proportion to it; up to half as much again."""
    share = min(_LONGEST_READ_DELAY, _FIRST_READ_DELAY * 2 ** min(progress.attempts - 1, 10))
    return float(max(_SHORTEST_READ_DELAY, limits.read_delay * share) * (1 + progress.jitter / 2))


def name_failure(failure: CallFailure) -> Failure:
    """Name a failure of a call that lets the record go again. Raises TypeError for one that does not."""
    for kind, name in _NAMES.items():
        if isinstance(failure, kind):
            return name
    raise TypeError(f"no record goes again after {type(failure).__name__}")
