"""Gives up records before their first call, since their preparation found that nothing can make them active. Works in
the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from models.base import LONGEST_DETAIL
from models.reason import CURES, Reason
from models.record import Record
from models.record_states import Status
from worker.database.engine import Database
from worker.leases.moves import move


def give_up(
    database: Database, connection: Connection, record_ids: Sequence[int], reason: Reason, said: str | None = None
) -> int:
    """Make these records dead letters, if they are pending. `said`: what PingOne said of it. Returns how many."""
    if not record_ids:
        return 0
    dead = move(database, Status.PENDING, Status.DEAD_LETTER).where(Record.id.in_(record_ids))
    detail = f"{CURES[reason]} PingOne said: {said}" if said else CURES[reason]
    return connection.execute(dead.values(reason=reason, detail=detail[:LONGEST_DETAIL])).rowcount
