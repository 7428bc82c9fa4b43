"""Lists of serial numbers are read, or refused as a whole with file, row and cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.intake import UnusableFile, open_serial_list


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

    found = open_serial_list(path)

    assert found.serial_numbers == ("A100001", "B200002")
    assert len(found.digest) == 64


@pytest.mark.parametrize(
    ("content", "row_number", "says"),
    [
        (b"", None, "names no token"),
        (b"\n# nobody\n", None, "names no token"),
        (b"serial\n", None, "names no token"),
        (b"name,mail\nAda,a@b.c\n", None, "no column for the serial"),
        (b"name\nAda\n", None, "no column for the serial"),
        (b"A100001\nB 2\n", 2, "other characters than letters and digits"),
        (b"serial,name\nA100001,Ada\n,Bob\n", 3, "serial is missing"),
        (b"A100001\nB200002,Bob\n", 2, "too many fields"),
        (b"serial\n1.00013E+12\n", 2, "turned into a number"),
        (b"A100001\nserial\n", 2, "names columns"),
        # With one character less, it may be another token's.
        (b"A100001\nB20000", 2, "may be cut off"),
        (b"name,serial\nAda,A100001\nBob,B20000", 3, "may be cut off"),
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

    with pytest.raises(UnusableFile, match=says) as refused:
        open_serial_list(path)

    where = f"{path}, line {row_number}: " if row_number else f"{path}: "
    assert str(refused.value).startswith(where)
