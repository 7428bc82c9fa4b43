"""Why a row is refused, in one word for each kind of fault, with what a person can do about it. A RowError's sentence
is more exact; the word is for counting."""

from enum import StrEnum


class RowFault(StrEnum):
    """What is wrong with a refused row."""

    # Its fields cannot be separated.
    ROW_UNREADABLE = "row_unreadable"
    # The serial number is missing, or PingOne would not accept it.
    SERIAL_UNFIT = "serial_unfit"
    # The OTPs, their type, or their time are missing or invalid.
    OTPS_UNFIT = "otps_unfit"
    # The secret in a seed file, or what the file says about the token, cannot be used.
    SEED_UNFIT = "seed_unfit"
    # It names no person or device, two different ones, or an invalid id.
    PERSON_UNFIT = "person_unfit"
    # Its `not_before` cell is not a date, or is ambiguous.
    DATE_UNFIT = "date_unfit"
    # Its `file_row` cell is not as the export wrote it.
    FILE_ROW_UNFIT = "file_row_unfit"
    # Its token or device is on another row of the same file: all these rows have this fault if they differ.
    REPEATED = "repeated"
    # Another batch works on its token or device.
    IN_PROGRESS = "in_progress"
    # Another batch has made its token active, with this person or on this device.
    ACTIVE_ELSEWHERE = "active_elsewhere"
    # Its OTPs were sent before, or it has none, and those of its record cannot be sent again.
    OTPS_USED = "otps_used"


# What a person can do about each.
FAULT_CURES = {
    RowFault.ROW_UNREADABLE: "The row's fields cannot be separated. Quote values that contain the separator, check "
    "whether a line was cut off, and mend the row.",
    RowFault.SERIAL_UNFIT: "The serial number is missing, or PingOne does not accept it. Write it as printed on the "
    "token, in a column formatted as Text, and mend the row.",
    RowFault.OTPS_UNFIT: "An OTP, its type or its time is missing or cannot be read. Press the token for two fresh,"
    " consecutive OTPs, write them in columns formatted as Text, and mend the row.",
    RowFault.SEED_UNFIT: "What the file says about the token cannot be used. Add what it omits with an option, or "
    "ask the vendor for the file again, and load that.",
    RowFault.PERSON_UNFIT: "It is not clear whose token it is, or which device. Correct the ids, or the list of who"
    " gets what, and mend the row.",
    RowFault.DATE_UNFIT: "It is not clear when the token may start. Write not_before as 2026-12-01 or"
    " 2026-12-01T08:00+01:00, in a column formatted as Text, and mend the row.",
    RowFault.FILE_ROW_UNFIT: "The row differs from its export. Take it from the export again.",
    RowFault.REPEATED: "The token or device is on several rows of the file. If they differ, none of them was loaded: "
    "find out which is right, and mend with that one.",
    RowFault.IN_PROGRESS: "Another batch is working on the token or device. Wait until that is finished, or cancel"
    " it there, and mend the row.",
    RowFault.ACTIVE_ELSEWHERE: "Another batch has made the token active. Nothing is left to do: --only-new skips "
    "such rows.",
    RowFault.OTPS_USED: "The OTPs of the row cannot be sent again. Press the token for two fresh, consecutive OTPs, "
    "and mend the row.",
}
