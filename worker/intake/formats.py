"""The table of formats: add a new one here. A vendor's CSV is a row of the table, with functions for the little that
the row alone cannot express."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

from models.row_fault import RowFault
from worker.intake.files import (
    COMMENT,
    Cells,
    Encoding,
    Hints,
    OpenFile,
    blank_comments,
    check_cells,
    drop_comments,
    find_foreign,
    find_names,
    is_blank,
    make_refusal,
    read_first_lines,
    read_lines,
    read_table,
    split_cells,
    split_first_lines,
    split_header,
)
from worker.intake.other_formats import (
    is_deepnet_xml,
    is_etoken_dat,
    is_graph_json,
    is_safenet_xml,
    read_deepnet_xml,
    read_etoken_dat,
    read_graph_json,
    read_safenet_xml,
)
from worker.intake.otp_pairs import read_otp_pairs
from worker.intake.pskc import is_pskc, read_pskc
from worker.intake.rows import (
    FILE_ROW,
    KNOWN,
    OTP1,
    Row,
    RowError,
    RowRefused,
    UnusableFile,
    canonical_column,
    names_secret,
    normalize,
)
from worker.intake.tokens import (
    LIKELY_SECRET,
    NOT_HOTP_OR_TOTP,
    OTP_TYPES,
    TIME_STEPS,
    Token,
    find_said,
    guess_hash,
    looks_like_secret,
    make_rows,
    read_number,
    refuse_hotp,
    split_algorithm,
)
from worker.vault.otps import Seed

# A table: the columns that an export repeats, and the rows, good or refused, in the file's order.
Table = tuple[list[str], Iterator[Row | RowError]]
# A secret, as part of a regular expression.
SECRET = f"(?:{LIKELY_SECRET.pattern})"
_FIELDS = frozenset(each.name for each in fields(Token))
# The problem with a file without tokens, and its cure.
HOLDS_NONE = ("holds no tokens", "Ask for the file again, with the tokens in it")


@dataclass(frozen=True, slots=True)
class Layout:
    """The meaning of each cell of a row in a file without a header: a field of a Token, a name that only this format
    uses, or an empty string for an ignored cell. `fewest`: minimum number of cells."""

    cells: tuple[str, ...]
    fewest: int = 2


@dataclass(frozen=True, kw_only=True)
class CsvFormat:
    """A vendor's CSV. It has either a `header` or a `layout`."""

    # What `--format` calls it: lower case, with hyphens.
    name: str
    # What it is and who writes such files, in a few words, for `oathbulk formats`.
    title: str
    # The delimiter, unless the file has a header, which shows its own.
    delimiter: str = ","
    # The encoding of the secrets, unless `--encoding` gives one; None: it is inferred from their characters.
    encoding: Encoding | None = None
    # Fields of a Token that are the same for all tokens.
    says: Mapping[str, Any] = field(default_factory=dict)
    # What the columns mean, by their normalized names: fields of a Token, or names that only this format uses.
    header: Mapping[str, str] = field(default_factory=dict)
    # The names among these that identify the header.
    told_by: frozenset[str] = frozenset()
    # Whether an export repeats the header; if not, it begins with serial and otp_type.
    is_repeated: bool = False
    # The start of lines that are not rows.
    comment: re.Pattern[str] = COMMENT
    # The layout of a row; or a function that chooses it by the row.
    layout: Layout | Callable[[list[str]], Layout] = Layout(())
    # A regular expression for a row, without blanks and quotation marks around its cells: one match among the first
    # lines identifies the format.
    looks_like: str = ""
    # Recognizes the format by several rows, if one row is not enough.
    told: Callable[[bytes], bool] | None = None
    # Finds the columns before those of the layout, from a file's path and its first line that is not blank. Raises
    # UnusableFile.
    before: Callable[[Path, int, str], tuple[str, ...]] = lambda path, number, line: ()
    # Refuse a file if its rows and hints together are ambiguous: `check` looks at one row; `check_all` looks at all
    # rows while it passes them on. Both raise UnusableFile.
    check: Callable[[Path, Cells, Hints], None] = lambda path, row, hints: None
    check_all: Callable[[OpenFile, Iterator[Row | RowError]], Iterator[Row | RowError]] = lambda file, rows: rows
    empty: tuple[str, str] = HOLDS_NONE
    # Completes a row: gets its cells by their meaning ("" if the header lacks the column), and returns fields of its
    # Token, which replace those of the row. Raises RowRefused.
    complete: Callable[[dict[str, Any], Hints], dict[str, Any]] = lambda said, hints: {}

    def is_format_of(self, head: bytes) -> bool:
        """Whether a file that begins with these bytes is read as this format."""
        if self.told:
            return self.told(head)
        if self.looks_like:
            rows = map(self.delimiter.join, split_first_lines(head, self.delimiter))
            return any(re.fullmatch(self.looks_like, row) for row in rows)
        return self.told_by <= find_names(head, self.header)

    def read(self, file: OpenFile, now: datetime) -> Table:
        """Return the columns that an export repeats, and the rows. Raises UnusableFile, now or while the rows are
        read."""
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
            missing = dict.fromkeys(self.header.values(), "")
            said = {"encoding": file.hints.encoding or self.encoding, "extra": own, **missing, **self.says, **known}
            try:
                said |= self.complete(said, file.hints)
            except RowRefused as refused:
                refused.serial = said["serial"]
                raise
            return Token(**{name: value for name, value in said.items() if name in _FIELDS})

        return columns, self.check_all(file, make_rows(rows, read_token, file.hints))


