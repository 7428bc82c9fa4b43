"""Mends a batch: writes corrected rows into the batch that they belong to, all in one transaction.

`Corrections` finds the record or refused row of the batch that each row corrects, and what the row changes; `Mender`
writes it. `give`, `take_back` and `mend_pair` change one token for the person at the desk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from shlex import quote
from typing import Any

from sqlalchemy import Connection, and_, false, func, null, or_, select, update
from sqlalchemy import Row as ResultRow

from models.audit import Action, AuditLine
from models.batch import Batch, BatchState
from models.change import Change
from models.encrypted import DecryptionError, Keyring
from models.person import NAMES, PERSON
from models.record import Record, has_begun, is_on_the_table, needs_fresh_otps
from models.record_states import ENDED_BY_PERSON, FINAL, NOBODY, OtpState, OtpType, Status
from models.refused_row import RefusedRow
from models.row_fault import RowFault
from worker import audit
from worker.audit import Actor
from worker.batches import hours
from worker.batches.commands import NotPossible
from worker.batches.finding import find_batch, find_seed_file
from worker.batches.loading import (
    CHUNK,
    Conflicts,
    FirstRows,
    Found,
    NewRecord,
    RecordRows,
    count_used,
    describe_files,
    find_used_otps,
    forget_refused_rows,
    has_purged,
    make_record_writer,
    skip_used_otps,
)
from worker.database.engine import LOAD_LOCK, Database
from worker.intake.files import Header
from worker.intake.otp_pairs import PairReader
from worker.intake.rows import (
    FILE_ROW,
    UUID,
    Row,
    RowError,
    UnusableFile,
    explain_missing_ids,
    refuse_unfit,
    spell_columns,
)
from worker.intake.shipment import Shipment, Switches
from worker.leases.moves import give_out, put_first, put_off, set_date
from worker.leases.replay import REASONS_OF_THE_INVENTORY, is_replayable, mend, put_back
from worker.observability.progress import OnProgress, tell_nobody
from worker.pingone.devices import fold_case
from worker.vault.otps import Otp, OtpPair, OtpSource, Seed, open_otps

OTHER_TOKEN = (
    f"{FILE_ROW} and serial name different tokens: the file was exported from another batch, or a column was sorted "
    f"or filled alone; take the row from this batch's export again"
)
NO_ROW = (
    f"{FILE_ROW} names no row of this batch: the file may be another batch's export; or clear that cell, so that the "
    f"row is found by its serial number"
)
TWICE = "the token is on row {row} of this file already, under another name: keep one of the two rows"
OTHER_TYPE = (
    "otp_type is missing or says hotp, but the token was loaded as totp: restore the column, with totp and the "
    "generated_at of the fresh OTPs"
)
OLD_NAME = (
    "the row names another person, but also the earlier one, by a name that has precedence (user_id, username, "
    "email, external_id): clear what is no longer true"
)
WAITS_FOR_ANOTHER = (
    "the row names somebody other than its record's person, and the record is still to do: close it first with "
    "`oathbulk cancel {batch} --where serial={serial}`, then mend"
)
BEGUN_FOR_ANOTHER = (
    "the row names somebody other than its record's person, and the record has begun: when it has ended, run `oathbulk "
    "undo {batch} --only FILE` with this serial number, then mend"
)
ACTIVE_FOR_ANOTHER = (
    "the token is active, and the row names somebody other than the person who has it: run `oathbulk undo {batch} "
    "--only FILE` with this serial number first, then mend"
)
OTHER_ZEROS = (
    "the batch has this token as {serial}: write it that way, with its zeros, or name it by {file_row} as its export "
    "does"
)
OLD_TIME = "generated_at is that of the earlier pair: enter when the fresh OTPs were produced"
SENT_BEFORE = "an OTP of this row was sent already: press the token for two fresh, consecutive OTPs"
HAS_SEED = (
    "the batch has the seed of this token, which makes its OTPs: clear otp1 and otp2, or give the vendor's file if "
    "the seed is wrong"
)
NO_FRESH_OTPS = (
    "otp1 and otp2 are empty, and the earlier OTPs cannot be sent again: press the token for two fresh, consecutive "
    "OTPs, and enter them there"
)
NO_SEED = (
    "the seed of this token was erased when it became active: give the vendor's file, with a list of who gets a "
    "token again (--assign FILE)"
)
NO_OTPS = (
    "the batch has neither OTPs nor a seed of this token: write two fresh, consecutive OTPs into otp1 and otp2, "
    "or give the vendor's file; or the serial differs from the loaded one, for example in its zeros"
)
KEY_IS_GONE = (
    "the key that encrypted its OTPs or seed is not among OATHBULK_ENCRYPTION_KEYS: add it after the first; if it is "
    "lost, give the vendor's file if the batch had a seed, or load fresh OTPs as a new batch"
)
DEVICE_OF_ANOTHER = (
    "the batch made a device of this token for another person, or under another name: name the person as the batch "
    "does, or remove the device first with `oathbulk undo BATCH --only FILE`"
)
TYPE_BOTH = (
    "type both OTPs as the token showed them, one after the other: each has 6 or 8 digits, including leading zeros; "
    "a token with a clock shows the second one when its number changes"
)
HAS_OWNER = (
    "PingOne has the token as a device already: find out whose it is, and unpair it there; or name another token"
)
OTHER_SEED = "the batch imported this token with another seed: remove it first with `oathbulk undo BATCH --only FILE`"


@dataclass(frozen=True, slots=True)
class Correction:
    """An accepted row: it changes a record of the batch, or becomes a new record. `record`: the record before the
    change; None if it is new. `is_fresh`: the row has its own OTPs or seed. `is_sought`: the token must be looked up in
    the inventory again."""

    new: NewRecord
    record: Found | None = None
    is_fresh: bool = True
    is_sought: bool = False


@dataclass(slots=True)
class Corrected:
    """The result for some rows: `corrections` are accepted, `errors` are refused. `cured`: numbers of rows that were
    refused before and are good now. By record id: `dates` has new dates for records that have not begun, and `given`
    has rows that name the owner of a token that waits to be given out."""

    corrections: list[Correction] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)
    cured: set[int] = field(default_factory=set)
    dates: dict[int, datetime] = field(default_factory=dict)
    given: dict[int, Row] = field(default_factory=dict)


@dataclass(slots=True)
class Mended:
    """What a mend did, counted in rows of its file. `again`: records of the batch that run again; `added`: new records,
    for rows that are new or were not loaded; `given`: tokens given out; `dated`: records whose only change is the date
    on which they begin. Unchanged: `active`, `in_work`, `taken_back` by an undo or closed by a person, and `left_out`,
    since another batch made the token active. `refused`: rows that are reported one by one and change nothing.
    `is_paused`: the batch is paused, so nothing runs yet."""

    again: int = 0
    added: int = 0
    given: int = 0
    dated: int = 0
    active: int = 0
    in_work: int = 0
    taken_back: int = 0
    left_out: int = 0
    refused: int = 0
    is_paused: bool = False


@dataclass(frozen=True, slots=True)
class MendedBatch:
    """The batch to mend. `may_pair`: the batch may pair tokens, so a record needs no device. `only_new`: rows whose
    tokens another batch made active are left out instead of refused. `spelled`: the file's column names, as the batch
    spells them."""

    id: int
    name: str
    environment_id: str
    may_pair: bool
    only_new: bool = False
    spelled: Mapping[str, str] = field(default_factory=dict)


class Corrections:
    """Compares rows with one batch, within a transaction, and counts the results. `is_written`: the caller writes good
    rows at once; otherwise this object remembers them. `now`: the database's time."""

    def __init__(
        self, connection: Connection, keyring: Keyring, batch: MendedBatch, now: datetime, *, is_written: bool = False
    ) -> None:
        self._connection = connection
        self._keyring = keyring
        self._batch = batch
        self.counts = Mended()
        self._conflicts = Conflicts(connection, keyring, batch.environment_id, now, batch.id, is_written=is_written)
        self._next_row = 1 + max(self._find_last_row(Record), self._find_last_row(RefusedRow))
        # Row numbers in this file, by the row number in the batch.
        self._seen = FirstRows()

    def judge(self, rows: Sequence[Row]) -> Corrected:
        """Decide what these rows change."""
        places = _Places(self._connection, self._batch, rows)
        done = Corrected()
        candidates: dict[int, tuple[Row, Correction]] = {}
        for written in rows:
            extra = {self._batch.spelled.get(name, name): value for name, value in written.extra.items()}
            row = replace(written, extra=extra)
            place = places.find(row)
            outcome = self._judge(row, place, done) if isinstance(place, _Place) else place
            if isinstance(outcome, RowError):
                done.errors.append(outcome)
                continue
            done.cured |= places.refused_with(row)
            if outcome is not None:
                candidates[outcome.new.row.row_number] = (row, outcome)
        good, conflicting = self._conflicts.split([correction.new.row for _, correction in candidates.values()])
        for new in good:
            _, correction = candidates[new.row.row_number]
            counter = max(new.next_counter, correction.new.next_counter or 0) if new.next_counter is not None else None
            done.corrections.append(replace(correction, new=NewRecord(new.row, counter)))
            self.counts.again += correction.record is not None
            self.counts.added += correction.record is None
        for error in conflicting:
            row, _ = candidates[error.row_number]
            if self._batch.only_new and error.fault == RowFault.ACTIVE_ELSEWHERE:
                self.counts.left_out += 1
                continue
            done.errors.append(replace(error, row_number=row.row_number))
            done.cured -= places.refused_with(row)
        return done

    def find_second_tokens(self, corrected: Corrected) -> list[Row]:
        """Find the rows whose person already has another token of the batch, active or on its way."""
        rows = [*(correction.new.row for correction in corrected.corrections), *corrected.given.values()]
        return _find_second_tokens(self._connection, self._batch.id, rows)

    def _find_last_row(self, table: type[Record | RefusedRow]) -> int:
        last = select(func.max(table.row_number)).where(table.batch_id == self._batch.id)
        return self._connection.scalar(last) or 0

    def _judge(self, row: Row, place: _Place, done: Corrected) -> Correction | RowError | None:
        """Decide what a row changes; None if its record stays as it is, or gets only a date or a person."""
        number = place.row_number
        if number is not None and (first := self._seen.setdefault(str(number), row.row_number)) != row.row_number:
            return RowError(row.row_number, TWICE.format(row=first), row.serial_number, RowFault.REPEATED)
        record = place.record
        if record is None:
            return self._add(replace(row, serial_number=place.serial_number), number)
        if record.status == Status.ACTIVE:
            if any(_find_differences(row, record)):
                reason = ACTIVE_FOR_ANOTHER.format(batch=quote(self._batch.name))
                return RowError(row.row_number, reason, row.serial_number, RowFault.PERSON_UNFIT)
            self.counts.active += 1
            return None
        if record.is_on_the_table and row.names_somebody:
            if record.owner_id not in (None, NOBODY):
                return RowError(row.row_number, HAS_OWNER, row.serial_number, RowFault.PERSON_UNFIT)
            self.counts.given += 1
            extra = (record.extra or {}) | {name: value for name, value in row.extra.items() if value}
            done.given[record.id] = replace(row, extra=extra, not_before=row.not_before or record.not_before)
            return None
        if record.status not in FINAL:
            if any(_find_differences(row, record)):
                reason = BEGUN_FOR_ANOTHER if record.has_begun else WAITS_FOR_ANOTHER
                told = reason.format(batch=quote(self._batch.name), serial=quote(record.serial_number))
                return RowError(row.row_number, told, row.serial_number, RowFault.PERSON_UNFIT)
            if row.not_before in (None, record.not_before) or record.has_begun:
                self.counts.in_work += 1
            else:
                self.counts.dated += 1
                done.dates[record.id] = row.not_before
            return None
        return self._correct(row, record)

    def _add(self, row: Row, number: int | None) -> Correction | RowError:
        """Make a new record from a row. If the row was refused before, it keeps its number; otherwise it gets the next
        one."""
        if missing := explain_missing_ids(row, may_pair=self._batch.may_pair):
            return RowError(row.row_number, missing, row.serial_number, RowFault.PERSON_UNFIT)
        if row.otps is None:
            return RowError(row.row_number, NO_OTPS, row.serial_number, RowFault.OTPS_UNFIT)
        if number is None:
            number, self._next_row = self._next_row, self._next_row + 1
        return Correction(NewRecord(replace(row, row_number=number)))

    def _correct(self, row: Row, record: Found) -> Correction | RowError | None:
        """Complete a row with the data of its record, which was given up or cancelled. None if an undo or a person
        ended the record and the row says nothing new: an old list must not give the token back to somebody who left."""

        def refuse(reason: str, fault: RowFault = RowFault.OTPS_USED) -> RowError:
            return RowError(row.row_number, reason, record.serial_number, fault)

        has_device = bool(record.is_device_made and record.device_id)
        is_other_device = row.device_id not in (None, record.device_id)
        differences = _find_differences(row, record)
        if record.reason in ENDED_BY_PERSON and not any(differences) and not is_other_device and row.otps is None:
            self.counts.taken_back += 1
            return None
        if not has_device and any(differences) and not differences[0]:
            return refuse(OLD_NAME, RowFault.PERSON_UNFIT)
        if has_device and (is_other_device or not _names_same_person(row, record)):
            return refuse(DEVICE_OF_ANOTHER, RowFault.PERSON_UNFIT)
        try:
            source = record.otps and open_otps(self._keyring, record.otps, record.batch_id, record.row_number)
        except DecryptionError:
            if not _goes_without_knowing(row, record):
                return refuse(KEY_IS_GONE)
            source = None
        # A device that was made for a person stays with that person, whatever names the row adds.
        keeps_person = has_device or _adds_no_name(row, record)
        used = find_used_otps(self._keyring, record, source)
        otps = _choose_otps(row, record, source, used, is_other_device=is_other_device or not keeps_person)
        if isinstance(otps, str):
            return refuse(otps)
        is_sought = not has_device and (not keeps_person or record.reason in REASONS_OF_THE_INVENTORY)
        keeps_device = not is_sought or record.owner_id is None
        complete = _complete(row, record, otps, keeps_person=keeps_person, keeps_device=keeps_device)
        if missing := explain_missing_ids(complete, may_pair=self._batch.may_pair):
            return refuse(missing, RowFault.PERSON_UNFIT)
        counter = _skip_counters(record, used, otps) if isinstance(otps, Seed) else None
        return Correction(NewRecord(complete, counter), record, row.otps is not None, is_sought)


