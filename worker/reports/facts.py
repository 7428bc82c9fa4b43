"""Reads the status of batches, and describes it in sentences. The terminal, the desk, the report, the metrics, the
webhook and `doctor` all get it from here.

One SELECT reads the batches, and another one counts everything in a single pass over their records."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, String, and_, case, func, not_, or_, select, text

from models.attempt import FAILED, AttemptLine
from models.audit import Action, AuditLine
from models.batch import Batch, BatchState
from models.inventory_job import InventoryJob, JobKind, JobState
from models.person import NAMES
from models.reason import NEEDS_MENDING, PASSING, PauseReason, Reason
from models.record import Record, all_posts
from models.record_indexes import IS_PREPARED, LACKS_TOKEN, LACKS_USER, ON_THE_TABLE
from models.record_states import FINAL, KEPT_BACK, UNTIL_LET_GO, Status
from models.refused_row import RefusedRow
from worker.batches.commands import LicenseOf
from worker.batches.evidence import find_silence, was_answered
from worker.batches.finding import choose_rows, find_batch, find_column, find_seed_file
from worker.batches.long_list import is_lacking
from worker.database.engine import Database
from worker.fleet import read_processes
from worker.leases.moves import may_begin
from worker.leases.replay import is_replayable
from worker.observability.wording import count_things
from worker.pace.known_pace import Hold, KnownPace, read_pace
from worker.reports.stall import STILL_AFTER, Fleet, Rehearsal, Stall, find_stall
from worker.rules.breaker import LONGEST_PROBE, Thresholds
from worker.rules.hours import format_time
from worker.rules.resync import ResyncKnowledge
from worker.tenants import read_resync

# The pace counts the records that were settled in this many seconds before now.
PACE_SECONDS = 30.0
# Records that must be settled in PACE_SECONDS; fewer say nothing about the pace.
FEWEST_SETTLED = 5
# Seconds after the load. A batch whose present run began earlier than that has not been paused and resumed.
AT_LOAD = 1.0
# Hours. PingOne deletes a device that waits longer than GONE_AFTER for its activation; after OLD_AFTER, the deletion is
# near.
OLD_AFTER, GONE_AFTER = 20, 24
# The part of the license's rate that an address gets if it is not listed under Rate Limits and Allowed IPs:
# https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html
UNLISTED_PART = 0.35
# If a batch uses at least this part of the license's rate, the license alone limits its pace.
AT_CEILING_FROM = 0.8

# After each read, a process that polls the status of all batches waits this many times as long as the read took, so
# that it spends a hundredth of its time on reads.
REST = 100.0
# Longest such wait, in seconds.
LONGEST_REST = 60.0

# The pace is settled if the two halves of PACE_SECONDS differ by at most this fraction of the larger one.
SETTLED_WITHIN = 0.25

# Sums over the records of a batch that go into its status unchanged.
_SHOWN = ("unproved", "imported", "paired", "resynced", "attempts", "otp_posts", "requests", "rate_limited")
# Counts of a group that a purge keeps. Counts that matter only while something can be done with records are omitted.
_KEPT = ("status", "reason", "records", *_SHOWN, "lack_user", "lack_token")
_BatchRow = Row[*tuple[Any, ...]]


class RowCounts:
    """Counts the rows of a batch, or of a part of it. Each row is `active`, `to_do`, `failed` or `closed`, whether it
    became a record or was not loaded."""

    __slots__ = ()

    # Records by status; rows that were not loaded, and how many of those a person closed.
    counts: Mapping[str, int]
    rows_refused: int
    rows_closed: int

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(self.counts.values()) + self.rows_refused

    @property
    def active(self) -> int:
        """Rows whose device is ACTIVE in PingOne."""
        return self.counts[Status.ACTIVE]

    @property
    def to_do(self) -> int:
        """Rows that continue by themselves, now or at their date, and rows that a person keeps back."""
        return sum(number for status, number in self.counts.items() if status not in FINAL)

    @property
    def failed(self) -> int:
        """Rows that wait for a person: dead letters, and rows that were not loaded."""
        return self.counts[Status.DEAD_LETTER] + self.rows_refused - self.rows_closed

    @property
    def closed(self) -> int:
        """Rows that nobody needs anymore: cancelled, closed by an undo, or closed by a person."""
        return self.counts[Status.CANCELLED] + self.rows_closed

    def rows_to_json(self) -> dict[str, int]:
        """The four counts and their sum, under the keys that all JSON uses."""
        return {name: getattr(self, name) for name in ("rows", "active", "to_do", "failed", "closed")}


@dataclass(frozen=True, slots=True)
class Wave:
    """A number of records that may not begin before this time. The time is UNTIL_LET_GO if a person keeps them back."""

    at: datetime
    records: int


@dataclass(frozen=True, slots=True)
class RecordCounts:
    """Counts of a batch's records. `groups`: one for each combination of status, reason and date that records wait for,
    with the columns of `_list_counted`. `refused`: counts by reason of the rows that were not loaded, the most frequent
    first, without the `rows_closed` that a person closed."""

    groups: Sequence[Mapping[str, Any]]
    refused: Mapping[str, int]
    rows_closed: int = 0

    @property
    def statuses(self) -> dict[str, int]:
        """Counts of records by status; every status has a key."""
        return {
            str(status): sum(group["records"] for group in self.groups if group["status"] == status)
            for status in Status
        }

    @property
    def finished_at(self) -> datetime | None:
        """When the last record reached its final status; None if no record has one."""
        return max(self._list("finalized_at"), default=None)

    @property
    def waves(self) -> tuple[Wave, ...]:
        """Counts of the records that wait for a date, the earliest date first."""
        sizes = Counter[datetime]()
        for group in self.groups:
            if group["waits_until"] is not None:
                sizes[group["waits_until"]] += group["records"]
        return tuple(Wave(at, sizes[at]) for at in sorted(sizes))

    @property
    def next_due_at(self) -> datetime | None:
        """When the next record that waits for no date is due; None if there is no such record."""
        due = (group["next_due_at"] for group in self.groups if group["waits_until"] is None)
        return min(filter(None, due), default=None)

    @property
    def due_since(self) -> datetime | None:
        """When the first record that is queued, in progress, or next became due, or will; None if there is no such
        record."""
        return min(filter(None, (*self._list("taken_due_at"), self.next_due_at)), default=None)

    def is_finished(self, batch: _BatchRow) -> bool:
        """Whether every record of the batch is final."""
        return sum(self.statuses[status] for status in FINAL) == int(batch.total)

    def add_up(self, name: str) -> int:
        """Add up this count over all groups."""
        return sum(group[name] for group in self.groups)

    def earliest(self, name: str) -> datetime | None:
        """Find the earliest time under this name in all groups; None if there is none."""
        return min(self._list(name), default=None)

    def to_json(self) -> dict[str, Any]:
        """The counts in the form that a purged batch keeps."""
        groups = [
            {name: group[name] for name in _KEPT}
            | {"finalized_at": _iso_or_none(group["finalized_at"]), "next_due_at": None}
            for group in self.groups
        ]
        return {"groups": groups, "refused": self.refused, "rows_closed": self.rows_closed}

    def _list(self, name: str) -> list[datetime]:
        return [group[name] for group in self.groups if group[name] is not None]


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage of PingOne as one batch sees it. `since`: when the first attempt without an answer ended; None if no
    such attempt is known, for example if only the preparation got no answer. `next_try_at`: when PingOne is tried
    again; None if that happens now. `is_overdue`: that time is past, and no try was made."""

    since: datetime | None
    next_try_at: datetime | None
    is_overdue: bool = False

    def to_json(self) -> dict[str, Any]:
        """The outage as `oathbulk status --json` prints it."""
        return {"since": _iso_or_none(self.since), "next_try_at": _iso_or_none(self.next_try_at)}


