"""Who gets what: a list of serial numbers and persons, which is joined with a shipment's rows by the serial number."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from models.row_fault import RowFault
from worker.intake.cut_off import CUT_OFF, read_whole_rows
from worker.intake.foreign_files import GIVE_ANOTHER, JSON, XML, find_foreign
from worker.intake.formats.bare_csv import Cells
from worker.intake.formats.first_lines import HEAD
from worker.intake.formats.format import NO_HINTS, OpenFile
from worker.intake.formats.header_csv import VendorHeader, read_table
from worker.intake.formats.otp_pairs.columns import canonical_column, normalise
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.serials import SERIAL, explain_serial
from worker.intake.identities import PERSON, UUID, explain_id
from worker.intake.opening import open_file
from worker.intake.rows import COLUMNS, Row, RowError, UnusableFile

# The fields of a Row that a list may fill: the person, and the device of a token that is paired already.
ASSIGNED = (*PERSON, "device_id")
# What the names in the header of a list mean.
MEANINGS: Mapping[str, str] = {
    normalise(name): column.name
    for column in COLUMNS
    if column.attribute in ("serial_number", *ASSIGNED)
    for name in (column.name, *column.synonyms)
}

_PERSON = f"{', '.join(PERSON[:-1])} or {PERSON[-1]}"
NO_HEADER = f"Let the list begin with a header of its columns: serial, and one of {_PERSON}; comments begin with #"
GIVE_LIST = f"See whether list and shipment are interchanged: --assign takes a CSV with columns serial, and {_PERSON}"
# What a list is instead, of kinds that a shipment may be of.
NO_LISTS = {XML: "is XML or HTML, and no list", JSON: "is JSON, and no list"}
NO_PERSON = "the list names no person for this token: add a line for it, or leave such tokens out by --only-assigned"
OTHER_PERSON = "the file and the list name different persons or devices for this token: correct one of the two"
SERIAL_TWICE = "the list has this serial number in its lines {first} and {second}: keep the one of the right person"
LIST_CUT_OFF = (
    "the list's line for this token is its last one, has no line break at its end, and may be cut off: if it is whole, "
    "put a line break behind it; otherwise get the list again"
)
WITHOUT_VALUE = "the list's line for this token names no person: fill in one of its columns, or delete the line"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the list. `values` are those of ASSIGNED that it has, `extra` the columns of its own."""

    row_number: int
    values: Mapping[str, str]
    extra: Mapping[str, str] = field(repr=False)
    # Why the token of this line is refused; None if it is not.
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """A list that can be used. `columns` are the names of its columns but for the serial number, as written;
    `digest` is the SHA-256 of its bytes. `nameless`: lines without a usable serial number, and why."""

    path: Path
    columns: list[str]
    digest: str
    lines: Mapping[str, Line]
    nameless: tuple[RowError, ...] = ()

    @property
    def persons_twice(self) -> list[str]:
        """The persons who get more than one token, by the serial numbers of all but the first. Names that differ in
        capitals alone are one person's."""
        seen = Counter[tuple[str, str]]()
        twice = []
        for serial, line in self.lines.items():
            names = [(name, value.lower()) for name, value in line.values.items() if name in PERSON]
            if any(seen[name] for name in names):
                twice.append(serial)
            seen.update(names)
        return twice

    def assign(self, row: Row) -> Row | RowError:
        """Fill in the person, and the columns of the list's own. What the file says itself stays; if the list says
        something else, the row is refused."""
        line = self.lines.get(row.serial_number)
        fault = self._find_fault(row, line)
        if fault:
            return RowError(row.row_number, fault, row.serial_number, RowFault.PERSON_UNFIT)
        if line is None:
            return row
        own = {name if name not in row.extra else f"{name} (list)": value for name, value in line.extra.items()}
        filled = {name: value for name, value in line.values.items() if not getattr(row, name)}
        # The names of ASSIGNED are those of the fields.
        return replace(row, extra=row.extra | own, **filled)  # type: ignore[arg-type]

    def _find_fault(self, row: Row, line: Line | None) -> str | None:
        """Why a row is refused for what the list says, or does not say."""
        if line is None:
            return None if any(getattr(row, name) for name in PERSON) else NO_PERSON
        if line.fault:
            return line.fault
        is_other = any((getattr(row, name) or value).lower() != value.lower() for name, value in line.values.items())
        return OTHER_PERSON if is_other else None


