"""Turns what a seed file says about a token into a Row, or into a RowError that says why PingOne would not accept the
token. Secrets are hexadecimal, Base32, or Base64; an ambiguous encoding is not guessed. No reason quotes a cell, since
any cell may hold a seed."""

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

from models.row_fault import RowFault
from worker.intake.files import Encoding, Hints, read_whole_rows
from worker.intake.rows import (
    AS_SENT,
    EXCEL_NUMBER,
    PLAIN,
    SERIAL,
    Row,
    RowError,
    RowRefused,
    canonical_column,
    explain_serial,
    find_nameable_serial,
    find_reason,
    read_not_before,
)
from worker.vault.otps import HashAlgorithm, OtpType, Secret, Seed

# Lengths of OTPs that PingOne accepts.
DIGITS = (6, 8)
# Time steps that PingOne accepts, in seconds.
TIME_STEPS = (30, 60)
# The highest counter: it must fit into PostgreSQL's bigint, with room for the following counters.
MAX_COUNTER = 2**62
# Maximum digits of a number. No parameter of a token is longer.
MAX_NUMBER_LENGTH = 19
# Names of the types, in lower case and without a leading "oath-".
OTP_TYPES: dict[str, OtpType] = {"hotp": "hotp", "totp": "totp"}
# Names of the hashes, in lower case and without anything but letters and digits.
HASHES: dict[str, HashAlgorithm] = {
    f"{prefix}{name}": name for name in ("sha1", "sha256", "sha512") for prefix in ("", "hmac")
}
_HASHES_OF_LENGTHS: dict[int, HashAlgorithm] = {64: "sha256", 128: "sha512"}
# Minimum bytes of a secret: real ones have 10 or more, and a misplaced serial number has fewer.
MIN_BYTES = 10
# Minimum characters of such a secret in any encoding: Base64 has the fewest.
MIN_CHARACTERS = 14
# Maximum bytes of a secret: PingOne accepts 200 hexadecimal digits.
MAX_BYTES = 100
# A cell that may hold a secret: this identifies a file of seeds.
LIKELY_SECRET = re.compile(r"(?:[0-9A-Fa-f]{2}){10,}|[A-Za-z2-7]{16,}=*")
# Only hexadecimal digits, two for each byte.
HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
# Text that has another encoding where Base64 is expected: hexadecimal or Base32, in only one case. Of Base64 secrets of
# 15 bytes, one in a trillion looks like hexadecimal; of those of 20 bytes, one in a hundred million looks like Base32.
NO_BASE64: dict[Encoding, re.Pattern[str]] = {
    "hex": re.compile(r"[0-9a-f]{20,}|[0-9A-F]{20,}"),
    "base32": re.compile(r"(?:[a-z2-7]{26,}|[A-Z2-7]{26,})=*"),
}
# Columns of a vendor's file that are stored as our columns with the same name, not as the file's own.
_OURS = {*(column.name for column in PLAIN), "not_before"}