@dataclass(frozen=True, slots=True)
class BatchStatus(RowCounts):
    """The status of a batch. `total` counts its records, and `rows_refused` its rows that were not loaded."""

    name: str
    environment: str
    state: str
    reason: str | None
    detail: str | None
    total: int
    rows_refused: int
    counts: dict[str, int]
    dead_letters: dict[str, int]
    resynced: int
    attempts: int
    otp_posts: int
    requests: int
    rate_limited: int
    created_at: datetime
    finished_at: datetime | None
    # Records settled a second in the last PACE_SECONDS; 0 if too few were settled.
    pace: float
    # When the next pending record that is prepared and waits for no date is due.
    next_due_at: datetime | None
    # When all this was read, by the database's clock.
    read_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    # The pace of the batch's license, as far as it is known.
    license_pace: KnownPace | None = None
    # The batch's hours (`--window`), such as 22:00-05:30, and their time zone.
    hours: str | None = None
    zone: str | None = None
    # When its hours end; None unless it runs within hours.
    closes_at: datetime | None = None
    # When it continues by itself; None unless it is paused for its hours or a quota.
    resumes_at: datetime | None = None
    # When the last lease ends if its worker died; None unless the batch is paused and records are being worked on.
    in_work_until: datetime | None = None
    # Seconds since any of its due records last moved; None if none is due, or the batch does not run.
    still_for: float | None = None
    fleet: Fleet = field(default_factory=Fleet)
    # Counts of its pending records that wait until their `user` is found, or their `token` is found or imported.
    waiting: dict[str, int] = field(default_factory=dict)
    # Records that wait to be given out.
    on_the_table: int = 0
    # Whether the batch may import tokens.
    may_import: bool = False
    # Records prepared a second since the batch began to run; 0 while this is unknown.
    preparation_pace: float = 0.0
    # Seconds since a worker last prepared the batch; None if it does not run, or needs no preparation.
    unprepared_for: float | None = None
    # Active records for which no OTP was posted: PingOne reported ACTIVE by itself, without a proof of possession.
    unproved: int = 0
    # Counts by reason of the dead letters that need no fresh OTPs, so that a replay helps.
    replayable: Mapping[str, int] = field(default_factory=dict)
    # Tokens that this batch imported into the inventory, and devices that it made by pairing.
    imported: int = 0
    paired: int = 0
    # Devices that wait for activation and that PingOne will soon delete.
    old_devices: int = 0
    # Whether all its dead letters have a seed, from which a replay makes new OTPs.
    has_seeds: bool = False
    # The name of the seed file that was loaded; None if the file has OTP pairs.
    seed_file: str | None = None
    # Counts by reason of the rows that were not loaded, without those that a person closed; and how many a person
    # closed.
    refused: Mapping[str, int] = field(default_factory=dict)
    rows_closed: int = 0
    # Whether the pace is steady enough to estimate the remaining time.
    is_pace_settled: bool = True
    # What has been learned about whether its environment wants `oathResync` with OTP 1.
    resync: ResyncKnowledge = field(default_factory=ResyncKnowledge)
    # When its records were purged; the counts are from before the purge.
    purged_at: datetime | None = None
    # Since when PingOne has not answered, and when it is tried again; None while it answers.
    outage: Outage | None = None
    # Counts of records that have not begun and wait for a date, the earliest date first.
    waves: tuple[Wave, ...] = ()
    # The rehearsal to which the batch belongs, so that printed commands work when pasted; None for other batches.
    rehearsal: Rehearsal | None = None

    def write_command(self, command: str) -> str:
        """Write a command for this batch, ready to paste into a shell."""
        return self.rehearsal.write(command) if self.rehearsal else command

    @property
    def waits_for_a_person(self) -> bool:
        """Whether it is paused until a person resumes it."""
        return self.state == BatchState.PAUSED and self.reason not in PASSING

    @property
    def stall(self) -> Stall | None:
        """Why due work does not move; None while it moves, or has stood still only for a short time."""
        fleet = replace(self.fleet, hold=str(self.hold) if self.hold else None, rehearsal=self.rehearsal)
        return find_stall(fleet, self.still_for, self.unprepared_for if self.preparing else None)

    @property
    def is_learning(self) -> bool:
        """Whether only a few of its records run at once, until it is known whether OTP 1 needs `oathResync`."""
        in_window, most = self.counts[Status.QUEUED] + self.counts[Status.ACTIVATING], self.resync.most_at_once
        return most is not None and self.resync != ResyncKnowledge() and in_window <= most < self.to_do

    @property
    def standstill(self) -> float:
        """Seconds since any due record moved; or, if none is due, since a worker last prepared the batch."""
        return (self.unprepared_for if self.still_for is None else self.still_for) or 0.0

    @property
    def oldest_due_for(self) -> float:
        """Seconds that its oldest due record has been due; 0 if none is due."""
        return max((self.read_at - self.next_due_at).total_seconds(), 0.0) if self.next_due_at else 0.0

    @property
    def preparing(self) -> int:
        """Records that must be prepared before their first call."""
        return sum(self.waiting.values())

    @property
    def final(self) -> int:
        """Records in a final status, on which no worker works anymore."""
        return sum(self.counts[status] for status in FINAL)

    @property
    def can_export_failed(self) -> bool:
        """Whether failed rows can be exported: there are some, and they are not purged."""
        return self.failed > 0 and not self.purged_at

    @property
    def hold(self) -> Hold | None:
        """The hold of all workers of the batch's license; None if there is none."""
        return self.license_pace.hold if self.license_pace else None

    @property
    def dated(self) -> int:
        """Records that wait for a date, or until a person starts them."""
        return sum(wave.records for wave in self.waves)

    @property
    def kept_back(self) -> int:
        """Records that wait until a person starts them."""
        return self.dated - sum(wave.records for wave in self.coming)

    @property
    def coming(self) -> tuple[Wave, ...]:
        """The waves that begin by themselves."""
        return tuple(wave for wave in self.waves if wave.at < UNTIL_LET_GO)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until all records without a date are settled, at the present pace of activation or preparation,
        whichever is slower. None if a pace is unknown, the pace of activation still changes, or the batch is paused."""
        if not self.to_do:
            return 0.0
        if not self.pace or not self.is_pace_settled or self.state == BatchState.PAUSED:
            return None
        going = (self.to_do - self.dated - self.on_the_table) / self.pace
        if not self.preparing:
            return going
        return max(going, self.preparing / self.preparation_pace) if self.preparation_pace else None

    @property
    def eta_all_seconds(self) -> float | None:
        """Seconds until the last record of the last wave is settled, without the records that a person keeps back.
        None under the same conditions as `eta_seconds`."""
        seconds = self.eta_seconds
        for wave in self.coming if seconds is not None and self.pace else ():
            seconds = max(seconds or 0.0, (wave.at - self.read_at).total_seconds()) + wave.records / self.pace
        return seconds

    @property
    def eta_if_listed_seconds(self) -> float | None:
        """Seconds until the last record is settled, if the workers' address is unlisted now and somebody lists it in
        PingOne. An unlisted address gets only a part of the license's rate. None if PingOne's limit is not what
        determines the time."""
        time_left, known = self.eta_seconds, self.license_pace
        if not time_left or not known or not known.ceiling or not known.rate or known.fixed_rate:
            return None
        requests_a_second = self.pace * self.requests / max(self.final, 1)
        return time_left * UNLISTED_PART if requests_a_second > AT_CEILING_FROM * known.rate else None

    def to_json(self) -> dict[str, Any]:
        """The status as `oathbulk status --json` prints it. Scripts rely on the keys, so none may be removed."""
        plain = (
            *("state", "reason", "detail", "total", "rows_refused", "refused", "counts"),
            *("resynced", "unproved", "imported", "paired", "waiting"),
        )
        summed = ("attempts", "otp_posts", "requests", "rate_limited", "dead_letters")
        return {
            "batch": self.name,
            "environment": self.environment,
            **self.rows_to_json(),
            **{name: getattr(self, name) for name in plain},
            "preparation_pace": round(self.preparation_pace, 2),
            **{name: getattr(self, name) for name in summed},
            "pace": round(self.pace, 2),
            "eta_seconds": _round_or_none(self.eta_seconds),
            "eta_all_seconds": _round_or_none(self.eta_all_seconds),
            "eta_if_listed_seconds": _round_or_none(self.eta_if_listed_seconds),
            "on_the_table": self.on_the_table,
            "dated": self.dated,
            "kept_back": self.kept_back,
            "next_wave_at": _iso_or_none(self.coming[0].at if self.coming else None),
            "ceiling": self.license_pace and self.license_pace.ceiling,
            "hold": self.hold and self.hold.to_json(),
            "outage": self.outage and self.outage.to_json(),
            "share": self.license_pace.share if self.license_pace else 1.0,
            "window": self.hours,
            "zone": self.zone,
            "closes_at": _iso_or_none(self.closes_at),
            "resumes_at": _iso_or_none(self.resumes_at),
            "still_for_seconds": _round_or_none(self.still_for),
            "stall": self.stall and self.stall.to_json(),
            "resync_on_first_call": self.resync.needs,
            "sick_processes": [process.name for process in self.fleet.sick],
            "created_at": self.created_at.isoformat(),
            "finished_at": _iso_or_none(self.finished_at),
            "purged_at": _iso_or_none(self.purged_at),
        }


def count_active(rows: RowCounts) -> str:
    """Say how many rows are active: `2,959 of 3,000 rows are active`."""
    are = "is" if 1 in (rows.active, rows.rows) else "are"
    return f"{rows.active:,} of {count_things(rows.rows, 'row')} {are} active"


def describe_rows(rows: RowCounts) -> str:
    """Count the rows that are not active: `7 to do, 30 failed, 4 closed`; empty if all are active."""
    others = {"to do": rows.to_do, "failed": rows.failed, "closed": rows.closed}
    return ", ".join(f"{number:,} {word}" for word, number in others.items() if number)


def describe_outcome(status: BatchStatus) -> str:
    """Say in one sentence how many rows are active, to do, failed and closed."""
    if not status.rows:
        return "The batch has no rows."
    others = describe_rows(status)
    if not others:
        return "The only row is active." if status.rows == 1 else f"All {status.rows:,} rows are active."
    return f"{count_active(status)}; {others}."


def describe_costs(status: BatchStatus) -> str:
    """Say how many OTPs, requests and attempts a batch has used."""
    return (
        f"{count_things(status.otp_posts, 'OTP')} posted · {status.resynced:,} resynced by a second OTP · "
        f"{count_things(status.requests, 'device request')}, {status.rate_limited:,} answered 429 · "
        f"{count_things(status.attempts, 'attempt')}"
    )


def describe_made(status: BatchStatus) -> str:
    """Say how many tokens the batch imported, how many devices it paired, and how many became active without an OTP;
    empty if there are none of these."""
    parts = []
    if status.imported or status.paired:
        parts += [
            f"{count_things(status.imported, 'token')} imported",
            f"{count_things(status.paired, 'device')} paired",
        ]
    if status.unproved:
        parts.append(f"{status.unproved} active unproved (PingOne asked for no OTP; in an export, otp_posts is 0)")
    return " · ".join(parts)


def take_environment_for_license(_: str, environment_id: str) -> str:
    """Return the environment's id, which serves as its license's name if the environment names no license."""
    return environment_id


def has_batch(database: Database, name: str | None = None) -> bool:
    """Whether a batch of this name has been loaded; without a name, whether any batch has."""
    loaded = select(Batch.id) if name is None else select(Batch.id).where(Batch.name == name)
    with database.reading() as connection:
        return connection.scalar(loaded.limit(1)) is not None


def read_statuses(
    database: Database, name: str | None = None, license_of: LicenseOf = take_environment_for_license
) -> list[BatchStatus]:
    """Read the status of this batch, or of all batches, the latest first. Raises UnknownBatch."""
    with database.reading() as connection:
        # Look up a name first: for an unknown one, `find_batch` names the batches that exist.
        if name is None:
            return read_in(database, connection, license_of)
        batch_id = find_batch(connection, name, Batch.id, may_be_purged=True).id
        return read_in(database, connection, license_of, Batch.id == batch_id)


@dataclass(frozen=True, slots=True)
class PartStatus(RowCounts):
    """The status of the rows of a batch that share one value of a column. `value`: None if they have no value, or if it
    is unknown because they were not loaded. `not_before`: the earliest date for which any of them waits. `kept_back`:
    the number of rows that wait until a person starts them. `otps_wrong`: the share of the tried tokens whose OTPs were
    wrong; None if none was tried."""

    value: str | None
    not_before: datetime | None
    counts: Mapping[str, int]
    otps_wrong: float | None
    kept_back: int = 0
    rows_refused: int = 0
    rows_closed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The part as `oathbulk status --by --json` prints it."""
        known = {"value": self.value, "not_before": _iso_or_none(self.not_before), "kept_back": self.kept_back}
        return known | self.rows_to_json() | {"otps_wrong": self.otps_wrong and round(self.otps_wrong, 4)}


