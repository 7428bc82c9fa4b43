"""Lists that accompany a shipment: who gets what, joined with its rows by serial number; and lists of tokens, such as
those of people who leave."""

import marshal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from functools import partial
from pathlib import Path

from models.person import PERSON
from models.row_fault import RowFault
from worker.intake.files import (
    CUT_OFF,
    HEAD,
    Cells,
    Header,
    OpenFile,
    OpenRow,
    blank_comments,
    check_cells,
    find_names,
    make_refusal,
    open_file,
    read_lines,
    read_table,
    read_whole_rows,
    split_cells,
)
from worker.intake.rows import (
    COLUMNS,
    SERIAL,
    TOO_SOON,
    UUID,
    Row,
    RowError,
    RowRefused,
    UnusableFile,
    canonical_column,
    explain_id,
    explain_serial,
    find_reason,
    name_columns,
    read_not_before,
)
from worker.vault.otps import OtpPair

# The fields of a Row that a list can fill: the person, the device of an already paired token, when it may start, and
# its lot.
ASSIGNED = (*PERSON, "device_id", "not_before", "lot")
# What the names in the header of a list mean.
MEANINGS = name_columns(tuple(column for column in COLUMNS if column.attribute in ("serial_number", *ASSIGNED)))

_PERSON = f"{', '.join(PERSON[:-1])} or {PERSON[-1]}"
GIVE_TOKENS = (
    f"Give a CSV with a header that has the column `serial`, or names the person by {_PERSON}; or only "
    f"serial numbers, one per line"
)
NO_PERSON = "the list names no person for this token: add a line for it, or skip such tokens with --only-assigned"
LIST_CUT_OFF = (
    "the list's line for this token is the last one, has no line break, and might be cut off: if it is whole, add a "
    "line break; otherwise get the list again"
)


@contextmanager
def _open_list(path: Path, cure: str) -> Iterator[tuple[bytes, OpenFile]]:
    """Open a list, and yield its first bytes and the file from its beginning. Raises UnusableFile if it is not text."""
    with open_file(path) as stream:
        head = stream.read(HEAD)
        if foreign := make_refusal(path, head, "but not a list", cure):
            raise foreign
        stream.seek(0)
        yield head, OpenFile(path, stream)


# Who gets what


