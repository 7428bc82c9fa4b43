"""What the dispatcher does with many records: put what is due onto the queue, rescue what was left lying."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, case, func, insert, select, text

from models.attempt import Attempt, Outcome
from models.batch import Batch, BatchState
from models.record import IN_WINDOW, UNSETTLED, Record, Status, needs_read
from worker.database import Database
from worker.leases.moves import DUE_IN_ORDER, PENDING_IN_ORDER, has_pending, move

# Records that one statement names by id: well below SQLite's bound of 32,766 parameters.
CHUNK = 1000


class Queue:
    """Moves between `pending` and `queued`, and rescues. Every method works in the caller's transaction."""

    def __init__(
        self, database: Database, *, send_within: float = 5.0, call_deadline: float = 20.0, read_delay: float = 30.0
    ) -> None:
        self._database = database
        # From the mark: the OTP went out within `send_within`, a living worker would have given the call up after
        # `call_deadline`, and a call that was given up may still run at PingOne for `read_delay`.
        self._settled_after = send_within + call_deadline + read_delay

    def enqueue(
        self, connection: Connection, batch_id: int, room: int, lease: float, last_row: int | None = None
    ) -> list[int]:
        """Up to `room` due records of a running batch (of its rows up to `last_row`): pending → queued. Their ids, in
        the order in which they go."""
        ids: list[int] = []
        for condition, order in DUE_IN_ORDER:
            if len(ids) < room:
                due = self._due(batch_id, condition).order_by(order)
                if last_row is not None:
                    due = due.where(Record.row_number <= last_row)
                ids += self._enqueue(connection, due.limit(room - len(ids)), lease)
        return ids

    def enqueue_reads(self, connection: Connection, batch_id: int, room: int, lease: float) -> list[int]:
        """The same for a cancelled batch: only records to which a read is owed."""
        due = self._due(batch_id, UNSETTLED).order_by(Record.scheduled_at)
        return self._enqueue(connection, due.limit(room), lease)

    def unqueue(self, connection: Connection, ids: Sequence[int], delay: float = 0.0) -> None:
        """Publishing failed: pending again."""
        back = move(self._database, Status.QUEUED, Status.PENDING).values(scheduled_at=self._database.now(delay))
        for start in range(0, len(ids), CHUNK):
            connection.execute(back.where(Record.id.in_(ids[start : start + CHUNK])))

    def in_window(self, connection: Connection) -> Counter[int]:
        """How many records are queued or in work, by batch."""
        # Counted here: asked for some batches only, SQLite would look at all of their records.
        return Counter(connection.scalars(select(Record.batch_id).where(text(IN_WINDOW))))

    def settled_lately(self, connection: Connection, batch_ids: Sequence[int], seconds: float) -> int:
        """How many records of these batches took a final status in the last so many seconds."""
        statement = select(func.count()).where(
            Record.batch_id.in_(batch_ids), Record.finalized_at > self._database.now(-seconds)
        )
        return connection.scalar(statement) or 0

    def rescue(self, connection: Connection) -> int:
        """Leases that ran out: lost messages and dead workers. How many records came back."""
        return self._rescue_queued(connection) + self._rescue_activating(connection)

    def sweep_cancelled(self, connection: Connection) -> None:
        """Pending records of cancelled batches: those that came back after the command."""
        cancelled = select(Batch.id).where(Batch.state == BatchState.CANCELLED, has_pending())
        for batch_id in connection.scalars(cancelled).all():
            for condition, order in PENDING_IN_ORDER:
                mine = select(Record.id).where(text(condition), Record.batch_id == batch_id, ~needs_read())
                ids = connection.scalars(mine.order_by(order).limit(CHUNK)).all()
                gone = move(self._database, Status.PENDING, Status.CANCELLED).where(Record.id.in_(ids))
                connection.execute(gone)

    def _due(self, batch_id: int, condition: str) -> Select[Any]:
        is_due = Record.scheduled_at <= self._database.now()
        return select(Record.id).where(text(condition), Record.batch_id == batch_id, is_due)

    def _enqueue(self, connection: Connection, due: Select[Any], lease: float) -> list[int]:
        ids = list(connection.scalars(due.with_for_update(skip_locked=True)))
        onto = move(self._database, Status.PENDING, Status.QUEUED).values(lease_until=self._database.now(lease))
        for start in range(0, len(ids), CHUNK):
            connection.execute(onto.where(Record.id.in_(ids[start : start + CHUNK])))
        return ids

    def _rescue_queued(self, connection: Connection) -> int:
        ran_out = (text(IN_WINDOW), Record.lease_until < self._database.now())
        back = move(self._database, Status.QUEUED, Status.PENDING).where(*ran_out)
        return connection.execute(back.values(scheduled_at=self._database.now())).rowcount

    def _rescue_activating(self, connection: Connection) -> int:
        lost = (
            select(Record.id, Record.lease_id, (Record.attempts - Record.attempts_forgiven).label("number"))
            .where(text(IN_WINDOW), Record.status == Status.ACTIVATING, Record.lease_until < self._database.now())
            .limit(CHUNK)
            .with_for_update(skip_locked=True)
        )
        rows = connection.execute(lost).all()
        if not rows:
            return 0
        may_be_read_at = self._database.later(Record.otp_sent_at, self._settled_after)
        back = move(self._database, Status.ACTIVATING, Status.PENDING).values(
            scheduled_at=case((needs_read(), may_be_read_at), else_=self._database.now())
        )
        connection.execute(back.where(Record.id.in_([row.id for row in rows])))
        fixed = {"outcome": Outcome.LOST, "reason": "lease_ran_out", "ended_at": self._database.now()}
        lines = [{"record_id": row.id, "number": row.number, "lease_id": row.lease_id} for row in rows]
        connection.execute(insert(Attempt).values(fixed), lines)
        return len(rows)
