"""Files: from bytes to lines, above all where one chunk ends and the next begins; and files that no format reads."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from worker.intake import UnusableFile
from worker.intake.files import CHUNK, MAX_LINE, OpenFile, find_foreign, make_refusal, read_lines


def read(content: bytes) -> list[str]:
    file = OpenFile(Path("shipment.csv"), io.BytesIO(content))
    lines = list(read_lines(file))
    assert file.digest() == hashlib.sha256(content).hexdigest()
    return lines


def test_lines_keep_their_ends_of_every_kind() -> None:
    assert read(b"a\nb\r\nc\rd") == ["a\n", "b\r\n", "c\r", "d"]


def test_only_line_ends_end_a_line() -> None:
    assert read("a\u2028b\x0bc\x85d\n".encode()) == ["a\u2028b\x0bc\x85d\n"]


def test_the_byte_order_mark_is_dropped_at_the_start_only() -> None:
    assert read(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n") == ["a\n", "\ufeffb\n"]
    assert read(b"\n" * CHUNK + b"\xef\xbb\xbfb\n")[-1] == "\ufeffb\n"


@pytest.mark.parametrize("shift", [-2, -1, 0, 1])
def test_a_crlf_and_a_character_of_many_bytes_may_lie_across_two_chunks(shift: int) -> None:
    start = b"x" * (CHUNK // 2 - 1) + b"\n" + b"y" * (CHUNK // 2 + shift - 1)
    assert read(start + b"\r\nb") == [*read(start[:-1] + b"y\r\n"), "b"]
    assert read(start + "€\n".encode())[1].endswith("y€\n")


def test_a_line_may_be_as_long_as_allowed_and_not_longer() -> None:
    assert read(b"h\n" + b"a" * (MAX_LINE - 1) + b"\n" + b"b\n")[2] == "b\n"
    for content in (b"a" * (MAX_LINE + 1), b"h\n" + b"a" * MAX_LINE + b"\nb\n"):
        with pytest.raises(UnusableFile, match=f"longer than {MAX_LINE} bytes"):
            read(content)


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
    refusal = make_refusal(Path("shipment.csv"), head, "but no list")
    assert refusal is not None
    assert kind in refusal.problem


@pytest.mark.parametrize("head", [b"", b"s", b"serial,otp1\n", b"\xef\xbb\xbfserial;otp1\r\n", b"PKI,otp\n"])
def test_text_passes(head: bytes) -> None:
    assert find_foreign(head) is None
