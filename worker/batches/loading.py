"""Loads a shipment: writes a batch in one transaction. Each row becomes a record, or is refused, for example because
its token or device is in the database already."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count, islice
from operator import attrgetter
from shlex import quote
from typing import Any, TypeAlias
from weakref import finalize

from sqlalchemy import ColumnElement, Connection, TextClause, delete, func, insert, select, text, true, update
from sqlalchemy import Row as ResultRow
from sqlalchemy.orm import InstrumentedAttribute

from models.audit import Action
from models.base import LONGEST_DETAIL
from models.batch import LONGEST_NAME, Batch, BatchState
from models.encrypted import DecryptionError, Keyring, identify_row
from models.person import NAMES, PERSON
from models.record import Record
from models.record_indexes import HAS_DEVICE
from models.record_states import FINAL, OtpState, PairingState, Status
from models.refused_row import RefusedRow
from models.row_fault import RowFault
from worker import audit
from worker.audit import Actor
from worker.batches import hours
from worker.batches.hours import OutOfHours
from worker.config.environment import Environment
from worker.database.engine import LOAD_LOCK, Database
from worker.database.row_writer import RowWriter
from worker.intake.rows import COLUMNS, Row, RowError, UnusableFile
from worker.intake.shipment import Shipment, open_scratch
from worker.leases.moves import put_off
from worker.observability.progress import OnProgress, tell_nobody
from worker.observability.wording import agree, count_things, escape_line
from worker.pingone.devices import fold_case
from worker.rules.hours import DailyHours
from worker.vault.otps import Otp, OtpPair, OtpSource, Seed, open_otps, open_spent

Found: TypeAlias = "ResultRow[*tuple[Any, ...]]"

_COLUMNS = (
    Record.serial_number,
    Record.device_id,
    Record.user_id,
    *(getattr(Record, name) for name in NAMES),
    Record.status,
    Record.row_number,
    Record.batch_id,
    Record.otps,
    Record.spent,
    Record.otp1_state,
    Record.otp1_posts,
    Record.otp2_state,
    Record.otp2_posts,
    Record.otp_type,
    Record.first_counter,
    Record.next_counter,
    Record.undone_until,
)


# Why a row is refused: a sentence, and a fault.
Refusal: TypeAlias = tuple[str, RowFault]


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A row that may be loaded. `next_counter`: the first counter from which its seed makes an OTP. It is higher than
    the counter in the file if earlier records of the token have used counters. None for a pair of OTPs."""

    row: Row
    next_counter: int | None = None


class FirstRows:
    """The first row of a file in which each value occurs, in a temporary database."""

    def __init__(self) -> None:
        self._scratch = open_scratch("CREATE TABLE first (value TEXT PRIMARY KEY, row_number INTEGER) WITHOUT ROWID")
        finalize(self, self._scratch.close)

    def get(self, value: str) -> int | None:
        found = self._scratch.execute("SELECT row_number FROM first WHERE value = ?", (value,)).fetchone()
        return found and int(found[0])

    def setdefault(self, value: str, row_number: int) -> int:
        self._scratch.execute("INSERT OR IGNORE INTO first VALUES (?, ?)", (value, row_number))
        return self.get(value) or row_number


