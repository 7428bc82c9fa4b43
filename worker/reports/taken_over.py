"""Finds the tokens of a batch that a later batch took over: those of its dead letters, cancelled records and refused
rows that were loaded again. Are we done? is asked of tokens, whichever batch made them active."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Row,
    Select,
    and_,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    union_all,
)
from sqlalchemy.orm import aliased

from models.batch import Batch
from models.record import Record
from models.record_states import Status
from models.refused_row import REFUSED, RefusedRow
from worker.leases.replay import is_replayable

# How records end that a person brings back.
UNFINISHED = (Status.DEAD_LETTER, Status.CANCELLED)
# The record that counts for a token now, and the batch which it is of.
Later, _LaterBatch = aliased(Record, name="later"), aliased(Batch, name="later_batch")
_Latest = aliased(Record, name="latest")
_IS_LATEST = ~exists().where(
    _Latest.environment_id == Later.environment_id,
    _Latest.serial_number == Later.serial_number,
    _Latest.id > Later.id,
)


@dataclass(frozen=True, slots=True)
class TakenOver:
    """Tokens that were loaded again: how many, by the batch with their latest record, and by that record's status."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    # Those of them that are active now, by what ended them here: a status or REFUSED, and its reason, empty for none.
    active_by_end: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    # Those of them whose dead letter here a replay would take if it were the token's latest record, by its reason.
    replayable: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Tokens that were loaded again."""
        return sum(number for counts in self.counts.values() for number in counts.values())

    @property
    def active(self) -> int:
        """Those of them that are active now."""
        return sum(counts.get(Status.ACTIVE, 0) for counts in self.counts.values())

    def count_active(self, ended: str) -> int:
        """Tokens that ended here with this status, or as REFUSED, and are active in a later batch."""
        return sum(self.active_by_end.get(ended, {}).values())

    def count_left(self, ended: str, reasons: Mapping[str, int]) -> dict[str, int]:
        """Of the tokens that ended here so, counted by reason, those that no later batch made active; no reason that
        none is left of."""
        active = self.active_by_end.get(ended, {})
        left = {reason: number - active.get(reason, 0) for reason, number in reasons.items()}
        return {reason: number for reason, number in left.items() if number > 0}

    def to_json(self) -> dict[str, Any]:
        """The counts as `oathbulk status --json` prints them."""
        return self.counts


def select_taken_over(batch_id: int) -> CompoundSelect[*tuple[Any, ...]]:
    """Select the tokens of this batch that another batch took over: the row here (`row_number`), the id of the record
    that counts now (`later_id`) with its `status`, and the `name` of its batch; and how it `ended` here: with a status
    or as REFUSED, the `reason`, and whether it would be replayed otherwise."""
    dead = and_(Record.status == Status.DEAD_LETTER, Record.otps.is_not(None), is_replayable())
    found = (Later.id.label("later_id"), Later.status, _LaterBatch.name)
    return union_all(
        _select_later_records(batch_id).with_only_columns(
            Record.row_number,
            *found,
            Record.status.label("ended"),
            func.coalesce(Record.reason, "").label("reason"),
            func.coalesce(dead, false()).label("is_replayable"),
        ),
        _select_later_of_refused(batch_id).with_only_columns(
            RefusedRow.row_number,
            *found,
            literal(REFUSED).label("ended"),
            RefusedRow.reason,
            false().label("is_replayable"),
        ),
    )


def select_rows_active_later(batch_id: int) -> Select[*tuple[Any, ...]]:
    """Select the row numbers of this batch's tokens that a later batch made active."""
    later = select_taken_over(batch_id).subquery()
    return select(later.c.row_number).where(later.c.status == Status.ACTIVE)


def read_taken_over(connection: Connection, batch_id: int) -> TakenOver:
    """Count the tokens of this batch that another batch took over."""
    later = select_taken_over(batch_id).subquery()
    rows = connection.execute(
        select(
            *(later.c.name, later.c.status, later.c.ended, later.c.reason),
            func.count().label("tokens"),
            func.count().filter(later.c.is_replayable).label("replayable"),
        )
        .group_by(later.c.name, later.c.status, later.c.ended, later.c.reason)
        .order_by(later.c.name, later.c.status)
    )
    counts: dict[str, dict[str, int]] = {}
    active: dict[str, dict[str, int]] = {}
    replayable: dict[str, int] = {}
    for row in rows:
        _add(counts.setdefault(row.name, {}), row.status, row.tokens)
        _add(replayable, row.reason, row.replayable)
        if row.status == Status.ACTIVE:
            _add(active.setdefault(row.ended, {}), row.reason, row.tokens)
    return TakenOver(counts, active, replayable)


def _add(counts: dict[str, int], key: str, number: int) -> None:
    counts[key] = counts.get(key, 0) + number


def read_successors(connection: Connection, batch_id: int, first: int, last: int) -> dict[int, Row[*tuple[Any, ...]]]:
    """Read which records took over from the rows of this batch between these two, by their row numbers here."""
    later = select_taken_over(batch_id).subquery()
    mine = select(later).where(later.c.row_number.between(first, last))
    return {row.row_number: row for row in connection.execute(mine)}


def _select_later_records(batch_id: int) -> Select[*tuple[Any, ...]]:
    """Join the unfinished records of this batch with those of later batches."""
    return (
        select(Record.id)
        .join(
            Later,
            (Later.id > Record.id)
            & (Later.environment_id == Record.environment_id)
            & (Later.serial_number == Record.serial_number),
        )
        .join(_LaterBatch, _LaterBatch.id == Later.batch_id)
        .where(Record.batch_id == batch_id, Record.status.in_(UNFINISHED), Later.batch_id != batch_id, _IS_LATEST)
    )


def _select_later_of_refused(batch_id: int) -> Select[*tuple[Any, ...]]:
    """Join the refused rows of this batch with the records that later batches have of their tokens, or that another one
    settled since: it was at work on the token when this batch was loaded. A row that repeats another of its file is no
    further token, and which of the two is right nobody knows."""
    mine = aliased(Record, name="mine")
    is_repeated = exists().where(
        mine.environment_id == RefusedRow.environment_id,
        mine.serial_number == RefusedRow.serial_number,
        # As a sum, so that SQLite looks the serial number up, and does not read the whole batch for each row.
        mine.batch_id + 0 == batch_id,
    )
    return (
        select(RefusedRow.id)
        .join(Batch, Batch.id == RefusedRow.batch_id)
        .join(
            Later,
            (Later.environment_id == RefusedRow.environment_id) & (Later.serial_number == RefusedRow.serial_number),
        )
        .join(_LaterBatch, _LaterBatch.id == Later.batch_id)
        .where(RefusedRow.batch_id == batch_id, Later.batch_id != batch_id, ~is_repeated, _IS_LATEST)
        .where(or_(Later.batch_id > batch_id, Later.finalized_at > Batch.created_at))
    )
