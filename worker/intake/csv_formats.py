"""The CSVs of vendors: one reader for all of them, each of which is a row of the table in `formats`; and the little
that a row there cannot say, as a function."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from models.row_fault import RowFault
from worker.intake.csv_rows import (
    Cells,
    blank_comments,
    check_cells,
    find_names,
    read_table,
    split_cells,
)
from worker.intake.files import (
    COMMENT,
    Encoding,
    Hints,
    OpenFile,
    is_blank,
    read_first_lines,
    read_lines,
    split_first_lines,
)
from worker.intake.rows import Row, RowError, RowRefused, UnusableFile, names_secret, normalise
from worker.intake.tokens import (
    HEX,
    LIKELY_SECRET,
    NOT_HOTP_OR_TOTP,
    OTP_TYPES,
    Token,
    looks_like_secret,
    make_rows,
    read_number,
)

# The form of a secret, as a part of a regular expression.
SECRET = f"(?:{LIKELY_SECRET.pattern})"
_FIELDS = frozenset(each.name for each in fields(Token))
# Problem and cure of a file without tokens.
HOLDS_NONE = ("holds no tokens", "Ask for the file again, with the tokens in it")


@dataclass(frozen=True, slots=True)
class Layout:
    """What the cells of a row mean, where no header says it: fields of a Token, names of the format's own, or nothing
    where empty. `fewest`: cells of a row at least."""

    cells: tuple[str, ...]
    fewest: int = 2


@dataclass(frozen=True, kw_only=True)
class CsvFormat:
    """A vendor's CSV. It has either a `header` or a `layout`."""

    # What `--format` calls it: lower case, with hyphens.
    name: str
    # What it is and who writes such files, in a few words, for `oathbulk formats`.
    title: str
    # What stands between the cells; below a header, that is told from it.
    delimiter: str = ","
    # How the secrets are written, where `--encoding` does not say it; None: that is told by their characters.
    encoding: Encoding | None = None
    # What holds for all tokens: fields of a Token.
    says: Mapping[str, Any] = field(default_factory=dict)
    # What the columns mean, by their normalised names: fields of a Token, or names of the format's own.
    header: Mapping[str, str] = field(default_factory=dict)
    # Of these names, the ones by which the header is told from another.
    told_by: frozenset[str] = frozenset()
    # Whether an export repeats the header; otherwise it begins with serial and otp_type.
    is_repeated: bool = False
    # How a line begins that is no row.
    comment: re.Pattern[str] = COMMENT
    # The cells of a row; or a function that tells them from the row.
    layout: Layout | Callable[[list[str]], Layout] = Layout(())
    # A regular expression of a row, without blanks and quotation marks around its cells: one such row among the first
    # lines tells the format.
    looks_like: str = ""
    # Tells the format where no single row does.
    told: Callable[[bytes], bool] | None = None
    # What stands before the cells of the layout, told from a file's path and its first line that is not blank. Raises
    # UnusableFile.
    before: Callable[[Path, int, str], tuple[str, ...]] = lambda path, number, line: ()
    # Refuses the file for what its rows and the hints say together. Raises UnusableFile.
    check: Callable[[Path, Cells, Hints], None] = lambda path, row, hints: None
    empty: tuple[str, str] = HOLDS_NONE
    # Completes what a row says: takes the cells by what they mean, and gives further fields of its Token. Raises
    # RowRefused.
    complete: Callable[[dict[str, Any], Hints], dict[str, Any]] = lambda said, hints: {}

    def is_format_of(self, head: bytes) -> bool:
        """Tell whether a file that begins with these bytes is to be read as this format."""
        if self.told:
            return self.told(head)
        if self.looks_like:
            rows = map(self.delimiter.join, split_first_lines(head, self.delimiter))
            return any(re.fullmatch(self.looks_like, row) for row in rows)
        return self.told_by <= find_names(head, self.header)

    def read(self, file: OpenFile, now: datetime) -> tuple[list[str], Iterator[Row | RowError]]:
        """Return the columns that an export repeats, and the rows. Raises UnusableFile, and so do the rows."""
        if self.header:
            header, rows = read_table(file, self.header, "Use the file as the vendor sent it")
            pick = header.pick
            columns = header.kept_names if self.is_repeated else ["serial", "otp_type", *header.own_names]
        else:
            lines = read_lines(file)
            number, first = next(((n, line) for n, line in enumerate(lines, 1) if not is_blank(line)), (1, ""))
            before = self.before(file.path, number, first.strip())
            rows = split_cells(blank_comments(chain([first], lines), self.comment), self.delimiter, number - 1)
            columns = [*before, "serial", "otp_type"]

            def pick(row: Cells) -> tuple[dict[str, str], dict[str, str]]:
                layout = self.layout if isinstance(self.layout, Layout) else self.layout(row or [])
                names = before + layout.cells
                cells = check_cells(row, len(before) + layout.fewest, len(names), names.index("serial"))
                own = {name: cell for name, cell in zip(before, cells, strict=False) if cell and name not in _FIELDS}
                return dict(zip(names, cells, strict=True)), own

        def read_token(row: Cells) -> Token:
            self.check(file.path, row, file.hints)
            known, own = pick(row)
            said = {"encoding": file.hints.encoding or self.encoding, "extra": own, **self.says, **known}
            try:
                said |= self.complete(said, file.hints)
            except RowRefused as refused:
                refused.serial = said["serial"]
                raise
            return Token(**{name: value for name, value in said.items() if name in _FIELDS})

        return columns, make_rows(rows, read_token, file.hints)


