"""Reads files as bytes, lines and rows: limits the length of a line, computes the digest along the way, and recognizes
kinds of files that no format reads. For a CSV, reads the header, splits rows into cells, and refuses rows that may be
cut off.

csv.reader does the splitting, but is kept from swallowing the good rows after a quotation mark that is never closed.
"""

import csv
import hashlib
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from string import ascii_letters
from typing import Any, BinaryIO, Literal

from models.row_fault import RowFault
from worker.intake.rows import (
    CANONICAL,
    LENGTH_OF_SEED,
    MAY_BE_NAME,
    SERIAL,
    Row,
    RowError,
    RowRefused,
    UnusableFile,
    canonical_column,
    find_nameable_serial,
    find_reason,
    is_own,
    looks_like_data,
    normalize,
)
from worker.vault.otps import HashAlgorithm, OtpType, Seed

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# The encodings of a secret's characters.
Encoding = Literal["hex", "base32", "base64"]
# The beginning of a comment.
COMMENT = re.compile(r"\s*#")
# Number of bytes at a file's start by which its format is recognized: enough to find the names that distinguish a
# workbook from another zip archive.
HEAD = 4096
# Maximum bytes of a line. A row with a pair has about 150; a longer line is not part of a CSV, and would fill the
# memory.
MAX_LINE = 64 * 1024
# Bytes that are read at once.
CHUNK = 64 * 1024

