"""Lists: who gets what, and serial numbers alone."""

import re
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from models.record_states import UNTIL_LET_GO
from models.row_fault import RowFault
from worker.intake.lists import open_assignment, open_token_list
from worker.intake.rows import Row, UnusableFile
from worker.intake.shipment import Switches, open_shipment
from worker.vault.otps import Otp, OtpPair

OTPS = OtpPair(Otp("111111"), None)


def write(directory: Path, content: bytes) -> Path:
    path = directory / "who.csv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"Tokens of the spring\nserial,username\nMADE1,alice\n", "Start the list with a header"),
        (b"sep=;\nserial;username\nMADE1;alice\n", "line 1: begins with a 'sep=' line for Excel. Delete that line"),
        (b"MADE0001;alice\n", "line 1: the first line is a row of data, the header is missing. Start the list"),
        (b"MADE1,alice\n", "serial, and one of user_id, username, email or external_id"),
        (b"serial,username,site,Site\nMADE1,alice,Oslo,Rome\n", "line 1: columns 3 and 4 mean the same. Remove"),
        (b"serial,upn,user\nMADE1,alice,bob\n", "line 1: columns 2 and 3 mean the same. Remove or rename"),
        (b"serial,username" + b",x" * 200 + b"\nMADE1,alice\n", "line 1: the header has more than 200 columns. Remove"),
        (b"serial,username\n1.2E+11,a\n1.2E+11,b\n", "line 2: assigns no token, because the serial was turned into"),
        (b"serial,username\n", "who.csv: assigns no token. Write one line for each token below the header"),
        (b"serial,note\nMADE1,alice\n", "the list has no column for the person"),
        (b"<?xml version='1.0'?><KeyContainer/>", "is XML or HTML, but not a list. Check whether you swapped the list"),
        (b'{"value": [{"serialNumber": "MADE1"}]}', "is JSON, but not a list. Check whether you swapped the list"),
        (b"%PDF-1.7", "is a PDF. Check whether you swapped the list and the shipment: --assign takes a CSV"),
        (b"PK\x03\x04 [Content_Types].xml xl/workbook.xml", "is a spreadsheet, not a CSV. Save it as UTF-8"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_with_its_own_cure(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(UnusableFile) as caught:
        open_assignment(write(tmp_path, content))
    assert [part for part in (says, "who.csv") if part not in str(caught.value)] == []


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_of_a_list_is_told_by_the_columns_that_are_known(tmp_path: Path, separator: str) -> None:
    others = ",;\t".replace(separator, "") * 3
    lines = (("serial", "email", f"name{others}"), ("MADE1", "ada@x.test", f"Ada{others}"))
    content = "".join(f"{separator.join(line)}\n" for line in lines)
    (line,) = open_assignment(write(tmp_path, content.encode())).lines.values()
    assert (line.email, line.username) == ("ada@x.test", None)


@pytest.mark.parametrize(
    ("content", "serials", "row_number", "says"),
    [
        # A header between the lines is no token, and no value can contain a line break.
        (
            b"serial,email\nMADE1,a@x.test\nserial,email\nMADE2,b@x.test\n",
            ["MADE1", "MADE2"],
            3,
            "names columns, like a header",
        ),
        (
            b'serial,email,address\nMADE1,a@x.test,"Street 1\nOslo"\nMADE2,b@x.test,x\n',
            ["MADE2"],
            2,
            "no value can contain a line break",
        ),
    ],
)
def test_a_line_that_names_no_token_is_told_and_the_others_count(
    tmp_path: Path, content: bytes, serials: list[str], row_number: int, says: str
) -> None:
    assignment = open_assignment(write(tmp_path, content))
    nameless = assignment.nameless[0]
    assert ([line.serial_number for line in assignment.lines.values()], nameless.row_number) == (serials, row_number)
    assert says in nameless.reason


def test_a_list_keeps_back_what_an_export_says_is_kept_back(tmp_path: Path) -> None:
    (line,) = open_assignment(write(tmp_path, b"serial,username,not_before\nMADE1,ada,kept back\n")).lines.values()
    assert line.not_before == UNTIL_LET_GO


NOBODY_SEES = ("\u2028", "\u200b", "\ufeff", "\u202a", "\u00ad", "\x07")


@pytest.mark.parametrize(
    ("column", "name", "reason", "fault"),
    [
        *(
            (column, f"ada{hidden}@x.test", f"{column} has an invisible character", RowFault.PERSON_UNFIT)
            for column in ("username", "email")
            for hidden in NOBODY_SEES
        ),
        ("username", "x" * 321, "username has more than 320 characters", RowFault.ROW_UNREADABLE),
    ],
)
def test_a_name_that_is_too_long_or_has_a_character_that_nobody_sees_costs_its_row_alone(
    tmp_path: Path, column: str, name: str, reason: str, fault: RowFault
) -> None:
    shipment = tmp_path / "pairs.csv"
    shipment.write_text("serial,otp1\nMADE1,111111\nMADE2,222222\n")
    who = f"serial,{column}\nMADE1,{name}\nMADE2,Jos\u00e9 \u00d8.@x.test\n"
    first, second = open_shipment(shipment, assignment=open_assignment(write(tmp_path, who.encode()))).tokens()
    assert (first.reason.startswith(reason), first.fault) == (True, fault)
    assert isinstance(second, Row)


@pytest.mark.parametrize(
    ("row", "username", "assigned"),
    [
        # File and list may write a person's name in other capitals.
        (Row(row_number=2, serial_number="MADE1", otps=OTPS, username="Ada@X.test"), "Ada@X.test", None),
        (Row(row_number=3, serial_number="MADE2", otps=OTPS, username="Ada@X.test"), None, "different persons"),
        # Its line is of the list.
        (Row(row_number=9, serial_number="MADE4", otps=OTPS), None, "the list's user_id is not a UUID"),
        # A serial number that stands twice in the list is named with its lines.
        (Row(row_number=9, serial_number="MADE3", otps=OTPS), None, "on lines 4 and 5"),
    ],
)
def test_a_row_gets_the_person_of_the_list_where_both_say_the_same(
    tmp_path: Path, row: Row, username: str | None, assigned: str | None
) -> None:
    who = b"serial,username,user_id\nMADE1,ada@x.test,\nMADE2,bob@x.test,\nMADE3,alice,\nMADE3,carol,\nMADE4,,7\n"
    found = open_assignment(write(tmp_path, who)).assign(row)
    if assigned is None:
        assert found.username == username
    else:
        assert assigned in found.reason


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-12-01", datetime(2026, 11, 30, 23, tzinfo=UTC)),
        ("2026-12-01T08:00", datetime(2026, 12, 1, 7, tzinfo=UTC)),
        ("2026-12-01 08:00:30", datetime(2026, 12, 1, 7, 0, 30, tzinfo=UTC)),
        ("2026-12-01T08:00-05:00", datetime(2026, 12, 1, 13, tzinfo=UTC)),
        ("2026-10-25T02:30Z", datetime(2026, 10, 25, 2, 30, tzinfo=UTC)),
        ("", None),
        # The hour that clocks show twice, and the one that they skip.
        ("2026-10-25T02:30", "in an hour that clocks skip or repeat"),
        ("2026-03-29T02:30", "in an hour that clocks skip or repeat"),
        ("2026-02-30", "a date that does not exist"),
        ("24.12.2026", "is not a date: write it as 2026-12-24, or 2026-12-24T08:00, in"),
        ("31.02.2026", "is not a date: write it as 2026-12-01,"),
        ("46357", "is not a date"),
    ],
)
def test_a_date_is_read_by_the_clocks_of_a_zone(tmp_path: Path, written: str, read: datetime | str | None) -> None:
    path = write(tmp_path, f"serial,email,not_before\nMADE1,a@x.test,{written}\n".encode())
    assignment = open_assignment(path, ZoneInfo("Europe/Zurich"))
    if isinstance(read, str):
        fault = assignment.faults["made1"]
        assert (read in fault.reason, fault.fault) == (True, RowFault.DATE_UNFIT)
    else:
        assert assignment.lines["made1"].not_before == read


