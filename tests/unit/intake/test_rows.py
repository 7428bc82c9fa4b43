"""Rows and tokens: columns are declared once, and their names tell what they mean and which hold a secret; what PingOne
takes of a token, what a hint says where the file does not, whose serial number is named; and secrets as text."""

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.record import Record
from worker.batches.loading import RecordRows
from worker.intake.files import Encoding, Hints
from worker.intake.rows import (
    CANONICAL,
    COLUMNS,
    PLAIN,
    Row,
    RowError,
    RowRefused,
    canonical_column,
    drop_guards,
    guard_formulas,
    names_secret,
)
from worker.intake.tokens import Token, decode_secret, looks_like_secret, make_rows, make_secret
from worker.reports.export import _READERS
from worker.vault.otps import Secret


def test_every_column_of_a_row_is_one_of_the_record_and_is_read_loaded_and_exported() -> None:
    attributes, written = {column.attribute for column in COLUMNS}, RecordRows(None, 1, None).columns
    assert attributes <= {*Record.__table__.columns.keys()}, "add it to models.record, and a migration"
    assert attributes <= {*written}
    assert {column.name for column in COLUMNS} <= _READERS.keys()
    assert {column.attribute: column.longest for column in PLAIN} == {
        column.attribute: Record.__table__.c[column.attribute].type.length for column in PLAIN
    }
    # Beside the five that no cell alone brings.
    others = {"row_number", "otps", "file_row", "lacks_type", "extra"}
    assert {field.name for field in fields(Row)} - attributes == others


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("serial", "serial"),
        ("Serial Number", "serial"),
        ("serialNumber", "serial"),
        ("SERIAL-NUMBER", "serial"),
        ("otp", "otp1"),
        ("OTP 1", "otp1"),
        ("First_OTP", "otp1"),
        ("otp_2", "otp2"),
        ("second otp", "otp2"),
        ("Next-OTP", "otp2"),
        ("User ID", "user_id"),
        ("deviceId", "device_id"),
        ("UPN", "username"),
        ("user", "username"),
        ("email", "email"),
        ("E-Mail", "email"),
        ("type", "otp_type"),
        ("OTP type", "otp_type"),
        ("generatedAt", "generated_at"),
        ("Lot", "lot"),
        ("\ufeffserial", "serial"),
        ("device", None),
        ("serial no.", None),
        ("", None),
    ],
)
def test_a_name_means_a_column_whatever_its_case_blanks_and_hyphens(name: str, column: str | None) -> None:
    assert canonical_column(name) == column


def test_every_column_is_known_by_its_own_name() -> None:
    names = {*CANONICAL.values(), *(column.name for column in COLUMNS)}
    assert {name: canonical_column(name) for name in names} == {name: name for name in names}


HOLDS_SECRET = (
    "seed|HexSeed|seed_b32|secret|Secret Key|secretKey|client-secret|key|KEY|keys|aes_key|hexkey|tokenKey",
    "key1|key hex|keyData|AES key (hex)|private_id|PIN|pin code|PINCode|User PIN|initialPin|pins|PUK",
    "puk_code|adminPuk|password|Passphrase|otp3|third otp|previous_otp",
)
HARMLESS = (
    "keyboard|keycard|shipping|shipping date|pingone_id|PingID|mapping|opinion|Spinoff|secretary|department",
    "note|model|otp_length|hotp|is_totp|counter|location",
)


@pytest.mark.parametrize(("names", "is_told"), [(HOLDS_SECRET, True), (HARMLESS, False)])
def test_a_column_that_says_it_holds_a_secret_is_told_from_a_harmless_one(
    names: tuple[str, ...], is_told: bool
) -> None:
    split = "|".join(names).split("|")
    assert {name: names_secret(name) for name in split} == dict.fromkeys(split, is_told)


# Tokens.

SECRET = "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"


def make(hints: Hints | None = None, counted: str = "", **fields: Any) -> Row | RowError:
    token = Token(**{"serial": "MADE0000001", "secret": SECRET, "encoding": "hex", "otp_type": "hotp"} | fields)
    (row,) = make_rows([(7, token)], lambda raw: raw, hints or Hints(), counted)
    return row


ALL_SAID = {"otp_type": "TOTP", "time_step": "30", "digits": "6", "hash_algorithm": "HMAC-SHA-256"}