# Cures for files that no format reads.
SAVE_AS = "Save it as UTF-8; in Excel: File > Save As > 'CSV UTF-8 (Comma delimited)'"
XML_AS_UTF_8 = 'Save it as UTF-8, and write encoding="UTF-8" into its first line'
UNPACK = "Unpack or decrypt it, and give the file inside"
EXPORT_CSV = "Export a CSV with a header line such as: serial,otp1,otp2,user_id,device_id"
GIVE_ANOTHER = f"Give the vendor's seed file as it was sent, or write OTP pairs: {EXPORT_CSV}"
# Problem and cure of each kind of file that is refused.
WORKBOOK = ("is a spreadsheet, not a CSV", SAVE_AS)
UTF_16 = ("is UTF-16, which Excel calls 'Unicode Text'", SAVE_AS)
UTF_16_XML = ("is XML in UTF-16", XML_AS_UTF_8)
NULS = ("starts with only NUL bytes: copying it was not finished", "Get the file again")
XML = ("is XML or HTML", GIVE_ANOTHER)
JSON = ("is JSON", GIVE_ANOTHER)
ZIP = ("is a zip archive", UNPACK)
# The first bytes of each kind of file. RTF must precede JSON, since both begin with `{`. Zip archives are checked more
# closely; XML and JSON are refused only if no format reads them.
SIGNATURES = {
    b"\xff\xfe": UTF_16,
    b"\xfe\xff": UTF_16,
    b"\xd0\xcf\x11\xe0": WORKBOOK,
    b"PK\x03\x04": ZIP,
    b"PK\x05\x06": ZIP,
    b"\x1f\x8b": ("is a gzip archive", UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("is a 7z archive", UNPACK),
    b"-----BEGIN PGP": ("is encrypted or signed with PGP", UNPACK),
    b"%PDF": ("is a PDF", GIVE_ANOTHER),
    b"{\\rtf": ("is RTF, which word processors write", GIVE_ANOTHER),
    b"{": JSON,
    b"[": JSON,
    b"<": XML,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What a person says about a file. Each value comes from a command-line option, and is None if not given. The
    file's own values take precedence."""

    # `--encoding`: for secrets whose characters can be read in two ways.
    encoding: Encoding | None = None
    # `--otp-type`, `--digits`, `--time-step` (seconds), `--hash`: for all tokens, if the file does not say.
    otp_type: OtpType | None = None
    digits: int | None = None
    time_step: int | None = None
    hash_algorithm: HashAlgorithm | None = None
    # `--zone`: the time zone of dates without an offset; None: this machine's.
    zone: tzinfo | None = None
    # `--key-file`: the pre-shared key that the vendor sent separately.
    key: bytes | None = field(default=None, repr=False)
    # `--password-file`: the password that the vendor sent separately.
    password: bytes | None = field(default=None, repr=False)
    # `oathbulk mend`: the rows belong to a loaded batch, whose records have what the file lacks.
    mends: bool = False


NO_HINTS = Hints()


class OpenFile:
    """A file that is read from its beginning, with what a person says about it. Its digest covers all bytes."""

    def __init__(self, path: Path, stream: BinaryIO, hints: Hints = NO_HINTS) -> None:
        self.path = path
        self.hints = hints
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int = CHUNK) -> bytes:
        """Read the next bytes, at most `size`; return an empty value at the end of the file."""
        block = self._stream.read(size)
        self._digest.update(block)
        return block

    def digest(self) -> str:
        """Read on to the end, and return the SHA-256 of all bytes."""
        while self.read():
            pass
        return self._digest.hexdigest()


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file. Raises UnusableFile for any other, such as a pipe, which cannot be read twice and may block
    forever when opened, and for a file that cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnusableFile(path, "is not a regular file", "Give the path of a file")
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise UnusableFile(
            path, f"cannot be read ({error.strerror or error})", "Check its path, and that you may read it"
        ) from error


def read_lines(file: OpenFile) -> Iterator[str]:
    """Yield the lines with their line endings (CRLF, LF or CR), without the byte order mark.

    Lines are split only at these endings: `str.splitlines` would also split at characters that may be part of a name.
    Raises UnusableFile for a line longer than MAX_LINE bytes, a NUL, or bytes that are not UTF-8.
    """
    number, tail = 0, b""
    while chunk := file.read():
        if not number and not tail:
            chunk = chunk.removeprefix(BYTE_ORDER_MARK)
        lines = (tail + chunk).splitlines(keepends=True)
        # The last line may continue in the next chunk, and a CR at its end may be half of a CRLF.
        tail = lines.pop() if lines else b""
        for line in lines:
            number += 1
            yield _decode(file.path, line, number)
        _refuse_too_long(file.path, tail, number + 1)
    if tail:
        yield _decode(file.path, tail, number + 1)


def _decode(path: Path, line: bytes, number: int) -> str:
    """Decode one line. Raises UnusableFile."""
    _refuse_too_long(path, line, number)
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnusableFile(
            path, f"is not UTF-8 (byte {error.start + 1} of the line)", SAVE_AS, row_number=number
        ) from None
    if "\0" in text:
        raise UnusableFile(
            path,
            "holds a NUL byte",
            "The file is damaged or not a text file: export it again as text",
            row_number=number,
        )
    return text


def _refuse_too_long(path: Path, line: bytes, number: int) -> None:
    if len(line) > MAX_LINE:
        raise UnusableFile(
            path,
            f"the line is longer than {MAX_LINE} bytes",
            "Check whether it is the right file, and put every row on its own line",
            row_number=number,
        )


def find_foreign(head: bytes) -> tuple[str, str] | None:
    """Find the problem with a file that begins with these bytes (a few kilobytes), and its cure; None if it is text."""
    start = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    found = next((kind for signature, kind in SIGNATURES.items() if start.startswith(signature)), None)
    if found is ZIP and (b"xl/" in head or b"[Content_Types].xml" in head or b"opendocument" in head):
        return WORKBOOK
    # UTF-16 without a byte order mark: in Western text, every first or every second byte is NUL.
    is_half_nul = any(half.count(0) * 2 > len(half) for half in (head[::2], head[1::2]))
    if not head.strip(b"\0") and head:
        return NULS
    if found is UTF_16 or (is_half_nul and found in (None, XML, JSON)):
        return UTF_16_XML if start.lstrip(b"\xff\xfe\0").startswith(b"<") else UTF_16
    return found


def make_refusal(path: Path, head: bytes, what: str, cure: str = GIVE_ANOTHER) -> UnusableFile | None:
    """Make the error for a file that starts with these bytes and cannot be read; None if it is text. `what`: what the
    error adds if the file is XML or JSON. `cure`: what to do if the kind of file has no cure of its own."""
    found = find_foreign(head)
    if found is None:
        return None
    problem, cure_of_kind = found
    more = f", {what}" if found in (XML, JSON) else ""
    return UnusableFile(path, f"{problem}{more}", cure if cure_of_kind == GIVE_ANOTHER else cure_of_kind)


def is_blank(line: str) -> bool:
    """Whether a line is empty or holds only separators, as Excel writes at the end of many files."""
    return not line.strip(' ,;\t\r\n"')


def read_first_lines(head: bytes) -> list[str]:
    """Read the lines in these first bytes of a file, HEAD at most. Leave out blank lines, and a last line that may be
    cut off. The list is empty if the file is not text."""
    if find_foreign(head):
        return []
    lines = head.removeprefix(BYTE_ORDER_MARK).splitlines()
    if len(head) >= HEAD and len(lines) > 1:
        lines.pop()
    decoded = (line.decode("utf-8", errors="replace").strip() for line in lines)
    return [line for line in decoded if not is_blank(line)]


def split_first_lines(head: bytes, delimiter: str) -> list[list[str]]:
    """Split the first lines at a delimiter, regardless of quotation marks. Comments, and the empty cells that Excel
    puts at the end of a line, are left out."""
    lines = (line.rstrip(f"{delimiter} \t") for line in read_first_lines(head) if not line.startswith("#"))
    return [[cell.strip().strip('"') for cell in line.split(delimiter)] for line in lines]


def drop_comments(head: bytes) -> bytes:
    """Drop the lines that begin with `#`."""
    return b"".join(line for line in head.splitlines(keepends=True) if not line.lstrip().startswith(b"#"))


# CSVs

# Maximum lines of a row. A quoted value, such as an address, can have line breaks; if it spans more lines, its
# quotation mark was never closed.
MAX_ROW_LINES = 20
# Delimiters that a header may have.
DELIMITERS = (",", ";", "\t")
# Maximum columns of a header; a file with more is not a shipment.
MAX_COLUMNS = 200
# Meanings for which a header must have a column, if the format knows them.
REQUIRED = {"serial", "secret", "data"}
# How many lines are searched for a header, which may be below comments.
MOST_ABOVE = 1000
# The line that tells Excel the separator, and the problem and the cure if a file begins with it.
SEPARATOR_LINE = re.compile(r"\s*\"?sep=")
HAS_SEPARATOR_LINE = (
    "begins with a 'sep=' line for Excel",
    "Delete that line: oathbulk finds the separator in the header",
)
# The problem if a file's first line looks like a row.
HEADER_MISSING = "the first line is a row of data, the header is missing"
# The problem and the cure if a header continues on the next line.
HEADER_CUT_IN_TWO = (
    "the header continues in the next line",
    "Remove the line break between them, or get the file again",
)
CUT_OFF = (
    "the row is the last one, has no line break, and might be cut off: if it is whole, add a line break; otherwise get "
    "the file again"
)
CUT_IN_TWO = (
    "the row might continue on the next line, because the two together make another row: remove the line break between "
    "them, or get the file again"
)
CUT_IN_TWO_ABOVE = (
    "the row might begin on the line above, because the two together make another row: remove the line break between "
    "them, or get the file again"
)
TOO_SHORT = (
    "the row has fewer values and a shorter secret than every other, and might be cut off: get the file again; if it "
    "is whole, load it from a separate file"
)
# What may be missing from the end of a last cell: a digit of a counter; two digits of an OTP or of a hexadecimal
# secret; a piece of a secret in Base32 or Base64; the minutes of a time zone; a byte of a counter in Base64; the name
# and value with which RCDevs writes a counter.
CONTINUATIONS = ("0", "00", "AAAAAAAA", ":30", "MA==", ",TokenState=OA==")
# Cells that may be missing from the end of a row: type, digits, time step, hash, and a counter in decimals or in
# Base64.
FURTHER_CELLS = ("totp", "8", "60", "sha1", "sha256", "7", "MA==")

# The cells of a row, stripped, without empty ones at the end; None if the quotation marks of the row make no sense.
Cells = list[str] | None
# By number of cells and OTP type: length and ending of the last cells of such rows, each None if they differ.
OtherRows = dict[tuple[int, OtpType], tuple[int | None, str | None]]


class SplitRow(list[str]):
    """The cells of a row. `columns`: how many columns the header has, 0 without a header; `width`: how many cells the
    row has as written, including empty ones at its end."""

    def __init__(self, cells: Iterable[str], columns: int = 0) -> None:
        super().__init__(cells)
        self.columns = columns
        self.width = len(self)


class OpenRow(SplitRow):
    """The cells of a last row without a line break at its end. `is_quoted`: the last cell ends with a quotation
    mark."""

    def __init__(self, cells: Iterable[str], columns: int = 0, *, is_quoted: bool = False) -> None:
        super().__init__(cells, columns)
        self.is_quoted = is_quoted


def split_rows(
    lines: Iterator[str],
    delimiter: str,
    row_number: int = 0,
    columns: int = 0,
    *,
    is_one_row: Callable[[list[str]], bool] | None = None,
    skips_blanks: bool = False,
) -> Iterator[tuple[int, Cells]]:
    """Yield the fields of every row, with the number of its first line. The fields are None if the quotation marks of
    the row make no sense. A last row without a line break at its end is an OpenRow. `lines` begins after line
    `row_number`, which is the header, with this many `columns`, if there is one. `is_one_row` decides whether the
    fields of several lines are one row; if not, a quotation mark was never closed, so the first line is at fault and
    the others are read again as rows of their own. If it is None, no row has several lines. `skips_blanks`: blanks
    before a value, or before its opening quotation mark, are dropped."""
    given_back: deque[str] = deque()

    def take() -> str:
        return given_back.popleft() if given_back else next(lines, "")

    def split(row: list[str]) -> Cells:
        # Strict, since csv.reader otherwise reads `"12"3` as 123, and accepts a file that was cut off inside quotes.
        try:
            return next(csv.reader(row, delimiter=delimiter, strict=True, skipinitialspace=skips_blanks), [])
        except csv.Error:
            return None

    while line := take():
        row = [line]
        fields = split(row)
        while is_one_row and fields is None and len(row) < MAX_ROW_LINES and (line := take()):
            row.append(line)
            fields = split(row)
        if is_one_row and len(row) > 1 and not (fields and is_one_row(fields)):
            given_back.extendleft(reversed(row[1:]))
            del row[1:]
            fields = None
        if fields:
            is_open = not row[-1].endswith(("\n", "\r"))
            is_quoted = row[-1].endswith('"')
            fields = OpenRow(fields, columns, is_quoted=is_quoted) if is_open else SplitRow(fields, columns)
        yield row_number + 1, fields
        row_number += len(row)


def split_cells(
    lines: Iterator[str], delimiter: str, row_number: int = 0, columns: int = 0
) -> Iterator[tuple[int, Cells]]:
    """Yield the line number and the cells of every row that is not blank. Values hold no line breaks."""
    for number, cells in split_rows(lines, delimiter, row_number, columns, skips_blanks=True):
        if cells is not None:
            cells[:] = map(str.strip, cells)
            while cells and not cells[-1]:
                cells.pop()
        if cells != []:
            yield number, cells


def blank_comments(lines: Iterable[str], comment: re.Pattern[str] = COMMENT) -> Iterator[str]:
    """Replace comments by blank lines, so that line numbers stay right."""
    return ("\n" if comment.match(line) else line for line in lines)


def check_cells(cells: Cells, fewest: int, most: int, serial_at: int = 0) -> list[str]:
    """Return the cells of a row, padded with empty ones to `most`. Raises RowRefused if there are fewer than `fewest`
    or more than `most`. `serial_at`: the index of the serial number."""
    if cells is None:
        raise RowRefused(
            "a quotation mark is never closed, or is inside a quoted value: remove it, or double it there; "
            "no value can contain a line break",
            fault=RowFault.ROW_UNREADABLE,
        )
    # A field on its own may be the rest of a secret, and is not named.
    serial = "".join(cells[serial_at : serial_at + 1]) if len(cells) > 1 else ""
    unfit = {
        "the row is only one field: check whether the line was cut off, is in quotation marks as a whole, or has "
        "a separator other than this format's": len(cells) == 1 < fewest,
        "the row has too few fields for this format: check whether the line was cut off": len(cells) < fewest,
        "the row has too many fields for this format: check whether two lines were joined": len(cells) > most,
    }
    if reason := find_reason(unfit):
        raise RowRefused(reason, serial, RowFault.ROW_UNREADABLE)
    return cells + [""] * (most - len(cells))


# Headers


@dataclass(frozen=True)
class Header:
    """The header of a vendor's file or of a list: its line number, its delimiter, the names of its columns as written,
    and what each means to the format (empty for the file's own columns). `line`: the header as written."""

    row_number: int
    delimiter: str
    names: list[str]
    meanings: list[str]
    line: str = ""

    def pick(self, row: Cells) -> tuple[dict[str, str], dict[str, str]]:
        """Split a row into the values that the format knows, by their meaning, and the file's own values, by column
        name as written. Own columns with secrets, or with results of an earlier export, are left out. Raises
        RowRefused."""
        cells = check_cells(row, 1, len(self.names), self.meanings.index("serial"))
        known = {meaning: cell for meaning, cell in zip(self.meanings, cells, strict=True) if meaning}
        return known, {name: cells[place] for name, place in self.own_names.items()}

    def name_column(self, reason: str) -> str:
        """Replace our name for a column, at the start of a reason, with the file's name for it."""
        ours, _, rest = reason.partition(" ")
        written = self.names[self.meanings.index(ours)] if ours in self.meanings else ""
        return f"{show_name(written)} {rest}" if 0 < len(written) <= 40 else reason

    @cached_property
    def own_names(self) -> dict[str, int]:
        """The file's own columns that are kept: their names as written, and their places."""
        columns = enumerate(zip(self.names, self.meanings, strict=True))
        return {name: place for place, (name, meaning) in columns if not meaning and is_own(name)}

    @property
    def kept_names(self) -> list[str]:
        """The names, as written, of columns without a secret or a result of an earlier export."""
        return [name for name in self.names if is_own(name)]


def split_header(
    line: str, is_known: Callable[[str], object] = canonical_column, *, is_strict: bool = False
) -> tuple[str, list[str]]:
    """Split a header at the delimiter that yields the most known columns; if several do, the most columns. Empty names
    at the end are dropped. `is_strict`: blanks belong to names, and the delimiter is empty if the quotation marks make
    no sense."""
    rows = []
    for delimiter in DELIMITERS:
        reader = csv.reader([line], delimiter=delimiter, strict=is_strict, skipinitialspace=not is_strict)
        try:
            rows.append((delimiter, next(reader, [])))
        except csv.Error:
            if not is_strict:
                raise
    best = max(rows, key=lambda row: (sum(map(bool, map(is_known, row[1]))), len(row[1])), default=("", []))
    delimiter, names = best[0], [name if is_strict else name.strip() for name in best[1]]
    while names and not names[-1].strip():
        names.pop()
    return delimiter, names


def find_names(head: bytes, meanings: Mapping[str, str]) -> set[str]:
    """Find the normalized names in the header of a file that begins with these bytes."""
    _, line = _find_header(read_first_lines(head), meanings)
    return set(map(normalize, _split(line, meanings)[1]))


def read_table(file: OpenFile, meanings: Mapping[str, str], cure: str) -> tuple[Header, Iterator[tuple[int, Cells]]]:
    """Return the header, whose normalized names have these meanings, and an iterator over the line number and the cells
    of each row below it. Raises UnusableFile, with `cure` if a required column is missing."""
    lines = read_lines(file)
    above = [*islice(lines, MOST_ABOVE)]
    row_number, line = _find_header(above, meanings)
    delimiter, names = _split(line, meanings)
    header = Header(row_number, delimiter, names, [meanings.get(normalize(name), "") for name in names])
    fault = _find_fault(line, header, meanings, cure)
    if not fault and goes_on(line, "".join(above[row_number : row_number + 1]), meanings):
        fault = HEADER_CUT_IN_TWO
    if fault:
        raise UnusableFile(file.path, *fault, row_number=row_number or None)
    # The lines that were searched may include rows. If the header begins with `#`, rows may too: then every line with a
    # delimiter is a row.
    below = chain(above[row_number:], lines)
    rows = ("\n" if COMMENT.match(text) and not (COMMENT.match(line) and delimiter in text) else text for text in below)
    return header, split_cells(rows, delimiter, row_number, len(names))


def _find_header(lines: Iterable[str], meanings: Mapping[str, str]) -> tuple[int, str]:
    """Find the header among the first lines of a file, and its line number; 0 if there is none. The header is the first
    line that is not a comment. If that line lacks a required column, the header is the last comment above it that has
    them all, since the first column's name may begin with `#`."""
    in_comment = 0, ""
    for row_number, line in enumerate(lines, 1):
        if is_blank(line):
            continue
        is_complete = not _find_missing(_split(line, meanings)[1], meanings)
        if not COMMENT.match(line):
            return in_comment if in_comment[0] and not is_complete else (row_number, line)
        if is_complete:
            in_comment = row_number, line
    return in_comment


def _find_fault(line: str, header: Header, meanings: Mapping[str, str], cure: str) -> tuple[str, str] | None:
    """Find the problem with a header, and its cure; None if the header is usable."""
    if SEPARATOR_LINE.match(line):
        return HAS_SEPARATOR_LINE
    if len(header.names) > MAX_COLUMNS:
        return f"the header has more than {MAX_COLUMNS} columns", "Remove those that say nothing about the tokens"
    if missing := _find_missing(header.names, meanings):
        if not any(header.meanings) and any(map(looks_like_data, header.names)):
            return HEADER_MISSING, cure
        return f"the header has no column for the {' and the '.join(missing)}", cure
    if fault := find_data(header.names):
        return fault
    if twice := find_twice(
        # The names of the file's own columns are compared only with each other: one may be the name of a meaning that
        # another column has.
        (meaning, "" if meaning or not is_own(name) else normalize(name))
        for meaning, name in zip(header.meanings, header.names, strict=True)
    ):
        return f"columns {twice[0]} and {twice[1]} mean the same", "Remove or rename one of the two"
    return None


def show_name(name: str) -> str:
    """Show the name of a column without surrounding blanks; unprintable characters are shown as escapes."""
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in name.strip(" \t\r\n"))