NOT_HOTP_OR_TOTP = (
    "the token is neither HOTP nor TOTP, and PingOne takes no other tokens (no OCRA, static passwords, or Yubico "
    "OTP): leave it out"
)
# The cure for an invalid number.
OTHER_VALUE = "check whether it is swapped with another value"
# What is wrong with most unreadable secrets.
SEE_WHETHER = "check whether it was cut off, or swapped with another value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a file says about one token, as written; None or "" if it says nothing.

    `secret`: its characters, or its bytes if the file has those. `encoding`: how to read the characters; None: the
    characters decide. `usual_type`, `usual_step`, and `usual_hash` are the defaults if neither the file nor a hint has
    a value; None: a value is required."""

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
    """Make a Row for every token that `read` finds in its part of the file, or a RowError if `read` or `make_row`
    raises RowRefused. `counted`: what the numbers count if they are not lines; reasons begin with it."""

    def make(number: int, raw: Raw) -> Row | RowError:
        serial = ""
        try:
            token = read(raw)
            serial = token.serial
            return make_row(number, token, hints)
        except RowRefused as refused:
            where = f"{counted} {number} of the file: " if counted else ""
            # The serial number is named only if it cannot be a seed.
            nameable = find_nameable_serial(refused.serial or serial)
            return RowError(number, f"{where}{refused}", nameable, refused.fault)

    return read_whole_rows(numbered, make)


def make_row(row_number: int, token: Token, hints: Hints) -> Row:
    """Check a token against what PingOne accepts, and make its Row. Raises RowRefused."""
    if not SERIAL.fullmatch(token.serial):
        raise RowRefused(explain_serial(token.serial, AS_SENT), fault=RowFault.SERIAL_UNFIT)
    said = (token.otp_type or "").strip().lower().removeprefix("oath-")
    if said and said not in OTP_TYPES:
        raise RowRefused(NOT_HOTP_OR_TOTP)
    otp_type = OTP_TYPES.get(said) or hints.otp_type or token.usual_type
    if otp_type is None:
        cure = "add --otp-type hotp or --otp-type totp"
        raise RowRefused(f"the file does not say whether the token is HOTP or TOTP: {cure}")
    named = _find_ours(token)
    plain: dict[str, Any] = {column.attribute: named.get(column.name) for column in PLAIN}
    seed = _make_seed(token, otp_type, hints)
    _refuse_open_secret(token, seed)
    return Row(
        row_number=row_number,
        serial_number=token.serial,
        otp_type=otp_type,
        otps=seed,
        not_before=read_not_before(named.get("not_before", ""), hints.zone, keeps_back=not hints.mends),
        extra={name: value for name, value in token.extra.items() if canonical_column(name) not in _OURS},
        **plain,
    )


def _find_ours(token: Token) -> dict[str, str]:
    """Find the values of our own columns, by name. Raises RowRefused if two of them contradict each other."""
    named: dict[str, str] = {}
    known = {"username": token.username, "external_id": token.external_id}
    for name, value in chain(known.items(), token.extra.items()):
        column = canonical_column(name) or ""
        if value and column in _OURS and named.setdefault(column, value).lower() != value.lower():
            raise RowRefused(
                f"{column} is given twice, by two columns that differ: correct or remove the wrong one",
                fault=RowFault.PERSON_UNFIT,
            )
    return named


def _refuse_open_secret(token: Token, seed: Seed) -> None:
    """Refuse a secret that is only zeros, or that another value of the token contains, which would be stored
    unencrypted. Raises RowRefused."""
    secret = seed.secret.reveal()
    if not any(secret):
        raise RowRefused("the secret is only zeros, as if there were none: ask the vendor for the file again")
    values = (token.serial, *token.extra.values(), token.username or "", token.external_id or "")
    serial, *others = (_squeeze(value) if len(value) >= MIN_CHARACTERS else "" for value in values)
    if not (serial or any(others)) and secret != token.serial.encode():
        return
    written = token.secret if isinstance(token.secret, str) else ""
    forms = (written, secret.hex(), base64.b32encode(secret).decode(), base64.b64encode(secret).decode())
    spellings = {_squeeze(form) for form in forms if form}
    if serial in spellings or secret == token.serial.encode():
        raise RowRefused(f"the secret is the serial number: {SEE_WHETHER}")
    if any(spelling in other for other in others for spelling in spellings):
        raise RowRefused("another value of the token contains its secret, and would be stored unencrypted: remove it")


def _squeeze(text: str) -> str:
    """Drop what may differ between two spellings of one secret: case, blanks, hyphens, and padding."""
    return re.sub(r"[\s=-]", "", text).lower()


def _make_seed(token: Token, otp_type: OtpType, hints: Hints) -> Seed:
    """Make the seed of a token of this type. Raises RowRefused."""
    said = read_number(token.digits, "the number of digits")
    digits = said if said is not None else hints.digits or DIGITS[0]
    if digits not in DIGITS:
        raise RowRefused("the OTPs have neither 6 nor 8 digits, and PingOne takes only those: leave the token out")
    hash_algorithm = _read_hash(token.hash_algorithm) or hints.hash_algorithm or token.usual_hash
    if otp_type == "hotp" and hash_algorithm != "sha1":
        raise RowRefused(
            "the token is HOTP with a hash other than SHA-1, which PingOne does not take: leave it out; if this was "
            "guessed from the secret's length and the vendor says SHA-1, add --hash sha1"
        )
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
        raise RowRefused(
            "the file does not say the token's time step: add --time-step 30 or --time-step 60, in seconds"
        )
    if step not in TIME_STEPS:
        raise RowRefused(
            "the time step is neither 30 nor 60 seconds, and PingOne takes only those: leave the token out"
        )
    return step


def _read_counter(value: str | int | None) -> int:
    """Read the counter of an HOTP token, by default 0. Raises RowRefused."""
    counter = read_number(value, "the counter") or 0
    if not 0 <= counter <= MAX_COUNTER:
        raise RowRefused(f"the counter is not a whole number of 8 bytes: {OTHER_VALUE}")
    return counter


def _read_hash(text: str | None) -> HashAlgorithm | None:
    """Read the name of a hash, such as SHA-1 or HmacSHA256; None for nothing. Raises RowRefused."""
    if not text or not text.strip():
        return None
    found = HASHES.get(re.sub(r"[^a-z0-9]", "", text.lower()))
    if found is None:
        raise RowRefused(
            "the hash is not SHA-1, SHA-256, or SHA-512, and PingOne takes only those: leave the token out"
        )
    return found


def find_said(what: str, values: Iterable[str], serial: str = "") -> str:
    """Find the value that a file gives for one thing under several names; empty if it gives none. Raises RowRefused if
    the values contradict each other."""
    said = {re.sub(r"[^a-z0-9]", "", value.lower()).removeprefix("hmac"): value for value in values if value.strip()}
    if len(said) > 1:
        raise RowRefused(f"{what} is given twice, with different values: ask the vendor for the file again", serial)
    return next(iter(said.values()), "")


def split_algorithm(text: str) -> tuple[str, str]:
    """Split what a file calls the algorithm into the token's type and hash; one is empty."""
    is_type = text.strip().lower().removeprefix("oath-") in OTP_TYPES
    return (text, "") if is_type else ("", text)