def read_parts(database: Database, name: str, column: str, where: Sequence[str] = ()) -> list[PartStatus]:
    """Read the status of a batch for each value of a column, the earliest date first. Only rows that fulfill all
    conditions in `where` count. Raises UnknownBatch, UnknownColumn."""
    with database.reading() as connection:
        batch = find_batch(connection, name, Batch.id, Batch.columns)
        chosen = choose_rows(connection, name, where)
        tried, wrong = all_posts() > 0, Record.reason.in_((Reason.INVALID_OTP, Reason.RESYNC_FAILED))
        waits = and_(Record.status.not_in(FINAL), ~may_begin(database))
        counted = select(
            _find_value(Record, batch.columns, column),
            *(func.count().filter(Record.status == status).label(status) for status in Status),
            func.count().filter(tried).label("tried"),
            func.count().filter(tried, wrong).label("wrong"),
            func.min(Record.not_before).filter(waits, Record.not_before < UNTIL_LET_GO).label("not_before"),
            func.count().filter(waits, Record.not_before >= UNTIL_LET_GO).label("kept_back"),
        )
        rows = connection.execute(counted.where(Record.batch_id == batch.id, chosen.records).group_by("value")).all()
        closed = func.count().filter(RefusedRow.is_closed).label("closed")
        unloaded = select(_find_value(RefusedRow, batch.columns, column), func.count().label("all"), closed)
        not_loaded = connection.execute(
            unloaded.where(RefusedRow.batch_id == batch.id, chosen.not_loaded).group_by("value")
        )
        refused = {_write_value(row.value): row for row in not_loaded}
    parts = []
    for row in rows:
        counts = {str(status): row._mapping[status] for status in Status}
        value, share = _write_value(row.value), row.wrong / row.tried if row.tried else None
        beside = refused.pop(value, None)
        numbers = (beside.all, beside.closed) if beside else (0, 0)
        parts.append(PartStatus(value, row.not_before, counts, share, row.kept_back, *numbers))
    nothing = dict.fromkeys(map(str, Status), 0)
    parts += [PartStatus(value, None, nothing, None, 0, row.all, row.closed) for value, row in refused.items()]
    return sorted(
        parts, key=lambda part: (part.not_before or (UNTIL_LET_GO if part.kept_back else _ALWAYS), part.value or "")
    )