def find_data(names: list[str]) -> tuple[str, str] | None:
    """Find a column whose name looks like a value: the first row is probably on the header's line, and would be lost.
    The name may be a secret, and is not shown."""
    found = (looks_like_data(name) and not MAY_BE_NAME.fullmatch(name.strip()) for name in names)
    for place, is_data in enumerate(found, 1):
        if is_data:
            cure = "Check whether the first row is on the header's line, and put a line break between them"
            return f"column {place} has a value instead of a name", f"{cure}; or rename the column"
    return None


def goes_on(line: str, below: str, meanings: Mapping[str, str] = CANONICAL) -> bool:
    """Whether a header continues on the line below: together they name more known columns, and nothing looks like
    data."""

    def is_known(name: str) -> bool:
        return bool(meanings.get(normalize(name)) or canonical_column(name))

    names, joined = (split_header(each, is_known, is_strict=True)[1] for each in (line, line.rstrip("\r\n") + below))
    return sum(map(is_known, joined)) > sum(map(is_known, names)) and not any(map(looks_like_data, joined))


def find_twice(meanings: Iterable[tuple[str, str]]) -> tuple[int, int] | None:
    """Find the numbers, from 1, of two columns of a header that mean the same, so that a row could keep only one; None
    if there are none."""
    seen: dict[tuple[str, str], int] = {}
    for place, meaning in enumerate(meanings, 1):
        if any(meaning) and seen.setdefault(meaning, place) != place:
            return seen[meaning], place
    return None


