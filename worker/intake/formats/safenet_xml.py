"""The format "SafeNet XML": the tokens of Aladdin and SafeNet, as SafeNet Authentication Manager exports them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from xml.etree.ElementTree import Element

from worker.intake.foreign_files import BYTE_ORDER_MARK
from worker.intake.formats.bare_csv import check_not_empty
from worker.intake.formats.format import Hints, OpenFile
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.tokens import Token, make_rows
from worker.intake.formats.xml_stream import read_parts
from worker.intake.rows import Row, RowError

# Hexadecimal digits of a secret of which LinOTP concludes that the hash is SHA-256.
SHA256_DIGITS = 64
# The element of a model, and what a row keeps it as.
MODEL = {"ProductName": "model"}

SEVERAL_SEEDS = "the token has several seeds: leave the applications out that are not for OATH"


class SafeNetXml:
    """SafeNet's XML of HOTP tokens: `Tokens` with a `Token` for each. A row's number is the place of the token."""

    name = "safenet-xml"
    title = "SafeNet / Aladdin XML: <Tokens> with <Token serial>, <Seed> and <MovingFactor>; HOTP"

    def is_format_of(self, head: bytes) -> bool:
        is_xml = head.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"<")
        return is_xml and (b"<Tokens>" in head or b"<Tokens " in head)

    def read_columns(self, file: OpenFile) -> list[str]:
        check_not_empty(file, _read_tokens(file))
        return ["serial", "otp_type", *MODEL.values()]

    def read_rows(self, file: OpenFile, now: datetime) -> Iterator[Row | RowError]:
        return make_rows(_read_tokens(file), partial(_read_token, file.hints), file.hints, counted="token")


def _read_tokens(file: OpenFile) -> Iterator[tuple[int, Element]]:
    """Yield the elements of the tokens, numbered from 1. Raises UnusableFile."""
    return enumerate((part for part in read_parts(file, {"Token"}) if part.tag == "Token"), 1)


def _read_token(hints: Hints, element: Element) -> Token:
    """Read the token in its element. Raises RowRefused."""
    serial = element.get("serial", "").strip()
    applications = [each for each in element.iter("Application") if each.findtext("Seed", "").strip()]
    if len(applications) > 1:
        raise RowRefused(SEVERAL_SEEDS, serial)
    secret, counter = (
        (applications[0].findtext(name, "").strip() for name in ("Seed", "MovingFactor")) if applications else ("", "")
    )
    return Token(
        serial=serial,
        secret=secret,
        encoding=hints.encoding or "hex",
        otp_type="hotp",
        counter=counter,
        usual_hash="sha256" if len(secret) == SHA256_DIGITS else "sha1",
        extra={kept: text.strip() for name, kept in MODEL.items() if (text := element.findtext(name))},
    )
