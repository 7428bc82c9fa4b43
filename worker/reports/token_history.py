"""The history of one token, read from the database: every record of its serial number in all batches, the attempts of
each, and the rows with it that were refused. Nothing secret is in it: neither an OTP nor a seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import groupby
from shlex import quote
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select

from models.attempt import AttemptLine
from models.batch import Batch
from models.reason import Reason, find_cure
from models.record import Record
from models.record_states import OtpState
from models.refused_row import RefusedRow
from worker.batches.commands import LicenseOf
from worker.batches.finding import is_of_kept_batch
from worker.database.engine import Database
from worker.fleet import read_processes
from worker.leases.commands import is_replayable
from worker.pace.known_pace import Hold, read_pace
from worker.reports.facts import take_environment_for_license
from worker.reports.search import RefusedLine, Token, find_known_beginning, find_tokens, read_refused
from worker.reports.stall import Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class PastAttempt:
    """One line of the table of attempts: one try under a lease, and PingOne's last answer to it."""

    number: int
    ended_at: datetime
    outcome: str
    reason: str | None
    http_status: int | None
    code: str | None
    detail_code: str | None
    pingone_error_id: str | None
    correlation_id: str | None
    requests: int
    otp_posts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOfRecord:
    """The batch of a record: where its file came from, and whether its records may go. `last_row`: while set, only rows
    up to this one go. `resumes_at`: when a paused batch goes on by itself, if that is known."""

    name: str
    file: str
    environment: str
    environment_id: str
    state: str
    reason: str | None = None
    detail: str | None = None
    resumes_at: datetime | None = None
    last_row: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRecord:
    """One record of a token. The names are those of `models.record.Record`, where each is explained."""

    id: int
    batch_id: int
    row_number: int
    serial_number: str
    user_id: str
    username: str | None
    email: str | None
    external_id: str | None
    device_id: str
    lot: str | None
    extra: dict[str, Any] | None
    is_in_inventory: bool
    is_token_made: bool
    is_device_made: bool
    status: str
    reason: str | None
    detail: str | None
    scheduled_at: datetime
    lease_until: datetime | None
    finalized_at: datetime | None
    otp_type: str
    has_second_otp: bool
    otp1_state: str
    otp1_posts: int
    otp2_state: str
    otp2_posts: int
    posts_forgiven: int
    requests: int
    pingone_error_id: str | None
    correlation_id: str | None
    # Attempts that count, the one under way among them.
    counted_attempts: int
    # Whether its OTPs are made of a seed; else they are a pair.
    has_seed: bool
    # Whether its OTPs or its seed are still kept, encrypted.
    are_otps_kept: bool
    # Whether a replay would make it go again.
    is_replayable: bool
    batch: BatchOfRecord
    attempts: list[PastAttempt] = field(default_factory=list)

    @property
    def meaning(self) -> str | None:
        """What the reason means and what a person can do: as it was written down, or as it is known of the reason."""
        known = next((each for each in Reason if each == self.reason), None)
        return self.detail or (known and find_cure(known, has_seed=self.has_seed))

    def describe_otps(self) -> dict[str, str]:
        """Say of what its OTPs are made and whether that is still kept, and what became of each OTP."""
        source = f"{self.otp_type.upper()} {'seed' if self.has_seed else 'pair'}"
        kept = "kept encrypted" if self.are_otps_kept else "erased"
        second = _describe_otp(self.otp2_state, self.otp2_posts) if self.has_second_otp else "the file brought none"
        return {
            "source": f"{source}, {kept}",
            "otp1": _describe_otp(self.otp1_state, self.otp1_posts),
            "otp2": second,
        }

    def to_json(self) -> dict[str, Any]:
        """The record and its attempts, with names for what is said in words."""
        facts = _write_times(asdict(self))
        batch, attempts = facts.pop("batch"), facts.pop("attempts")
        return {
            "record": facts.pop("id"),
            "batch": batch["name"],
            "row": facts.pop("row_number"),
            "file": batch["file"],
            "batch_state": batch["state"],
            "batch_reason": batch["reason"],
            **{name: facts[name] for name in ("status", "reason")},
            "meaning": self.meaning,
            "otps": self.describe_otps(),
            **{name: value for name, value in facts.items() if name not in ("batch_id", "detail")},
            "attempts": [_write_times(attempt) for attempt in attempts],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHistory:
    """All records of a serial number in one environment, the oldest first, and what decides when it goes on; and the
    rows with it that were refused. `now` is the database's time."""

    environment: str
    environment_id: str
    serial_number: str
    records: list[PastRecord]
    now: datetime
    fleet: Fleet = field(default_factory=Fleet)
    # The hold of all workers of the license; None while there is none.
    hold: Hold | None = None
    refused: list[RefusedLine] = field(default_factory=list)

    @property
    def latest(self) -> PastRecord:
        """The record of the latest load. There is one unless every row of the token
        was refused."""
        return self.records[-1]

    def to_json(self) -> dict[str, Any]:
        """The history as `oathbulk show --json` prints it, without what happens next."""
        return {
            "serial_number": self.serial_number,
            "environment": self.environment,
            "environment_id": self.environment_id,
            "records": [record.to_json() for record in self.records],
            "refused": [line.to_json() for line in self.refused],
        }


def _write_times(facts: dict[str, Any]) -> dict[str, Any]:
    """Write the times among these values as text, as ISO 8601 has it."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in facts.items()}


def _describe_otp(state: str, posts: int) -> str:
    """Say what became of one OTP."""
    posted = "posted once" if posts == 1 else f"posted {posts} times"
    match state:
        case OtpState.ANSWERED:
            return f"answered by PingOne, {posted}" if posts else "answered by PingOne"
        case OtpState.SENT:
            return "sent, and no answer is written down; the device is read before anything else is sent"
    return f"{posted} without effect, and may be sent again" if posts else "not sent"


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
) -> list[TokenHistory]:
    """Read the history of each token that `token` names: by a serial number, by the id of a device, or by a record's
    number. There are several if several environments have the serial number. Raises UnknownToken."""
    # From one snapshot, since a purge may take a record away between two statements.
    with database.reading_snapshot() as connection:
        tokens = find_tokens(connection, token.strip())
        if not tokens:
            raise UnknownToken(_explain_unknown(connection, token.strip()))
        return [_read_history(database, connection, each, license_of) for each in tokens]


def _explain_unknown(connection: Connection, token: str) -> str:
    """Say that a token is not known."""
    unknown = f"no record has {token!r} as its serial number, device id or number (written '#123')"
    beginning = find_known_beginning(connection, token)
    if beginning and len(beginning) >= len(token) * _SHORTEST_PART:
        return f"{unknown}; serial numbers that begin like it are listed by: oathbulk show {quote(beginning)}"
    return unknown


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
