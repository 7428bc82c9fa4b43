"""Which line of a CSV with a vendor's header is its header, and which lines are comments."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.data.seed_files import SECRETS, read

from worker.intake import Hints, Row, RowError, UnusableFile
from worker.intake.formats.table import choose_format

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
