"""Gives up records before their first call, since their preparation found that nothing can make them active. Works in
the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, case

from models.base import LONGEST_DETAIL
from models.reason import Reason, find_cure
from models.record import Record
from models.record_states import Status
from worker.database.engine import Database
from worker.leases.moves import move


def give_up(
    database: Database, connection: Connection, record_ids: Sequence[int], reason: Reason, told: str = ""
) -> int:
    """Make these records dead letters, if they are pending. `told`: what PingOne showed or said, in a sentence. Returns
    how many."""
    if not record_ids:
        return 0
    dead = move(database, Status.PENDING, Status.DEAD_LETTER).where(Record.id.in_(record_ids))
    of_seed, of_pair = (write_detail(reason, told, has_seed=has_seed) for has_seed in (True, False))
    detail = case((Record.next_counter.is_not(None), of_seed), else_=of_pair)
    return connection.execute(dead.values(reason=reason, detail=detail)).rowcount


def write_detail(reason: Reason, told: str, *, has_seed: bool) -> str:
    """Write the `detail` of a dead letter: its cure, and what PingOne showed or said."""
    return f"{find_cure(reason, has_seed=has_seed)} {told}".rstrip()[:LONGEST_DETAIL]
