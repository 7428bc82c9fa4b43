"""What comes out of a file: a row, a row's error, or the reason why the whole file is of no use."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from worker.vault.otp import OtpPair


@dataclass(frozen=True, slots=True)
class Row:
    """One token of the shipment that can be activated.

    `row_number` is the line on which the row begins, as an editor counts them. The ids are in lower case,
    `generated_at` is UTC. `extra` holds the columns that mean nothing to us, by their header as written; it
    stays out of the repr, since we cannot know what is in there.
    """

    row_number: int
    serial_number: str
    user_id: str
    device_id: str
    otps: OtpPair
    otp_type: Literal["hotp", "totp"]
    generated_at: datetime | None
    lot: str | None
    username: str | None
    extra: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that was refused. The reason names fault and cure and quotes no cell, so that no OTP gets out.

    `serial_number` is None where it is missing, malformed, or cannot be told from an OTP in the wrong column.
    """

    row_number: int
    reason: str
    serial_number: str | None


class UnusableFile(Exception):
    """The file is refused as a whole. Names the file, the line if there is one, the problem and the cure."""

    def __init__(self, path: Path, problem: str, cure: str, *, row_number: int | None = None) -> None:
        line = "" if row_number is None else f", line {row_number}"
        super().__init__(f"{path}{line}: {problem}. {cure}.")
        self.path = path
        self.row_number = row_number
        self.problem = problem
        self.cure = cure
