"""Rows of an export that come back, where a command has no database to look their records up in."""

from __future__ import annotations

from pathlib import Path

from worker.intake import Row, open_shipment
from worker.preflight.findings import describe_kind

IDS = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f,0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a09"


def test_an_inspection_says_that_they_bring_no_otps(tmp_path: Path) -> None:
    path = tmp_path / "again.csv"
    path.write_text(f"serial,otp_type,user_id,device_id,oathbulk_row\nMADE1,totp,{IDS},batch 3 row 4\n")

    (row,) = open_shipment(path).tokens()

    assert isinstance(row, Row)
    assert describe_kind(row) == "TOTP token that comes back, without OTPs"
