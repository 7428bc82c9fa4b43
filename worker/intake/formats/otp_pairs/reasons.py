"""The sentences that say why a row is refused, and what to do. None quotes a cell, since any may hold an OTP."""

from __future__ import annotations

from worker.intake.formats.serials import AS_TEXT, EXCEL_QUOTED, explain_quoted
from worker.intake.results import FILE_ROW

QUOTATION_MARKS = (
    "a quotation mark is never closed, or stands inside a quoted value: remove it, or double it there; "
    "line breaks may stand in columns of your own only"
)
SAME_OTPS = (
    "otp1 and otp2 are the same: a TOTP token was read twice within one time step; "
    "produce the pair again and wait for the display to change"
)
OTHER_LENGTH = (
    "otp2 has another number of digits than otp1: Excel dropped leading zeros, or two tokens are mixed up; "
    "format both columns as Text and export again"
)
TYPE_UNKNOWN = "otp_type is neither hotp nor totp: write one of the two, or leave it empty for hotp"
TOTP_WITHOUT_TIME = (
    "generated_at is missing: a TOTP pair ages within minutes, so say when it was produced, "
    "such as 2026-03-01T09:30:00Z, in a column generated_at"
)
TIME_UNREADABLE = (
    "generated_at is not an ISO 8601 time: write it like 2026-03-01T09:30:00Z, in a column formatted as Text"
)
TIME_WITHOUT_ZONE = "generated_at has no time zone: add Z for UTC, or the offset, such as 2026-03-01T09:30:00+01:00"
TIME_IN_FUTURE = (
    "generated_at lies in the future: check its time zone, this machine's clock, "
    "and the clock of the machine that produced the pair"
)

FILE_ROW_UNREADABLE = (
    f"{FILE_ROW} is not as the export wrote it, a whole number: copy it from the export; or empty it, and the row is "
    "found by its serial number"
)


def explain_fields(fields: int, columns: int) -> str:
    """Explain why a row is refused that has another number of fields than the header has columns."""
    if fields < columns:
        cure = "give an empty value its separator too, and see whether the line was cut off"
    else:
        cure = "put a value that holds the separator in quotation marks"
    return f"the row has {fields} field{'s' * (fields != 1)} and the header {columns} columns: {cure}"


def explain_otp(column: str, otp: str) -> str:
    """Explain what is wrong with an OTP that is not 6 or 8 digits."""
    if not otp:
        return f"{column} is missing: produce an OTP with the token and write it there"
    if EXCEL_QUOTED.match(otp):
        return explain_quoted(column)
    if not (otp.isascii() and otp.isdigit()):
        cure = f"write the 6 or 8 digits alone, in the right column; {AS_TEXT}"
        return f"{column} has other characters than digits: {cure}"
    if len(otp) > 8:
        return f"{column} has more than 8 digits: an OTP has 6 or 8; see whether it is in the right column"
    return (
        f"{column} has {len(otp)} digits, but an OTP 6 or 8: Excel drops leading zeros; {AS_TEXT}. "
        "Zeros are not put back by guessing, since a wrong OTP counts towards a lock"
    )