class Conflicts:
    """Looks up the records of one environment, and compares rows with them, within a transaction. `batch_id`: the batch
    of the rows; None if it does not exist yet. `is_written`: the caller writes the rows that may be loaded, so that
    later chunks find them in the database. Otherwise this object remembers the good rows of a batch. `now`: the
    database's time."""

    def __init__(
        self,
        connection: Connection,
        keyring: Keyring,
        environment_id: str,
        now: datetime,
        batch_id: int | None = None,
        *,
        is_written: bool = False,
    ) -> None:
        self._now = now
        self._connection = connection
        self._keyring = keyring
        self._environment_id = environment_id
        self._batch_id = batch_id
        # Good rows that the caller does not write, by serial number or device.
        self._not_written = None if is_written or batch_id is None else FirstRows()

    def split(self, rows: Sequence[Row]) -> tuple[list[NewRecord], list[RowError]]:
        """Split these rows into new records, and errors for the other rows. Rows of earlier calls count as records."""
        serials = self.find_by_serial_number(rows)
        devices = self._find_by_device(rows)
        good: list[NewRecord] = []
        errors: list[RowError] = []
        in_chunk: dict[str, int] | FirstRows = {} if self._not_written is None else self._not_written
        for row in rows:
            earlier = [*serials.get(row.serial_number.lower(), []), *devices.get(row.device_id or "", [])]
            refusal = (
                self._explain_undo(row, earlier)
                or self._explain_active(row, earlier)
                or self._explain_duplicate(row, in_chunk)
                or self._explain_conflict(row, earlier)
            )
            if refusal:
                reason, fault = refusal
                errors.append(RowError(row.row_number, reason, row.serial_number, fault))
            else:
                good.append(NewRecord(row, self._choose_counter(row, earlier)))
                for _, value in _identities(row):
                    in_chunk.setdefault(value, row.row_number)
        return good, errors

    def find_by_serial_number(self, rows: Sequence[Row]) -> dict[str, list[Found]]:
        """Find the records with the serial numbers of these rows, by serial number in lowercase."""
        by_serial: dict[str, list[Found]] = {}
        for found in self._look_up(Record.serial_key, [row.serial_number.lower() for row in rows]):
            by_serial.setdefault(found.serial_number.lower(), []).append(found)
        return by_serial

    def _find_by_device(self, rows: Sequence[Row]) -> dict[str, list[Found]]:
        """Find the records with the devices of these rows, by device id."""
        by_device: dict[str, list[Found]] = {}
        known = [row.device_id for row in rows if row.device_id]
        # The look-up repeats the condition of the partial index word for word; otherwise the whole table would be read.
        for found in self._look_up(Record.device_id, known, text(HAS_DEVICE)):
            by_device.setdefault(found.device_id, []).append(found)
        return by_device

    def open(self, found: Found) -> OtpSource | None:
        """Decrypt the pair or the seed of an earlier record; None if it was erased, or if its key is missing."""
        if found.otps is None:
            return None
        try:
            return open_otps(self._keyring, found.otps, found.batch_id, found.row_number)
        except DecryptionError:
            return None

    def _look_up(
        self, column: InstrumentedAttribute[str], values: list[str], *conditions: ColumnElement[bool] | TextClause
    ) -> Iterable[Found]:
        """Find the environment's records that have one of the values in the column."""
        records = select(*_COLUMNS).where(Record.environment_id == self._environment_id, *conditions)
        if self._connection.dialect.name == "sqlite":
            return self._connection.execute(records.where(column.in_(values)))
        # PostgreSQL has no statistics yet about what this transaction has written, and would read the whole table for
        # each chunk. OFFSET keeps it from merging the look-ups, so that each look-up uses the index. The values are
        # sent as one text, since the driver is slow with lists. They are letters, digits and hyphens, so none contains
        # a comma.
        sought = func.string_to_table(",".join(values), ",").table_valued("value", name="sought").render_derived()
        found = records.where(column == sought.c.value).offset(0).lateral()
        return self._connection.execute(select(found).select_from(sought.join(found, true())))

    def _explain_undo(self, row: Row, earlier: Iterable[Found]) -> Refusal | None:
        """Explain that an undo is removing the token or the device of a row right now; None if there is no such
        undo."""
        found = next((each for each in earlier if each.undone_until and each.undone_until > self._now), None)
        if found is None:
            return None
        what = "serial number" if _is_same_token(found, row) else "device"
        return (
            f"an undo of batch {self._name_batch(found)!r} is working on the {what}: wait until it ends; if it "
            f"was killed, that is at {found.undone_until:%H:%M:%S} UTC",
            RowFault.IN_PROGRESS,
        )

    def _explain_active(self, row: Row, earlier: Iterable[Found]) -> Refusal | None:
        """Explain why a row needs no work: its token is active on its device, or with its person if the row names no
        device. Or explain that its device belongs to another token. None if neither is true."""
        active = [found for found in earlier if found.status == Status.ACTIVE]
        same = [found for found in active if _is_same_device_or_person(found, row)]
        if not same:
            return None
        batch, active_serial = self._name_batch(same[0]), same[0].serial_number
        if not _is_same_token(same[0], row):
            what = f"its device is that of token {active_serial}, which is active in batch {batch!r}"
            cure = "correct serial or device_id; if the mistake was there, nothing is left to do"
            return f"{what}: {cure}", RowFault.PERSON_UNFIT
        return f"its token is active already, in batch {batch!r}: nothing is left to do", RowFault.ACTIVE_ELSEWHERE

    def _explain_duplicate(self, row: Row, in_chunk: dict[str, int] | FirstRows) -> Refusal | None:
        """Explain that a row repeats an earlier row that is not written yet; None if it does not. Repeats within a file
        are refused when it is read; this finds rows of an export that become equal only once they are completed.
        `in_chunk`: row numbers by serial number or device."""
        for what, value in _identities(row):
            if (first := in_chunk.get(value)) is not None:
                return _refuse_repeated(what, first)
        return None

    def _explain_conflict(self, row: Row, earlier: Iterable[Found]) -> Refusal | None:
        """Explain which earlier record of its token or device blocks this row; None if none does."""
        return next(filter(None, (self._explain_earlier(row, found) for found in earlier)), None)

    def _explain_earlier(self, row: Row, found: Found) -> Refusal | None:
        """Explain why this record blocks a row; None if it does not."""
        is_same_token = _is_same_token(found, row)
        if found.status not in FINAL:
            return self._explain_in_progress("serial number" if is_same_token else "device", found)
        # A mend checks the record's own OTPs.
        is_itself = is_same_token and found.batch_id == self._batch_id
        if is_itself or not isinstance(row.otps, OtpPair):
            return None
        if find_used_otps(self._keyring, found, self.open(found)) & {row.otps.first, row.otps.second}:
            return _refuse_used_otp(f"{self._name_batch(found)!r} (row {found.row_number})")
        return None

    def _choose_counter(self, row: Row, earlier: Iterable[Found]) -> int | None:
        """Choose the first counter for a seed; None for a pair. It follows the counters that earlier records of the
        same token used with their seeds or pairs, so that no counter is used twice."""
        if not isinstance(row.otps, Seed):
            return None
        sources = [(found, self.open(found)) for found in earlier]
        used = [count_used(found) for found, source in sources if _is_same_seed(row.otps, found, source)]
        pairs = [find_used_otps(self._keyring, *each) for each in sources if each[0].next_counter is None]
        return max([skip_used_otps(row.otps, frozenset().union(*pairs)), *used])

    def _explain_in_progress(self, what: str, found: Found) -> Refusal:
        if found.batch_id == self._batch_id:
            return _refuse_repeated(what, found.row_number)
        return (
            f"the {what} is in progress in batch {self._name_batch(found)!r} (row {found.row_number}):"
            " wait until it is finished, or cancel it there",
            RowFault.IN_PROGRESS,
        )

    def _name_batch(self, found: Found) -> str:
        return self._connection.scalars(select(Batch.name).where(Batch.id == found.batch_id)).one()