class Lines(Mapping[str, Row]):
    """The lines of a list as rows without OTPs, by serial number in lowercase. They are packed until needed, since a
    list may be as long as its shipment. Of several lines with the same serial number, the first is kept."""

    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}

    def add(self, line: Row) -> None:
        values = {name: value for name in ASSIGNED if (value := getattr(line, name))}
        if line.not_before:
            values["not_before"] = line.not_before.isoformat()
        packed = marshal.dumps((line.row_number, line.serial_number, values, line.extra))
        self._packed.setdefault(line.serial_number.lower(), packed)

    def __getitem__(self, key: str) -> Row:
        number, serial, values, extra = marshal.loads(self._packed[key])  # noqa: S302 - what `add` has packed
        if "not_before" in values:
            values["not_before"] = datetime.fromisoformat(values["not_before"])
        return Row(row_number=number, serial_number=serial, otps=None, extra=extra, **values)

    def __contains__(self, key: object) -> bool:
        return key in self._packed

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A usable list. `columns` are the names of its columns except the serial number, as written; `digest` is the
    SHA-256 of its bytes. By serial number in lowercase, `lines` has each token's line, as a row without OTPs, and
    `faults` why the tokens of some lines are refused. `nameless`: lines without a usable serial number, and why."""

    path: Path
    columns: list[str]
    digest: str
    lines: Mapping[str, Row] = field(repr=False)
    faults: Mapping[str, RowError] = field(default_factory=dict)
    nameless: tuple[RowError, ...] = ()

    def assign(self, row: Row) -> Row | RowError:
        """Fill in a row's person and the list's own columns. The row is refused if file and list contradict each
        other."""
        key = row.serial_number.lower()
        if fault := self.faults.get(key):
            return replace(fault, row_number=row.row_number, list_line=fault.row_number)
        line, problem = self.lines.get(key), ""
        assigned = {name: value for name in ASSIGNED if (value := getattr(line, name, None))}
        if line is None and not any(getattr(row, name) for name in PERSON):
            problem = NO_PERSON
        if any(str(getattr(row, name) or value).lower() != str(value).lower() for name, value in assigned.items()):
            named = "persons, devices, dates or lots"
            problem = f"the file and the list name different {named} for this token: correct one of the two"
        if "not_before" in assigned and row.otp_type == "totp" and isinstance(row.otps, OtpPair):
            return RowError(row.row_number, TOO_SOON, row.serial_number, RowFault.DATE_UNFIT)
        if problem:
            return RowError(row.row_number, problem, row.serial_number, RowFault.PERSON_UNFIT)
        if line is None:
            return row
        own = {name if name not in row.extra else f"{name} (list)": value for name, value in line.extra.items()}
        filled = {name: value for name, value in assigned.items() if not getattr(row, name)}
        return replace(row, extra=row.extra | own, **filled)


def open_assignment(path: Path, zone: tzinfo | None = None) -> Assignment:
    """Read a list of who gets what: a CSV with a header that has a column for the serial number and one for the person.
    `zone`: for its dates without an offset; None for this machine's. Raises UnusableFile."""
    cure = (
        "Check whether you swapped the list and the shipment: --assign takes a CSV with the column serial and one of "
        f"{_PERSON}"
    )
    with _open_list(path, cure) as (_, file):
        cure = f"Start the list with a header: serial, and one of {_PERSON}; comments start with #"
        header, rows = read_table(file, MEANINGS, cure)
        read = partial(_read_line, header, zone)
        if not set(header.meanings) & set(PERSON):
            raise UnusableFile(
                path, "the list has no column for the person", f"Add one, named {_PERSON}", row_number=header.row_number
            )
        lines, faults, nameless = _sort_lines(read_whole_rows(rows, read))
        digest = file.digest()
    if nameless and not lines:
        raise UnusableFile(
            path,
            f"assigns no token, because {nameless[0].reason}",
            "None of its lines is usable",
            row_number=nameless[0].row_number,
        )
    if not lines:
        raise UnusableFile(path, "assigns no token", "Write one line for each token below the header")
    columns = [name for name in header.kept_names if canonical_column(name) != "serial"]
    return Assignment(path, columns, digest, lines, faults, tuple(nameless))


def _sort_lines(read: Iterable[Row | RowError]) -> tuple[Lines, dict[str, RowError], list[RowError]]:
    """Sort the lines of a list by serial number, and collect their faults, and lines without a usable serial number."""
    lines, faults = Lines(), dict[str, RowError]()
    nameless: list[RowError] = []
    for line in read:
        serial, fault = line.serial_number or "", "" if isinstance(line, Row) else line.reason
        if isinstance(line, RowError) and not fault:
            continue
        fault = LIST_CUT_OFF if fault == CUT_OFF else fault
        if not SERIAL.fullmatch(serial):
            reason = fault or explain_serial(serial)
            nameless.append(RowError(line.row_number, reason, None, RowFault.SERIAL_UNFIT))
            continue
        key = serial.lower()
        if key in lines:
            numbers = f"{lines[key].row_number} and {line.row_number}"
            fault = f"the list has this serial number on lines {numbers}: keep the one with the right person"
        if fault:
            kind = line.fault if isinstance(line, RowError) else RowFault.PERSON_UNFIT
            faults[key] = RowError(line.row_number, fault, serial, kind)
        without_person = Row(row_number=line.row_number, serial_number=serial, otps=None)
        lines.add(line if isinstance(line, Row) else without_person)
    return lines, faults, nameless


