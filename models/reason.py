"""The reasons for which a record became a dead letter or a batch was paused, and what a person can do about each."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a record failed."""

    # PingOne refused OTP 1.
    INVALID_OTP = "invalid_otp"
    # PingOne refused OTP 2, or asked for yet another.
    RESYNC_FAILED = "resync_failed"
    # PingOne asked for OTP 2, but the row had none.
    SECOND_OTP_MISSING = "second_otp_missing"
    # The TOTP pair was too old when its turn came.
    STALE_OTP = "stale_otp"
    # A read found the device locked.
    LOCKED = "locked"
    # A read found the device blocked.
    BLOCKED = "blocked"
    # PingOne said ACCOUNT_NOT_USABLE: the user's account is locked or disabled.
    ACCOUNT_NOT_USABLE = "account_not_usable"
    # PingOne refused the request with any other code, and a read did not find the device ACTIVE.
    REJECTED = "rejected"
    # PingOne answered 403: the worker application may not act on this user.
    FORBIDDEN = "forbidden"
    # PingOne answered 404 more often than a device that was paired moments ago would explain.
    DEVICE_NOT_FOUND = "device_not_found"
    # All posts allowed for one OTP, or for the record's OTPs together, are used up without a usable answer.
    BUDGET_SPENT = "budget_spent"
    # The record used all its attempts, although its device waits.
    ATTEMPTS_SPENT = "attempts_spent"
    # PingOne finds nobody by this name, or the user with this id is gone.
    USER_NOT_FOUND = "user_not_found"
    # PingOne finds several people by this name.
    USER_AMBIGUOUS = "user_ambiguous"
    # PingOne's inventory has no token with this serial number, and the batch may not import it.
    TOKEN_NOT_IN_INVENTORY = "token_not_in_inventory"  # noqa: S105 - no password
    # PingOne's inventory has a token with this serial number, but its parameters are not the seed's.
    TOKEN_DIFFERS = "token_differs"  # noqa: S105 - no password
    # The token is another person's device.
    TOKEN_TAKEN = "token_taken"  # noqa: S105 - no password
    # PingOne refused to import this token.
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - no password
    # The person has the maximum number of devices.
    TOO_MANY_DEVICES = "too_many_devices"
    # The policy does not permit OATH tokens.
    METHOD_OFF = "method_off"
    # PingOne's license does not permit another device of this kind.
    LICENSE = "license"
    # Another unfinished record has the device that PingOne shows for the token.
    DEVICE_IN_PROGRESS = "device_in_progress"
    # The token was paired as often as is safe, but no device was created.
    PAIRING_FAILED = "pairing_failed"


# These may pass with time, and no OTP of such a record was answered. The replay schedule replays such records.
TRANSIENT = frozenset({Reason.ATTEMPTS_SPENT, Reason.DEVICE_NOT_FOUND})

# Only another row or file mends these: sent again unchanged, the token would fail the same way.
NEEDS_MENDING = frozenset({Reason.USER_AMBIGUOUS, Reason.TOKEN_REFUSED})

# These failures are due to the person, and nothing is wrong with the token: another person may get it.
OF_THE_PERSON = frozenset(
    {
        *(Reason.USER_NOT_FOUND, Reason.USER_AMBIGUOUS, Reason.ACCOUNT_NOT_USABLE, Reason.FORBIDDEN),
        Reason.TOO_MANY_DEVICES,
    }
)

# A record that failed for one of these needs two fresh OTPs, and is mended with them, unless a seed makes its OTPs.
NEEDS_FRESH_OTPS = frozenset({Reason.INVALID_OTP, Reason.RESYNC_FAILED, Reason.SECOND_OTP_MISSING, Reason.STALE_OTP})

