"""Removes what a batch made. Devices come first: each is read back, and deleted if it is the record's own, unless
another batch works with it. Then the tokens that the batch imported are revoked, if nobody has them according to our
records and PingOne's inventory."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import partial
from shlex import quote
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Label, Row, and_, func, or_, select, text, true, update
from sqlalchemy.orm import aliased

from models.batch import Batch
from models.encrypted import Keyring
from models.inventory_job import UNFINISHED, InventoryJob, JobKind, JobState
from models.record import Record
from models.record_states import NOBODY, PairingState, Status
from worker.batches.commands import NotPossible
from worker.batches.imports import (
    ASK_AGAIN,
    LONGEST_JOB,
    JobLog,
    JobLost,
    Require,
    find_difference,
    find_tokens,
)
from worker.batches.long_list import LongList, Superseded, taking
from worker.config.environment import Environment
from worker.config.settings import Tuning
from worker.database.engine import LOAD_LOCK, Database
from worker.leases.moves import note_tokens_gone
from worker.observability.progress import OnProgress, tell_nobody
from worker.pace.search import PaceOutOfReach, SlotTooFar
from worker.pace.slots import call_patiently
from worker.pingone.client import Call
from worker.pingone.clients import Clients
from worker.pingone.devices import ACTIVE, OATH_TOKEN, Pairing, UserDevice
from worker.pingone.errors import (
    CredentialsRefused,
    Forbidden,
    NotDelivered,
    NotFound,
    OutcomeUnknown,
    PingOneError,
    Rejected,
)
from worker.pingone.inventory import ImportJob, InventoryToken, JobStatus
from worker.rules.steps import SentAgo, count_ago, may_be_made_by
from worker.vault.otps import Seed, open_otps

# This batch made a device, and its id is known.
HAS_DEVICE = and_(Record.is_device_made, Record.device_id != "", Record.user_id != "")
# A pairing request may have made a device. If the record is final, its token was looked up, so nothing is open.
HAS_OPEN_PAIRING = and_(
    Record.status == Status.PENDING,
    Record.pairing.in_((PairingState.SENT, PairingState.MISSED)),
    Record.device_id == "",
    Record.user_id != "",
)
_OTHER = aliased(Record, name="other")

# How often to try a deletion whose answer gets lost; the device is read back before each try.
TRIES = 3
# Seconds between two look-ups of a free token whose pairing has an unknown outcome, and between two tries to delete.
LOOK_AGAIN = 5.0


class Sight(StrEnum):
    """What the list of a user's devices shows about one device."""

    # The device exists, and belongs to this token.
    OURS = "ours"
    # The device exists, and the list does not show which token it is: the token has to be looked up.
    UNNAMED = "unnamed"
    # The list lacks the device: the token has to be looked up, to be sure.
    MISSING = "missing"
    # The device exists, and is something else: it stays.
    FOREIGN = "foreign"
    # The device may exist, and nothing that we may read shows which token it is: it stays.
    HIDDEN = "hidden"


class Heir(StrEnum):
    """What PingOne asks a person for first after the batch's devices are removed."""

    # The person's next device.
    NEXT = "next"
    # Nothing: no active device is left.
    NONE = "none"


@dataclass(frozen=True, slots=True)
class DefaultChange:
    """A person whose default device is removed, with one of their records."""

    row_number: int
    serial_number: str
    user_id: str
    heir: Heir


class End(StrEnum):
    """What happened to a record's device."""

    # The device exists and is the record's own; the caller only asked for a look.
    THERE = "there"
    REMOVED = "removed"
    # The device was gone already.
    GONE = "gone"
    # A pairing of unknown outcome made no device.
    NEVER_MADE = "never_made"
    # The device stays, or may have stayed.
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class DeviceOutcome:
    """How the removal of a record's device ended: `why` it was left, and what PingOne asks its user for next (`heir`).
    `device_id`, in lowercase: a device that is to be removed, or is gone."""

    end: End
    why: str = ""
    heir: Heir | None = None
    device_id: str = ""


