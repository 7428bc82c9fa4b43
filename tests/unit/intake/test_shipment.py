"""Whole files of OTP pairs: from bytes to lines and rows; what a good one yields, what makes one unusable, which rows
are refused, and what reading one costs."""

import hashlib
import io
import os
import re
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.data.seed_files import SECRETS
from support.data.seed_files import read as read_seed_file

from models.record_states import UNTIL_LET_GO
from models.row_fault import RowFault
from worker.intake.files import (
    CHUNK,
    MAX_LINE,
    MAX_ROW_LINES,
    Hints,
    OpenFile,
    find_foreign,
    make_refusal,
    read_lines,
    split_rows,
)
from worker.intake.lists import open_assignment
from worker.intake.otp_pairs import PairReader, read_header
from worker.intake.rows import Row, RowError, UnusableFile
from worker.intake.shipment import Shipment, open_shipment
from worker.vault.otps import Otp, OtpPair

SAMPLES = Path(__file__).parents[2] / "samples" / "otp_pairs"
PSKC = Path(__file__).parents[2] / "samples" / "formats" / "pskc"
HEADER = b"serial,otp1,otp2,user_id,device_id\n"
IDS = b"6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f,0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a09"
ROW = b"MADE0000001,308714,367299," + IDS + b"\n"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def read_sample(name: str) -> list[Row | RowError]:
    return list(open_shipment(SAMPLES / name, clock=lambda: NOON).rows())


def write(directory: Path, *parts: bytes) -> Path:
    path = directory / "shipment.csv"
    path.write_bytes(b"".join(parts))
    return path


# From bytes to lines, above all where one chunk ends and the next begins.


def read_text(content: bytes) -> list[str]:
    file = OpenFile(Path("shipment.csv"), io.BytesIO(content))
    lines = list(read_lines(file))
    assert file.digest() == hashlib.sha256(content).hexdigest()
    return lines


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a\nb\r\nc\rd", ["a\n", "b\r\n", "c\r", "d"]),
        # Only line ends end a line.
        ("a\u2028b\x0bc\x85d\n".encode(), ["a\u2028b\x0bc\x85d\n"]),
        # The byte order mark is dropped at the start only.
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a\n", "\ufeffb\n"]),
        (b"\n" * CHUNK + b"\xef\xbb\xbfb\n", [*["\n"] * CHUNK, "\ufeffb\n"]),
        # A line may be as long as allowed.
        (b"h\n" + b"a" * (MAX_LINE - 1) + b"\nb\n", ["h\n", "a" * (MAX_LINE - 1) + "\n", "b\n"]),
    ],
    ids=["ends", "no ends", "marks", "mark of a second chunk", "longest"],
)
def test_lines_are_what_ends_in_an_end_of_line(content: bytes, lines: list[str]) -> None:
    assert read_text(content) == lines


@pytest.mark.parametrize("shift", [-2, -1, 0, 1])
def test_a_crlf_and_a_character_of_many_bytes_may_lie_across_two_chunks(shift: int) -> None:
    start = b"x" * (CHUNK // 2 - 1) + b"\n" + b"y" * (CHUNK // 2 + shift - 1)
    assert read_text(start + b"\r\nb") == [*read_text(start[:-1] + b"y\r\n"), "b"]
    assert read_text(start + "€\n".encode())[1].endswith("y€\n")


@pytest.mark.parametrize("content", [b"a" * (MAX_LINE + 1), b"h\n" + b"a" * MAX_LINE + b"\nb\n"], ids=["1", "2"])
def test_no_line_is_longer_than_allowed(content: bytes) -> None:
    with pytest.raises(UnusableFile, match=f"longer than {MAX_LINE} bytes"):
        read_text(content)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b'\xef\xbb\xbf\r\n<?xml version="1.0"?><Other>', "XML"),
        (b"\n\n  {", "JSON"),
        ("serial,otp1\n".encode("utf-16-be"), "UTF-16"),
        ("\ufeffserial".encode("utf-32-le"), "UTF-16"),
        ("<KeyContainer>".encode("utf-16-le"), "UTF-16"),
        ('{"value": []}'.encode("utf-16-le"), "UTF-16"),
    ],
)
def test_a_format_is_known_behind_marks_and_blanks(head: bytes, kind: str) -> None:
    assert kind in make_refusal(Path("shipment.csv"), head, "but no list").problem


@pytest.mark.parametrize("head", [b"", b"s", b"serial,otp1\n", b"\xef\xbb\xbfserial;otp1\r\n", b"PKI,otp\n"])
def test_text_passes(head: bytes) -> None:
    assert find_foreign(head) is None


# From lines to rows: below the header `serial,otp1,note`, whose column `note` is the file's own.

LONGEST = "\n".join("x" * MAX_ROW_LINES)


