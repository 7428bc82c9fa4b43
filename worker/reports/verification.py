"""Verification: every device of a batch is read back from PingOne, and its tokens, and compared with the records."""

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

# Records whose devices are read before the next are taken; bounds the memory whatever the batch's size.
CHUNK = 500
# Devices that are read at once, a thread each. Where PingOne answers slowly, it takes many to reach the pace.
THREADS = 32
# What is told while devices are read.
READING = "Reading devices back"

# What the read of a device brings: the device, or why nothing is known of it.
Answer = Device | PingOneError | SlotTooFar
# Reads a device by user id and device id. The Call has the ids of the read in PingOne's audit, and counts its requests.
Read = Callable[[str, str, Call], Answer]

# What a record is compared by.
_COLUMNS = (
    *(Record.id, Record.batch_id, Record.row_number, Record.serial_number, Record.user_id, Record.device_id),
    *(Record.status, Record.reason, Record.is_in_inventory, Record.otps, Record.next_counter),
)


@dataclass(frozen=True, slots=True)
class Difference:
    """A device or token whose state in PingOne (`theirs`) is not what the record says (`ours`); or one that could not
    be read (`is_known` is False, and `theirs` says why)."""

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
    """Read every device of the batch, several at once (`threads`), and return the differences in the order of its file;
    with `tokens`, those of the inventory too, unless that could not be read, as `tokens.failure` says then. Raises
    UnknownBatch."""
    with database.reading() as connection:
        batch_id = find_batch(connection, name, Batch.id).id
        total = connection.scalar(select(func.count()).where(Record.batch_id == batch_id)) or 0
    if tokens is not None:
        tokens.read(database, batch_id)
    differences = list[Difference]()

    def ask(record: Row[*tuple[Any, ...]]) -> Answer | None:
        # Without its id, or its user's, it has no device, or it is not known whose it is.
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
    """Compare a record with what the inventory has of its token."""
    described = tokens.describe(record) if tokens is not None else None
    if described is None:
        return None
    return Difference(record.row_number, record.serial_number, record.status, described)


def compare(record: Row[*tuple[Any, ...]], answer: Answer | None) -> Difference | None:
    """Compare a record with what was read of its device: that of an active record must be ACTIVE, and no other may be.
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
    """Make the function that reads a device, with the calling thread's client, and adds its id to `active` if it is
    ACTIVE. It waits for a slot however long that takes, since there is nobody to hand the read back to."""

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
    """Compares the records of one batch with the inventory, which is read once, at first, with the calling thread's
    `reads`; with the keys of `keyring` seeds are opened. `failure`: why nothing of it is known, and `unread`: of how
    many records the tokens are not known therefore."""

    def __init__(self, reads: Callable[[], Reads], keyring: Keyring, on_progress: OnProgress = tell_nobody) -> None:
        self._reads = reads
        self._keyring = keyring
        self._on_progress = on_progress
        self._tokens: Mapping[str, InventoryToken] | None = None
        self.failure: PingOneError | PaceOutOfReach | None = None
        self.unread = 0

    def read(self, database: Database, batch_id: int) -> None:
        """Read what the inventory has of the tokens of a batch; nothing, if each record brought its device with it."""
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
        """Say in which way the inventory is not as the record says; None if they agree, or it was not read."""
        if self._tokens is None:
            return None
        return describe_token(record, self._tokens.get(record.serial_number.lower()), _open_seed(self._keyring, record))


def describe_token(record: Row[*tuple[Any, ...]], token: InventoryToken | None, seed: Seed | None) -> str | None:
    """Say in which way the inventory is not as the record says; None if they agree. `token` is None where the inventory
    has none of this serial number; `seed` where it is not known any more."""
    if token is None:
        return "not in the inventory" if record.is_in_inventory else None
    if token.device_id is not None or token.user_id is not None:
        return _describe_pairing(record, token)
    if record.status == Status.ACTIVE:
        return "not paired"
    if seed is not None and record.reason != Reason.TOKEN_DIFFERS and (name := find_difference(seed, token)):
        return f"in the inventory with another {name}"
    return None


def _open_seed(keyring: Keyring, record: Row[*tuple[Any, ...]]) -> Seed | None:
    """Decrypt the record's seed; None if it has none, or its key is gone."""
    if record.otps is None or record.next_counter is None:
        return None
    try:
        source = open_otps(keyring, record.otps, record.batch_id, record.row_number)
    except DecryptionError:
        return None
    return source if isinstance(source, Seed) else None


def _describe_pairing(record: Row[*tuple[Any, ...]], token: InventoryToken) -> str | None:
    """Say in which way a paired token is not as the record says."""
    if not record.user_id:
        return "paired with somebody"
    owner = (token.user_id or record.user_id).lower()
    if owner != record.user_id.lower():
        # A record that was given up for just that agrees.
        return None if record.reason == Reason.TOKEN_TAKEN else "paired with another person"
    if record.device_id:
        is_same = token.device_id is None or token.device_id.lower() == record.device_id.lower()
        return None if is_same else "paired as another device"
    return "paired with this person, as a device that the record does not have"


def _needs_inventory() -> ColumnElement[bool]:
    """Whether a record is one that the inventory tells something of, beyond its device."""
    return or_(Record.device_id == "", Record.is_token_made, Record.is_device_made)


def _read_pages(database: Database, batch_id: int) -> Iterator[Row[*tuple[Any, ...]]]:
    """Read the batch's records page by page, so that no transaction is open while the network is used."""
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
