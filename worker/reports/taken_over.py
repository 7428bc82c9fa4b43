"""Counts the tokens of a batch that a later batch took over: those of its dead letters and cancelled records that were
loaded again. Are we done? is asked of tokens, whichever batch made them active."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, exists, func, select
from sqlalchemy.orm import aliased

from models.batch import Batch
from models.record import Record
from models.record_states import Status

_UNFINISHED_HERE = (Status.DEAD_LETTER, Status.CANCELLED)


@dataclass(frozen=True, slots=True)
class TakenOver:
    """Tokens that were loaded again: how many, by the batch with their latest record, and by that record's status."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Tokens that were loaded again."""
        return sum(number for counts in self.counts.values() for number in counts.values())

    @property
    def active(self) -> int:
        """Those of them that are active now."""
        return sum(counts.get(Status.ACTIVE, 0) for counts in self.counts.values())

    def to_json(self) -> dict[str, Any]:
        """The counts as `oathbulk status --json` prints them."""
        return self.counts


def read_taken_over(connection: Connection, batch_id: int) -> TakenOver:
    """Read which tokens of this batch a later batch took over."""
    later, latest = aliased(Record, name="later"), aliased(Record, name="latest")
    is_later = (later.environment_id == Record.environment_id, later.serial_number == Record.serial_number)
    is_latest = (latest.environment_id == later.environment_id, latest.serial_number == later.serial_number)
    rows = connection.execute(
        select(Batch.name, later.status, func.count().label("tokens"))
        .select_from(Record)
        .join(later, (later.id > Record.id) & is_later[0] & is_later[1])
        .join(Batch, Batch.id == later.batch_id)
        .where(Record.batch_id == batch_id, Record.status.in_(_UNFINISHED_HERE), later.batch_id != batch_id)
        .where(~exists().where(latest.id > later.id, *is_latest))
        .group_by(Batch.name, later.status)
        .order_by(Batch.name, later.status)
    )
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        counts.setdefault(row.name, {})[row.status] = row.tokens
    return TakenOver(counts)
