"""An export does not take the place of a file into which OTPs were written."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from support.data.seed_files import SAMPLES

from worker.cli.output_files import refuse_unfit

HEADER = "serial,otp1,otp2,status,oathbulk_row"
ROW = "A1,{},dead_letter,batch 1 row 1"


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\n{ROW.format('755224,287082')}\n",
        f"\ufeff{HEADER};\r\n{ROW.format('755224,287082')};\r\n".replace(",", ";"),
        f"\n{HEADER}\n{ROW.format(',')}\n{ROW.format(',287082')}\n",
        f"{HEADER}\n{ROW.format('755224,')}".replace("otp1", "OTP 1"),
        f"{HEADER}\n{ROW.format('755224,287082')}\n".replace("dead_letter", "J\udcfcrgen"),
        f"{HEADER}\n{ROW.format('755224,287082')}\n".replace("dead_letter", "x" * 200_000),
    ],
    ids=["plain", "saved by Excel", "the second alone, further down", "the first alone", "Latin-1", "a huge cell"],
)
def test_a_file_with_otps_is_refused_by_name_with_the_cure(text: str, tmp_path: Path) -> None:
    file = tmp_path / "failed.csv"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(typer.BadParameter) as refused:
        refuse_unfit(file)
    said = f"{file} holds OTPs, which would be lost: give another name"
    assert str(refused.value) == said
    with pytest.raises(typer.BadParameter) as refused:
        refuse_unfit(file, overwrite=False)
    assert str(refused.value) == f"{said}, or --overwrite to replace the file"


@pytest.mark.parametrize(
    "sample",
    [
        "entra/entra_upload.csv",
        "oath-csv/oath_csv_privacyidea_v1.csv",
        "serial-secret/pingid_console_totp30.csv",
        "pskc/pskc_plain.xml",
        "pskc/pskc_psk_aes128cbc.xml",
    ],
)
def test_a_vendor_s_file_of_seeds_is_refused_by_name_with_the_cure(sample: str) -> None:
    file = SAMPLES / sample
    with pytest.raises(typer.BadParameter) as refused:
        refuse_unfit(file, overwrite=False)
    said = f"{file} holds seeds, which would be lost: give another name, or --overwrite to replace the file"
    assert str(refused.value) == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{HEADER}\n",
        f"{HEADER}\n{ROW.format(' ,')}\n",
        "serial,presses\nA1,2\n",
        "serial,username,site\nA1,christopherlewis,Oslo\n",
        "{}",
        "a page\nof three\nlines",
        "PK\0" * 99_999,
        None,
    ],
    ids=["empty", "no row", "no OTP yet", "a hand-out", "a list", "a report", "no CSV", "one huge line", "no file"],
)
def test_a_file_without_otps_may_be_replaced(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "failed.csv"
    if text is not None:
        file.write_text(text)
    refuse_unfit(file)
