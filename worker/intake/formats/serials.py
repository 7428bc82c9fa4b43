"""Serial numbers: what PingOne takes for one, and the sentences that say what is wrong with another."""

from __future__ import annotations

import re

# What a header calls the column of the serial numbers; where files were joined, it stands between the rows.
COLUMN_NAME = re.compile(r"\ufeff?serial[\s_-]*(?:number)?", re.IGNORECASE)
# What PingOne allows for a serial number, but for the name of the column.
SERIAL = re.compile(rf"(?!(?i:{COLUMN_NAME.pattern})\Z)[A-Za-z0-9]{{1,50}}")
# What Excel makes of a long number, such as 1.00013E+12.
EXCEL_NUMBER = re.compile(r"\d+(?:[.,]\d+)?E[+-]\d+", re.IGNORECASE)
# The beginning of a value that somebody wrote so that Excel leaves it alone.
EXCEL_QUOTED = re.compile(r"'|=?\"")
# Characters from which a seed cannot be told from a serial number: 10 bytes are 16 characters of Base32.
LENGTH_OF_SEED = 16

# The cures of a value that a spreadsheet spoilt: in a person's own CSV, and in a vendor's file of any kind.
AS_TEXT = "format the column as Text and export again"
AS_SENT = "use the file as the vendor sent it, not as a spreadsheet saved it"


def explain_serial(serial: str, cure: str = AS_TEXT) -> str:
    """Explain what is wrong with a serial number that is not 1 to 50 letters and digits. `cure`: of what a spreadsheet
    spoilt."""
    if not serial:
        return "serial is missing: write the serial number that is printed on the token"
    if COLUMN_NAME.fullmatch(serial):
        return "the row names columns, as a header does, and no token: delete it"
    if EXCEL_NUMBER.fullmatch(serial):
        return f"the serial was turned into a number (as in 1.00013E+12) and lost digits: {cure}"
    if EXCEL_QUOTED.match(serial):
        return explain_quoted("serial", cure)
    fault = "more than 50 characters" if len(serial) > 50 else "other characters than letters and digits"
    return f"serial has {fault}, which PingOne does not allow: write it as PingOne's token inventory has it"


def explain_quoted(column: str, cure: str = AS_TEXT) -> str:
    """Explain what is wrong with a value that has an apostrophe or `="…"` around it."""
    return (
        f'{column} is written as a quoted number, with an apostrophe or ="…" around it for a spreadsheet: '
        f"write the bare characters; {cure}"
    )


def find_nameable_serial(serial: str) -> str | None:
    """Find the serial number that an error may name; None if it is malformed, or so long that it may be a seed because
    the columns are interchanged."""
    return serial if SERIAL.fullmatch(serial) and len(serial) < LENGTH_OF_SEED else None