# Why a device with this result is left.
_WHY = {
    Sight.FOREIGN: "in PingOne, the device with this id belongs to another token, or to none: it stays",
    Sight.UNNAMED: "PingOne shows the device in one place but not in another: run the command again",
    Sight.HIDDEN: "PingOne does not show which token the device belongs to: let the worker application read the"
    " inventory",
}
_NOT_KNOWN_FREE = "the token was not known to be free before it was paired, so the device may not be this batch's"
_OTHER_TIME = "it was not made when this batch asked for it, so it is somebody else's: it stays"
_TAKEN = "the token is another person's device now: it stays"


class Removal:
    """Removes devices from one environment; thread-safe. `removed`: the ids, in lowercase, of all devices to remove.
    `is_real`: delete them instead of only reading them back. `wait` waits the given number of seconds. `count_ago`
    computes how long ago a record's pairing requests were sent, and `lasts` is the longest time that such a request can
    take."""

    def __init__(
        self,
        clients: Clients,
        environment: Environment,
        batch_id: int,
        removed: frozenset[str],
        wait: Callable[[float], object],
        count_ago: Callable[[Row[*tuple[Any, ...]]], SentAgo | None],
        lasts: timedelta,
        *,
        is_real: bool,
    ) -> None:
        self._clients = clients
        self._environment = environment
        self._batch_id = batch_id
        self._removed = removed
        self._wait = wait
        self._count_ago = count_ago
        self._lasts = lasts
        self._is_real = is_real

    def remove(self, record: Row[*tuple[Any, ...]]) -> DeviceOutcome:
        """Remove the device of a record, or the device that its pairing of unknown outcome made. Raises errors that
        would stop the other records too: NotDelivered, CredentialsRefused."""
        call = Call(f"oathbulk-batch-{self._batch_id}", f"oathbulk-record-{record.id}")
        try:
            if record.other_batch:
                return DeviceOutcome(End.LEFT, explain_other_batch(record.other_batch))
            if record.device_id:
                return self._remove(record, record.device_id, call)
            return self._settle(record, call)
        except (NotDelivered, CredentialsRefused):
            raise
        except (PingOneError, PaceOutOfReach) as failure:
            return DeviceOutcome(End.LEFT, f"not known: {failure}")

    def _settle(self, record: Row[*tuple[Any, ...]], call: Call) -> DeviceOutcome:
        """Find out what a pairing of unknown outcome made, and remove it. If the token seems free, looks it up once
        more, since PingOne does not show a new device everywhere at once."""
        if (found := self._find_pairing(record, call)) is None:
            self._wait(LOOK_AGAIN)
            found = self._find_pairing(record, call)
        if found is None:
            return DeviceOutcome(End.NEVER_MADE)
        if found.user_id is not None and found.user_id.lower() != record.user_id.lower():
            return DeviceOutcome(End.LEFT, _TAKEN)
        if record.owner_id != NOBODY:
            return DeviceOutcome(End.LEFT, _NOT_KNOWN_FREE)
        sent_ago, age = self._count_ago(record), self._read_age(record.user_id, found.device_id, call)
        if not may_be_made_by(sent_ago, age, self._lasts):
            return DeviceOutcome(End.LEFT, _OTHER_TIME)
        return self._remove(record, found.device_id, call)

    def _remove(self, record: Row[*tuple[Any, ...]], device_id: str, call: Call) -> DeviceOutcome:
        heir, end = None, End.GONE
        for left in reversed(range(TRIES)):
            sight, now_heir = self._read_back(record, device_id, call)
            heir = heir or now_heir
            if sight is Sight.MISSING:
                return DeviceOutcome(end, heir=heir, device_id=device_id.lower())
            if sight is not Sight.OURS:
                return DeviceOutcome(End.LEFT, _WHY[sight])
            if not self._is_real:
                return DeviceOutcome(End.THERE, heir=heir, device_id=device_id.lower())
            try:
                unpair = partial(self._clients.pairings(self._environment).unpair, record.user_id, device_id, call=call)
                if call_patiently(unpair):
                    return DeviceOutcome(End.REMOVED, heir=heir, device_id=device_id.lower())
                if not left:
                    return DeviceOutcome(end, heir=heir, device_id=device_id.lower())
            except OutcomeUnknown:
                if not left:
                    raise
                # If the device is missing now, this request removed it.
                end = End.REMOVED
            # PingOne may show a removed device for a while, and may not find one that is there.
            self._wait(LOOK_AGAIN)
        raise AssertionError("the last try returns or raises")

    def _read_back(self, record: Row[*tuple[Any, ...]], device_id: str, call: Call) -> tuple[Sight, Heir | None]:
        """Look up a device in its user's list, and by its token if the list is not conclusive."""
        devices = self._list_devices(record.user_id, call) or []
        sight = see(devices, device_id, record.serial_number)
        if sight in (Sight.UNNAMED, Sight.MISSING):
            try:
                sight = see_by_token(self._find_pairing(record, call), sight, device_id)
            except Forbidden:
                sight = Sight.HIDDEN
        return sight, find_heir(devices, self._removed | {device_id.lower()})

    def _list_devices(self, user_id: str, call: Call) -> list[UserDevice] | None:
        """List the devices of a user; None if the user is gone, and every device with them."""
        reads = self._clients.reads(self._environment)
        try:
            return call_patiently(lambda: reads.list_devices(user_id, call=call))
        except NotFound:
            return None

    def _read_age(self, user_id: str, device_id: str, call: Call) -> timedelta | None:
        """Read the age of a user's device; None: PingOne does not say."""
        devices = self._list_devices(user_id, call) or []
        return next((device.age for device in devices if device.id.lower() == device_id.lower()), None)

    def _find_pairing(self, record: Row[*tuple[Any, ...]], call: Call) -> Pairing | None:
        """Find the person with whom the token is paired; None if there is nobody, or the record's user is gone."""
        pairings = self._clients.pairings(self._environment)
        try:
            return call_patiently(partial(pairings.find_pairing, record.serial_number, record.user_id, call=call))
        except NotFound:
            # If the inventory may not be read, it was the user that PingOne did not find.
            if self._list_devices(record.user_id, call) is None:
                return None
            raise


