"""What reading a file yields: a row, the error of a row, or the error of the whole file; and what a file's columns are
called.

Every column that a row can have is declared here and nowhere else, as a field of Row. The formats get header names from
here; the load writes the value into the record's column of the same name, and the export reads it from there. So a new
column needs one field here, one column in models.record.Record, and a migration."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, tzinfo
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, get_type_hints

from models.person import PERSON
from models.record_states import KEPT_BACK, UNTIL_LET_GO
from models.row_fault import RowFault
from worker.vault.otps import OtpSource, OtpType, Seed

# The column with a row's number in the file that was loaded. A refused row can be found only by this number, since its
# serial number may have been wrong.
FILE_ROW = "file_row"
# What vendors' files of seeds say about a token, stored as separate columns.
VENDOR_COLUMNS = ("manufacturer", "model", "pskc_userid")
# The columns that an export adds, in this order: how each row ended, and which row of its batch it is. When the file is
# used to mend its batch, only the last of these columns is read. It is never empty, so that no spreadsheet drops cells
# at the end of a row.
RESULT_COLUMNS = (
    "status",
    "reason",
    "detail",
    "pingone_error_id",
    "correlation_id",
    "attempts",
    "otp_posts",
    FILE_ROW,
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a file. `name` and `synonyms` are the names that a header may give it; `attribute` is the field of
    Row, and the column of Record, that has its value. `longest`: any text of up to this many characters is accepted,
    and an empty cell becomes None; 0: the column has rules of its own."""

    name: str
    synonyms: tuple[str, ...] = ()
    is_required: bool = False
    longest: int = 0
    attribute: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a shipment: one token.

    `row_number` is the row's first line, as an editor counts. The ids are in lower case; None if the file does not have
    them. `generated_at` and `not_before` are in UTC; nothing is sent for the token before `not_before`. `otps` is the
    row's pair of OTPs or its seed. It is None only if the row mends a batch and has neither: its record keeps what it
    has. `file_row` is the number that the row has in its batch, if an export wrote it. `lacks_type`: the row's pair has
    a time and no otp_type, so that it counts as HOTP unless a person knows better. `extra` holds other columns, by
    their names as written; the repr omits it, since its contents are unknown."""

    row_number: int
    serial_number: Annotated[str, Column("serial", ("serial number",), is_required=True)]
    user_id: Annotated[str | None, Column("user_id")] = None
    device_id: Annotated[str | None, Column("device_id")] = None
    username: Annotated[str | None, Column("username", ("upn", "user"), longest=320)] = None
    email: Annotated[str | None, Column("email", ("mail",), longest=320)] = None
    external_id: Annotated[str | None, Column("external_id", longest=1024)] = None
    otp_type: Annotated[OtpType, Column("otp_type", ("type",))] = "hotp"
    generated_at: Annotated[datetime | None, Column("generated_at")] = None
    not_before: Annotated[datetime | None, Column("not_before")] = None
    lot: Annotated[str | None, Column("lot", longest=200)] = None
    otps: OtpSource | None
    file_row: int | None = None
    lacks_type: bool = False
    extra: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def names_somebody(self) -> bool:
        """Whether the row says who gets the token."""
        return any(getattr(self, name) for name in PERSON)


# The columns of a row except its OTPs, which each format reads in its own way.
COLUMNS = tuple(
    replace(column, attribute=name)
    for name, hint in get_type_hints(Row, include_extras=True).items()
    for column in getattr(hint, "__metadata__", ())
)
# The columns whose cells can hold any text.
PLAIN = tuple(column for column in COLUMNS if column.longest)
# The columns that only OTP pairs have.
OTP1 = Column("otp1", ("first otp", "otp"), is_required=True)
OTP2 = Column("otp2", ("second otp", "next otp"))
# All our columns that a header may name, in the order in which missing ones are named.
KNOWN = (COLUMNS[0], OTP1, OTP2, *COLUMNS[1:], Column(FILE_ROW))


def normalize(name: str) -> str:
    """Return the name of a column in the form in which names are compared: in lower case, and without blanks, `_`, `-`,
    or a stray byte order mark."""
    return re.sub(r"[\s_\-\ufeff]", "", name).lower()


def name_columns(columns: tuple[Column, ...]) -> dict[str, str]:
    """Map every name that a header may have for these columns, normalized, to the column that it means."""
    return {normalize(name): column.name for column in columns for name in (column.name, *column.synonyms)}


# The column that each normalized name means.
CANONICAL = name_columns(KNOWN)
_RESULTS = frozenset(map(normalize, RESULT_COLUMNS))
# The same, and names that others give these columns; without "lot", which nobody misses and which resembles "slot".
_ALIKE = {name: column for name, column in CANONICAL.items() if column != "lot"} | {
    "emailaddress": "email",
    "userprincipalname": "username",
}
# How similar two names must be, up to 1, before a person is asked: more similar than "surname" and "username".
_LIKENESS = 0.82
# Words that say that a column contains a secret. "key", "pin", and "puk" are also parts of harmless words (keyboard,
# shipping, pingone_id), so they count only as whole words.
SECRET_WORDS = {"key", "keys", "pin", "pins", "puk", "puks"}
# Parts of a normalized name that say the same: "key", "pin", and "puk" count at its end, or before vendors' suffixes.
# So does another OTP, such as "otp3", which is a secret too.
SECRET_PART = re.compile(
    r"seed|secret(?!ar)|password|passphrase|passcode|privateid"
    r"|(?:key|pin|puk)s?\d*$"
    r"|^(?:key|pin|puk)(?:code|data|hex|b64|base\d+|value|number)"
    r"|(?<![ht])otp\d*$"
)
# A word of a name: `serialKey_PIN` has serial, Key and PIN.
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# Text that looks like a serial number, an OTP, a seed, an address or an id, and not like a column's name.
DATA = re.compile(
    r"[A-Za-z]{0,8}\d{4,}"
    r"|[0-9A-Fa-f]{16,}"
    r"|[A-Z2-7]{16,}=*"
    r"|(?=.*\d)[a-z2-7]{24,}=*"
    r"|\S+@\S+\.\S+"
    r"|\d[.,]?\d*E\+\d+"
    r"|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
)


# Text that looks like data, but may be a column's name, such as Year2026.
MAY_BE_NAME = re.compile(r"[A-Za-z]{0,8}\d{4,5}")


def canonical_column(name: str) -> str | None:
    """Find which of our columns a name in a header means; None if the column is the file's own."""
    return CANONICAL.get(normalize(name))


