"""A judge of what the history tells, for the seventh promise: each call that arrived at PingOne stands in the line of
its attempt as it was."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import select
from support.judges.call_log import ProvisioningCall
from support.judges.final_tables import name_attempt

from models.attempt import OTP_CALLS, AttemptLine, CallName, Outcome
from worker.database.engine import Database

# By the name of the operation in the call log; every other one is a look-up.
NAMES = {"read": CallName.READ, "pair": CallName.PAIR}

Told = dict[str, Any]


def judge_histories(database: Database, calls: Iterable[ProvisioningCall]) -> list[str]:
    """Find what breaks the seventh promise, a sentence each. `calls`: all, in the order of their arrival. Call it when
    all work is over."""
    made = defaultdict[str, list[ProvisioningCall]](list)
    for call in calls:
        made[call.transaction_id].append(call)
    columns = AttemptLine.record_id, AttemptLine.lease_id, AttemptLine.outcome, AttemptLine.calls
    with database.reading() as connection:
        lines = connection.execute(select(*columns).order_by(AttemptLine.id)).all()
    charges = []
    for line in lines:
        attempt = name_attempt(line.record_id, line.lease_id)
        arrived = made[attempt]
        find = _find_lost if line.outcome == Outcome.LOST else _find_wrong
        charges += [f"{attempt}: {wrong}" for wrong in find(line.calls or [], arrived)]
    return charges


def _find_wrong(told: Sequence[Told], arrived: Sequence[ProvisioningCall]) -> Iterator[str]:
    """Find what the line of an attempt that was settled tells wrongly."""
    rest = list(arrived)
    for call in told:
        if rest and _is_told_by(call, rest[0]):
            rest.pop(0)
        elif "status" in call:
            yield f"its history tells {json.dumps(call)}, and {rest[:1]} arrived"
            return
        # A connection may break behind the first byte, so that nothing arrives.
    if rest:
        yield f"its history tells nothing of {rest}"


def _find_lost(told: Sequence[Told], arrived: Sequence[ProvisioningCall]) -> Iterator[str]:
    """Find what the line of an attempt tells wrongly whose worker died: what it had not written down may be missing,
    unless it may have changed something."""
    if told and "milliseconds" not in told[-1] and not [*_find_lost(told[:-1], arrived)]:
        # It died between the mark and the first byte.
        return
    rest = list(arrived)
    for call in reversed(told):
        while rest and not _is_told_by(call, rest[-1]):
            if _may_have_changed(rest[-1]):
                break
            rest.pop()
        if rest and _is_told_by(call, rest[-1]):
            rest.pop()
        elif "status" in call:
            yield f"its history tells {json.dumps(call)}, and {rest[-1:]} arrived"
            return
    if missing := [call for call in rest if _may_have_changed(call)]:
        yield f"its history tells nothing of {missing}"


def _is_told_by(told: Told, call: ProvisioningCall) -> bool:
    """Whether a call is what an entry of the history tells."""
    is_otp = call.operation == "activate"
    if is_otp != (told["call"] in OTP_CALLS) or not (
        is_otp or told["call"] == NAMES.get(call.operation, CallName.FIND)
    ):
        return False
    if is_otp and "resync" in told and call.otp is not None and told["resync"] != bool(call.oath_resync):
        return False
    status = told.get("status")
    if call.is_answered:
        # An answer may be cut off on its way.
        return status in (None, call.status) and (status is None or told.get("detail_code") == call.detail_code)
    return status is None or call.fault is not None or status == call.status


def _may_have_changed(call: ProvisioningCall) -> bool:
    return (
        call.operation in ("activate", "pair")
        and call.is_acted_on
        and (call.otp is not None or call.operation == "pair")
    )
