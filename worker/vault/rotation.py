"""Rotates the encryption key: every stored pair of OTPs is decrypted, and encrypted again with the first key."""

from collections.abc import Callable, Iterator

from sqlalchemy import ColumnElement, Connection, exists, func, select, update

from models.encrypted import Keyring, identify_row
from models.record import Record
from worker.database.engine import Database
from worker.observability.progress import OnProgress, tell_nobody

# Records that one transaction encrypts again.
CHUNK = 1000
# Writes a line of the audit, in this transaction: so many records are to be encrypted again.
WriteDown = Callable[[Connection, int], None]


def reencrypt(
    database: Database, keyring: Keyring, write_down: WriteDown, on_progress: OnProgress = tell_nobody
) -> int:
    """Encrypt with the first key every pair of OTPs that is encrypted with another one; how many records that were.

    Works beside running workers, and continues where it stopped if run again. `write_down` is called first, unless
    there is nothing to do: a rotation that fails half-way was asked for as well.

    Raises DecryptionError at the first record whose key is not in the ring.
    """
    with database.writing() as connection:
        left = connection.scalar(select(func.count()).where(*_is_under_other_key(keyring)))
        if left:
            write_down(connection, left)
    count = 0
    while _is_any_left(database, keyring):
        before = count
        for resealed in _reseal(database, keyring):
            count = before + resealed
            on_progress("Encrypting records", count, max(left or 0, count))
    database.empty_log()
    return count


def _is_any_left(database: Database, keyring: Keyring) -> bool:
    with database.reading() as connection:
        return bool(connection.scalar(select(exists().where(*_is_under_other_key(keyring)))))


def _is_under_other_key(keyring: Keyring) -> tuple[ColumnElement[bool], ...]:
    """SQL conditions: a record has OTPs, and they are encrypted with another key than the first."""
    other_key = func.substr(Record.otps, 1, len(keyring.sealing_id)) != keyring.sealing_id
    return Record.otps.is_not(None), other_key


def _reseal(database: Database, keyring: Keyring) -> Iterator[int]:
    """Encrypt again from the first record to the last, except for those that another transaction has locked. Yields
    after each transaction how many that are so far.

    To wait for a locked record while holding others could lead to a deadlock with a tick of the dispatcher, which does
    the same.
    """
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
                if not keyring.is_sealed_by_first_key(row.otps):
                    identity = identify_row(row.batch_id, row.row_number)
                    sealed = keyring.seal(keyring.open(row.otps, identity), identity)
                    connection.execute(update(Record).where(Record.id == row.id).values(otps=sealed))
                    count += 1
        if not rows:
            return
        last_id = rows[-1].id
        yield count