def _find_value(table: type[Record | RefusedRow], columns: Sequence[str], name: str) -> ColumnElement[Any]:
    """Find the SQL column whose values group the rows. Raises UnknownColumn."""
    value = find_column(columns, name, table)
    # An empty cell means the same as a missing one.
    is_text = isinstance(value.type, String)
    return (func.nullif(value, "") if is_text else value).label("value")


def _write_value(value: Any) -> str | None:
    """Write the value of a column; None if a row has none."""
    if isinstance(value, datetime):
        return KEPT_BACK if value >= UNTIL_LET_GO else format_time(value)
    return None if value in (None, "") else str(value)


def read_in(
    database: Database, connection: Connection, license_of: LicenseOf, *conditions: ColumnElement[bool]
) -> list[BatchStatus]:
    """Read the status of all batches that fulfill these conditions, the latest first, in the caller's transaction."""
    columns = (Batch.__table__, database.now().label("now"), _FAILED_AT.label("failed_at"))
    batches = connection.execute(select(*columns).where(*conditions).order_by(Batch.id.desc())).all()
    counted = count_records(database, connection, batches)
    processes = read_processes(database, connection)
    return [
        replace(
            _make_status(connection, batch, counted[batch.id], is_worked=any(each.is_alive for each in processes)),
            fleet=Fleet(processes, batch=batch.name),
            license_pace=read_pace(database, connection, license_of(batch.environment, batch.environment_id)),
        )
        for batch in batches
    ]


