"""Finds batches by name, or all batches that have work left; and finds the records of a batch by the value of a
column."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import PurePath
from shlex import quote
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Null,
    Row,
    and_,
    exists,
    false,
    null,
    or_,
    select,
    text,
    true,
)

from models.base import UtcDateTime
from models.batch import Batch, BatchState
from models.person import PERSON
from models.record import Record
from models.record_indexes import IN_WINDOW, LACKS_TOKEN, LACKS_USER, ON_THE_TABLE
from models.record_states import KEPT_BACK, UNTIL_LET_GO
from models.refused_row import RefusedRow
from worker.config.environment import Environment
from worker.config.settings import ConfigError
from worker.database.engine import Database
from worker.intake.rows import COLUMNS, FILE_ROW, RowRefused, canonical_column, normalize, read_not_before
from worker.leases.queue import has_pending

# Number of names, at most, that are compared with a misspelled one.
_MOST_NAMES = 1000


def list_names(database: Database) -> list[str]:
    """Read the names of batches, the latest first."""
    with database.reading() as connection:
        return read_latest_names(connection)


def read_latest_names(connection: Connection) -> list[str]:
    """Read the names of batches within a transaction, the latest first."""
    return list(connection.scalars(select(Batch.name).order_by(Batch.id.desc()).limit(_MOST_NAMES)))


# Names, at most, in the message about an unknown batch.
LATEST = 5


class UnknownBatch(Exception):
    """No batch has this name; the message names the nearest, or lists the latest ones."""


class BatchPurged(UnknownBatch):
    """The batch was purged: its records are gone. The message says what is left of it."""


def find_batch(
    connection: Connection, name: str, *columns: Any, is_locking: bool = False, may_be_purged: bool = False
) -> Row[*tuple[Any, ...]]:
    """Read these columns of the batch with this name. With `is_locking`, the batch does not change before the
    transaction ends. Raises UnknownBatch; BatchPurged unless `may_be_purged`, since a purged batch has no records to
    read or to work on."""
    named = select(*columns, Batch.purged_at).where(Batch.name == name)
    found = connection.execute(named.with_for_update() if is_locking else named).one_or_none()
    if found is None:
        raise UnknownBatch(f"no batch is named {name!r}: {_name_others(name, read_latest_names(connection))}")
    if found.purged_at is not None and not may_be_purged:
        raise BatchPurged(explain_purged(name, found.purged_at))
    return found


def find_seed_file(batch: Row[*tuple[Any, ...]]) -> str | None:
    """Find the name of the seed file that a batch was loaded from; None if that file has OTP pairs. `batch` has the
    columns `columns` and `file`."""
    is_of_pairs = any(canonical_column(column) == "otp1" for column in batch.columns)
    return None if is_of_pairs else PurePath(batch.file).name


class UnknownColumn(Exception):
    """The batch has no such column, and the message lists its columns; or none of its records has these values."""


@dataclass(frozen=True, slots=True)
class ChosenRows:
    """The rows of a batch that a person chooses, as SQL conditions on its records and on its rows that were not
    loaded."""

    records: ColumnElement[bool]
    not_loaded: ColumnElement[bool]


def choose_records(connection: Connection, name: str, where: Sequence[str]) -> ColumnElement[bool]:
    """Combine conditions on the records of this batch, each written as COLUMN=VALUE, into one SQL condition. An empty
    value matches rows without a value. Raises UnknownBatch; UnknownColumn also if no record matches, since a value may
    be misspelled."""
    chosen = choose_rows(connection, name, where)
    batch = find_batch(connection, name, Batch.id)
    if where and not _matches(connection, Record, batch.id, chosen.records):
        named = f"the rows of {name!r} with {' and '.join(where)}"
        raise UnknownColumn(f"{named} were not loaded: `oathbulk mend` loads them")
    return chosen.records


def choose_rows(connection: Connection, name: str, where: Sequence[str]) -> ChosenRows:
    """Combine conditions on all rows of this batch, each written as COLUMN=VALUE, into SQL. For a row that was not
    loaded, only its number and serial number are known. Raises UnknownBatch; UnknownColumn also if no row matches."""
    batch = find_batch(connection, name, Batch.id, Batch.columns)
    chosen = ChosenRows(*(_hold_all(table, batch.columns, where) for table in (Record, RefusedRow)))
    is_there = _matches(connection, Record, batch.id, chosen.records)
    if where and not is_there and not _matches(connection, RefusedRow, batch.id, chosen.not_loaded):
        values = f"oathbulk status {quote(name)} --by {quote(where[0].partition('=')[0])}"
        raise UnknownColumn(f"no row of batch {name!r} has {' and '.join(where)}: `{values}` lists the values")
    return chosen


def _hold_all(table: type[Record | RefusedRow], columns: Sequence[str], where: Sequence[str]) -> ColumnElement[bool]:
    return and_(true(), *(_hold(table, columns, condition) for condition in where))


def _matches(
    connection: Connection, table: type[Record | RefusedRow], batch_id: int, chosen: ColumnElement[bool]
) -> bool:
    return connection.scalar(select(table.id).where(table.batch_id == batch_id, chosen).limit(1)) is not None


def find_column(columns: Sequence[str], name: str, table: type[Record | RefusedRow] = Record) -> ColumnElement[Any]:
    """Find the column that a person names: one of oathbulk's columns, or one of a file's own `columns`. In the `table`
    of rows that were not loaded, most columns are null. Raises UnknownColumn."""
    attributes = {column.name: column.attribute for column in COLUMNS} | {FILE_ROW: "row_number"}
    if attribute := attributes.get(canonical_column(name) or ""):
        found: ColumnElement[Any] = getattr(table, attribute, null())
        return found
    of_file = {normalize(column): column for column in columns if not canonical_column(column)}
    if written := of_file.get(normalize(name)):
        if set(written) & set('"\\'):
            raise UnknownColumn(f"column {written!r} cannot be used: its name has a quotation mark or a backslash")
        return cast("ColumnElement[Any]", Record.extra[written].as_string() if table is Record else null())
    raise UnknownColumn(f"there is no column {name!r}: the batch has {', '.join([*attributes, *of_file.values()])}")


def _hold(table: type[Record | RefusedRow], columns: Sequence[str], condition: str) -> ColumnElement[bool]:
    """Translate one COLUMN=VALUE into SQL. Raises UnknownColumn."""
    name, is_compared, value = condition.partition("=")
    if not is_compared:
        raise UnknownColumn(f"{condition!r} compares nothing: write COLUMN=VALUE, such as site=Basel")
    column = find_column(columns, name.strip(), table)
    if isinstance(column, Null):
        # Rows that were not loaded have no such column.
        return false()
    if isinstance(column.type, UtcDateTime):
        return _hold_date(column, value)
    if isinstance(column.type, Integer):
        return column == int(value) if value.isascii() and value.isdecimal() else false()
    if canonical_column(name) == "serial":
        return table.serial_key == value.lower()
    return column == value if value else or_(column.is_(None), column == "")


def leave_out_names(where: Sequence[str]) -> list[str]:
    """Shorten conditions for the audit: leave out values that name a person, since nothing can be erased from the
    audit."""
    attributes = {column.name: column.attribute for column in COLUMNS}

    def shorten(condition: str) -> str:
        name, _, _ = condition.partition("=")
        return f"{name}=…" if attributes.get(canonical_column(name.strip()) or "") in PERSON else condition

    return [shorten(condition) for condition in where]


def _hold_date(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    """Match times within this minute, written as in a file or by `status --by`. Raises UnknownColumn."""
    if not value or value == KEPT_BACK:
        return column == UNTIL_LET_GO if value else column.is_(None)
    try:
        date = read_not_before(value.replace(" UTC", "Z"), None)
    except RowRefused as refused:
        raise UnknownColumn(f"{value!r}: {refused}") from None
    assert date is not None, "only an empty value has no date"  # noqa: S101
    return and_(column >= date, column < date + timedelta(minutes=1))


def find_environment(database: Database, name: str, load: Callable[[str], Environment]) -> Environment:
    """Load the environment that the batch was loaded for. Raises UnknownBatch; ConfigError if that environment is no
    longer configured, or now has another id, under which none of the batch's devices would be found."""
    with database.reading() as connection:
        batch = find_batch(connection, name, Batch.environment, Batch.environment_id)
    environment = load(batch.environment)
    if environment.environment_id != batch.environment_id:
        raise ConfigError(
            f"batch {name!r} was loaded for environment {batch.environment_id}, and {batch.environment!r} is "
            f"{environment.environment_id} now: restore PINGONE_ENVIRONMENT_ID"
        )
    return environment


