"""The table of the formats that are read: a new one is added here."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from worker.intake.foreign_files import find_foreign, make_refusal
from worker.intake.formats.deepnet_xml import DeepnetXml
from worker.intake.formats.entra import Entra
from worker.intake.formats.etoken_dat import ETokenDat
from worker.intake.formats.first_lines import drop_comments, read_first_lines
from worker.intake.formats.format import Format
from worker.intake.formats.graph_json import GraphJson
from worker.intake.formats.header_csv import split_header
from worker.intake.formats.nexus import Nexus
from worker.intake.formats.oath_csv import OathCsv
from worker.intake.formats.otp_pairs.columns import KNOWN, OTP1, canonical_column
from worker.intake.formats.otp_pairs.format import OtpPairs
from worker.intake.formats.phenixid import PhenixId
from worker.intake.formats.pskc.format import Pskc
from worker.intake.formats.rcdevs import RcDevs
from worker.intake.formats.safenet_xml import SafeNetXml
from worker.intake.formats.serial_secret import SerialSecret
from worker.intake.formats.yubico import Yubico
from worker.intake.results import FILE_ROW
from worker.intake.rows import UnusableFile

# A CSV whose header has a column of an OTP, and every text that is none of the others: then it is said what is wrong
# with its header.
_OTP_PAIRS = OtpPairs()
# The formats that are told by what is in them. No file should look like two of them.
_TOLD_BY_CONTENT: tuple[Format, ...] = (
    Pskc(),
    OathCsv(),
    SerialSecret(),
    Entra(),
    GraphJson(),
    SafeNetXml(),
    DeepnetXml(),
    Yubico(),
    ETokenDat(),
    PhenixId(),
    Nexus(),
    RcDevs(),
)
# Those of them that are told by their header, which says more than what the rows below it look like, unless it may be
# a comment.
_WITH_HEADER: tuple[Format, ...] = (Entra(), RcDevs())
# What a header of pairs has that begins with `#`, and a comment has not.
_REQUIRED_OF_PAIRS = {column.name for column in KNOWN if column.is_required}
# The formats that have commas between their values, and nothing else.
_WITH_COMMAS = (OathCsv(), SerialSecret(), Yubico())
# What people and programs put there instead.
_OTHER_SEPARATORS = {b";": "semicolons", b"\t": "tabs", b" ": "blanks", b"|": "bars"}

# The formats by their names, in the order in which they are listed.
FORMATS: dict[str, Format] = {each.name: each for each in (_OTP_PAIRS, *_TOLD_BY_CONTENT)}


def choose_format(path: Path, head: bytes) -> Format:
    """Choose the format of a file that begins with these bytes. Raises UnusableFile, which names what the file is
    instead, if that is known, or the formats between which a person has to choose."""
    if _has_header_of_pairs(head):
        return _OTP_PAIRS
    found = [each for each in _WITH_HEADER if each.is_format_of(drop_comments(head))]
    found = found or [each for each in _TOLD_BY_CONTENT if each.is_format_of(head)]
    if len(found) > 1:
        names = " or ".join(each.name for each in found)
        raise UnusableFile(path, f"may be {names}", f"Say which it is, by --format {found[0].name}")
    if found:
        return found[0]
    if separators := _find_other_separators(head):
        problem = f"has {separators} between its values, where this kind of file of seeds has commas"
        cure = "Put commas in their place, with a text editor: Excel spoils long serial numbers"
        raise UnusableFile(path, problem, cure)
    if _OTP_PAIRS.is_format_of(head):
        return _OTP_PAIRS
    raise make_refusal(path, head)


def _has_header_of_pairs(head: bytes) -> bool:
    """Whether the first line is the header of a file of pairs, or of an export, in whose columns of the vendor's own
    anything may stand."""
    first = "".join(read_first_lines(head)[:1])
    columns = set(map(canonical_column, split_header(first)[1]))
    return FILE_ROW in columns or (columns >= _REQUIRED_OF_PAIRS if first.startswith("#") else OTP1.name in columns)


def _find_other_separators(head: bytes) -> str | None:
    """Find what stands between the values of a file that would be one of seeds if that were commas; None if it is
    something else."""
    if find_foreign(head):
        return None
    for separator, name in _OTHER_SEPARATORS.items():
        with_commas = head.replace(separator, b",")
        if any(each.is_format_of(with_commas) for each in _WITH_COMMAS):
            return name
    return None


def find_format(path: Path, name: str) -> Format:
    """Find the format of this name. Raises UnusableFile if there is none."""
    if name not in FORMATS:
        near = get_close_matches(name, FORMATS, n=1)
        cure = f"Perhaps --format {near[0]} is meant" if near else f"Name one of {', '.join(FORMATS)}"
        raise UnusableFile(path, f"cannot be read as {name!r}, which is no format that is known", cure)
    return FORMATS[name]
