"""Which search may find a token that nobody knows under the text that was typed."""

from __future__ import annotations

from bisect import bisect_left
from shlex import quote

from sqlalchemy import Connection, or_, select

from models.record import Record
from worker.batches.finding import is_of_kept_batch
from worker.reports.named_tokens import list_environment_ids, spell_serial_number
from worker.reports.search_conditions import SERIAL, begins, is_in_range, sorts_by_code

# The part of the text that a beginning has to be at least: shorter ones list many tokens that have little in common.
SHORTEST_PART = 0.5


def advise_search(connection: Connection, text: str) -> str:
    """Say with which command to look for what was meant by `text`, which is no serial number, id or number of a record:
    by the beginning that serial numbers do have; or, where it is no serial number, by whatever else begins so."""
    beginning = find_known_beginning(connection, text)
    if beginning and len(beginning) >= len(text) * SHORTEST_PART:
        return f"serial numbers that begin like it are listed by: oathbulk search {quote(beginning)}"
    return (
        "no serial number begins like it; if it is a name, a lot or another value of the file, look for it with: "
        f"oathbulk search {quote(text)}"
    )


def find_known_beginning(connection: Connection, text: str) -> str:
    """Find the longest beginning of the text with which a serial number begins too; empty if none does."""
    if not SERIAL.fullmatch(text):
        return ""
    environments, is_sorted = list_environment_ids(connection), sorts_by_code(connection)

    def is_unknown(length: int) -> bool:
        spellings = spell_serial_number(text[:length])
        like = map(is_in_range, spellings) if is_sorted else [begins(Record.serial_number, text[:length])]
        known = select(Record.id).where(Record.environment_id.in_(environments), or_(*like), is_of_kept_batch())
        return connection.scalar(known.limit(1)) is None

    # What is longer than an unknown beginning is unknown, too.
    return text[: bisect_left(range(1, len(text) + 1), x=True, key=is_unknown)]