@pytest.mark.parametrize(
    ("lines", "rows"),
    [
        # A row of many lines has the number of its first.
        (['A,1,"x\ny\nz"', "B,2,"], [(2, ["A", "1", "x\ny\nz"]), (5, ["B", "2", ""])]),
        # A mark that is left open costs its own row only.
        (['A,1,"x', *["B,2,"] * 100], [(2, None), *((number, ["B", "2", ""]) for number in range(3, 103))]),
        (
            ['A,"1,x', "B,2,", 'C,3",x', "D,4,"],
            [(2, None), (3, ["B", "2", ""]), (4, ["C", '3"', "x"]), (5, ["D", "4", ""])],
        ),
        (["A,1,", 'B,2,"x'], [(2, ["A", "1", ""]), (3, None)]),
        # In the middle of a bare value it is a character; text behind a closing one is not glued on.
        (['A,1,6" case'], [(2, ["A", "1", '6" case'])]),
        (['A,"30"8714,'], [(2, None)]),
        # A value may have as many lines as are allowed, and not one more.
        ([f'A,1,"{LONGEST}"', "B,2,"], [(2, ["A", "1", LONGEST]), (22, ["B", "2", ""])]),
        (
            [f'A,1,"{LONGEST}\n"', "B,2,"],
            [(2, None), *((number, ["x"]) for number in range(3, 22)), (22, None), (23, ["B", "2", ""])],
        ),
    ],
)
def test_a_quotation_mark_that_is_never_closed_costs_one_row_only(lines: list[str], rows: list[Any]) -> None:
    with_ends = iter("\n".join(["serial,otp1,note", *lines, ""]).splitlines(keepends=True))
    reader = PairReader(read_header(Path("shipment.csv"), with_ends), NOON)
    assert list(split_rows(with_ends, ",", 1, 3, is_one_row=reader.is_one_row)) == rows


# What a good file yields.

PAIR = {
    "row_number": 2,
    "serial_number": "MADE0000001",
    "user_id": "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f",
    "device_id": "0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a09",
    "otps": OtpPair(Otp("308714"), Otp("367299")),
    "otp_type": "hotp",
}
SECOND = {
    "row_number": 3,
    "serial_number": "MADE0000002",
    "user_id": "7c2e8d0a-93b1-4f6d-8a25-d1e0f9c8b7a6",
    "device_id": "91c4e1aa-2b6f-4d80-9c35-f7e6d5c4b3a2",
    "otps": OtpPair(Otp("283920"), Otp("000634")),
    "otp_type": "hotp",
}
OWN = {"Building": "Hall 1, east", "note": "left shelf\nsecond row"}
AT_HALF_PAST_NINE = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
# File -> what its two rows have that those of pairs.csv have not.
GOOD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **dict.fromkeys(("pairs.csv", "semicolons.csv", "tabs.csv", "excel_utf8.csv"), ({}, {})),
    **dict.fromkeys(("last_line_without_end.csv", "quoted.csv", "trailing_empty_columns.csv"), ({}, {})),
    "blank_lines.csv": ({"row_number": 3}, {"row_number": 5}),
    "eight_digits.csv": ({"otps": OtpPair(Otp("00308714"), Otp("81367299"))}, {}),
    "header_synonyms.csv": ({"email": "alice@example.test"}, {"email": "bob@example.test"}),
    "own_columns.csv": ({"extra": OWN}, {"row_number": 4}),
    # Chance makes it.
    "same_hotp_twice.csv": ({"otps": OtpPair(Otp("308714"), Otp("308714"))}, {}),
    "second_otp_missing.csv": ({"otps": OtpPair(Otp("308714"), None)}, {}),
    "totp.csv": (
        {"otp_type": "totp", "generated_at": AT_HALF_PAST_NINE, "lot": "L-7", "username": "alice@example.test"},
        {},
    ),
}


@pytest.mark.parametrize("name", sorted(path.name for path in (SAMPLES / "good").iterdir()))
def test_a_good_file_gives_its_rows_and_their_reprs_show_no_otp_and_nothing_unknown(name: str) -> None:
    first, second = GOOD[name]
    rows = read_sample(f"good/{name}")
    assert [isinstance(row, Row) and row.extra for row in rows] == [first.get("extra", {}), rows[1].extra]  # type: ignore[union-attr]
    assert [{key: getattr(row, key) for key in PAIR | first} for row in rows[:1]] == [PAIR | first]
    assert {key: getattr(rows[1], key) for key in SECOND | second} == SECOND | second
    assert not [hidden for hidden in ("308714", "283920", "Hall") if hidden in repr(rows)]


def test_a_header_is_known_by_its_synonyms_and_told_as_written() -> None:
    columns = open_shipment(SAMPLES / "good" / "header_synonyms.csv").columns
    assert columns == ["Serial Number", "First-OTP", "NEXT OTP", "UserId", "DEVICE_ID", "Email"]


def test_ids_come_out_in_lower_case(tmp_path: Path) -> None:
    (row,) = open_shipment(write(tmp_path, HEADER, ROW.upper().replace(b"MADE", b"made"))).rows()
    assert (row.user_id, row.device_id, row.serial_number) == (PAIR["user_id"], PAIR["device_id"], "made0000001")