def test_a_line_with_a_wrong_date_names_its_token_also_below_one_that_is_shorter(tmp_path: Path) -> None:
    lines = b"MADE1,a@x.test,Oslo,2026-12-01\nMADE2,b@x.test\nMADE33,c@x.test,Riga,2026-13-45\n"
    assignment = open_assignment(write(tmp_path, b"serial,email,site,not_before\n" + lines))
    assert (assignment.faults["made33"].fault, assignment.nameless) == (RowFault.DATE_UNFIT, ())


def test_a_totp_pair_has_no_date_by_a_list_either(tmp_path: Path) -> None:
    assignment = open_assignment(write(tmp_path, b"serial,email,not_before\nMADE1,a@x.test,2026-12-01\n"))
    refused = assignment.assign(Row(row_number=2, serial_number="MADE1", otps=OTPS, otp_type="totp"))
    assert refused.fault == RowFault.DATE_UNFIT


def test_a_vendor_s_file_with_a_header_may_have_columns_of_ours(tmp_path: Path) -> None:
    (path := tmp_path / "entra.csv").write_text(
        "upn,serial number,secret key,time interval,Not Before,Lot,Mail,site\n"
        "a@x.test,MADE1,NMPYLX6NE5RWS7DOHVVPIZSDKIH5ULM3,30,2026-12-01T08:00Z,L7,ada@x.test,Basel\n"
    )
    (row,) = open_shipment(path, switches=Switches(may_pair=True)).rows()
    assert (row.username, row.email, row.lot, row.extra) == ("a@x.test", "ada@x.test", "L7", {"site": "Basel"})
    assert row.not_before == datetime(2026, 12, 1, 8, tzinfo=UTC)


