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

from models.row_fault import RowFault
from worker.intake import Hints, Row, RowError, Shipment, UnusableFile, open_assignment, open_shipment
from worker.intake.files import MAX_LINE
from worker.vault.otps import Otp, OtpPair

SAMPLES = Path(__file__).parents[2] / "samples" / "otp_pairs"
PSKC = Path(__file__).parents[2] / "samples" / "formats" / "pskc"
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
    suppress_health_check=[HealthCheck.function_scoped_fixture],
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


def read_seeds(directory: Path, *rows: str, who: str = "") -> list[Row | RowError]:
    (directory / "who.csv").write_text(who)
    assignment = open_assignment(directory / "who.csv") if who else None
    return list(open_shipment(write(directory, ("\n".join(rows) + "\n").encode()), assignment=assignment).tokens())


def refused(rows: list[Row | RowError]) -> dict[int, str]:
    """The reasons of refused rows, by their numbers."""
    errors = [row for row in rows if isinstance(row, RowError)]
    assert {error.fault for error in errors} <= {RowFault.REPEATED}
    return {error.row_number: error.reason for error in errors}


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
    rows = read_seeds(tmp_path, f"MADE1,{SEED},hotp,6,0", f"MADE2,{SEED},hotp,6,0", other)
    reasons = refused(rows)
    assert reasons.keys() == {1, 3}
    assert reasons[1].startswith("the serial number stands on row 3 of this file too, and the rows with it do not all")
    assert reasons[3].startswith("the serial number stands on row 1 of this file too, and the rows with it do not all")
    assert isinstance(rows[1], Row)


@pytest.mark.parametrize(
    "cells",
    [
        {"otp1": "000000"},
        {"otp2": "000000"},
        {"otp2": ""},
        {"device_id": NEW_DEVICE + "9"},
        {"device_id": ""},
        {"user_id": PERSON.replace("6", "5")},
        {"username": "ada"},
        {"otp_type": "totp", "generated_at": "2026-03-01T09:30:00Z"},
        {"generated_at": "2026-03-01T09:30:00Z"},
    ],
    ids=str,
)
def test_each_fact_that_differs_refuses_both_rows(tmp_path: Path, cells: dict[str, str]) -> None:
    reasons = refused(read_pairs(tmp_path, pair(), pair(**cells)))
    assert reasons.keys() == {2, 3}
    assert "row 3" in reasons[2]
    assert "row 2" in reasons[3]


@pytest.mark.parametrize(
    "cells",
    [{}, {"site": "Oslo"}, {"lot": "7"}, {"device_id": NEW_DEVICE.upper() + "1"}, {"serial": "made1"}],
    ids=str,
)
def test_of_rows_that_say_the_same_one_is_loaded_and_the_others_name_it(tmp_path: Path, cells: dict[str, str]) -> None:
    """Neither columns of a person's own nor the lot change anything in PingOne."""
    reasons = refused(read_pairs(tmp_path, pair(), pair(**cells), pair()))
    same = "the serial number stands on row 2 of this file already, and all is the same there: delete one of the two"
    assert reasons == {3: f"{same} rows", 4: f"{same} rows"}


def test_a_name_in_other_capitals_is_the_same_person(tmp_path: Path) -> None:
    assert refused(read_pairs(tmp_path, pair(username="Ada"), pair(username="ada"))).keys() == {3}


def test_rows_that_say_the_same_are_refused_too_where_a_third_does_not(tmp_path: Path) -> None:
    reasons = refused(read_pairs(tmp_path, pair(), pair(), pair(otp1="000000"), pair()))
    assert [int(reason.split("on row ")[1].split()[0]) for reason in reasons.values()] == [4, 2, 2, 2]
    assert len(reasons) == 4


def test_two_tokens_on_one_device_are_both_refused(tmp_path: Path) -> None:
    device = NEW_DEVICE + "7"
    reasons = refused(read_pairs(tmp_path, pair("MADE1", device_id=device), pair("MADE2", device_id=device)))
    assert reasons.keys() == {2, 3}
    assert reasons[2].startswith("the device stands on row 3 of this file too")


def test_two_rows_of_one_record_are_both_refused_although_one_lost_its_zeros(tmp_path: Path) -> None:
    origin = {"file_row": "2", "device_id": ""}
    reasons = refused(read_pairs(tmp_path, pair("0071", **origin), pair("71", "000000", **origin)))
    assert reasons.keys() == {2, 3}
    assert reasons[3].startswith("the file_row stands on row 2 of this file too")


def test_a_row_that_cannot_be_read_says_nothing_about_its_token(tmp_path: Path) -> None:
    first, second = read_pairs(tmp_path, pair(otp1="12"), pair())
    assert isinstance(first, RowError)
    assert first.fault == RowFault.OTPS_UNFIT
    assert isinstance(second, Row)


def test_a_person_whom_the_list_fills_in_is_the_person_of_both_rows(tmp_path: Path) -> None:
    """And a list that gives two tokens one device contradicts itself, as a file does."""
    seeds = [f"{serial},{SEED},hotp,6,0" for serial in ("MADE1", "MADE1", "MADE2")]
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

    path.write_text(package.replace(f"{ocra}:HOTP-SHA1-6:QA08", first.split('"')[1]))
    rows = list(open_shipment(path).tokens())
    assert [row.row_number for row in rows if isinstance(row, Row)] == [4]
    reasons = {row.row_number: row.reason for row in rows if isinstance(row, RowError)}
    assert "stands on row 3 of this file too" in reasons[1]
    assert "stands on row 1 of this file too" in reasons[3]