def find_alike(name: str) -> str | None:
    """Find which of our columns a foreign column may be meant to be, by its name; None if there is none."""
    return next((_ALIKE[each] for each in get_close_matches(normalize(name), _ALIKE, n=1, cutoff=_LIKENESS)), None)


def spell_columns(known: Sequence[str], names: Iterable[str]) -> dict[str, str]:
    """Map each of these column names to the spelling of a known column with the same meaning; to itself if there is
    none."""
    spelled = {canonical_column(name) or normalize(name): name for name in known}
    return {
        name: name if name in known else spelled.get(canonical_column(name) or normalize(name), name) for name in names
    }


def is_result(name: str) -> bool:
    """Whether a column of this name is one that an export adds, and not the file's own."""
    return normalize(name) in _RESULTS


def names_secret(name: str) -> bool:
    """Whether the name of a foreign column says that it holds a seed, key, PIN, PUK, password or OTP."""
    words = {word.lower() for word in WORD.findall(name)}
    return bool(words & SECRET_WORDS or SECRET_PART.search(normalize(name)))


def is_own(name: str) -> bool:
    """Whether a foreign column is kept: it has a name, and holds no secret and no result of an earlier export."""
    return bool(name) and not is_result(name) and not names_secret(name)


def looks_like_data(name: str) -> bool:
    """Whether a column's name looks like the value of a cell: then the file has no header."""
    return DATA.fullmatch(name.strip()) is not None


@dataclass(frozen=True, slots=True)
class RowError:
    """A refused row. The reason names the fault and its cure, and quotes no cell, so that no OTP leaks; `fault` is the
    kind of fault, for counting.

    `serial_number` is None if it is missing, malformed, or cannot be told from an OTP in the wrong column. `list_line`:
    the line of the list that is at fault, if one is."""

    row_number: int
    reason: str
    serial_number: str | None
    fault: RowFault
    list_line: int | None = None


# Maximum number of refused rows in any output, including `--json`, which stays short whatever the file's size.
KEPT = 10_000


@dataclass(slots=True)
class RowErrors:
    """Errors of rows: `total` is how many there are; `first` keeps only about the first KEPT."""

    first: list[RowError] = field(default_factory=list)
    total: int = 0

    def add(self, *errors: RowError) -> None:
        self.total += len(errors)
        if len(self.first) < KEPT:
            self.first += errors