# OATH CSV

# The first line of version 2, which has three columns before the serial. Excel adds commas to it.
VERSION = re.compile(r"#\s*version\s*:\s*([^\s,;]+)", re.IGNORECASE)
OATH_ROW = re.compile(rf"[^,]*,{SECRET},(?:-*[^\W\d_])+-*(?:,.*)?")
# A row that names its type or its number of digits. Its secret may be too short to be accepted, or lack a digit.
OATH_ROW_OF_TYPE = re.compile(r"[^,]*,[0-9A-Fa-f]*,(?i:oath-)?(?i:hotp|totp)(?:,.*)?|[^,]*,[0-9A-Fa-f]+,,[68](?:,.*)?")


def is_oath_csv(head: bytes) -> bool:
    """Recognize OATH CSV by a version in its first line, or by a type in a row's third cell."""
    first = read_first_lines(head)[:1]
    rows = list(map(",".join, split_first_lines(head, ",")))
    return any([*map(VERSION.match, first), *map(OATH_ROW.fullmatch, rows), *map(OATH_ROW_OF_TYPE.fullmatch, rows[:1])])


def find_user_columns(path: Path, row_number: int, first: str) -> tuple[str, ...]:
    """Find the columns before the serial in OATH CSV. Raises UnusableFile."""
    found = VERSION.match(first)
    version = found.group(1) if found else "1"
    if version not in ("1", "2"):
        raise UnusableFile(
            path,
            "is OATH CSV of an unknown version",
            "Export it again as version 1 or 2",
            row_number=row_number,
        )
    return ("username", "resolver", "realm") if version == "2" else ()


