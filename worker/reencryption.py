"""Rotation of the encryption key: every stored pair of OTPs is sealed anew with the first key."""

from __future__ import annotations

from sqlalchemy import select, update

from models.encrypted import Keyring, bound_to
from models.record import Record
from worker.database import Database

CHUNK = 1000


def reencrypt(database: Database, keyring: Keyring) -> int:
    """How many records were sealed anew. Works beside running workers, and goes on where it was if run again.

    Raises DecryptionError at the first record whose key is not in the ring."""
    count, last_id = 0, 0
    while True:
        with database.writing() as connection:
            rows = connection.execute(
                select(Record.id, Record.batch_id, Record.row_number, Record.otps)
                .where(Record.id > last_id, Record.otps.is_not(None))
                .order_by(Record.id)
                .limit(CHUNK)
                .with_for_update()
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
