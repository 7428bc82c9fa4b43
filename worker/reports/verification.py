"""Verification: reads every device of a batch and its tokens from PingOne, and compares them with the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, func, or_, select

from models.batch import Batch
from models.encrypted import DecryptionError, Keyring
from models.reason import Reason
from models.record import Record
from models.record_states import Status
from worker.batches.finding import find_batch
from worker.batches.imports import find_difference, find_tokens
from worker.batches.long_list import LongList, taking
from worker.database.engine import Database
from worker.observability.progress import OnProgress, tell_nobody
from worker.pace.search import PaceOutOfReach, SlotTooFar
from worker.pace.slots import call_patiently
from worker.pingone.client import Call, Client
from worker.pingone.clients import Reads
from worker.pingone.devices import Device
from worker.pingone.errors import NotFound, PingOneError
from worker.pingone.inventory import InventoryToken
from worker.vault.otps import Seed, open_otps

# Number of records read from the database at once, which limits the memory for a batch of any size.
CHUNK = 500
# Number of devices read at once, in one thread each. If PingOne answers slowly, many threads are needed to reach the
# pace.
THREADS = 32
# The progress message while devices are read.
READING = "Reading devices back"

# The result of reading a device: the device, or why it is unknown.
Answer = Device | PingOneError | SlotTooFar
# Reads a device by user id and device id. The Call holds the read's ids for PingOne's audit, and counts its requests.
Read = Callable[[str, str, Call], Answer]

# The columns of a record that a comparison needs.
_COLUMNS = (
    *(Record.id, Record.batch_id, Record.row_number, Record.serial_number, Record.user_id, Record.device_id),
    *(Record.status, Record.reason, Record.is_in_inventory, Record.otps, Record.next_counter),
)


@dataclass(frozen=True, slots=True)
class Difference:
    """A device or token whose state in PingOne (`theirs`) differs from the record's (`ours`). If it could not be read,
    `is_known` is False, and `theirs` says why."""

    row_number: int
    serial_number: str
    ours: str
    theirs: str
    is_known: bool = True


def verify(
    database: Database,
    name: str,
    read: Read,
    tokens: TokenCheck | None = None,
    on_progress: OnProgress = tell_nobody,
    *,
    threads: int = THREADS,
) -> list[Difference]:
    """Read every device of the batch in several threads, and return the differences in the order of its file. With
    `tokens`, also return differences from the inventory; if that cannot be read, `tokens.failure` says why. Raises
    UnknownBatch."""
    with database.reading() as connection:
        batch_id = find_batch(connection, name, Batch.id).id
        total = connection.scalar(select(func.count()).where(Record.batch_id == batch_id)) or 0
    if tokens is not None:
        tokens.read(database, batch_id)
    differences = list[Difference]()

    def ask(record: Row[*tuple[Any, ...]]) -> Answer | None:
        # Without a device id there is no device, and without a user id its user is unknown.
        has_device = record.device_id and record.user_id
        call = Call(session_id="oathbulk-verify", transaction_id=f"oathbulk-record-{record.id}")
        return read(record.user_id, record.device_id, call) if has_device else None

    def note(record: Row[*tuple[Any, ...]], answer: Answer | None) -> None:
        if difference := compare(record, answer) or _compare_token(record, tokens):
            differences.append(difference)

    devices = LongList(taking(_read_pages(database, batch_id), CHUNK), ask, note, threads)
    devices.finish(on_progress, READING, total)
    return sorted(differences, key=lambda difference: difference.row_number)


def _compare_token(record: Row[*tuple[Any, ...]], tokens: TokenCheck | None) -> Difference | None:
    """Compare a record with its token in the inventory; None if they agree, or the inventory was not read."""
    described = tokens.describe(record) if tokens is not None else None
    if described is None:
        return None
    return Difference(record.row_number, record.serial_number, record.status, described)


def compare(record: Row[*tuple[Any, ...]], answer: Answer | None) -> Difference | None:
    """Compare a record with its device as it was read: the device must be ACTIVE if and only if the record is active.
    None if they agree, or there was nothing to read."""
    if answer is None:
        return None
    if isinstance(answer, NotFound):
        theirs, is_known, is_same = "not found", True, record.status != Status.ACTIVE
    elif isinstance(answer, PingOneError | SlotTooFar):
        theirs, is_known, is_same = f"could not be read ({answer})", False, False
    else:
        theirs, is_known = answer.status or "unknown", True
        is_same = answer.is_active == (record.status == Status.ACTIVE)
    return None if is_same else Difference(record.row_number, record.serial_number, record.status, theirs, is_known)


def make_device_reader(client: Callable[[], Client], active: set[str] | None = None) -> Read:
    """Make the function that reads a device with the calling thread's client, and adds its id to `active` if it is
    ACTIVE. The function waits for a slot as long as it takes, since a read cannot be postponed."""

    def read(user_id: str, device_id: str, call: Call) -> Answer:
        try:
            device = call_patiently(lambda: client().read_device(user_id, device_id, call=call))
        except (PingOneError, SlotTooFar) as failure:
            return failure
        if device.is_active and active is not None:
            active.add(device_id)
        return device

    return read


class TokenCheck:
    """Compares the records of one batch with the inventory. `read` must be called first: it reads the inventory once,
    with the calling thread's `reads`. `keyring` decrypts the seeds. `failure`: why the inventory could not be read.
    `unread`: the number of records whose tokens are unknown for that reason."""

    def __init__(self, reads: Callable[[], Reads], keyring: Keyring, on_progress: OnProgress = tell_nobody) -> None:
        self._reads = reads
        self._keyring = keyring
        self._on_progress = on_progress
        self._tokens: Mapping[str, InventoryToken] | None = None
        self.failure: PingOneError | PaceOutOfReach | None = None
        self.unread = 0

    def read(self, database: Database, batch_id: int) -> None:
        """Read the batch's tokens from the inventory. Read nothing if the file named every record's device."""
        is_of_batch = Record.batch_id == batch_id
        with database.reading() as connection:
            needing = connection.scalar(select(func.count()).where(is_of_batch, _needs_inventory()))
            if not needing:
                return
            serial_numbers = frozenset(connection.scalars(select(Record.serial_key).where(is_of_batch)))
        call = Call("oathbulk-verify", "oathbulk-verify-inventory")
        try:
            self._tokens = find_tokens(self._reads(), serial_numbers, call, self._on_progress)
        except (PingOneError, PaceOutOfReach) as failure:
            self.failure, self.unread = failure, needing

    def describe(self, record: Row[*tuple[Any, ...]]) -> str | None:
        """Describe how the inventory differs from the record; None if they agree, or the inventory was not read."""
        if self._tokens is None:
            return None
        return describe_token(record, self._tokens.get(record.serial_number.lower()), _open_seed(self._keyring, record))


def describe_token(record: Row[*tuple[Any, ...]], token: InventoryToken | None, seed: Seed | None) -> str | None:
    """Describe how the inventory differs from the record; None if they agree. `token` is None if the inventory has none
    with this serial number; `seed` is None if it is no longer known."""
    if token is None:
        return "not in the inventory" if record.is_in_inventory else None
    if token.device_id is not None or token.user_id is not None:
        return _describe_pairing(record, token)
    if record.status == Status.ACTIVE:
        return "not paired"
    if seed is not None and record.reason != Reason.TOKEN_DIFFERS and (name := find_difference(seed, token)):
        return f"in the inventory with a different {name}"
    return None


def _open_seed(keyring: Keyring, record: Row[*tuple[Any, ...]]) -> Seed | None:
    """Decrypt the record's seed; None if it has none, or if the key is gone."""
    if record.otps is None or record.next_counter is None:
        return None
    try:
        source = open_otps(keyring, record.otps, record.batch_id, record.row_number)
    except DecryptionError:
        return None
    return source if isinstance(source, Seed) else None