def count_records(database: Database, connection: Connection, batches: Sequence[_BatchRow]) -> dict[int, RecordCounts]:
    """Count the records of these batches by the batch's id. For a purged batch, read the counts that the purge kept."""
    groups: dict[int, list[dict[str, Any]]] = {batch.id: [] for batch in batches if batch.purged_at is None}
    columns = [value.label(name) for name, value in _list_counted(database).items()]
    by = (Record.batch_id, Record.status, Record.reason)
    waits_until = case((and_(Record.status.not_in(FINAL), ~may_begin(database)), Record.not_before)).label(
        "waits_until"
    )
    counts = select(*by, waits_until, *columns).where(Record.batch_id.in_(groups)).group_by(*by, "waits_until")
    for row in connection.execute(counts):
        groups[row.batch_id].append(dict(row._mapping))
    refused = _count_refused(connection, [batch.id for batch in batches if batch.rows_refused and batch.id in groups])
    return {
        batch.id: RecordCounts(groups[batch.id], *refused.get(batch.id, ({}, 0)))
        if batch.id in groups
        else _read_kept(batch.outcome)
        for batch in batches
    }


# The sort key of parts that wait for nothing: they come first.
_ALWAYS = datetime.min.replace(tzinfo=UTC)
# When the batch's last failed attempt ended, read from the index of failed attempts.
_FAILED_AT = (
    select(AttemptLine.ended_at)
    .where(AttemptLine.batch_id == Batch.id, text(FAILED))
    .order_by(AttemptLine.id.desc())
    .limit(1)
    .correlate(Batch)
    .scalar_subquery()
)


