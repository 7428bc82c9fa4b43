"""Tokens: what PingOne takes, what a hint says where the file does not, whose serial number is named; and secrets as
text."""

from __future__ import annotations

from typing import Any

import pytest

from worker.intake import Hints, Row, RowError
from worker.intake.files import Encoding
from worker.intake.rows import RowRefused
from worker.intake.tokens import Token, decode_secret, looks_like_secret, make_rows, make_secret
from worker.vault.otps import Secret, Seed

SECRET = "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"


def make(hints: Hints | None = None, counted: str = "", **fields: Any) -> Row | RowError:
    token = Token(**{"serial": "MADE0000001", "secret": SECRET, "encoding": "hex", "otp_type": "hotp"} | fields)
    (row,) = make_rows([(7, token)], lambda raw: raw, hints or Hints(), counted)
    return row


def seed(hints: Hints | None = None, **fields: Any) -> Seed:
    row = make(hints, **fields)
    assert isinstance(row, Row), row
    assert isinstance(row.otps, Seed)
    return row.otps


def reason(hints: Hints | None = None, **fields: Any) -> str:
    row = make(hints, **fields)
    assert isinstance(row, RowError)
    return row.reason


def test_where_nothing_is_said_a_token_is_hotp_with_six_digits_of_sha_1_from_counter_0() -> None:
    made = seed(otp_type=None, usual_type="hotp")
    assert (made.otp_type, made.digits, made.hash_algorithm, made.counter) == ("hotp", 6, "sha1", 0)


def test_a_hint_holds_where_the_file_says_nothing() -> None:
    made = seed(Hints(otp_type="totp", time_step=60, digits=8, hash_algorithm="sha256"), otp_type=None)
    assert (made.otp_type, made.time_step, made.digits, made.hash_algorithm) == ("totp", 60, 8, "sha256")


def test_a_hint_does_not_replace_what_the_file_says() -> None:
    hints = Hints(otp_type="hotp", time_step=60, digits=8, hash_algorithm="sha1")
    made = seed(hints, otp_type="TOTP", time_step="30", digits="6", hash_algorithm="HMAC-SHA-256")
    assert (made.otp_type, made.time_step, made.digits, made.hash_algorithm) == ("totp", 30, 6, "sha256")


def test_a_hint_replaces_what_is_usual() -> None:
    assert seed(Hints(hash_algorithm="sha1"), usual_hash="sha256").hash_algorithm == "sha1"
    assert seed(Hints(time_step=60), otp_type="totp", usual_step=30).time_step == 60


@pytest.mark.parametrize("text", ["SHA1", "sha-1", "HMAC-SHA1", "HmacSHA1", "hmacsha1", " Sha_1 "])
def test_a_hash_has_many_names(text: str) -> None:
    assert seed(hash_algorithm=text).hash_algorithm == "sha1"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"otp_type": None}, "--otp-type"),
        ({"otp_type": "ocra"}, "neither HOTP nor TOTP"),
        ({"otp_type": "totp"}, "--time-step"),
        ({"otp_type": "totp", "time_step": "45"}, "neither 30 nor 60"),
        ({"otp_type": "totp", "time_step": "0"}, "neither 30 nor 60"),
        ({"otp_type": "totp", "time_step": 0}, "neither 30 nor 60"),
        ({"otp_type": "totp", "time_step": -30}, "neither 30 nor 60"),
        ({"digits": "7"}, "neither 6 nor 8"),
        ({"digits": -6}, "neither 6 nor 8"),
        ({"digits": "0"}, "neither 6 nor 8"),
        ({"digits": 0}, "neither 6 nor 8"),
        ({"digits": "six"}, "not a whole number"),
        ({"digits": "\u0666"}, "not a whole number"),
        ({"hash_algorithm": "sha384"}, "none of SHA-1"),
        ({"hash_algorithm": "sha256"}, "HOTP with another hash"),
        ({"usual_hash": "sha512"}, "--hash sha1"),
        ({"counter": "-1"}, "not a whole number"),
        ({"counter": 2**63}, "8 bytes"),
        ({"counter": -1}, "8 bytes"),
        ({"counter": "1" * 5000}, "not a whole number"),
        ({"serial": ""}, "serial is missing"),
        ({"serial": "MADE 1"}, "other characters"),
        ({"serial": "M" * 51}, "more than 50"),
    ],
)
def test_what_pingone_does_not_take_is_refused(fields: dict[str, Any], words: str) -> None:
    assert words in reason(**fields)


def test_the_highest_counter_passes() -> None:
    assert seed(counter=str(2**62)).counter == 2**62


def test_the_hash_of_a_totp_token_may_be_any_of_three() -> None:
    for name in ("sha1", "sha256", "sha512"):
        assert seed(otp_type="totp", time_step=30, hash_algorithm=name).hash_algorithm == name


def test_an_error_names_the_row_and_the_serial_number_and_what_is_counted() -> None:
    error = make(digits="7", counted="key")
    assert isinstance(error, RowError)
    assert (error.row_number, error.serial_number) == (7, "MADE0000001")
    assert error.reason.startswith("key 7 of the file: the OTPs have")


@pytest.mark.parametrize("serial", [SECRET, "2L32JL73CY5NSXZVSP2MN6NQLOE2QEC3", "GEZDGNBVGY3TQOJQ"])
def test_what_may_be_a_seed_in_the_wrong_column_is_not_named(serial: str) -> None:
    error = make(serial=serial, secret="MADE0000001")
    assert isinstance(error, RowError)
    assert error.serial_number is None
    assert serial not in error.reason


def test_a_repr_of_a_token_shows_no_secret_and_nothing_unknown() -> None:
    shown = repr(Token(serial="MADE1", secret=SECRET, extra={"note": "hidden"}))
    assert "d2f7" not in shown
    assert "hidden" not in shown


@pytest.mark.parametrize("name", ["serial", "Serial Number", "serialNumber"])
def test_a_header_above_a_format_that_has_none_is_called_one(name: str) -> None:
    row = make(serial=name, secret="seed", otp_type="type")
    assert isinstance(row, RowError)
    assert row.reason == "the row names columns, as a header does, and no token: delete it"
    assert row.serial_number is None


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