def _complete(row: Row, record: Found, otps: OtpSource, *, keeps_person: bool, keeps_device: bool) -> Row:
    """Fill in a row's missing values from its record. `otps`: the OTPs or seed with which the record continues."""
    known: dict[str, Any] = {}
    if keeps_person:
        known = {name: getattr(row, name) or getattr(record, name) or None for name in PERSON}
    if row.otps is None:
        known |= {"otp_type": record.otp_type, "generated_at": record.generated_at}
    return replace(
        row,
        row_number=record.row_number,
        serial_number=record.serial_number,
        device_id=row.device_id or (record.device_id if keeps_device else None) or None,
        lot=row.lot or record.lot,
        not_before=row.not_before or record.not_before,
        extra=(record.extra or {}) | {name: value for name, value in row.extra.items() if value},
        otps=otps,
        **known,
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a row belongs in its batch: the `row_number` of its `record`, or of the refused row; None if the row is
    new. `serial_number`: as the batch spells it."""

    record: Found | None
    row_number: int | None
    serial_number: str


class _Places:
    """The records and refused rows of a batch to which some rows of a file may refer."""

    def __init__(self, connection: Connection, batch: MendedBatch, rows: Sequence[Row]) -> None:
        serials = {row.serial_number.lower() for row in rows}
        numbers = {row.file_row for row in rows if row.file_row}
        states = [is_replayable().label("is_replayable"), has_begun().label("has_begun")]
        states.append(is_on_the_table().label("is_on_the_table"))
        records = _read(connection, Record, batch, serials, numbers, *states)
        self._records = {record.row_number: record for record in records}
        self._by_serial = {record.serial_number.lower(): record for record in records}
        refused = _read(connection, RefusedRow, batch, serials, numbers)
        self._refused = {each.row_number: each.serial_number for each in refused}
        self._refused_by_serial: dict[str, set[int]] = {}
        for each in refused:
            self._refused_by_serial.setdefault((each.serial_number or "").lower(), set()).add(each.row_number)
        known = self._by_serial.keys() | self._refused_by_serial.keys()
        new = {row.serial_number.lower() for row in rows if not row.file_row} - known
        bare = func.ltrim(Record.serial_key, "0")
        alike = select(bare.label("bare"), Record.serial_number).where(
            Record.batch_id == batch.id, bare.in_({serial.lstrip("0") for serial in new})
        )
        # The batch's serial numbers, keyed by the number without its leading zeros, which spreadsheets drop.
        found = connection.execute(alike).all() if new else []
        self._alike: dict[str, str] = {each.bare: each.serial_number for each in found}

    def refused_with(self, row: Row) -> frozenset[int]:
        """Find the numbers of the refused rows that a row corrects: its own, and others with the same serial number."""
        named = {row.file_row} if row.file_row and row.file_row in self._refused else set[int]()
        return frozenset(named | self._refused_by_serial.get(row.serial_number.lower(), set()))

    def find(self, row: Row) -> _Place | RowError:
        """Find where a row belongs: by its row number if it has one, otherwise by its serial number."""
        if row.file_row and (record := self._records.get(row.file_row)):
            # A spreadsheet may have dropped its leading zeros.
            if row.serial_number.lower() not in _spellings(record.serial_number):
                return RowError(row.row_number, OTHER_TOKEN, row.serial_number, RowFault.FILE_ROW_UNFIT)
            return _Place(record, record.row_number, record.serial_number)
        if row.file_row and row.file_row not in self._refused:
            return RowError(row.row_number, NO_ROW, row.serial_number, RowFault.FILE_ROW_UNFIT)
        if record := self._by_serial.get(row.serial_number.lower()):
            return _Place(record, record.row_number, record.serial_number)
        number = row.file_row or min(self.refused_with(row), default=None)
        if number is None and (serial := self._alike.get(row.serial_number.lstrip("0").lower())):
            reason = OTHER_ZEROS.format(serial=serial, file_row=FILE_ROW)
            return RowError(row.row_number, reason, row.serial_number, RowFault.SERIAL_UNFIT)
        refused = self._refused.get(number) if number else None
        is_same = refused and row.serial_number.lower() in _spellings(refused)
        return _Place(None, number, refused if refused and is_same else row.serial_number)


def _read(
    connection: Connection, table: Any, batch: MendedBatch, serials: set[str], numbers: set[int], *others: Any
) -> Sequence[Found]:
    """Read a batch's rows of a table that have one of these serial numbers or row numbers: all columns, and the
    `others`."""
    of_batch = select(table.__table__, *others).where(table.batch_id == batch.id)
    # Each half has its own index, which begins with the environment or the batch.
    by_serial = and_(table.environment_id == batch.environment_id, table.serial_key.in_(serials))
    which = or_(by_serial, and_(table.batch_id == batch.id, table.row_number.in_(numbers)))
    return connection.execute(of_batch.where(which)).all()


def _spellings(serial_number: str) -> tuple[str, str]:
    """A serial number in lowercase, as it is and without its leading zeros."""
    return serial_number.lower(), serial_number.lstrip("0").lower()


def list_names(person: Any) -> list[tuple[str, str]]:
    """List a person's names, each as its kind and its case-folded value."""
    return [(name, fold_case(value)) for name in PERSON if (value := getattr(person, name))]


def _find_differences(row: Row, record: Found) -> list[bool]:
    """Say for each name that both have whether it differs, the most certain name first."""
    names = [(getattr(row, name), getattr(record, name)) for name in PERSON]
    return [fold_case(new) != fold_case(known) for new, known in names if new and known]


def _adds_no_name(row: Row, record: Found) -> bool:
    """Whether the record already has every name in a row."""
    names = [(getattr(row, name), getattr(record, name)) for name in PERSON if getattr(row, name)]
    return all(fold_case(new) == fold_case(known or "") for new, known in names)


def _names_same_person(row: Row, record: Found) -> bool:
    """Whether a row names nobody, or the person of its record: they share at least one kind of name, and all shared
    names agree."""
    named = [(getattr(row, name), getattr(record, name)) for name in PERSON if getattr(row, name)]
    both = [(new, known) for new, known in named if known]
    return (bool(both) or not named) and all(fold_case(new) == fold_case(known) for new, known in both)


def _goes_without_knowing(row: Row, record: Found) -> bool:
    """Whether a row can be accepted although the OTPs of its record cannot be decrypted: either none of those OTPs was
    sent, or both have a seed and the record's counter shows how far its seed was used."""
    was_posted = record.otp1_posts + record.otp2_posts + record.posts_forgiven
    return row.otps is not None and (not was_posted or (isinstance(row.otps, Seed) and record.next_counter is not None))


def _choose_otps(
    row: Row, record: Found, source: OtpSource | None, used: frozenset[Otp], *, is_other_device: bool
) -> OtpSource | str:
    """Choose the OTPs or the seed with which a record continues: the row's, otherwise its own (`source`). If neither
    can be used, returns the reason. OTPs that the record has `used` are not sent again, and a pair that was sent to one
    device is never sent to another."""
    if row.otps is None:
        is_sent = isinstance(source, OtpPair) and bool(record.otp1_posts + record.otp2_posts)
        if source is not None and record.is_replayable and not (is_sent and is_other_device):
            return source
        return NO_SEED if record.next_counter is not None else NO_FRESH_OTPS
    if isinstance(row.otps, Seed):
        is_imported = record.import_job_id is not None or (record.is_token_made and record.is_in_inventory)
        if is_imported and isinstance(source, Seed) and source.secret != row.otps.secret:
            return OTHER_SEED
        return row.otps
    if isinstance(source, Seed):
        return HAS_SEED
    if used & {row.otps.first, row.otps.second}:
        return SENT_BEFORE
    if record.otp_type == OtpType.TOTP and row.otp_type == "hotp":
        return OTHER_TYPE
    if record.otp_type == OtpType.TOTP and source is not None and row.generated_at == record.generated_at:
        return OLD_TIME
    return OtpPair(row.otps.first, row.otps.second, used)


def _skip_counters(record: Found, used: frozenset[Otp], seed: Seed) -> int:
    """Choose a seed's first counter, past all counters already sent: those from the record's seeds, plus one after an
    OTP 1, since PingOne may wait for its OTP 2; or those from the pair that the record had. This applies to a different
    secret too, since the record may have had it before."""
    if record.next_counter is None:
        return skip_used_otps(seed, used)
    if record.otp_type != seed.otp_type:
        return seed.counter
    return max(seed.counter, count_used(record))


_CHANGED = "another command is changing the same records: nothing was done, try again"
_BATCH_COLUMNS = (
    *(Batch.id, Batch.name, Batch.environment_id, Batch.state, Batch.file, Batch.columns, Batch.may_pair),
)


class Mender:
    """Mends batches with corrected rows. `totp_max_age` is in seconds."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        actor: Actor,
        *,
        totp_max_age: float = 120.0,
        on_refused: Callable[[RowError], None] = lambda _: None,
        on_progress: OnProgress = tell_nobody,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._actor = actor
        self._max_age = timedelta(seconds=totp_max_age)
        self._on_refused = on_refused
        self._on_progress = on_progress

    def mend(self, shipment: Shipment, name: str, accepted: Sequence[str] = ()) -> Mended:
        """Write the rows of a file into the batch with this name, all or nothing. A cancelled batch runs again; a
        paused batch stays paused. `accepted`: findings of the preflight that a person accepted, for the audit. Raises
        UnknownBatch, NotPossible, UnusableFile."""
        with self._database.changing_many(LOAD_LOCK) as connection:
            batch = find_batch(connection, name, *_BATCH_COLUMNS, is_locking=True)
            mended, cured = self.mend_rows(connection, batch, _describe_batch(batch, shipment), shipment.tokens())
            is_of_batch = mended.again or mended.given or mended.dated or mended.active or mended.in_work or cured
            if mended.added and not is_of_batch:
                problem = f"none of its tokens is in batch {batch.name!r}"
                raise UnusableFile(shipment.path, problem, "Load it as a new batch, or mend the batch it belongs to")
            if mended.again or mended.added or mended.given:
                self._let_go(connection, shipment, batch)
            facts = describe_files(shipment) | asdict(mended) | {"accepted": list(accepted)}
            del facts["is_paused"]
            audit.append(self._database, connection, self._actor, Action.MEND, name, facts)
            return mended

    def mend_rows(
        self,
        connection: Connection,
        batch: ResultRow[*tuple[Any, ...]],
        mended_batch: MendedBatch,
        rows: Iterable[Row | RowError],
    ) -> tuple[Mended, int]:
        """Write each row's changes in the caller's transaction. Returns the counts, and how many rows that were refused
        before are good now. Raises NotPossible."""
        now = connection.execute(select(self._database.now())).scalar_one()
        corrections = Corrections(connection, self._keyring, mended_batch, now, is_written=True)
        mended = corrections.counts
        mended.is_paused = batch.state == BatchState.PAUSED
        may_be_active = has_purged(connection, batch.environment_id)
        record_rows = RecordRows(self._keyring, batch.id, self._max_age, may_be_active=may_be_active)
        write = _Writer(self._database, connection, batch, record_rows)
        left, done, cured = iter(rows), 0, 0
        while chunk := list(islice(left, CHUNK)):
            corrected = corrections.judge([row for row in chunk if isinstance(row, Row)])
            cured += write.write(corrected)
            errors = [row for row in chunk if isinstance(row, RowError)] + corrected.errors
            for error in sorted(errors, key=lambda error: error.row_number):
                self._on_refused(error)
            mended.refused += len(errors)
            done += len(chunk)
            self._on_progress("Mending rows", done)
        if mended.again or mended.added:
            put_off(connection, batch.id)
        values: dict[str, Any] = {"total": Batch.total + mended.added, "rows_refused": Batch.rows_refused - cured}
        if mended.again or mended.added or mended.given or mended.dated:
            values["columns"] = list(dict.fromkeys([*batch.columns, *mended_batch.spelled.values()]))
        connection.execute(update(Batch).where(Batch.id == batch.id).values(values))
        return mended, cured

    def _let_go(self, connection: Connection, shipment: Shipment, batch: ResultRow[*tuple[Any, ...]]) -> None:
        """Let the batch work on the mended records. From now on it is judged only by new attempts. PingOne's inventory
        is read again, even if a worker is reading it right now."""
        switches = shipment.switches
        values = {
            "may_import": switches.may_import,
            "may_pair": switches.may_pair,
            "inventory_read_at": null(),
            "prepared_until": null(),
            "judged_after": hours.latest_attempt(),
        }
        connection.execute(update(Batch).where(Batch.id == batch.id).values(values))
        if batch.state == BatchState.CANCELLED:
            hours.let_run(self._database, connection, batch.id)


def _find_second_tokens(connection: Connection, batch_id: int, rows: Sequence[Row]) -> list[Row]:
    """Find the rows whose person already has another token of a batch, active or on its way."""
    owned: dict[tuple[str, str], set[str]] = {}
    may_have_two = Record.status.not_in((Status.DEAD_LETTER, Status.CANCELLED))
    columns = select(Record.serial_key, *(getattr(Record, name) for name in PERSON))
    owners = columns.where(Record.batch_id == batch_id, may_have_two)
    names = [name for row in rows for name in list_names(row)]
    # A single row means that a person is waiting, and reading a large batch in full takes a second. SQLite's `lower`
    # changes ASCII letters only.
    if len(rows) == 1 and all(folded.isascii() for _, folded in names):
        owners = owners.where(or_(false(), *(func.lower(getattr(Record, kind)) == folded for kind, folded in names)))
    for owner in connection.execute(owners):
        for name in list_names(owner):
            owned.setdefault(name, set()).add(owner.serial_key)
    return [
        row for row in rows if any(owned.get(name, set()) - {row.serial_number.lower()} for name in list_names(row))
    ]


class NotGiven(NotPossible):
    """A token cannot be given to this person; the message says why, and what to do instead."""


class HasToken(NotGiven):
    """The person already has a token of the batch, or one is on its way: ask whether to give them a second one."""


def give(
    database: Database, actor: Actor, name: str, serial_number: str, person: str, *, may_have_two: bool = False
) -> int:
    """Give a token that waits to be given out to a person, whom `person` names as the batch names people, for example
    by email address. Returns the number of the token's record. Raises UnknownBatch; NotGiven, and then nothing has
    changed."""
    with database.changing_many(LOAD_LOCK) as connection:
        batch = find_batch(connection, name, *_BATCH_COLUMNS, is_locking=True)
        if batch.state == BatchState.CANCELLED:
            raise NotGiven(f"batch {name!r} is cancelled: `oathbulk replay {quote(name)}` makes it run again")
        record = _find_on_the_table(connection, batch, serial_number)
        named: dict[str, Any] = {_choose_kind(connection, batch.id, person): person}
        row = Row(row_number=1, serial_number=record.serial_number, otps=None, **named)
        unfit = refuse_unfit(row)
        if isinstance(unfit, RowError):
            raise NotGiven(unfit.reason)
        if not may_have_two and _find_second_tokens(connection, batch.id, [row]):
            raise HasToken(f"batch {name!r} has a token for {person} already, or one is on its way")
        if not give_out(connection, batch.id, {record.id: named}):
            raise NotGiven(_CHANGED)
        audit.append(database, connection, actor, Action.GIVE, name, {"serial": record.serial_number})
        return int(record.id)


def take_back(database: Database, actor: Actor, name: str, serial_number: str, whose: str) -> None:
    """Make a token that was given out by mistake wait to be given out again. Possible only before any request for it
    was sent. `whose`: the name that the person at the desk saw beside it. Raises UnknownBatch; NotPossible, and then
    nothing has changed."""
    with database.changing_many(LOAD_LOCK) as connection:
        batch = find_batch(connection, name, *_BATCH_COLUMNS, is_locking=True)
        given = (
            select(Record.id, Record.serial_number)
            .join(Change, Change.record_id == Record.id)
            .join(AuditLine, AuditLine.id == Change.audit_id)
            .where(Record.batch_id == batch.id, Record.serial_key == serial_number.lower())
            .where(AuditLine.action == Action.GIVE, or_(*(getattr(Record, kind) == whose for kind in PERSON)))
        )
        record = connection.execute(given).first()
        if record is None or not put_back(database, connection, record.id):
            raise NotPossible(
                "the token belongs to someone else now, or a request about it was sent to PingOne: look at its status"
            )
        audit.append(database, connection, actor, Action.UNDO, name, {"serial": record.serial_number})


# The columns of a row that a person types, as in a file of OTP pairs.
_TYPED = ["serial", "otp1", "otp2", "otp_type", "generated_at"]


def mend_pair(
    database: Database,
    keyring: Keyring,
    actor: Actor,
    name: str,
    serial_number: str,
    otps: tuple[str, str],
    *,
    totp_max_age: float,
    may_have_two: bool = False,
) -> None:
    """Mend a token that failed because of its OTPs, with two fresh OTPs that a person has just typed. This is a mend of
    one row, and its record runs before all others. `totp_max_age` is in seconds. Raises UnknownBatch; HasToken or
    NotPossible, and then nothing has changed."""
    errors: list[RowError] = []
    if len({*otps}) == 1:
        raise NotPossible("both OTPs are the same number: press again, and enter two that follow each other")
    with database.changing_many(LOAD_LOCK) as connection:
        batch = find_batch(connection, name, *_BATCH_COLUMNS, is_locking=True)
        if batch.state == BatchState.CANCELLED:
            raise NotPossible(f"batch {name!r} is cancelled: `oathbulk replay {quote(name)}` makes it run again")
        columns = (Record.id, Record.serial_number, Record.otp_type, *(getattr(Record, kind) for kind in PERSON))
        failed = select(*columns, database.now().label("now")).where(
            Record.batch_id == batch.id, Record.serial_key == serial_number.lower(), needs_fresh_otps()
        )
        if (record := connection.execute(failed).one_or_none()) is None:
            raise NotPossible("the token does not wait for fresh OTPs: look at its status")
        # OTPs of a token with a clock were generated when they were typed.
        generated_at = record.now.isoformat() if record.otp_type == OtpType.TOTP else ""
        reader = PairReader(Header(1, ",", _TYPED, _TYPED), record.now)
        row = reader.read(1, [record.serial_number, *otps, record.otp_type, generated_at])
        if isinstance(row, RowError) or not all(map(str.strip, otps)):
            raise NotPossible(TYPE_BOTH)
        person: dict[str, Any] = {kind: getattr(record, kind) or None for kind in PERSON}
        row = replace(row, **person)
        if not may_have_two and _find_second_tokens(connection, batch.id, [row]):
            raise HasToken(f"the person has another token of batch {name!r}, or one is on its way")
        mender = Mender(database, keyring, actor, totp_max_age=totp_max_age, on_refused=errors.append)
        mended_batch = MendedBatch(batch.id, batch.name, batch.environment_id, batch.may_pair)
        mended, _ = mender.mend_rows(connection, batch, mended_batch, [row])
        if not mended.again:
            raise NotPossible(errors[0].reason if errors else _CHANGED)
        put_first(connection, batch.id, [record.id])
        audit.append(database, connection, actor, Action.MEND, name, {"serial": record.serial_number, "again": 1})


def _find_on_the_table(
    connection: Connection, batch: ResultRow[*tuple[Any, ...]], serial_number: str
) -> ResultRow[*tuple[Any, ...]]:
    """Find the record of a token that waits to be given out. Raises NotGiven, which says what happened to the token."""
    batch_id, name = batch.id, batch.name
    columns = ("id", "serial_number", "serial_key", "status", "owner_id", "next_counter", *PERSON)
    of_batch = select(*(getattr(Record, name) for name in columns), is_on_the_table().label("is_on_the_table"))
    bare = serial_number.lower().lstrip("0")
    found = connection.execute(of_batch.where(Record.batch_id == batch_id, func.ltrim(Record.serial_key, "0") == bare))
    alike = {record.serial_key: record for record in found}
    record = alike.get(serial_number.lower())
    if record is None:
        if alike:
            spellings = " or ".join(each.serial_number for each in alike.values())
            raise NotGiven(
                f"batch {name!r} has the token as {spellings}: write it that way, with its zeros, if it is that one"
            )
        not_loaded = select(RefusedRow.row_number).where(
            RefusedRow.batch_id == batch_id, RefusedRow.serial_key == serial_number.lower()
        )
        if (row := connection.scalar(not_loaded)) is not None:
            raise NotGiven(f"row {row} of batch {name!r}, with this token, was not loaded: mend it first")
        raise NotGiven(f"batch {name!r} has no token {serial_number}: check what is printed on it")
    if record.is_on_the_table and record.owner_id in (None, NOBODY):
        return record
    whose = next((value for kind in (*NAMES, "user_id") if (value := getattr(record, kind))), "somebody")
    if record.is_on_the_table:
        raise NotGiven(HAS_OWNER)
    if record.status == Status.ACTIVE:
        named, where = quote(name), quote(f"serial={record.serial_number}")
        mend, given = f"oathbulk mend {named} LIST", "the token, its new person, and two fresh OTPs"
        if record.next_counter is not None:
            mend = f"oathbulk mend {named} {quote(find_seed_file(batch) or 'FILE')} --assign LIST"
            given = "the token and its new person, and with the key or password option of the load"
        raise NotGiven(
            f"the token is {whose}'s, and active: if the batch is running, end `oathbulk run` and type `oathbulk pause "
            f"{named}` first; then `oathbulk undo {named} --where {where} --yes`, `{mend}` with {given}, and "
            f"`oathbulk resume {named}`"
        )
    if record.status not in FINAL:
        raise NotGiven(f"the token is {whose}'s already, and in progress")
    raise NotGiven(
        "the token failed or is closed: take it back at the desk if it was given out just now, or run `oathbulk mend`"
        " with a list of serial and person"
    )


def _choose_kind(connection: Connection, batch_id: int, person: str) -> str:
    """Choose the kind of name for a person: the kind that the batch uses, or else the kind that its spelling
    suggests."""
    if UUID.fullmatch(person):
        return "user_id"
    return _find_kind(connection, batch_id) or ("email" if "@" in person else "username")


def read_kind(database: Database, name: str) -> str | None:
    """Read which kind of name (`models.person.PERSON`) a batch uses for people; None if it names nobody yet. Raises
    UnknownBatch."""
    with database.reading() as connection:
        return _find_kind(connection, find_batch(connection, name, Batch.id).id)


def _find_kind(connection: Connection, batch_id: int) -> str | None:
    """Find which kind of name the batch's rows use for people; if they use several, the most telling one."""
    for kind in (*NAMES, "user_id"):
        named = select(Record.id).where(Record.batch_id == batch_id, func.coalesce(getattr(Record, kind), "") != "")
        if connection.scalar(named.limit(1)) is not None:
            return kind
    return None


def read_mended_batch(connection: Connection, name: str, shipment: Shipment) -> MendedBatch:
    """Read the batch of this name, to compare the rows of a file with it. Raises UnknownBatch."""
    return _describe_batch(find_batch(connection, name, *_BATCH_COLUMNS), shipment)


def _describe_batch(batch: ResultRow[*tuple[Any, ...]], shipment: Shipment) -> MendedBatch:
    return MendedBatch(
        batch.id,
        batch.name,
        batch.environment_id,
        may_pair=shipment.switches.may_pair,
        only_new=shipment.only_new,
        spelled=spell_columns(batch.columns, shipment.columns),
    )


def allow_as_before(connection: Connection, name: str, shipment: Shipment) -> Shipment:
    """Add the switches (`--import`, `--pair`) that its batch already has to those of a file. Raises UnknownBatch."""
    batch, typed = find_batch(connection, name, Batch.may_import, Batch.may_pair), shipment.switches
    return replace(shipment, switches=Switches(typed.may_import or batch.may_import, typed.may_pair or batch.may_pair))


class _Writer:
    """Writes corrections to one batch."""

    def __init__(
        self,
        database: Database,
        connection: Connection,
        batch: ResultRow[*tuple[Any, ...]],
        record_rows: RecordRows,
    ) -> None:
        self._database = database
        self._connection = connection
        self._batch_id = batch.id
        self._record_rows = record_rows
        self._new = make_record_writer(database, connection, record_rows.columns, batch.id, batch.environment_id)

    def write(self, corrected: Corrected) -> int:
        """Write corrections. Returns how many rows that were refused before are good now."""
        again = [correction for correction in corrected.corrections if correction.record is not None]
        for status in (Status.DEAD_LETTER, Status.CANCELLED):
            chosen = [correction for correction in again if correction.record and correction.record.status == status]
            changes = [self._change(correction) for correction in chosen]
            if mend(self._database, self._connection, status, changes) != len(changes):
                raise NotPossible(_CHANGED)
        new = [correction for correction in corrected.corrections if correction.record is None]
        with self._new.writing() as write:
            for correction in new:
                write(self._record_rows.values(correction.new))
        given = {
            record_id: {name: getattr(row, name) for name in (*NAMES, "not_before")}
            | {"user_id": row.user_id or "", "extra": row.extra or None}
            for record_id, row in corrected.given.items()
        }
        if given and give_out(self._connection, self._batch_id, given) != len(given):
            raise NotPossible(_CHANGED)
        for date in set(corrected.dates.values()):
            ids = [record_id for record_id, other in corrected.dates.items() if other == date]
            set_date(self._database, self._connection, self._batch_id, Record.id.in_(ids), date)
        return forget_refused_rows(self._connection, self._batch_id, corrected.cured)

    def _change(self, correction: Correction) -> dict[str, Any]:
        """Compute the columns of a record that runs again, with its id."""
        record = correction.record
        assert record is not None, "only a record is changed"  # noqa: S101
        columns = dict(zip(self._record_rows.columns, self._record_rows.values(correction.new), strict=True))
        has_token = record.is_token_made and record.is_in_inventory
        is_device_kept = columns["device_id"] == record.device_id
        columns |= {
            "is_token_made": has_token,
            "is_device_made": record.is_device_made and bool(record.device_id),
            "is_in_inventory": has_token if correction.is_sought else record.is_in_inventory,
            "import_job_id": None if correction.is_sought else record.import_job_id,
            "owner_id": None if correction.is_sought else record.owner_id,
            "pairing": record.pairing if is_device_kept else columns["pairing"],
        }
        if columns["device_id"] and not is_device_kept:
            columns["is_in_inventory"] = True
        # A seed makes another pair with a new budget; a pair that is kept continues where it was.
        is_renewed = correction.is_fresh or columns["next_counter"] is not None
        posts = record.otp1_posts + record.otp2_posts
        # Fresh OTPs do not settle an unknown outcome: the same device is read first.
        is_open = bool(record.device_id) and is_device_kept and OtpState.SENT in (record.otp1_state, record.otp2_state)
        renewed = OtpState.SENT if is_open else OtpState.UNSENT
        columns |= {
            "otp1_state": renewed if is_renewed else record.otp1_state,
            "otp2_state": OtpState.UNSENT if is_renewed else record.otp2_state,
            "otp1_posts": 0 if is_renewed else record.otp1_posts,
            "otp2_posts": 0 if is_renewed else record.otp2_posts,
            "posts_forgiven": record.posts_forgiven + (posts if is_renewed else 0),
        }
        return columns | {"this_id": record.id}