def _list_counted(database: Database) -> dict[str, ColumnElement[Any]]:
    """List the counts for each group of records with the same batch, status, reason and date."""
    began = Record.pairing_began_at
    is_named = or_(*(getattr(Record, name).is_not(None) for name in NAMES))
    is_old = (began < database.now(-OLD_AFTER * 3600.0), began >= database.now(-GONE_AFTER * 3600.0))
    # Records that failed during their preparation do not count for the pace, because many of them end at once.
    is_settled = (Record.finalized_at > database.now(-PACE_SECONDS), text(IS_PREPARED))
    is_made, is_there = Record.is_device_made, Record.device_id != ""
    conditions: dict[str, tuple[ColumnElement[Any] | Any, ...]] = {
        "resynced": (Record.resynced,),
        "unproved": (Record.status == Status.ACTIVE, all_posts() == 0),
        "imported": (Record.is_token_made, Record.is_in_inventory),
        "paired": (is_made, is_there),
        "lack_user": (text(LACKS_USER),),
        # A record that waits to be given out does not count, because the import of its token does not let it begin.
        "lack_token": (text(LACKS_TOKEN), Record.user_id != ""),
        "on_the_table": (text(ON_THE_TABLE),),
        "looked_up": (text(IS_PREPARED), is_named),
        "replayable": (Record.status == Status.DEAD_LETTER, Record.otps.is_not(None), is_replayable()),
        "seeds": (Record.next_counter.is_not(None),),
        "settled": is_settled,
        "settled_late": (Record.finalized_at > database.now(-PACE_SECONDS / 2), text(IS_PREPARED)),
        # A device that oathbulk made is as old as its pairing. One that the file names is at least as old as the batch.
        "old_made": (is_made, is_there, *is_old),
        "named": (not_(is_made), is_there),
    }
    return {
        "records": func.count(),
        **{name: func.count().filter(*holding) for name, holding in conditions.items()},
        # A running attempt may turn out not to count, so it is counted only after it ends.
        "attempts": func.sum(Record.attempts) - func.count().filter(Record.status == Status.ACTIVATING),
        "otp_posts": func.sum(all_posts()),
        "requests": func.sum(Record.requests),
        "rate_limited": func.sum(Record.rate_limited),
        "settled_since": func.min(Record.finalized_at).filter(*is_settled),
        "finalized_at": func.max(Record.finalized_at),
        "lease_until": func.max(Record.lease_until),
        # When the first prepared record is due.
        "next_due_at": func.min(Record.scheduled_at).filter(Record.status == Status.PENDING, text(IS_PREPARED)),
        # When the first record that is queued or in progress became due.
        "taken_due_at": func.min(Record.scheduled_at).filter(Record.status.in_((Status.QUEUED, Status.ACTIVATING))),
    }


