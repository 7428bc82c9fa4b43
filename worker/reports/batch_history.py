"""What the page of a batch tells beside its status: when its tokens became active, when it was paused, where it comes
from, and who commanded what since.

The database counts the curve in short spans of time: few rows, however many tokens. The audit has a line for each
command of a person. A batch that paused by itself leaves none; but the command that let it run again names the reason.
Then the pause began at some moment after the last token that was settled before."""

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

# When a record was settled.
_AT: ColumnElement[Any] = Record.__table__.c.finalized_at
# Spans into which the time from the first to the last settled token is divided.
SPANS = 200


# States in which nothing more is settled.
_OVER = ("finished", BatchState.CANCELLED)
# Commands that end a pause.
_ENDING = (Action.RESUME, Action.REPLAY, Action.CANCEL)


# A line of the audit about a batch.
Command = Row[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class BatchOrigin:
    """Where a batch comes from: its file and its list of who gets what, if there was one, each with the SHA-256 of its
    bytes; who loaded it, when, and on which ticket. What the audit tells is None where it has no line of the load."""

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
    """A time in which no call started, as far as the audit tells. Where `is_start_known` is False, the batch paused by
    itself, at some moment after `start`, when it last settled a token."""

    start: datetime
    # None: it still lasts.
    end: datetime | None
    why: str
    is_start_known: bool = True


@dataclass(frozen=True, slots=True)
class Timeline:
    """Tokens that are active now, by the time at which they became so, since the batch was loaded: `moments` are times
    with the number of tokens that were active by then. `until` is when the last token was settled; while some are not,
    when this was read."""

    since: datetime
    until: datetime
    moments: tuple[tuple[datetime, int], ...]
    pauses: tuple[PauseSpan, ...]


@dataclass(frozen=True, slots=True)
class BatchHistory:
    """How a batch came to be as it is."""

    timeline: Timeline
    origin: BatchOrigin
    # What was commanded, the oldest first.
    commands: tuple[Command, ...]
    # Columns by whose values the batch can be told, and the one that it is told by; None if by none.
    columns: tuple[str, ...] = ()
    by: str | None = None
    parts: Sequence[PartStatus] = ()


def read_batch_history(database: Database, status: BatchStatus, by: str | None = None) -> BatchHistory:
    """Read the rest of what is told of the batch whose status this is; by the values of a column too. Where some
    records wait for a date and no column is named, that is the last one of the file's own, or else the date. Raises
    UnknownBatch, UnknownColumn."""
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
        # The file's own ones first.
        columns = tuple(filter(_is_own, batch.columns))
        columns += tuple(column for column in batch.columns if canonical_column(column) in ("lot", "not_before"))
        return BatchHistory(timeline, describe_origin(batch, commands), commands, columns, by, parts)


def _is_own(column: str) -> bool:
    """Whether a column means nothing to us, such as a site, and is none that a vendor's file brings."""
    return canonical_column(column) is None and column not in VENDOR_COLUMNS


def read_curve(
    database: Database, connection: Connection, batch_id: int
) -> tuple[tuple[tuple[datetime, int], ...], list[float]]:
    """Read the curve of a batch: times in ascending order, each with the number of tokens that were active by then; and
    when the last token of each span was settled, as seconds since 1970. Both are empty while no token is settled."""
    is_settled_here = (Record.batch_id == batch_id, _AT.is_not(None))
    first, last = connection.execute(select(func.min(_AT), func.max(_AT)).where(*is_settled_here)).one()
    if first is None:
        return (), []
    width = max((last - first).total_seconds(), 1e-3) / SPANS
    span = cast(_seconds_since(database, first) / width, Integer)
    counted = (
        select(
            func.max(_AT),
            func.max(_AT).filter(Record.status == Status.ACTIVE),
            func.count().filter(Record.status == Status.ACTIVE),
        )
        .where(*is_settled_here)
        .group_by(span)
        .order_by(func.max(_AT))
    )
    moments, settled, active = list[tuple[datetime, int]](), list[float](), 0
    for settled_at, active_at, count in connection.execute(counted):
        settled.append(settled_at.timestamp())
        if count:
            active += count
            moments.append((active_at, active))
    return tuple(moments), settled


def _seconds_since(database: Database, moment: datetime) -> ColumnElement[float]:
    """SQL for the seconds from a moment until a record was settled."""
    since = literal(moment, UtcDateTime)
    if database.is_sqlite:
        return type_coerce((func.julianday(_AT) - func.julianday(since)) * 86400.0, Float)
    # extract() gives an exact decimal, with which a database divides a million times more slowly.
    return type_coerce(func.date_part("epoch", _AT - since), Float)


def find_pauses(commands: Sequence[Command], settled: Sequence[float], status: BatchStatus) -> list[PauseSpan]:
    """The pauses in their order. `settled`: when tokens were settled, as seconds since 1970 in ascending order."""
    # What keeps back a part of a batch is none.
    commands = [command for command in commands if "where" not in command.facts]
    return [*_find_commanded(commands, settled, status), *_find_present(commands, settled, status)]


def _find_commanded(commands: Sequence[Command], settled: Sequence[float], status: BatchStatus) -> Iterator[PauseSpan]:
    """Pauses that a person began or ended."""
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
    """The pause that lasts, if the batch began it by itself."""
    if status.state != BatchState.PAUSED or status.reason is None:
        return
    last = next((each for each in reversed(commands) if each.action in (Action.PAUSE, *_ENDING)), None)
    since = _find_last_before(settled, status.read_at)
    if since is not None and (last is None or last.action != Action.PAUSE):
        yield PauseSpan(since, None, f"paused by itself: {status.reason}", is_start_known=False)


def _find_last_before(settled: Sequence[float], at: datetime) -> datetime | None:
    """When the last token before a moment was settled."""
    place = bisect_right(settled, at.timestamp())
    return datetime.fromtimestamp(settled[place - 1], at.tzinfo) if place else None


def describe_origin(batch: Row[*tuple[Any, ...]], commands: Iterable[Command]) -> BatchOrigin:
    """Say where the batch comes from. `commands`: those for it, with that of its load."""
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
    """Say in words what the chart shows."""
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
        f"{format_moment(half)}, and the last became so at {format_moment(last)}, {span} after the first."
    )


def describe_command(command: Command) -> str:
    """Write the facts of a command as `name: value; …`, without those that are empty."""
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