def see(devices: Sequence[UserDevice], device_id: str, serial_number: str) -> Sight:
    """Find a device in its user's list, and compare it with the record's token."""
    device = next((device for device in devices if device.id.lower() == device_id.lower()), None)
    if device is None:
        return Sight.MISSING
    if device.type not in (OATH_TOKEN, None):
        return Sight.FOREIGN
    if device.type is None or device.serial_number is None:
        return Sight.UNNAMED
    return Sight.OURS if device.serial_number.lower() == serial_number.lower() else Sight.FOREIGN


def see_by_token(found: Pairing | None, sight: Sight, device_id: str) -> Sight:
    """Decide by the token's pairing if the list of devices is not conclusive. The result is UNNAMED if the token shows
    the device but the list does not, since PingOne does not show it everywhere yet."""
    is_the_same = found is not None and found.device_id.lower() == device_id.lower()
    if sight is Sight.UNNAMED:
        return Sight.OURS if is_the_same else Sight.FOREIGN
    return Sight.UNNAMED if is_the_same else Sight.MISSING


def find_heir(devices: Sequence[UserDevice], removed: Collection[str]) -> Heir | None:
    """Find what PingOne asks a person for first once the devices with these ids (lowercase) are removed; None if that
    does not change. PingOne asks for the first active device in the list."""
    active = [device.id.lower() for device in devices if device.status == ACTIVE]
    if not active or active[0] not in removed:
        return None
    return Heir.NEXT if any(device_id not in removed for device_id in active) else Heir.NONE