def _find_missing(names: list[str], meanings: Mapping[str, str]) -> list[str]:
    """Find the required columns that a header lacks."""
    return sorted(REQUIRED & set(meanings.values()) - {meanings.get(normalize(name)) for name in names})


def _split(line: str, meanings: Mapping[str, str]) -> tuple[str, list[str]]:
    return split_header(line, lambda name: normalize(name) in meanings)


# Last rows
#
# Many editors leave the last line without a line break, so its absence alone proves nothing. Such a row is loaded if it
# has as many cells as the header or, without a header, as the longest other row; if, without a header, a further cell
# would be refused or change nothing, or another row of its type has as many cells; and if its last cell is whole by one
# of two signs:
#
# - further characters would be refused or change nothing, as after an id, a time step, or the counter 0;
# - it is like that cell in all other rows of the type: a secret or an OTP has the same length, a value of the file's
#   own is the same, an email address has the same domain. This sign never shows that a counter, a name or a serial
#   number is whole.


# Pieces of lines
#
# If a line was cut in two, at least one piece cannot be read, since a row has only one secret or one first OTP. So a
# good row is refused if it and the refused row above or below it would together be another good row. It is still loaded
# if the refused row begins like all others, and so is a row of its own; or if the good row is whole by the rule for
# last rows, and has the same secret or OTPs when joined.

