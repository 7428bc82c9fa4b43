"""What a person can do about a dead letter, in so few words that they stand beside its reason."""

from __future__ import annotations

from models.reason import Reason

# Characters: what a terminal of 80 columns leaves beside a count of five digits and the longest reason.
LONGEST = 49

SHORT_CURES = {
    Reason.INVALID_OTP: "check token and OTPs; mend with two fresh OTPs",
    Reason.RESYNC_FAILED: "press twice, and mend with these two OTPs",
    Reason.SECOND_OTP_MISSING: "mend with two fresh, consecutive OTPs",
    Reason.STALE_OTP: "mend with a fresh pair and its generated_at",
    Reason.LOCKED: "unlock it, then replay or mend with fresh OTPs",
    Reason.BLOCKED: "unblock it, then replay or mend with fresh OTPs",
    Reason.ACCOUNT_NOT_USABLE: "unlock or enable the account, then replay",
    Reason.REJECTED: "look PingOne's codes up; mend the row",
    Reason.FORBIDDEN: "give the role Identity Data Admin, then replay",
    Reason.DEVICE_NOT_FOUND: "pair again; mend with the new device_id",
    Reason.BUDGET_SPENT: "once PingOne is well, mend with fresh OTPs",
    Reason.ATTEMPTS_SPENT: "replay once PingOne is well",
    Reason.USER_NOT_FOUND: "mend the name; or the role, then replay",
    Reason.USER_AMBIGUOUS: "mend the row with the right user_id",
    Reason.TOKEN_NOT_IN_INVENTORY: "import the token, then replay",
    Reason.TOKEN_DIFFERS: "revoke the token in PingOne, then replay",
    Reason.TOKEN_TAKEN: "mend the person; or unpair it, then replay",
    Reason.TOKEN_REFUSED: "ask the vendor for a corrected file",
    Reason.TOO_MANY_DEVICES: "remove a device or raise the limit; then replay",
    Reason.METHOD_OFF: "permit OATH tokens in the policy, then replay",
    Reason.LICENSE: "have the license extended, then replay",
    Reason.DEVICE_IN_PROGRESS: "wait for the other record, then replay",
    Reason.PAIRING_FAILED: "replay once PingOne is well",
}
# The same for a batch of seeds.
SHORT_SEED_CURES = SHORT_CURES | {
    Reason.INVALID_OTP: "check token and seed, then replay",
    Reason.RESYNC_FAILED: "check token and seed, then replay",
    Reason.LOCKED: "unlock it, then replay",
    Reason.BLOCKED: "unblock it, then replay",
    Reason.REJECTED: "look PingOne's codes up; replay",
    Reason.BUDGET_SPENT: "replay once PingOne is well",
}
