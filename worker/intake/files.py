"""From a path to bytes and lines: opens a file, bounds the memory that its lines take, computes its digest meanwhile,
and knows the kinds of files that no format reads."""

import hashlib
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import BinaryIO, Literal

from worker.intake.rows import UnusableFile
from worker.vault.otps import HashAlgorithm, OtpType

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# How the characters of a secret are to be read.
Encoding = Literal["hex", "base32", "base64"]
# How a line begins that is a comment.
COMMENT = re.compile(r"\s*#")
# Bytes from which a file's format is told: enough to find the names that tell a workbook from another zip archive.
HEAD = 4096
# Bytes of a line, at most. A row of pairs has some 150; a longer line is no CSV, and to read on would fill the memory.
MAX_LINE = 64 * 1024
# Bytes that are read at once.
CHUNK = 64 * 1024

# The cures of a file that no format reads.
SAVE_AS = "Save it as UTF-8; in Excel: File > Save As > 'CSV UTF-8 (Comma delimited)'"
UNPACK = "Unpack or decrypt it and give the file inside"
EXPORT_CSV = "Export a CSV with a header line such as: serial,otp1,otp2,user_id,device_id"
GIVE_ANOTHER = f"Give the vendor's seed file as it was sent, or write OTP pairs: {EXPORT_CSV}"
# Problem and cure of each kind of file that is refused.
WORKBOOK = ("is a spreadsheet, not a CSV", SAVE_AS)
UTF_16 = ("is UTF-16, which Excel calls 'Unicode Text'", SAVE_AS)
XML = ("is XML or HTML", GIVE_ANOTHER)
JSON = ("is JSON", GIVE_ANOTHER)
ZIP = ("is a zip archive", UNPACK)
# The bytes that a file of a kind begins with. Zip is looked at more closely; XML and JSON are refused if no format
# takes them for its own.
SIGNATURES = {
    b"\xff\xfe": UTF_16,
    b"\xfe\xff": UTF_16,
    b"\xd0\xcf\x11\xe0": WORKBOOK,
    b"PK\x03\x04": ZIP,
    b"PK\x05\x06": ZIP,
    b"\x1f\x8b": ("is a gzip archive", UNPACK),
    b"-----BEGIN PGP": ("is encrypted or signed with PGP", UNPACK),
    b"%PDF": ("is a PDF", GIVE_ANOTHER),
    b"{": JSON,
    b"[": JSON,
    b"<": XML,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What a person says of a file beside it, each by an option of the command line; None where nothing was said.

    What the file says itself is not replaced by a hint.
    """

    # `--encoding`: of the secrets, where their characters may be read in two ways.
    encoding: Encoding | None = None
    # `--otp-type`, `--digits`, `--time-step` (seconds), `--hash`: of all tokens, where the file does not say it.
    otp_type: OtpType | None = None
    digits: int | None = None
    time_step: int | None = None
    hash_algorithm: HashAlgorithm | None = None
    # `--zone`: of dates without an offset; None for that of this machine.
    zone: tzinfo | None = None
    # `--key-file`: the pre-shared key that the vendor sent apart from the file.
    key: bytes | None = field(default=None, repr=False)
    # `--password-file`: the password that the vendor sent apart from the file.
    password: bytes | None = field(default=None, repr=False)
    # `oathbulk mend`: the rows belong to a batch that is loaded, whose records have what the file lacks.
    mends: bool = False


NO_HINTS = Hints()


class OpenFile:
    """A file that is being read from its beginning, and what a person says of it; every byte that is read goes into its
    digest."""

    def __init__(self, path: Path, stream: BinaryIO, hints: Hints = NO_HINTS) -> None:
        self.path = path
        self.hints = hints
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int = CHUNK) -> bytes:
        """Read the next bytes, at most `size`; none at the end."""
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
    """Open a regular file. Raises UnusableFile, for a pipe too: it cannot be read twice, and to open it may take for
    ever."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnusableFile(path, "is not a regular file", "Give the path of a file")
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        cure = "Check its path, and that this user may read it"
        raise UnusableFile(path, f"cannot be read ({error.strerror or error})", cure) from error


def read_lines(file: OpenFile) -> Iterator[str]:
    """Yield the lines with their ends (CRLF, LF or CR), without the byte order mark.

    Lines are split at these ends alone: `str.splitlines` would split at characters, too, that may stand in a name.
    Raises UnusableFile for a line beyond MAX_LINE bytes, a NUL, or what is not UTF-8.
    """
    number, tail = 0, b""
    while chunk := file.read():
        if not number and not tail:
            chunk = chunk.removeprefix(BYTE_ORDER_MARK)
        lines = (tail + chunk).splitlines(keepends=True)
        # The last line may go on in the next chunk, and a CR at its end may be half of a CRLF.
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
        problem = f"is not UTF-8 (byte {error.start + 1} of the line)"
        raise UnusableFile(path, problem, SAVE_AS, row_number=number) from None
    if "\0" in text:
        cure = "The file is damaged or no text file: export it again as text"
        raise UnusableFile(path, "holds a NUL byte", cure, row_number=number)
    return text


def _refuse_too_long(path: Path, line: bytes, number: int) -> None:
    if len(line) > MAX_LINE:
        cure = "See whether it is the right file, and give every row a line of its own"
        raise UnusableFile(path, f"the line is longer than {MAX_LINE} bytes", cure, row_number=number)


def find_foreign(head: bytes) -> tuple[str, str] | None:
    """Find problem and cure of a file that begins with these bytes, some kilobytes; None if it is text."""
    start = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    found = next((kind for signature, kind in SIGNATURES.items() if start.startswith(signature)), None)
    if found is ZIP and (b"xl/" in head or b"[Content_Types].xml" in head or b"opendocument" in head):
        return WORKBOOK
    # UTF-16 without a byte order mark: in Western text, every first or every second byte is NUL.
    is_half_nul = any(half.count(0) * 2 > len(half) for half in (head[::2], head[1::2]))
    return UTF_16 if is_half_nul and found in (None, XML, JSON) else found


def make_refusal(path: Path, head: bytes, what: str, cure: str = GIVE_ANOTHER) -> UnusableFile | None:
    """Make the error for a file that begins with these bytes, and is none that is read there; None if it is text.
    `what`: what else could be read in this XML or JSON. `cure`: what to do where the file is of no use as it is."""
    found = find_foreign(head)
    if found is None:
        return None
    problem, cure_of_kind = found
    more = f", {what}" if found in (XML, JSON) else ""
    return UnusableFile(path, f"{problem}{more}", cure if cure_of_kind == GIVE_ANOTHER else cure_of_kind)


def is_blank(line: str) -> bool:
    """Tell whether a line is empty or has separators alone, with which Excel ends many a file."""
    return not line.strip(' ,;\t\r\n"')


def read_first_lines(head: bytes) -> list[str]:
    """Read the first lines of a file that begins with these bytes, HEAD of them at most; without lines that are cut
    off, blank, or separators alone; none if the file is something else than text."""
    if find_foreign(head):
        return []
    lines = head.removeprefix(BYTE_ORDER_MARK).decode("utf-8", errors="replace").splitlines()
    if len(head) >= HEAD and len(lines) > 1:
        lines.pop()
    return [line.strip() for line in lines if not is_blank(line)]


def split_first_lines(head: bytes, delimiter: str) -> list[list[str]]:
    """Split the first lines at a delimiter, without regard to quotation marks; comments, and the empty cells with which
    Excel ends a line, are left out."""
    lines = (line.rstrip(f"{delimiter} \t") for line in read_first_lines(head) if not line.startswith("#"))
    return [[cell.strip().strip('"') for cell in line.split(delimiter)] for line in lines]


def drop_comments(head: bytes) -> bytes:
    """Drop the lines that begin with `#`."""
    return b"".join(line for line in head.splitlines(keepends=True) if not line.lstrip().startswith(b"#"))