# Number of counters of an HOTP seed that are searched for OTPs that were sent.
_LOOKED_THROUGH = 100


def _is_same_seed(seed: Seed, found: Found, source: OtpSource | None) -> bool:
    """Whether an earlier record had this seed. A seed that was erased, or whose key is missing, counts as the same."""
    had_seed = found.next_counter and found.otp_type == seed.otp_type
    return bool(had_seed) and (not isinstance(source, Seed) or source.secret == seed.secret)


def count_used(found: Any) -> int:
    """Count the counters that the seed of a record has used; one more if OTP 1 was sent and OTP 2 was not, since
    PingOne may be waiting for OTP 2."""
    is_second_waited_for = found.otp1_state != OtpState.UNSENT and found.otp2_state == OtpState.UNSENT
    return int(found.next_counter + is_second_waited_for)


def skip_used_otps(seed: Seed, used: frozenset[Otp]) -> int:
    """Choose the first counter of a seed: its own; for HOTP, the counter after the last of these OTPs, if the seed
    makes any of them."""
    counters = range(seed.counter, seed.counter + _LOOKED_THROUGH) if used and seed.otp_type == "hotp" else ()
    return max((counter + 1 for counter in counters if seed.mint(counter) in used), default=seed.counter)


def find_used_otps(keyring: Keyring, found: Any, source: OtpSource | None) -> frozenset[Otp]:
    """Find the OTPs of a record that were sent, or may have been. `source`: the record's current pair or seed; if a
    pair was erased, `spent` takes its place. Finds nothing for a TOTP seed, which makes no OTP twice, or without the
    key."""
    if source is None and found.spent is not None:
        with suppress(DecryptionError):
            return open_spent(keyring, found.spent, found.batch_id, found.row_number)
    if isinstance(source, Seed) and source.otp_type == "hotp":
        end = found.next_counter or 0
        return frozenset(map(source.mint, range(max(found.first_counter or 0, end - _LOOKED_THROUGH), end)))
    if not isinstance(source, OtpPair):
        return frozenset()
    return source.list_sent(found.otp1_posts, found.otp2_posts)


