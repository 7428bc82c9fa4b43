"""CSVs: a quotation mark that is never closed costs one row only; which line is the header, and which are comments."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.data.seed_files import SECRETS, read

from worker.intake import Hints, Row, RowError, UnusableFile
from worker.intake.csv_rows import MAX_ROW_LINES, split_rows
from worker.intake.formats import choose_format
from worker.intake.otp_pairs import PairReader, read_header


def split(*lines: str) -> list[tuple[int, list[str] | None]]:
    """Split these lines below the header `serial,otp1,note`, whose column `note` is the file's own."""
    with_ends = iter("\n".join(["serial,otp1,note", *lines, ""]).splitlines(keepends=True))
    header = read_header(Path("shipment.csv"), with_ends)
    reader = PairReader(header, datetime.now(UTC))
    return list(split_rows(with_ends, ",", 1, 3, is_one_row=reader.is_one_row))


def test_a_row_of_many_lines_has_the_number_of_its_first() -> None:
    assert split('A,1,"x\ny\nz"', "B,2,") == [(2, ["A", "1", "x\ny\nz"]), (5, ["B", "2", ""])]


def test_a_mark_left_open_costs_its_own_row_only() -> None:
    rows = split('A,1,"x', *["B,2,"] * 100)
    assert rows[0] == (2, None)
    assert rows[1:] == [(number, ["B", "2", ""]) for number in range(3, 103)]


def test_two_marks_left_open_cost_their_own_rows_only() -> None:
    assert split('A,"1,x', "B,2,", 'C,3",x', "D,4,") == [
        (2, None),
        (3, ["B", "2", ""]),
        (4, ["C", '3"', "x"]),
        (5, ["D", "4", ""]),
    ]


def test_a_mark_left_open_on_the_last_line_is_no_row() -> None:
    assert split("A,1,", 'B,2,"x') == [(2, ["A", "1", ""]), (3, None)]


def test_a_mark_in_the_middle_of_a_bare_value_is_a_character() -> None:
    assert split('A,1,6" case') == [(2, ["A", "1", '6" case'])]


def test_text_behind_a_closing_mark_is_refused_and_not_glued_on() -> None:
    assert split('A,"30"8714,') == [(2, None)]


def test_a_value_may_have_as_many_lines_as_are_allowed_and_not_one_more() -> None:
    longest = "\n".join("x" * MAX_ROW_LINES)
    assert split(f'A,1,"{longest}"', "B,2,") == [(2, ["A", "1", longest]), (22, ["B", "2", ""])]
    assert split(f'A,1,"{longest}\n"', "B,2,")[0] == (2, None)


SECRET = "NMPYLX6NE5RWS7DOHVVPIZSDKIH5ULM3"
HEADER = "upn,serial number,secret key,time interval,manufacturer,model"
ROW = f"alice@x.test,MADE0000003,{SECRET},30,M,T"
OATH = f"MADE0000001,{SECRETS['MADE0000001']},hotp,6,0"


def serials(tmp_path: Path, *lines: str) -> list[str]:
    """The serial numbers of a file's rows, or why they are refused."""
    path = tmp_path / "tokens.csv"
    path.write_text("".join(f"{line}\n" for line in lines))
    return [each.serial_number if isinstance(each, Row) else each.reason for each in read(path)]


@pytest.mark.parametrize(
    "lines",
    [
        ("# Columns: upn, serial number, secret key, and the vendor's", HEADER, ROW),
        ("# x,serial number,secret key,time interval", HEADER, ROW),
        ("# Tokens of the spring", "", HEADER, ROW),
        ("#No,serial number,secret key,time interval", f"1,MADE0000003,{SECRET},30"),
        ("# Tokens of the spring", "#No,serial number,secret key,time interval", f"#1,MADE0000003,{SECRET},30"),
        # Cells that are empty at its end may be missing.
        ("#No,serial number,secret key,time interval,note", f"#1,MADE0000003,{SECRET},30"),
    ],
)
def test_a_comment_is_the_header_only_where_there_is_no_other(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert serials(tmp_path, *lines) == ["MADE0000003"]


@pytest.mark.parametrize(
    "comment",
    [
        "# serial, secret key, type, digits, counter",
        "# exported by hand, secret key, in hexadecimal",
        "# Reference, Data",
        "# pairs (serial, otp1, otp2) are in the other file",
    ],
)
def test_a_comment_above_rows_without_a_header_is_none(tmp_path: Path, comment: str) -> None:
    assert serials(tmp_path, comment, OATH) == ["MADE0000001"]


def test_a_comment_that_may_be_the_header_of_rows_of_another_format_is_asked_about() -> None:
    head = f"# columns:,serial number,secret key\n{OATH}\n".encode()
    with pytest.raises(UnusableFile, match=r"may be oath-csv or entra\. Say which it is, by --format oath-csv"):
        choose_format(Path("tokens.csv"), head)


@pytest.mark.parametrize("comment", [f"#{ROW}", "# lost, see ticket 12, and do, not, load", "# the last"])
def test_a_row_in_a_comment_is_not_read(tmp_path: Path, comment: str) -> None:
    assert serials(tmp_path, HEADER, ROW, comment) == ["MADE0000003"]


def test_below_a_header_that_begins_with_hash_nothing_with_a_separator_vanishes(tmp_path: Path) -> None:
    header = "#No,serial number,secret key,time interval"
    row, cut_off = f"#1,MADE0000003,{SECRET},30", "#2,MADE0000004"
    read_serial, refusal = serials(tmp_path, header, row, "# The last one", cut_off)
    assert read_serial == "MADE0000003"
    assert "secret" in refusal


@pytest.mark.parametrize("first", ["#No,serial,otp1,otp2,user_id", "#,serial,file_row"])
def test_pairs_and_exports_may_have_a_header_that_begins_with_hash(first: str) -> None:
    assert choose_format(Path("tokens.csv"), f"{first}\n1,MADE0000001\n".encode()).name == "otp-pairs"


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("serial,secret key,type", f"MADE0000003,{SECRET},hotp"),
        ("serial,secret key,Time Interval,OTP Type", f"MADE0000003,{SECRET},30,OATH-HOTP"),
    ],
)
def test_a_token_that_is_called_hotp_is_not_read_as_totp(tmp_path: Path, header: str, row: str) -> None:
    (refusal,) = serials(tmp_path, header, row)
    assert "is called HOTP" in refusal


def test_an_option_that_calls_the_tokens_of_such_a_file_hotp_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text(f"{HEADER}\n{ROW}\n")
    (refused,) = read(path, Hints(otp_type="hotp"))
    assert isinstance(refused, RowError)
    assert "is called HOTP" in refused.reason


def test_a_column_of_the_file_s_own_may_be_called_what_another_means(tmp_path: Path) -> None:
    header = "serial number,secret key,time interval,step,hash,,"
    assert serials(tmp_path, header, f"MADE0000003,{SECRET},30,first,browns") == ["MADE0000003"]


def test_columns_that_are_not_kept_may_stand_twice(tmp_path: Path) -> None:
    header = "serial number,secret key,time interval,,,pin,pin,note"
    assert serials(tmp_path, header, f"MADE0000003,{SECRET},30,,,1,2,x") == ["MADE0000003"]
