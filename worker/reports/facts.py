"""How the batches stand: read in one place, as one value that the terminal, the desk, the report, the metrics, the
webhook and `doctor` are given; and what is said of these numbers.

One SELECT reads the batches, and one goes through their records and counts all that is asked of them."""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, String, and_, case, func, not_, or_, select, text, union_all

from models.attempt import FAILED, AttemptLine
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
from worker.batches.finding import choose_rows, find_batch, find_column
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

# Seconds; the pace is measured by the records that were settled in the last ones.
PACE_SECONDS = 30.0
# Records; if fewer were settled in these seconds, they say nothing about the pace.
FEWEST_SETTLED = 5
# Seconds after the load in which a batch is still as it was loaded: it has not been paused and resumed.
AT_LOAD = 1.0
# Hours. PingOne deletes a device that waits for its activation longer than GONE_AFTER; from OLD_AFTER on, that is near.
OLD_AFTER, GONE_AFTER = 20, 24
# The part of the license's rate that an address gets unless it is listed under Rate Limits and Allowed IPs:
# https://developer.pingidentity.com/pingone-api/platform/rate-limiting.html
UNLISTED_PART = 0.35
# A batch that makes at least this part of the license's requests is held back by the license alone.
AT_CEILING_FROM = 0.8

# After reading how all batches stand, a process that reads again and again waits for so many times as long as that
# took, so that it takes a hundredth of the time.
REST = 100.0
# Seconds of such a rest at most.
LONGEST_REST = 60.0

# The pace is settled once its two halves differ by no more than this part of the larger one.
SETTLED_WITHIN = 0.25
# Seconds. While nothing happens to a batch for longer, nothing of it is in work.
LONGEST_WORK = 60.0

# Sums over the records of a batch that its status shows as they are.
_SHOWN = ("unproved", "imported", "paired", "resynced", "attempts", "otp_posts", "requests", "rate_limited")
# What is kept of a group whose records are purged: nothing of what could have been done with them.
_KEPT = ("status", "reason", "records", *_SHOWN, "lack_user", "lack_token")
_BatchRow = Row[*tuple[Any, ...]]


class RowCounts:
    """The rows that a batch, or a part of it, brought. Each is one of four things, whether it became a record or could
    not be loaded: `active`, `to_do`, `failed` or `closed`."""

    __slots__ = ()

    # Records by status; rows that were not loaded, and those of them that a person closed.
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
        """Rows that go on by themselves, now or at their date, or that a person keeps back."""
        return sum(number for status, number in self.counts.items() if status not in FINAL)

    @property
    def failed(self) -> int:
        """Rows that wait for a person: dead letters, and those that were not loaded."""
        return self.counts[Status.DEAD_LETTER] + self.rows_refused - self.rows_closed

    @property
    def closed(self) -> int:
        """Rows that nobody wants any more: cancelled, taken back by an undo, or closed by a person."""
        return self.counts[Status.CANCELLED] + self.rows_closed

    def rows_to_json(self) -> dict[str, int]:
        """The four numbers and their sum, as JSON has them everywhere."""
        return {name: getattr(self, name) for name in ("rows", "active", "to_do", "failed", "closed")}


@dataclass(frozen=True, slots=True)
class Wave:
    """So many records that may not begin before this time; UNTIL_LET_GO where a person keeps them back."""

    at: datetime
    records: int