def _refuse_repeated(what: str, row_number: int) -> Refusal:
    """Refuse a row whose serial number or device occurs in an earlier row of its file."""
    return f"the {what} is on row {row_number} already: keep one of the two rows", RowFault.REPEATED


def _is_same_token(found: Found, row: Row) -> bool:
    return bool(found.serial_number.lower() == row.serial_number.lower())


def _is_same_device_or_person(found: Found, row: Row) -> bool:
    """Whether an earlier record was for the device of a row; or for its person, if the row names no device."""
    return found.device_id == row.device_id if row.device_id else _is_same_person(found, row)


def _refuse_used_otp(batch: str) -> Refusal:
    """Refuse a row with an OTP that was sent before. `batch` says in which batch, in words."""
    reason = f"an OTP of this row was sent already, in batch {batch}: press the token for two fresh, consecutive OTPs"
    return reason, RowFault.OTPS_USED


def _is_same_person(found: Found, row: Row) -> bool:
    """Whether an earlier record was for the person of a row, by the first kind of name that both have."""
    for name in PERSON:
        earlier, new = getattr(found, name), getattr(row, name)
        if earlier and new:
            return fold_case(earlier) == fold_case(new)
    return False


def _identities(row: Row) -> list[tuple[str, str]]:
    """Values that no two records in progress may share: the serial number, and the device if it is known."""
    device = [("device", row.device_id)] if row.device_id else []
    return [("serial number", row.serial_number.lower()), *device]


class NameTaken(Exception):
    """Another batch has this name; `free` is an unused name. The message says what to type: the command that mends the
    existing batch, or `cure`, by default the option with the free name."""

    def __init__(self, name: str, free: str, cure: str | None = None) -> None:
        cure = cure or f"--batch {quote(free)}"
        super().__init__(
            f"a batch named {name!r} exists already: to add corrected rows, run `oathbulk mend {quote(name)} FILE`; "
            f"to load a new batch, use another name, such as: {cure}"
        )
        self.name = name
        self.free = free


class NameUnfit(Exception):
    """The name is too long, empty, begins with -, has blanks around it, or contains characters that cannot be
    printed."""


