"""The table of the formats that are read: a new one is added here. The first that takes a file for its own reads it."""

from __future__ import annotations

from pathlib import Path

from worker.intake.foreign_files import make_refusal
from worker.intake.formats.format import Format
from worker.intake.formats.otp_pairs.format import OtpPairs

_FORMATS: tuple[Format, ...] = (OtpPairs(),)

# The formats by their names, in the order in which they are asked.
FORMATS = {each.name: each for each in _FORMATS}


def choose_format(path: Path, head: bytes) -> Format:
    """Choose the format of a file that begins with these bytes. Raises UnusableFile, which names what the file is
    instead, if that is known."""
    for candidate in _FORMATS:
        if candidate.is_format_of(head):
            return candidate
    raise make_refusal(path, head)