def _count_refused(connection: Connection, ids: Sequence[int]) -> dict[int, tuple[dict[str, int], int]]:
    """Count the rows of these batches that were not loaded: the open ones by reason, the most frequent first; and those
    that a person closed."""
    by, rows = (RefusedRow.batch_id, RefusedRow.is_closed, RefusedRow.reason), func.count().label("rows")
    counted = select(*by, rows).where(RefusedRow.batch_id.in_(ids)).group_by(*by)
    found = connection.execute(counted.order_by(rows.desc(), RefusedRow.reason)).all() if ids else ()
    return {
        batch_id: (
            {row.reason: row.rows for row in found if row.batch_id == batch_id and not row.is_closed},
            sum(row.rows for row in found if row.batch_id == batch_id and row.is_closed),
        )
        for batch_id in ids
    }


def _read_kept(kept: Mapping[str, Any]) -> RecordCounts:
    """Read the counts that `RecordCounts.to_json` wrote. Purged records are never due, and need no work."""
    gone: dict[str, Any] = dict.fromkeys(("settled_since", "lease_until", "next_due_at", "taken_due_at", "waits_until"))
    counted = ("looked_up", "on_the_table", "replayable", "seeds", "settled", "settled_late", "old_made", "named")
    gone |= dict.fromkeys(counted, 0)
    groups = [
        group | gone | {"finalized_at": group["finalized_at"] and datetime.fromisoformat(group["finalized_at"])}
        for group in kept["groups"]
    ]
    return RecordCounts(groups, kept["refused"], kept["rows_closed"])


def _make_status(connection: Connection, batch: _BatchRow, counted: RecordCounts, *, is_worked: bool) -> BatchStatus:
    counts, is_finished = counted.statuses, counted.is_finished(batch)
    dead = [group for group in counted.groups if group["status"] == Status.DEAD_LETTER]
    helped = (group for group in dead if group["replayable"] and group["reason"] not in NEEDS_MENDING)
    waiting = {"user": counted.add_up("lack_user"), "token": counted.add_up("lack_token")}
    is_prepared = bool(sum(waiting.values())) and batch.state == BatchState.RUNNING
    shown: dict[str, Any] = {name: counted.add_up(name) for name in _SHOWN}
    is_in_work = batch.state == BatchState.PAUSED and counts[Status.ACTIVATING]
    in_work = (group["lease_until"] for group in counted.groups if group["status"] == Status.ACTIVATING)
    return BatchStatus(
        name=batch.name,
        environment=batch.environment,
        # "finished" is not stored as a state: it follows from the counts.
        state="finished" if is_finished and batch.state != BatchState.CANCELLED else batch.state,
        reason=batch.reason,
        detail=batch.detail,
        total=batch.total,
        rows_refused=batch.rows_refused,
        seed_file=find_seed_file(batch),
        refused=counted.refused,
        rows_closed=counted.rows_closed,
        counts=counts,
        dead_letters={group["reason"] or "": group["records"] for group in dead},
        replayable={group["reason"] or "": group["replayable"] for group in helped},
        has_seeds=all(group["seeds"] == group["records"] for group in dead),
        **shown,
        old_devices=_count_old_devices(batch, counted),
        created_at=batch.created_at,
        finished_at=counted.finished_at if is_finished else None,
        read_at=batch.now,
        pace=_measure_pace(batch, counted),
        is_pace_settled=_is_pace_settled(counted),
        next_due_at=counted.next_due_at,
        waves=counted.waves,
        hours=batch.daily_window,
        zone=batch.zone,
        closes_at=batch.closes_at if batch.state == BatchState.RUNNING else None,
        resumes_at=batch.resumes_at,
        in_work_until=max(filter(None, in_work), default=None) if is_in_work else None,
        still_for=_cut_at_command(connection, batch, counted, _measure_standstill(batch, counted, is_worked=is_worked)),
        waiting=waiting,
        on_the_table=counted.add_up("on_the_table"),
        may_import=batch.may_import,
        preparation_pace=_measure_preparation(connection, batch, counted) if is_prepared else 0.0,
        unprepared_for=_cut_at_command(connection, batch, counted, _measure_waiting(connection, batch))
        if is_prepared
        else None,
        resync=read_resync(connection, batch.environment_id),
        purged_at=batch.purged_at,
        outage=None if is_finished else _read_outage(connection, batch, counted, counts),
    )


def _measure_waiting(connection: Connection, batch: _BatchRow) -> float | None:
    """Measure the seconds since a worker last prepared the batch. None if no record needs preparation. During a canary
    or a trial, only the records that may begin count."""
    if not is_lacking(connection, batch):
        return None
    return _seconds_since(batch, batch.running_since, batch.prepared_until)


def _measure_pace(batch: _BatchRow, counted: RecordCounts) -> float:
    """Measure the records settled a second, from the first one within the last PACE_SECONDS until now."""
    settled, since = counted.add_up("settled"), counted.earliest("settled_since")
    if settled < FEWEST_SETTLED or since is None:
        return 0.0
    return settled / max(_seconds_since(batch, since), 1.0)


def _is_pace_settled(counted: RecordCounts) -> bool:
    """Whether about as many records were settled in each half of the last PACE_SECONDS: the halves differ by at most
    the fraction SETTLED_WITHIN, or by no more than chance explains if the numbers are small."""
    late = counted.add_up("settled_late")
    early = counted.add_up("settled") - late
    most = max(early, late)
    return abs(early - late) <= max(SETTLED_WITHIN * most, math.sqrt(most))


