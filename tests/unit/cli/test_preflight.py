"""Refused rows, as they are printed."""

from __future__ import annotations

import pytest

from models.row_fault import RowFault
from worker.cli.preflight import KEPT, SHOWN, print_refused_rows
from worker.intake import RowError

LISTING = "oathbulk export july --status refused -o july-refused.csv"


def printed(capsys: pytest.CaptureFixture[str], reasons: dict[int, str], serial: str | None = None) -> list[str]:
    refused = [RowError(number, reason, serial, RowFault.OTPS_UNFIT) for number, reason in reasons.items()]
    print_refused_rows(refused, LISTING)
    return capsys.readouterr().err.splitlines()


def test_a_row_alone_is_told_with_its_token_and_needs_no_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, {7: "otp1 is empty"}, "MADE7") == ["row 7 (MADE7): otp1 is empty"]
    assert printed(capsys, {7: "serial is empty"}) == ["row 7: serial is empty"]
    assert printed(capsys, {}) == []


def test_rows_with_the_same_fault_are_one_line_and_a_command_lists_each(capsys: pytest.CaptureFixture[str]) -> None:
    same = dict.fromkeys([3, 8, 9, 10, 11, 12, 40], "otp1 is empty")
    assert printed(capsys, same | {41: "otp2 is empty"}, "MADE7") == [
        "7 rows (3, 8-12, 40): otp1 is empty",
        "row 41 (MADE7): otp2 is empty",
        f"Each row by itself: {LISTING}",
    ]


def test_the_row_that_another_batch_has_of_each_token_makes_no_other_fault(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = {number: f"it is in progress in batch 'june' (row {number + 5}): wait" for number in (2, 3)}
    assert printed(capsys, reasons)[0] == "2 rows (2-3): it is in progress in batch 'june': wait"
    assert printed(capsys, {2: reasons[2]}) == [f"row 2: {reasons[2]}"]


def test_more_faults_and_more_places_than_a_person_reads_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    many = printed(capsys, {number: f"fault {number}" for number in range(SHOWN + 3)})
    assert len(many) == SHOWN + 1
    assert many[-1] == f"… and 3 more. Each row by itself: {LISTING}"
    scattered = printed(capsys, dict.fromkeys(range(0, 2 * SHOWN + 2, 2), "otp1 is empty"))
    assert scattered[0].endswith("36, 38 and 1 more places): otp1 is empty")


def test_of_a_file_that_is_all_wrong_the_first_rows_are_kept_and_all_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert printed(capsys, dict.fromkeys(range(KEPT + 5), "otp1 is empty")) == [
        f"{KEPT} rows (0-{KEPT - 1}): otp1 is empty",
        f"… and 5 more. Each row by itself: {LISTING}",
    ]
