"""Sets the times of preparations anew after a jump of the database's clock: none that was written before it can be
trusted."""

from __future__ import annotations

from sqlalchemy import Connection, text, update

from models.batch import Batch
from models.inventory_job import UNFINISHED, InventoryJob
from worker.batches.preparation.turns import LEASE
from worker.database.engine import Database


def restart_times(database: Database, connection: Connection) -> None:
    """Let no turn last longer than from now on, believe no reading of the inventory of a time to come, and count from
    now how long a job has been out. In the caller's transaction."""
    is_too_far = Batch.prepared_until > database.now(LEASE)
    connection.execute(update(Batch).where(is_too_far).values(prepared_until=database.now(LEASE)))
    read_later = update(Batch).where(Batch.inventory_read_at > database.now())
    connection.execute(read_later.values(inventory_read_at=None))
    unfinished = update(InventoryJob).where(text(UNFINISHED))
    connection.execute(unfinished.values(counted_from=database.now()))
    connection.execute(unfinished.where(InventoryJob.sent_at > database.now()).values(sent_at=database.now()))