def find_batch_with_token() -> Label[str]:
    """Build the column `other_batch`: the name of another batch whose record of the same token is active or not final,
    or None."""
    return _find_batch(true())


def find_batch_with_device() -> Label[str]:
    """Build the column `other_batch`: the name of another batch with a record of the same token that is not final, or
    is active on the same device, or may be, since the record's own device is unknown. Otherwise None."""
    is_same = or_(Record.device_id == "", func.lower(_OTHER.device_id) == func.lower(Record.device_id))
    return _find_batch(or_(_OTHER.status != Status.ACTIVE, is_same))


def explain_other_batch(name: str) -> str:
    """Explain that something stays because another batch uses it, and how to change that."""
    named = quote(name)
    return (
        f"batch {name} still has this token, so it stays: run `oathbulk cancel {named}`; or, if the token is active "
        f"there, run `oathbulk undo {named}`, or remove it in PingOne"
    )


def _find_batch(condition: ColumnElement[bool]) -> Label[str]:
    return (
        select(Batch.name)
        .join(_OTHER, _OTHER.batch_id == Batch.id)
        .where(
            _OTHER.environment_id == Record.environment_id,
            _OTHER.serial_key == Record.serial_key,
            _OTHER.batch_id != Record.batch_id,
            _OTHER.status.not_in((Status.DEAD_LETTER, Status.CANCELLED)),
            condition,
        )
        .order_by(_OTHER.id.desc())
        .limit(1)
        .correlate(Record)
        .scalar_subquery()
        .label("other_batch")
    )


_PAIRED = "it is paired as a device that this batch did not make: it stays until you remove that device in PingOne"
_PAIRED_ELSEWHERE = "it is paired with somebody else than the batch knows, perhaps since a backup: find out who uses it"
_OTHER_IMPORT = (
    "the outcome of its import is unknown, and the inventory's token with this serial number was made at another time"
)
_DIFFERS = "the outcome of its import is unknown, and the inventory has another token with this serial number"

# Number of ids in one statement.
_CHUNK = 1000
# Fewer tokens than this are looked up within a second, without a progress report.
_TOLD_FROM = 10


@dataclass(frozen=True, slots=True)
class OwnToken:
    """A token that the batch imported, and that may be revoked. `id` is PingOne's id."""

    record_id: int
    row_number: int
    serial_number: str
    id: str


@dataclass(frozen=True, slots=True)
class _Job:
    """A recorded job: the id of its row, and the tokens to revoke."""

    id: int
    tokens: Sequence[OwnToken]


@dataclass(slots=True)
class SortedTokens:
    """The tokens of a batch, sorted by what PingOne's inventory shows: `own` tokens may be revoked, `kept` tokens stay,
    each with the reason. The inventory lists neither `absent` tokens, which were imported, nor `unmade` ones, whose
    import has an unknown outcome."""

    own: list[OwnToken] = field(default_factory=list)
    kept: list[tuple[Row[*tuple[Any, ...]], str]] = field(default_factory=list)
    absent: list[Row[*tuple[Any, ...]]] = field(default_factory=list)
    unmade: list[Row[*tuple[Any, ...]]] = field(default_factory=list)


# A record, or what is known about its token.
T = TypeVar("T", bound="Row[*tuple[Any, ...]] | OwnToken")