def check_name(connection: Connection, name: str) -> None:
    """Check that a name can be used. It may come from a stranger's file name, and is printed within commands, where a
    leading - would make it an option. Raises NameTaken, NameUnfit."""
    is_bare = name == name.strip() and not name.startswith("-")
    if not (is_bare and name.isprintable() and 0 < len(name) <= LONGEST_NAME):
        raise NameUnfit(
            f"a batch's name must have 1 to {LONGEST_NAME} printable characters, and must not begin with -, and must "
            "not begin or end with a space: use another --batch NAME"
        )
    if connection.scalar(select(Batch.id).where(Batch.name == name)) is not None:
        raise NameTaken(name, choose_free_name(name, read_names_like(connection, name)))


def choose_free_name(name: str, taken: Collection[str]) -> str:
    """Choose this name, or if it is taken, the first free one of NAME-2, NAME-3 …"""
    further = (f"{name}-{number}" for number in count(2))
    return name if name not in taken else next(each for each in further if each not in taken)


def read_names_like(connection: Connection, beginning: str) -> frozenset[str]:
    """Read the names of all batches that begin with this text."""
    return frozenset(connection.scalars(select(Batch.name).where(Batch.name.startswith(beginning, autoescape=True))))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A batch in the database. `is_new` is False if the file had been loaded before. `out_of_hours`: set if a new batch
    is outside its hours; says when they begin. `left_out`: rows that were left out on purpose, since their tokens are
    active in other batches. `purged_at`: when the records of a batch that was loaded before were purged. `dates`: how
    many records of a new batch begin on each date, or at once (None)."""

    batch_id: int
    name: str
    total: int
    rows_refused: int
    is_new: bool
    out_of_hours: OutOfHours | None = None
    left_out: int = 0
    purged_at: datetime | None = None
    dates: Mapping[datetime | None, int] = field(default_factory=dict, compare=False)


class AllActive(Exception):
    """All rows of a file were left out, since their tokens are active. Nothing is left to do, so there is no batch."""

    def __init__(self, rows: int) -> None:
        super().__init__("every row is active already")
        self.rows = rows


def find_loaded(connection: Connection, environment_id: str, fingerprint: str) -> Loaded | None:
    """Find the batch into which the file with this fingerprint was loaded earlier, unless that batch was cancelled."""
    columns = (Batch.id, Batch.name, Batch.total, Batch.rows_refused, Batch.purged_at)
    statement = select(*columns).where(
        Batch.environment_id == environment_id,
        Batch.file_sha256 == fingerprint,
        Batch.state != BatchState.CANCELLED,
    )
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    return Loaded(row.id, row.name, row.total, row.rows_refused, is_new=False, purged_at=row.purged_at)


def describe_known(loaded: Loaded) -> str:
    """Name the batch into which this file was loaded before."""
    purged = f", and was purged on {loaded.purged_at:%Y-%m-%d}" if loaded.purged_at else ""
    return f"This file was already loaded as batch {loaded.name}: {count_things(loaded.total, 'record')}{purged}."


@dataclass(slots=True)
class LoadCounts:
    """Counts the rows of a load, chunk by chunk. `left_out`: rows that are left out on purpose, since their tokens are
    active elsewhere. `dates`: how many rows begin on each date, or at once (None)."""

    total: int = 0
    rows_refused: int = 0
    left_out: int = 0
    dates: Counter[datetime | None] = field(default_factory=Counter)

    def add(self, written: Sequence[Row], refused: int, left_out: int) -> None:
        """Count one more chunk."""
        self.total += len(written)
        self.dates.update(row.not_before for row in written)
        self.rows_refused += refused
        self.left_out += left_out

    @property
    def rows(self) -> int:
        """All rows of the file so far."""
        return self.total + self.rows_refused + self.left_out

    @property
    def sums(self) -> dict[str, int]:
        """The counts that the batch keeps, by column name."""
        return {"total": self.total, "rows_refused": self.rows_refused}

    def explain_nothing_left(self) -> str | None:
        """Explain why the file is refused as a whole; None if it has a good row, or no refused row."""
        if self.total or not self.rows_refused:
            return None
        if not self.left_out:
            return explain_none_good(self.rows_refused)
        none = "one row" if self.rows_refused == 1 else f"{self.rows_refused:,} rows"
        others = count_things(self.left_out, "other")
        return f"{none} cannot be loaded, and {others} {agree(self.left_out, 'is', 'are')} already active"


def explain_none_good(rows: int) -> str:
    """Say that all `rows` of a file are refused."""
    return "its only row cannot be loaded" if rows == 1 else f"not one of its {rows:,} rows can be loaded"


# Ids that may still be unknown.
_IDS = ("user_id", "device_id")
# Columns that are written as they are in the file.
_SAME = ("row_number", *(column.attribute for column in COLUMNS if column.attribute not in _IDS))


class RecordRows:
    """Builds the database rows of one batch. `totp_max_age`: how long after its generation a TOTP pair may still be
    sent. `may_be_active`: a device in the file may be ACTIVE although no record says so, so it is read before its first
    OTP."""

    def __init__(
        self, keyring: Keyring, batch_id: int, totp_max_age: timedelta, *, may_be_active: bool = False
    ) -> None:
        self._keyring = keyring
        known = PairingState.UNSENT if may_be_active else PairingState.PAIRED
        self._batch_id = batch_id
        self._max_age = totp_max_age
        self._pick: Callable[[Row], tuple[Any, ...]] = attrgetter(*_SAME)
        # Columns derived from the row, and how to derive them.
        self._derived: dict[str, Callable[[Row], Any]] = {
            "user_id": lambda row: row.user_id or "",
            "device_id": lambda row: row.device_id or "",
            "pairing": lambda row: (known if row.device_id else PairingState.UNSENT).value,
            # A device exists only for a token that is in the inventory.
            "is_in_inventory": lambda row: row.device_id is not None,
            "extra": lambda row: row.extra or None,
            "otp_expires_at": self._expires_at,
            "has_second_otp": lambda row: not isinstance(row.otps, OtpPair) or row.otps.second is not None,
            "first_counter": _find_first_counter,
            "otps": self._seal,
        }
        # The column names, in the order of `values`.
        self.columns = ("next_counter", *_SAME, *self._derived)

    def values(self, record: NewRecord) -> tuple[Any, ...]:
        """The values of `columns` for this record."""
        row = record.row
        return (record.next_counter, *self._pick(row), *(derive(row) for derive in self._derived.values()))

    def _expires_at(self, row: Row) -> datetime | None:
        """When a TOTP pair becomes too old to be sent; None for HOTP, which does not age."""
        return row.generated_at + self._max_age if row.otp_type == "totp" and row.generated_at else None

    def _seal(self, row: Row) -> bytes:
        assert row.otps is not None, "a row without OTPs is refused before"  # noqa: S101
        return self._keyring.seal(row.otps.to_plaintext(), identify_row(self._batch_id, row.row_number))


def _find_first_counter(row: Row) -> int | None:
    """The current counter of the token itself; None for a pair, which was read off the token, and for TOTP."""
    return row.otps.counter if isinstance(row.otps, Seed) and row.otp_type == "hotp" else None


_REFUSED_COLUMNS = ("row_number", "serial_number", "reason", "detail")


class RefusedRows:
    """Writes the refused rows of one batch."""

    def __init__(self, connection: Connection, environment_id: str, batch_id: int) -> None:
        table = RefusedRow.metadata.tables[RefusedRow.__tablename__]
        same = {"batch_id": batch_id, "environment_id": environment_id}
        self._writer = RowWriter(connection, table, _REFUSED_COLUMNS, same)

    def write(self, errors: Sequence[RowError]) -> None:
        """Write these rows. The reason of a RowError contains no secret."""
        if not errors:
            return
        with self._writer.writing() as write:
            for error in errors:
                write((error.row_number, error.serial_number, str(error.fault), error.reason[:LONGEST_DETAIL]))


def forget_refused_rows(connection: Connection, batch_id: int, row_numbers: Collection[int]) -> int:
    """Delete the refused rows with these numbers from a batch, since their tokens have records now. Returns how
    many."""
    mended = delete(RefusedRow).where(RefusedRow.batch_id == batch_id, RefusedRow.row_number.in_(row_numbers))
    return connection.execute(mended).rowcount if row_numbers else 0


def needs_trial(connection: Connection, environment_id: str) -> bool:
    """Whether a batch in this environment begins with a few records: no token has become active there yet, and no batch
    there was purged."""
    here = select(Record.id).where(Record.environment_id == environment_id, Record.status == Status.ACTIVE)
    return connection.scalar(here.limit(1)) is None and not has_purged(connection, environment_id)


def has_purged(connection: Connection, environment_id: str) -> bool:
    """Whether batches of this environment were purged, so that it is no longer known which tokens they activated."""
    purged = select(Batch.id).where(Batch.environment_id == environment_id, Batch.purged_at.is_not(None))
    return connection.scalar(purged.limit(1)) is not None


# Rows that are looked up and written together. This bounds the memory that a load needs, whatever the size of the file.
CHUNK = 1000


class Loader:
    """Loads shipments into one environment. `totp_max_age` is in seconds. In an environment where no token has become
    active, a batch begins with its `first_records`."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        environment: Environment,
        actor: Actor,
        *,
        totp_max_age: float = 120.0,
        first_records: int = 0,
        on_refused: Callable[[RowError], None] = lambda _: None,
        on_progress: OnProgress = tell_nobody,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._environment = environment
        self._actor = actor
        self._max_age = timedelta(seconds=totp_max_age)
        self._first_records = first_records
        self._on_refused = on_refused
        self._on_progress = on_progress

    def load(
        self,
        shipment: Shipment,
        name: str,
        canary: int | None = None,
        daily_hours: DailyHours | None = None,
        accepted: Sequence[str] = (),
    ) -> Loaded:
        """Write the batch and its records, all or nothing. With a `canary`, the batch pauses after this many records,
        unless that is all of them; with hours, it runs only within them. `accepted`: findings of the preflight that a
        person accepted, for the audit. Raises NameTaken, NameUnfit, OtherHours; UnusableFile if no row can be loaded;
        AllActive if all rows were left out."""
        with self._database.writing() as connection:
            self._database.lock(connection, LOAD_LOCK)
            if found := find_loaded(connection, self._environment.environment_id, shipment.fingerprint):
                hours.check_same_hours(connection, found.batch_id, found.name, daily_hours)
                return found
            check_name(connection, name)
            batch_id = self._insert_batch(connection, shipment, name)
            counts = self._insert_records(connection, shipment, batch_id)
            if problem := counts.explain_nothing_left():
                raise UnusableFile(shipment.path, problem, "Correct them first")
            if not counts.total:
                raise AllActive(counts.left_out)
            hours.set_hours(connection, batch_id, daily_hours)
            if counts.dates.keys() - {None}:
                put_off(connection, batch_id)
            held_back = self._choose_first(connection, canary, counts.total)
            connection.execute(update(Batch).where(Batch.id == batch_id).values(counts.sums | held_back))
            facts = describe_files(shipment) | {"canary": canary, "window": daily_hours and str(daily_hours)}
            facts |= {"environment": self._environment.name} | counts.sums
            others = {"left_out": counts.left_out, "accepted": list(accepted)}
            facts |= {key: value for key, value in others.items() if value}
            audit.append(self._database, connection, self._actor, Action.LOAD, name, facts)
            out_of_hours = hours.check_hours(self._database, connection, batch_id)
            self._database.analyze(connection, Record.__tablename__)
            return Loaded(
                batch_id,
                name,
                counts.total,
                counts.rows_refused,
                is_new=True,
                out_of_hours=out_of_hours,
                left_out=counts.left_out,
                dates=counts.dates,
            )

    def _choose_first(self, connection: Connection, canary: int | None, total: int) -> dict[str, int]:
        """Choose how many records run before all others, as the columns `canary` and `trial` of a batch. A number that
        covers the whole batch is left out, so that nothing is held back."""
        trial = self._first_records
        if trial and not needs_trial(connection, self._environment.environment_id):
            trial = 0
        first = {"canary": canary, "trial": trial}
        return {name: number for name, number in first.items() if number and number < total}

    def _insert_batch(self, connection: Connection, shipment: Shipment, name: str) -> int:
        values = {
            "name": name,
            "environment": self._environment.name,
            "environment_id": self._environment.environment_id,
            "file": escape_line(str(shipment.path)),
            "file_sha256": shipment.fingerprint,
            "columns": shipment.columns,
            "may_import": shipment.switches.may_import,
            "may_pair": shipment.switches.may_pair,
            "created_at": self._database.now(),
            "running_since": self._database.now(),
            "judged_after": hours.latest_attempt(),
            "running_after": hours.latest_attempt(),
        }
        return int(connection.scalar(insert(Batch).values(values).returning(Batch.id)) or 0)

    def _insert_records(self, connection: Connection, shipment: Shipment, batch_id: int) -> LoadCounts:
        """Write the records, and count the rows."""
        environment_id = self._environment.environment_id
        now = connection.execute(select(self._database.now())).scalar_one()
        conflicts = Conflicts(connection, self._keyring, environment_id, now, batch_id, is_written=True)
        may_be_active = has_purged(connection, environment_id)
        record_rows = RecordRows(self._keyring, batch_id, self._max_age, may_be_active=may_be_active)
        writer = make_record_writer(self._database, connection, record_rows.columns, batch_id, environment_id)
        refused_rows = RefusedRows(connection, environment_id, batch_id)
        counts, analyzed = LoadCounts(), 0
        rows = shipment.rows()
        chunk = list(islice(rows, CHUNK))
        while chunk:
            errors = [row for row in chunk if isinstance(row, RowError)]
            whole = [row for row in chunk if isinstance(row, Row)]
            good, conflicting = conflicts.split(whole)
            left_out, refused = part_left_out(shipment, conflicting)
            errors += refused
            with writer.writing() as write:
                for record in good:
                    write(record_rows.values(record))
                # Read the next chunk while PostgreSQL works on this one.
                chunk = list(islice(rows, CHUNK))
            errors.sort(key=lambda error: error.row_number)
            refused_rows.write(errors)
            for error in errors:
                self._on_refused(error)
            counts.add([record.row for record in good], len(errors), len(left_out))
            if chunk:
                self._on_progress("Loading rows", counts.rows)
            if counts.total > 10 * analyzed:
                # For the next look-ups: without statistics, PostgreSQL may pick the wrong index.
                self._database.analyze(connection, Record.__tablename__)
                analyzed = counts.total
        return counts


def part_left_out(shipment: Shipment, errors: Sequence[RowError]) -> tuple[list[RowError], list[RowError]]:
    """Separate the rows that a shipment leaves out on purpose from those that are refused."""
    left_out = [error for error in errors if shipment.only_new and error.fault == RowFault.ACTIVE_ELSEWHERE]
    return left_out, [error for error in errors if error not in left_out]


def describe_files(shipment: Shipment) -> dict[str, Any]:
    """Describe the files of a shipment for the audit, by name and SHA-256. Files with a key or a password are left out:
    their content could be guessed from the digest."""
    about = {"file": escape_line(shipment.path.name), "sha256": shipment.digest}
    if listed := shipment.assignment:
        about |= {"list_file": escape_line(listed.path.name), "list_sha256": listed.digest}
    return about


def make_record_writer(
    database: Database, connection: Connection, columns: tuple[str, ...], batch_id: int, environment_id: str
) -> RowWriter:
    """Make a writer of new records of a batch. It writes these columns, and those with the same value in every
    record."""
    same = {
        "batch_id": batch_id,
        "environment_id": environment_id,
        "scheduled_at": connection.scalar(select(database.now())),
    }
    return RowWriter(connection, Record.metadata.tables[Record.__tablename__], columns, same)