# Rows that are read ahead before a row is judged.
AHEAD = 20
# Minimum characters of a first cell, so that its form can show that a row is complete in itself.
FEWEST_ALIKE = 4
# Replaces every letter with A, and every digit with 0.
FORM = dict.fromkeys(map(ord, ascii_letters), "A") | dict.fromkeys(map(ord, "0123456789"), "0")
# The characters that the rest of a secret can have, in any encoding.
SECRET_CHARACTERS = re.compile(r"[0-9A-Za-z+/=-]+")


@dataclass(slots=True)
class ReadRow:
    """A row that was read: its number, its cells, and the result. It has no cells if the file is not a CSV, or if its
    quotation marks do not match."""

    number: int
    cells: SplitRow
    row: Row | RowError

    @property
    def secret_length(self) -> int:
        """The length of the row's secret in bytes; 0 if it has none."""
        otps = self.row.otps if isinstance(self.row, Row) else None
        return len(otps.secret.reveal()) if isinstance(otps, Seed) else 0


def read_whole_rows(
    numbered: Iterable[tuple[int, Any]], read: Callable[[int, Any], Row | RowError]
) -> Iterator[Row | RowError]:
    """Read every row with `read`, from its number and its cells, and refuse those that may be a piece of a line. Rows
    that are not from a CSV are read, but never refused as pieces."""
    judge = _RowJudge(read)
    rows = (judge.note(number, raw, read(number, raw)) for number, raw in numbered)
    ahead = deque(islice(rows, AHEAD))
    before = None
    while ahead:
        each = ahead.popleft()
        ahead.extend(islice(rows, 1))
        if each.cells:
            each.row = judge.judge(before, each, ahead)
        yield each.row
        before = each