# What a person can do about a dead letter, as in its record's `detail`; SEED_CURES has the cures that differ for a
# seed.
CURES = {
    Reason.INVALID_OTP: "PingOne says that the OTP is wrong. Check that serial number, device, and OTPs belong "
    "together, and mend the row with two fresh, consecutive OTPs.",
    Reason.RESYNC_FAILED: "PingOne did not accept the second OTP. Press the token twice, and mend the row with these "
    "two consecutive OTPs.",
    Reason.SECOND_OTP_MISSING: "The token is out of step, and the row had only one OTP. Mend the row with two"
    " fresh, consecutive OTPs.",
    Reason.STALE_OTP: "The TOTP pair was too old to send. Mend the row with a fresh pair and its generated_at.",
    Reason.LOCKED: "The device is locked. Unlock it in PingOne; then replay, or mend the row with fresh"
    " OTPs if one was refused.",
    Reason.BLOCKED: "The device is blocked. Unblock it in PingOne; then replay, or mend the row with fresh"
    " OTPs if one was refused.",
    Reason.ACCOUNT_NOT_USABLE: "The user's account is locked or disabled. Enable it in PingOne, then replay; if an OTP"
    " was sent, mend the row with fresh ones.",
    Reason.REJECTED: "PingOne refused the request. Look up its codes, fix the cause, and mend the row.",
    Reason.FORBIDDEN: "The worker application is not allowed to act on this user. Give it the role Identity Data Admin "
    "for the user's population, then replay.",
    Reason.DEVICE_NOT_FOUND: "PingOne has no such device. It deletes a device that waits for activation longer than"
    " 24 hours: pair the token again and mend the row with the new device_id. If user_id or device_id is wrong, mend"
    " the row. If the device is there, replay.",
    Reason.BUDGET_SPENT: "Further wrong OTPs might lock the account, and the answer to a posted one got lost."
    " Mend the row with fresh OTPs once the service has recovered.",
    Reason.ATTEMPTS_SPENT: "The device was still waiting for activation, but the service kept failing. Replay once the"
    " service has recovered.",
    Reason.USER_NOT_FOUND: "PingOne finds nobody by this name or id. Correct it and mend the row; or check whether "
    "the worker application's role covers the person's population, then replay.",
    Reason.USER_AMBIGUOUS: "PingOne finds several people by this name. Mend the row with the user_id of the right one.",
    Reason.TOKEN_NOT_IN_INVENTORY: "PingOne's inventory has no token with this serial number. Import it there, then"
    " replay; or mend with the vendor's file, --import and --pair.",
    Reason.TOKEN_DIFFERS: "PingOne's inventory has this serial number with another type, length, hash or time step, so"
    " every OTP would be refused. Revoke it there; then replay if the batch imports, or else mend with --import and"
    " --pair.",
    Reason.TOKEN_TAKEN: "The token is another person's device. Correct the list and mend the row; or unpair the"
    " token in PingOne, then replay.",
    Reason.TOKEN_REFUSED: "PingOne refused to import this token. Look up its codes, and ask the vendor for a "
    "corrected file.",
    Reason.TOO_MANY_DEVICES: "The person has the maximum number of devices. Remove one of them or raise the limit"
    " in PingOne's MFA settings, then replay.",
    Reason.METHOD_OFF: "The policy does not permit OATH tokens. Enable them, then replay.",
    Reason.LICENSE: "PingOne's license does not permit another device of this kind. Extend it, then replay.",
    Reason.DEVICE_IN_PROGRESS: "PingOne shows a device for this token that another record is working on: the same "
    "token is in two batches, or twice in one. Wait until the other record is final, then replay.",
    Reason.PAIRING_FAILED: "The token was paired three times, but no device was created. Replay once the service has"
    " recovered.",
}

# The cures that differ for a record with a seed: a replay makes the next OTPs from it, and its export has no OTP
# columns.
SEED_CURES = {
    Reason.INVALID_OTP: "PingOne says that an OTP of the seed is wrong. Check that serial number, device, and seed "
    "belong together, then replay; or mend with the vendor's file that has the right seed.",
    Reason.RESYNC_FAILED: "PingOne did not accept two consecutive OTPs of the seed. Check that serial number, "
    "device, and seed belong together, then replay; or mend with the vendor's file that has the right seed.",
    Reason.LOCKED: "The device is locked. Unlock it in PingOne, then replay.",
    Reason.BLOCKED: "The device is blocked. Unblock it in PingOne, then replay.",
    Reason.ACCOUNT_NOT_USABLE: "The user's account is locked or disabled. Enable it in PingOne, then replay.",
    Reason.REJECTED: "PingOne refused the request. Look up its codes, fix the cause, then replay.",
    Reason.BUDGET_SPENT: "Further wrong OTPs might lock the account, and the answer to a posted one got lost."
    " Replay once the service has recovered.",
}


def find_cure(reason: Reason, *, has_seed: bool) -> str:
    """Find what a person can do about a dead letter with a seed, or with a pair."""
    return SEED_CURES.get(reason, CURES[reason]) if has_seed else CURES[reason]


