"""XML of tokens, and the formats "SafeNet XML" and "Deepnet XML". A row's number is the place of the token in the file.

A document is read element by element, and nothing is kept of those before. One with a DTD or an entity is refused
(defusedxml), so that nothing is looked up and nothing expands.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from functools import partial
from xml.etree.ElementTree import Element, ParseError
from xml.parsers.expat import errors

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from worker.intake.files import BYTE_ORDER_MARK, Encoding, Hints, OpenFile
from worker.intake.rows import Row, RowError, RowRefused, UnusableFile
from worker.intake.tokens import Token, make_rows
from worker.vault.otps import OtpType

# Bytes between the ends of two parts at most: it bounds the memory. A token with its certificates has some kilobytes.
MAX_PART = 2**20
# Elements inside each other at most; a token's are ten deep.
MAX_DEPTH = 64
CURE = "Ask for the file again, and use it as the vendor sent it"
# Problem and cure of errors that people make when they copy or save a document, by expat's codes.
SAVED_WRONG = {
    errors.codes[errors.XML_ERROR_MISPLACED_XML_PI]: (
        "has something before its XML declaration, such as a blank or an empty line",
        "Remove what stands before <?xml",
    ),
    errors.codes[errors.XML_ERROR_INCORRECT_ENCODING]: (
        "names an encoding in its first line that it does not have",
        'Save it as UTF-8, and write encoding="UTF-8" into its first line',
    ),
}


class PartSource:
    """The file that the parser reads: counts the bytes since the last part ended."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self.since_part = 0

    def read(self, size: int) -> bytes:
        """Read some bytes. Raises UnusableFile if no part has ended for too long."""
        chunk = self._file.read(size)
        self.since_part += len(chunk)
        if self.since_part > MAX_PART:
            raise UnusableFile(self._file.path, f"has a part of more than {MAX_PART // 2**20} MiB", CURE)
        return chunk


def cut_namespace(name: str) -> str:
    """Cut the namespace off a name, as in `{namespace}name`."""
    return name.rpartition("}")[2]


def is_xml(head: bytes) -> bool:
    return head.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"<")


def read_parts(
    file: OpenFile, names: Collection[str], rename: Callable[[str], str] = cut_namespace
) -> Iterator[Element]:
    """Yield the root, as soon as it begins and so without its content, and then every outermost element that has one of
    these names. `rename` makes the name of an element of `{namespace}name`. Raises UnusableFile if the document is not
    well-formed XML, which may be known at its end only."""
    source = PartSource(file)
    try:
        yield from _read_parts(source, file, names, rename)
    except ParseError as error:
        line, _ = error.position
        problem = SAVED_WRONG.get(error.code, ("is no well-formed XML, or was cut off", CURE))
        raise UnusableFile(file.path, *problem, row_number=line) from None
    except DefusedXmlException:
        raise UnusableFile(file.path, "has a document type (DTD) or entities, which are not read", CURE) from None
    except (ValueError, LookupError):
        raise UnusableFile(file.path, "is XML in an encoding that is not read", "Save it as UTF-8") from None


def _read_parts(
    source: PartSource, file: OpenFile, names: Collection[str], rename: Callable[[str], str]
) -> Iterator[Element]:
    """Yield what `read_parts` yields. Raises what the parser raises."""
    # The elements that are open, and how many of them are outside of the part that is being read.
    path: list[Element] = []
    outside = 0
    for event, element in iterparse(source, ("start", "end"), forbid_dtd=True):
        if event == "start":
            path.append(element)
            if len(path) > MAX_DEPTH:
                raise UnusableFile(file.path, f"has elements more than {MAX_DEPTH} deep", CURE)
            if len(path) == 1:
                yield Element(rename(element.tag), element.attrib)
            elif not outside and rename(element.tag) in names:
                outside = len(path) - 1
            continue
        path.pop()
        if outside == len(path) > 0:
            outside = 0
            source.since_part = 0
            for each in element.iter():
                each.tag = rename(each.tag)
            yield element
        if path and not outside:
            path[-1].remove(element)


# SafeNet


def is_safenet_xml(head: bytes) -> bool:
    return is_xml(head) and (b"<Tokens>" in head or b"<Tokens " in head)


def read_safenet_xml(file: OpenFile, now: datetime) -> tuple[list[str], Iterator[Row | RowError]]:
    """Return the columns that an export repeats, and the rows, one a `Token` in `Tokens`."""
    parts = (part for part in read_parts(file, {"Token"}) if part.tag == "Token")
    rows = make_rows(enumerate(parts, 1), partial(_read_safenet_token, file.hints), file.hints, counted="token")
    return ["serial", "otp_type", "model"], rows


def _read_safenet_token(hints: Hints, element: Element) -> Token:
    """Read the token in its element. Raises RowRefused."""
    serial = element.get("serial", "").strip()
    applications = [each for each in element.iter("Application") if _read_text(each, "Seed")]
    if len(applications) > 1:
        raise RowRefused("the token has several seeds: leave the applications out that are not for OATH", serial)
    application = applications[0] if applications else element
    secret = _read_text(application, "Seed") if applications else ""
    model = _read_text(element, "ProductName")
    return Token(
        serial=serial,
        secret=secret,
        encoding=hints.encoding or "hex",
        otp_type="hotp",
        counter=_read_text(application, "MovingFactor") if applications else "",
        # As LinOTP concludes of so many hexadecimal digits.
        usual_hash="sha256" if len(secret) == 64 else "sha1",
        extra={"model": model} if model else {},
    )


# Deepnet

ENCODINGS: dict[str, Encoding] = {"HEX": "hex", "BASE64": "base64"}
# Last letters of a product's code, and the type that they mean: SafeID/Time is ST, SafeID/Event is SE.
TYPES: dict[str, OtpType] = {"T": "totp", "E": "hotp"}


def is_deepnet_xml(head: bytes) -> bool:
    return is_xml(head) and b"<data" in head and b"<header" in head and b"manufacturerCode" in head


def read_deepnet_xml(file: OpenFile, now: datetime) -> tuple[list[str], Iterator[Row | RowError]]:
    """Read the header, which holds for all tokens, and return the columns that an export repeats and the rows. Raises
    UnusableFile."""
    parts = read_parts(file, {"header", "token"})
    next(parts)
    header = next(parts, None)
    if header is None or header.tag != "header":
        raise UnusableFile(file.path, "has no header before its tokens", "Export it again from DualShield")
    if _read_text(header, "encrypt").upper() not in ("", "NONE"):
        cure = "Export it without encryption (encrypt NONE), or ask Deepnet for a PSKC file"
        raise UnusableFile(file.path, "is encrypted in Deepnet's own way, which is not read", cure)

    def read(element: Element) -> Token:
        if element.tag == "header":
            cure = "Make a file of each header and its tokens"
            raise UnusableFile(file.path, "has a second header, which would hold for other tokens", cure)
        return Token(
            serial=_read_text(element, "serial"),
            secret=_read_text(element, "seed"),
            encoding=ENCODINGS.get(_read_text(header, "encode").upper()) or file.hints.encoding,
            otp_type=TYPES.get(_read_text(header, "productCode").upper()[-1:]),
            digits=_read_text(header, "digits"),
            time_step=_read_text(header, "timeWindow"),
            hash_algorithm=_read_text(header, "crypto"),
        )

    return ["serial", "otp_type"], make_rows(enumerate(parts, 1), read, file.hints, counted="token")


def _read_text(element: Element, name: str) -> str:
    """Read the text of an element's child, without blanks around it; empty if it is missing."""
    return (element.findtext(name) or "").strip()
