"""Rows: their columns are declared once; what the names of columns mean, and which say that they hold a secret."""

from __future__ import annotations

from dataclasses import fields

import pytest

from models.record import Record
from worker.batches.loading import RecordRows
from worker.intake import CANONICAL, COLUMNS, Row, canonical_column
from worker.intake.rows import PLAIN, names_secret
from worker.reports.export import _READERS


def test_every_column_of_a_row_has_a_column_of_the_record() -> None:
    for column in COLUMNS:
        assert column.attribute in Record.__table__.columns, f"add {column.attribute} to models.record, and a migration"


def test_the_longest_text_of_a_column_is_what_the_record_has_room_for() -> None:
    room = {column.attribute: Record.__table__.c[column.attribute].type.length for column in PLAIN}
    assert {column.attribute: column.longest for column in PLAIN} == room


def test_every_column_of_a_row_is_read_loaded_and_exported() -> None:
    written = RecordRows(None, 1, None).columns
    for column in COLUMNS:
        assert canonical_column(column.name) == column.name
        assert column.attribute in written
        assert column.name in _READERS


def test_a_field_of_a_row_is_a_column_or_one_of_four_that_no_cell_alone_brings() -> None:
    names = {field.name for field in fields(Row)}
    assert names - {column.attribute for column in COLUMNS} == {"row_number", "otps", "file_row", "extra"}


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
    for column in set(CANONICAL.values()):
        assert canonical_column(column) == column


SECRET = (
    "seed|HexSeed|seed_b32|secret|Secret Key|secretKey|client-secret|key|KEY|keys|aes_key|hexkey|tokenKey",
    "key1|key hex|keyData|AES key (hex)|private_id|PIN|pin code|PINCode|User PIN|initialPin|pins|PUK",
    "puk_code|adminPuk|password|Passphrase|otp3|third otp|previous_otp",
)
HARMLESS = (
    "keyboard|keycard|shipping|shipping date|pingone_id|PingID|mapping|opinion|Spinoff|secretary|department",
    "note|model|otp_length|hotp|is_totp|counter|location",
)


@pytest.mark.parametrize("name", "|".join(SECRET).split("|"))
def test_a_column_that_says_it_holds_a_secret_is_told(name: str) -> None:
    assert names_secret(name)


@pytest.mark.parametrize("name", "|".join(HARMLESS).split("|"))
def test_a_harmless_name_is_not_taken_for_a_secret(name: str) -> None:
    assert not names_secret(name)