class _RowJudge:
    """Judges rows by those around them. `read` reads a row again, from its number and changed cells."""

    def __init__(self, read: Callable[[int, Any], Row | RowError]) -> None:
        self._read = read
        # From the good rows judged so far: length and ending of the last cells, and the forms of the first cells.
        self._others: OtherRows = {}
        self._forms = set[str]()
        # The most cells of any good row read so far; the fewest cells, and the shortest secret, of any judged so far.
        self._widest = 0
        self._narrowest, self._shortest = MAX_COLUMNS, MAX_LINE

    def note(self, number: int, raw: Any, row: Row | RowError) -> ReadRow:
        """Note a row that was read."""
        cells = raw if isinstance(raw, SplitRow) else SplitRow([])
        if isinstance(row, Row):
            self._widest = max(self._widest, len(cells))
            # A block of lines has no cells, but its last line may be cut off too.
            if isinstance(raw, list) and not cells:
                _note_last_cell(self._others, row, raw)
        return ReadRow(number, cells, row)

    def judge(self, before: ReadRow | None, each: ReadRow, ahead: Sequence[ReadRow]) -> Row | RowError:
        """Return the result of a row, or an error if the row may be a piece of a line. If it may be the rest of a line,
        the error names no token, since the first cell may be part of a secret."""
        row, cells = each.row, each.cells
        if isinstance(row, RowError):
            follows_piece = (before and _fit_one_line(before.cells, cells)) and (
                self._is_short(before) or (isinstance(before.row, RowError) and self._is_short(each))
            )
            return replace(row, serial_number=None) if follows_piece else row
        reason = (
            (isinstance(cells, OpenRow) and not _is_whole(row, cells, self._others, self._read) and CUT_OFF)
            or (self._goes_on(each, ahead) and CUT_IN_TWO)
            or (self._is_rest(before, each, ahead) and CUT_IN_TWO_ABOVE)
            or (self._is_too_short(each, ahead) and TOO_SHORT)
        )
        if not reason:
            _note_last_cell(self._others, row, cells)
            self._forms.add(_find_form(cells[0]))
            self._narrowest = min(self._narrowest, len(cells))
            self._shortest = min(self._shortest, each.secret_length or self._shortest)
            return row
        serial = row.serial_number
        nameable = find_nameable_serial(serial) if isinstance(row.otps, Seed) else serial
        return RowError(each.number, reason, None if reason == CUT_IN_TWO_ABOVE else nameable, RowFault.ROW_UNREADABLE)

    def _is_short(self, each: ReadRow) -> bool:
        """Whether a row has fewer cells than another good row."""
        return 0 < len(each.cells) < self._widest

    def _goes_on(self, each: ReadRow, ahead: Sequence[ReadRow]) -> bool:
        """Whether a good row may continue in the next one, which is refused: together they would be another row, and
        the good one may be incomplete."""
        if not ahead or isinstance(ahead[0].row, Row) or not isinstance(each.row, Row):
            return False
        row, rest = each.row, ahead[0].cells
        if not rest or self._is_like_others(rest, each, ahead):
            return False
        # A secret joined with its rest is another secret, which may be unfit for its token, so the joined row need not
        # be good. But if the next row has a secret, it is a row of its own.
        has_secret = any(SECRET_CHARACTERS.fullmatch(cell) and len(cell) >= LENGTH_OF_SEED for cell in rest[1:])
        if not has_secret and SECRET_CHARACTERS.fullmatch(rest[0]) and self._ends_with_secret(each):
            return True
        cells = OpenRow(each.cells, each.cells.columns)
        return any(
            joined.otps != row.otps or not _is_whole(row, cells, self._others, self._read)
            for joined in self._join(each, each.cells, rest)
        )

    def _is_rest(self, before: ReadRow | None, each: ReadRow, ahead: Sequence[ReadRow]) -> bool:
        """Whether a good row may begin in the refused one before it: together they would be another row."""
        if before is None or isinstance(before.row, Row):
            return False
        is_of_two = all(self._is_like_others(cells, each, ahead) for cells in (before.cells, each.cells) if cells)
        if len(before.cells) == 1 and is_of_two:
            return False
        return bool(self._join(each, before.cells, each.cells))

    def _join(self, each: ReadRow, first: SplitRow, second: SplitRow) -> list[Row]:
        """List the good rows, other than the given one, that two rows would be if they were one line: one that was cut
        within a cell, or at a separator, where empty cells may have been dropped."""
        columns = each.cells.columns
        if not first or not second or not _fit_one_line(first, second):
            return []
        gaps = range(max(1, max(columns, self._widest) - len(first) - len(second) + 1))
        lines = [[*first[:-1], first[-1] + second[0], *second[1:]], *([*first, *[""] * gap, *second] for gap in gaps)]
        found = _find_others(each.row, lines, self._read) if isinstance(each.row, Row) else []
        return [row for row in found if SERIAL.fullmatch(row.serial_number)]

    def _is_like_others(self, cells: list[str], each: ReadRow, ahead: Sequence[ReadRow]) -> bool:
        """Whether a row begins like every other good row, which shows that it is complete in itself. A few characters
        prove nothing."""
        forms = self._forms | {_find_form(other.cells[0]) for other in ahead if isinstance(other.row, Row)}
        return len(cells[0]) >= FEWEST_ALIKE and forms == {_find_form(cells[0])}

    def _is_too_short(self, each: ReadRow, ahead: Sequence[ReadRow]) -> bool:
        """Whether a row ends with its secret, and has fewer cells and a shorter secret than every other."""
        if not (self._is_short(each) and each.secret_length):
            return False
        others = [(len(other.cells), other.secret_length) for other in ahead if other.secret_length]
        narrowest = min([self._narrowest, *(cells for cells, _ in others)])
        shortest = min([self._shortest, *(length for _, length in others)])
        return len(each.cells) < narrowest and each.secret_length < shortest and self._ends_with_secret(each)

    def _ends_with_secret(self, each: ReadRow) -> bool:
        """Whether the last cell of a good row is its secret, so that the secret changes if characters are added to the
        cell."""
        longer = ([*each.cells[:-1], each.cells[-1] + more] for more in CONTINUATIONS)
        found = _find_others(each.row, longer, self._read) if isinstance(each.row, Row) else []
        return any(ReadRow(each.number, each.cells, row).secret_length != each.secret_length for row in found)


