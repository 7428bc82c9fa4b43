"""Rotation of the encryption key: every stored pair of OTPs is sealed anew with the first key."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import ColumnElement, Connection, exists, func, select, update

from models.encrypted import Keyring, bound_to
from models.record import Record
from worker.database.engine import Database

# Records that one transaction seals anew.
CHUNK = 1000
# Told how many records are to be sealed anew, in a transaction of its own.
WriteDown = Callable[[Connection, int], None]


def reencrypt(database: Database, keyring: Keyring, write_down: WriteDown) -> int:
    """Seal every pair of OTPs that another key sealed with the first key; how many records. Works beside running
    workers, and goes on where it was if run again. `write_down` is called first, unless there is nothing to do: a
    rotation that fails half-way was asked for, too.

    Raises DecryptionError at the first record whose key is not in the ring."""
    with database.writing() as connection:
        if left := connection.scalar(select(func.count()).where(*_under_other_keys(keyring))):
            write_down(connection, left)
    count = 0
    while _is_any_left(database, keyring):
        count += _reseal(database, keyring)
    return count


def _is_any_left(database: Database, keyring: Keyring) -> bool:
    with database.reading() as connection:
        return bool(connection.scalar(select(exists().where(*_under_other_keys(keyring)))))


def _under_other_keys(keyring: Keyring) -> tuple[ColumnElement[bool], ...]:
    other_key = func.substr(Record.otps, 1, len(keyring.sealing_id)) != keyring.sealing_id
    return Record.otps.is_not(None), other_key


def _reseal(database: Database, keyring: Keyring) -> int:
    """From the first record to the last, but for those that somebody holds at the moment: to wait for one while
    holding others could block a tick of the dispatcher, which does the same, for good."""
    count, last_id = 0, 0
    while True:
        with database.writing() as connection:
            rows = connection.execute(
                select(Record.id, Record.batch_id, Record.row_number, Record.otps)
                .where(Record.id > last_id, Record.otps.is_not(None))
                .order_by(Record.id)
                .limit(CHUNK)
                .with_for_update(skip_locked=True)
            ).all()
            for row in rows:
                if not keyring.is_sealed_by_first(row.otps):
                    identity = bound_to(row.batch_id, row.row_number)
                    sealed = keyring.seal(keyring.open(row.otps, identity), identity)
                    connection.execute(update(Record).where(Record.id == row.id).values(otps=sealed))
                    count += 1
        if not rows:
            return count
        last_id = rows[-1].id