def _read_line(header: Header, zone: tzinfo | None, row_number: int, cells: Cells) -> Row | RowError:
    """Read a line as a row without OTPs. An error's reason is empty if the line names neither a token nor a person."""
    try:
        known, own = header.pick(cells)
    except RowRefused as refused:
        return RowError(row_number, str(refused), None, RowFault.ROW_UNREADABLE)
    serial = known.pop("serial", "")
    values = {
        name: value.lower() if name in ("user_id", "device_id") else value for name, value in known.items() if value
    }
    odd_ids = [name for name in ("user_id", "device_id") if name in values and not UUID.fullmatch(values[name])]
    if odd_ids or not values.keys() & set(PERSON):
        nobody = "the list's line for this token names no person: fill in one of its columns, or delete the line"
        fault = f"the list's {header.name_column(explain_id(odd_ids[0]))}" if odd_ids else nobody
        return RowError(row_number, fault if serial or values else "", serial, RowFault.PERSON_UNFIT)
    try:
        not_before = read_not_before(values.pop("not_before", ""), zone, keeps_back=True)
    except RowRefused as refused:
        return RowError(row_number, f"the list's {header.name_column(str(refused))}", serial, refused.fault)
    # The names of ASSIGNED are those of the fields.
    return Row(row_number=row_number, serial_number=serial, otps=None, not_before=not_before, extra=own, **values)  # type: ignore[arg-type]


# Tokens that somebody names


@dataclass(frozen=True, slots=True)
class TokenList:
    """Tokens as a list names them, each name once. `column`: the field of a Row with these names: the serial number or,
    if the list has none, a name of the token's person. `digest`: the SHA-256 of the list's bytes."""

    names: tuple[str, ...]
    digest: str
    column: str = "serial_number"


def open_token_list(path: Path) -> TokenList:
    """Read a list of tokens: a CSV with a column for serial numbers or people, or only serial numbers, one on each
    line. One unusable row refuses the whole list, since nobody would notice a token that is skipped, or confused with
    another. Raises UnusableFile."""
    names: dict[str, str] = {}
    with _open_list(path, GIVE_TOKENS) as (head, file):
        column, pick, rows = _open_names(file, head)
        for row_number, cells in rows:
            name = _read_name(path, row_number, cells, pick, column)
            names.setdefault(name.lower(), name)
        digest = file.digest()
    if not names:
        raise UnusableFile(path, "names no token", GIVE_TOKENS)
    return TokenList(tuple(names.values()), digest, column)


def _open_names(file: OpenFile, head: bytes) -> tuple[str, Callable[[Cells], str], Iterator[tuple[int, Cells]]]:
    """Open the rows below the header, or all rows if there is no header. Also returns the field of a Row that the names
    belong to, and how to pick a name from a row."""
    found = find_names(head, MEANINGS)
    named = {MEANINGS[name] for name in found & MEANINGS.keys()}
    if "serial" not in named and len(named & set(PERSON)) > 1:
        raise UnusableFile(
            file.path,
            f"identifies people by several columns ({', '.join(sorted(named & set(PERSON)))})",
            "Keep only one of these columns",
        )
    for column in ("serial_number", *PERSON):
        # Any column that identifies a token is read as its serial number.
        meanings = dict.fromkeys(name_columns(tuple(each for each in COLUMNS if each.attribute == column)), "serial")
        if found & meanings.keys():
            header, rows = read_table(file, meanings, GIVE_TOKENS)
            return column, partial(_pick_name, header), rows
    if len(found) > 1 or not any(map(str.isdigit, "".join(found))):
        problem = "the list has no column for the serial" if found else "names no token"
        raise UnusableFile(file.path, problem, GIVE_TOKENS)
    rows = split_cells(blank_comments(read_lines(file)), ",")
    return "serial_number", lambda cells: check_cells(cells, 1, 1)[0], rows


def _pick_name(header: Header, cells: Cells) -> str:
    return header.pick(cells)[0]["serial"]


def _read_name(path: Path, row_number: int, cells: Cells, pick: Callable[[Cells], str], column: str) -> str:
    """Read the name in a row. Raises UnusableFile."""
    try:
        name = pick(cells)
    except RowRefused as refused:
        raise UnusableFile(path, str(refused), GIVE_TOKENS, row_number=row_number) from None
    unfit = {
        # A name that lost a character may be another token's.
        CUT_OFF: isinstance(cells, OpenRow) and not cells.is_quoted and cells[-1] == name,
        explain_serial(name): column == "serial_number" and not SERIAL.fullmatch(name),
        f"{column} is empty": not name,
    }
    if reason := find_reason(unfit):
        raise UnusableFile(path, reason, "Nothing was done", row_number=row_number)
    return name
