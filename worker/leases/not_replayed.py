"""Tells which final records of a batch a replay left as they are, and why."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, ScalarSelect, Select, TextClause, and_, case, func, or_, select, text
from sqlalchemy.orm import aliased

from models.batch import Batch
from models.record import Record
from models.record_indexes import NOT_FINAL
from models.record_states import Status


class Why(StrEnum):
    """Why a record cannot go again."""

    # One of its OTPs was refused: it needs fresh OTPs, by a mend.
    FRESH_OTPS = "fresh_otps"
    # Its token was active, so its seed was erased, and the device or the token was taken away since.
    SEED_ERASED = "seed_erased"
    # A later batch brought OTPs of the same token.
    LOADED_AGAIN = "loaded_again"
    # Another batch has a record of the same token or device that is not final yet.
    IN_PROGRESS = "in_progress"


@dataclass(frozen=True, slots=True)
class NotReplayed:
    """How many records a replay left for the same cause. `reason` is that of the dead letters, or "cancelled"; `batch`
    is the other batch that has the tokens; None where no other has them."""

    records: int
    reason: str
    why: Why
    batch: str | None = None


def find_not_replayed(
    connection: Connection, batch_id: int, reasons: Collection[str] | None
) -> tuple[NotReplayed, ...]:
    """Count what a replay of these reasons (None: of all reasons, and of what was cancelled) has left, the largest
    group first."""
    each = _select_left(batch_id, reasons).subquery()
    counted = (
        select(func.count().label("records"), each.c.reason, each.c.why, each.c.batch)
        .group_by(each.c.reason, each.c.why, each.c.batch)
        .order_by(func.count().desc(), each.c.reason, each.c.why, each.c.batch)
    )
    return tuple(NotReplayed(row.records, row.reason, Why(row.why), row.batch) for row in connection.execute(counted))


def _select_left(batch_id: int, reasons: Collection[str] | None) -> Select[str, str, str | None]:
    """Each record that was left: its reason, why it stays, and the other batch."""
    dead = Record.status == Status.DEAD_LETTER
    left = or_(dead, Record.status == Status.CANCELLED) if reasons is None else and_(dead, Record.reason.in_(reasons))
    other = aliased(Record, name="other")
    is_same_token = other.serial_number == Record.serial_number
    # In the words of the partial unique indexes, and as two questions, so that the database has an index for each.
    is_in_progress = text(f"other.{NOT_FINAL}")
    in_progress = func.coalesce(
        _latest_batch(other, is_same_token, is_in_progress),
        _latest_batch(other, other.device_id == Record.device_id, text("other.device_id <> ''"), is_in_progress),
    )
    later = _latest_batch(other, is_same_token, other.id > Record.id)
    had_seed = and_(Record.next_counter.is_not(None), Record.otps.is_(None))
    why = case(
        (in_progress.is_not(None), Why.IN_PROGRESS),
        (later.is_not(None), Why.LOADED_AGAIN),
        (had_seed, Why.SEED_ERASED),
        else_=Why.FRESH_OTPS,
    )
    reason = func.coalesce(Record.reason, Record.status)
    batch = func.coalesce(in_progress, later)
    return select(reason.label("reason"), why.label("why"), batch.label("batch")).where(
        Record.batch_id == batch_id, left
    )


def _latest_batch(other: type[Record], *conditions: ColumnElement[bool] | TextClause) -> ScalarSelect[str]:
    """The name of the batch of the latest such record in the same environment."""
    return (
        select(Batch.name)
        .join(other, other.batch_id == Batch.id)
        .where(other.environment_id == Record.environment_id, *conditions)
        .order_by(other.id.desc())
        .limit(1)
        .correlate(Record)
        .scalar_subquery()
    )