@dataclass(frozen=True, slots=True)
class RecordCounts:
    """The records of a batch, counted. `groups`: those of one status, reason and date that they wait for, each with the
    columns of `_list_counted`. `refused`: its rows that were not loaded by reason, the most frequent first, without
    the `rows_closed` that a person closed."""

    groups: Sequence[Mapping[str, Any]]
    refused: Mapping[str, int]
    rows_closed: int = 0

    @property
    def statuses(self) -> dict[str, int]:
        """Records by status; every status is named."""
        return {
            str(status): sum(group["records"] for group in self.groups if group["status"] == status)
            for status in Status
        }

    @property
    def finished_at(self) -> datetime | None:
        """When the last record took its final status; None if none did."""
        return max(self._list("finalized_at"), default=None)

    @property
    def waves(self) -> tuple[Wave, ...]:
        """The records that wait for a date, by their dates, the first one first."""
        sizes = Counter[datetime]()
        for group in self.groups:
            if group["waits_until"] is not None:
                sizes[group["waits_until"]] += group["records"]
        return tuple(Wave(at, sizes[at]) for at in sorted(sizes))

    @property
    def next_due_at(self) -> datetime | None:
        """When the first record is due that waits for no date; None if there is none."""
        due = (group["next_due_at"] for group in self.groups if group["waits_until"] is None)
        return min(filter(None, due), default=None)

    def is_finished(self, batch: _BatchRow) -> bool:
        """Whether every record of the batch is final."""
        return sum(self.statuses[status] for status in FINAL) == int(batch.total)

    def add_up(self, name: str) -> int:
        """Add up what was counted in each group."""
        return sum(group[name] for group in self.groups)

    def earliest(self, name: str) -> datetime | None:
        """The earliest of these times; None if there is none."""
        return min(self._list(name), default=None)

    def to_json(self) -> dict[str, Any]:
        """The counts as a purged batch keeps them."""
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
    """An outage that a batch has met. `since`: when the first attempt without an answer ended; None where none is
    known, as when only its preparation got no answer. `next_try_at`: when PingOne is tried again; None: it is now.
    `is_overdue`: that time is past, and nobody has tried."""

    since: datetime | None
    next_try_at: datetime | None
    is_overdue: bool = False

    def to_json(self) -> dict[str, Any]:
        """The outage as `oathbulk status --json` prints it."""
        return {"since": _iso_or_none(self.since), "next_try_at": _iso_or_none(self.next_try_at)}


