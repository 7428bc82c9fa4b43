"""Meets a database that was restored from a backup with distrust: it does not know what went out since."""

from __future__ import annotations

from sqlalchemy import Connection, update

from models.audit import Action
from models.batch import Batch
from worker import audit
from worker.audit import Actor
from worker.config.settings import Settings
from worker.database.engine import Database
from worker.fleet import GONE_AFTER, read_processes
from worker.leases import distrust
from worker.observability.counting import agree
from worker.observability.progress import OnProgress, tell_nobody

# Records that one transaction changes.
CHUNK = 1000


class WorkersLive(Exception):
    """Worker processes are at work on the database; the message names them."""


def distrust_all(database: Database, settings: Settings, actor: Actor, on_progress: OnProgress = tell_nobody) -> int:
    """Mark every record that is not final as sent, fate unknown, and have the inventory of every batch read again.
    Returns how many records were not marked yet.

    Goes chunk by chunk, each in a transaction of its own; run again, it does what is left. Raises WorkersLive."""
    with database.changing_many() as connection:
        _refuse_beside_workers(database, connection)
        distrust.take_all_back(database, connection)
        # A token that was imported since must not be imported again.
        connection.execute(update(Batch).where(Batch.inventory_read_at.is_not(None)).values(inventory_read_at=None))
        total = distrust.count_trusted(connection)
        audit.append(database, connection, actor, Action.RECONCILE, None, {"records": total})
    done, last_id = 0, 0
    while True:
        with database.changing_many() as connection:
            _refuse_beside_workers(database, connection)
            ids = distrust.find_pending(connection, last_id, CHUNK)
            if not ids:
                return done
            done += distrust.distrust(
                database, connection, ids, post_budget=settings.otp_post_budget, over_after=settings.tuning.over_after
            )
            last_id = ids[-1]
        if done < total:
            on_progress("Marking records", done, total)


def _refuse_beside_workers(database: Database, connection: Connection) -> None:
    """Raise WorkersLive if a worker process lives: what it is doing, no mark here would tell."""
    alive = [process.name for process in read_processes(database, connection) if process.is_alive]
    if alive:
        live, it = agree(len(alive), "process lives", "processes live"), agree(len(alive), "it", "them")
        raise WorkersLive(
            f"{len(alive)} worker {live}: {', '.join(alive)}. End {it}, then give the command again; one that was "
            f"killed counts as alive for {GONE_AFTER:.0f} seconds"
        )
