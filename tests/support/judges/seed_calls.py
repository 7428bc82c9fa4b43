"""A judge of the second and third promise for tokens with seeds: every OTP is the token's own and the next of its kind,
and what became of one is known before another goes out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from support.judges.call_log import LoggedCall, fingerprint
from support.judges.otp_calls import Case, Pair
from support.judges.tenant import Tenant
from support.servers.simulator import SALT
from worker.simulator.box_tokens import BoxToken
from worker.simulator.oath import hotp

# OTPs that may be sent for a token at the most; and time steps by which the clocks of caller and judge may differ.
COUNTERS, STEPS = 40, 3
NOBODY = Pair("", None)


def judge_seed_calls(
    calls: Sequence[LoggedCall],
    tokens: Sequence[BoxToken],
    tenant: Tenant,
    unwritten: Collection[str] = (),
    *,
    budget: int = 3,
) -> list[str]:
    """What breaks the second and third promise, a sentence each; empty if nothing does."""
    by_serial = {token.serial: token for token in tokens}
    by_device = defaultdict[str, list[LoggedCall]](list)
    for call in calls:
        if call.operation in ("activate", "read"):
            by_device[call.device_id].append(call)
    charges = []
    for device_id, mine in by_device.items():
        device = tenant.devices_by_id.get(device_id)
        if device is not None and device.serial in by_serial:
            case = Case(device_id, NOBODY, mine, unwritten, budget)
            charges += [f"{device_id}: {charge}" for charge in _judge(case, by_serial[device.serial])]
    return charges


def _judge(case: Case, token: BoxToken) -> Iterator[str]:
    counters = {call.number: _find_counter(call, token) for call in case.calls if call.otp is not None}
    for number, counter in counters.items():
        if counter is None:
            yield f"call {number} brings an OTP that is not the token's next"
    if len(case.posts) > case.budget:
        yield f"{len(case.posts)} posts, of {case.budget} allowed"
    for earlier, later in pairwise(case.posts):
        before, after = counters[earlier.number], counters[later.number]
        if before is not None and after is not None and after <= before:
            yield f"call {later.number} brings an OTP that is no later one than that of call {earlier.number}"
        is_second = later.oath_resync and earlier.is_answered and earlier.detail_code == "EXTRA_OTP_REQUIRED"
        if later.oath_resync and not is_second:
            yield f"call {later.number} brings OTP 2, which PingOne had not asked for"
        if is_second and before is not None and after != before + 1:
            yield f"call {later.number} brings an OTP that does not follow that of call {earlier.number}"
        if not is_second:
            yield from _judge_fate(case, earlier, later)
    if case.posts and case.posts[0].oath_resync:
        yield f"call {case.posts[0].number} brings OTP 2 before OTP 1"


def _judge_fate(case: Case, earlier: LoggedCall, later: LoggedCall) -> Iterator[str]:
    """A new OTP goes out only when what became of the one before is known."""
    reads = [read for read in case.reads_after(earlier) if read.ended_at <= later.arrived_at and read.status == 200]
    if not case.fate_is_known(earlier) and not reads:
        yield f"call {later.number} follows call {earlier.number}, whose fate no read had told"
    was_active = any(call.outcome == "ACTIVE" and call.done_at < later.arrived_at for call in case.calls)
    if reads and was_active:
        yield f"call {later.number} brings an OTP for a device that was read ACTIVE"


def _find_counter(call: LoggedCall, token: BoxToken) -> int | None:
    """The counter, or the number of the time step, that an OTP was made for; None: it is none of the token's next."""
    if token.type == "hotp":
        nearby = range(token.counter, token.counter + COUNTERS)
    else:
        step = int(call.time // token.time_step)
        nearby = range(step - STEPS, step + STEPS + 1)
    secret = bytes.fromhex(token.secret)
    for counter in nearby:
        if fingerprint(SALT, hotp(secret, counter, token.digits, token.hash)) == call.otp:
            return counter
    return None