@dataclass(frozen=True, slots=True)
class BatchStatus(RowCounts):
    """How a batch stands. `total` counts its records; `rows_refused` the rows that did not become one."""

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
    # Records settled a second, lately.
    pace: float
    # When the next pending record is due.
    next_due_at: datetime | None
    # When all this was read, by the database's clock.
    read_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    # What is known of the pace of the batch's license.
    license_pace: KnownPace | None = None
    # The batch's hours (`--window`), such as 22:00-05:30, and their time zone.
    hours: str | None = None
    zone: str | None = None
    # While it runs: when its hours end.
    closes_at: datetime | None = None
    # While it is paused for its hours or a quota: when it goes on by itself.
    resumes_at: datetime | None = None
    # While it is paused and records are in work: when the last of their leases ends, if their worker died.
    in_work_until: datetime | None = None
    # Seconds for which none of its due records has moved; None if none is due, or the batch does not run.
    still_for: float | None = None
    fleet: Fleet = field(default_factory=Fleet)
    # How many of its pending records wait until their user is found, and until their token is found or imported.
    waiting: dict[str, int] = field(default_factory=dict)
    # How many wait to be given out.
    on_the_table: int = 0
    # Whether tokens may be imported.
    may_import: bool = False
    # Records prepared a second since the batch runs; 0 while that is not known.
    preparation_pace: float = 0.0
    # Seconds since a worker last had the batch to prepare it; None if it does not run, or nothing is to be prepared.
    unprepared_for: float | None = None
    # Active records without an OTP that was posted: PingOne said ACTIVE by itself, and nothing was proved.
    unproved: int = 0
    # Dead letters by reason that need no fresh OTPs, so that a replay helps.
    replayable: Mapping[str, int] = field(default_factory=dict)
    # Tokens that this batch has put into the inventory, and devices that it has made.
    imported: int = 0
    paired: int = 0
    # Devices that wait for their activation, and that PingOne is about to delete.
    old_devices: int = 0
    # Whether all of its dead letters have a seed, from which a replay makes OTPs.
    has_seeds: bool = False
    # The rows that were not loaded by reason, without those that a person closed; and how many these are.
    refused: Mapping[str, int] = field(default_factory=dict)
    rows_closed: int = 0
    # Of a finished batch: seconds in which something of it was in work. None where that was not read.
    worked_for: float | None = None
    # Whether the pace stays as it is, so that it tells how long the rest takes.
    is_pace_settled: bool = True
    # Whether its environment wants `oathResync` with OTP 1, as far as that was learnt.
    resync: ResyncKnowledge = field(default_factory=ResyncKnowledge)
    # When its records were purged; the counts are those from before.
    purged_at: datetime | None = None
    # While PingOne does not answer: since when, and when it is tried again.
    outage: Outage | None = None
    # Records that have not begun and wait for a date, by their dates, the first one first.
    waves: tuple[Wave, ...] = ()
    # The rehearsal that it is the batch of, where commands are printed to be pasted.
    rehearsal: Rehearsal | None = None

    def write_command(self, command: str) -> str:
        """Write a command on this batch so that it can be pasted."""
        return self.rehearsal.write(command) if self.rehearsal else command

    @property
    def waits_for_a_person(self) -> bool:
        """Whether it is paused until a person lets it go on."""
        return self.state == BatchState.PAUSED and self.reason not in PASSING

    @property
    def stall(self) -> Stall | None:
        """Why due work does not move; None while it moves, or has not moved for a short time only."""
        fleet = replace(self.fleet, hold=str(self.hold) if self.hold else None, rehearsal=self.rehearsal)
        return find_stall(fleet, self.still_for, self.unprepared_for if self.preparing else None)

    @property
    def is_learning(self) -> bool:
        """Whether few of its records go at once, until it is known whether OTP 1 goes with `oathResync`."""
        in_window, most = self.counts[Status.QUEUED] + self.counts[Status.ACTIVATING], self.resync.most_at_once
        return most is not None and self.resync != ResyncKnowledge() and in_window <= most < self.to_do

    @property
    def standstill(self) -> float:
        """Seconds for which nothing has moved: of what is due, or of what is to be prepared where nothing is due."""
        return (self.unprepared_for if self.still_for is None else self.still_for) or 0.0

    @property
    def oldest_due_for(self) -> float:
        """Seconds for which its oldest due record is due; 0 if none is."""
        return max((self.read_at - self.next_due_at).total_seconds(), 0.0) if self.next_due_at else 0.0

    @property
    def preparing(self) -> int:
        """Records that have to be prepared before their first call."""
        return sum(self.waiting.values())

    @property
    def final(self) -> int:
        """Records that are not worked on any more."""
        return sum(self.counts[status] for status in FINAL)

    @property
    def can_export_failed(self) -> bool:
        """Whether rows failed that are still kept, so that they can be exported."""
        return self.failed > 0 and not self.purged_at

    @property
    def hold(self) -> Hold | None:
        """The hold of all workers of the batch's license; None while there is none."""
        return self.license_pace.hold if self.license_pace else None

    @property
    def dated(self) -> int:
        """Records that wait for a date, or until a person lets them go."""
        return sum(wave.records for wave in self.waves)

    @property
    def kept_back(self) -> int:
        """Records that wait until a person lets them go."""
        return self.dated - sum(wave.records for wave in self.coming)

    @property
    def coming(self) -> tuple[Wave, ...]:
        """The waves that begin by themselves."""
        return tuple(wave for wave in self.waves if wave.at < UNTIL_LET_GO)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until the last record is settled that waits for no date, at the present paces, the slower of
        activation and preparation; None while one of them is not known or still changes, or the batch is paused."""
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
        """Seconds until the last record of the last wave is settled, at the present paces; None while one of them is
        not known, or the batch is paused. Without what a person keeps back."""
        seconds = self.eta_seconds
        for wave in self.coming if seconds is not None and self.pace else ():
            seconds = max(seconds or 0.0, (wave.at - self.read_at).total_seconds()) + wave.records / self.pace
        return seconds

    @property
    def eta_if_listed_seconds(self) -> float | None:
        """Seconds until the last record is settled if the workers' address were listed by PingOne, and is not yet: an
        unlisted one gets a part of the license's rate. None if it is not PingOne's limit that decides how long it
        takes."""
        time_left, known = self.eta_seconds, self.license_pace
        if not time_left or not known or not known.ceiling or not known.rate or known.fixed_rate:
            return None
        requests_a_second = self.pace * self.requests / max(self.final, 1)
        return time_left * UNLISTED_PART if requests_a_second > AT_CEILING_FROM * known.rate else None

    def to_json(self) -> dict[str, Any]:
        """The status as `oathbulk status --json` prints it, for scripts; no key goes away."""
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
    """Say which of the four things the rows that are not active are: `7 to do, 30 failed, 4 closed`; empty if all are
    active."""
    others = {"to do": rows.to_do, "failed": rows.failed, "closed": rows.closed}
    return ", ".join(f"{number:,} {word}" for word, number in others.items() if number)


def describe_outcome(status: BatchStatus) -> str:
    """Say in one sentence how many rows are active, and what became of the others."""
    if not status.rows:
        return "The batch has no rows."
    others = describe_rows(status)
    if not others:
        return "The only row is active." if status.rows == 1 else f"All {status.rows:,} rows are active."
    return f"{count_active(status)}; {others}."


def describe_costs(status: BatchStatus) -> str:
    """Say how many OTPs, requests and attempts the records of a batch took."""
    return (
        f"{count_things(status.otp_posts, 'OTP')} posted · {status.resynced:,} resynced by a second OTP · "
        f"{count_things(status.requests, 'request')}, {status.rate_limited:,} of them answered 429 · "
        f"{count_things(status.attempts, 'attempt')}"
    )


def describe_made(status: BatchStatus) -> str:
    """Say what the batch has made in PingOne, and how many tokens are active without an OTP; empty if nothing of the
    kind."""
    parts = []
    if status.imported or status.paired:
        parts += [
            f"{count_things(status.imported, 'token')} imported",
            f"{count_things(status.paired, 'device')} paired",
        ]
    if status.unproved:
        parts.append(f"{status.unproved} active unproved (PingOne wanted no OTP)")
    return " · ".join(parts)


def take_environment_for_license(_: str, environment_id: str) -> str:
    """The license of an environment that names none: the environment's id."""
    return environment_id


