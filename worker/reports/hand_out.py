"""The hand-out: a CSV for who gives tokens to people, with what each has to do before the first sign-on.

OTPs that were made from a seed went out on behalf of a HOTP token, which knows nothing of it: PingOne's counter is
ahead of the one in the token by as many, and a server looks only forward (RFC 4226 section 7.2). So the token has to be
pressed beyond them first. docs/first-morning.md tells it to a help desk."""

from __future__ import annotations

import csv
from typing import Any, TextIO

from sqlalchemy import func, select

from models.batch import Batch
from models.record import Record
from models.record_states import OtpType, Status
from worker.batches.finding import find_batch
from worker.database.engine import Database
from worker.intake import RESULT_COLUMNS, canonical_column, normalise
from worker.observability.progress import OnProgress, tell_nobody, telling
from worker.reports.export import WRITING, FoundRecord, format_cell

# Columns of each hand-out before the file's own ones, and the columns of a record that they show.
PERSON_COLUMNS = {
    "serial": "serial_number",
    "username": "username",
    "email": "email",
    "external_id": "external_id",
    "user_id": "user_id",
}
# Columns of each hand-out behind the file's own ones.
ADVICE_COLUMNS = ("otp_type", "presses_to_discard", "what_to_do")

# Names of columns that a batch brings if its file was a hand-out or an export once. They are not repeated.
_OURS = frozenset(map(normalise, (*ADVICE_COLUMNS, *RESULT_COLUMNS)))

NOTHING_FOR_HOTP = "Press the token and sign on with the number that it shows."
NOTHING_FOR_TOTP = "Sign on with the number that the token shows now."
# Why to stop: a device is locked after a few wrong OTPs, usually three.
IF_REFUSED = "If it is refused, try one more number, then call the help desk."


def write_hand_out(database: Database, name: str, file: TextIO, on_progress: OnProgress = tell_nobody) -> int:
    """Write a line for every active token of the batch, in the order of its file, and return how many. It holds no OTP.
    Raises UnknownBatch."""
    with database.reading() as connection:
        batch = find_batch(connection, name, Batch.id, Batch.columns)
        own = [column for column in batch.columns if _is_own(column)]
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*PERSON_COLUMNS, *map(format_cell, own), *ADVICE_COLUMNS])
        mine = (Record.batch_id == batch.id, Record.status == Status.ACTIVE)
        total = connection.scalar(select(func.count()).where(*mine))
        records = select(Record.__table__).where(*mine).order_by(Record.row_number)
        with connection.execution_options(yield_per=1000).execute(records) as found:
            lines = (map(format_cell, _make_line(record, own)) for record in found)
            return sum(1 for line in telling(lines, on_progress, WRITING, total) if writer.writerow(line))


def count_presses(first_counter: int | None, next_counter: int | None) -> int:
    """Count how often a token must be pressed, and its OTP thrown away, before PingOne accepts one: once for each
    counter from that of the token up to the last one that was sent on its behalf.

    `first_counter` is the counter at which the token stands, None for TOTP and where the OTPs were read off the token;
    `next_counter` is the lowest one of which no OTP was sent. An OTP that PingOne never took, or a token that was
    pressed meanwhile, makes this more than is needed; PingOne's look-ahead window forgives some."""
    return 0 if first_counter is None or next_counter is None else next_counter - first_counter


def advise(otp_type: str, presses: int) -> str:
    """Say what a person does before the first sign-on with a token."""
    if otp_type == OtpType.TOTP:
        return f"{NOTHING_FOR_TOTP} {IF_REFUSED}"
    if presses == 0:
        return f"{NOTHING_FOR_HOTP} {IF_REFUSED}"
    if presses == 1:
        return f"Press once and throw the number away; sign on with the second. {IF_REFUSED}"
    return (
        f"Press {presses} times and throw these {presses} numbers away; sign on with the next one, number"
        f" {presses + 1}. {IF_REFUSED}"
    )


def _is_own(column: str) -> bool:
    """Whether a column of the file is repeated as it is: those that mean nothing to us, such as a site, and the lot."""
    return canonical_column(column) in (None, "lot") and normalise(column) not in _OURS


def _make_line(record: FoundRecord, own: list[str]) -> list[Any]:
    presses = count_presses(record.first_counter, record.next_counter)
    extra = record.extra or {}
    return [
        *(getattr(record, attribute) for attribute in PERSON_COLUMNS.values()),
        *(record.lot if canonical_column(column) == "lot" else extra.get(column) for column in own),
        record.otp_type,
        presses,
        advise(record.otp_type, presses),
    ]