def test_a_list_may_name_lots(tmp_path: Path) -> None:
    assignment = open_assignment(write(tmp_path, b"serial,email,lot\nMADE1,a@x.test,L7\n"))
    row = assignment.assign(Row(row_number=2, serial_number="MADE1", otps=OTPS))
    assert (row.lot, row.extra) == ("L7", {})


@pytest.mark.parametrize(
    "content",
    [
        "A100001\nB200002\n",
        "\ufeffA100001\r\n\r\n  B200002 \r\n",
        "# who leaves\nA100001\n# and\nB200002\n",
        "serial\nA100001\nB200002\n",
        "Serial Number;name\nA100001;Ada\nB200002;\n",
        "name,serial_number\nAda,A100001\n\nBob,B200002\n",
        'serial,why\nA100001,"gone, in July"\nB200002,x',
        '"A100001"\n"B200002"',
        "A100001\nB200002\na100001\n",
    ],
)
def test_a_table_and_a_plain_list_are_read(tmp_path: Path, content: str) -> None:
    (path := tmp_path / "leavers.csv").write_text(content, encoding="utf-8", newline="")
    found = open_token_list(path)
    assert (found.names, len(found.digest)) == (("A100001", "B200002"), 64)


@pytest.mark.parametrize(
    ("content", "column", "names"),
    [
        ("name,mail\nAda,ada@b.c\nAda,ADA@b.c\n", "email", ("ada@b.c",)),
        ("Username\nada\nbob\n", "username", ("ada", "bob")),
        ("mail,serial\nada@b.c,A100001\n", "serial_number", ("A100001",)),
    ],
)
def test_persons_name_their_tokens_where_no_column_has_serial_numbers(
    tmp_path: Path, content: str, column: str, names: tuple[str, ...]
) -> None:
    (path := tmp_path / "leavers.csv").write_text(content)
    found = open_token_list(path)
    assert (found.column, found.names) == (column, names)


@pytest.mark.parametrize(
    ("content", "row_number", "says"),
    [
        (b"", None, "names no token"),
        (b"\n# nobody\n", None, "names no token"),
        (b"serial\n", None, "names no token"),
        (b"name,street\nAda,Ring 2\n", None, "no column for the serial"),
        (b"name\nAda\n", None, "no column for the serial"),
        (b"A100001\nB 2\n", 2, "characters other than letters and digits"),
        (b"serial,name\nA100001,Ada\n,Bob\n", 3, "serial is missing"),
        (b"email,name\nada@b.c,Ada\n,Bob\n", 3, "email is empty"),
        (b"email,username\nada@b.c,ada\n", None, "identifies people by several columns (email, username)"),
        (b"name,email\nAda,ada@b.co", 2, "might be cut off"),
        (b"A100001\nB200002,Bob\n", 2, "too many fields"),
        (b"serial\n1.00013E+12\n", 2, "turned into a number"),
        (b"A100001\nserial\n", 2, "names columns"),
        # With one character less, it may be another token's.
        (b"A100001\nB20000", 2, "might be cut off"),
        (b"name,serial\nAda,A100001\nBob,B20000", 3, "might be cut off"),
        (b"A100001\n\xff\n", 2, "not UTF-8"),
        (b"PK\x03\x04xl/", None, "spreadsheet"),
        (b"<xml/>", None, "XML"),
        (b'serial\nA100001\n"B2\n', 3, "a quotation mark is never closed"),
    ],
)
def test_one_bad_row_refuses_the_list_and_names_file_row_and_cure(
    tmp_path: Path, content: bytes, row_number: int | None, says: str
) -> None:
    (path := tmp_path / "leavers.csv").write_bytes(content)

    with pytest.raises(UnusableFile, match=re.escape(says)) as refused:
        open_token_list(path)

    where = f"{path}, line {row_number}: " if row_number else f"{path}: "
    assert str(refused.value).startswith(where)
