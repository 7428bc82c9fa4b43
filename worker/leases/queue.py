"""What the dispatcher does with many records: put what is due onto the queue, rescue what was left lying."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Float, Integer, Select, Update, and_, bindparam, case, func, insert, select, text
from sqlalchemy.orm import InstrumentedAttribute

from models.attempt import AttemptLine, Outcome
from models.batch import Batch, BatchState
from models.record import IN_WINDOW, UNSETTLED, Record, Status, needs_read
from worker.database.engine import Database, Moment
from worker.leases.moves import DUE_IN_ORDER, PENDING_IN_ORDER, has_pending, move

# Records that one statement names by id: well below SQLite's bound of 32,766 parameters.
CHUNK = 1000
_NAMED = Record.id.in_(bindparam("ids", expanding=True))

# Counted here: asked for some batches only, SQLite would look at all of their records.
_IN_WINDOW = select(Record.batch_id).where(text(IN_WINDOW))
_CANCELLED = select(Batch.id).where(Batch.state == BatchState.CANCELLED, has_pending())


class Queue:
    """Moves between `pending` and `queued`, and rescues. Every method works in the caller's transaction.

    Every statement is built once, here: building one costs more than running it."""

    def __init__(
        self, database: Database, *, send_within: float = 5.0, call_deadline: float = 20.0, read_delay: float = 30.0
    ) -> None:
        # From the mark: the OTP went out within `send_within`, a living worker would have given the call up after
        # `call_deadline`, and a call that was given up may still run at PingOne for `read_delay`.
        settled_after = send_within + call_deadline + read_delay
        now, seconds = database.now(), bindparam("seconds", type_=Float())
        self._due = [_due(condition, order, now) for condition, order in DUE_IN_ORDER]
        self._due_in_canary = [due.where(Record.row_number <= bindparam("last_row")) for due in self._due]
        self._due_reads = _due(UNSETTLED, Record.scheduled_at, now)
        onto = move(database, Status.PENDING, Status.QUEUED).where(_NAMED)
        self._onto = onto.values(lease_until=database.now(seconds))
        back = move(database, Status.QUEUED, Status.PENDING)
        self._unqueue = back.where(_NAMED).values(scheduled_at=database.now(seconds))
        self._count_settled_lately = select(func.count()).where(
            Record.batch_id.in_(bindparam("batch_ids", expanding=True)), Record.finalized_at > database.now(seconds)
        )
        ran_out = and_(text(IN_WINDOW), Record.lease_until < now)
        self._unqueue_lost = back.where(ran_out).values(scheduled_at=now)
        self._find_lost = (
            select(
                Record.id,
                Record.batch_id,
                Record.lease_id,
                (Record.attempts - Record.attempts_forgiven).label("number"),
            )
            .where(ran_out, Record.status == Status.ACTIVATING)
            .limit(CHUNK)
            .with_for_update(skip_locked=True)
        )
        may_be_read_at = database.later(Record.otp_sent_at, settled_after)
        self._take_back = (
            move(database, Status.ACTIVATING, Status.PENDING)
            .where(_NAMED)
            .values(scheduled_at=case((needs_read(), may_be_read_at), else_=now))
        )
        self._line = insert(AttemptLine).values(outcome=Outcome.LOST, reason="lease_ran_out", ended_at=now)
        pending = [_pending(condition, order) for condition, order in PENDING_IN_ORDER]
        self._to_cancel = [mine.where(~needs_read()).limit(CHUNK) for mine in pending]
        self._cancel = move(database, Status.PENDING, Status.CANCELLED).where(_NAMED)

    def enqueue(
        self, connection: Connection, batch_id: int, room: int, lease: float, last_row: int | None = None
    ) -> list[int]:
        """Up to `room` due records of a running batch (of its rows up to `last_row`): pending → queued. Their ids, in
        the order in which they go."""
        ids: list[int] = []
        for due in self._due if last_row is None else self._due_in_canary:
            if len(ids) < room:
                values = {"of_batch": batch_id, "room": room - len(ids), "last_row": last_row}
                ids += self._enqueue(connection, due, values, lease)
        return ids

    def enqueue_reads(self, connection: Connection, batch_id: int, room: int, lease: float) -> list[int]:
        """The same for a cancelled batch: only records to which a read is owed."""
        return self._enqueue(connection, self._due_reads, {"of_batch": batch_id, "room": room}, lease)

    def unqueue(self, connection: Connection, ids: Sequence[int], delay: float = 0.0) -> None:
        """Publishing failed: pending again."""
        _each_chunk(connection, self._unqueue, ids, seconds=delay)

    def count_window(self, connection: Connection) -> Counter[int]:
        """How many records are queued or in work, by batch."""
        return Counter(connection.scalars(_IN_WINDOW))

    def count_settled_lately(self, connection: Connection, batch_ids: Sequence[int], seconds: float) -> int:
        """How many records of these batches took a final status in the last so many seconds."""
        return connection.scalar(self._count_settled_lately, {"batch_ids": batch_ids, "seconds": -seconds}) or 0

    def rescue(self, connection: Connection) -> int:
        """Leases that ran out: lost messages and dead workers. How many records came back."""
        return self._rescue_queued(connection) + self._rescue_activating(connection)

    def sweep_cancelled(self, connection: Connection) -> None:
        """Pending records of cancelled batches: those that came back after the command."""
        for batch_id in connection.scalars(_CANCELLED).all():
            for mine in self._to_cancel:
                ids = connection.scalars(mine, {"of_batch": batch_id}).all()
                _each_chunk(connection, self._cancel, ids)

    def _enqueue(self, connection: Connection, due: Select[Any], values: dict[str, Any], lease: float) -> list[int]:
        ids = list(connection.scalars(due, values))
        _each_chunk(connection, self._onto, ids, seconds=lease)
        return ids

    def _rescue_queued(self, connection: Connection) -> int:
        return connection.execute(self._unqueue_lost).rowcount

    def _rescue_activating(self, connection: Connection) -> int:
        rows = connection.execute(self._find_lost).all()
        if not rows:
            return 0
        _each_chunk(connection, self._take_back, [row.id for row in rows])
        lines = [
            {"record_id": row.id, "batch_id": row.batch_id, "number": row.number, "lease_id": row.lease_id}
            for row in rows
        ]
        connection.execute(self._line, lines)
        return len(rows)


def _pending(condition: str, order: InstrumentedAttribute[Any]) -> Select[int]:
    """A batch's records of one part of what is pending, in its order."""
    return select(Record.id).where(text(condition), Record.batch_id == bindparam("of_batch")).order_by(order)


def _due(condition: str, order: InstrumentedAttribute[Any], now: Moment) -> Select[int]:
    due = _pending(condition, order).where(Record.scheduled_at <= now)
    return due.limit(bindparam("room", type_=Integer())).with_for_update(skip_locked=True)


def _each_chunk(connection: Connection, statement: Update, ids: Sequence[int], **values: Any) -> None:
    for start in range(0, len(ids), CHUNK):
        connection.execute(statement, {"ids": ids[start : start + CHUNK], **values})