def test_a_shipment_can_be_read_again_and_names_the_digest_of_its_bytes() -> None:
    path = SAMPLES / "good" / "excel_utf8.csv"
    shipment = open_shipment(path)
    assert (shipment.path, shipment.fingerprint) == (path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert list(shipment.rows()) == list(shipment.rows())


# What makes a file unusable.

UNUSABLE = {
    "archive.7z": ("7z archive", "Unpack", None),
    "archive.zip": ("zip archive", "Unpack", None),
    "column_twice.csv": ("column 6 ('OTP 1') means the same as column 2", "Remove or rename", 1),
    "column_without_name.csv": ("column 3 has no name", "Name the column", 1),
    "empty.csv": ("is empty", "Export a CSV", None),
    "encrypted.asc": ("PGP", "decrypt", None),
    "excel_unicode_text.txt": ("UTF-16", "CSV UTF-8", None),
    "foreign_header.csv": ("names none of the columns", "Put a header above", 1),
    "header_alone.csv": ("a header and no rows", "a row for each token", None),
    "header_cut_in_two.csv": ("continues in the next line", "Remove the line break", 1),
    "header_joined.csv": ("column 5 has a value instead of a name", "put a line break between", 1),
    "header_quotation_mark.csv": ("quotation marks in the header", "Close", 1),
    "inventory.json": ("JSON", "Export a CSV", None),
    "key_column.csv": ("column 6 ('tokenKey') says", "Remove the column", 1),
    "listing.pdf": ("PDF", "Export a CSV", None),
    "login_page.html": ("XML or HTML", "Export a CSV", None),
    "mixed_encodings.csv": ("not UTF-8", "CSV UTF-8", 3),
    "no_header.csv": ("a row of data, the header is missing", "Put a header above", 1),
    "nothing_but_nuls.csv": ("only NUL bytes", "Get the file again", None),
    "nul.csv": ("NUL", "export it again", 3),
    "only_byte_order_mark.csv": ("is empty", "Export a CSV", None),
    "otp1_column_missing.csv": ("no column otp1", "Add it", 1),
    "own_column_twice.csv": ("column 7 ('Note') means the same as column 6", "Remove or rename", 1),
    "pairs.csv.gz": ("gzip", "Unpack", None),
    "pin_column.csv": ("column 6 ('User PIN') says", "Remove the column", 1),
    "puk_column.csv": ("column 6 ('PUK') says", "Remove the column", 1),
    "seed_column.csv": ("column 6 ('hex_seed') says", "Remove the column", 1),
    "separator_line.csv": ("'sep=' line", "Delete that line", 1),
    "serial_column_missing.csv": ("no column serial", "Add it", 1),
    "rich_text.rtf": ("RTF", "Export a CSV", None),
    "synonym_twice.csv": ("column 7 ('user') means the same as column 6", "Remove or rename", 1),
    "third_otp_column.csv": ("column 6 ('otp3') says", "Remove the column", 1),
    "utf_16_big_endian.csv": ("UTF-16", "CSV UTF-8", None),
    "utf_16_without_mark.csv": ("UTF-16", "CSV UTF-8", None),
    "windows_1252.csv": ("not UTF-8", "CSV UTF-8", 3),
    "workbook.ods": ("spreadsheet", "CSV UTF-8", None),
    "workbook.xlsx": ("spreadsheet", "CSV UTF-8", None),
    "workbook_97.xls": ("spreadsheet", "CSV UTF-8", None),
    "xml_in_utf_16.xml": ("is XML in UTF-16", 'write encoding="UTF-8"', None),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_file_is_refused_with_file_line_problem_and_cure(name: str) -> None:
    path = SAMPLES / "unusable" / name
    problem, cure, row_number = UNUSABLE[name]
    with pytest.raises(UnusableFile) as caught:
        open_shipment(path)
    refusal = caught.value
    assert (problem in refusal.problem, cure in refusal.cure, refusal.row_number) == (True, True, row_number), refusal
    told = [str(path), refusal.problem, refusal.cure, *([f", line {row_number}:"] if row_number else [])]
    assert [part for part in told if part not in str(refusal)] == []
    # A refusal quotes nothing secret.
    assert [secret for secret in ("308714", "d2f7a4af") if secret in str(refusal)] == []


@pytest.mark.parametrize("directory", ["unusable", "good", "bad_row"])
def test_every_sample_has_its_words(directory: str) -> None:
    expected = {"unusable": set(UNUSABLE), "good": set(GOOD), "bad_row": {f"{name}.csv" for name in BAD_ROWS}}
    assert expected[directory] == {path.name for path in (SAMPLES / directory).iterdir()}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        # A separator of lines is part of a name, and is shown as an escape.
        (["serial,otp1,seed\u2028two\n"], r"column 3 \('seed\\u2028two'\) says"),
        (
            ["serial_number;manufacturer;algorithm;seed;digits;interval_or_event\n"],
            r"column 4 \('seed'\) says.*not a known vendor's file of seeds",
        ),
        (["serial,otp1,308714\n"], "column 3 has a value instead of a name"),
        (["serial,otp1,shelf,Shelf\n"], "column 4 \\('Shelf'\\) means the same as column 3"),
        # A page may show a shipment, further below.
        (
            ["# oathbulk\n", "\n", 'It activates "whole shipments.\n', *["More.\n"] * 20, "serial,otp1\n"],
            r"no known header follows.*serial,otp1,otp2,user_id,device_id.*docs/files\.md",
        ),
        (['"# oathbulk"\n', "\n", *["More.\n"] * 20, "serial,otp1\n"], "no known header follows.*docs/files"),
    ],
)
def test_a_header_that_is_none_is_refused_and_no_cell_of_it_quoted(lines: list[str], says: str) -> None:
    with pytest.raises(UnusableFile, match=says) as caught:
        read_header(Path("shipment.csv"), iter(lines))
    assert "308714" not in str(caught.value)
    assert "Delete" not in caught.value.cure


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            b"# of the spring\nserial,otp1,user_id,device_id\nMADE1,111111,u,d\n",
            r"begins with a comment instead of a header\. Delete the lines above",
        ),
        (b",,,,\x0c,,\r\n\x01,,,,,,,\r\nalice,1,2,hotp,6,0\r\n", "the first line names none of the columns"),
        (
            b"serial,email,site\nMADE1,a@x.test,Oslo\n",
            r"no column otp1\. .* list of who gets what, give it with --assign",
        ),
        # A fault far down is found before the first row is used.
        (HEADER + ROW * 5000 + b"\xff\n", "line 5002"),
    ],
    ids=["comments", "separators and controls", "a list", "far down"],
)
def test_a_file_with_such_a_line_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(UnusableFile, match=says):
        open_shipment(write(tmp_path, content))


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, says in (("pipe", "not a regular file"), (".", "not a regular file"), ("absent.csv", "No such file")):
        with pytest.raises(UnusableFile, match=says):
            open_shipment(tmp_path / path)


