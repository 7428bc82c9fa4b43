"""Reads the history of one token from the database: every record of its serial number, and their attempts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from shlex import quote
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select

from models.attempt import AttemptLine
from models.batch import Batch
from models.encrypted import Keyring
from models.past_token import PastToken
from models.record import Record
from models.refused_row import RefusedRow
from worker.batches.commands import LicenseOf
from worker.batches.finding import is_of_kept_batch
from worker.batches.past_tokens import PastBatch, PastTokens
from worker.database.engine import Database
from worker.fleet.processes import read_processes
from worker.leases.replay import is_replayable
from worker.pace.known_pace import read_pace
from worker.reports.facts import take_environment_for_license
from worker.reports.named_tokens import Token, find_tokens, list_environment_ids, spell_serial_number
from worker.reports.refused_rows import read_refused
from worker.reports.search import find_known_beginning
from worker.reports.stall import Fleet
from worker.reports.token_history import BatchOfRecord, PastAttempt, PastRecord, TokenHistory

# What is read of a record. Its OTPs stay in the database: only whether they are there is asked.
_DERIVED = {
    "counted_attempts": Record.attempts,
    "has_seed": Record.next_counter.is_not(None),
    "are_otps_kept": Record.otps.is_not(None),
    "is_replayable": func.coalesce(and_(Record.otps.is_not(None), is_replayable()), False),
}
_PLAIN = [
    name for name in PastRecord.__dataclass_fields__ if name not in _DERIVED and name not in ("batch", "attempts")
]
_RECORD = [getattr(Record, name) for name in _PLAIN] + [value.label(name) for name, value in _DERIVED.items()]
_ATTEMPT = [getattr(AttemptLine, name) for name in PastAttempt.__dataclass_fields__]


# The part of a text that a known beginning has to be at least, to be what was meant: shorter ones list many tokens that
# have little in common.
_SHORTEST_PART = 0.5


class UnknownToken(Exception):
    """No record has this serial number, device id or number; the message says which serial numbers begin like it."""


def read_histories(
    database: Database,
    token: str,
    license_of: LicenseOf = take_environment_for_license,
    load_keyring: Callable[[], Keyring] | None = None,
) -> list[TokenHistory]:
    """Read the history of each token that `token` names: by a serial number, by the id of a device, or by a record's
    number. There are several if several environments have the serial number. `load_keyring`: the keys by which the
    serial number of a token is recognised whose batch was purged. Raises UnknownToken, and what that raises."""
    # From one snapshot, since a purge may take a record away between two statements.
    with database.reading_snapshot() as connection:
        tokens = find_tokens(connection, token.strip())
        if not tokens:
            raise UnknownToken(_explain_unknown(connection, token.strip(), load_keyring))
        return [_read_history(database, connection, each, license_of) for each in tokens]


def _explain_unknown(connection: Connection, token: str, load_keyring: Callable[[], Keyring] | None) -> str:
    """Say that a token is not known; or which batch had it that was purged."""
    was_purged = connection.scalar(select(PastToken.id).limit(1)) is not None
    if load_keyring is not None and was_purged and (past := _find_past(connection, token, load_keyring())):
        ended = "became active there" if past.was_active else "did not become active there"
        return (
            f"token {token!r} was in batch {past.name!r}, which was purged on {past.purged_at:%Y-%m-%d}, and {ended}: "
            "nothing else is kept of it"
        )
    unknown = f"no record has {token!r} as its serial number, device id or number (written '#123')"
    beginning = find_known_beginning(connection, token)
    if beginning and len(beginning) >= len(token) * _SHORTEST_PART:
        return f"{unknown}; serial numbers that begin like it are listed by: oathbulk show {quote(beginning)}"
    return unknown


def _find_past(connection: Connection, serial_number: str, keyring: Keyring) -> PastBatch | None:
    """Find the latest purged batch that had the token of this serial number. Raises KeyIsGone."""
    found = (
        past
        for environment_id in list_environment_ids(connection)
        for spelling in spell_serial_number(serial_number)
        for past in PastTokens(connection, keyring, environment_id).find_batches(spelling)
    )
    return max(found, key=lambda past: past.purged_at, default=None)


def _read_history(database: Database, connection: Connection, token: Token, license_of: LicenseOf) -> TokenHistory:
    """Read the history of one token, with what decides when it goes on."""
    environment_id, serial_number = token
    records = _read_records(connection, environment_id, serial_number)
    mine = (RefusedRow.environment_id == environment_id, RefusedRow.serial_number == serial_number)
    refused = list(read_refused(connection, *mine))
    environment = records[-1].batch.environment if records else refused[0].environment
    return TokenHistory(
        environment=environment,
        environment_id=environment_id,
        serial_number=serial_number,
        records=records,
        now=connection.execute(select(database.now())).scalar_one(),
        fleet=Fleet(read_processes(database, connection), batch=records[-1].batch.name if records else None),
        hold=read_pace(database, connection, license_of(environment, environment_id)).hold,
        refused=refused,
    )


def _read_records(connection: Connection, environment_id: str, serial_number: str) -> list[PastRecord]:
    """Read the records of a token, the oldest first, each with its batch and its attempts."""
    mine = (
        select(*_RECORD)
        .where(Record.environment_id == environment_id, Record.serial_number == serial_number, is_of_kept_batch())
        .order_by(Record.id)
    )
    rows = connection.execute(mine).all()
    batches = _read_batches(connection, {row.batch_id for row in rows})
    attempts = _read_attempts(connection, [row.id for row in rows])
    return [PastRecord(**row._mapping, batch=batches[row.batch_id], attempts=attempts.get(row.id, [])) for row in rows]


def _read_batches(connection: Connection, ids: Iterable[int]) -> dict[int, BatchOfRecord]:
    """Read what is said of these batches."""
    found = connection.execute(select(Batch.__table__).where(Batch.id.in_(ids)))
    return {batch.id: _make_batch(batch) for batch in found.all()}


def _make_batch(batch: Row[*tuple[Any, ...]]) -> BatchOfRecord:
    return BatchOfRecord(
        name=batch.name,
        file=batch.file,
        environment=batch.environment,
        environment_id=batch.environment_id,
        state=batch.state,
        reason=batch.reason,
        detail=batch.detail,
        resumes_at=batch.resumes_at,
        last_row=min(filter(None, (batch.canary_row, batch.trial_row)), default=None),
    )


def _read_attempts(connection: Connection, record_ids: Sequence[int]) -> dict[int, list[PastAttempt]]:
    """Read the attempts of these records, the oldest first."""
    lines = (
        select(AttemptLine.record_id, *_ATTEMPT)
        .where(AttemptLine.record_id.in_(record_ids))
        .order_by(AttemptLine.record_id, AttemptLine.id)
    )
    grouped = groupby(connection.execute(lines), key=lambda line: line.record_id)
    names = PastAttempt.__dataclass_fields__
    return {
        record_id: [PastAttempt(**{name: getattr(line, name) for name in names}) for line in mine]
        for record_id, mine in grouped
    }