def _fit_one_line(first: SplitRow, second: SplitRow) -> bool:
    """Whether two rows may have been one line: there is no header, or together they have at most one cell more than it
    has columns, since one cell may have been cut in two."""
    return not second.columns or first.width + second.width <= second.columns + 1


def _find_form(cell: str) -> str:
    """Return the form of a cell: its text with every letter as A, and every digit as 0."""
    return cell.translate(FORM)


def _note_last_cell(others: OtherRows, row: Row, cells: list[str]) -> None:
    """Note what the last cells of rows of the same type and with as many cells have in common."""
    kind, cell = (len(cells), row.otp_type), cells[-1].strip()
    found = len(cell), _find_ending(cell)
    length, ending = others.get(kind, found)
    others[kind] = length if length == found[0] else None, ending if ending == found[1] else None


def _find_ending(cell: str) -> str:
    """Return the domain of an email address, with its @; return any other text as it is."""
    return "".join(cell.rpartition("@")[1:])


def _is_whole(row: Row, cells: OpenRow, others: OtherRows, read: Callable[[int, list[str]], Row | RowError]) -> bool:
    """Whether a row without a line break at its end is complete, by the rule for last rows above."""
    longest = max((length for length, _ in others), default=0)
    like_it = others.get((len(cells), row.otp_type))
    if len(cells) < max(cells.columns, longest):
        return False
    if not (cells.columns or like_it) and _find_others(row, ([*cells, more] for more in FURTHER_CELLS), read):
        return False
    if cells.is_quoted or len(cells) > cells.columns > 0:
        return True
    cell = cells[-1].strip()
    length, ending = like_it or (None, None)
    return bool(cell) and all(
        _is_same_but_for_end(row, each, cell, is_as_long=length == len(cell), is_alike=ending == _find_ending(cell))
        for each in _find_others(row, ([*cells[:-1], cell + more] for more in CONTINUATIONS), read)
    )


def _find_others(row: Row, longer: Iterable[list[str]], read: Callable[[int, list[str]], Row | RowError]) -> list[Row]:
    """List the rows that this one may have been before it was cut off: longer ones that can be read, and differ from
    it."""
    read_again = [read(row.row_number, cells) for cells in longer]
    return [each for each in read_again if isinstance(each, Row) and each != row]


def _is_same_but_for_end(row: Row, longer: Row, cell: str, *, is_as_long: bool, is_alike: bool) -> bool:
    """Whether a row and a longer one differ in one cell only, which is like that cell of the other rows."""
    if isinstance(row.otps, Seed) and isinstance(longer.otps, Seed) and row.otps.counter != longer.otps.counter:
        return False
    if replace(longer, otps=row.otps, generated_at=row.generated_at) == row:
        return is_as_long
    return is_alike and ("@" in cell or replace(longer, lot=row.lot, extra=row.extra) == row)