def test_a_file_that_changes_after_it_was_opened_is_refused(tmp_path: Path) -> None:
    shipment = open_shipment(write(tmp_path, HEADER, ROW))
    write(tmp_path, HEADER, ROW, ROW)
    with pytest.raises(UnusableFile, match="changed"):
        list(shipment.rows())
    shipment.path.unlink()
    with pytest.raises(UnusableFile, match="No such file"):
        list(shipment.rows())


def test_line_numbers_stay_right_across_chunks_and_crlf(tmp_path: Path) -> None:
    shipment = open_shipment(write(tmp_path, (HEADER + ROW * 5000).replace(b"\n", b"\r\n")))
    assert [row.row_number for row in shipment.rows()] == list(range(2, 5002))


def peak(read: Iterator[object]) -> int:
    """Measure how many bytes Python held at most while reading, beyond what it held before."""
    tracemalloc.start()
    try:
        for _ in read:
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def opening(path: Path) -> Iterator[Shipment]:
    with pytest.raises(UnusableFile):
        yield open_shipment(path)


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path) -> None:
    few, many = (peak(open_shipment(write(tmp_path, HEADER, ROW * rows)).rows()) for rows in (2000, 20000))
    assert many < few + 100_000


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b"a" * 50_000_000], id="one endless line"),
        pytest.param([HEADER, ROW, b"a" * 50_000_000], id="an endless line below"),
        pytest.param([b"serial" + b",otp1" * 1_000_000], id="a million columns"),
        pytest.param([b'"' * 50_000_000], id="quotation marks alone"),
        pytest.param([HEADER, b"\0" * 50_000_000], id="NULs"),
    ],
)
def test_a_monstrous_file_is_refused_in_bounded_memory(tmp_path: Path, parts: list[bytes]) -> None:
    path = write(tmp_path, *parts)
    del parts[:]
    assert peak(opening(path)) < 20 * MAX_LINE


def test_more_columns_than_a_shipment_can_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match="more than 200 columns"):
        open_shipment(write(tmp_path, b"serial,otp1", *(b",own%d" % number for number in range(200)), b"\n"))


def assert_only_foreseen_things_happen(path: Path) -> None:
    try:
        rows = list(open_shipment(path).rows())
    except UnusableFile:
        return
    assert all(isinstance(row, Row | RowError) for row in rows)
    numbers = [row.row_number for row in rows]
    assert numbers == sorted(set(numbers))


fuzzed = settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("above", [b"", HEADER + ROW], ids=["alone", "below a good header"])
@fuzzed
@given(content=st.binary(max_size=2000))
def test_any_bytes_give_rows_row_errors_or_an_unusable_file(tmp_path: Path, above: bytes, content: bytes) -> None:
    assert_only_foreseen_things_happen(write(tmp_path, above, content))


LIKELY = (
    "otp1",
    "serial",
    "totp",
    "MADE1",
    "308714",
    "634",
    "2026-03-01",
    "T09:30Z",
    IDS.decode(),
    ROW.decode(),
)
MARKS = ('"', '""', ",", ";", "\n", "\r\n", "\r", " ", "'", "=", "\u2028", "\x0b", "\ufeff", "é", "\ud7ff")
pieces = st.sampled_from([*LIKELY, *MARKS])


@fuzzed
@given(below=st.lists(pieces, max_size=60).map("".join))
def test_any_mixture_of_likely_pieces_does_too(tmp_path: Path, below: str) -> None:
    header = b"serial,otp1,otp2,user_id,device_id,otp_type,generated_at,note\n"
    assert_only_foreseen_things_happen(write(tmp_path, header, below.encode()))


# The cells of a row: each fault costs its own row only, is named with its cure, and quotes no OTP.