class RowRefused(Exception):
    """A row is refused; the message becomes the RowError's reason. `serial`: what the row has as its serial number;
    `fault`: the kind of fault."""

    def __init__(self, reason: str, serial: str = "", fault: RowFault = RowFault.SEED_UNFIT) -> None:
        super().__init__(reason)
        self.serial = serial
        self.fault = fault


def find_reason(reasons: Mapping[str, object]) -> str | None:
    """Find the first reason whose condition is true."""
    return next((reason for reason, applies in reasons.items() if applies), None)


class UnusableFile(Exception):
    """The whole file is refused; the message names the file, the line if there is one, the problem and the cure."""

    def __init__(self, path: Path, problem: str, cure: str, *, row_number: int | None = None) -> None:
        line = "" if row_number is None else f", line {row_number}"
        super().__init__(f"{path}{line}: {problem}. {cure}.")
        self.path = path
        self.row_number = row_number
        self.problem = problem
        self.cure = cure


class SecretMissing(UnusableFile):
    """The file is encrypted, and the key or the password that opens it was not given."""

    def __init__(self, path: Path, kind: Literal["key", "password"]) -> None:
        what = "a pre-shared key" if kind == "key" else "a password"
        super().__init__(
            path, f"is encrypted with {what}", f"Give the {kind} that the vendor sent separately, with --{kind}-file"
        )
        self.kind = kind


# A header's name for the column of serial numbers, which appears between rows if files were joined.
COLUMN_NAME = re.compile(r"\ufeff?serial[\s_-]*(?:number)?", re.IGNORECASE)
# What PingOne allows as a serial number, except the name of the column.
SERIAL = re.compile(rf"(?!(?i:{COLUMN_NAME.pattern})\Z)[A-Za-z0-9]{{1,50}}")
# A long number as Excel writes it, such as 1.00013E+12.
EXCEL_NUMBER = re.compile(r"\d+(?:[.,]\d+)?E[+-]\d+", re.IGNORECASE)
# The beginning of a value that was quoted so that Excel does not change it.
EXCEL_QUOTED = re.compile(r"'|=?\"")
# A text this long may be a seed instead of a serial number: 10 bytes are 16 characters of Base32.
LENGTH_OF_SEED = 16
# Cures for a value that a spreadsheet damaged: in a person's own CSV, and in a vendor's file.
AS_TEXT = "format the column as Text and export again"
AS_SENT = "use the file as the vendor sent it, not as a spreadsheet saved it"
# The form of the ids of users and devices in PingOne.
UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
# A date, or a date and a time, with or without an offset from UTC.
MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII)
TOO_SOON = (
    "the OTPs of a TOTP token expire minutes after they were shown, before not_before: load the row on that day, or "
    "load the seed"
)
EXAMPLE_DATE = "2026-12-01"
# A date as many people write it, with the day first.
DAY_FIRST = re.compile(r"(?P<day>\d\d?)\.(?P<month>\d\d?)\.(?P<year>\d{4})", re.ASCII)
WRITE_DATE = "write it as {date}, or {date}T08:00, in a column formatted as Text"
# Controls, soft hyphens, zero-width characters, and direction marks: they are invisible, and are copied along with a
# name from a page or a window.
INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def explain_serial(serial: str, cure: str = AS_TEXT) -> str:
    """Explain what is wrong with a serial number that is not 1 to 50 letters and digits. `cure`: for damage by a
    spreadsheet."""
    known = {
        "serial is missing: write the serial number that is printed on the token": not serial,
        "the row names columns, like a header, and no token: delete it": COLUMN_NAME.fullmatch(serial),
        f"the serial was turned into a number (as in 1.00013E+12) and lost digits: {cure}": (
            EXCEL_NUMBER.fullmatch(serial)
        ),
        explain_quoted("serial", cure): EXCEL_QUOTED.match(serial),
    }
    fault = "more than 50 characters" if len(serial) > 50 else "characters other than letters and digits"
    other = f"serial has {fault}, which PingOne does not allow: write it as PingOne's token inventory has it"
    return find_reason(known) or other


def explain_quoted(column: str, cure: str = AS_TEXT) -> str:
    """Explain what is wrong with a value that has an apostrophe or `="…"` around it."""
    return (
        f'{column} is written as a quoted number, with an apostrophe or ="…" around it for a spreadsheet: '
        f"write the bare characters; {cure}"
    )


def find_nameable_serial(serial: str) -> str | None:
    """Find the serial number that an error may name; None if it is malformed, or so long that it may be a seed because
    the columns are interchanged."""
    return serial if SERIAL.fullmatch(serial) and len(serial) < LENGTH_OF_SEED else None