def has_batch(database: Database, name: str | None = None) -> bool:
    """Whether a batch of this name, or any batch, was loaded."""
    loaded = select(Batch.id) if name is None else select(Batch.id).where(Batch.name == name)
    with database.reading() as connection:
        return connection.scalar(loaded.limit(1)) is not None


def read_statuses(
    database: Database, name: str | None = None, license_of: LicenseOf = take_environment_for_license
) -> list[BatchStatus]:
    """Read how this batch stands, or all of them, the latest first. Raises UnknownBatch."""
    with database.reading() as connection:
        # Asked for by itself, so that an unknown name is told what others there are.
        if name is None:
            return read_in(database, connection, license_of)
        batch_id = find_batch(connection, name, Batch.id, may_be_purged=True).id
        (status,) = read_in(database, connection, license_of, Batch.id == batch_id)
        return [replace(status, worked_for=_measure_work(connection, batch_id)) if status.finished_at else status]


def _measure_work(connection: Connection, batch_id: int) -> float | None:
    """Measure for how many seconds something of a batch was in work: from its load to the end of its last record,
    without the times in which nothing happened for longer than LONGEST_WORK. None if it is purged."""
    happened = union_all(
        select(Batch.created_at.label("at")).where(Batch.id == batch_id, Batch.purged_at.is_(None)),
        select(Record.finalized_at).where(Record.batch_id == batch_id, Record.finalized_at.is_not(None)),
        select(AttemptLine.ended_at).where(AttemptLine.batch_id == batch_id, text(FAILED)),
        select(InventoryJob.sent_at).where(InventoryJob.batch_id == batch_id),
        select(InventoryJob.ended_at).where(InventoryJob.batch_id == batch_id, InventoryJob.ended_at.is_not(None)),
    ).subquery()
    moments = connection.scalars(select(happened.c.at).distinct().order_by(happened.c.at)).all()
    gaps = ((later - earlier).total_seconds() for earlier, later in itertools.pairwise(moments))
    return sum(gap for gap in gaps if gap <= LONGEST_WORK) if moments else None