# File -> words of the fault, words of the cure. The fault is always on line 3, between two good rows.
BAD_ROWS = {
    "columns_interchanged": ("otp1 has characters other than digits", "in the right column"),
    "cut_off_in_quotes": ("quotation mark is never closed", "remove it"),
    "device_id_missing": ("device_id is missing", "pair the token with --pair"),
    "device_id_not_uuid": ("device_id is not a UUID", "copy the id from PingOne"),
    "generated_at_in_future": ("is in the future", "check its time zone"),
    "generated_at_in_local_style": ("not an ISO 8601 time", "write it like"),
    "generated_at_out_of_range": ("not an ISO 8601 time", "write it like"),
    "generated_at_without_zone": ("no time zone", "add Z"),
    "line_break_in_our_column": ("", ""),
    "otp1_apostrophe": ("otp1 is written as a quoted number", "format the column as Text"),
    "otp1_foreign_digits": ("otp1 has characters other than digits", "format the column as Text"),
    "otp1_formula": ("otp1 is written as a quoted number", "format the column as Text"),
    "otp1_formula_quoted": ("otp1 is written as a quoted number", "format the column as Text"),
    "otp1_lost_zeros": ("otp1 has 3 digits", "format the column as Text and export again"),
    "otp1_missing": ("otp1 is missing", "produce an OTP"),
    "otp1_seven_digits": ("otp1 has 7 digits", "format the column as Text and export again"),
    "otp1_too_long": ("otp1 has more than 8 digits", "right column"),
    "otp1_with_blank_inside": ("otp1 has characters other than digits", "only the 6 or 8 digits"),
    "otp2_letters": ("otp2 has characters other than digits", "only the 6 or 8 digits"),
    "otp2_lost_zeros": ("otp2 has 3 digits", "format the column as Text and export again"),
    "otp2_other_length": ("otp1 and otp2 differ in their number of digits", "export again"),
    "otp_type_unknown": ("otp_type is neither hotp nor totp", "write one of the two"),
    "quotation_mark_inside": ("is inside a quoted value", "double it"),
    "quotation_mark_never_closed": ("quotation mark is never closed", "remove it"),
    "serial_apostrophe": ("serial is written as a quoted number", "format the column as Text"),
    "serial_excel_number": ("the serial was turned into a number", "format the column as Text"),
    "serial_excel_number_with_comma": ("the serial was turned into a number", "format the column as Text"),
    "serial_missing": ("serial is missing", "printed on the token"),
    "serial_too_long": ("serial has more than 50 characters", "token inventory"),
    "serial_with_hyphen": ("serial has characters other than letters and digits", "token inventory"),
    "too_few_fields": ("3 fields, but the header has 5", "cut off"),
    "too_many_fields": ("6 fields, but the header has 5", "in quotation marks"),
    "totp_same_otps": ("read twice within one time step", "produce the pair again"),
    "totp_without_generated_at": ("generated_at is missing", "in a column generated_at"),
    "user_id_missing": ("user_id is missing", "add one of these columns"),
    "user_id_not_uuid": ("user_id is not a UUID", "copy the id from PingOne"),
    "username_alone": ("device_id is missing", "pair the token with --pair"),
}


@pytest.mark.parametrize("name", sorted(BAD_ROWS.keys() - {"line_break_in_our_column"}))
def test_a_bad_row_is_refused_with_its_cure_and_the_rows_around_it_come_through(name: str) -> None:
    rows = read_sample(f"bad_row/{name}.csv")
    assert [(type(row), row.row_number) for row in rows] == [(Row, 2), (RowError, 3), (Row, 4)]
    assert [words for words in BAD_ROWS[name] if words not in rows[1].reason] == []


def test_a_line_break_in_a_column_of_ours_is_a_stray_quotation_mark() -> None:
    rows = read_sample("bad_row/line_break_in_our_column.csv")
    assert [(type(row), row.row_number) for row in rows] == [(Row, 2), (RowError, 3), (RowError, 4), (Row, 5)]
    assert "line breaks" in rows[1].reason


@pytest.mark.parametrize("name", BAD_ROWS)
def test_no_error_quotes_an_otp_of_the_file_nor_what_is_left_of_one(name: str) -> None:
    text = (SAMPLES / "bad_row" / f"{name}.csv").read_text(encoding="utf-8")
    digits = set(re.findall(r"(?<![\w-])(?:\d{3}|\d{6,9})(?![\w-])", text)) | {"OOO634", "283 920"}
    for error in read_sample(f"bad_row/{name}.csv"):
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
    rows = read_sample(f"bad_row/{name}.csv")
    assert [row.serial_number for row in rows if isinstance(row, RowError)] == [serial_number]


USER_ID, DEVICE_ID = IDS.decode().split(",")
PAIRS = "serial,otp1,otp2,user_id,device_id"
TIMED = f"{PAIRS},otp_type,generated_at"
HEX_SEED, BASE32_SEED = "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b", "2L32JL73CY5NSXZVSP2MN6NQLOE2QEC3"
NO_TOKEN = "the row names columns, like a header, and no token: delete it"


def read_row(header: str, *cells: str) -> Row | RowError:
    return PairReader(read_header(Path("shipment.csv"), iter([header])), NOON).read(2, list(cells))


