"""Files that no format reads are recognised by their first bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.intake import UnusableFile
from worker.intake.foreign_files import find_foreign, make_refusal


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b'\xef\xbb\xbf\r\n<?xml version="1.0"?><Other>', "XML"),
        (b"\n\n  {", "JSON"),
        ("serial,otp1\n".encode("utf-16-be"), "UTF-16"),
        ("\ufeffserial".encode("utf-32-le"), "UTF-16"),
        ("<KeyContainer>".encode("utf-16-le"), "UTF-16"),
        ('{"value": []}'.encode("utf-16-le"), "UTF-16"),
    ],
)
def test_a_format_is_known_behind_marks_and_blanks(head: bytes, kind: str) -> None:
    with pytest.raises(UnusableFile, match=kind):
        raise make_refusal(Path("shipment.csv"), head)


@pytest.mark.parametrize("head", [b"", b"s", b"serial,otp1\n", b"\xef\xbb\xbfserial;otp1\r\n", b"PKI,otp\n"])
def test_text_passes(head: bytes) -> None:
    assert find_foreign(head) is None
