"""The cells of OTP pairs: the fields of one row in, a Row or a RowError out."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from operator import itemgetter

from models.row_fault import RowFault
from worker.intake.formats.otp_pairs import reasons
from worker.intake.formats.otp_pairs.header import Header
from worker.intake.formats.secrets import looks_like_secret
from worker.intake.formats.serials import SERIAL, explain_serial
from worker.intake.identities import UUID, explain_id
from worker.intake.results import FILE_ROW
from worker.intake.rows import PLAIN, Row, RowError
from worker.vault.otp import Otp, OtpPair
from worker.vault.seed import OtpType

# Six digits, or eight.
OTP = re.compile(r"[0-9]{6}(?:[0-9]{2})?")
# A number of a row.
FILE_ROW_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
# What a cell of `otp_type` may hold, in lower case; an empty one means hotp.
OTP_TYPES: dict[str, OtpType] = {"": "hotp", "hotp": "hotp", "totp": "totp"}

# A time in the future counts as wrong only if it is further ahead than this: the clocks of two machines may differ.
CLOCK_TOLERANCE = timedelta(minutes=5)

# Columns whose cells are checked, in the order in which `_check` takes them apart.
CHECKED = ("serial", "otp1", "otp2", "user_id", "device_id", "otp_type", "generated_at", FILE_ROW)


class _CellError(Exception):
    """A cell is refused, and with it the row; the message is the reason of the RowError that is made of this, `fault`
    its kind."""

    def __init__(self, reason: str, fault: RowFault = RowFault.OTPS_UNFIT) -> None:
        super().__init__(reason)
        self.fault = fault


class PairReader:
    """Reads the rows under one header. `now` has a zone; the `generated_at` of a row may be no later, but for
    CLOCK_TOLERANCE. `may_lack_otps`: a row may have none, since it mends a batch, whose record may have them."""

    def __init__(self, header: Header, now: datetime, *, may_lack_otps: bool = False) -> None:
        self._header = header
        self._may_lack_otps = may_lack_otps
        self._width = len(header.names)
        self._latest = now + CLOCK_TOLERANCE
        # A column that the file does not have is read from the blank that is put behind every row.
        self._pick = itemgetter(*(header.places.get(name, self._width) for name in CHECKED))
        self._plain = [(column.attribute, header.places.get(column.name, self._width)) for column in PLAIN]

    def read(self, row_number: int, fields: list[str]) -> Row | RowError:
        """Make a Row of these fields, or the RowError that says why not; nothing is raised. Blanks around the value of
        a column of ours are dropped."""
        if not self._header.is_fitting(fields):
            # If a field is missing or too many, only the first one is certain to be in its column.
            serial = "" if self._header.places["serial"] else fields[0].strip()
            reason = reasons.explain_fields(len(fields), self._width)
            serial_number = _find_nameable_serial(serial, otp1="")
            return RowError(row_number, reason, serial_number, RowFault.ROW_UNREADABLE)
        whole = [*fields[: self._width], ""]
        cells = [*map(str.strip, self._pick(whole))]
        try:
            return self._check(row_number, whole, cells)
        except _CellError as error:
            return RowError(row_number, str(error), _find_nameable_serial(cells[0], cells[1]), error.fault)

    def _check(self, row_number: int, fields: list[str], cells: list[str]) -> Row:
        """Check the cells of CHECKED, in this order, and make the Row. Raises _CellError."""
        serial, otp1, otp2, user_id, device_id, otp_type, generated_at, file_row = cells
        if not SERIAL.fullmatch(serial):
            raise _CellError(explain_serial(serial), RowFault.SERIAL_UNFIT)
        kind = OTP_TYPES.get(otp_type.lower())
        if kind is None:
            raise _CellError(reasons.TYPE_UNKNOWN)
        if file_row and not FILE_ROW_NUMBER.fullmatch(file_row):
            raise _CellError(reasons.FILE_ROW_UNREADABLE, RowFault.FILE_ROW_UNFIT)
        otps = _check_otps(otp1, otp2, kind) if otp1 or otp2 or not self._may_lack_otps else None
        for column, value in (("user_id", user_id), ("device_id", device_id)):
            if value and not UUID.fullmatch(value):
                raise _CellError(explain_id(column), RowFault.PERSON_UNFIT)
        return Row(
            row_number=row_number,
            serial_number=serial,
            user_id=user_id.lower() or None,
            device_id=device_id.lower() or None,
            otps=otps,
            file_row=int(file_row) if file_row else None,
            otp_type=kind,
            generated_at=self._check_time(generated_at, is_needed=kind == "totp" and otps is not None),
            **{attribute: fields[place].strip() or None for attribute, place in self._plain},
            extra={name: fields[place] for name, place in self._header.extra},
        )

    def _check_time(self, text: str, *, is_needed: bool) -> datetime | None:
        """Read the cell `generated_at`, which a TOTP pair must have; in UTC. Raises _CellError."""
        if not text:
            if is_needed:
                raise _CellError(reasons.TOTP_WITHOUT_TIME)
            return None
        try:
            time = datetime.fromisoformat(text)
            # astimezone would take a time without a zone for this machine's local time.
            if time.tzinfo is None:
                raise _CellError(reasons.TIME_WITHOUT_ZONE)
            time = time.astimezone(UTC)
        except (ValueError, OverflowError):
            raise _CellError(reasons.TIME_UNREADABLE) from None
        if time > self._latest:
            raise _CellError(reasons.TIME_IN_FUTURE)
        return time


def _check_otps(otp1: str, otp2: str, kind: str) -> OtpPair:
    """Check the two OTPs, the second of which may be missing; they must have the same length. Raises _CellError.

    Equal HOTP values pass: every press of the button moves the counter, and one pair in a million is equal by chance,
    so that a large shipment would lose a good token. Equal TOTP values are refused: most likely the display was read
    twice in one time step. The second OTP is not the next one then, and to send it would be a step towards a lock.
    """
    if not OTP.fullmatch(otp1):
        raise _CellError(reasons.explain_otp("otp1", otp1))
    if not otp2:
        return OtpPair(Otp(otp1), None)
    if not OTP.fullmatch(otp2):
        raise _CellError(reasons.explain_otp("otp2", otp2))
    if len(otp2) != len(otp1):
        raise _CellError(reasons.OTHER_LENGTH)
    if otp1 == otp2 and kind == "totp":
        raise _CellError(reasons.SAME_OTPS)
    return OtpPair(Otp(otp1), Otp(otp2))


def _find_nameable_serial(serial: str, otp1: str) -> str | None:
    """Find the serial number that an error may name; None if it is malformed, or may be an OTP or a seed because the
    columns are interchanged."""
    is_interchanged = not OTP.fullmatch(otp1) and (OTP.fullmatch(serial) or looks_like_secret(serial))
    return serial if SERIAL.fullmatch(serial) and not is_interchanged else None