@pytest.mark.parametrize(
    ("header", "cells", "begins", "serial_number"),
    [
        # A reason names the column as the file does.
        ("serial,otp1,UserID,device_id", ["MADE1", "308714", "x", ""], "UserID is not a UUID", "MADE1"),
        *[
            (PAIRS, ["MADE1", "308714", "", USER_ID, "d" * long], "device_id is not a UUID", "MADE1")
            for long in (37, 100)
        ],
        ("Serial Number,OTP 1,user_id,device_id", ["MADE1", "30x714", "", ""], "OTP 1 has characters other", "MADE1"),
        (
            "Serial Number,otp1,user_id,device_id",
            ["MADE-1", "308714", "", ""],
            "Serial Number has characters other",
            None,
        ),
        # A header between the rows is called one.
        *(
            (PAIRS, [name, "otp1", "otp2", "user_id", "device_id"], NO_TOKEN, None)
            for name in ("serial", "\ufeffserial")
        ),
        (PAIRS, ["Serial Number", "otp1", "otp2", "user_id", "device_id"], NO_TOKEN, None),
        # A wrong time is refused on an HOTP row too.
        (f"{PAIRS},generated_at", ["MADE1", "308714", "", USER_ID, DEVICE_ID, "yesterday"], "generated_at", "MADE1"),
        (
            PAIRS,
            ["00012345678901234567890123", "308714", "12", USER_ID, DEVICE_ID],
            "otp2",
            "00012345678901234567890123",
        ),
        # An OTP or a seed in the serial's place, or a serial behind a shift of fields, is not named.
        ("otp1,serial,otp2,user_id,device_id", ["MADE1", "308714", "367299", USER_ID, DEVICE_ID], "otp1", None),
        ("username,serial,otp1,user_id,device_id", ["MADE1", "L7", USER_ID, DEVICE_ID], "the row has", None),
        *(
            (PAIRS, [seed, *rest], begins, None)
            for seed in (HEX_SEED, BASE32_SEED)
            for rest, begins in [
                (["MADE1", "367299", USER_ID, DEVICE_ID], "otp1"),
                (["", "", USER_ID, DEVICE_ID], "otp1"),
                (["MADE1"], "the row has"),
            ]
        ),
    ],
)
def test_a_refused_row_names_its_column_and_its_serial_number_where_there_is_no_doubt_about_it(
    header: str, cells: list[str], begins: str, serial_number: str | None
) -> None:
    row = read_row(header, *cells)
    assert (row.reason.startswith(begins), row.serial_number) == (True, serial_number), row
    assert not [secret for secret in ("308714", HEX_SEED, BASE32_SEED) if secret in repr(row)]


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        # Blanks around a value are dropped, and columns may stand in any order.
        (
            PAIRS,
            [" MADE1 ", "308714 ", "\t000634", USER_ID, DEVICE_ID],
            {"serial_number": "MADE1", "otps": OtpPair(Otp("308714"), Otp("000634"))},
        ),
        (
            "device_id,lot,otp2,user_id,otp1,serial",
            [DEVICE_ID, "L-7", "", USER_ID, "308714", "MADE1"],
            {"user_id": USER_ID, "device_id": DEVICE_ID, "lot": "L-7", "otps": OtpPair(Otp("308714"), None)},
        ),
        (
            "serial,otp1,not_before,shelf",
            ["MADE1", "308714", "kept back", "1308714"],
            {"not_before": UNTIL_LET_GO, "extra": {"shelf": "1308714"}},
        ),
        # A clock may be five minutes ahead of ours.
        *(
            (
                TIMED,
                ["MADE1", "308714", "", USER_ID, DEVICE_ID, "totp", generated_at],
                {"generated_at": datetime(2026, 3, 1, 12, 5, tzinfo=UTC)},
            )
            for generated_at in ("2026-03-01T12:05:00Z", "2026-03-01T13:05:00+01:00", "20260301T120500Z")
        ),
    ],
)
def test_a_row_is_read(header: str, cells: list[str], expected: dict[str, Any]) -> None:
    row = read_row(header, *cells)
    assert {name: getattr(row, name) for name in expected} == expected


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_the_one_that_shows_our_columns(delimiter: str) -> None:
    # Blank lines may stand above.
    lines = ["\n", ",,,\r\n", delimiter.join(["serial", "otp1", '"Hall, shelf; row"']) + "\r\n"]
    header = read_header(Path("shipment.csv"), iter(lines))
    assert (header.delimiter, header.row_number, header.own_names) == (delimiter, 3, {"Hall, shelf; row": 2})
    assert header.meanings == ["serial", "otp1", ""]


def test_empty_columns_at_the_end_are_none() -> None:
    header = read_header(Path("shipment.csv"), iter(["serial,otp1,, ,\n"]))
    assert header.names == ["serial", "otp1"]
    rows = (["MADE1", "308714", "", " ", ""], ["MADE1", "308714", "", "x"], ["MADE1"])
    assert [PairReader(header, NOON).is_fitting(row) for row in rows] == [True, False, False]


@settings(max_examples=300)
@given(cells=st.lists(st.text("0123456789\u0663 '=\".,-", max_size=60), min_size=9, max_size=9))
def test_no_reason_quotes_a_cell_whatever_is_in_it(cells: list[str]) -> None:
    row = read_row(f"{PAIRS},username,otp_type,generated_at,lot", *cells)
    assert not [cell for cell in cells if len(cell) >= 6 and cell in row.reason]


# Files of seeds in CSV: which line is the header, and which are comments.

SECRET = "NMPYLX6NE5RWS7DOHVVPIZSDKIH5ULM3"
ENTRA_HEADER = "upn,serial number,secret key,time interval,manufacturer,model"
ENTRA_ROW = f"alice@x.test,MADE0000003,{SECRET},30,M,T"
OATH = f"MADE0000001,{SECRETS['MADE0000001']},hotp,6,0"
SECOND_ROW = f"MADE0000003,{SECRET},30"
STEPS = "serial number,secret key,time interval"
NUMBERED = f"#No,{STEPS}"
CALLED_HOTP = ["is called HOTP"]


