"""What a person's pause and cancel do to the records of a batch. Every function works in the caller's transaction."""

from __future__ import annotations

from sqlalchemy import Connection

from models.record import Record, needs_read
from models.record_states import Status
from worker.database.engine import Database
from worker.leases.moves import move


def hand_back_queued(database: Database, connection: Connection, batch_id: int | None = None) -> int:
    """Make what is queued, of this batch or of all, pending again. Returns how many records."""
    back = move(database, Status.QUEUED, Status.PENDING)
    if batch_id is not None:
        back = back.where(Record.batch_id == batch_id)
    return connection.execute(back).rowcount


def cancel(database: Database, connection: Connection, batch_id: int) -> int:
    """Cancel every record of a batch that no worker holds and that needs no read. Returns how many."""
    cancelled = 0
    for status in (Status.PENDING, Status.QUEUED):
        gone = move(database, status, Status.CANCELLED).where(Record.batch_id == batch_id, ~needs_read())
        cancelled += connection.execute(gone).rowcount
    return cancelled