# OATH CSV

# The first line of version 2, in which three columns stand before the serial. Excel adds commas to it.
VERSION = re.compile(r"#\s*version\s*:\s*([^\s,;]+)", re.IGNORECASE)
OATH_ROW = re.compile(rf"[^,]*,{SECRET},(?:-*[^\W\d_])+-*(?:,.*)?")
# A row that names its type, though its secret is shorter than any that is read.
OATH_ROW_OF_TYPE = re.compile(rf"[^,]*,{HEX.pattern},(?i:hotp|totp)(?:,.*)?")


def is_oath_csv(head: bytes) -> bool:
    """Tell OATH CSV by its first line, if that names a version, or by a type in a row's third cell."""
    first = read_first_lines(head)[:1]
    rows = list(map(",".join, split_first_lines(head, ",")))
    return any([*map(VERSION.match, first), *map(OATH_ROW.fullmatch, rows), *map(OATH_ROW_OF_TYPE.fullmatch, rows[:1])])


def find_user_columns(path: Path, row_number: int, first: str) -> tuple[str, ...]:
    """Find the columns that stand before the serial in OATH CSV. Raises UnusableFile."""
    found = VERSION.match(first)
    version = found.group(1) if found else "1"
    if version not in ("1", "2"):
        problem = "is OATH CSV of a version that is not known here"
        raise UnusableFile(path, problem, "Export it again as version 1 or 2", row_number=row_number)
    return ("username", "resolver", "realm") if version == "2" else ()


