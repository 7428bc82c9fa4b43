"""Keys of a PSKC document: what a token is that has this key, or why PingOne would not take it.

https://www.rfc-editor.org/rfc/rfc6030#section-4.3 and #section-5
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from pskc.key import Key

from worker.intake.formats.pskc.packages import UNREADABLE, FoundKey
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.tokens import Token

# What stands before the name in an algorithm's URI, in the RFC (`…:pskc:hotp`) and in drafts (`…/pskc#totp`, `HOTP`).
ALGORITHM = re.compile(r".*[:#/]", re.DOTALL)
# A date as drafts have it.
SLASHES = re.compile(r"(\d\d)/(\d\d)/(\d{4})", re.ASCII)
# What a row keeps of a key, by what python-pskc calls it.
KEPT = ("manufacturer", "model", "userid")

NO_DECIMALS = "the token shows other characters than digits, and PingOne takes digits alone: leave it out"
CHECK_DIGIT = "the token adds a check digit to its OTPs, which PingOne does not know: leave it out"
NO_OTP = "the key is not for one-time passwords, says its KeyUsage: leave it out"
PIN_INSIDE = "a PIN goes into the token's OTPs (PINUsageMode Algorithmic), which PingOne does not know: leave it out"
EXPIRED = "the token has expired, says its ExpiryDate: leave it out, or ask the vendor for its right date"
DATE_UNREADABLE = "its ExpiryDate is not a date such as 2036-01-01T00:00:00Z: ask the vendor for the file again"


def make_token(found: FoundKey, now: datetime) -> Token:
    """Make the token of a key, once its MACs are checked. `now` has a zone. Raises RowRefused."""
    found.check_mac()
    key, serial = found.key, found.serial
    if key is None:
        raise RowRefused(UNREADABLE, serial)
    _refuse_other_responses(key, serial)
    _refuse_expired(found, now)
    return Token(
        serial=serial,
        secret=key.secret or b"",
        otp_type=_name_type(key.algorithm),
        digits=key.response_length,
        time_step=key.time_interval,
        hash_algorithm=key.algorithm_suite,
        counter=key.counter,
        extra={name: str(value) for name in KEPT if (value := getattr(key, name))},
    )


@lru_cache(maxsize=64)
def _name_type(algorithm: str | None) -> str | None:
    """Name the type of a token by the end of the URI of its algorithm; None if there is none."""
    return ALGORITHM.sub("", algorithm.strip()) if algorithm else None


def _refuse_other_responses(key: Key, serial: str) -> None:
    """Raise RowRefused for a token that shows anything else than the digits of its OTPs."""
    if (key.response_encoding or "DECIMAL").upper() != "DECIMAL":
        raise RowRefused(NO_DECIMALS, serial)
    if key.response_check:
        raise RowRefused(CHECK_DIGIT, serial)
    if key.policy.key_usage and "OTP" not in key.policy.key_usage:
        raise RowRefused(NO_OTP, serial)
    if (key.policy.pin_usage or "").lower() == "algorithmic":
        raise RowRefused(PIN_INSIDE, serial)


def _refuse_expired(found: FoundKey, now: datetime) -> None:
    """Raise RowRefused if a key expired before this time, or may have."""
    for text in found.expires:
        dates = _read_dates(text)
        if all(date < now for date in dates) and dates:
            raise RowRefused(EXPIRED, found.serial)
        if any(date < now for date in dates) or not dates:
            raise RowRefused(DATE_UNREADABLE, found.serial)


@lru_cache(maxsize=64)
def _read_dates(text: str) -> tuple[datetime, ...]:
    """Read a date: none if it cannot be read, and two if it may be day/month/year or month/day/year, as in drafts. A
    date without a zone is UTC's."""
    forms = [text]
    if found := SLASHES.fullmatch(text):
        first, second, year = found.groups()
        forms = [f"{year}-{second}-{first}", f"{year}-{first}-{second}"]
    dates = []
    for form in forms:
        try:
            date = datetime.fromisoformat(form)
        except ValueError:
            continue
        dates.append(date if date.tzinfo else date.replace(tzinfo=UTC))
    return tuple(dates)
