"""The columns that an export adds, and how they are read when the file comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.intake import ORIGIN, RESULT_COLUMNS, Origin, Row, RowError, is_result, open_assignment, open_shipment
from worker.intake.formats.otp_pairs.columns import names_secret
from worker.intake.results import read_origin

IDS = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f,0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a09"
RESULTS = "dead_letter,invalid_otp,=1+1,e,c,1,1,july-fixed"
HEADER = ",".join(("serial", "otp1", "otp2", "user_id", "device_id", "site", *RESULT_COLUMNS))


def read(path: Path, *lines: str) -> list[Row | RowError]:
    path.write_text("\n".join(lines) + "\n")
    return list(open_shipment(path).rows())


@pytest.mark.parametrize("origin", [Origin(1, 2), Origin(10**18 - 1, 10**9 - 1)])
def test_an_origin_is_read_as_it_was_written(origin: Origin) -> None:
    assert read_origin(str(origin)) == origin
    assert read_origin(f" {str(origin).upper()} ") == origin


@pytest.mark.parametrize(
    "cell", ["", "17", "batch 1", "batch 1 row", "batch -1 row 2", "batch 1 row 2 3", "batch ٣ row 2"]
)
def test_anything_else_is_no_origin(cell: str) -> None:
    assert read_origin(cell) is None


def test_no_spreadsheet_takes_an_origin_for_a_number_or_a_formula() -> None:
    assert str(Origin(17, 345)) == "batch 17 row 345"


def test_the_columns_of_an_export_are_known_by_their_names_and_hold_no_secret() -> None:
    assert RESULT_COLUMNS[-1] == ORIGIN
    for name in RESULT_COLUMNS:
        assert is_result(name.upper().replace("_", " "))
        assert not names_secret(name)
    assert not is_result("site")


def test_results_are_no_columns_of_the_files_own(tmp_path: Path) -> None:
    (row,) = read(tmp_path / "again.csv", HEADER, f"MADE1,111111,222222,{IDS},Hall 1,{RESULTS},batch 3 row 4")

    assert isinstance(row, Row)
    assert (row.extra, row.origin) == ({"site": "Hall 1"}, Origin(3, 4))
    assert open_shipment(tmp_path / "again.csv").columns == ["serial", "otp1", "otp2", "user_id", "device_id", "site"]


def test_only_a_row_that_comes_back_may_lack_otps_and_ids(tmp_path: Path) -> None:
    rows = read(
        tmp_path / "again.csv",
        HEADER,
        f"MADE1,,,,,,{RESULTS},batch 3 row 4",
        f"MADE2,,,,,,{RESULTS},",
        f"MADE3,111111,,,,,{RESULTS},",
        f"MADE4,,222222,{IDS},,{RESULTS},batch 3 row 5",
    )

    assert isinstance(rows[0], Row)
    assert (rows[0].otps, rows[0].user_id) == (None, None)
    reasons = [row.reason.split(":")[0] for row in rows[1:] if isinstance(row, RowError)]
    assert reasons == [
        "otp1 is missing",
        "user_id is missing, and no username, email or external_id names the person",
        "otp1 is missing",
    ]


def test_an_export_is_one_whatever_its_own_columns_look_like(tmp_path: Path) -> None:
    """A serial number of sixteen letters, and a word behind it, look like a secret and a type to another format."""
    columns = f"lot,serial,otp_type,user_id,device_id,{','.join(RESULT_COLUMNS)}"

    (row,) = read(tmp_path / "again.csv", columns, f"L1,ABCDEFGHABCDEFGH,hotp,{IDS},{RESULTS},batch 3 row 4")

    assert isinstance(row, Row)
    assert row.serial_number == "ABCDEFGHABCDEFGH"


def test_an_export_serves_as_a_list_of_who_gets_what_without_its_results(tmp_path: Path) -> None:
    path = tmp_path / "who.csv"
    path.write_text(f"{HEADER}\nMADE1,,,{IDS},Hall 1,{RESULTS},batch 3 row 4\n")

    assert open_assignment(path).lines["MADE1"].extra == {"site": "Hall 1"}
