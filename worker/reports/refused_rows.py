"""Reads the rows of a batch's file that were refused at loading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from models.batch import Batch
from models.refused_row import REFUSED, RefusedRow
from worker.observability.counting import agree, count_things


class NotKept(Exception):
    """The refused rows of a batch are not known, since it was loaded before they were kept."""

    def __init__(self, batch: str, rows: int) -> None:
        super().__init__(
            f"batch {batch!r} was loaded before refused rows were kept: of its file {count_things(rows, 'row')} "
            f"{agree(rows, 'was', 'were')} refused, and which is not known here. Examine the file again: "
            "oathbulk check FILE"
        )


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A row that was refused: where it stands, which token it is if that is known, and why, with the cure."""

    batch: str
    file: str
    row_number: int
    environment: str
    environment_id: str
    serial_number: str | None
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"Row {self.row_number} of {self.batch} was refused: {self.detail}"

    def to_json(self) -> dict[str, Any]:
        """The row as `oathbulk show --json` prints it."""
        return {
            "batch": self.batch,
            "row": self.row_number,
            "file": self.file,
            "status": REFUSED,
            "reason": self.reason,
            "meaning": self.detail,
            "serial_number": self.serial_number,
        }


_PLAIN = (RefusedRow.row_number, RefusedRow.environment_id, RefusedRow.serial_number)
_LINE = (*_PLAIN, RefusedRow.reason, RefusedRow.detail, Batch.name.label("batch"), Batch.file, Batch.environment)


def read_refused(
    connection: Connection, *conditions: ColumnElement[bool], limit: int | None = None
) -> Iterator[RefusedLine]:
    """Read the refused rows that fulfil the conditions: those of the latest batch first, in the order of its file."""
    listed = select(*_LINE).join(Batch, Batch.id == RefusedRow.batch_id).where(*conditions)
    ordered = listed.order_by(RefusedRow.batch_id.desc(), RefusedRow.row_number).limit(limit)
    for row in connection.execute(ordered):
        yield RefusedLine(**row._mapping)