def complete_oath(said: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Take the fifth cell for counter and time step, and guess the hash as privacyIDEA does."""
    usual_hash = {64: "sha256", 128: "sha512"}.get(len(said["secret"]), "sha1")
    return {"counter": said["counter_or_step"], "time_step": said["counter_or_step"], "usual_hash": usual_hash}


# Serial and secret


def is_serial_secret(head: bytes) -> bool:
    """Tell rows of a serial number, a secret and maybe a counter, and of nothing else."""
    rows = split_first_lines(head, ",")
    if rows and len(rows[0]) > 1 and not looks_like_secret(rows[0][1]) and names_secret(rows[0][1]):
        return False
    is_fitting = all(not any(row[3:]) and not "".join(row[2:3]).isalpha() for row in rows)
    return is_fitting and any(len(row) in (2, 3) and looks_like_secret(row[1]) for row in rows)


def refuse_untold(path: Path, row: Cells, hints: Hints) -> None:
    """Refuse a file that says neither type nor time step, where no hint does. Raises UnusableFile."""
    if hints.otp_type is None and len(row or ()) == 2:
        cure = "Say it by --otp-type hotp, or by --otp-type totp --time-step 30 (or 60)"
        raise UnusableFile(path, "does not say whether its tokens are HOTP or TOTP", cure)
    if hints.otp_type == "totp" and hints.time_step is None:
        cure = "Say it by --time-step 30 or --time-step 60"
        raise UnusableFile(path, "does not say the time step of its tokens", cure)


def complete_serial_secret(said: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Take a token for HOTP that has a counter. With --otp-type totp, a third column is none."""
    return {"usual_type": "hotp" if said["counter"] else None}


# Entra


def refuse_hotp(said: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Refuse a token that is called HOTP, in a column that vendors add, or by a hint. Raises RowRefused."""
    types = [value for name, value in said["extra"].items() if normalise(name) in ("type", "otptype", "tokentype")]
    if hints.otp_type == "hotp" or any("hotp" in value.lower() for value in types):
        raise RowRefused(
            "is called HOTP, and this kind of file has TOTP tokens alone: write it as serial,seed,hotp,digits,counter "
            "without a header, or ask the vendor for PSKC"
        )
    return {}


# Yubico

# How the first cell of a row in the traditional format begins; only the first are OATH tokens.
KINDS = ("oath-hotp", "static password", "yubico otp", "challenge-response", "configuration")
LOGGING = "logging start"
# A comment, or a line that says that the tool was started, and nothing behind the time.
YUBICO_COMMENT = re.compile(rf'\s*(?:#|"?(?i:{LOGGING})"?\s*(?:,[^,]*)?[,\s]*$)')
# A line that says that the tool was started; a row of the traditional format, which has the time in any language; and
# one of the Yubico format, which has an access code and a time.
YUBICO_ROW = (
    rf"(?i:{LOGGING})(?:,.*)?"
    rf"|(?i:{'|'.join(KINDS)})[^,]*,\d[^,]*\d:\d\d.*"
    r"|(?:[^,]*,){4}(?:[0-9A-Fa-f]{12})?,\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?(?:,.*)?"
)
# The public id takes the place of a serial number. One cell stands at least behind the counter, and shows that it is
# whole.
TRADITIONAL = Layout(
    ("kind", "", "", "serial", "", "secret", *[""] * 5, "digits", "counter", *[""] * 27),
    fewest=14,
)
# A moving factor in the third cell is OATH-HOTP.
YUBICO_FORMAT = Layout(("serial", "", "counter", "secret", *[""] * 36), fewest=6)


def choose_yubico(cells: list[str]) -> Layout:
    """Choose the layout of a row by its first cell. Raises RowRefused."""
    kind = "".join(cells[:1]).lower()
    if kind == LOGGING:
        reason = "the line says that the tool was started, and a row follows on it: put a line break before the row"
        raise RowRefused(reason, fault=RowFault.ROW_UNREADABLE)
    return TRADITIONAL if kind.startswith(KINDS) else YUBICO_FORMAT


def complete_yubico(said: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Refuse what is no OATH-HOTP. Raises RowRefused."""
    kind = said.get("kind", "oath-hotp").lower()
    if kind.startswith("static"):
        # The cell that is a public id elsewhere holds a part of the password.
        said["serial"] = ""
    # A private id is longer than a moving factor.
    is_moving_factor = "kind" in said or re.fullmatch(r"[0-9]{1,7}", said["counter"])
    if kind != "oath-hotp" or not is_moving_factor:
        raise RowRefused(NOT_HOTP_OR_TOTP)
    return {}


# PhenixID

PHENIXID_ROW = rf"(?i:hotp|totp);[^;]*;.*[^;].*|[^;]*;{SECRET};\d+"
PHENIXID_TOTP = Layout(("otp_type", "serial", "hash_algorithm", "secret", "epoch", "time_step", "digits"), fewest=7)
PHENIXID_HOTP = Layout(("otp_type", "serial", "secret", "counter", "", "", ""), fewest=3)
PHENIXID_TYPELESS = Layout(("serial", "secret", "counter", "", "", "", ""), fewest=3)


def choose_phenixid(cells: list[str]) -> Layout:
    kind = "".join(cells[:1]).lower()
    if kind == "totp":
        return PHENIXID_TOTP
    return PHENIXID_TYPELESS if len(cells) == 3 and kind not in OTP_TYPES else PHENIXID_HOTP


def complete_phenixid(said: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Take a token without a type for HOTP, and refuse one whose time does not begin in 1970. Raises RowRefused."""
    if read_number(said.get("epoch"), "the epoch"):
        raise RowRefused(
            "the token counts its time from another moment than 1970-01-01 (its epoch is not 0), and PingOne has no "
            "setting for that: leave it out"
        )
    return {"otp_type": said.get("otp_type", "hotp")}


# Nexus

NEXUS_ROW = re.compile(r"[^\s:,;]+:[A-Za-z0-9+/]{14,}=*:[A-Za-z0-9+/]*=*")


def is_nexus(head: bytes) -> bool:
    """Tell rows of a serial number, a secret and a counter, which may be empty."""
    return any(map(NEXUS_ROW.fullmatch, read_first_lines(head)))


def decode_counter(said: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Decode a counter: its bytes in Base64, with the highest first. Raises RowRefused."""
    try:
        counter = base64.b64decode(said["counter"], validate=True)
    except ValueError:
        counter = bytes(9)
    if len(counter) > 8:
        raise RowRefused("the counter is not Base64 of at most 8 bytes: it is written like AA== for 0")
    return {"counter": int.from_bytes(counter, "big")}


# RCDevs


def decode_data(said: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Decode the column Data, whose pairs have a name and a value in Base64, which may end with equals signs itself.
    Raises RowRefused."""
    pairs = [pair.partition("=") for pair in said["data"].split(",") if pair.strip()]
    data = {name.strip().lower(): value.strip() for name, _, value in pairs}
    names = {"otp_type": "tokentype", "digits": "otplength", "time_step": "totptimestep", "counter": "tokenstate"}
    try:
        if not pairs or not all(sign for _, sign, _ in pairs):
            raise ValueError
        if not data.get("otplength") and hints.digits is None:
            raise RowRefused(
                "the column Data does not say how many digits an OTP has (OTPLength): see whether the row was cut off, "
                "and ask for the file again, or say it, by --digits"
            )
        # The state of a HOTP token is its counter.
        decoded = {
            meaning: base64.b64decode(data.get(name, ""), validate=True).decode("ascii")
            for meaning, name in names.items()
        }
    except ValueError:
        raise RowRefused(
            "the column Data is not made of pairs such as TokenType=VE9UUA==, with commas between them: "
            "see whether the row was cut off, and keep the column in quotation marks"
        ) from None
    return decoded | {"secret": data.get("tokenkey", "")}
