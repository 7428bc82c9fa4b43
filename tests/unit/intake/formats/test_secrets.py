"""Secrets as text: what is read as which encoding, and what is not guessed."""

from __future__ import annotations

import pytest

from worker.intake.formats.format import Encoding
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.secrets import decode_secret, looks_like_secret, make_secret
from worker.vault.seed import Secret

SEED = bytes.fromhex("d2f7a4affb163ad95f3593f4c6f9b05b89a8105b")
HEX = SEED.hex()
BASE32 = "2L32JL73CY5NSXZVSP2MN6NQLOE2QEC3"
# Valid as 16 bytes in hexadecimal and as 20 in Base32.
BOTH = "ABCDEF234567ABCDEF234567ABCDEF23"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (HEX, None),
        (HEX.upper(), None),
        (BASE32, None),
        (BASE32.lower(), None),
        (" 2L32 JL73-CY5N SXZV SP2M N6NQ LOE2 QEC3 ", None),
        (f"{HEX[:20]} {HEX[20:]}", "hex"),
        (BASE32, "base32"),
        ("0vekr/sWOtlfNZP0xvmwW4moEFs=", "base64"),
        ("0vekr/sWOtlfNZP0xvmwW4moEFs", "base64"),
        ("0vekr/sWOtlfNZ\r\n P0xvmwW4moEFs=", "base64"),
    ],
)
def test_a_secret_is_read(text: str, encoding: Encoding | None) -> None:
    assert decode_secret(text, encoding) == Secret(SEED)


@pytest.mark.parametrize("padding", ["", "=", "======"])
def test_base32_is_padded_again(padding: str) -> None:
    assert decode_secret("GEZDGNBVGY3TQOJQGE" + padding, "base32") == Secret(b"12345678901")


def test_what_may_be_read_in_two_ways_is_not_guessed() -> None:
    with pytest.raises(RowRefused, match="--encoding hex or --encoding base32"):
        decode_secret(BOTH, None)
    assert decode_secret(BOTH, "hex") == Secret(bytes.fromhex(BOTH))
    assert decode_secret(BOTH, "base32") != decode_secret(BOTH, "hex")


@pytest.mark.parametrize(
    ("text", "encoding", "reason"),
    [
        ("", "hex", "missing"),
        ("  ", None, "missing"),
        (HEX[:-1], "hex", "not hexadecimal"),
        (HEX + "zz", "hex", "not hexadecimal"),
        ("0x" + HEX, "hex", "not hexadecimal"),
        (BASE32 + "A", "base32", "not Base32"),
        ("1" + BASE32[1:], "base32", "not Base32"),
        ("é" * 16, "base32", "not Base32"),
        ("\u0663" * 40, "hex", "not hexadecimal"),
        ("0vekr/sW!OtlfNZP0xvmwW4moEFs=", "base64", "not Base64"),
        ("0vekr", "base64", "not Base64"),
        (BASE32[:-1], "base32", "is not whole: .* cut off"),
        (BASE32[:-1], None, "neither hexadecimal nor Base32.* cut off"),
        (BASE32[:-4], "base32", "is not whole"),
        (BASE32[:-2] + "ß", "base32", "not Base32"),
        ("0vekr/sWOtlfNZP0xvmwW4moEF", "base64", "is not whole: .* cut off"),
        ("0vekr/sWOtlfNZP0xvmwW4moEF==", "base64", "is not whole"),
        (HEX, "base64", "not Base64.*--encoding hex"),
        (HEX[:32].upper(), "base64", "not Base64.*--encoding hex"),
        ("0vekr/sWOtlfNZP0xvmwW4moEFs=", None, "neither hexadecimal nor Base32"),
        ("1.23457E+39", None, "turned into a number"),
        ("1,23457E+39", "hex", "turned into a number"),
        ("ab" * 9, "hex", "fewer than 10 bytes"),
        ("ab" * 101, "hex", "more than 100 bytes"),
    ],
)
def test_a_secret_that_cannot_be_is_refused_without_a_digit_of_it(
    text: str, encoding: Encoding | None, reason: str
) -> None:
    with pytest.raises(RowRefused, match=reason) as caught:
        decode_secret(text, encoding)
    assert not text.strip() or text not in str(caught.value)
    # Python would print the cause, with its arguments, below a traceback.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_secret_has_10_to_100_bytes() -> None:
    assert make_secret(bytes(10)) == Secret(bytes(10))
    assert make_secret(bytes(100)) == Secret(bytes(100))


@pytest.mark.parametrize("cell", ["serial", "MADE0000001", "1000130000002", "", "308714", "2026-03-01"])
def test_other_cells_do_not_look_like_a_secret(cell: str) -> None:
    assert not looks_like_secret(cell)