def open_assignment(path: Path) -> Assignment:
    """Read a list: a CSV with a header that has a column for the serial number and one for the person. Raises
    UnusableFile."""
    digest = hashlib.sha256()
    with open_file(path) as stream:
        _refuse_foreign(path, stream.read(HEAD))
        stream.seek(0)
        header, rows = read_table(OpenFile(path, stream, digest, NO_HINTS), MEANINGS, NO_HEADER)
        _check_header(path, header)
        lines: dict[str, Line] = {}
        nameless: list[RowError] = []
        for serial, line in _read_lines(header, rows):
            if not SERIAL.fullmatch(serial):
                reason = line.fault or explain_serial(serial)
                nameless.append(RowError(line.row_number, reason, None, RowFault.SERIAL_UNFIT))
            elif serial in lines:
                numbers = {"first": lines[serial].row_number, "second": line.row_number}
                lines[serial] = replace(lines[serial], fault=SERIAL_TWICE.format(**numbers))
            else:
                lines[serial] = line
    if not lines:
        raise _make_useless(path, nameless)
    columns = [name for name in header.kept_names if canonical_column(name) != "serial"]
    return Assignment(path, columns, digest.hexdigest(), lines, tuple(nameless))


def _make_useless(path: Path, nameless: list[RowError]) -> UnusableFile:
    """Make the error for a list without a line that can be used, and say why its first line cannot."""
    if not nameless:
        return UnusableFile(path, "assigns no token", "Write one line a token below the header")
    problem = f"assigns no token, since {nameless[0].reason}"
    return UnusableFile(path, problem, "None of its lines can be used", row_number=nameless[0].row_number)


def _refuse_foreign(path: Path, head: bytes) -> None:
    """Refuse a list that is no text, or that is a file of another kind. Raises UnusableFile."""
    if found := find_foreign(head):
        problem, cure = found
        raise UnusableFile(path, NO_LISTS.get(found, problem), GIVE_LIST if cure == GIVE_ANOTHER else cure)


def _check_header(path: Path, header: VendorHeader) -> None:
    """Refuse a list without a column for a person. Raises UnusableFile."""
    meanings = {MEANINGS.get(normalise(name)) for name in header.names}
    if not meanings & set(PERSON):
        cure = f"Add one, named {_PERSON}"
        raise UnusableFile(path, "the list has no column for the person", cure, row_number=header.row_number)


def _read_lines(header: VendorHeader, rows: Iterator[tuple[int, Cells]]) -> Iterator[tuple[str, Line]]:
    """Read serial number and line of every row that is not blank; a fault in a row stands in its line."""
    for row in read_whole_rows(rows, partial(_read_line, header)):
        if isinstance(row, Row):
            values = {name: value for name in ASSIGNED if (value := getattr(row, name))}
            yield row.serial_number, Line(row.row_number, values, row.extra)
        elif row.reason:
            reason = LIST_CUT_OFF if row.reason == CUT_OFF else row.reason
            yield row.serial_number or "", Line(row.row_number, {}, {}, reason)


def _read_line(header: VendorHeader, row_number: int, cells: Cells) -> Row | RowError:
    """Read a line as a row without OTPs; the reason is empty if the line names neither a token nor a person."""
    try:
        known, own = header.pick(cells)
    except RowRefused as refused:
        return RowError(row_number, str(refused), None, RowFault.ROW_UNREADABLE)
    serial = known.pop("serial", "")
    values = {
        name: value.lower() if name.endswith("_id") and name != "external_id" else value
        for name, value in known.items()
        if value
    }
    if fault := _find_fault(values):
        return RowError(row_number, fault if serial or values else "", serial, RowFault.PERSON_UNFIT)
    # The names of ASSIGNED are those of the fields.
    return Row(row_number=row_number, serial_number=serial, otps=None, extra=own, **values)  # type: ignore[arg-type]


def _find_fault(values: Mapping[str, str]) -> str | None:
    """Why a line cannot be used: an id that is none, or no person."""
    for name in ("user_id", "device_id"):
        if name in values and not UUID.fullmatch(values[name]):
            return explain_id(name)
    return None if any(name in values for name in PERSON) else WITHOUT_VALUE
