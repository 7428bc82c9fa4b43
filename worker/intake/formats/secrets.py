"""Secrets as text: hexadecimal, Base32 or Base64 becomes a Secret. What may be read in two ways is not guessed."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

from worker.intake.formats.format import Encoding
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.serials import AS_SENT, EXCEL_NUMBER
from worker.vault.seed import Secret

# Bytes of a secret at least: what people have is 10 bytes or more, and a serial number in its place has fewer.
MIN_BYTES = 10
# Bytes of a secret at most: PingOne takes 200 hexadecimal digits.
MAX_BYTES = 100

# A cell that a secret may stand in: by this a file of seeds is told from others.
LIKELY_SECRET = re.compile(r"(?:[0-9A-Fa-f]{2}){10,}|[A-Za-z2-7]{16,}=*")
# What stands between the characters of a secret that was written for people.
SEPARATORS = re.compile(r"[\s-]")
# Hexadecimal digits without anything else, two a byte.
HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
# Base64 that is hexadecimal in truth: 20 characters or more without any letter beyond F, and of one case. Of true
# secrets of 15 bytes, one in a million million looks like that.
HEX_AS_BASE64 = re.compile(r"[0-9a-f]{20,}|[0-9A-F]{20,}")

MISSING = "the secret is missing: ask the vendor for the file again"
SPOILT = f"the secret was turned into a number (as in 1.23E+20) and lost digits: {AS_SENT}"
AMBIGUOUS = (
    "the secret can be read as hexadecimal and as Base32: say which it is, by --encoding hex or --encoding base32"
)
# What is wrong with most secrets that cannot be read.
SEE_WHETHER = "see whether it was cut off, or interchanged with another value"
UNREADABLE = f"the secret is neither hexadecimal nor Base32: {SEE_WHETHER}; if it is Base64, say --encoding base64"

# Python drops the bits behind the last byte. Where they are not zero, as every encoder writes them, the secret would
# become another one, and all OTPs of its token wrong.
NOT_WHOLE = (
    "the secret is not whole: its last character does not end a byte, so see whether it was cut off or a character is "
    "missing, and ask the vendor for the file again"
)


def looks_like_secret(cell: str) -> bool:
    """Whether a cell has the form of a secret in hexadecimal or Base32, of 10 bytes or more."""
    return LIKELY_SECRET.fullmatch(cell) is not None


def decode_secret(text: str, encoding: Encoding | None) -> Secret:
    """Decode a secret; without an encoding it is told by its characters. Raises RowRefused."""
    text = text.strip()
    if not text:
        raise RowRefused(MISSING)
    if EXCEL_NUMBER.fullmatch(text):
        raise RowRefused(SPOILT)
    return make_secret(_DECODERS[encoding or _tell_encoding(text)](text))


def make_secret(secret: bytes) -> Secret:
    """Make a Secret of bytes, if they are neither too few nor too many. Raises RowRefused."""
    if not secret:
        raise RowRefused(MISSING)
    if len(secret) < MIN_BYTES:
        raise RowRefused(f"the secret has fewer than {MIN_BYTES} bytes: {SEE_WHETHER}")
    if len(secret) > MAX_BYTES:
        raise RowRefused(
            f"the secret has more than {MAX_BYTES} bytes, and PingOne takes no longer one: leave the token out"
        )
    return Secret(secret)


def _tell_encoding(text: str) -> Encoding:
    """Tell the encoding of a secret by its characters. Raises RowRefused if that leaves more or less than one."""
    possible: list[Encoding] = []
    for encoding in ("hex", "base32"):
        try:
            _DECODERS[encoding](text)
        except RowRefused:
            continue
        possible.append(encoding)
    if len(possible) != 1:
        raise RowRefused(AMBIGUOUS if possible else UNREADABLE)
    return possible[0]


def _decode_hex(text: str) -> bytes:
    """Decode hexadecimal digits. Raises RowRefused."""
    digits = SEPARATORS.sub("", text)
    if not HEX.fullmatch(digits):
        raise RowRefused(_explain("hexadecimal (digits and A to F, two a byte)", "base32"))
    return bytes.fromhex(digits)


def _decode_base32(text: str) -> bytes:
    """Decode Base32 in capitals or small letters, with or without its padding. Raises RowRefused."""
    characters = SEPARATORS.sub("", text).rstrip("=")
    try:
        secret = base64.b32decode(characters + "=" * (-len(characters) % 8), casefold=True)
    except (binascii.Error, ValueError):
        raise RowRefused(_explain("Base32 (letters and the digits 2 to 7)", "hex")) from None
    return _check_whole(secret, base64.b32encode(secret), characters.upper())


def _decode_base64(text: str) -> bytes:
    """Decode Base64, with or without its padding. Raises RowRefused, for hexadecimal too: it would give other bytes."""
    characters = re.sub(r"\s", "", text).rstrip("=")
    if HEX_AS_BASE64.fullmatch(characters):
        raise RowRefused(_explain("Base64", "hex"))
    try:
        secret = base64.b64decode(characters + "=" * (-len(characters) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise RowRefused(_explain("Base64", "hex")) from None
    return _check_whole(secret, base64.b64encode(secret), characters)


def _check_whole(secret: bytes, written: bytes, characters: str) -> bytes:
    """Return the secret, if it is written again with the characters that it was read from. Raises RowRefused."""
    if written.decode().rstrip("=") != characters:
        raise RowRefused(NOT_WHOLE)
    return secret


def _explain(expected: str, other: Encoding) -> str:
    """Explain that a secret is not what it should be."""
    return (
        f"the secret is not {expected}: {SEE_WHETHER}; "
        f"if the secrets are written in another way, say so, such as by --encoding {other}"
    )


_DECODERS: dict[Encoding, Callable[[str], bytes]] = {
    "hex": _decode_hex,
    "base32": _decode_base32,
    "base64": _decode_base64,
}
