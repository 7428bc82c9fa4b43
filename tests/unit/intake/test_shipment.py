"""Whole files: what a good one yields, what makes one unusable, and what reading one costs."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.intake import Row, RowError, Shipment, UnusableFile, open_shipment
from worker.intake.lines import MAX_LINE
from worker.vault.otp import Otp, OtpPair

SAMPLES = Path(__file__).parents[2] / "samples" / "otp_pairs"
HEADER = b"serial,otp1,otp2,user_id,device_id\n"
IDS = b"6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f,0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a09"
ROW = b"MADE0000001,308714,367299," + IDS + b"\n"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

GOOD = sorted(path.name for path in (SAMPLES / "good").iterdir())

# File -> words of the problem, words of the cure, the line it is about.
UNUSABLE = {
    "archive.zip": ("zip archive", "Unpack", None),
    "column_twice.csv": ("column 6 ('OTP 1') means the same as column 2", "Remove or rename", 1),
    "column_without_name.csv": ("column 3 has no name", "Name the column", 1),
    "empty.csv": ("is empty", "Export a CSV", None),
    "encrypted.asc": ("PGP", "decrypt", None),
    "excel_unicode_text.txt": ("UTF-16", "CSV UTF-8", None),
    "foreign_header.csv": ("names none of the columns", "Put a header above", 1),
    "header_alone.csv": ("a header and no rows", "one row a token", None),
    "header_quotation_mark.csv": ("quotation marks in the header", "Close", 1),
    "inventory.json": ("JSON", "Export a CSV", None),
    "key_column.csv": ("column 6 ('tokenKey') says", "Remove the column", 1),
    "listing.pdf": ("PDF", "Export a CSV", None),
    "login_page.html": ("XML or HTML", "Export a CSV", None),
    "mixed_encodings.csv": ("not UTF-8", "CSV UTF-8", 3),
    "no_header.csv": ("a row of data, the header is missing", "Put a header above", 1),
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
    "synonym_twice.csv": ("column 7 ('user') means the same as column 6", "Remove or rename", 1),
    "third_otp_column.csv": ("column 6 ('otp3') says", "Remove the column", 1),
    "utf_16_big_endian.csv": ("UTF-16", "CSV UTF-8", None),
    "utf_16_without_mark.csv": ("UTF-16", "CSV UTF-8", None),
    "windows_1252.csv": ("not UTF-8", "CSV UTF-8", 3),
    "workbook.ods": ("spreadsheet", "CSV UTF-8", None),
    "workbook.xlsx": ("spreadsheet", "CSV UTF-8", None),
    "workbook_97.xls": ("spreadsheet", "CSV UTF-8", None),
}


def good(name: str) -> list[Row | RowError]:
    return list(open_shipment(SAMPLES / "good" / name, clock=lambda: NOON).rows())


def write(directory: Path, *parts: bytes) -> Path:
    path = directory / "shipment.csv"
    path.write_bytes(b"".join(parts))
    return path


def test_a_pair_is_read_with_its_leading_zeros_and_its_line_number() -> None:
    first, second = good("pairs.csv")
    assert first == Row(
        row_number=2,
        serial_number="MADE0000001",
        user_id="6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f",
        device_id="0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a09",
        otps=OtpPair(Otp("308714"), Otp("367299")),
        otp_type="hotp",
        generated_at=None,
        lot=None,
        username=None,
        extra={},
    )
    assert isinstance(second, Row)
    assert second.otps == OtpPair(Otp("283920"), Otp("000634"))


@pytest.mark.parametrize(
    "name",
    [
        "semicolons.csv",
        "tabs.csv",
        "excel_utf8.csv",
        "last_line_without_end.csv",
        "quoted.csv",
        "trailing_empty_columns.csv",
    ],
)
def test_another_dress_of_the_same_file_gives_the_same_rows(name: str) -> None:
    assert good(name) == good("pairs.csv")


@pytest.mark.parametrize("name", GOOD)
def test_a_good_sample_has_no_row_error(name: str) -> None:
    rows = good(name)
    assert len(rows) == 2
    assert all(isinstance(row, Row) for row in rows)


def test_a_header_is_known_by_its_synonyms_and_told_as_written() -> None:
    shipment = open_shipment(SAMPLES / "good" / "header_synonyms.csv")
    assert shipment.columns == ["Serial Number", "First-OTP", "NEXT OTP", "UserId", "DEVICE_ID", "Email"]
    assert [row.email for row in shipment.rows() if isinstance(row, Row)] == [
        "alice@example.test",
        "bob@example.test",
    ]


def test_blank_lines_are_no_rows_but_they_count_as_lines() -> None:
    assert [row.row_number for row in good("blank_lines.csv")] == [3, 5]


def test_columns_of_the_file_s_own_are_kept_with_their_line_breaks() -> None:
    first, second = good("own_columns.csv")
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert first.extra == {"Building": "Hall 1, east", "note": "left shelf\nsecond row"}
    assert (first.row_number, second.row_number) == (2, 4)


def test_a_totp_row_brings_its_time_in_utc_its_lot_and_its_username() -> None:
    first, second = good("totp.csv")
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert first.otp_type == "totp"
    assert first.generated_at == datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    assert first.generated_at.utcoffset() is not None
    assert (first.lot, first.username) == ("L-7", "alice@example.test")
    assert (second.otp_type, second.generated_at, second.lot, second.username) == ("hotp", None, None, None)


def test_a_second_otp_may_be_missing() -> None:
    first = good("second_otp_missing.csv")[0]
    assert isinstance(first, Row)
    assert first.otps == OtpPair(Otp("308714"), None)


def test_ids_come_out_in_lower_case(tmp_path: Path) -> None:
    (row,) = open_shipment(write(tmp_path, HEADER, ROW.upper().replace(b"MADE", b"made"))).rows()
    assert isinstance(row, Row)
    assert row.user_id == "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f"
    assert row.device_id == "0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a09"
    assert row.serial_number == "made0000001"


def test_a_shipment_can_be_read_again_and_names_the_digest_of_its_bytes() -> None:
    path = SAMPLES / "good" / "excel_utf8.csv"
    shipment = open_shipment(path)
    assert shipment.path == path
    assert shipment.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(shipment.rows()) == list(shipment.rows())


def test_the_repr_of_a_row_shows_no_otp_and_nothing_unknown() -> None:
    for row in good("own_columns.csv"):
        assert "308714" not in repr(row)
        assert "283920" not in repr(row)
        assert "Hall" not in repr(row)


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_file_is_refused_with_file_line_problem_and_cure(name: str) -> None:
    path = SAMPLES / "unusable" / name
    problem, cure, row_number = UNUSABLE[name]
    with pytest.raises(UnusableFile) as caught:
        open_shipment(path)
    assert problem in caught.value.problem
    assert cure in caught.value.cure
    assert caught.value.row_number == row_number
    assert str(path) in str(caught.value)
    assert caught.value.problem in str(caught.value)
    assert caught.value.cure in str(caught.value)
    assert f", line {row_number}:" in str(caught.value) or row_number is None


def test_every_unusable_sample_has_its_words() -> None:
    assert sorted(UNUSABLE) == sorted(path.name for path in (SAMPLES / "unusable").iterdir())


@pytest.mark.parametrize("name", ["no_header.csv", "column_twice.csv", "seed_column.csv"])
def test_the_refusal_of_a_file_quotes_nothing_secret(name: str) -> None:
    with pytest.raises(UnusableFile) as caught:
        open_shipment(SAMPLES / "unusable" / name)
    assert "308714" not in str(caught.value)
    assert "d2f7a4af" not in str(caught.value)


def test_a_missing_file_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match="No such file"):
        open_shipment(tmp_path / "absent.csv")


def test_a_directory_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match="not a regular file"):
        open_shipment(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnusableFile, match="not a regular file"):
        open_shipment(tmp_path / "pipe")


def test_a_file_that_changes_after_it_was_opened_is_refused(tmp_path: Path) -> None:
    shipment = open_shipment(write(tmp_path, HEADER, ROW))
    write(tmp_path, HEADER, ROW, ROW)
    with pytest.raises(UnusableFile, match="changed"):
        list(shipment.rows())


def test_a_file_that_vanishes_after_it_was_opened_is_refused(tmp_path: Path) -> None:
    shipment = open_shipment(write(tmp_path, HEADER, ROW))
    shipment.path.unlink()
    with pytest.raises(UnusableFile, match="No such file"):
        list(shipment.rows())


def test_a_fault_far_down_is_found_before_the_first_row_is_used(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile) as caught:
        open_shipment(write(tmp_path, HEADER, ROW * 5000, b"\xff\n"))
    assert caught.value.row_number == 5002


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
    few = open_shipment(write(tmp_path, HEADER, ROW * 2000))
    few_peak = peak(few.rows())
    many = open_shipment(write(tmp_path, HEADER, ROW * 20000))
    assert peak(many.rows()) < few_peak + 100_000


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
    names = ",".join(f"own{n}" for n in range(200)).encode()
    with pytest.raises(UnusableFile, match="more than 200 columns"):
        open_shipment(write(tmp_path, b"serial,otp1,", names, b"\n"))


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
    deadline=2000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@fuzzed
@given(content=st.binary(max_size=2000))
def test_any_bytes_give_rows_row_errors_or_an_unusable_file(tmp_path: Path, content: bytes) -> None:
    assert_only_foreseen_things_happen(write(tmp_path, content))


@fuzzed
@given(content=st.binary(max_size=2000))
def test_any_bytes_below_a_good_header_do_too(tmp_path: Path, content: bytes) -> None:
    assert_only_foreseen_things_happen(write(tmp_path, HEADER, ROW, content))


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
