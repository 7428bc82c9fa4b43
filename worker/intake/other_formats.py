"""The vendors' formats that are neither CSV nor PSKC: SafeNet's and Deepnet's XML, Microsoft Graph's JSON, and the
blocks of an eToken .dat; and how XML is read. In XML and JSON, a row's number is the token's place in the file, counted
from 1."""

import json
import re
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from functools import partial
from typing import Any
from xml.etree.ElementTree import Element, ParseError
from xml.parsers.expat import errors

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from worker.intake.files import (
    BYTE_ORDER_MARK,
    XML_AS_UTF_8,
    Encoding,
    Hints,
    OpenFile,
    OpenRow,
    read_first_lines,
    read_lines,
)
from worker.intake.rows import Row, RowError, RowRefused, UnusableFile, find_reason
from worker.intake.tokens import Token, find_said, guess_hash, make_rows, refuse_hotp, split_algorithm
from worker.vault.otps import OtpType

# XML: a document is read element by element, and earlier elements are forgotten. A DTD or an entity is refused
# (defusedxml), so nothing is looked up and nothing expands.

# Maximum bytes between the ends of two parts, which limits the memory. A token with its certificates takes a few
# kilobytes.
MAX_PART = 2**20
# Maximum nesting of elements; a token's are ten deep.
MAX_DEPTH = 64
CURE = "Ask for the file again, and use it as the vendor sent it"
# Problem and cure, by expat's code, for errors that people make when they copy or save a document.
SAVED_WRONG = {
    errors.codes[errors.XML_ERROR_MISPLACED_XML_PI]: (
        "has something before its XML declaration, such as a blank line",
        "Remove what is before <?xml",
    ),
    errors.codes[errors.XML_ERROR_INCORRECT_ENCODING]: (
        "does not have the encoding that its first line names",
        XML_AS_UTF_8,
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
    file: OpenFile,
    names: Collection[str],
    rename: Callable[[str], str] = cut_namespace,
    left_out: Callable[[str], None] = lambda name: None,
) -> Iterator[Element]:
    """Yield the root as soon as it begins, so without its content; then every outermost element that has one of these
    names. `rename` turns `{namespace}name` into an element's name. `left_out` receives the names of the root's other
    children. Raises UnusableFile if the document is not well-formed XML, which may not be known until its end."""
    source = PartSource(file)
    try:
        yield from _read_parts(source, file, names, rename, left_out)
    except ParseError as error:
        line, _ = error.position
        problem = SAVED_WRONG.get(error.code, ("is not well-formed XML, or was cut off", CURE))
        raise UnusableFile(file.path, *problem, row_number=line) from None
    except DefusedXmlException:
        raise UnusableFile(file.path, "has a document type (DTD) or entities, which are not supported", CURE) from None
    except (ValueError, LookupError):
        raise UnusableFile(file.path, "is XML in an unsupported encoding", "Save it as UTF-8") from None


def _read_parts(
    source: PartSource,
    file: OpenFile,
    names: Collection[str],
    rename: Callable[[str], str],
    left_out: Callable[[str], None],
) -> Iterator[Element]:
    """Yield what `read_parts` yields. Raises whatever the parser raises."""
    # The open elements, and how many of them are outside the part that is being read.
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
        if len(path) == 1 and not outside:
            left_out(rename(element.tag))
        if outside == len(path) > 0:
            outside = 0
            source.since_part = 0
            for each in element.iter():
                each.tag = rename(each.tag)
            yield element
        if path and not outside:
            path[-1].remove(element)


def read_text(element: Element, name: str, serial: str = "") -> str:
    """Read the text of an element's child, without surrounding blanks; empty if it is missing. Raises RowRefused, with
    this serial number, if the child is repeated or contains more than text: otherwise half of a seed would pass for a
    whole one."""
    found = element.findall(name)
    if len(found) > 1 or any(map(len, found)):
        raise RowRefused(f"there is more than one value in {name}: ask the vendor for the file again", serial)
    return (found[0].text or "").strip() if found else ""


# SafeNet


def is_safenet_xml(head: bytes) -> bool:
    return is_xml(head) and (b"<Tokens>" in head or b"<Tokens " in head)


def read_safenet_xml(file: OpenFile, now: datetime) -> tuple[list[str], Iterator[Row | RowError]]:
    """Return the columns that an export repeats, and the rows, one for each `Token` in `Tokens`."""
    parts = (part for part in read_parts(file, {"Token"}) if part.tag == "Token")
    rows = make_rows(enumerate(parts, 1), partial(_read_safenet_token, file.hints), file.hints, counted="token")
    return ["serial", "otp_type", "model"], rows


def _read_safenet_token(hints: Hints, element: Element) -> Token:
    """Read the token in its element. Raises RowRefused."""
    serial = element.get("serial", "").strip()
    applications = [each for each in element.iter("Application") if read_text(each, "Seed", serial)]
    if len(applications) > 1:
        raise RowRefused("the token has several seeds: leave out applications that are not for OATH", serial)
    application = applications[0] if applications else element
    secret = read_text(application, "Seed") if applications else ""
    model = (element.findtext("ProductName") or "").strip()
    return Token(
        serial=serial,
        secret=secret,
        encoding=hints.encoding or "hex",
        otp_type="hotp",
        counter=read_text(application, "MovingFactor", serial) if applications else "",
        usual_hash=guess_hash(secret),
        extra={"model": model} if model else {},
    )


# Deepnet

DEEPNET_ENCODINGS: dict[str, Encoding] = {"HEX": "hex", "BASE64": "base64"}
# The last letter of a product's code, and the type that it means: SafeID/Time is ST, SafeID/Event is SE.
DEEPNET_TYPES: dict[str, OtpType] = {"T": "totp", "E": "hotp"}


def is_deepnet_xml(head: bytes) -> bool:
    return is_xml(head) and b"<data" in head and b"<header" in head and b"manufacturerCode" in head


def read_deepnet_xml(file: OpenFile, now: datetime) -> tuple[list[str], Iterator[Row | RowError]]:
    """Read the header, which applies to all tokens, and return the columns that an export repeats and the rows. Raises
    UnusableFile."""
    parts = read_parts(file, {"header", "token"})
    next(parts)
    header = next(parts, None)
    if header is None or header.tag != "header":
        raise UnusableFile(file.path, "has no header before its tokens", "Export it again from DualShield")
    common = _read_deepnet_header(file, header)

    def read(element: Element) -> Token:
        if element.tag == "header":
            raise UnusableFile(
                file.path,
                "has a second header, for other tokens",
                "Make a separate file for each header and its tokens",
            )
        serial = read_text(element, "serial")
        return Token(
            serial=serial,
            secret=read_text(element, "seed", serial),
            encoding=DEEPNET_ENCODINGS.get(common["encode"].upper()) or file.hints.encoding,
            otp_type=DEEPNET_TYPES.get(common["productCode"].upper()[-1:]),
            digits=common["digits"],
            time_step=common["timeWindow"],
            hash_algorithm=common["crypto"],
        )

    return ["serial", "otp_type"], make_rows(enumerate(parts, 1), read, file.hints, counted="token")


def _read_deepnet_header(file: OpenFile, header: Element) -> dict[str, str]:
    """Read the values that apply to all tokens. Raises UnusableFile."""
    names = ("encrypt", "encode", "productCode", "digits", "timeWindow", "crypto")
    try:
        common = {name: read_text(header, name) for name in names}
    except RowRefused:
        raise UnusableFile(
            file.path, "has a header in which a value is repeated or contains other elements", CURE
        ) from None
    if common["encrypt"].upper() not in ("", "NONE"):
        raise UnusableFile(
            file.path,
            "has Deepnet's own encryption, which is not supported",
            "Export it without encryption (encrypt NONE), or ask Deepnet for a PSKC file",
        )
    return common


# Graph JSON: the hardware tokens of Microsoft Graph, and uniQuk's similar inventory: a list, an object with the list as
# `value` (Graph) or `inventory` (uniQuk), or a single token.
# https://learn.microsoft.com/en-us/graph/api/resources/hardwareoathtokenauthenticationmethoddevice

# Maximum bytes of a file. It is read as a whole; 50,000 tokens take about 15 MiB.
MAX_JSON = 64 * 2**20
# uniQuk's names for the encodings. With `text`, the secret is the bytes of the characters themselves.
GRAPH_ENCODINGS: dict[str, Encoding] = {"hex": "hex", "base32": "base32", "base64": "base64"}
# Values that a row keeps.
GRAPH_KEPT = ("manufacturer", "model")
# The names that exports use for the number of digits, the hash, and the type, including Graph's own.
GRAPH_DIGITS = ("digits", "otpLength")
GRAPH_HASHES = ("hashFunction", "hashAlgorithm", "hash")
GRAPH_TYPES = ("otpType", "tokenType", "type")
EXPORT_AGAIN = "Export it again, and use the file as it came"


def is_graph_json(head: bytes) -> bool:
    """Recognize JSON by the names that every token has."""
    is_json = head.removeprefix(BYTE_ORDER_MARK).lstrip().startswith((b"{", b"["))
    return is_json and all(re.search(rb'"%b"\s*:' % name, head) for name in (b"serialNumber", b"secretKey"))


def read_graph_json(file: OpenFile, now: datetime) -> tuple[list[str], Iterator[Row | RowError]]:
    """Read the entries of the file, and return the columns that an export repeats and the rows. Raises UnusableFile."""
    content = file.read(MAX_JSON + 1)
    if len(content) > MAX_JSON:
        raise UnusableFile(
            file.path,
            f"is larger than {MAX_JSON // 2**20} MiB, and JSON is read as a whole",
            "Split it into several files",
        )
    try:
        document = json.loads(content.removeprefix(BYTE_ORDER_MARK).decode("utf-8"), object_pairs_hook=_make_object)
    except _NameTwice:
        raise UnusableFile(file.path, "has an object with two values of the same name", EXPORT_AGAIN) from None
    except json.JSONDecodeError as error:
        raise UnusableFile(file.path, "is not JSON, or was cut off", EXPORT_AGAIN, row_number=error.lineno) from None
    except (ValueError, RecursionError):
        raise UnusableFile(file.path, "is not JSON in UTF-8, or is nested too deeply", EXPORT_AGAIN) from None
    if isinstance(document, dict):
        if document.get("@odata.nextLink"):
            raise UnusableFile(
                file.path,
                "is one page of several, as its @odata.nextLink says",
                "Fetch the next pages too, and remove that name from each",
            )
        lists = [each for each in document.values() if isinstance(each, list) and any(map(_is_token, each))]
        if len(lists) + _is_token(document) > 1:
            raise UnusableFile(file.path, "holds more than one list of tokens", "Put each list into a file of its own")
        document = document.get("value", document.get("inventory", [document]))
    if not isinstance(document, list):
        raise UnusableFile(file.path, "holds no list of tokens", EXPORT_AGAIN)
    rows = make_rows(enumerate(document, 1), partial(_read_entry, file.hints), file.hints, counted="token")
    return ["serial", "otp_type", *GRAPH_KEPT], rows


class _NameTwice(Exception):
    """An object of a document has two values of the same name."""


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make the object from these names and values. Raises _NameTwice."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _NameTwice
    return made


def _is_token(entry: Any) -> bool:
    return isinstance(entry, dict) and {"serialNumber", "secretKey"} <= entry.keys()


def _read_entry(hints: Hints, entry: Any) -> Token:
    """Read the token in an entry of the list. Raises RowRefused."""
    if not _is_token(entry):
        raise RowRefused("the entry is not an object with a serialNumber and a secretKey: leave it out")
    serial = _read_value(entry, "serialNumber")
    user = entry.get("assignTo")
    secret, said = _read_value(entry, "secretKey", serial), _read_value(entry, "secretFormat", serial).lower()
    if said not in ("", "text", *GRAPH_ENCODINGS):
        raise RowRefused("secretFormat is not hex, base32, base64, or text: write one of them", serial)

    def read(*names: str) -> list[str]:
        return [_read_value(entry, name, serial) for name in names]

    named_type, named_hash = split_algorithm(_read_value(entry, "algorithm", serial))
    refuse_hotp([named_type, *read(*GRAPH_TYPES)], _read_value(entry, "counter", serial), serial)
    return Token(
        serial=serial,
        secret=secret.encode() if said == "text" else secret,
        encoding=GRAPH_ENCODINGS.get(said) or hints.encoding or "base32",
        otp_type="totp",
        digits=find_said("the number of digits", read(*GRAPH_DIGITS), serial),
        time_step=_read_value(entry, "timeIntervalInSeconds", serial),
        hash_algorithm=find_said("the hash", [*read(*GRAPH_HASHES), named_hash], serial),
        # This is Entra's id: PingOne may know the person by it, but only as an external id.
        external_id=_read_value(user, "id", serial) if isinstance(user, dict) else None,
        extra={name: value for name in GRAPH_KEPT if (value := _read_value(entry, name, serial))},
    )


def _read_value(entry: dict[str, Any], name: str, serial: str = "") -> str:
    """Read a text or a whole number as text; empty if it is missing. Raises RowRefused."""
    value = entry.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowRefused(f"{name} is neither text nor a whole number: write it as Microsoft Graph does", serial)
    # JSON can write such a character as an escape, but neither UTF-8 nor a database accepts it.
    if re.search(r"[\0\ud800-\udfff]", text := str(value)):
        raise RowRefused(f"{name} has an incomplete character or a NUL: leave it out, or export it again", serial)
    return text


# eToken .dat: SafeWord's and SafeNet's list of tokens, with a block of `key: value` lines for each token. A blank line,
# or the next `dn:`, ends a block; the block's number is that of its first line.

# Maximum lines of a block; a real one has six.
MAX_BLOCK = 100
# The contents of a block, by lower-case keys: the serial number, and parameters separated by semicolons.
BLOCK_SERIAL = "sccauthenticatorid"
BLOCK_DATA = "scctokendata"


def is_etoken_dat(head: bytes) -> bool:
    """Recognize the start of a line in a block."""
    lines = (line.lower().replace(" ", "") for line in read_first_lines(head))
    return any(line.startswith((BLOCK_SERIAL, BLOCK_DATA, f"dn:{BLOCK_SERIAL}")) for line in lines)


def read_etoken_dat(file: OpenFile, now: datetime) -> tuple[list[str], Iterator[Row | RowError]]:
    """Return the columns that an export repeats, and the rows."""
    return ["serial", "otp_type"], make_rows(_read_blocks(file), partial(_read_block, file.hints), file.hints)


def _read_blocks(file: OpenFile) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line's number and the lines of every block, without comments. Raises UnusableFile."""
    block: list[str] = []
    first = 0
    line = ""
    for number, line in enumerate(read_lines(file), 1):
        text = line.strip()
        if text.startswith("#"):
            continue
        if block and (not text or text.lower().startswith("dn:")):
            yield first, block
            block = []
        if text:
            first = first if block else number
            block.append(text)
        if len(block) > MAX_BLOCK:
            raise UnusableFile(
                file.path,
                f"a block has more than {MAX_BLOCK} lines",
                "Check whether it is the right file: a blank line ends each token's block",
                row_number=first,
            )
    if block:
        yield first, block if line.endswith(("\n", "\r")) else OpenRow(block)


def _read_block(hints: Hints, block: list[str]) -> Token:
    """Read the token in a block of lines. Raises RowRefused."""
    pairs = [line.partition(":") for line in block]
    keys = [key.strip().lower() for key, _, _ in pairs]
    if keys.count(BLOCK_SERIAL) > 1 or keys.count(BLOCK_DATA) > 1:
        raise RowRefused("the block holds more than one token: put a blank line between them")
    values = {key: value.strip() for key, (_, _, value) in zip(keys, pairs, strict=True)}
    serial = values.get(BLOCK_SERIAL, "")
    if not all(colon for _, colon, _ in pairs) or BLOCK_DATA not in values:
        cure = "check whether it was cut off, and ask the vendor for the file again"
        raise RowRefused(
            f"a line of the block is not in the form `key: value`, or the block's sccTokenData line is missing: {cure}",
            serial,
        )
    parts = [part.partition("=") for part in values[BLOCK_DATA].split(";") if part.strip()]
    said = {name.strip().lower(): value.strip() for name, _, value in parts}
    if len(said) < len(parts):
        raise RowRefused("a parameter appears twice in sccTokenData: ask the vendor for the file again", serial)
    mode = said.get("sccmode", "").upper()
    unfit = {
        "the block does not say how many digits an OTP has (sccPwLen): check whether the block was cut off, and "
        "ask the vendor for the file again, or add --digits": not said.get("sccpwlen") and hints.digits is None,
        "the token is time-based and counts its time from 2000-01-01, but PingOne always counts from 1970-01-01: "
        "every OTP would be wrong, so leave the token out": mode == "T",
        "sccMode is neither E (event) nor T (time): PingOne takes no other tokens, so leave it out": mode != "E",
    }
    if reason := find_reason(unfit):
        raise RowRefused(reason, serial)
    return Token(
        serial=serial,
        secret=said.get("scckey", ""),
        encoding=hints.encoding or "hex",
        otp_type="hotp",
        digits=said.get("sccpwlen"),
        hash_algorithm=said.get("crypto"),
    )
