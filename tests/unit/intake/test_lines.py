"""From bytes to lines, above all where one chunk ends and the next begins."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from worker.intake import UnusableFile
from worker.intake.lines import CHUNK, MAX_LINE, read_lines


def read(content: bytes) -> list[str]:
    digest = hashlib.sha256()
    lines = list(read_lines(Path("shipment.csv"), io.BytesIO(content), digest))
    assert digest.digest() == hashlib.sha256(content).digest()
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
