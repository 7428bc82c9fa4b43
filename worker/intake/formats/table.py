"""The formats that are read, in the order in which a file is tried."""

from __future__ import annotations

from pathlib import Path

from worker.intake.foreign_files import make_refusal
from worker.intake.formats.format import Format
from worker.intake.formats.otp_pairs.format import OtpPairs

FORMATS: tuple[Format, ...] = (OtpPairs(),)


def choose_format(path: Path, head: bytes) -> Format:
    """The format of a file that begins with these bytes. Raises UnusableFile, which names what the file is instead
    where that is known."""
    for candidate in FORMATS:
        if candidate.is_format_of(head):
            return candidate
    raise make_refusal(path, head)