@pytest.mark.parametrize(
    ("hints", "fields", "made"),
    [
        # Where nothing is said.
        (Hints(), {"otp_type": None, "usual_type": "hotp"}, ("hotp", None, 6, "sha1", 0)),
        # A hint holds where the file says nothing, and replaces what is usual, but not what the file says.
        (
            Hints(otp_type="totp", time_step=60, digits=8, hash_algorithm="sha256"),
            {"otp_type": None},
            ("totp", 60, 8, "sha256", 0),
        ),
        (Hints(hash_algorithm="sha1"), {"usual_hash": "sha256"}, ("hotp", None, 6, "sha1", 0)),
        (Hints(time_step=60), {"otp_type": "totp", "usual_step": 30}, ("totp", 60, 6, "sha1", 0)),
        (Hints(otp_type="hotp", time_step=60, digits=8, hash_algorithm="sha1"), ALL_SAID, ("totp", 30, 6, "sha256", 0)),
        # A hash has many names; that of a TOTP token may be any of three.
        *(
            (Hints(), {"hash_algorithm": text}, ("hotp", None, 6, "sha1", 0))
            for text in ("SHA1", "sha-1", "HMAC-SHA1", "HmacSHA1", "hmacsha1", " Sha_1 ")
        ),
        *(
            (Hints(), {"otp_type": "totp", "time_step": 30, "hash_algorithm": name}, ("totp", 30, 6, name, 0))
            for name in ("sha1", "sha256", "sha512")
        ),
        # The highest counter passes.
        (Hints(), {"counter": str(2**62)}, ("hotp", None, 6, "sha1", 2**62)),
    ],
)
def test_a_seed_is_made_of_what_the_file_says_and_a_hint_where_it_does_not(
    hints: Hints, fields: dict[str, Any], made: tuple[object, ...]
) -> None:
    seed = make(hints, **fields).otps
    assert (seed.otp_type, seed.time_step, seed.digits, seed.hash_algorithm, seed.counter) == made


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
        ({"hash_algorithm": "sha384"}, "not SHA-1"),
        ({"hash_algorithm": "sha256"}, "HOTP with a hash other"),
        ({"usual_hash": "sha512"}, "--hash sha1"),
        ({"counter": "-1"}, "not a whole number"),
        ({"counter": 2**63}, "8 bytes"),
        ({"counter": -1}, "8 bytes"),
        ({"counter": "1" * 5000}, "not a whole number"),
        ({"serial": ""}, "serial is missing"),
        ({"serial": "MADE 1"}, "characters other"),
        ({"serial": "M" * 51}, "more than 50"),
    ],
)
def test_what_pingone_does_not_take_is_refused(fields: dict[str, Any], words: str) -> None:
    assert words in make(**fields).reason


@pytest.mark.parametrize(
    ("fields", "serial_number", "begins"),
    [
        ({"digits": "7", "counted": "key"}, "MADE0000001", "key 7 of the file: the OTPs have"),
        # What may be a seed in the wrong column is not named.
        *(
            ({"serial": serial, "secret": "MADE0000001"}, None, "")
            for serial in (SECRET, "2L32JL73CY5NSXZVSP2MN6NQLOE2QEC3", "GEZDGNBVGY3TQOJQ")
        ),
        # A header above a format that has none is called one.
        *(
            (
                {"serial": name, "secret": "seed", "otp_type": "type"},
                None,
                "the row names columns, like a header, and no token: delete it",
            )
            for name in ("serial", "Serial Number", "serialNumber")
        ),
    ],
)
def test_an_error_names_the_row_and_what_is_counted_and_the_serial_number_where_there_is_one(
    fields: dict[str, Any], serial_number: str | None, begins: str
) -> None:
    error = make(**fields)
    assert (error.row_number, error.serial_number, error.reason.startswith(begins)) == (7, serial_number, True)
    assert serial_number or fields["serial"] not in error.reason


def test_a_repr_of_a_token_shows_no_secret_and_nothing_unknown() -> None:
    shown = repr(Token(serial="MADE1", secret=SECRET, extra={"note": "hidden"}))
    assert [part for part in ("d2f7", "hidden") if part in shown] == []


SEED, HEX = bytes.fromhex(SECRET), SECRET
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


def test_base32_is_padded_again_and_a_secret_has_10_to_100_bytes() -> None:
    texts = ("GEZDGNBVGY3TQOJQGE", "GEZDGNBVGY3TQOJQGE=", "GEZDGNBVGY3TQOJQGE======")
    assert [decode_secret(text, "base32") for text in texts] == [Secret(b"12345678901")] * 3
    assert [make_secret(bytes(size)) for size in (10, 100)] == [Secret(bytes(10)), Secret(bytes(100))]


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
        (BASE32[:-1], "base32", "is incomplete: .* missing"),
        (BASE32[:-1], None, "neither hexadecimal nor Base32.* cut off"),
        (BASE32[:-4], "base32", "is incomplete"),
        (BASE32[:-2] + "ß", "base32", "not Base32"),
        ("0vekr/sWOtlfNZP0xvmwW4moEF", "base64", "is incomplete: .* missing"),
        ("0vekr/sWOtlfNZP0xvmwW4moEF==", "base64", "is incomplete"),
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


@pytest.mark.parametrize("cell", ["serial", "MADE0000001", "1000130000002", "", "308714", "2026-03-01"])
def test_other_cells_do_not_look_like_a_secret(cell: str) -> None:
    assert not looks_like_secret(cell)


@given(st.text(alphabet="=+@'\";\t\r\na\uff1d"))
def test_a_guard_against_formulas_is_taken_away_and_nothing_else(text: str) -> None:
    assert drop_guards(guard_formulas(text)) == text
    assert not guard_formulas(text).startswith(("=", "+", "@", "\t", "\r", "\uff1d"))