@pytest.mark.parametrize(
    ("lines", "read"),
    [
        # A comment is the header only where there is no other.
        (("# Columns: upn, serial number, secret key, and the vendor's", ENTRA_HEADER, ENTRA_ROW), ["MADE0000003"]),
        ((f"# x,{STEPS}", ENTRA_HEADER, ENTRA_ROW), ["MADE0000003"]),
        (("# Tokens of the spring", "", ENTRA_HEADER, ENTRA_ROW), ["MADE0000003"]),
        ((NUMBERED, f"1,{SECOND_ROW}"), ["MADE0000003"]),
        (("# Tokens of the spring", NUMBERED, f"#1,{SECOND_ROW}"), ["MADE0000003"]),
        # Cells that are empty at its end may be missing.
        ((f"{NUMBERED},note", f"#1,{SECOND_ROW}"), ["MADE0000003"]),
        # Above rows without a header it is none.
        (("# serial, secret key, type, digits, counter", OATH), ["MADE0000001"]),
        (("# exported by hand, secret key, in hexadecimal", OATH), ["MADE0000001"]),
        (("# Reference, Data", OATH), ["MADE0000001"]),
        (("# pairs (serial, otp1, otp2) are in the other file", OATH), ["MADE0000001"]),
        # A row in a comment is not read; but below a header that begins with a hash nothing with a separator vanishes.
        ((ENTRA_HEADER, ENTRA_ROW, f"#{ENTRA_ROW}"), ["MADE0000003"]),
        ((ENTRA_HEADER, ENTRA_ROW, "# lost, see ticket 12, and do, not, load"), ["MADE0000003"]),
        ((ENTRA_HEADER, ENTRA_ROW, "# the last"), ["MADE0000003"]),
        ((NUMBERED, f"#1,{SECOND_ROW}", "# The last one", "#2,MADE0000004"), ["MADE0000003", "secret"]),
        # A column of the file's own may be called what another means, and one that is not kept may stand twice.
        ((f"{STEPS},step,data,,", f"{SECOND_ROW},first,browns"), ["MADE0000003"]),
        ((f"{STEPS},,,pin,pin,note", f"{SECOND_ROW},,,1,2,x"), ["MADE0000003"]),
        # A token that is called HOTP is not read as TOTP.
        (("serial,secret key,type", f"MADE0000003,{SECRET},hotp"), CALLED_HOTP),
        (("serial,secret key,Time Interval,OTP Type", f"{SECOND_ROW},OATH-HOTP"), CALLED_HOTP),
        (("--otp-type hotp", ENTRA_HEADER, ENTRA_ROW), CALLED_HOTP),
    ],
)
def test_a_file_of_seeds_gives_its_tokens_or_says_why_not(
    tmp_path: Path, lines: tuple[str, ...], read: list[str]
) -> None:
    hints = Hints(otp_type="hotp") if lines[0] == "--otp-type hotp" else Hints()
    path = tmp_path / "tokens.csv"
    path.write_text("".join(f"{line}\n" for line in lines if not line.startswith("--")))
    for row, each in zip(read_seed_file(path, hints), read, strict=True):
        assert row.serial_number == each if isinstance(row, Row) else each in row.reason


# A token on several rows.

SEED, OTHER_SEED = "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b", "a0885adbaffffc081cccc88dfaf9cb509e3361cf"
PERSON = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f"
NEW_DEVICE = "0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a0"


def pair(serial: str = "MADE1", otp1: str = "308714", otp2: str = "367299", **cells: str) -> str:
    """A row of a file of pairs; its device has a number of its own for each serial number."""
    own = {"device_id": NEW_DEVICE + serial[-1], "user_id": PERSON} | cells
    names = ("user_id", "device_id", "username", "otp_type", "generated_at", "lot", "site", "file_row")
    return ",".join([serial, otp1, otp2, *(own.get(name, "") for name in names)])


def read_pairs(directory: Path, *rows: str) -> list[Row | RowError]:
    header = "serial,otp1,otp2,user_id,device_id,username,otp_type,generated_at,lot,site,file_row\n"
    path = write(directory, header.encode(), ("\n".join(rows) + "\n").encode())
    return list(open_shipment(path, hints=Hints(mends=True)).tokens())


def test_an_otp_in_a_column_of_a_person_s_own_would_be_kept_unencrypted() -> None:
    row = read_row("serial,otp1,otp2,note", "MADE1", "308714", "367299", "then: 367299")
    assert (row.serial_number, row.reason.startswith("one of your own columns contains an OTP")) == ("MADE1", True)


def read_seeds(directory: Path, *rows: str, who: str = "") -> list[Row | RowError]:
    (directory / "who.csv").write_text(who)
    assignment = open_assignment(directory / "who.csv") if who else None
    return list(open_shipment(write(directory, ("\n".join(rows) + "\n").encode()), assignment=assignment).tokens())


def refused(rows: list[Row | RowError]) -> dict[int, str]:
    """The reasons of refused rows, by their numbers."""
    errors = [row for row in rows if isinstance(row, RowError)]
    assert {error.fault for error in errors} <= {RowFault.REPEATED}
    return {error.row_number: error.reason for error in errors}


OTHER_DEVICE = NEW_DEVICE + "7"
ORIGIN = {"file_row": "2", "device_id": ""}
SAME = "the serial number is on row 2 of this file already, with the same values: delete one of the two rows"
CONTRADICTS = "the serial number is on row {} of this file too, and these rows differ"