def refuse_hotp(types: Iterable[str], counter: str, serial: str = "") -> None:
    """Refuse a token that is called HOTP, or has a counter, in a file of TOTP tokens. Raises RowRefused."""
    if any("hotp" in each.lower() for each in types) or counter.strip() not in ("", "0"):
        raise RowRefused(
            "is called HOTP, or has a counter, but this kind of file has only TOTP tokens: write it as "
            "serial,seed,hotp,digits,counter without a header, or ask the vendor for PSKC",
            serial,
        )


def read_number(value: str | int | None, what: str) -> int | None:
    """Read a whole number; None for nothing. The reason calls the number `what`. Raises RowRefused."""
    if value is None or isinstance(value, int):
        return value
    text = value.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_LENGTH):
        raise RowRefused(f"{what} is not a whole number: {OTHER_VALUE}")
    return int(text)


# Secrets


def guess_hash(secret: str) -> HashAlgorithm:
    """Guess the hash from the number of a secret's hexadecimal digits, as privacyIDEA and LinOTP do."""
    return _HASHES_OF_LENGTHS.get(len(re.sub(r"[\s-]", "", secret)), "sha1")


def looks_like_secret(cell: str) -> bool:
    """Whether a cell has the form of a secret in hexadecimal or Base32, of 10 bytes or more."""
    return LIKELY_SECRET.fullmatch(cell) is not None


def decode_secret(text: str, encoding: Encoding | None) -> Secret:
    """Decode a secret; without an encoding, its characters decide. Raises RowRefused."""
    text = text.strip()
    if EXCEL_NUMBER.fullmatch(text):
        raise RowRefused(f"the secret was turned into a number (as in 1.23E+20) and lost digits: {AS_SENT}")
    return make_secret(_DECODERS[encoding or _tell_encoding(text)](text) if text else b"")


