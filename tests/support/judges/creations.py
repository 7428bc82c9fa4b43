"""A judge of the sixth promise by what arrived at PingOne and what it has in the end: nothing is made twice, nobody
gets another's token, and nothing that was there before is gone.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

from support.judges.call_log import ProvisioningCall, Tenant

# What tells whose device a token is, and what tells which tokens the inventory has.
LOOK_UPS = frozenset({"list_tokens", "read_token", "list"})
LISTINGS = frozenset({"list_tokens"})

Calls = Sequence[ProvisioningCall]
IsKnown = Callable[[ProvisioningCall], bool]
Key = TypeVar("Key")
Value = TypeVar("Value")


def judge_creations(
    calls: Calls, tenant: Tenant, assigned: Mapping[str, str | None], unwritten: Collection[str] = ()
) -> list[str]:
    """What breaks the sixth promise, a sentence each; empty if nothing does. `assigned`: by serial number, the user
    who is to get the token; None: nobody is. `unwritten`: the transaction ids of attempts whose last answer our
    database never had."""
    is_known = find_known(calls, unwritten)
    return [
        *_judge_imports(calls, tenant, is_known),
        *_judge_owners(calls, tenant, assigned),
        *_judge_pairings(calls, tenant, is_known),
        *_judge_removals(calls, tenant),
    ]


def find_known(calls: Calls, unwritten: Collection[str]) -> IsKnown:
    """Make a function that says whether a call was answered, and our database had the time to learn the answer."""
    last = {call.transaction_id: call.number for call in calls}

    def is_known(call: ProvisioningCall) -> bool:
        return call.is_answered and not (call.transaction_id in unwritten and call.number == last[call.transaction_id])

    return is_known


def _judge_imports(calls: Calls, tenant: Tenant, is_known: IsKnown) -> Iterator[str]:
    """No token is imported twice; and none is asked for again before what became of the first request was seen."""
    serials, jobs = {token.id: token.serial for token in tenant.tokens}, {job.id: job for job in tenant.jobs}
    for serial, ids in _group((token_id, job.id) for job in tenant.jobs for token_id in job.token_ids):
        if len(ids) > 1:
            yield f"{serials.get(serial, serial)}: imported {len(ids)} times, by the jobs {', '.join(ids)}"
    listings = [call for call in calls if call.operation in LISTINGS and call.is_answered and call.status == 200]
    imports = [call for call in calls if call.operation == "import_tokens" and call.is_acted_on]
    for serial, asked in _group((serial, call) for call in imports for serial in call.serial_numbers or ()):
        for earlier, later in pairwise(asked):
            job = jobs.get(earlier.job_id or "")
            made = {serials.get(token_id) for token_id in job.token_ids} if job else set()
            if serial in made:
                yield f"{serial}: call {later.number} imports it again, which call {earlier.number} had imported"
                continue
            came_to_nothing = _is_refused(earlier, is_known) or (job is not None and job.status == "FAILED")
            # Its result tells which tokens were there before, and who reads it may ask for those again.
            results = [call for call in calls if call.operation == "read_job" and call.job_id == earlier.job_id]
            told = [*listings, *(call for call in results if call.outcome == "DONE")]
            if not came_to_nothing and not _lies_between(told, earlier, later):
                yield f"{serial}: call {later.number} imports it, and no look-up told what call {earlier.number} did"


def _judge_owners(calls: Calls, tenant: Tenant, assigned: Mapping[str, str | None]) -> Iterator[str]:
    """Find tokens that went, or were to go, to somebody to whom the assignment did not give them."""
    for call in calls:
        # Of a client that was killed in between, the headers may have come without the token.
        is_whole = call.operation == "pair" and call.serial_number is not None
        if is_whole and call.user_id != assigned.get(call.serial_number or ""):
            yield f"{call.serial_number}: call {call.number} pairs it with a person who is not to get it"
    for device in tenant.devices:
        if device.made_by is not None and device.user_id != assigned.get(device.serial):
            yield f"{device.serial}: it became the device of a person who is not to get it"


def _judge_pairings(calls: Calls, tenant: Tenant, is_known: IsKnown) -> Iterator[str]:
    """No token is paired twice while its device lives, and none is paired again before its fate was looked up."""
    alive = tenant.devices_by_id
    by_transaction = _group((call.transaction_id, call) for call in calls if call.operation in LOOK_UPS)
    looked_up = {name: [call for call in mine if call.status == 200] for name, mine in by_transaction}
    pairings = [call for call in calls if call.operation == "pair" and call.is_acted_on]
    for serial, asked in _group((call.serial_number, call) for call in pairings if call.serial_number is not None):
        made = [call for call in asked if call.took_effect]
        if len(made) > 1 and any(call.made_device_id in alive for call in made[:-1]):
            yield f"{serial}: paired {len(made)} times while its device lives"
        records = {_name_record(call) for call in asked}
        mine = [call for name, found in looked_up.items() if _cut_lease(name) in records for call in found]
        for earlier, later in pairwise(asked):
            if is_known(earlier) and earlier.made_device_id in alive:
                yield f"{serial}: call {later.number} pairs it again, whose device call {earlier.number} had answered"
            # A refusal made nothing, whether or not our database had the time to learn it.
            was_refused = earlier.is_answered and not earlier.took_effect
            if not is_known(earlier) and not was_refused and not _lies_between(mine, earlier, later):
                yield f"{serial}: call {later.number} pairs it, and no look-up told what call {earlier.number} did"


def _judge_removals(calls: Calls, tenant: Tenant) -> Iterator[str]:
    """What was there before is there still, as it was."""
    alive, serials = tenant.devices_by_id, {token.serial for token in tenant.tokens}
    for device_id, user_id in tenant.devices_before.items():
        device = alive.get(device_id)
        if device is None or device.user_id != user_id:
            yield f"{device_id}: it was there before, and is not any more"
        elif device_id in tenant.active_before and device.status != "ACTIVE":
            yield f"{device_id}: it was ACTIVE before, and is {device.status}"
    yield from (
        f"{serial}: the inventory had it before, and has not any more" for serial in tenant.tokens_before - serials
    )
    for call in calls:
        if call.operation == "remove_order" and call.took_effect:
            yield f"call {call.number} removed the order of a person's devices"


def _is_refused(call: ProvisioningCall, is_known: IsKnown) -> bool:
    """Whether nothing came of a call, and we were told so."""
    return is_known(call) and not call.took_effect


def _lies_between(look_ups: Iterable[ProvisioningCall], earlier: ProvisioningCall, later: ProvisioningCall) -> bool:
    """One of the look-ups began when the earlier call could change nothing more, and was answered before the later."""
    return any(
        look_up.is_answered and earlier.done_at <= look_up.arrived_at and look_up.ended_at <= later.arrived_at
        for look_up in look_ups
    )


def _name_record(call: ProvisioningCall) -> str:
    """The record that a call was made for: its transaction without the lease."""
    return _cut_lease(call.transaction_id)


def _cut_lease(transaction_id: str | None) -> str:
    return (transaction_id or "").rpartition("-")[0]


def _group(pairs: Iterable[tuple[Key, Value]]) -> list[tuple[Key, list[Value]]]:
    """Put the values together that have the same key, in their order."""
    grouped = defaultdict[Key, list[Value]](list)
    for key, value in pairs:
        grouped[key].append(value)
    return list(grouped.items())