def _measure_standstill(batch: _BatchRow, counted: RecordCounts, *, is_worked: bool) -> float | None:
    """Measure the seconds since any due record moved: since the last one was settled or failed, or since the first one
    became due. None if none is due, or the batch does not run. If no worker runs, a backoff of up to a minute does not
    shorten this time, so that the missing worker is reported sooner."""
    due_since = counted.due_since
    if batch.state != BatchState.RUNNING or due_since is None or due_since > batch.now:
        return None
    moved_at = max(filter(None, (batch.running_since, counted.finished_at, batch.failed_at)))
    if not is_worked and due_since - moved_at < timedelta(seconds=STILL_AFTER):
        return _seconds_since(batch, moved_at)
    return _seconds_since(batch, moved_at, due_since)


# The commands that let records begin, or begin again.
_LET_BEGIN = (Action.GIVE, Action.MEND, Action.REPLAY, Action.RESUME)


def _cut_at_command(
    connection: Connection, batch: _BatchRow, counted: RecordCounts, seconds: float | None
) -> float | None:
    """Shorten the time for which a batch has stood still, if a command let some of its records begin meanwhile: count
    from the first such command after the last record was settled. The audit is read only if that time is long enough to
    be reported."""
    if seconds is None or seconds < STILL_AFTER:
        return seconds
    since = max(filter(None, (batch.now - timedelta(seconds=seconds), counted.finished_at)))
    commands = AuditLine.batch == batch.name, AuditLine.action.in_(_LET_BEGIN), AuditLine.at > since
    first = connection.scalar(select(func.min(AuditLine.at)).where(*commands))
    return _seconds_since(batch, first) if first else seconds


def _measure_preparation(connection: Connection, batch: _BatchRow, counted: RecordCounts) -> float:
    """Measure the records prepared a second, from the imports that were sent and completed since the batch began to
    run. Without such imports, use the users found since the load. The times at which users were found are not recorded,
    so after a pause the result is 0, which means unknown."""
    if batch.may_import:
        of_batch = (InventoryJob.batch_id == batch.id, InventoryJob.sent_at >= batch.running_since)
        jobs = select(func.sum(InventoryJob.size), func.min(InventoryJob.sent_at)).where(*of_batch)
        done = jobs.where(InventoryJob.kind == JobKind.IMPORT, InventoryJob.state == JobState.DONE)
        tokens, since = connection.execute(done).one()
        if tokens:
            return float(tokens / max(_seconds_since(batch, since), 1.0))
    if (batch.running_since - batch.created_at).total_seconds() > AT_LOAD:
        return 0.0
    return counted.add_up("looked_up") / max(_seconds_since(batch, batch.created_at), 1.0)


def _count_old_devices(batch: _BatchRow, counted: RecordCounts) -> int:
    """Count the devices that PingOne will soon delete."""
    is_old = OLD_AFTER * 3600 <= _seconds_since(batch, batch.created_at) < GONE_AFTER * 3600
    return sum(
        group["old_made"] + (group["named"] if is_old else 0)
        for group in counted.groups
        if group["status"] not in FINAL
        or (group["status"] == Status.DEAD_LETTER and group["reason"] != Reason.DEVICE_NOT_FOUND)
    )


def _read_outage(
    connection: Connection, batch: _BatchRow, counted: RecordCounts, counts: Mapping[str, int]
) -> Outage | None:
    """Read the outage of a batch that is paused for one, is testing whether one is over, or has had no answer for a
    minute although it has records to try. None if PingOne answers."""
    next_due_at = counted.next_due_at
    if batch.state == BatchState.PAUSED and batch.reason == PauseReason.OUTAGE:
        is_overdue = batch.probe_at is not None and batch.probe_at <= batch.now
        return Outage(find_silence(connection, batch), batch.probe_at, is_overdue)
    if batch.state != BatchState.RUNNING:
        return None
    if batch.outages:
        # The count of outages is only reset at the next tick.
        return None if was_answered(connection, batch, Thresholds()) else Outage(find_silence(connection, batch), None)
    is_in_window = bool(counts[Status.QUEUED] + counts[Status.ACTIVATING])
    waits = (next_due_at - batch.now).total_seconds() if next_due_at else math.inf
    if not is_in_window and waits > LONGEST_PROBE:
        return None
    since = find_silence(connection, batch)
    if since is None or _seconds_since(batch, since) < STILL_AFTER:
        return None
    return Outage(since, next_due_at if waits > 0 and not is_in_window else None)


def _seconds_since(batch: _BatchRow, *moments: datetime | None) -> float:
    """Measure the seconds since the latest of these times."""
    return max(float((batch.now - max(filter(None, moments))).total_seconds()), 0.0)


def _iso_or_none(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _round_or_none(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)
