"""A judge of our tables: what the database says in the end, beside what PingOne has and what arrived there; and, for
the sixth promise, what they call ours, what they call active, and why a record was given up."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, func, or_, select
from support.judges.call_log import ProvisioningCall, Tenant
from support.judges.creations import find_known
from support.judges.otp_calls import Case

from models.attempt import AttemptLine, Outcome
from models.batch import Batch
from models.reason import CURES, Reason, find_cure
from models.record import Record
from models.record_states import FINAL, NOBODY, OtpState, PairingState, Status
from worker.database.engine import Database
from worker.simulator.shipment import Expected

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


def judge_records(
    database: Database,
    calls: Sequence[ProvisioningCall],
    tenant: Tenant,
    assigned: Mapping[str, str | None],
    unwritten: Collection[str] = (),
) -> list[str]:
    """What our tables say otherwise than PingOne, a sentence each. Call it when all work is over."""
    is_known = find_known(calls, unwritten)
    answered = {call.made_device_id for call in calls if call.operation == "pair" and is_known(call)}
    with database.reading() as connection:
        records = connection.execute(select(Record.__table__)).all()
    return [
        *_judge_activity(records, tenant, assigned),
        *(charge for record in records for charge in _judge_device(record, tenant, answered)),
        *(charge for record in records for charge in _judge_token(record, tenant)),
        *(charge for record in records for charge in _judge_reason(record)),
    ]


def judge_endings(database: Database, expected: Mapping[str, Expected], excused: Collection[str] = ()) -> list[str]:
    """Records that did not end as they were made to, a sentence each; dead letters of some reasons are excused."""
    with database.reading() as connection:
        rows = connection.execute(select(Record.serial_number, Record.status, Record.reason)).all()
    return [
        f"{row.serial_number}: {row.status} ({row.reason}), and was made to end {end.status} ({end.reason})"
        for row in rows
        if (end := expected[row.serial_number])
        and row.reason not in excused
        and (row.status, row.reason) != (end.status, end.reason)
    ]


def _judge_activity(records: Sequence[Found], tenant: Tenant, assigned: Mapping[str, str | None]) -> Iterator[str]:
    """What is ACTIVE for its person is `active` in one of its records, and nothing else is."""
    by_serial = defaultdict[str, list[Found]](list)
    for record in records:
        by_serial[record.serial_number].append(record)
    for serial, mine in by_serial.items():
        device = tenant.devices_by_serial.get(serial)
        is_there = device is not None and device.status == "ACTIVE" and device.user_id == assigned.get(serial)
        is_ours = any(record.status == Status.ACTIVE for record in mine)
        if is_there and not is_ours:
            yield f"{serial}: ACTIVE for its person, and {mine[-1].status} ({mine[-1].reason}) with us"
        if is_ours and not is_there:
            yield f"{serial}: active with us, and not for its person"


def _judge_device(record: Found, tenant: Tenant, answered: Collection[str | None]) -> Iterator[str]:
    """A device is called ours if a call of ours made it, and else it is not. Where the answer to that call got lost, it
    is ours only if the token was known to be free before."""
    device, serial = tenant.devices_by_serial.get(record.serial_number), record.serial_number
    if record.is_device_made and record.device_id in tenant.devices_before:
        yield f"{serial}: it calls a device ours that was there before"
    if record.is_device_made and not record.device_id:
        yield f"{serial}: it calls a device ours that it does not know"
    if device is None or device.made_by is None:
        return
    if record.device_id != device.id:
        yield f"{serial}: call {device.made_by} made its device, of which the record does not know"
    elif not record.is_device_made and (device.id in answered or record.owner_id == NOBODY):
        yield f"{serial}: call {device.made_by} made its device, which the record does not call ours"
    elif record.pairing != PairingState.PAIRED:
        yield f"{serial}: it has a device, and its pairing is {record.pairing}"


def _judge_token(record: Found, tenant: Tenant) -> Iterator[str]:
    """A token is called ours if a call of ours imported it, and else it is not."""
    token = tenant.tokens_by_serial.get(record.serial_number)
    is_made = token is not None and token.made_by is not None
    if record.is_token_made and not is_made:
        yield f"{record.serial_number}: it calls a token ours that no call imported"
    if is_made and not record.is_token_made:
        yield f"{record.serial_number}: a call imported its token, which the record does not call ours"


def _judge_reason(record: Found) -> Iterator[str]:
    """A dead letter says why, and what can be done about it."""
    if record.status != Status.DEAD_LETTER:
        return
    if record.reason not in CURES:
        yield f"{record.serial_number}: given up for {record.reason!r}, which is no reason with a cure"
    elif find_cure(Reason(record.reason), has_seed=record.next_counter is not None) not in (record.detail or ""):
        yield f"{record.serial_number}: given up for {record.reason} without its cure: {record.detail}"
