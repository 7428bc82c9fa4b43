"""Compares records with PingOne's inventory of tokens: whether the token is there with its seed's parameters, and whom
it is paired with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row, func, or_, select

from models.encrypted import DecryptionError, Keyring
from models.reason import Reason
from models.record import Record
from models.record_states import Status
from worker.batches.inventory import find_difference, find_tokens
from worker.database.engine import Database
from worker.observability.progress import OnProgress, tell_nobody
from worker.pace.errors import PaceOutOfReach
from worker.pingone.client import Call
from worker.pingone.errors import PingOneError
from worker.pingone.inventory import InventoryToken
from worker.pingone.reads import Reads
from worker.vault.sealed_otps import open_otps
from worker.vault.seed import Seed

# Lists the tokens with these serial numbers (in small letters), by serial number; or says why that is not known.
ListTokens = Callable[[Collection[str]], Mapping[str, InventoryToken] | PingOneError | PaceOutOfReach]


def make_token_lister(reads: Callable[[], Reads], on_progress: OnProgress = tell_nobody) -> ListTokens:
    """Make the function that reads the inventory, with the calling thread's reads."""

    def list_tokens(serial_numbers: Collection[str]) -> Mapping[str, InventoryToken] | PingOneError | PaceOutOfReach:
        try:
            call = Call("oathbulk-verify", "oathbulk-verify-inventory")
            return find_tokens(reads(), serial_numbers, call, on_progress)
        except (PingOneError, PaceOutOfReach) as failure:
            return failure

    return list_tokens


class TokenCheck:
    """Compares the records of one batch with the inventory, which is read once, at first, by `list_tokens`; with the
    keys of `keyring` seeds are opened. `failure`: why nothing of it is known, and `unread`: of how many records the
    tokens are not known therefore."""

    def __init__(self, list_tokens: ListTokens, keyring: Keyring) -> None:
        self._list_tokens = list_tokens
        self._keyring = keyring
        self._tokens: Mapping[str, InventoryToken] | None = None
        self.failure: PingOneError | PaceOutOfReach | None = None
        self.unread = 0

    def read(self, database: Database, batch_id: int) -> None:
        """Read what the inventory has of the tokens of a batch; nothing, if each record brought its device with it."""
        mine = Record.batch_id == batch_id
        with database.reading() as connection:
            needing = connection.scalar(select(func.count()).where(mine, _needs_inventory()))
            if not needing:
                return
            serial_numbers = frozenset(connection.scalars(select(func.lower(Record.serial_number)).where(mine)))
        found = self._list_tokens(serial_numbers)
        if isinstance(found, Exception):
            self.failure, self.unread = found, needing
        else:
            self._tokens = found

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