@pytest.mark.parametrize(
    "other",
    [
        f"MADE1,{OTHER_SEED},hotp,6,0",
        f"MADE1,{SEED},hotp,8,0",
        f"MADE1,{SEED},hotp,6,7",
        f"MADE1,{SEED},totp,6,30",
        f"made1,{OTHER_SEED},hotp,6,0",
        f" MADE1 ,{OTHER_SEED},hotp,6,0",
    ],
)
def test_a_seed_that_another_row_contradicts_makes_neither_of_them_a_token(tmp_path: Path, other: str) -> None:
    """An OTP that we made ourselves would prove the wrong seed as well as the right one."""
    rows = read_seeds(tmp_path, f"MADE1,{SEED},hotp,6,0", f"MADE2,{SEED[::-1]},hotp,6,0", other)
    reasons = refused(rows)
    assert reasons.keys() == {1, 3}
    assert [reasons[1].startswith(CONTRADICTS.format(3)), reasons[3].startswith(CONTRADICTS.format(1))] == [True, True]


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        # Each fact that differs refuses both rows.
        *(
            ([pair(), pair(**cells)], {2: "the serial number is on row 3", 3: "the serial number is on row 2"})
            for cells in [
                {"otp1": "000000"},
                {"otp2": "000000"},
                {"otp2": ""},
                {"device_id": NEW_DEVICE + "9"},
                {"device_id": ""},
                {"user_id": PERSON.replace("6", "5")},
                {"username": "ada"},
                {"otp_type": "totp", "generated_at": "2026-03-01T09:30:00Z"},
                {"generated_at": "2026-03-01T09:30:00Z"},
            ]
        ),
        # Neither columns of a person's own nor the lot change anything in PingOne, so that one of the rows is loaded.
        *(
            ([pair(), pair(**cells), pair()], {3: SAME, 4: SAME})
            for cells in [
                {},
                {"site": "Oslo"},
                {"lot": "7"},
                {"device_id": NEW_DEVICE.upper() + "1"},
                {"serial": "made1"},
            ]
        ),
        # A name in other capitals is the same person.
        ([pair(username="Ada"), pair(username="ada")], {3: SAME}),
        # Rows that say the same are refused too where a third does not.
        (
            [pair(), pair(), pair(otp1="000000"), pair()],
            {row: CONTRADICTS.format(other) for row, other in {2: 4, 3: 2, 4: 2, 5: 2}.items()},
        ),
        # Two tokens on one device, and two rows of one record of which one lost its zeros.
        (
            [pair("MADE1", device_id=OTHER_DEVICE), pair("MADE2", device_id=OTHER_DEVICE)],
            {2: "the device is on row 3 of this file too", 3: "the device is on row 2 of this file too"},
        ),
        (
            [pair("0071", **ORIGIN), pair("71", "000000", **ORIGIN)],
            {2: "the file_row is on row 3 of this file too", 3: "the file_row is on row 2 of this file too"},
        ),
    ],
)
def test_rows_of_one_token_are_refused_but_for_one_where_all_say_the_same(
    tmp_path: Path, rows: list[str], reasons: dict[int, str]
) -> None:
    told = refused(read_pairs(tmp_path, *rows))
    assert told.keys() == reasons.keys()
    assert [row for row, begins in reasons.items() if not told[row].startswith(begins)] == []


def test_a_secret_of_two_serial_numbers_makes_neither_of_them_a_token(tmp_path: Path) -> None:
    others = [f"MADE{number},{SEED},hotp,6,0" for number in (2, 1, 3)]
    rows = read_seeds(tmp_path, f"MADE1,{SEED},hotp,6,0", f"MADE4,{OTHER_SEED},hotp,6,0", *others)
    says = {
        row: re.search(r"belongs to another serial number, on row (\d)", reason)
        for row, reason in refused(rows).items()
    }
    assert {row: found and found[1] for row, found in says.items()} == {1: "3", 3: "1", 4: "3", 5: "1"}


def test_a_row_that_cannot_be_read_says_nothing_about_its_token(tmp_path: Path) -> None:
    first, second = read_pairs(tmp_path, pair(otp1="12"), pair())
    assert (first.fault, type(second)) == (RowFault.OTPS_UNFIT, Row)


def test_a_person_whom_the_list_fills_in_is_the_person_of_both_rows(tmp_path: Path) -> None:
    """And a list that gives two tokens one device contradicts itself, as a file does."""
    seeds = [f"MADE1,{SEED},hotp,6,0", f"MADE1,{SEED},hotp,6,0", f"MADE2,{OTHER_SEED},hotp,6,0"]
    who = f"serial,username,device_id\nMADE1,ada,{NEW_DEVICE}1\nMADE2,ben,"
    assert refused(read_seeds(tmp_path, *seeds, who=f"{who}{NEW_DEVICE}2\n")).keys() == {2}
    assert refused(read_seeds(tmp_path, *seeds, who=f"{who}{NEW_DEVICE}1\n")).keys() == {1, 2, 3}


def test_two_keys_of_one_package_are_no_one_token(tmp_path: Path) -> None:
    """The keys of a package have its serial number; one that PingOne would not take stands in nobody's way."""
    package = (PSKC / "several_keys.xml").read_text()
    first, ocra = 'Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:hotp"', "urn:ietf:params:xml:ns:keyprov:pskc:OCRA"
    assert package.count(first) == 2
    path = tmp_path / "box.xml"
    path.write_text(package)
    assert [row.row_number for row in open_shipment(path).tokens() if isinstance(row, Row)] == [1, 4]

    # The secret of the third key, which is that of the fourth.
    package = package.replace("oIfa62//wIEczMiN+vnLUJ4zYc8=", "oIfa62//wIEczMiN+vnLUJ4zYc9AAAAA", 1)
    path.write_text(package.replace(f"{ocra}:HOTP-SHA1-6:QA08", first.split('"')[1]))
    rows = list(open_shipment(path).tokens())
    assert [row.row_number for row in rows if isinstance(row, Row)] == [4]
    reasons = {row.row_number: row.reason for row in rows if isinstance(row, RowError)}
    assert ["is on row 3 of" in reasons[1], "is on row 1 of" in reasons[3]] == [True, True]