@dataclass(frozen=True, slots=True)
class PartStatus(RowCounts):
    """How those rows of a batch stand that have one value in a column: `value`, None where they have none, or were not
    loaded, so that it is not known. `not_before`: the first date that some of them wait for. `otps_wrong`: the share of
    the tokens that were tried whose OTPs were wrong; None while none was tried."""

    value: str | None
    not_before: datetime | None
    counts: Mapping[str, int]
    otps_wrong: float | None
    rows_refused: int = 0
    rows_closed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The part as `oathbulk status --by --json` prints it."""
        known = {"value": self.value, "not_before": _iso_or_none(self.not_before)}
        return known | self.rows_to_json() | {"otps_wrong": self.otps_wrong and round(self.otps_wrong, 4)}


def read_parts(database: Database, name: str, column: str, where: Sequence[str] = ()) -> list[PartStatus]:
    """Read how a batch stands by the values that a column has, those with the earliest date first; only rows of which
    all of `where` hold. Raises UnknownBatch, UnknownColumn."""
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
            func.min(Record.not_before).filter(waits).label("not_before"),
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
        parts.append(PartStatus(value, row.not_before, counts, share, *numbers))
    nothing = dict.fromkeys(map(str, Status), 0)
    parts += [PartStatus(value, None, nothing, None, row.all, row.closed) for value, row in refused.items()]
    return sorted(parts, key=lambda part: (part.not_before or _ALWAYS, part.value or ""))


def _find_value(table: type[Record | RefusedRow], columns: Sequence[str], name: str) -> ColumnElement[Any]:
    """Find the column of rows by whose values they are counted. Raises UnknownColumn."""
    value = find_column(columns, name, table)
    # A cell that is empty, and one that is not there, are the same.
    is_text = isinstance(value.type, String)
    return (func.nullif(value, "") if is_text else value).label("value")


def _write_value(value: Any) -> str | None:
    """Write the value of a column; None where a row has none."""
    if isinstance(value, datetime):
        return KEPT_BACK if value >= UNTIL_LET_GO else format_time(value)
    return None if value in (None, "") else str(value)


def read_in(
    database: Database, connection: Connection, license_of: LicenseOf, *conditions: ColumnElement[bool]
) -> list[BatchStatus]:
    """Read how the batches that fulfill these conditions stand, the latest first, within the caller's transaction."""
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
    """Count the records of these batches, by their ids; or read how they ended before they were purged."""
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


# Stands for the date of what waits for none, where parts are sorted.
_ALWAYS = datetime.min.replace(tzinfo=UTC)
# When the last attempt failed, by the index of these.
_FAILED_AT = (
    select(AttemptLine.ended_at)
    .where(AttemptLine.batch_id == Batch.id, text(FAILED))
    .order_by(AttemptLine.id.desc())
    .limit(1)
    .correlate(Batch)
    .scalar_subquery()
)


def _list_counted(database: Database) -> dict[str, ColumnElement[Any]]:
    """List what is counted of the records of one batch, status, reason and date."""
    began = Record.pairing_began_at
    is_named = or_(*(getattr(Record, name).is_not(None) for name in NAMES))
    is_old = (began < database.now(-OLD_AFTER * 3600.0), began >= database.now(-GONE_AFTER * 3600.0))
    # Those that their preparation gave up do not count for the pace: many of them end at once.
    is_settled = (Record.finalized_at > database.now(-PACE_SECONDS), text(IS_PREPARED))
    is_made, is_there = Record.is_device_made, Record.device_id != ""
    conditions: dict[str, tuple[ColumnElement[Any] | Any, ...]] = {
        "resynced": (Record.resynced,),
        "unproved": (Record.status == Status.ACTIVE, all_posts() == 0),
        "imported": (Record.is_token_made, Record.is_in_inventory),
        "paired": (is_made, is_there),
        "lack_user": (text(LACKS_USER),),
        # What waits to be given out goes no sooner once its token is imported.
        "lack_token": (text(LACKS_TOKEN), Record.user_id != ""),
        "on_the_table": (text(ON_THE_TABLE),),
        "looked_up": (text(IS_PREPARED), is_named),
        "replayable": (Record.status == Status.DEAD_LETTER, Record.otps.is_not(None), is_replayable()),
        "seeds": (Record.next_counter.is_not(None),),
        "settled": is_settled,
        "settled_late": (Record.finalized_at > database.now(-PACE_SECONDS / 2), text(IS_PREPARED)),
        # A device that oathbulk made is as old as its pairing; one that the file named is at least as old as the batch.
        "old_made": (is_made, is_there, *is_old),
        "named": (not_(is_made), is_there),
    }
    return {
        "records": func.count(),
        **{name: func.count().filter(*holding) for name, holding in conditions.items()},
        # One that is going on may end without counting, and so is counted once it has ended.
        "attempts": func.sum(Record.attempts) - func.count().filter(Record.status == Status.ACTIVATING),
        "otp_posts": func.sum(all_posts()),
        "requests": func.sum(Record.requests),
        "rate_limited": func.sum(Record.rate_limited),
        "settled_since": func.min(Record.finalized_at).filter(*is_settled),
        "finalized_at": func.max(Record.finalized_at),
        "lease_until": func.max(Record.lease_until),
        # When the first one that is prepared is due.
        "next_due_at": func.min(Record.scheduled_at).filter(Record.status == Status.PENDING, text(IS_PREPARED)),
    }


