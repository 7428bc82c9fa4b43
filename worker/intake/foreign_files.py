"""Files that are something else than a CSV: recognised by their first bytes, and refused by the name of what they
are."""

from __future__ import annotations

from pathlib import Path

from worker.intake.rows import UnusableFile

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# The cures.
SAVE_AS = "Save it as UTF-8; in Excel: File > Save As > 'CSV UTF-8 (Comma delimited)'"
UNPACK = "Unpack or decrypt it and give the CSV inside"
EXPORT_CSV = "Export a CSV with a header line such as: serial,otp1,otp2,user_id,device_id"

# Problem and cure of each kind of file that is refused.
WORKBOOK = ("is a spreadsheet, not a CSV", SAVE_AS)
UTF_16 = ("is UTF-16, which Excel calls 'Unicode Text'", SAVE_AS)
PSKC = ("is PSKC, a vendor's seed file (XML), not OTP pairs", EXPORT_CSV)
XML = ("is XML or HTML, not a CSV", EXPORT_CSV)
UNKNOWN = ("is of a kind that is not known here", EXPORT_CSV)
ZIP = ("is a zip archive, not a CSV", UNPACK)

# The bytes that a file of a kind begins with. XML and zip are looked at more closely.
SIGNATURES = {
    b"\xff\xfe": UTF_16,
    b"\xfe\xff": UTF_16,
    b"\xd0\xcf\x11\xe0": WORKBOOK,
    b"PK\x03\x04": ZIP,
    b"PK\x05\x06": ZIP,
    b"\x1f\x8b": ("is a gzip archive, not a CSV", UNPACK),
    b"-----BEGIN PGP": ("is encrypted or signed with PGP", UNPACK),
    b"%PDF": ("is a PDF, not a CSV", EXPORT_CSV),
    b"{": ("is JSON, not a CSV", EXPORT_CSV),
    b"[": ("is JSON, not a CSV", EXPORT_CSV),
    b"<": XML,
}


def find_foreign(head: bytes) -> tuple[str, str] | None:
    """Find problem and cure of a file that begins with these bytes, some kilobytes; None if it may be a CSV."""
    start = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    found = next((kind for signature, kind in SIGNATURES.items() if start.startswith(signature)), None)
    if found is ZIP and (b"xl/" in head or b"[Content_Types].xml" in head or b"opendocument" in head):
        found = WORKBOOK
    if found is XML and (b"keyprov" in head or b"KeyContainer" in head):
        found = PSKC
    if found is None and _is_every_other_byte_nul(head):
        found = UTF_16
    return found


def make_refusal(path: Path, head: bytes) -> UnusableFile:
    """Make the error for a file that none of our formats reads."""
    return UnusableFile(path, *(find_foreign(head) or UNKNOWN))


def _is_every_other_byte_nul(head: bytes) -> bool:
    """Whether this is UTF-16 without a byte order mark: in Western text, every first or every second byte is NUL."""
    return any(half.count(0) * 2 > len(half) for half in (head[::2], head[1::2]))
