"""The header line: its delimiter, its columns, and why one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.intake import UnusableFile
from worker.intake.formats.otp_pairs.header import Header, read_header


def read(*lines: str) -> Header:
    return read_header(Path("shipment.csv"), iter(lines))


@pytest.mark.parametrize("line", ["# oathbulk\n", '"# oathbulk"\n'])
def test_a_text_that_is_no_shipment_is_told_what_one_begins_with(line: str) -> None:
    """A page may show a shipment, further below."""
    text = [line, "\n", 'It activates "whole shipments, serial by serial.\n', *["More of it.\n"] * 20, "serial,otp1\n"]
    with pytest.raises(UnusableFile, match="no header follows") as caught:
        read(*text)
    assert "serial,otp1,otp2,user_id,device_id" in caught.value.cure
    assert "docs/formats.md" in caught.value.cure
    assert "Delete" not in caught.value.cure


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_the_one_that_shows_our_columns(delimiter: str) -> None:
    header = read(delimiter.join(["serial", "otp1", '"Hall, shelf; row"']) + "\r\n")
    assert header.delimiter == delimiter
    assert header.places == {"serial": 0, "otp1": 1}
    assert header.extra == (("Hall, shelf; row", 2),)


def test_blank_lines_may_stand_above() -> None:
    assert read("\n", ",,,\r\n", "serial,otp1\n").row_number == 3


def test_empty_columns_at_the_end_are_none() -> None:
    header = read("serial,otp1,, ,\n")
    assert header.names == ["serial", "otp1"]
    assert header.is_fitting(["MADE1", "308714", "", " ", ""])
    assert not header.is_fitting(["MADE1", "308714", "", "x"])
    assert not header.is_fitting(["MADE1"])


def test_a_header_with_a_seed_and_without_an_otp_is_one_of_a_file_of_seeds() -> None:
    with pytest.raises(UnusableFile, match=r"column 4 \('seed'\) says.*none of the vendors' files of seeds"):
        read("serial_number;manufacturer;algorithm;seed;digits;interval_or_event\n")


def test_a_name_that_looks_like_data_is_not_quoted() -> None:
    with pytest.raises(UnusableFile, match="column 4 means the same as column 3") as caught:
        read("serial,otp1,308714,308714\n")
    assert "308714" not in str(caught.value)
