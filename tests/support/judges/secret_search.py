"""A search for secrets in what a run leaves behind: as they are, in hexadecimal, and in base64, as a broker packs it.

Eight digits turn up by chance inside longer numbers: microseconds, identifiers. So a text is searched for runs of just
so many digits, or of a whole pair of OTPs; a binary file, where anything may stand beside them, for any eight in a row.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

_RUNS = re.compile(rb"\d{8,}")
_HEX_RUNS = re.compile(rb"(?:3[0-9]){8,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{10,}={0,2}")
DIGITS = 8


@dataclass(frozen=True)
class Secrets:
    """`pairs`: OTPs of eight digits, row by row; `words`: long random texts, by name. Nothing of it is ever printed."""

    pairs: Sequence[tuple[str, ...]] = field(repr=False)
    words: Mapping[str, str] = field(repr=False)

    def found_in(self, data: bytes, *, is_text: bool = True) -> set[str]:
        """The names of those that stand in the data: `OTP of row N` or a word's name."""
        return {name for layer in _layers(data) for name in self._found(layer, is_text=is_text)}

    def _found(self, data: bytes, *, is_text: bool) -> Iterator[str]:
        for name, word in self.words.items():
            if any(form in data for form in _forms(word)):
                yield name
        otps = self._numbered
        for run in _digits(data):
            windows = [run] if is_text else [run[start : start + DIGITS] for start in range(len(run) - DIGITS + 1)]
            yield from (otps[window] for window in windows if window in otps)

    @cached_property
    def _numbered(self) -> dict[bytes, str]:
        """What is looked for, and whose it is; a pair in one piece too."""
        named = {}
        for row, pair in enumerate(self.pairs, start=1):
            for digits in (*pair, "".join(pair)):
                named[digits.encode()] = f"OTP of row {row}"
        return named


def _layers(data: bytes) -> Iterator[bytes]:
    """The data, and whatever in it is base64."""
    yield data
    unpacked = [_unpacked(match[0]) for match in _BASE64.finditer(data)]
    # Kept apart, or the end of one and the beginning of the next would be one text.
    yield b"\n".join(unpacked)


def _unpacked(run: bytes) -> bytes:
    standard = run.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(standard + b"=" * (-len(standard) % 4))
    except binascii.Error:
        # One character too many: not base64.
        return b""


def _forms(word: str) -> tuple[bytes, ...]:
    plain = word.encode()
    return plain, plain.hex().encode(), plain.hex().upper().encode()


def _digits(data: bytes) -> Iterator[bytes]:
    """Runs of digits, plain and in hexadecimal."""
    yield from (match[0] for match in _RUNS.finditer(data))
    yield from (bytes.fromhex(match[0].decode()) for match in _HEX_RUNS.finditer(data))