class Revocation:
    """Revokes tokens that batches of one environment imported, after checking PingOne's inventory. `importer`: the
    environment with the application that imports; `wait` waits the given number of seconds."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        clients: Clients,
        importer: Environment,
        wait: Callable[[float], object],
        tuning: Tuning,
        on_progress: OnProgress = tell_nobody,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._clients = clients
        self._importer = importer
        self._wait = wait
        self._on_progress = on_progress
        self._jobs = JobLog(database, clients, JobKind.REVOKE, tuning)

    def look_up(
        self, batch_id: int, record_ids: Collection[int], removed: Mapping[int, str], call: Call
    ) -> SortedTokens:
        """Read the inventory, and sort the tokens of these records by what it shows. `removed`: the id, in lowercase,
        of each record's removed device, which the list may still show for a while."""
        rows = [row for row in self._read(batch_id) if row.id in record_ids]
        found = self._list({row.serial_number.lower() for row in rows}, call)
        result = SortedTokens()
        for row in rows:
            token = found.get(row.serial_number.lower())
            if token is None:
                (result.absent if row.is_token_made else result.unmade).append(row)
            elif why := self._find_obstacle(row, token, removed.get(row.id)):
                result.kept.append((row, why))
            else:
                result.own.append(OwnToken(row.id, row.row_number, row.serial_number, token.id))
        return result

    def find_absent(self, tokens: Sequence[T], call: Call) -> tuple[list[T], list[T]]:
        """Look up one by one the tokens that the list lacks, since a new import may not be listed yet. Returns the
        tokens that the inventory lacks, and those that it has."""
        reads = self._clients.reads(self._importer)
        absent, there = list[T](), list[T]()

        def is_there(token: T) -> bool:
            look_up = partial(reads.find_token, token.serial_number, with_devices=False, call=call)
            return call_patiently(look_up) is not None

        looked_up = LongList(
            taking(tokens, _CHUNK), is_there, lambda token, is_there: (there if is_there else absent).append(token)
        )
        looked_up.finish(
            self._on_progress if len(tokens) >= _TOLD_FROM else tell_nobody, "Looking tokens up", len(tokens)
        )
        return absent, there

    def find_revoked(self, tokens: Sequence[OwnToken], call: Call) -> tuple[list[OwnToken], list[OwnToken]]:
        """Find out from the inventory which tokens were revoked, if no answer said so. Returns those, and the tokens
        that still exist."""
        listed = self._list({token.serial_number.lower() for token in tokens}, call)
        revoked, shown = self.find_absent(
            [token for token in tokens if token.serial_number.lower() not in listed], call
        )
        return revoked, [token for token in tokens if token.serial_number.lower() in listed] + shown

    def list_own(
        self,
        batch_id: int,
        own: Sequence[OwnToken],
        require: Require,
        hold: Callable[[Connection, Sequence[int]], object],
        call: Call,
        note: Callable[[Sequence[OwnToken], str | None], object],
        auditing: Callable[[], AbstractContextManager[None]],
    ) -> LongList[_Job, ImportJob | str | None]:
        """List the revocations of these tokens; each chunk is one job. The tokens of a refused job are tried again,
        fewer at a time. `hold` reserves the records of a job. `note` is called with revoked tokens and None, or with
        one token that stays and the reason; for the other tokens, no answer says whether they were revoked. Asking
        raises any PingOneError, whatever `require` raises, and Superseded if another command ends the jobs."""
        left = deque(own)

        def take() -> Sequence[_Job]:
            while left:
                # No load or mend runs at the same time, so each sees what the other has written.
                with self._database.changing_many(LOAD_LOCK) as connection:
                    require(connection)
                    size = self._jobs.choose_size(connection, batch_id)
                    tokens = [left.popleft() for _ in range(min(size, len(left)))]
                    others = _find_others(connection, tokens)
                    own = [token for token in tokens if token.record_id not in others]
                    hold(connection, [token.record_id for token in own])
                    job = self._jobs.begin(connection, batch_id, len(own)) if own else None
                # Another batch loaded these tokens after the inventory was read.
                for token in tokens:
                    if token.record_id in others:
                        note([token], explain_other_batch(others[token.record_id]))
                if job is not None:
                    return [_Job(job, own)]
            return []

        def write_down(job: _Job, result: ImportJob | str | None) -> None:
            if isinstance(result, ImportJob) and result.state is JobStatus.FAILED:
                result = result.reason or "the job failed"
            if isinstance(result, str) and len(job.tokens) > 1:
                left.extendleft(reversed(job.tokens))
            elif isinstance(result, str):
                note(job.tokens, f"PingOne refuses: {result}")
            elif result is not None and result.revoked == len(job.tokens):
                note(job.tokens, None)

        revoke = partial(self._revoke, batch_id=batch_id, require=require, call=call)
        return LongList(take, revoke, write_down, size=lambda job: len(job.tokens), auditing=auditing)

    def _revoke(self, job: _Job, batch_id: int, require: Require, call: Call) -> ImportJob | str | None:
        """Send a job, and wait for its end. Returns its result, or PingOne's refusal in words; None: the outcome is
        unknown."""
        start = partial(self._clients.jobs(self._importer).start_revocation, [token.id for token in job.tokens])
        try:
            self._jobs.send(job.id, lambda call: call_patiently(partial(start, call=call)), call, require)
        except OutcomeUnknown:
            # The job stays recorded as sent: PingOne may still carry it out.
            return None
        except Rejected as refusal:
            self._end(job.id, JobState.FAILED, detail=str(refusal))
            return str(refusal)
        except (PingOneError, SlotTooFar, NotPossible, Superseded):
            self._end(job.id, JobState.LOST, done=0)
            raise
        return self.end_jobs(batch_id, call, job.id)

    def end_jobs(self, batch_id: int, call: Call, job: int | None = None) -> ImportJob | None:
        """Wait for the end of this job, or of all jobs of the batch that an earlier command or a lost answer left open,
        and write down how each ended. Returns the last result, or None if only the inventory shows the outcome."""
        result: ImportJob | None = None
        while unfinished := self._jobs.find_unfinished(batch_id, job):
            try:
                result = call_patiently(partial(self._jobs.ask, unfinished, self._importer, call))
            except JobLost:
                self._end(unfinished.id, JobState.LOST)
                continue
            if result is None:
                self._wait(ASK_AGAIN)
            elif result.state is JobStatus.FAILED:
                self._end(unfinished.id, JobState.FAILED, detail=result.reason or "")
            else:
                self._end(unfinished.id, JobState.DONE, done=result.revoked)
        return result

    def note_findings(self, batch_id: int, found: SortedTokens, require: Require, line: int) -> int:
        """Write down which tokens are gone, and the results of imports of unknown outcome. `line`: the audit line of
        the undo. Returns how many tokens are gone. Raises what `require` raises if the batch runs again, since it may
        then import the tokens again."""
        made, never_made = [token.record_id for token in found.own], [row.id for row in found.unmade]
        with self._database.changing_many() as connection:
            require(connection)
            self.note_outcomes(connection, batch_id, made=made, never_made=never_made)
            return note_tokens_gone(self._database, connection, [row.id for row in found.absent], line)

    def note_revoked(self, tokens: Iterable[OwnToken], line: int) -> int:
        """Write down that tokens were revoked. `line`: the audit line of the undo. Returns how many."""
        with self._database.changing_many() as connection:
            return note_tokens_gone(self._database, connection, [token.record_id for token in tokens], line)

    def count_open_imports(self, batch_id: int) -> int:
        """Count the imports of a batch whose end is not written down: they may still create tokens."""
        is_open = and_(text(UNFINISHED), InventoryJob.kind == JobKind.IMPORT)
        counted = select(func.count()).where(InventoryJob.batch_id == batch_id, is_open)
        with self._database.reading() as connection:
            return connection.scalar(counted) or 0

    def note_outcomes(
        self, connection: Connection, batch_id: int, *, made: Sequence[int], never_made: Sequence[int]
    ) -> None:
        """Write down which imports of unknown outcome created their token, by record id. Leaves out records whose token
        was imported again meanwhile."""
        outcomes: tuple[tuple[Sequence[int], dict[str, Any]], ...] = (
            (made, {"is_token_made": True, "is_in_inventory": True, "owner_id": NOBODY}),
            (never_made, {"import_job_id": None}),
        )
        for record_ids, values in outcomes:
            for start in range(0, len(record_ids), _CHUNK):
                records = update(Record).where(Record.id.in_(record_ids[start : start + _CHUNK]))
                connection.execute(
                    records.where(is_import_of_unknown_outcome(batch_id), ~Record.is_token_made).values(values)
                )

    def _end(self, job: int, state: JobState, **values: Any) -> None:
        with self._database.writing() as connection:
            self._jobs.end(connection, job, state, **values)

    def _read(self, batch_id: int) -> Sequence[Row[*tuple[Any, ...]]]:
        """Read the records of a batch with tokens that it imported and has not revoked, or whose import has an unknown
        outcome (`is_token_made` is False)."""
        columns = (Record.id, Record.batch_id, Record.row_number, Record.serial_number, Record.is_token_made)
        sent_at = select(InventoryJob.sent_at).where(InventoryJob.id == Record.import_job_id).scalar_subquery()
        ages = (sent_at.label("sent_at"), self._database.now().label("read_at"))
        imported = select(*columns, *ages, Record.otps, Record.user_id, find_batch_with_token()).where(
            Record.batch_id == batch_id,
            or_(and_(Record.is_token_made, Record.is_in_inventory), is_import_of_unknown_outcome(batch_id)),
        )
        with self._database.reading() as connection:
            return connection.execute(imported.order_by(Record.row_number)).all()

    def _list(self, serial_numbers: Collection[str], call: Call) -> dict[str, InventoryToken]:
        """Search the inventory's list for tokens with these serial numbers, in lowercase."""
        if not serial_numbers:
            return {}
        return find_tokens(self._clients.reads(self._importer), serial_numbers, call, self._on_progress)

    def _find_obstacle(self, row: Row[*tuple[Any, ...]], token: InventoryToken, removed: str | None) -> str | None:
        """Explain why a token that the inventory lists stays; None if it may be revoked."""
        is_paired = token.device_id is not None or token.user_id is not None
        if is_paired and (removed is None or (token.device_id or removed).lower() != removed):
            is_elsewhere = token.user_id and row.user_id and token.user_id.lower() != row.user_id.lower()
            return _PAIRED_ELSEWHERE if is_elsewhere else _PAIRED
        if row.other_batch:
            return explain_other_batch(row.other_batch)
        if not row.is_token_made and not self._is_alike(row, token):
            return _DIFFERS
        if not _is_of_that_time(row, token):
            return _OTHER_IMPORT
        return None

    def _is_alike(self, row: Row[*tuple[Any, ...]], token: InventoryToken) -> bool:
        """Whether a token of the inventory has the parameters of the record's seed."""
        if row.otps is None:
            return False
        seed = open_otps(self._keyring, row.otps, row.batch_id, row.row_number)
        return isinstance(seed, Seed) and find_difference(seed, token) is None


def _find_others(connection: Connection, tokens: Sequence[OwnToken]) -> dict[int, str]:
    """Find the batches that now work with these tokens, by record."""
    ids = [token.record_id for token in tokens]
    named = select(Record.id, find_batch_with_token()).where(Record.id.in_(ids))
    return {row.id: row.other_batch for row in connection.execute(named) if row.other_batch}


def _is_of_that_time(row: Row[*tuple[Any, ...]], token: InventoryToken) -> bool:
    """Whether a token of the inventory was created at the time when the import of the record's token was sent."""
    return may_be_made_by(count_ago(row.read_at, row.sent_at), token.age, LONGEST_JOB)


def is_import_of_unknown_outcome(batch_id: int) -> ColumnElement[bool]:
    """Whether it is unknown if the import created the record's token."""
    lost = select(InventoryJob.id).where(
        InventoryJob.batch_id == batch_id,
        InventoryJob.kind == JobKind.IMPORT,
        InventoryJob.state == JobState.LOST,
    )
    return and_(Record.import_job_id.in_(lost), ~Record.is_in_inventory)
