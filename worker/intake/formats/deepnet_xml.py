"""The format "Deepnet XML": the token file of Deepnet DualShield, with a header that holds for all of its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from xml.etree.ElementTree import Element

from worker.intake.foreign_files import BYTE_ORDER_MARK
from worker.intake.formats.bare_csv import check_not_empty
from worker.intake.formats.format import Encoding, OpenFile
from worker.intake.formats.tokens import Token, make_rows
from worker.intake.formats.xml_stream import read_parts
from worker.intake.rows import Row, RowError, UnusableFile
from worker.vault.seed import OtpType

ENCODINGS: dict[str, Encoding] = {"HEX": "hex", "BASE64": "base64"}
# Last letters of a product's code, and the type that they mean: SafeID/Time is ST, SafeID/Event is SE.
TYPES: dict[str, OtpType] = {"T": "totp", "E": "hotp"}


class DeepnetXml:
    """Deepnet's XML: `data` with a `header` and `tokens`. A row's number is the place of the token."""

    name = "deepnet-xml"
    title = "Deepnet DualShield XML: <data> with <header> and <token>; not encrypted"

    def is_format_of(self, head: bytes) -> bool:
        is_xml = head.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"<")
        return is_xml and b"<data" in head and b"<header" in head and b"manufacturerCode" in head

    def read_columns(self, file: OpenFile) -> list[str]:
        check_not_empty(file, (part for part in _read_parts(file) if part.tag == "token"))
        return ["serial", "otp_type"]

    def read_rows(self, file: OpenFile, now: datetime) -> Iterator[Row | RowError]:
        parts = _read_parts(file)
        header = next(parts)
        encoding = ENCODINGS.get(_read_text(header, "encode").upper())

        def read(element: Element) -> Token:
            return Token(
                serial=_read_text(element, "serial"),
                secret=_read_text(element, "seed"),
                encoding=encoding or file.hints.encoding,
                otp_type=TYPES.get(_read_text(header, "productCode").upper()[-1:]),
                digits=_read_text(header, "digits"),
                time_step=_read_text(header, "timeWindow"),
                hash_algorithm=_read_text(header, "crypto"),
            )

        return make_rows(enumerate(parts, 1), read, file.hints, counted="token")


def _read_parts(file: OpenFile) -> Iterator[Element]:
    """Yield the header, and then the tokens. Raises UnusableFile."""
    parts = read_parts(file, {"header", "token"})
    next(parts)
    header = next(parts, None)
    if header is None or header.tag != "header":
        raise UnusableFile(file.path, "has no header before its tokens", "Export it again from DualShield")
    if _read_text(header, "encrypt").upper() not in ("", "NONE"):
        cure = "Export it without encryption (encrypt NONE), or ask Deepnet for a PSKC file"
        raise UnusableFile(file.path, "is encrypted in Deepnet's own way, which is not read", cure)
    yield header
    for part in parts:
        if part.tag == "header":
            cure = "Make a file of each header and its tokens"
            raise UnusableFile(file.path, "has a second header, which would hold for other tokens", cure)
        yield part


def _read_text(element: Element, name: str) -> str:
    """Read the text of an element's child, without blanks around it; empty if it is missing."""
    return (element.findtext(name) or "").strip()