def _count_refused(connection: Connection, ids: Sequence[int]) -> dict[int, tuple[dict[str, int], int]]:
    """Count the rows of these batches that were not loaded, by reason, the most frequent first; and those of them that
    a person closed."""
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
    """Read what `RecordCounts.to_json` wrote: of purged records nothing is due, and nothing can be done with them."""
    gone: dict[str, Any] = dict.fromkeys(("settled_since", "lease_until", "next_due_at", "waits_until"))
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
        # "finished" is no state of its own, but a count.
        state="finished" if is_finished and batch.state != BatchState.CANCELLED else batch.state,
        reason=batch.reason,
        detail=batch.detail,
        total=batch.total,
        rows_refused=batch.rows_refused,
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
        still_for=_measure_standstill(batch, counted, counts, is_worked=is_worked),
        waiting=waiting,
        on_the_table=counted.add_up("on_the_table"),
        may_import=batch.may_import,
        preparation_pace=_measure_preparation(connection, batch, counted) if is_prepared else 0.0,
        unprepared_for=_measure_waiting(connection, batch) if is_prepared else None,
        resync=read_resync(connection, batch.environment_id),
        purged_at=batch.purged_at,
        outage=None if is_finished else _read_outage(connection, batch, counted, counts),
    )


def _measure_waiting(connection: Connection, batch: _BatchRow) -> float | None:
    """Measure for how many seconds no worker has prepared the batch; None if nothing of what may go is to be prepared,
    during a canary or a trial."""
    if not is_lacking(connection, batch):
        return None
    return _seconds_since(batch, batch.running_since, batch.prepared_until)


def _measure_pace(batch: _BatchRow, counted: RecordCounts) -> float:
    """Measure how many records a second were settled lately: from the first one in the last PACE_SECONDS until now."""
    settled, since = counted.add_up("settled"), counted.earliest("settled_since")
    if settled < FEWEST_SETTLED or since is None:
        return 0.0
    return settled / max(_seconds_since(batch, since), 1.0)


def _is_pace_settled(counted: RecordCounts) -> bool:
    """Whether as many records were settled in the later half of the last PACE_SECONDS as in the earlier one, but for a
    part, or for what chance makes of a few."""
    late = counted.add_up("settled_late")
    early = counted.add_up("settled") - late
    most = max(early, late)
    return abs(early - late) <= max(SETTLED_WITHIN * most, math.sqrt(most))


def _measure_standstill(
    batch: _BatchRow, counted: RecordCounts, counts: Mapping[str, int], *, is_worked: bool
) -> float | None:
    """Measure for how many seconds none of the due records has moved: since one was settled or failed, or since the
    first became due. None if none is due, or the batch does not run. Where no worker runs, a backoff of up to a minute
    is no reason to wait longer before that is told."""
    in_window, due_at = counts[Status.QUEUED] + counts[Status.ACTIVATING], counted.next_due_at
    if batch.state != BatchState.RUNNING or not (in_window or (due_at is not None and due_at <= batch.now)):
        return None
    moved_at = max(filter(None, (batch.running_since, counted.finished_at, batch.failed_at)))
    if in_window or due_at is None or (not is_worked and due_at - moved_at < timedelta(seconds=STILL_AFTER)):
        return _seconds_since(batch, moved_at)
    return _seconds_since(batch, moved_at, due_at)


def _measure_preparation(connection: Connection, batch: _BatchRow, counted: RecordCounts) -> float:
    """Measure how many records a second are prepared: by the imports that were sent since the batch runs and have
    ended; or by the persons that were found since the load. When each was found is not written down, so after a pause
    nothing is known."""
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
    """Count the devices that PingOne is about to delete."""
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
    """Read the outage of a batch that is paused for one, tries whether it is over, or has had no answer for a minute
    and has records to try; None if PingOne answers."""
    next_due_at = counted.next_due_at
    if batch.state == BatchState.PAUSED and batch.reason == PauseReason.OUTAGE:
        is_overdue = batch.probe_at is not None and batch.probe_at <= batch.now
        return Outage(find_silence(connection, batch), batch.probe_at, is_overdue)
    if batch.state != BatchState.RUNNING:
        return None
    if batch.outages:
        # The count of outages is set back at the next tick only.
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
    """Seconds since the latest of these moments."""
    return max(float((batch.now - max(filter(None, moments))).total_seconds()), 0.0)


def _iso_or_none(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _round_or_none(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)
