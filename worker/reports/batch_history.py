"""The history on the page of a batch: when its tokens became active, when it was paused, where it came from, and who
gave which command.

The database aggregates the curve into at most about 200 time spans, so it returns few rows however many tokens there
are. The audit has a line for each command of a person. When a batch pauses by itself, there is no such line, but the
command that resumes it names the reason. Such a pause began at an unknown time after the last token that was settled
before that command."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, Integer, Row, cast, func, literal, select, type_coerce

from models.audit import Action
from models.base import UtcDateTime
from models.batch import Batch, BatchState
from models.record import Record
from models.record_states import Status
from worker import audit
from worker.batches.finding import find_batch
from worker.database.engine import Database
from worker.intake.rows import VENDOR_COLUMNS, canonical_column
from worker.observability.wording import format_duration, format_moment
from worker.reports.facts import BatchStatus, PartStatus, read_parts

# The time at which a record was settled.
_AT: ColumnElement[Any] = Record.__table__.c.finalized_at
# The number of spans into which the time from the first to the last settled token is divided.
SPANS = 200


# States of a batch in which no more records are settled.
_OVER = ("finished", BatchState.CANCELLED)
# Commands that end a pause.
_ENDING = (Action.RESUME, Action.REPLAY, Action.CANCEL)


# A line of the audit about a batch.
Command = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class BatchOrigin:
    """Where a batch comes from: its file and the list that assigns its tokens to people, if there was one, each with
    the SHA-256 of its bytes; who loaded it, when, and on which ticket. If the audit has no line about the load, the
    values from that line are None."""

    file: str
    sha256: str | None
    environment: str
    environment_id: str
    loaded_at: datetime
    loaded_by: str | None
    ticket: str | None
    list_file: str | None = None
    list_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class PauseSpan:
    """A time in which no call started, according to the audit. If `is_start_known` is False, the batch paused by itself
    at an unknown time after `start`, which is when the last token before the pause was settled."""

    start: datetime
    # None while the pause lasts.
    end: datetime | None
    why: str
    is_start_known: bool = True


@dataclass(frozen=True, slots=True)
class Timeline:
    """When the tokens that are active now became active, since the batch was loaded. `moments`: times, each with the
    number of these tokens that were active at that time. `until`: when the last token was settled, or when this was
    read if some are not settled yet."""

    since: datetime
    until: datetime
    moments: tuple[tuple[datetime, int], ...]
    pauses: tuple[PauseSpan, ...]


@dataclass(frozen=True, slots=True)
class BatchHistory:
    """What has happened to a batch since its load."""

    timeline: Timeline
    origin: BatchOrigin
    # People's commands on the batch, the oldest first.
    commands: tuple[Command, ...]
    # Columns by whose values the rows can be grouped, and the one that groups them in `parts`, or None.
    columns: tuple[str, ...] = ()
    by: str | None = None
    parts: Sequence[PartStatus] = ()


def read_batch_history(database: Database, status: BatchStatus, by: str | None = None) -> BatchHistory:
    """Read the history of the batch with this status, and its parts, grouped by the column `by`. If `by` is None and
    some records wait for a date, the parts are grouped by the last of the file's own columns, or else by the date.
    Raises UnknownBatch, UnknownColumn."""
    if by is None and status.waves:
        with database.reading() as connection:
            columns = find_batch(connection, status.name, Batch.columns).columns
        by = next((column for column in reversed(columns) if _is_own(column)), "not_before")
    parts = read_parts(database, status.name, by) if by else ()
    with database.reading_snapshot() as connection:
        batch = find_batch(connection, status.name, Batch.__table__)
        commands = tuple(audit.read(connection, status.name))
        moments, settled = read_curve(database, connection, batch.id)
        timeline = Timeline(
            since=status.created_at,
            until=datetime.fromtimestamp(settled[-1], UTC) if status.state in _OVER and settled else status.read_at,
            moments=moments,
            pauses=tuple(find_pauses(commands, settled, status)),
        )
        # Begin with the file's own columns.
        columns = tuple(filter(_is_own, batch.columns))
        columns += tuple(column for column in batch.columns if canonical_column(column) in ("lot", "not_before"))
        return BatchHistory(timeline, describe_origin(batch, commands), commands, columns, by, parts)


def _is_own(column: str) -> bool:
    """Whether a column is the file's own, such as a site: oathbulk does not use it, and no vendor's file has it."""
    return canonical_column(column) is None and column not in VENDOR_COLUMNS


def read_curve(
    database: Database, connection: Connection, batch_id: int
) -> tuple[tuple[tuple[datetime, int], ...], list[float]]:
    """Read the curve of a batch: times in ascending order, each with the number of tokens that were active at that
    time; and when the last token of each span was settled, as seconds since 1970. Both are empty while no token is
    settled."""
    is_settled_here, is_active = (Record.batch_id == batch_id, _AT.is_not(None)), Record.status == Status.ACTIVE
    ends = select(func.min(_AT), func.max(_AT), func.min(_AT).filter(is_active)).where(*is_settled_here)
    first, last, began = connection.execute(ends).one()
    if first is None:
        return (), []
    width = max((last - first).total_seconds(), 1e-3) / SPANS
    span = cast(_seconds_since(database, first) / width, Integer)
    counted = (
        select(
            func.max(_AT),
            func.max(_AT).filter(is_active),
            func.count().filter(is_active),
            func.count().filter(is_active, began == _AT),
        )
        .where(*is_settled_here)
        .group_by(span)
        .order_by(func.max(_AT))
    )
    moments, settled, active = list[tuple[datetime, int]](), list[float](), 0
    for settled_at, active_at, count, count_first in connection.execute(counted):
        settled.append(settled_at.timestamp())
        # A span is told at its end, and the first token when it became active.
        if count_first and count_first < count:
            moments.append((began, count_first))
        if count:
            active += count
            moments.append((active_at, active))
    return tuple(moments), settled


def _seconds_since(database: Database, moment: datetime) -> ColumnElement[float]:
    """Make the SQL that measures the seconds from this time until a record was settled."""
    since = literal(moment, UtcDateTime)
    if database.is_sqlite:
        return type_coerce((func.julianday(_AT) - func.julianday(since)) * 86400.0, Float)
    # Not extract(): it returns an exact decimal (NUMERIC), whose arithmetic is far slower.
    return type_coerce(func.date_part("epoch", _AT - since), Float)


def find_pauses(commands: Sequence[Command], settled: Sequence[float], status: BatchStatus) -> list[PauseSpan]:
    """Find the pauses in chronological order. `settled`: when tokens were settled, as seconds since 1970 in ascending
    order."""
    # A command with `where` concerns only part of the batch.
    commands = [command for command in commands if "where" not in command.facts]
    return [*_find_commanded(commands, settled, status), *_find_present(commands, settled, status)]


def _find_commanded(commands: Sequence[Command], settled: Sequence[float], status: BatchStatus) -> Iterator[PauseSpan]:
    """Find the pauses that a person began or ended."""
    begun: Command | None = None
    for command in commands:
        if command.action == Action.PAUSE:
            begun = begun or command
        elif command.action in _ENDING:
            reason = command.facts.get("reason")
            if begun is not None:
                yield PauseSpan(begun.at, command.at, f"paused by {begun.actor}")
            elif reason is not None and command.action == Action.RESUME:
                since = _find_last_before(settled, command.at)
                if since is not None:
                    yield PauseSpan(since, command.at, f"paused by itself: {reason}", is_start_known=False)
            begun = None
    if begun is not None and status.state == BatchState.PAUSED:
        yield PauseSpan(begun.at, None, f"paused by {begun.actor}")


def _find_present(commands: Sequence[Command], settled: Sequence[float], status: BatchStatus) -> Iterator[PauseSpan]:
    """Find the current pause, if the batch began it by itself."""
    if status.state != BatchState.PAUSED or status.reason is None:
        return
    last = next((each for each in reversed(commands) if each.action in (Action.PAUSE, *_ENDING)), None)
    since = _find_last_before(settled, status.read_at)
    if since is not None and (last is None or last.action != Action.PAUSE):
        yield PauseSpan(since, None, f"paused by itself: {status.reason}", is_start_known=False)


def _find_last_before(settled: Sequence[float], at: datetime) -> datetime | None:
    """Find when the last token before this time was settled; None if none was."""
    place = bisect_right(settled, at.timestamp())
    return datetime.fromtimestamp(settled[place - 1], at.tzinfo) if place else None


def describe_origin(batch: Row[*tuple[Any, ...]], commands: Iterable[Command]) -> BatchOrigin:
    """Say where the batch comes from. `commands`: the commands on the batch, including its load."""
    load = next((each for each in commands if each.action == Action.LOAD), None)
    facts = load.facts if load else {}
    return BatchOrigin(
        file=batch.file,
        sha256=facts.get("sha256"),
        environment=batch.environment,
        environment_id=batch.environment_id,
        loaded_at=batch.created_at,
        loaded_by=load.actor if load else None,
        ticket=load.ticket if load else None,
        list_file=facts.get("list_file"),
        list_sha256=facts.get("list_sha256"),
    )


def describe_timeline(timeline: Timeline) -> str:
    """Describe the chart in words."""
    if not timeline.moments:
        return "No token is active."
    total = timeline.moments[-1][1]
    (first, _), (last, _) = timeline.moments[0], timeline.moments[-1]
    half = next(at for at, count in timeline.moments if 2 * count >= total)
    if total == 1:
        return f"The only active token became active at {format_moment(first)} UTC."
    seconds = (last - first).total_seconds()
    span = format_duration(seconds) if seconds >= 1 else f"{1000 * seconds:.0f} ms"
    return (
        f"The first token became active at {format_moment(first)} UTC, half of the {total:,} were active by "
        f"{format_moment(half)}, and the last became active at {format_moment(last)}, {span} after the first."
    )


def describe_command(command: Command) -> str:
    """Write the facts of a command as `name: value; …`, and omit the empty ones."""
    return "; ".join(
        f"{name.replace('_', ' ')}: {_write_fact(value)}"
        for name, value in command.facts.items()
        if value not in (None, [], {}, "")
    )


def _write_fact(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