def explain_id(column: str) -> str:
    """Explain what is wrong with an id that is not a UUID."""
    return f"{column} is not a UUID: copy the id from PingOne, such as 6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f"


def read_not_before(text: str, zone: tzinfo | None, *, keeps_back: bool = False) -> datetime | None:
    """Read the cell `not_before`, and return its time in UTC. The cell holds a date, which means its midnight, or a
    date and a time; without an offset, the time is in `zone` (None: this machine's). Return None if the cell is empty.
    If it is KEPT_BACK, which an export writes for a record that a person keeps back, return UNTIL_LET_GO if
    `keeps_back`, otherwise None. Raises RowRefused."""
    if text in ("", KEPT_BACK):
        return UNTIL_LET_GO if text and keeps_back else None
    cure = WRITE_DATE.format(date=_write_date(text))
    if not MOMENT.fullmatch(text):
        raise RowRefused(f"not_before is not a date: {cure}", fault=RowFault.DATE_UNFIT)
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
        # Where clocks skip or repeat an hour, the time is ambiguous.
        moments = {time.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    except (ValueError, OverflowError):
        raise RowRefused(f"not_before is a date that does not exist: {cure}", fault=RowFault.DATE_UNFIT) from None
    if len(moments) > 1:
        problem = "not_before is in an hour that clocks skip or repeat"
        raise RowRefused(f"{problem}: add the offset, such as 2026-10-25T02:30+01:00", fault=RowFault.DATE_UNFIT)
    return moments.pop()


def _write_date(text: str) -> str:
    """Write a date such as 1.12.2026 in the expected form; write an example for any other text."""
    try:
        parts = DAY_FIRST.fullmatch(text)
        return str(date(**{name: int(value) for name, value in parts.groupdict().items()})) if parts else EXAMPLE_DATE
    except ValueError:
        return EXAMPLE_DATE


def explain_missing_ids(row: Row, *, may_pair: bool) -> str | None:
    """Explain what a row lacks to be loaded; None if it lacks nothing. `may_pair`: a device may be made."""
    if not row.names_somebody:
        # A vendor's file of seeds has no column for a person.
        if isinstance(row.otps, Seed):
            return "no person is named for it: add --assign who.csv, a list of who gets what"
        return "user_id is missing, and no username, email or external_id names the person: add one of these columns"
    if row.device_id or may_pair:
        return None
    return "device_id is missing: add it, or pair the token with --pair, which finds an existing device"


def refuse_unfit(row: Row | RowError) -> Row | RowError:
    """Return the row, or an error if one of its values, or of the list's, is too long to store, or has an invisible
    character and so names nobody. Other rows can still be loaded."""
    if isinstance(row, RowError):
        return row
    for column in PLAIN:
        value = getattr(row, column.attribute) or ""
        if len(value) > column.longest:
            cure = "check for a missing quotation mark or swapped columns, or shorten it"
            return RowError(
                row.row_number,
                f"{column.name} has more than {column.longest} characters: {cure}",
                row.serial_number,
                RowFault.ROW_UNREADABLE,
            )
    for name in ("username", "email"):
        if INVISIBLE.search(getattr(row, name) or ""):
            return RowError(
                row.row_number,
                f"{name} has an invisible character, such as a zero-width space: type it again",
                row.serial_number,
                RowFault.PERSON_UNFIT,
            )
    return row


# A spreadsheet takes a cell that begins with one of these for a formula, and runs it; the last four are full-width
# characters.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# Where such a cell would begin inside one of ours: in many languages, spreadsheets split at semicolons instead of
# commas, and then the quotation marks around our cell do not keep it together. One pattern finds it with a guard, the
# other without.
_INSIDE, _FORMULA = r"(?<=[;\t\n])", r"(?='*\"*[=+\-@\uff1d\uff0b\uff0d\uff20])"
_GUARDED_INSIDE, _FORMULA_INSIDE = re.compile(f"{_INSIDE}'{_FORMULA}"), re.compile(_INSIDE + _FORMULA)


def guard_formulas(text: str) -> str:
    """Put an apostrophe before everything that a spreadsheet would take for a formula, even after existing apostrophes,
    so that `drop_guards` removes only ours."""
    text = _FORMULA_INSIDE.sub("'", text)
    return "'" + text if text.lstrip("'").startswith(_FORMULA_STARTS) else text


def drop_guards(text: str) -> str:
    """Remove the apostrophes that `guard_formulas` has added to a text."""
    text = _GUARDED_INSIDE.sub("", text)
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(_FORMULA_STARTS) else text