def complete_oath(said: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Read the fifth cell as counter or time step, and infer the hash as privacyIDEA does."""
    either = said["counter_or_step"]
    return {"counter": either, "time_step": either, "usual_hash": guess_hash(said["secret"])}


# Serial and secret


def is_serial_secret(head: bytes) -> bool:
    """Recognize rows of a serial number, a secret and perhaps a counter."""
    rows = split_first_lines(head, ",")
    if rows and len(rows[0]) > 1 and not looks_like_secret(rows[0][1]) and names_secret(rows[0][1]):
        return False
    is_fitting = all(not any(row[3:]) and not "".join(row[2:3]).isalpha() for row in rows)
    return is_fitting and any(len(row) in (2, 3) and looks_like_secret(row[1]) for row in rows)


def refuse_untold(path: Path, row: Cells, hints: Hints) -> None:
    """Refuse a file if neither it nor a hint gives the type or the time step. Raises UnusableFile."""
    if hints.otp_type is None and len(row or ()) == 2:
        raise UnusableFile(
            path,
            "does not say whether its tokens are HOTP or TOTP",
            "Add --otp-type hotp, or --otp-type totp --time-step 30 (or 60)",
        )
    if hints.otp_type == "totp" and hints.time_step is None:
        raise UnusableFile(path, "does not say the time step of its tokens", "Add --time-step 30 or --time-step 60")


def refuse_steps(file: OpenFile, rows: Iterator[Row | RowError]) -> Iterator[Row | RowError]:
    """Refuse a file in which each row has the same counter, if that number may be a time step and no hint gives the
    type. Raises UnusableFile."""
    counters = set()
    for row in rows:
        counters.update([row.otps.counter] if isinstance(row, Row) and isinstance(row.otps, Seed) else [])
        yield row
    if file.hints.otp_type is None and counters in ({step} for step in TIME_STEPS):
        (step,) = counters
        raise UnusableFile(
            file.path,
            f"has {step} in every row, and does not say whether it is a time step or a counter",
            f"Add --otp-type totp --time-step {step}, or --otp-type hotp",
        )


def complete_serial_secret(said: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Read a token with a counter as HOTP. With --otp-type totp, a third column is not a counter."""
    return {"usual_type": "hotp" if said["counter"] else None}


# Entra


def complete_entra(said: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Refuse a token that a hint or some vendor's own column calls HOTP, and find its hash, which some vendors put into
    the column `algorithm`. Raises RowRefused."""
    types = [value for name, value in said["extra"].items() if normalize(name) in ("type", "otptype", "tokentype")]
    named_type, named_hash = split_algorithm(said["algorithm"])
    refuse_hotp([*types, named_type, hints.otp_type or ""], said["counter"])
    return {"hash_algorithm": find_said("the hash", [said["hash_algorithm"], named_hash])}


# Yubico

# The beginnings of a row's first cell in the traditional format; only the first one means an OATH token.
KINDS = ("oath-hotp", "static password", "yubico otp", "challenge-response", "configuration")
LOGGING = "logging start"
# A comment, or a line that only logs the start of the tool.
YUBICO_COMMENT = re.compile(rf'\s*(?:#|"?(?i:{LOGGING})"?\s*(?:,[^,]*)?[,\s]*$)')
# A line that logs the start of the tool; a row of the traditional format, with the time in any language; and a row of
# the Yubico format, with an access code and a time.
YUBICO_ROW = (
    rf"(?i:{LOGGING})(?:,.*)?"
    rf"|(?i:{'|'.join(KINDS)})[^,]*,\d[^,]*\d:\d\d.*"
    r"|(?:[^,]*,){4}(?:[0-9A-Fa-f]{12})?,\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?(?:,.*)?"
)
# The public id serves as the serial number. At least one cell follows the counter, and shows that it is complete.
TRADITIONAL = Layout(
    ("kind", "", "", "serial", "", "secret", *[""] * 5, "digits", "counter", *[""] * 5),
    fewest=14,
)
# A moving factor in the third cell means OATH-HOTP.
YUBICO_FORMAT = Layout(("serial", "", "counter", "secret", "", ""), fewest=6)


def choose_yubico(cells: list[str]) -> Layout:
    """Choose the layout of a row by its first cell. Raises RowRefused."""
    kind = "".join(cells[:1]).lower()
    if kind == LOGGING:
        raise RowRefused(
            "the line says that the tool was started, followed by a row: put a line break before the row",
            fault=RowFault.ROW_UNREADABLE,
        )
    return TRADITIONAL if kind.startswith(KINDS) else YUBICO_FORMAT


def complete_yubico(said: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Refuse a token that is not OATH-HOTP. Raises RowRefused."""
    kind = said.get("kind", "oath-hotp").lower()
    if kind.startswith("static"):
        # In such a row, the cell of the public id holds part of the password.
        said["serial"] = ""
    # A private id is longer than a moving factor.
    is_moving_factor = "kind" in said or re.fullmatch(r"[0-9]{1,7}", said["counter"])
    if kind != "oath-hotp" or not is_moving_factor:
        raise RowRefused(NOT_HOTP_OR_TOTP)
    return {}


# PhenixID

PHENIXID_ROW = rf"(?i:hotp|totp);[^;]*;.*[^;].*|[^;]*;{SECRET};\d+"
PHENIXID_TOTP = Layout(("otp_type", "serial", "hash_algorithm", "secret", "epoch", "time_step", "digits"), fewest=7)
PHENIXID_HOTP = Layout(("otp_type", "serial", "secret", "counter"), fewest=3)
PHENIXID_TYPELESS = Layout(("serial", "secret", "counter"), fewest=3)


def choose_phenixid(cells: list[str]) -> Layout:
    kind = "".join(cells[:1]).lower()
    if kind == "totp":
        return PHENIXID_TOTP
    return PHENIXID_TYPELESS if len(cells) == 3 and kind not in OTP_TYPES else PHENIXID_HOTP


def complete_phenixid(said: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Read a token without a type as HOTP, and refuse one whose time does not begin in 1970. Raises RowRefused."""
    if read_number(said.get("epoch"), "the epoch"):
        raise RowRefused(
            "the token counts its time from a moment other than 1970-01-01 (its epoch is not 0), which PingOne does "
            "not support: leave it out"
        )
    return {"otp_type": said.get("otp_type", "hotp")}


# Nexus

NEXUS_ROW = re.compile(r"[^\s:,;]+:[A-Za-z0-9+/]{14,}=*:[A-Za-z0-9+/]*=*")


def is_nexus(head: bytes) -> bool:
    """Recognize rows of a serial number, a secret and a counter, which may be empty."""
    return any(map(NEXUS_ROW.fullmatch, read_first_lines(head)))


def decode_counter(said: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Decode a counter from Base64; its bytes are big-endian. Raises RowRefused."""
    try:
        counter = base64.b64decode(said["counter"], validate=True)
    except ValueError:
        counter = bytes(9)
    if len(counter) > 8:
        raise RowRefused("the counter is not Base64 of at most 8 bytes: it is written like AA== for 0")
    return {"counter": int.from_bytes(counter, "big")}


# RCDevs


def decode_data(said: dict[str, Any], hints: Hints) -> dict[str, Any]:
    """Decode the column Data: pairs of a name and a Base64 value, which may itself end with equals signs. Raises
    RowRefused."""
    pairs = [pair.partition("=") for pair in said["data"].split(",") if pair.strip()]
    data = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if len(data) < len(pairs):
        raise RowRefused("a name appears twice in the column Data: ask for the file again")
    names = {"otp_type": "tokentype", "digits": "otplength", "time_step": "totptimestep", "counter": "tokenstate"}
    try:
        if not pairs or not all(sign for _, sign, _ in pairs):
            raise ValueError
        if not data.get("otplength") and hints.digits is None:
            raise RowRefused(
                "the column Data does not say how many digits an OTP has (OTPLength): check whether the row was cut "
                "off, and ask for the file again, or add --digits"
            )
        # The state of an HOTP token is its counter.
        decoded = {
            meaning: base64.b64decode(data.get(name, ""), validate=True).decode("ascii")
            for meaning, name in names.items()
        }
    except ValueError:
        raise RowRefused(
            "the column Data is not made of pairs such as TokenType=VE9UUA==, with commas between them: check "
            "whether the row was cut off, and keep the column in quotation marks"
        ) from None
    return decoded | {"secret": data.get("tokenkey", "")}


# All formats


@dataclass(frozen=True, slots=True)
class OtherFormat:
    """A format that is not a vendor's CSV.

    `name`: its name for `--format`. `title`: what it is and who writes such files. `is_format_of`: whether a file that
    starts with these bytes (a few kilobytes) has this format. `read` takes the file and the time, with its zone, and
    returns the columns that an export repeats, and the rows. It raises UnusableFile if the file is unusable as a whole
    or a hint is missing; reading the rows, up to the last one, may raise it too. `empty`: the problem with a file
    without rows, and its cure."""

    name: str
    title: str
    is_format_of: Callable[[bytes], bool]
    read: Callable[[OpenFile, datetime], Table]
    empty: tuple[str, str] = HOLDS_NONE


Format = CsvFormat | OtherFormat

# A CSV whose header has a column for an OTP. Also any text in no other format: the error explains what is wrong with
# its header.
OTP_PAIRS = OtherFormat(
    "otp-pairs",
    "OTP pairs: our own CSV, with a serial number and two consecutive OTPs in each row; or an export",
    lambda head: find_foreign(head) is None,
    read_otp_pairs,
    empty=("has a header and no rows", "Export it again, with a row for each token"),
)
# The formats that are recognized by content, in the order of `oathbulk formats`. No file should look like two of them.
_TOLD_BY_CONTENT: tuple[Format, ...] = (
    OtherFormat(
        "pskc",
        "PSKC (RFC 6030): XML with <KeyContainer>, plain or encrypted with a pre-shared key or a password",
        is_pskc,
        read_pskc,
        empty=("holds no keys", "Ask the vendor for the file again"),
    ),
    CsvFormat(
        name="oath-csv",
        title="OATH CSV (privacyIDEA, LinOTP, NetIQ): serial, hexadecimal seed, type, digits, counter or time step",
        encoding="hex",
        says={"usual_type": "hotp", "usual_step": 30},
        layout=Layout(("serial", "secret", "otp_type", "digits", "counter_or_step", "hash_algorithm")),
        told=is_oath_csv,
        before=find_user_columns,
        complete=complete_oath,
    ),
    CsvFormat(
        name="serial-secret",
        title="Serial and secret without a header (PingID console, Duo, IBM): serial, secret, and a counter for HOTP",
        layout=Layout(("serial", "secret", "counter")),
        told=is_serial_secret,
        check=refuse_untold,
        check_all=refuse_steps,
        complete=complete_serial_secret,
    ),
    # https://learn.microsoft.com/en-us/entra/identity/authentication/concept-authentication-oath-tokens
    CsvFormat(
        name="entra",
        title="Entra CSV (Microsoft, Deepnet): a header with serial number, secret key and time interval; Base32",
        encoding="base32",
        says={"otp_type": "totp"},
        header={
            "upn": "username",
            "serialnumber": "serial",
            "serial": "serial",
            "secretkey": "secret",
            "timeinterval": "time_step",
            "timeintervalinseconds": "time_step",
            "hashfunction": "hash_algorithm",
            "hashalgorithm": "hash_algorithm",
            "hash": "hash_algorithm",
            "algorithm": "algorithm",
            "digits": "digits",
            "otplength": "digits",
            "counter": "counter",
        },
        told_by=frozenset({"secretkey"}),
        is_repeated=True,
        complete=complete_entra,
    ),
    OtherFormat(
        "graph-json",
        "Graph JSON (Microsoft Graph, uniQuk): objects with serialNumber, secretKey and timeIntervalInSeconds",
        is_graph_json,
        read_graph_json,
        empty=("holds no tokens", "Export it again, and use the file as it came"),
    ),
    OtherFormat(
        "safenet-xml",
        "SafeNet / Aladdin XML: <Tokens> with <Token serial>, <Seed> and <MovingFactor>; HOTP",
        is_safenet_xml,
        read_safenet_xml,
    ),
    OtherFormat(
        "deepnet-xml",
        "Deepnet DualShield XML: <data> with <header> and <token>; not encrypted",
        is_deepnet_xml,
        read_deepnet_xml,
    ),
    # https://github.com/Yubico/yubikey-personalization-gui
    CsvFormat(
        name="yubico",
        title="Yubico (traditional and Yubico format): the logs of the YubiKey Personalization Tool; OATH-HOTP only",
        encoding="hex",
        says={"otp_type": "hotp"},
        layout=choose_yubico,
        comment=YUBICO_COMMENT,
        looks_like=YUBICO_ROW,
        complete=complete_yubico,
    ),
    OtherFormat(
        "etoken-dat",
        "eToken / SafeWord .dat: blocks of lines such as sccAuthenticatorId: serial; event tokens only",
        is_etoken_dat,
        read_etoken_dat,
    ),
    # https://phenixid.screenstepslive.com/s/19332/m/72021/l/785550-import-hardware-tokens
    CsvFormat(
        name="phenixid",
        title="PhenixID: values between semicolons, such as HOTP;serial;secret;counter",
        delimiter=";",
        encoding="hex",
        layout=choose_phenixid,
        looks_like=PHENIXID_ROW,
        complete=complete_phenixid,
    ),
    CsvFormat(
        name="nexus",
        title="Nexus: serial:secret:counter, secret and counter in Base64",
        delimiter=":",
        encoding="base64",
        says={"otp_type": "hotp"},
        layout=Layout(("serial", "secret", "counter")),
        told=is_nexus,
        complete=decode_counter,
    ),
    # https://docs.rcdevs.com/howtos/tokens_seed_conversion/seeds/
    CsvFormat(
        name="rcdevs",
        title="RCDevs OpenOTP: a header with Type, Reference, Description and Data",
        encoding="base64",
        header={"type": "type", "reference": "serial", "data": "data"},
        told_by=frozenset({"reference", "data"}),
        complete=decode_data,
    ),
)
_CSVS = [each for each in _TOLD_BY_CONTENT if isinstance(each, CsvFormat)]
# The formats that are recognized by their header. A header takes precedence over the rows below it, unless it may be a
# comment.
_WITH_HEADER = [each for each in _CSVS if each.header]
# The formats without a header whose delimiter is the comma.
_WITH_COMMAS = [each for each in _CSVS if not each.header and each.delimiter == ","]
# What people and programs write instead of commas.
_OTHER_SEPARATORS = {b";": "semicolons", b"\t": "tabs", b" ": "blanks", b"|": "bars"}
# The columns that tell the header of a file of pairs, if it begins with `#`, from a comment.
_REQUIRED_OF_PAIRS = {column.name for column in KNOWN if column.is_required}

# The formats by name, in the order of `oathbulk formats`.
FORMATS: dict[str, Format] = {each.name: each for each in (OTP_PAIRS, *_TOLD_BY_CONTENT)}


def choose_format(path: Path, head: bytes) -> Format:
    """Choose the format of a file that starts with these bytes. Raises UnusableFile, which says what the file is
    instead, if known, or which formats a person can choose from."""
    # A file of pairs, or an export, may have columns of its own, which can hold anything.
    if _has_header_of_pairs(head):
        return OTP_PAIRS
    found: list[Format] = [each for each in _WITH_HEADER if each.is_format_of(drop_comments(head))]
    found = found or [each for each in _TOLD_BY_CONTENT if each.is_format_of(head)]
    if len(found) > 1:
        names = " or ".join(each.name for each in found)
        raise UnusableFile(path, f"might be {names}", f"Add the right one, such as --format {found[0].name}")
    if found:
        return found[0]
    if foreign := make_refusal(path, head, "but not a known vendor's file of tokens"):
        raise foreign
    for separator, name in _OTHER_SEPARATORS.items():
        with_commas = head.replace(separator, b",")
        if any(each.is_format_of(with_commas) for each in _WITH_COMMAS):
            raise UnusableFile(
                path,
                f"has {name} between its values, instead of commas",
                "Replace them with commas in a text editor: Excel damages long serial numbers",
            )
    return OTP_PAIRS


def _has_header_of_pairs(head: bytes) -> bool:
    """Whether the first line is the header of a file of pairs, or of an export."""
    first = "".join(read_first_lines(head)[:1])
    columns = set(map(canonical_column, split_header(first)[1]))
    return FILE_ROW in columns or (columns >= _REQUIRED_OF_PAIRS if first.startswith("#") else OTP1.name in columns)


def find_format(path: Path, name: str) -> Format:
    """Find the format of this name. Raises UnusableFile if there is none."""
    if name not in FORMATS:
        near = get_close_matches(name, FORMATS, n=1)
        cure = f"Perhaps you mean --format {near[0]}" if near else f"Name one of {', '.join(FORMATS)}"
        raise UnusableFile(path, f"cannot be read as {name!r}, which is an unknown format", cure)
    return FORMATS[name]


def open_table(chosen: Format, file: OpenFile, now: datetime) -> Table:
    """Open a file in this format, and return its columns and its rows. Raises UnusableFile, also if there are no
    rows."""
    columns, rows = chosen.read(file, now)
    first = next(rows, None)
    if first is None:
        raise UnusableFile(file.path, *chosen.empty)
    return columns, chain([first], rows)
