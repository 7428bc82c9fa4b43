"""The table of the formats that are read: a new one is added here. The first that takes a file for its own reads it."""

from __future__ import annotations

from pathlib import Path

from worker.intake.foreign_files import make_refusal
from worker.intake.formats.format import Format
from worker.intake.formats.otp_pairs.format import OtpPairs

FORMATS: tuple[Format, ...] = (OtpPairs(),)


def choose_format(path: Path, head: bytes) -> Format:
    """Choose the format of a file that begins with these bytes. Raises UnusableFile, which names what the file is
    instead, if that is known."""
    for candidate in FORMATS:
        if candidate.is_format_of(head):
            return candidate
    raise make_refusal(path, head)