def make_secret(secret: bytes) -> Secret:
    """Make a Secret from bytes, if they are neither too few nor too many. Raises RowRefused."""
    unfit = {
        "the secret is missing: ask the vendor for the file again": not secret,
        f"the secret has fewer than {MIN_BYTES} bytes: {SEE_WHETHER}": len(secret) < MIN_BYTES,
        f"the secret has more than {MAX_BYTES} bytes, the most that PingOne takes: leave the token out": (
            len(secret) > MAX_BYTES
        ),
    }
    if reason := find_reason(unfit):
        raise RowRefused(reason)
    return Secret(secret)


def _tell_encoding(text: str) -> Encoding:
    """Determine the encoding of a secret from its characters. Raises RowRefused unless exactly one fits."""
    possible: list[Encoding] = []
    for encoding in ("hex", "base32"):
        try:
            _DECODERS[encoding](text)
        except RowRefused:
            continue
        possible.append(encoding)
    if len(possible) > 1:
        raise RowRefused("the secret is valid as hexadecimal and as Base32: add --encoding hex or --encoding base32")
    if not possible:
        raise RowRefused(
            f"the secret is neither hexadecimal nor Base32: {SEE_WHETHER}; if it is Base64, add --encoding base64"
        )
    return possible[0]


def _decode_hex(text: str) -> bytes:
    """Decode hexadecimal digits. Raises RowRefused."""
    digits = re.sub(r"[\s-]", "", text)
    if not HEX.fullmatch(digits):
        raise _make_unreadable("hexadecimal (digits and A to F, two a byte)", "base32")
    return bytes.fromhex(digits)


def _decode_base32(text: str) -> bytes:
    """Decode Base32 in upper or lower case, with or without padding. Raises RowRefused."""
    characters = re.sub(r"[\s-]", "", text).rstrip("=")
    try:
        secret = base64.b32decode(characters + "=" * (-len(characters) % 8), casefold=True)
    except ValueError:
        raise _make_unreadable("Base32 (letters and the digits 2 to 7)", "hex") from None
    return _check_whole(secret, base64.b32encode(secret), characters.upper())


def tell_other_encoding(characters: str) -> Encoding | None:
    """Determine which other encoding has these characters, where Base64 is expected; None if they may be Base64."""
    return next((encoding for encoding, form in NO_BASE64.items() if form.fullmatch(characters)), None)


def _decode_base64(text: str) -> bytes:
    """Decode Base64, with its padding or without any. Raises RowRefused, also for hexadecimal and Base32, which would
    give other bytes."""
    written = re.sub(r"\s", "", text)
    characters = written.rstrip("=")
    padded = characters + "=" * (-len(characters) % 4)
    other = tell_other_encoding(characters)
    if other or written not in (characters, padded):
        raise _make_unreadable("Base64", other or "hex")
    try:
        secret = base64.b64decode(padded, validate=True)
    except ValueError:
        raise _make_unreadable("Base64", "hex") from None
    return _check_whole(secret, base64.b64encode(secret), characters)


def _check_whole(secret: bytes, written: bytes, characters: str) -> bytes:
    """Return the secret, if encoding it again gives the characters that it was read from. Raises RowRefused. Python
    drops the bits after the last byte. If they are not zero, as every encoder writes them, the secret would become
    another one, and all OTPs of its token would be wrong."""
    if written.decode().rstrip("=") != characters:
        raise RowRefused(
            "the secret is incomplete: its last character does not end a byte, so check whether a character is "
            "missing, and ask the vendor for the file again"
        )
    return secret


def _make_unreadable(expected: str, other: Encoding) -> RowRefused:
    """Make the error for a secret that does not have the expected encoding."""
    how = f"if the secrets have another encoding, name it, such as --encoding {other}"
    return RowRefused(f"the secret is not {expected}: {SEE_WHETHER}; {how}")


_DECODERS: dict[Encoding, Callable[[str], bytes]] = {
    "hex": _decode_hex,
    "base32": _decode_base32,
    "base64": _decode_base64,
}
