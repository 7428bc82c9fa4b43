"""A judge of the sixth promise by our tables: what they call ours, what they call active, and why a record was given
up."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select
from support.judges.call_log import ProvisioningCall, Tenant
from support.judges.creations import find_known

from models.reason import CURES, Reason, find_cure
from models.record import Record
from models.record_states import NOBODY, PairingState, Status
from worker.database.engine import Database
from worker.simulator.shipment import Expected

Found = Row[*tuple[Any, ...]]


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
