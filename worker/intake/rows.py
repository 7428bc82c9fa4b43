"""What comes out of a file: a row, the error of a row, or the error of the whole file.

A column that a row may have is declared here and nowhere else, as a field of Row. The formats take the names in a
header from here; the load writes the value into the record's column of the same name, and the export reads it from
there. So a further column takes one field here, one column of models.record.Record, and a migration."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, get_type_hints

from models.row_fault import RowFault
from worker.vault.otp_source import OtpSource
from worker.vault.seed import OtpType


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a file. `name` and `synonyms` are what a header may call it; `attribute` is the field of Row, and the
    column of Record, that has its value. `longest`: any text of so many characters is accepted, and an empty cell
    becomes None; 0: the column has rules of its own."""

    name: str
    synonyms: tuple[str, ...] = ()
    is_required: bool = False
    longest: int = 0
    attribute: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a shipment: one token.

    `row_number` is the line on which the row begins, as an editor counts them. The ids are in lower case, None where
    the file does not know them; `generated_at` is UTC. `otps` is the pair of OTPs or the seed that the row brings;
    None if it brings none, which only a row that mends a batch may: its record keeps what it has. `file_row` is the
    number that the row has in its batch, where an export says it. `extra` holds the columns that mean nothing to us, by
    their names as written; it stays out of the repr, since we cannot know what is in there.
    """

    row_number: int
    serial_number: Annotated[str, Column("serial", ("serial number",), is_required=True)]
    user_id: Annotated[str | None, Column("user_id")] = None
    device_id: Annotated[str | None, Column("device_id")] = None
    username: Annotated[str | None, Column("username", ("upn", "user"), longest=320)] = None
    email: Annotated[str | None, Column("email", ("mail",), longest=320)] = None
    external_id: Annotated[str | None, Column("external_id", longest=1024)] = None
    otp_type: Annotated[OtpType, Column("otp_type", ("type",))] = "hotp"
    generated_at: Annotated[datetime | None, Column("generated_at")] = None
    lot: Annotated[str | None, Column("lot", longest=200)] = None
    otps: OtpSource | None
    file_row: int | None = None
    extra: dict[str, str] = field(default_factory=dict, repr=False)


# The columns of a row but for its OTPs, which each format brings in a way of its own.
COLUMNS = tuple(
    replace(column, attribute=name)
    for name, hint in get_type_hints(Row, include_extras=True).items()
    for column in getattr(hint, "__metadata__", ())
)
# Those whose cells hold any text.
PLAIN = tuple(column for column in COLUMNS if column.longest)
# Controls, soft hyphens, zero-width characters and marks of direction: nobody sees them, and they come along where a
# name is copied from a page or a window.
INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that is refused. The reason names fault and cure, and quotes no cell, so that no OTP gets out; `fault` is
    its kind, by which rows are counted.

    `serial_number` is None where it is missing, malformed, or cannot be told from an OTP in the wrong column.
    """

    row_number: int
    reason: str
    serial_number: str | None
    fault: RowFault


def explain_too_long(row: Row) -> str | None:
    """Explain which value of a row is longer than the database has room for; None if none is."""
    for column in PLAIN:
        if len(getattr(row, column.attribute) or "") > column.longest:
            cure = "see whether a quotation mark is missing or columns are interchanged, or shorten it"
            return f"{column.name} has more than {column.longest} characters: {cure}"
    return None


def explain_invisible(row: Row) -> str | None:
    """Explain which name of a row's person has a character that nobody sees, so that PingOne would not find the person;
    None if none has."""
    for column, name in (("username", row.username), ("email", row.email)):
        if name and INVISIBLE.search(name):
            return f"{column} has a character that nobody sees, such as a zero-width space: type it anew"
    return None


class UnusableFile(Exception):
    """The whole file is refused; the message names the file, the line if there is one, the problem and the cure."""

    def __init__(self, path: Path, problem: str, cure: str, *, row_number: int | None = None) -> None:
        line = "" if row_number is None else f", line {row_number}"
        super().__init__(f"{path}{line}: {problem}. {cure}.")
        self.path = path
        self.row_number = row_number
        self.problem = problem
        self.cure = cure
