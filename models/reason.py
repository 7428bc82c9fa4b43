"""Why a record became a dead letter, why a batch was paused; each with what a person can do about it."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The reason of a dead letter."""

    INVALID_OTP = "invalid_otp"
    RESYNC_FAILED = "resync_failed"
    SECOND_OTP_MISSING = "second_otp_missing"
    STALE_OTP = "stale_otp"
    LOCKED = "locked"
    BLOCKED = "blocked"
    ACCOUNT_NOT_USABLE = "account_not_usable"
    REJECTED = "rejected"
    FORBIDDEN = "forbidden"
    DEVICE_NOT_FOUND = "device_not_found"
    BUDGET_SPENT = "budget_spent"
    ATTEMPTS_SPENT = "attempts_spent"


# Time alone may mend these: what the replay schedule takes. No OTP of theirs was answered.
TRANSIENT = frozenset({Reason.ATTEMPTS_SPENT, Reason.DEVICE_NOT_FOUND})

CURES = {
    Reason.INVALID_OTP: "PingOne refused the OTP. Check that serial number, device and OTPs belong together, and load"
    " the row again with two fresh, consecutive OTPs.",
    Reason.RESYNC_FAILED: "PingOne did not accept the second OTP. Press the token twice and load the row again with"
    " these two consecutive OTPs.",
    Reason.SECOND_OTP_MISSING: "The token is out of step and the row brought one OTP only. Load the row again with two"
    " fresh, consecutive OTPs.",
    Reason.STALE_OTP: "The TOTP pair was too old to send. Load the row again with a fresh pair and its generated_at.",
    Reason.LOCKED: "The device is locked. Unlock it in PingOne; then replay, or load fresh OTPs if one was refused.",
    Reason.BLOCKED: "The device is blocked. Unblock it in PingOne; then replay, or load fresh OTPs if one was refused.",
    Reason.ACCOUNT_NOT_USABLE: "The user's account is locked or disabled. Mend it in PingOne and load fresh OTPs.",
    Reason.REJECTED: "PingOne refused the request. Look its codes up, mend the cause, and load the row again.",
    Reason.FORBIDDEN: "The worker application may not act on this user. Give it the role Identity Data Admin for the"
    " user's population, then replay.",
    Reason.DEVICE_NOT_FOUND: "PingOne knows no such device. Check user_id and device_id, or pair the token; then replay"
    " or load the corrected row.",
    Reason.BUDGET_SPENT: "OTPs were posted as often as is safe for the user's account, without an answer. Load the row"
    " again with fresh OTPs once the service is well.",
    Reason.ATTEMPTS_SPENT: "The service kept failing although the device waits. Replay once the service is well.",
}


class PauseReason(StrEnum):
    """Why a batch is paused."""

    PERSON = "person"
    CREDENTIALS = "credentials"
    PERMISSIONS = "permissions"
    PROTOCOL = "protocol"
    INTERNAL = "internal"
    ENVIRONMENT = "environment"
    INVALID_OTPS = "invalid_otps"
    REFUSED = "refused"
    TRIAL = "trial"
    CANARY = "canary"
    OUTAGE = "outage"
    WINDOW = "window"
    QUOTA = "quota"


# A batch that is paused for one of these goes on by itself; for any other, a person has to resume it.
PASSING = frozenset({PauseReason.OUTAGE, PauseReason.WINDOW, PauseReason.QUOTA})


PAUSE_CURES = {
    PauseReason.PERSON: "A person paused it.",
    PauseReason.CREDENTIALS: "PingOne refused the worker application's credentials. Check PINGONE_CLIENT_ID,"
    " PINGONE_CLIENT_SECRET, PINGONE_CLIENT_AUTH and PINGONE_AUTH_ENVIRONMENT_ID with `oathbulk doctor`, then resume.",
    PauseReason.PERMISSIONS: "PingOne forbids the worker application one record after the other. Give it the role"
    " Identity Data Admin in this environment, then resume, and replay the reason `forbidden`.",
    PauseReason.PROTOCOL: "PingOne did not understand the request: a fault of oathbulk, or a PINGONE_API_URL that leads"
    " elsewhere. Check the URL with `oathbulk doctor`, then resume.",
    PauseReason.INTERNAL: "oathbulk itself failed; the worker's log says how. Nothing is lost: mend it, then resume.",
    PauseReason.ENVIRONMENT: "The configuration's environment is not the one that the batch was loaded for. Restore"
    " its name and PINGONE_ENVIRONMENT_ID, then resume.",
    PauseReason.REFUSED: "One record after the other comes to nothing, and each may cost an OTP. Look PingOne's codes"
    " up, mend the cause, then resume, or cancel.",
    PauseReason.TRIAL: "None of the first records became active, in an environment where none ever did. Look at how"
    " they ended, mend the cause, then resume, or cancel.",
    PauseReason.CANARY: "The canary's records are done: look at how they ended, then resume or cancel.",
    PauseReason.OUTAGE: "PingOne does not answer. A few records are sent now and then to see whether it is back; the"
    " batch goes on by itself then.",
    PauseReason.WINDOW: "It is outside the batch's daily window; the batch goes on by itself when that opens.",
    PauseReason.QUOTA: "The quota of PingOne's license is used up; the batch goes on by itself when it resets.",
    PauseReason.INVALID_OTPS: "Wrong file, wrong lot, tokens imported with the wrong hash, or does this tenant want"
    " PINGONE_RESYNC_ON_FIRST_CALL? Find out with one token, then resume or cancel.",
}
