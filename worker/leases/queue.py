"""What the dispatcher does with many records: queue due ones, in order; rescue those whose lease expired; and reset
times after a jump of the database's clock."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Integer,
    Select,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    literal_column,
    null,
    or_,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.base import Executable

from models.attempt import AttemptLine, CallName, Failure, Outcome, PastCall
from models.batch import Batch, BatchState
from models.record import Record, is_among_first, needs_read
from models.record_indexes import EXPIRING, HALF_DONE, IN_UNDO, IN_WINDOW, LASTING, UNSETTLED
from models.record_states import OtpState, PairingState, Status
from worker.database.engine import Database
from worker.leases.moves import UNDO_LASTS, come_back, goes_first, is_in_undo, may_begin, move

# The pending records of a batch in three parts, each with its order: those that lack only OTP 2, those whose OTPs
# expire, and the rest. Each part has a partial index, which the database uses only for a query with this order. Without
# the index, SQLite reads every record of the batch, and PostgreSQL every record of the table.
PENDING_IN_ORDER: tuple[tuple[str, InstrumentedAttribute[Any]], ...] = (
    (HALF_DONE, Record.scheduled_at),
    (EXPIRING, Record.otp_expires_at),
    (LASTING, Record.scheduled_at),
)
# The order in which the records of a running batch are queued. Records that need a read are also part of the rest, but
# come before it: their scheduled_at is later, so they would wait behind all fresh records. Those whose user has not
# been looked up yet, such as after a restore, wait until that is done: without the user's id, nothing could show
# whether a device is theirs.
DUE_IN_ORDER = (*PENDING_IN_ORDER[:-1], (f"{UNSETTLED} AND user_id <> ''", Record.scheduled_at), PENDING_IN_ORDER[-1])

# Whether a record is among the first N of its batch.
_IS_FIRST = is_among_first(bindparam("of_batch"), bindparam("first", type_=Integer()))


def has_pending() -> ColumnElement[bool]:
    """Whether some record of a batch is pending."""
    first = [
        select(Record.id).where(Record.batch_id == Batch.id, text(condition)).order_by(order).limit(1)
        for condition, order in (*PENDING_IN_ORDER, (UNSETTLED, Record.scheduled_at))
    ]
    return or_(*[probe.correlate(Batch).scalar_subquery().is_not(None) for probe in first])


# Seconds from a jump of the clock until a pending record that needs no read is due. The jump may have turned its
# backoff into hours, and a try slightly too soon does no harm.
SOON = 10.0
# Records that one statement names by id: well below SQLite's limit of 32,766 parameters.
CHUNK = 1000
# The records whose ids are in the parameter `ids`.
_NAMED = Record.id.in_(bindparam("ids", expanding=True))

_LABELS = (
    select(Record.id, Batch.name, Record.row_number, Record.serial_number, goes_first())
    .join(Batch, Batch.id == Record.batch_id)
    .where(_NAMED)
)
# How many records of each batch are in the window. The expression keeps SQLite from using the batch index, with which
# it would read all records.
_BATCH = Record.batch_id + literal_column("0")
_IN_WINDOW = select(_BATCH, func.count()).where(text(IN_WINDOW)).group_by(_BATCH)
# The batches that have records in the window.
BATCHES_IN_WINDOW = select(_BATCH).where(text(IN_WINDOW))
# Cancelled batches that have pending records.
_CANCELLED = select(Batch.id).where(Batch.state == BatchState.CANCELLED, has_pending())


class Queue:
    """Moves records between `pending` and `queued`, and rescues them. Every method works in the caller's transaction.
    `lease` is how long a worker has a record; `over_after` is how long to wait, once a request is marked as sent,
    before asking PingOne about it. Both are in seconds.

    Every statement is built once, here: building one costs more than running it."""

    def __init__(self, database: Database, *, lease: float = 60.0, over_after: float = 55.0) -> None:
        self._database = database
        self._lease = lease
        self._over_after = over_after
        seconds = bindparam("seconds", type_=Float())
        parts = [_select_due(condition, order, database) for condition, order in DUE_IN_ORDER]
        self._due = _put_in_order(parts)
        self._due_in_canary = _put_in_order([part.where(_IS_FIRST) for part in parts])
        self._due_reads = _select_due(UNSETTLED, Record.scheduled_at, database)
        queued = move(database, Status.PENDING, Status.QUEUED).where(_NAMED)
        self._put_onto_queue = queued.values(lease_until=database.now(seconds))
        unqueued = move(database, Status.QUEUED, Status.PENDING, is_by_key=True).where(_NAMED)
        self._unqueue = unqueued.values(scheduled_at=come_back(database, seconds))
        self._count_settled_lately = select(func.count()).where(
            Record.batch_id.in_(bindparam("batch_ids", expanding=True)), Record.finalized_at > database.now(seconds)
        )
        self._build_rescue(database)
        pending = [_select_pending(condition, order) for condition, order in PENDING_IN_ORDER]
        self._find_cancelled = [part.where(~needs_read()).limit(CHUNK) for part in pending]
        self._cancel = move(database, Status.PENDING, Status.CANCELLED).where(_NAMED)
        # Whether `rescue` or `sweep_cancelled` has something to do.
        self.needs_tending = or_(exists().where(self._ran_out), _CANCELLED.exists())

    def enqueue(
        self,
        connection: Connection,
        batch_id: int,
        room: int,
        lease: float,
        first: int | None = None,
    ) -> list[int]:
        """Queue up to `room` due records of a running batch, under a queue lease of `lease` seconds; with `first`, only
        from the first `first` records of the batch. Returns their ids, in the order in which to publish them."""
        due = self._due if first is None else self._due_in_canary
        return self._enqueue(connection, due, {"of_batch": batch_id, "room": room, "first": first}, lease)

    def enqueue_reads(self, connection: Connection, batch_id: int, room: int, lease: float) -> list[int]:
        """Queue up to `room` due records of a cancelled batch, only those that still need a read. Returns their ids."""
        return self._enqueue(connection, self._due_reads, {"of_batch": batch_id, "room": room}, lease)

    def read_labels(self, connection: Connection, ids: Sequence[int]) -> tuple[dict[int, str], set[int]]:
        """Read the labels of these records by id (batch, row, and serial number), and the ids of those that somebody
        waits for (`moves.put_first`)."""
        rows = [row for chunk in _cut(ids) for row in connection.execute(_LABELS, {"ids": chunk})]
        labels = {record_id: f"{batch}, row {row}, {serial}" for record_id, batch, row, serial, _ in rows}
        return labels, {record_id for record_id, *_, is_first in rows if is_first}

    def unqueue(self, connection: Connection, ids: Sequence[int], delay: float = 0.0) -> None:
        """Make queued records that could not be published pending again, due after `delay` seconds."""
        _execute_in_chunks(connection, self._unqueue, ids, seconds=delay)

    def count_window(self, connection: Connection) -> Counter[int]:
        """Count the records that are queued or in progress, by batch."""
        return Counter(dict(connection.execute(_IN_WINDOW).all()))

    def count_settled_lately(self, connection: Connection, batch_ids: Sequence[int], seconds: float) -> int:
        """Count the records of these batches that became final in the last `seconds`."""
        return connection.scalar(self._count_settled_lately, {"batch_ids": batch_ids, "seconds": -seconds}) or 0

    def rescue(self, connection: Connection) -> int:
        """Make records whose lease expired pending again: their message was lost, or their worker died. Returns how
        many."""
        return self._rescue_queued(connection) + self._rescue_activating(connection)

    def sweep_cancelled(self, connection: Connection) -> None:
        """In cancelled batches, cancel the records that became pending again after the command, unless they need a
        read."""
        for batch_id in connection.scalars(_CANCELLED).all():
            for find in self._find_cancelled:
                ids = connection.scalars(find, {"of_batch": batch_id}).all()
                _execute_in_chunks(connection, self._cancel, ids)

    def restart_times(self, connection: Connection, queue_lease: float) -> None:
        """Let all leases and due times count from now on, after a jump of the clock. `queue_lease`: how long a record
        may stay on the queue, in seconds."""
        now = self._database.now()
        in_work = update(Record).where(Record.status == Status.ACTIVATING)
        queued = update(Record).where(Record.status == Status.QUEUED)
        soon = self._database.now(SOON)
        for statement in (
            # A worker that is alive uses a clock that does not jump, and so ends its attempt within a lease from now.
            in_work.values(lease_until=self._database.now(self._lease)),
            # A past time is right, and needed: it shows who made a device.
            in_work.where(Record.otp_sent_at > now).values(otp_sent_at=now),
            queued.values(lease_until=self._database.now(queue_lease)),
            update(Record).where(text(IN_UNDO)).values(undone_until=self._database.now(UNDO_LASTS)),
            # Records that wait for their date continue to wait.
            update(Record)
            .where(Record.status == Status.PENDING, Record.scheduled_at > soon, may_begin(self._database))
            .values(scheduled_at=soon),
            # Must come last, since it overrides the one before: records that need a read wait until the request, which
            # may have gone out a moment ago, is over.
            update(Record).where(text(UNSETTLED)).values(scheduled_at=self._database.now(self._over_after)),
        ):
            connection.execute(statement)

    def _build_rescue(self, database: Database) -> None:
        """Build the statements of a rescue."""
        now, back = database.now(), move(database, Status.QUEUED, Status.PENDING)
        self._ran_out = ran_out = and_(text(IN_WINDOW), Record.lease_until < now)
        self._unqueue_lost = back.where(ran_out).values(scheduled_at=come_back(database, 0.0))
        self._find_lost = (
            select(
                Record.id,
                Record.batch_id,
                Record.lease_id,
                (Record.attempts - Record.attempts_forgiven).label("number"),
                Record.calls,
                _find_on_its_way().label("on_its_way"),
            )
            .where(ran_out, Record.status == Status.ACTIVATING)
            .limit(CHUNK)
            .with_for_update(skip_locked=True)
        )
        # When the lease began, or began again after a jump of the clock.
        leased_at = database.later(Record.lease_until, -self._lease)
        # An earlier mark was set by an earlier attempt, or before the jump: a request may have gone out since.
        sent_at = case((Record.otp_sent_at >= leased_at, Record.otp_sent_at), else_=leased_at)
        may_be_read_at = database.later(sent_at, self._over_after)
        self._take_back = (
            move(database, Status.ACTIVATING, Status.PENDING, is_by_key=True)
            .where(_NAMED)
            .values(scheduled_at=case((needs_read(), may_be_read_at), else_=come_back(database, 0.0)), calls=null())
        )
        self._insert_line = insert(AttemptLine).values(outcome=Outcome.LOST, reason=Failure.LEASE_RAN_OUT, ended_at=now)

    def _enqueue(
        self,
        connection: Connection,
        due: Executable,
        values: dict[str, Any],
        lease: float,
    ) -> list[int]:
        # A record that needs a read is in two of the parts.
        ids = list(dict.fromkeys(connection.scalars(due, values)))
        _execute_in_chunks(connection, self._put_onto_queue, ids, seconds=lease)
        return ids

    def _rescue_queued(self, connection: Connection) -> int:
        return connection.execute(self._unqueue_lost).rowcount

    def _rescue_activating(self, connection: Connection) -> int:
        rows = connection.execute(self._find_lost).all()
        if not rows:
            return 0
        _execute_in_chunks(connection, self._take_back, [row.id for row in rows])
        lines = []
        for row in rows:
            calls = list_lost_calls(row.calls, row.on_its_way)
            identity = {"record_id": row.id, "batch_id": row.batch_id, "number": row.number, "lease_id": row.lease_id}
            lines.append(identity | {"calls": calls or None})
        connection.execute(self._insert_line, lines)
        return len(rows)


def list_lost_calls(calls: Sequence[PastCall] | None, on_its_way: str | None) -> list[PastCall]:
    """List the known calls of an attempt whose worker died: those that it recorded, and the one that is marked as sent,
    without an answer. The marked call is not added if it is the last recorded one, whose answer left its outcome open;
    nor if `calls` is empty (not None), since an earlier attempt then marked it."""
    if on_its_way is None or calls == [] or (calls and calls[-1]["call"] == on_its_way):
        return list(calls or ())
    return [*(calls or ()), {"call": on_its_way}]


def _find_on_its_way() -> ColumnElement[str | None]:
    """The call of a record that is marked as sent but not as answered, as a CallName; NULL if there is none."""
    return case(
        (Record.otp2_state == OtpState.SENT, literal(CallName.OTP2)),
        (Record.otp1_state == OtpState.SENT, literal(CallName.OTP1)),
        (Record.pairing == PairingState.SENT, literal(CallName.PAIR)),
    )


def forget_messages(database: Database) -> None:
    """End the leases of all queued records, since their messages are lost: the next tick queues them again."""
    with database.changing_many() as connection:
        lost = update(Record).where(text(IN_WINDOW), Record.status == Status.QUEUED)
        connection.execute(lost.values(lease_until=database.now()))


def _select_pending(condition: str, order: InstrumentedAttribute[Any]) -> Select[int]:
    """Select one part of a batch's pending records, in the part's order."""
    return select(Record.id).where(text(condition), Record.batch_id == bindparam("of_batch")).order_by(order)


def _select_due(condition: str, order: InstrumentedAttribute[Any], database: Database) -> Select[int]:
    """Select and lock the due records of one part, except those that another transaction has locked."""
    now = database.now()
    may_go = (Record.scheduled_at <= now, may_begin(database), ~is_in_undo(database))
    due = _select_pending(condition, order).where(*may_go)
    return due.limit(bindparam("room", type_=Integer())).with_for_update(skip_locked=True)


def _put_in_order(parts: Sequence[Select[int]]) -> Executable:
    """Select what is due in the first part, then in the next, and so on while there is room, in one statement."""
    return union_all(*[select(part.subquery()) for part in parts]).limit(bindparam("room", type_=Integer()))


def _execute_in_chunks(connection: Connection, statement: Update, ids: Sequence[int], **values: Any) -> None:
    for chunk in _cut(ids):
        connection.execute(statement, {"ids": chunk, **values})


def _cut(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
