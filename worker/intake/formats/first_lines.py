"""The first lines of a file, by which a format of lines is told from others."""

from __future__ import annotations

from worker.intake.foreign_files import BYTE_ORDER_MARK, find_foreign
from worker.intake.formats.otp_pairs.header import is_blank

# Bytes from which a file's format is told: enough to find the names that tell a workbook from another zip archive.
HEAD = 4096


def read_first_lines(head: bytes) -> list[str]:
    """Read the first lines of a file that begins with these bytes, HEAD of them at most; without lines that are cut
    off, blank, or separators alone; none if the file is something else than text."""
    if find_foreign(head):
        return []
    lines = head.removeprefix(BYTE_ORDER_MARK).decode("utf-8", errors="replace").splitlines()
    if len(head) >= HEAD and len(lines) > 1:
        lines.pop()
    return [line.strip() for line in lines if not is_blank(line)]


def drop_comments(head: bytes) -> bytes:
    """Drop the lines that begin with `#`."""
    return b"".join(line for line in head.splitlines(keepends=True) if not line.lstrip().startswith(b"#"))


def split_first_lines(head: bytes, delimiter: str) -> list[list[str]]:
    """Split the first lines at a delimiter, without regard to quotation marks; comments, and the empty cells with which
    Excel ends a line, are left out."""
    lines = (line.rstrip(f"{delimiter} \t") for line in read_first_lines(head) if not line.startswith("#"))
    return [[cell.strip().strip('"') for cell in line.split(delimiter)] for line in lines]