class PauseReason(StrEnum):
    """Why a batch is paused."""

    # A person's command.
    PERSON = "person"
    # PingOne refuses the worker application's credentials, or one access token after another.
    CREDENTIALS = "credentials"
    # PingOne answers 403 to one record after another.
    PERMISSIONS = "permissions"
    # PingOne answers 404 to one record after another: it deletes devices that wait for activation longer than 24 hours.
    DEVICES_GONE = "devices_gone"
    # PingOne did not understand the request (405, 415), or answers about devices other than the requested ones.
    PROTOCOL = "protocol"
    # oathbulk itself failed, or an OTP cannot be decrypted.
    INTERNAL = "internal"
    # The environment is not configured as it was when the batch was loaded.
    ENVIRONMENT = "environment"
    # Too many OTPs are refused.
    INVALID_OTPS = "invalid_otps"
    # Too many attempts fail for reasons other than a refused OTP.
    REFUSED = "refused"
    # Somebody else pairs or activates the devices of the batch while it runs.
    SOMEBODY_ELSE = "somebody_else"
    # None of the first records has become active, in an environment where none ever has.
    TRIAL = "trial"
    # The records of the canary are final.
    CANARY = "canary"
    # PingOne does not answer.
    OUTAGE = "outage"
    # It is outside the hours of a day in which the batch may run.
    WINDOW = "window"
    # The quota of PingOne's license is used up.
    QUOTA = "quota"


# A batch paused for one of these continues by itself; for any other, a person has to resume it.
PASSING = frozenset({PauseReason.OUTAGE, PauseReason.WINDOW, PauseReason.QUOTA})

# Follows a sentence about an outage, no matter which call got no answer.
OUTAGE_CURE = (
    "The batch continues by itself once PingOne answers. If that lasts, check PINGONE_API_URL, the proxy, and the "
    "network with `oathbulk doctor`."
)

# What a person can do about a pause, as in the batch's `detail` if nothing more specific is known.
PAUSE_CURES = {
    PauseReason.PERSON: "Someone paused it.",
    PauseReason.CREDENTIALS: "PingOne refused the worker application's credentials. Check PINGONE_CLIENT_ID,"
    " PINGONE_CLIENT_SECRET (or PINGONE_PRIVATE_KEY), PINGONE_CLIENT_AUTH and PINGONE_AUTH_ENVIRONMENT_ID with"
    " `oathbulk doctor`, then resume.",
    PauseReason.PERMISSIONS: "PingOne repeatedly refused the worker application permission. Give it the role Identity"
    " Data Admin in this environment, then resume, and replay the reason `forbidden`.",
    PauseReason.DEVICES_GONE: "For several records in a row, PingOne no longer has the device. It deletes a device that"
    " waits for activation longer than 24 hours: if these are older, cancel, pair the tokens again, and mend the rows"
    " with the new device ids. If the file is of another environment, cancel too; if only these few are gone, resume.",
    PauseReason.PROTOCOL: "PingOne did not understand the request: either oathbulk has a bug, or PINGONE_API_URL points"
    " to the wrong server. Check the URL with `oathbulk doctor`, then resume.",
    PauseReason.INTERNAL: "oathbulk itself failed; the worker's log says how. Nothing is lost: fix it, then resume.",
    PauseReason.ENVIRONMENT: "The batch was loaded for an environment other than the configured one. Restore"
    " its name and PINGONE_ENVIRONMENT_ID, then resume.",
    PauseReason.REFUSED: "Record after record fails, and each may cost an OTP. Look up PingOne's codes, fix "
    "the cause, then resume or cancel.",
    PauseReason.TRIAL: "None of the first records has become active, in an environment where none ever has. Look at how"
    " they ended, fix the cause, then resume or cancel.",
    PauseReason.SOMEBODY_ELSE: "Something else is also working on these devices, so OTPs are sent twice. Find the other"
    " installation or run that has this shipment, stop one of the two, then resume.",
    PauseReason.CANARY: "The canary's records are done: look at how they ended, then resume or cancel.",
    PauseReason.OUTAGE: f"PingOne does not answer. {OUTAGE_CURE}",
    PauseReason.WINDOW: "It is outside the batch's daily window; the batch continues by itself when that opens.",
    PauseReason.QUOTA: "The quota of PingOne's license is used up; the batch continues by itself when it resets.",
    PauseReason.INVALID_OTPS: "The file or the lot may be wrong, or the tokens were imported with the wrong hash; or"
    " this tenant needs PINGONE_RESYNC_ON_FIRST_CALL. Test one token to find out, then resume or cancel.",
}
