"""A judge of our tables: what the database says in the end, beside what PingOne has and what arrived there."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, func, or_, select
from support.judges.otp_calls import Case

from models.attempt import AttemptLine, Outcome
from models.batch import Batch
from models.record import Record
from models.record_states import FINAL, OtpState, Status
from worker.database.engine import Database

Found = Row[*tuple[Any, ...]]


# Attempts that ended without an answer to their last call: their worker died, or said so itself.
UNWRITTEN = select(AttemptLine.record_id, AttemptLine.lease_id).where(
    or_(AttemptLine.outcome == Outcome.LOST, AttemptLine.reason.in_(["outcome_unknown", "internal", "database"]))
)


def find_unwritten(database: Database) -> set[str]:
    """The transaction ids of the attempts that UNWRITTEN finds."""
    with database.reading() as connection:
        return {name_attempt(row.record_id, row.lease_id) for row in connection.execute(UNWRITTEN)}


def name_attempt(record_id: int, lease_id: str) -> str:
    """The transaction id of its calls."""
    return f"oathbulk-record-{record_id}-{lease_id[:8]}"


def judge_tables(database: Database, cases: Mapping[str, Case], active: Collection[str]) -> list[str]:
    """What breaks the fourth promise, a sentence each. `active`: the ids of the devices that are ACTIVE at PingOne.

    Call it when all work is over."""
    with database.reading() as connection:
        records = connection.execute(select(Record.__table__)).all()
        batches = connection.execute(select(Batch.id, Batch.name, Batch.total)).all()
        attempts = connection.execute(
            select(AttemptLine.record_id, AttemptLine.lease_id, func.count()).group_by(
                AttemptLine.record_id, AttemptLine.lease_id
            )
        ).all()
    lines = {name_attempt(record_id, lease_id): count for record_id, lease_id, count in attempts}
    return [
        *_totals(batches, records),
        *_activity(records, active),
        *(charge for record in records for charge in _record(record, cases.get(record.device_id))),
        *_history(cases.values(), lines),
    ]


def _totals(batches: Sequence[Found], records: Sequence[Found]) -> Iterator[str]:
    counts = Counter(record.batch_id for record in records)
    for batch in batches:
        if counts[batch.id] != batch.total:
            yield f"batch {batch.name}: {counts[batch.id]} records, of {batch.total}"


def _activity(records: Sequence[Found], active: Collection[str]) -> Iterator[str]:
    """A device may stand in several batches: it is `active` if it is in one of them."""
    ours = {record.device_id for record in records if record.status == Status.ACTIVE}
    for device_id in {record.device_id for record in records}:
        if device_id in active and device_id not in ours:
            yield f"{device_id}: ACTIVE at PingOne, and not with us"
        if device_id in ours and device_id not in active:
            yield f"{device_id}: active with us, and not at PingOne"


def _record(record: Found, case: Case | None) -> Iterator[str]:
    name = f"{record.device_id} ({record.serial_number})"
    if record.status not in FINAL:
        yield f"{name}: left {record.status}"
    if record.status in FINAL and record.verdict is not None:
        yield f"{name}: {record.status}, and a verdict that no read confirmed"
    if case is None:
        return
    posts = case.posts
    # Those of earlier budgets are noted together.
    before = record.posts_forgiven
    counts = [(len(case.posts_of(1)), record.otp1_posts + before), (len(case.posts_of(2)), record.otp2_posts + before)]
    for arrived, noted in (*counts, (len(posts), record.otp1_posts + record.otp2_posts + before)):
        if arrived > noted:
            yield f"{name}: {arrived} posts arrived, and {noted} are noted"
    if case.last_counter is not None and record.next_counter <= case.last_counter:
        yield f"{name}: the OTP of counter {case.last_counter} arrived, and {record.next_counter} is noted as unused"
    is_given_up = record.status in FINAL and record.status != Status.ACTIVE
    if is_given_up and posts and not case.fate_is_known(posts[-1]) and not case.reads_after(posts[-1]):
        yield f"{name}: {record.status}, though no read told what became of call {posts[-1].number}"
    is_open = OtpState.SENT in (record.otp1_state, record.otp2_state)
    if is_given_up and is_open and not any(call.operation == "read" and call.is_answered for call in case.calls):
        yield f"{name}: {record.status}, with an OTP whose fate it calls open itself"


def _history(cases: Collection[Case], lines: Mapping[str, int]) -> Iterator[str]:
    """An attempt that reached PingOne has one line of history, however it ended."""
    for case in cases:
        for transaction_id in {call.transaction_id for call in case.calls}:
            if lines.get(transaction_id, 0) != 1:
                yield f"{case.device_id}: {lines.get(transaction_id, 0)} attempts are noted for {transaction_id}"
