"""OTP pairs: our own CSV, with a serial number and two one-time passwords in each row. The file of a mend, an export or
a list of who gets what, can be one too: its rows may have fresh OTPs, or none. No reason quotes a cell, since any cell
may hold an OTP."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path

from models.person import PERSON
from models.row_fault import RowFault
from worker.intake.files import (
    COMMENT,
    EXPORT_CSV,
    HAS_SEPARATOR_LINE,
    HEADER_CUT_IN_TWO,
    HEADER_MISSING,
    MAX_COLUMNS,
    SEPARATOR_LINE,
    Cells,
    Header,
    OpenFile,
    find_data,
    find_twice,
    goes_on,
    is_blank,
    read_lines,
    read_whole_rows,
    show_name,
    split_header,
    split_rows,
)
from worker.intake.rows import (
    AS_TEXT,
    EXCEL_QUOTED,
    FILE_ROW,
    KNOWN,
    OTP1,
    PLAIN,
    SERIAL,
    TOO_SOON,
    UUID,
    Row,
    RowError,
    RowRefused,
    UnusableFile,
    canonical_column,
    drop_guards,
    explain_id,
    explain_quoted,
    explain_serial,
    find_reason,
    is_result,
    looks_like_data,
    names_secret,
    normalize,
    read_not_before,
)
from worker.intake.tokens import OTP_TYPES, looks_like_secret
from worker.vault.otps import Otp, OtpPair

# Lines below a comment that are searched for a header.
SEARCHED = 20
# Six digits, or eight.
OTP = re.compile(r"[0-9]{6}(?:[0-9]{2})?")
NUMBER = re.compile(r"[0-9]+")
# A row's number.
FILE_ROW_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
# A future time is wrong only if it is further ahead than this: the clocks of two machines may differ.
CLOCK_TOLERANCE = timedelta(minutes=5)
# Columns whose cells are checked, in the order in which `_check` unpacks them.
CHECKED = ("serial", "otp1", "otp2", "user_id", "device_id", "otp_type", "generated_at", "not_before", FILE_ROW)

# A problem with a header, and its cure.
Fault = tuple[str, str]


def read_otp_pairs(file: OpenFile, now: datetime) -> tuple[list[str], Iterator[Row | RowError]]:
    """Read the header, and return the columns that an export repeats and the rows. Raises UnusableFile."""
    lines = read_lines(file)
    header = read_header(file.path, lines, mends=file.hints.mends)
    below = next(lines, "")
    if goes_on(header.line, below):
        raise UnusableFile(file.path, *HEADER_CUT_IN_TWO, row_number=header.row_number)
    lines = chain([below] if below else [], lines)
    reader = PairReader(header, now, file.hints.zone, may_lack_otps=file.hints.mends)
    rows = split_rows(lines, header.delimiter, header.row_number, len(header.names), is_one_row=reader.is_one_row)
    whole = ((number, fields) for number, fields in rows if fields is None or any(map(str.strip, fields)))
    return [name for name in header.names if not is_result(name)], read_whole_rows(whole, reader.read)


# The header


def read_header(path: Path, lines: Iterator[str], *, mends: bool = False) -> Header:
    """Read the header, which is the first line that is not blank; `lines` continues after it. `mends`: the rows belong
    to a loaded batch, so they need no OTPs. Raises UnusableFile."""
    row_number, line = next(((n, text) for n, text in enumerate(lines, 1) if not is_blank(text)), (0, ""))
    if not row_number:
        raise UnusableFile(path, "is empty", EXPORT_CSV)
    delimiter, names = split_header(line, is_strict=True)
    fault = (
        _find_unreadable(line, delimiter, names, lines)
        or _find_secret(names)
        or _find_incomplete(names, mends=mends)
        or _find_double(names)
    )
    if fault:
        raise UnusableFile(path, *fault, row_number=row_number)
    return Header(row_number, delimiter, names, [canonical_column(name) or "" for name in names], line)


def _find_unreadable(line: str, delimiter: str, names: list[str], below: Iterator[str]) -> Fault | None:
    """Find a reason why this line is not a header of OTP pairs. `below`: the lines that follow it."""
    if SEPARATOR_LINE.match(line):
        return HAS_SEPARATOR_LINE
    if not delimiter:
        cure = "Close the quotation marks, and keep line breaks out of column names"
        return "the quotation marks in the header do not match", cure
    if len(names) > MAX_COLUMNS:
        return f"the header has more than {MAX_COLUMNS} columns", "Remove those that say nothing about the tokens"
    if any(map(canonical_column, names)):
        return find_data(names)
    is_comment = COMMENT.match("".join(names[:1]))
    if is_comment and any(map(_looks_like_header, islice(below, SEARCHED))):
        return "begins with a comment instead of a header", "Delete the lines above the header"
    # The message does not quote the line: if it is a row of data, it holds OTPs or seeds.
    problem = "the first line names none of the columns of OTP pairs"
    if is_comment:
        problem = "begins with a comment, and no known header follows"
    elif any(map(looks_like_data, names)):
        problem = HEADER_MISSING
    columns = "serial,otp1,otp2,user_id,device_id"
    cure = f"Put a header above the rows, separated by comma, semicolon or tab, such as: {columns}"
    cure += "; for a vendor's file of seeds, add --format. docs/files.md lists what is read"
    return problem, cure


def _looks_like_header(line: str) -> bool:
    """Whether a line names several of our columns."""
    _, names = split_header(line, is_strict=True)
    return not SEPARATOR_LINE.match(line) and sum(map(bool, map(canonical_column, names))) > 1


def _find_secret(names: list[str]) -> Fault | None:
    """Find a column whose name says that it holds a secret: foreign columns are not encrypted."""
    is_of_pairs = bool({OTP1.name, FILE_ROW} & set(map(canonical_column, names)))
    for place, name in enumerate(names, 1):
        if canonical_column(name) is None and not is_result(name) and names_secret(name):
            cure = (
                "Remove the column, or rename it if it holds no secret: only the OTPs are kept encrypted"
                if is_of_pairs
                else "It is not a known vendor's file of seeds (see oathbulk formats): ask the vendor for PSKC, or "
                "write it as serial,seed,type,digits,counter or step, without a header; if it holds pairs, add "
                "otp1 and remove the column"
            )
            return f"{_describe(name, place)} says that it holds a seed, key, PIN, password or another OTP", cure
    return None


def _find_incomplete(names: list[str], *, mends: bool) -> Fault | None:
    """Find a missing required column, or a column without a name. Also find out if the file is an export, which can
    only mend its own batch."""
    found = {canonical_column(name) for name in names}
    if FILE_ROW in found and not mends:
        cure = f"Mend its batch with it: oathbulk mend BATCH FILE. To load new rows: delete the column {FILE_ROW}"
        return f"is an export of a batch, by its column {FILE_ROW}", cure
    lacked = found | {OTP1.name} if mends else found
    if missing := [column.name for column in KNOWN if column.is_required and column.name not in lacked]:
        cure = "Add it, or rename the column that holds it; a file of seeds is not a file of OTP pairs"
        if missing == [OTP1.name] and found & set(PERSON):
            cure += "; if this is the list of who gets what, give it with --assign, and the file of the tokens here"
        return f"the header has no column {' and no column '.join(missing)}", cure
    if unnamed := [place for place, name in enumerate(names, 1) if not name.strip()]:
        return f"column {unnamed[0]} has no name", "Name the column or remove it"
    return None


def _find_double(names: list[str]) -> Fault | None:
    """Find two columns that mean the same."""
    twice = find_twice((canonical_column(name) or normalize(name), "") for name in names)
    if twice is None:
        return None
    first, second = twice
    problem = f"{_describe(names[second - 1], second)} means the same as column {first}"
    return problem, "Remove or rename one of the two"


def _describe(name: str, place: int) -> str:
    """Name a column by its number, and by its name unless that may be the value of a cell."""
    is_name = len(name) <= 40 and not looks_like_data(name)
    return f"column {place} ('{show_name(name)}')" if is_name else f"column {place}"


# The rows


class PairReader:
    """Reads the rows under one header. `now` has a zone; a row's `generated_at` may be at most CLOCK_TOLERANCE later.
    `zone`: for dates without an offset. `may_lack_otps`: a row may have no OTPs, since it mends a record that may have
    them."""

    def __init__(
        self, header: Header, now: datetime, zone: tzinfo | None = None, *, may_lack_otps: bool = False
    ) -> None:
        self._header = header
        self._zone = zone
        self._may_lack_otps = may_lack_otps
        self._width = len(header.names)
        self._latest = now + CLOCK_TOLERANCE
        self._places = {meaning: place for place, meaning in enumerate(header.meanings) if meaning}
        # A missing column is read from the blank cell that is appended to every row.
        self._pick = itemgetter(*(self._places.get(name, self._width) for name in CHECKED))
        self._plain = [(column.attribute, self._places.get(column.name, self._width)) for column in PLAIN]

    def is_fitting(self, fields: list[str]) -> bool:
        """Whether a row has a field for every column, and only empty ones beyond them, such as Excel writes."""
        return len(fields) >= self._width and not any(map(str.strip, fields[self._width :]))

    def is_one_row(self, fields: list[str]) -> bool:
        """Whether fields with line breaks are one row: they fit the header, and no break is in our columns."""
        ours = [fields[place] for place in self._places.values()] if self.is_fitting(fields) else ["\n"]
        return not any("\n" in field or "\r" in field for field in ours)

    def read(self, row_number: int, fields: Cells) -> Row | RowError:
        """Make a Row from these fields, or a RowError that says why that is impossible; raises nothing. Blanks around
        the values of our columns are dropped."""
        if fields is None:
            return RowError(
                row_number,
                "a quotation mark is never closed, or is inside a quoted value: remove it, or double it there; "
                "only columns of your own may hold line breaks",
                None,
                RowFault.ROW_UNREADABLE,
            )
        if not self.is_fitting(fields):
            # If a field is missing or extra, only the first one is certainly in its column.
            serial = "" if self._places["serial"] else fields[0].strip()
            reason = _explain_fields(len(fields), self._width)
            return RowError(row_number, reason, _find_nameable_serial(serial, otp1=""), RowFault.ROW_UNREADABLE)
        whole = [*fields[: self._width], ""]
        if FILE_ROW in self._places:
            # An export wrote the file, and put an apostrophe before any value that a spreadsheet would run as a
            # formula.
            whole = [*map(drop_guards, whole)]
        cells = [*map(str.strip, self._pick(whole))]
        try:
            return self._check(row_number, whole, cells)
        except RowRefused as refused:
            reason = self._header.name_column(str(refused))
            return RowError(row_number, reason, _find_nameable_serial(cells[0], cells[1]), refused.fault)

    def _check(self, row_number: int, fields: list[str], cells: list[str]) -> Row:
        """Check the cells of CHECKED, in this order, and make the Row. Raises RowRefused."""
        serial, otp1, otp2, user_id, device_id, otp_type, generated_at, not_before, file_row = cells
        if not SERIAL.fullmatch(serial):
            raise RowRefused(explain_serial(serial), fault=RowFault.SERIAL_UNFIT)
        kind = OTP_TYPES.get(otp_type.lower() or "hotp")
        if kind is None:
            raise _refuse("otp_type is neither hotp nor totp: write one of the two, or leave it empty for hotp")
        if file_row and not FILE_ROW_NUMBER.fullmatch(file_row):
            cure = "copy it from the export; or clear it, so that the row is found by its serial number"
            raise RowRefused(
                f"{FILE_ROW} is not as the export wrote it, a whole number: {cure}", fault=RowFault.FILE_ROW_UNFIT
            )
        otps = _check_otps(otp1, otp2, kind) if otp1 or otp2 or not self._may_lack_otps else None
        own = {name: fields[place] for name, place in self._header.own_names.items()}
        if otps and any(otp in NUMBER.findall(value) for value in own.values() for otp in (otp1, otp2) if otp in value):
            raise _refuse(
                "one of your own columns contains an OTP of the row, and would be stored unencrypted: remove it"
            )
        for column, value in (("user_id", user_id), ("device_id", device_id)):
            if value and not UUID.fullmatch(value):
                raise RowRefused(explain_id(column), fault=RowFault.PERSON_UNFIT)
        return Row(
            row_number=row_number,
            serial_number=serial,
            user_id=user_id.lower() or None,
            device_id=device_id.lower() or None,
            otps=otps,
            file_row=int(file_row) if file_row else None,
            otp_type=kind,
            lacks_type=bool(generated_at and otps and not otp_type),
            generated_at=self._check_time(generated_at, is_needed=kind == "totp" and otps is not None),
            not_before=self._check_date(not_before, is_soon=kind == "totp" and otps is not None),
            **{attribute: fields[place].strip() or None for attribute, place in self._plain},
            extra=own,
        )

    def _check_date(self, text: str, *, is_soon: bool) -> datetime | None:
        """Read the date before which a row may not start; `is_soon`: its OTPs expire too soon for a later date. Raises
        RowRefused."""
        # A mend does not change which records a person keeps back.
        date = read_not_before(text, self._zone, keeps_back=not self._may_lack_otps)
        if is_soon and date:
            raise RowRefused(TOO_SOON, fault=RowFault.DATE_UNFIT)
        return date

    def _check_time(self, text: str, *, is_needed: bool) -> datetime | None:
        """Read the cell `generated_at`, which a TOTP pair must have, as a time in UTC. Raises RowRefused."""
        if not text:
            if is_needed:
                raise _refuse(
                    "generated_at is missing: a TOTP pair ages within minutes, so say when it was produced, "
                    "such as 2026-03-01T09:30:00Z, in a column generated_at"
                )
            return None
        try:
            time = datetime.fromisoformat(text)
            # astimezone would treat a time without a zone as this machine's local time.
            if time.tzinfo is None:
                raise _refuse(
                    "generated_at has no time zone: add Z for UTC, or the offset, such as 2026-03-01T09:30:00+01:00"
                )
            time = time.astimezone(UTC)
        except (ValueError, OverflowError):
            cure = "write it like 2026-03-01T09:30:00Z, in a column formatted as Text"
            raise _refuse(f"generated_at is not an ISO 8601 time: {cure}") from None
        if time > self._latest:
            raise _refuse(
                "generated_at is in the future: check its time zone, this machine's clock, "
                "and the clock of the machine that produced the pair"
            )
        return time


def _refuse(reason: str) -> RowRefused:
    return RowRefused(reason, fault=RowFault.OTPS_UNFIT)


def _check_otps(otp1: str, otp2: str, kind: str) -> OtpPair:
    """Check the two OTPs, the second of which may be missing; they must have the same length. Raises RowRefused.

    Equal HOTP values pass: every press of the button advances the counter, and one pair in a million is equal by
    chance, so a check would cost a large shipment a good token. Equal TOTP values are refused: most likely the display
    was read twice in one time step. Then the second OTP is not the next one, and sending it would bring the device
    closer to a lock."""
    if not OTP.fullmatch(otp1):
        raise _refuse(_explain_otp("otp1", otp1))
    if not otp2:
        return OtpPair(Otp(otp1), None)
    if not OTP.fullmatch(otp2):
        raise _refuse(_explain_otp("otp2", otp2))
    if len(otp2) != len(otp1):
        raise _refuse(
            "otp1 and otp2 differ in their number of digits: Excel dropped leading zeros, or two tokens are mixed up; "
            "format both columns as Text and export again"
        )
    if otp1 == otp2 and kind == "totp":
        raise _refuse(
            "otp1 and otp2 are the same: a TOTP token was read twice within one time step; "
            "produce the pair again and wait for the display to change"
        )
    return OtpPair(Otp(otp1), Otp(otp2))


def _find_nameable_serial(serial: str, otp1: str) -> str | None:
    """Find the serial number that an error may name; None if it is malformed, or may be an OTP or a seed because the
    columns are swapped."""
    is_interchanged = not OTP.fullmatch(otp1) and (OTP.fullmatch(serial) or looks_like_secret(serial))
    return serial if SERIAL.fullmatch(serial) and not is_interchanged else None


def _explain_fields(fields: int, columns: int) -> str:
    """Explain that a row is refused because it has more or fewer fields than the header has columns."""
    if fields < columns:
        cure = "keep the separators of empty values, and check whether the line was cut off"
    else:
        cure = "put a value that contains the separator in quotation marks"
    return f"the row has {fields} field{'s' * (fields != 1)}, but the header has {columns} columns: {cure}"


def _explain_otp(column: str, otp: str) -> str:
    """Explain what is wrong with an OTP that is not 6 or 8 digits."""
    known = {
        f"{column} is missing: produce an OTP with the token and write it there": not otp,
        explain_quoted(column): EXCEL_QUOTED.match(otp),
        f"{column} has characters other than digits: write only the 6 or 8 digits, in the right column; {AS_TEXT}": (
            not (otp.isascii() and otp.isdigit())
        ),
        f"{column} has more than 8 digits: an OTP has 6 or 8; check whether it is in the right column": len(otp) > 8,
    }
    return find_reason(known) or (
        f"{column} has {len(otp)} digits, but an OTP has 6 or 8: Excel drops leading zeros; {AS_TEXT}. "
        "oathbulk does not guess zeros, because a wrong OTP counts toward a lock"
    )
