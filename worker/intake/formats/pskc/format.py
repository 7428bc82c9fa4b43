"""The format "PSKC": reads a document from its bytes to its rows, package by package."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from worker.intake.foreign_files import BYTE_ORDER_MARK
from worker.intake.formats.format import OpenFile
from worker.intake.formats.pskc.encryption import ASK_AGAIN, ROOTS, read_container
from worker.intake.formats.pskc.keys import KEPT, make_token
from worker.intake.formats.pskc.packages import find_keys, has_encrypted
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.tokens import make_rows
from worker.intake.rows import Row, RowError, UnusableFile


class Pskc:
    """PSKC of the RFC and of drafts before it. A row's number is the place of the key in the document, counted from
    1."""

    name = "pskc"
    title = "PSKC (RFC 6030): XML with <KeyContainer>, plain or encrypted with a pre-shared key or a password"

    def is_format_of(self, head: bytes) -> bool:
        is_xml = head.removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"<")
        return is_xml and any(root.lower().encode() in head.lower() for root in ROOTS)

    def read_columns(self, file: OpenFile) -> list[str]:
        container, packages = read_container(file)
        is_proven = is_failing = False
        package = None
        for package in packages:
            # Once a key has opened a value, it is the right one; the rest is read for its XML alone.
            if is_proven or not has_encrypted(container, package):
                continue
            for found in find_keys(container, package):
                try:
                    found.check_mac()
                except RowRefused:
                    is_failing = is_failing or (found.is_encrypted and not found.fault)
                else:
                    is_proven = is_proven or found.is_encrypted
        if package is None:
            raise UnusableFile(file.path, "holds no keys", ASK_AGAIN)
        if is_failing and not is_proven:
            raise container.make_wrong_key()
        return ["serial", "otp_type", *KEPT]

    def read_rows(self, file: OpenFile, now: datetime) -> Iterator[Row | RowError]:
        container, packages = read_container(file)
        keys = (found for package in packages for found in find_keys(container, package))
        return make_rows(enumerate(keys, 1), lambda found: make_token(found, now), file.hints, counted="key")