def is_of_kept_batch() -> ColumnElement[bool]:
    """Whether the batch of a record has not been purged. A purge deletes the records of a batch chunk by chunk, so no
    record is shown once the purge has begun."""
    return Record.batch_id.not_in(select(Batch.id).where(Batch.purged_at.is_not(None)))


def explain_purged(name: str, purged_at: datetime) -> str:
    """Say that a batch was purged, and what can still be read about it."""
    named = quote(name)
    return (
        f"batch {name!r} was purged on {purged_at:%Y-%m-%d}: its records are gone, including the ids of what it made "
        f"in PingOne. `oathbulk status {named}` shows how it ended, `oathbulk audit {named}` what was done"
    )


def find_near_name(name: str, names: Sequence[str]) -> str | None:
    """Find the most similarly spelled name; None if none is close."""
    return next(iter(get_close_matches(name, names, n=1)), None)


def _name_others(name: str, names: Sequence[str]) -> str:
    """Name the batch that was probably meant, or else the latest batches."""
    if near := find_near_name(name, names):
        return f"did you mean {near!r}?"
    return f"the latest are {', '.join(names[:LATEST])}" if names else "nothing has been loaded yet"


# Ids of the batches with records in the window, read once from its index. If asked batch by batch, SQLite would read
# all records of each batch.
_IN_WINDOW = select(Record.batch_id).where(text(f"record.{IN_WINDOW}"))


def is_unfinished() -> ColumnElement[bool]:
    """Whether a batch has a record that is not final: pending, to be prepared or given out, queued or in progress. Each
    of these has its own index, so that a large batch is not read through."""
    to_prepare = (_has_record(condition) for condition in (LACKS_USER, LACKS_TOKEN, ON_THE_TABLE))
    return or_(has_pending(), *to_prepare, Batch.id.in_(_IN_WINDOW))


def _has_record(condition: str) -> ColumnElement[bool]:
    return exists().where(Record.batch_id == Batch.id, text(f"record.{condition}")).correlate(Batch)


def has_unfinished(connection: Connection, batch_id: int) -> bool:
    """Whether some record of this batch is not final."""
    return connection.scalar(select(Batch.id).where(Batch.id == batch_id, is_unfinished())) is not None


def read_running(connection: Connection) -> list[Row[*tuple[Any, ...]]]:
    """Read the id and name of each running batch that has work left, the earliest first."""
    running = select(Batch.id, Batch.name).where(Batch.state == BatchState.RUNNING, is_unfinished())
    return list(connection.execute(running.order_by(Batch.id)))
