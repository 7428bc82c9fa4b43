"""Files that no format reads: recognised by their first bytes, and refused by the name of what they are."""

from __future__ import annotations

from pathlib import Path

from worker.intake.rows import UnusableFile

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# The cures.
SAVE_AS = "Save it as UTF-8; in Excel: File > Save As > 'CSV UTF-8 (Comma delimited)'"
UNPACK = "Unpack or decrypt it and give the file inside"
EXPORT_CSV = "Export a CSV with a header line such as: serial,otp1,otp2,user_id,device_id"
GIVE_ANOTHER = f"Give the vendor's seed file as it was sent, or write OTP pairs: {EXPORT_CSV}"

# Problem and cure of each kind of file that is refused.
WORKBOOK = ("is a spreadsheet, not a CSV", SAVE_AS)
UTF_16 = ("is UTF-16, which Excel calls 'Unicode Text'", SAVE_AS)
XML = ("is XML or HTML, but none of the vendors' files of tokens that are known here", GIVE_ANOTHER)
JSON = ("is JSON, but none of the vendors' files of tokens that are known here", GIVE_ANOTHER)
UNKNOWN = ("is of a kind that is not known here", GIVE_ANOTHER)
ZIP = ("is a zip archive", UNPACK)

# The bytes that a file of a kind begins with. Zip is looked at more closely; XML and JSON are refused if no format
# takes them for its own.
SIGNATURES = {
    b"\xff\xfe": UTF_16,
    b"\xfe\xff": UTF_16,
    b"\xd0\xcf\x11\xe0": WORKBOOK,
    b"PK\x03\x04": ZIP,
    b"PK\x05\x06": ZIP,
    b"\x1f\x8b": ("is a gzip archive", UNPACK),
    b"-----BEGIN PGP": ("is encrypted or signed with PGP", UNPACK),
    b"%PDF": ("is a PDF", GIVE_ANOTHER),
    b"{": JSON,
    b"[": JSON,
    b"<": XML,
}


def find_foreign(head: bytes) -> tuple[str, str] | None:
    """Find problem and cure of a file that begins with these bytes, some kilobytes; None if it is text."""
    start = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    found = next((kind for signature, kind in SIGNATURES.items() if start.startswith(signature)), None)
    if found is ZIP and (b"xl/" in head or b"[Content_Types].xml" in head or b"opendocument" in head):
        found = WORKBOOK
    if found in (None, XML, JSON) and _is_every_other_byte_nul(head):
        found = UTF_16
    return found


def make_refusal(path: Path, head: bytes) -> UnusableFile:
    """Make the error for a file that none of our formats reads."""
    return UnusableFile(path, *(find_foreign(head) or UNKNOWN))


def _is_every_other_byte_nul(head: bytes) -> bool:
    """Whether this is UTF-16 without a byte order mark: in Western text, every first or every second byte is NUL."""
    return any(half.count(0) * 2 > len(half) for half in (head[::2], head[1::2]))
