"""OTP pairs: the header line, its delimiter, its columns, and why one is refused; and the cells of a row, of which
each fault costs its own row only, is named with its cure, and quotes no OTP."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.intake import Row, RowError, UnusableFile, open_shipment
from worker.intake.csv_rows import Header
from worker.intake.otp_pairs import PairReader, read_header
from worker.vault.otps import Otp, OtpPair


def read_lines(*lines: str) -> Header:
    return read_header(Path("shipment.csv"), iter(lines))


@pytest.mark.parametrize("line", ["# oathbulk\n", '"# oathbulk"\n'])
def test_a_text_that_is_no_shipment_is_told_what_one_begins_with(line: str) -> None:
    """A page may show a shipment, further below."""
    text = [line, "\n", 'It activates "whole shipments, serial by serial.\n', *["More of it.\n"] * 20, "serial,otp1\n"]
    with pytest.raises(UnusableFile, match="no header follows") as caught:
        read_lines(*text)
    assert "serial,otp1,otp2,user_id,device_id" in caught.value.cure
    assert "docs/files.md" in caught.value.cure
    assert "Delete" not in caught.value.cure


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_the_one_that_shows_our_columns(delimiter: str) -> None:
    header = read_lines(delimiter.join(["serial", "otp1", '"Hall, shelf; row"']) + "\r\n")
    assert header.delimiter == delimiter
    assert header.meanings == ["serial", "otp1", ""]
    assert header.own_names == {"Hall, shelf; row": 2}


def test_blank_lines_may_stand_above() -> None:
    assert read_lines("\n", ",,,\r\n", "serial,otp1\n").row_number == 3


def test_empty_columns_at_the_end_are_none() -> None:
    header = read_lines("serial,otp1,, ,\n")
    assert header.names == ["serial", "otp1"]
    reader = PairReader(header, NOON)
    assert reader.is_fitting(["MADE1", "308714", "", " ", ""])
    assert not reader.is_fitting(["MADE1", "308714", "", "x"])
    assert not reader.is_fitting(["MADE1"])


def test_a_header_with_a_seed_and_without_an_otp_is_one_of_a_file_of_seeds() -> None:
    with pytest.raises(UnusableFile, match=r"column 4 \('seed'\) says.*none of the vendors' files of seeds"):
        read_lines("serial_number;manufacturer;algorithm;seed;digits;interval_or_event\n")


def test_a_name_that_looks_like_data_is_not_quoted() -> None:
    with pytest.raises(UnusableFile, match="column 4 means the same as column 3") as caught:
        read_lines("serial,otp1,308714,308714\n")
    assert "308714" not in str(caught.value)


SAMPLES = Path(__file__).parents[2] / "samples" / "otp_pairs"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

# File -> words of the fault, words of the cure. The fault is always on line 3, between two good rows.
BAD_ROWS = {
    "columns_interchanged": ("otp1 has other characters than digits", "in the right column"),
    "cut_off_in_quotes": ("quotation mark is never closed", "remove it"),
    "device_id_missing": ("device_id is missing", "let the token be paired with --pair"),
    "device_id_not_uuid": ("device_id is not a UUID", "copy the id from PingOne"),
    "generated_at_in_future": ("lies in the future", "check its time zone"),
    "generated_at_in_local_style": ("not an ISO 8601 time", "write it like"),
    "generated_at_out_of_range": ("not an ISO 8601 time", "write it like"),
    "generated_at_without_zone": ("no time zone", "add Z"),
    "line_break_in_our_column": ("", ""),
    "otp1_apostrophe": ("otp1 is written as a quoted number", "format the column as Text"),
    "otp1_foreign_digits": ("otp1 has other characters than digits", "format the column as Text"),
    "otp1_formula": ("otp1 is written as a quoted number", "format the column as Text"),
    "otp1_formula_quoted": ("otp1 is written as a quoted number", "format the column as Text"),
    "otp1_lost_zeros": ("otp1 has 3 digits", "format the column as Text and export again"),
    "otp1_missing": ("otp1 is missing", "produce an OTP"),
    "otp1_seven_digits": ("otp1 has 7 digits", "format the column as Text and export again"),
    "otp1_too_long": ("otp1 has more than 8 digits", "right column"),
    "otp1_with_blank_inside": ("otp1 has other characters than digits", "6 or 8 digits alone"),
    "otp2_letters": ("otp2 has other characters than digits", "6 or 8 digits alone"),
    "otp2_lost_zeros": ("otp2 has 3 digits", "format the column as Text and export again"),
    "otp2_other_length": ("otp2 has another number of digits than otp1", "export again"),
    "otp_type_unknown": ("otp_type is neither hotp nor totp", "write one of the two"),
    "quotation_mark_inside": ("stands inside a quoted value", "double it"),
    "quotation_mark_never_closed": ("quotation mark is never closed", "remove it"),
    "serial_apostrophe": ("serial is written as a quoted number", "format the column as Text"),
    "serial_excel_number": ("the serial was turned into a number", "format the column as Text"),
    "serial_excel_number_with_comma": ("the serial was turned into a number", "format the column as Text"),
    "serial_missing": ("serial is missing", "printed on the token"),
    "serial_too_long": ("serial has more than 50 characters", "token inventory"),
    "serial_with_hyphen": ("serial has other characters than letters and digits", "token inventory"),
    "too_few_fields": ("3 fields and the header 5", "cut off"),
    "too_many_fields": ("6 fields and the header 5", "in quotation marks"),
    "totp_same_otps": ("read twice within one time step", "produce the pair again"),
    "totp_without_generated_at": ("generated_at is missing", "in a column generated_at"),
    "user_id_missing": ("user_id is missing", "add one of these columns"),
    "user_id_not_uuid": ("user_id is not a UUID", "copy the id from PingOne"),
    "username_alone": ("device_id is missing", "let the token be paired with --pair"),
}


def read(name: str) -> list[Row | RowError]:
    return list(open_shipment(SAMPLES / "bad_row" / f"{name}.csv", clock=lambda: NOON).rows())


@pytest.mark.parametrize("name", sorted(BAD_ROWS.keys() - {"line_break_in_our_column"}))
def test_a_bad_row_is_refused_with_its_cure_and_the_rows_around_it_come_through(name: str) -> None:
    before, error, after = read(name)
    assert isinstance(before, Row)
    assert isinstance(after, Row)
    assert (before.row_number, after.row_number) == (2, 4)
    assert isinstance(error, RowError)
    assert error.row_number == 3
    fault, cure = BAD_ROWS[name]
    assert fault in error.reason
    assert cure in error.reason


@pytest.mark.parametrize(
    ("header", "cells", "begins"),
    [
        ("serial,otp1,UserID,device_id", ["MADE1", "308714", "x", ""], "UserID is not a UUID"),
        ("Serial Number,OTP 1,user_id,device_id", ["MADE1", "30x714", "", ""], "OTP 1 has other characters"),
        ("Serial Number,otp1,user_id,device_id", ["MADE-1", "308714", "", ""], "Serial Number has other characters"),
    ],
)
def test_a_reason_names_the_column_as_the_file_does(header: str, cells: list[str], begins: str) -> None:
    refused = reader(header).read(2, cells)
    assert isinstance(refused, RowError)
    assert refused.reason.startswith(begins)


def test_a_line_break_in_a_column_of_ours_is_a_stray_quotation_mark() -> None:
    before, error, rest, after = read("line_break_in_our_column")
    assert isinstance(before, Row)
    assert isinstance(after, Row)
    assert [error.row_number, rest.row_number, after.row_number] == [3, 4, 5]
    assert isinstance(error, RowError)
    assert "line breaks" in error.reason
    assert isinstance(rest, RowError)


def test_every_sample_of_a_bad_row_has_its_words() -> None:
    assert sorted(BAD_ROWS) == sorted(path.stem for path in (SAMPLES / "bad_row").iterdir())


@pytest.mark.parametrize("name", BAD_ROWS)
def test_no_error_quotes_an_otp_of_the_file_nor_what_is_left_of_one(name: str) -> None:
    text = (SAMPLES / "bad_row" / f"{name}.csv").read_text(encoding="utf-8")
    digits = set(re.findall(r"(?<![\w-])(?:\d{3}|\d{6,9})(?![\w-])", text)) | {"OOO634", "283 920"}
    for error in read(name):
        if isinstance(error, RowError):
            assert not any(otp in repr(error) for otp in digits)


@pytest.mark.parametrize(
    ("name", "serial_number"),
    [
        ("otp1_lost_zeros", "MADE0000002"),
        ("too_few_fields", "MADE0000002"),
        ("serial_missing", None),
        ("serial_with_hyphen", None),
        ("columns_interchanged", None),
        ("quotation_mark_never_closed", None),
    ],
)
def test_an_error_names_the_serial_number_where_there_is_no_doubt_about_it(
    name: str, serial_number: str | None
) -> None:
    errors = [row for row in read(name) if isinstance(row, RowError)]
    assert [error.serial_number for error in errors] == [serial_number]


def reader(header: str) -> PairReader:
    return PairReader(read_header(Path("shipment.csv"), iter([header])), NOON)


IDS = ["6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f", "0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a09"]
PAIRS = "serial,otp1,otp2,user_id,device_id"


def test_an_otp_in_the_serial_s_place_is_not_named_as_the_serial_number() -> None:
    row = reader("otp1,serial,otp2,user_id,device_id").read(2, ["MADE1", "308714", "367299", *IDS])
    assert isinstance(row, RowError)
    assert "308714" not in repr(row)


@pytest.mark.parametrize("seed", ["d2f7a4affb163ad95f3593f4c6f9b05b89a8105b", "2L32JL73CY5NSXZVSP2MN6NQLOE2QEC3"])
@pytest.mark.parametrize(
    "rest", [["MADE1", "367299", *IDS], ["", "", *IDS], ["MADE1"]], ids=["shifted", "empty", "cut"]
)
def test_a_seed_in_the_serial_s_place_is_not_named_as_the_serial_number(seed: str, rest: list[str]) -> None:
    row = reader(PAIRS).read(2, [seed, *rest])
    assert isinstance(row, RowError)
    assert seed not in repr(row)


@pytest.mark.parametrize("name", ["serial", "Serial Number", "\ufeffserial"])
def test_a_header_between_the_rows_is_called_one(name: str) -> None:
    row = reader(PAIRS).read(9, [name, "otp1", "otp2", "user_id", "device_id"])
    assert isinstance(row, RowError)
    assert row.reason == "the row names columns, as a header does, and no token: delete it"
    assert row.serial_number is None


def test_a_long_serial_number_beside_an_otp_is_named() -> None:
    row = reader(PAIRS).read(2, ["00012345678901234567890123", "308714", "12", *IDS])
    assert isinstance(row, RowError)
    assert row.serial_number == "00012345678901234567890123"


def test_a_serial_behind_a_shift_of_fields_is_not_named() -> None:
    row = reader("username,serial,otp1,user_id,device_id").read(2, ["MADE1", "L7", *IDS])
    assert isinstance(row, RowError)
    assert row.serial_number is None


def test_blanks_around_a_value_are_dropped() -> None:
    row = reader(PAIRS).read(2, [" MADE1 ", "308714 ", "\t000634", *IDS])
    assert isinstance(row, Row)
    assert (row.serial_number, row.otps) == ("MADE1", OtpPair(Otp("308714"), Otp("000634")))


def test_columns_may_stand_in_any_order() -> None:
    row = reader("device_id,lot,otp2,user_id,otp1,serial").read(2, [IDS[1], "L-7", "", IDS[0], "308714", "MADE1"])
    assert isinstance(row, Row)
    assert (row.user_id, row.device_id, row.lot, row.otps.second) == (IDS[0], IDS[1], "L-7", None)


def test_the_same_otp_twice_passes_for_hotp_since_chance_makes_it() -> None:
    row = reader(PAIRS).read(2, ["MADE1", "308714", "308714", *IDS])
    assert isinstance(row, Row)


@pytest.mark.parametrize("generated_at", ["2026-03-01T12:05:00Z", "2026-03-01T13:05:00+01:00", "20260301T120500Z"])
def test_a_clock_may_be_five_minutes_ahead_of_ours(generated_at: str) -> None:
    row = reader(f"{PAIRS},otp_type,generated_at").read(2, ["MADE1", "308714", "", *IDS, "totp", generated_at])
    assert isinstance(row, Row)
    assert row.generated_at == datetime(2026, 3, 1, 12, 5, tzinfo=UTC)


def test_a_wrong_time_is_refused_on_a_hotp_row_too() -> None:
    row = reader(f"{PAIRS},generated_at").read(2, ["MADE1", "308714", "", *IDS, "yesterday"])
    assert isinstance(row, RowError)


@settings(max_examples=300)
@given(cells=st.lists(st.text("0123456789\u0663 '=\".,-", max_size=60), min_size=9, max_size=9))
def test_no_reason_quotes_a_cell_whatever_is_in_it(cells: list[str]) -> None:
    row = reader(f"{PAIRS},username,otp_type,generated_at,lot").read(2, cells)
    assert isinstance(row, RowError)
    assert not [cell for cell in cells if len(cell) >= 6 and cell in row.reason]