def _describe_pairing(record: Row[*tuple[Any, ...]], token: InventoryToken) -> str | None:
    """Describe how a paired token differs from the record; None if they agree."""
    if not record.user_id:
        return "paired with somebody"
    owner = (token.user_id or record.user_id).lower()
    if owner != record.user_id.lower():
        # This agrees with a record that failed for exactly this reason.
        return None if record.reason == Reason.TOKEN_TAKEN else "paired with another person"
    if record.device_id:
        is_same = token.device_id is None or token.device_id.lower() == record.device_id.lower()
        return None if is_same else "paired as another device"
    return "paired with this person, as a device that the record does not have"


def _needs_inventory() -> ColumnElement[bool]:
    """Whether the inventory shows more about a record than a read of its device."""
    return or_(Record.device_id == "", Record.is_token_made, Record.is_device_made)


def _read_pages(database: Database, batch_id: int) -> Iterator[Row[*tuple[Any, ...]]]:
    """Read the batch's records page by page, so that no transaction is open during network calls."""
    last = -1
    while True:
        page = (
            select(*_COLUMNS)
            .where(Record.batch_id == batch_id, Record.row_number > last)
            .order_by(Record.row_number)
            .limit(CHUNK)
        )
        with database.reading() as connection:
            records = connection.execute(page).all()
        if not records:
            return
        yield from records
        last = records[-1].row_number
