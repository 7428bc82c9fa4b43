"""The table of the formats that are read: a new one is added here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path

from worker.intake import csv_formats
from worker.intake.csv_formats import HOLDS_NONE, CsvFormat, Layout
from worker.intake.csv_rows import split_header
from worker.intake.etoken_dat import is_etoken_dat, read_etoken_dat
from worker.intake.files import OpenFile, drop_comments, find_foreign, make_refusal, read_first_lines
from worker.intake.graph_json import is_graph_json, read_graph_json
from worker.intake.otp_pairs import read_otp_pairs
from worker.intake.pskc import is_pskc, read_pskc
from worker.intake.rows import FILE_ROW, KNOWN, OTP1, Row, RowError, UnusableFile, canonical_column
from worker.intake.xml_formats import is_deepnet_xml, is_safenet_xml, read_deepnet_xml, read_safenet_xml

# The columns that an export repeats, and the rows, good or refused, in the file's order.
Table = tuple[list[str], Iterator[Row | RowError]]


@dataclass(frozen=True, slots=True)
class OtherFormat:
    """A format that is no vendor's CSV.

    `name`: what `--format` calls it. `title`: what it is and who writes such files. `is_format_of`: whether a file that
    begins with these bytes, some kilobytes, is to be read as this format. `read`: returns the columns that an export
    repeats, and the rows, good or refused, in the file's order; the time has a zone. It raises UnusableFile if the file
    is of no use as a whole, or if a hint is missing; so may the rows, up to the last one. `empty`: problem and cure of
    a file without any.
    """

    name: str
    title: str
    is_format_of: Callable[[bytes], bool]
    read: Callable[[OpenFile, datetime], Table]
    empty: tuple[str, str] = HOLDS_NONE


Format = CsvFormat | OtherFormat

# A CSV whose header has a column of an OTP, and every text that is none of the others: then it is said what is wrong
# with its header.
OTP_PAIRS = OtherFormat(
    "otp-pairs",
    "OTP pairs: a CSV of our own, with a serial number and two consecutive OTPs a row; or an export",
    lambda head: find_foreign(head) is None,
    read_otp_pairs,
    empty=("has a header and no rows", "Export it again, with one row a token"),
)
# The formats that are told by what is in them, in the order in which they are listed. No file should look like two of
# them.
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
        told=csv_formats.is_oath_csv,
        before=csv_formats.find_user_columns,
        complete=csv_formats.complete_oath,
    ),
    CsvFormat(
        name="serial-secret",
        title="Serial and secret without a header (PingID console, Duo, IBM): serial, secret, and a counter for HOTP",
        layout=Layout(("serial", "secret", "counter")),
        told=csv_formats.is_serial_secret,
        check=csv_formats.refuse_untold,
        complete=csv_formats.complete_serial_secret,
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
        },
        told_by=frozenset({"secretkey"}),
        is_repeated=True,
        complete=csv_formats.refuse_hotp,
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
        layout=csv_formats.choose_yubico,
        comment=csv_formats.YUBICO_COMMENT,
        looks_like=csv_formats.YUBICO_ROW,
        complete=csv_formats.complete_yubico,
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
        layout=csv_formats.choose_phenixid,
        looks_like=csv_formats.PHENIXID_ROW,
        complete=csv_formats.complete_phenixid,
    ),
    CsvFormat(
        name="nexus",
        title="Nexus: serial:secret:counter, secret and counter in Base64",
        delimiter=":",
        encoding="base64",
        says={"otp_type": "hotp"},
        layout=Layout(("serial", "secret", "counter")),
        told=csv_formats.is_nexus,
        complete=csv_formats.decode_counter,
    ),
    # https://docs.rcdevs.com/howtos/tokens_seed_conversion/seeds/
    CsvFormat(
        name="rcdevs",
        title="RCDevs OpenOTP: a header with Type, Reference, Description and Data",
        encoding="base64",
        header={"type": "type", "reference": "serial", "data": "data"},
        told_by=frozenset({"reference", "data"}),
        complete=csv_formats.decode_data,
    ),
)
_CSVS = [each for each in _TOLD_BY_CONTENT if isinstance(each, CsvFormat)]
# Those of them that are told by their header, which says more than what the rows below it look like, unless it may be
# a comment.
_WITH_HEADER = [each for each in _CSVS if each.header]
# The formats that have commas between their values, and nothing else.
_WITH_COMMAS = [each for each in _CSVS if not each.header and each.delimiter == ","]
# What people and programs put there instead.
_OTHER_SEPARATORS = {b";": "semicolons", b"\t": "tabs", b" ": "blanks", b"|": "bars"}
# What a header of pairs has that begins with `#`, and a comment has not.
_REQUIRED_OF_PAIRS = {column.name for column in KNOWN if column.is_required}

# The formats by their names, in the order in which they are listed.
FORMATS: dict[str, Format] = {each.name: each for each in (OTP_PAIRS, *_TOLD_BY_CONTENT)}


def choose_format(path: Path, head: bytes) -> Format:
    """Choose the format of a file that begins with these bytes. Raises UnusableFile, which names what the file is
    instead, if that is known, or the formats between which a person has to choose."""
    # In columns of the vendor's own, of pairs or of an export, anything may stand.
    if _has_header_of_pairs(head):
        return OTP_PAIRS
    found: list[Format] = [each for each in _WITH_HEADER if each.is_format_of(drop_comments(head))]
    found = found or [each for each in _TOLD_BY_CONTENT if each.is_format_of(head)]
    if len(found) > 1:
        names = " or ".join(each.name for each in found)
        raise UnusableFile(path, f"may be {names}", f"Say which it is, by --format {found[0].name}")
    if found:
        return found[0]
    if foreign := make_refusal(path, head, "but none of the vendors' files of tokens that are known here"):
        raise foreign
    for separator, name in _OTHER_SEPARATORS.items():
        with_commas = head.replace(separator, b",")
        if any(each.is_format_of(with_commas) for each in _WITH_COMMAS):
            problem = f"has {name} between its values, where this kind of file of seeds has commas"
            cure = "Put commas in their place, with a text editor: Excel spoils long serial numbers"
            raise UnusableFile(path, problem, cure)
    return OTP_PAIRS


def _has_header_of_pairs(head: bytes) -> bool:
    """Tell whether the first line is the header of a file of pairs, or of an export."""
    first = "".join(read_first_lines(head)[:1])
    columns = set(map(canonical_column, split_header(first)[1]))
    return FILE_ROW in columns or (columns >= _REQUIRED_OF_PAIRS if first.startswith("#") else OTP1.name in columns)


def find_format(path: Path, name: str) -> Format:
    """Find the format of this name. Raises UnusableFile if there is none."""
    if name not in FORMATS:
        near = get_close_matches(name, FORMATS, n=1)
        cure = f"Perhaps --format {near[0]} is meant" if near else f"Name one of {', '.join(FORMATS)}"
        raise UnusableFile(path, f"cannot be read as {name!r}, which is no format that is known", cure)
    return FORMATS[name]


def open_table(chosen: Format, file: OpenFile, now: datetime) -> Table:
    """Open a file as one of this format: its columns, and its rows, which end with UnusableFile if there are none.
    Raises UnusableFile."""
    columns, rows = chosen.read(file, now)

    def read() -> Iterator[Row | RowError]:
        is_empty = True
        for row in rows:
            is_empty = False
            yield row
        if is_empty:
            raise UnusableFile(file.path, *chosen.empty)

    return columns, read()
