"""What an undo leaves in PingOne."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kept:
    """A record whose device or token stays in PingOne, or of which that is not known; and why."""

    row_number: int
    serial_number: str
    why: str
