"""Tokens: from what a seed file says of one to a Row, or to the RowError that says why PingOne would not take it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from models.row_fault import RowFault
from worker.intake.cut_off import read_whole_rows
from worker.intake.formats.format import Encoding, Hints
from worker.intake.formats.refusals import NOT_HOTP_OR_TOTP, RowRefused, make_error
from worker.intake.formats.secrets import decode_secret, make_secret
from worker.intake.formats.serials import AS_SENT, SERIAL, explain_serial
from worker.intake.rows import Row, RowError
from worker.vault.seed import HashAlgorithm, OtpType, Seed

# Lengths of OTPs that PingOne takes.
DIGITS = (6, 8)
# Time steps that PingOne takes, in seconds.
TIME_STEPS = (30, 60)
# The highest counter: PostgreSQL's bigint, in which it is kept, must have room for those that follow.
MAX_COUNTER = 2**62
# Digits of a number at most. A longer one is none of a token's.
MAX_NUMBER_LENGTH = 19
# Names of the types, in lower case and without an "oath-" before them.
OTP_TYPES: dict[str, OtpType] = {"hotp": "hotp", "totp": "totp"}
# Names of the hashes, in lower case and without anything but letters and digits.
HASHES: dict[str, HashAlgorithm] = {
    f"{prefix}{name}": name for name in ("sha1", "sha256", "sha512") for prefix in ("", "hmac")
}

NO_TYPE = "the file does not say whether the token is HOTP or TOTP: say it, by --otp-type hotp or --otp-type totp"
NO_STEP = "the file does not say the time step of the token: say it in seconds, by --time-step 30 or --time-step 60"
WRONG_STEP = "the time step is neither 30 nor 60 seconds, and PingOne takes no other: leave the token out"
WRONG_DIGITS = "the OTPs have neither 6 nor 8 digits, and PingOne takes no others: leave the token out"
WRONG_HASH = "the hash is none of SHA-1, SHA-256 and SHA-512, and PingOne takes no other: leave the token out"
WRONG_HASH_OF_HOTP = (
    "the token is HOTP with another hash than SHA-1, which PingOne does not take: leave it out; "
    "if that was guessed from the length of its secret and the vendor says SHA-1, say --hash sha1"
)
WRONG_COUNTER = "the counter is not a whole number of 8 bytes: see whether it is interchanged with another value"
NOT_A_NUMBER = "is not a whole number: see whether it is interchanged with another value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a file says of one token, as written; None or "" where it says nothing.

    `secret`: its characters, or its bytes if the file brings these. `encoding`: how the characters are read; None: that
    is told by which they are.

    `usual_type`, `usual_step` and `usual_hash` hold where neither the file nor a hint says it; None: it must be said.
    """

    serial: str
    secret: str | bytes = field(repr=False)
    encoding: Encoding | None = None
    otp_type: str | None = None
    usual_type: OtpType | None = None
    digits: str | int | None = None
    time_step: str | int | None = None
    usual_step: int | None = None
    hash_algorithm: str | None = None
    usual_hash: HashAlgorithm = "sha1"
    counter: str | int | None = None
    username: str | None = None
    external_id: str | None = None
    extra: dict[str, str] = field(default_factory=dict, repr=False)


Raw = TypeVar("Raw")


def make_rows(
    numbered: Iterable[tuple[int, Raw]], read: Callable[[Raw], Token], hints: Hints, counted: str = ""
) -> Iterator[Row | RowError]:
    """Make the Row of every token that `read` finds in its part of the file, or its RowError if `read` or `make_row`
    raises RowRefused. `counted`: what the numbers count if they are not lines; reasons begin with it."""

    def make(number: int, raw: Raw) -> Row | RowError:
        serial = ""
        try:
            token = read(raw)
            serial = token.serial
            return make_row(number, token, hints)
        except RowRefused as fault:
            where = f"{counted} {number} of the file: " if counted else ""
            return make_error(number, f"{where}{fault}", fault.serial or serial, fault.fault)

    return read_whole_rows(numbered, make)


def make_row(row_number: int, token: Token, hints: Hints) -> Row:
    """Check a token against what PingOne takes, and make its Row. Raises RowRefused."""
    if not SERIAL.fullmatch(token.serial):
        raise RowRefused(explain_serial(token.serial, AS_SENT), fault=RowFault.SERIAL_UNFIT)
    otp_type = _read_type(token.otp_type) or hints.otp_type or token.usual_type
    if otp_type is None:
        raise RowRefused(NO_TYPE)
    return Row(
        row_number=row_number,
        serial_number=token.serial,
        username=token.username or None,
        external_id=token.external_id or None,
        otp_type=otp_type,
        otps=_make_seed(token, otp_type, hints),
        extra=token.extra,
    )


def _read_type(text: str | None) -> OtpType | None:
    """Read the name of a token's type, such as HOTP or OATH-TOTP; None for nothing. Raises RowRefused."""
    if not text or not text.strip():
        return None
    otp_type = OTP_TYPES.get(text.strip().lower().removeprefix("oath-"))
    if otp_type is None:
        raise RowRefused(NOT_HOTP_OR_TOTP)
    return otp_type


def _make_seed(token: Token, otp_type: OtpType, hints: Hints) -> Seed:
    """Make the seed of a token of this type. Raises RowRefused."""
    said = read_number(token.digits, "the number of digits")
    digits = said if said is not None else hints.digits or DIGITS[0]
    if digits not in DIGITS:
        raise RowRefused(WRONG_DIGITS)
    hash_algorithm = _read_hash(token.hash_algorithm) or hints.hash_algorithm or token.usual_hash
    if otp_type == "hotp" and hash_algorithm != "sha1":
        raise RowRefused(WRONG_HASH_OF_HOTP)
    secret = token.secret
    return Seed(
        secret=make_secret(secret) if isinstance(secret, bytes) else decode_secret(secret, token.encoding),
        otp_type=otp_type,
        digits=digits,
        hash_algorithm=hash_algorithm,
        time_step=_choose_step(token, hints) if otp_type == "totp" else None,
        counter=_read_counter(token.counter) if otp_type == "hotp" else 0,
    )


def _choose_step(token: Token, hints: Hints) -> int:
    """Choose the time step of a TOTP token, in seconds. Raises RowRefused."""
    said = read_number(token.time_step, "the time step")
    step = said if said is not None else hints.time_step or token.usual_step
    if step is None:
        raise RowRefused(NO_STEP)
    if step not in TIME_STEPS:
        raise RowRefused(WRONG_STEP)
    return step


def _read_counter(value: str | int | None) -> int:
    """Read the counter of a HOTP token, which is 0 where the file says nothing. Raises RowRefused."""
    counter = read_number(value, "the counter") or 0
    if not 0 <= counter <= MAX_COUNTER:
        raise RowRefused(WRONG_COUNTER)
    return counter


def _read_hash(text: str | None) -> HashAlgorithm | None:
    """Read the name of a hash, such as SHA-1 or HmacSHA256; None for nothing. Raises RowRefused."""
    if not text or not text.strip():
        return None
    found = HASHES.get(re.sub(r"[^a-z0-9]", "", text.lower()))
    if found is None:
        raise RowRefused(WRONG_HASH)
    return found


def read_number(value: str | int | None, what: str) -> int | None:
    """Read a whole number; None for nothing. `what` names it in the reason. Raises RowRefused."""
    if value is None or isinstance(value, int):
        return value
    text = value.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_LENGTH):
        raise RowRefused(f"{what} {NOT_A_NUMBER}")
    return int(text)
