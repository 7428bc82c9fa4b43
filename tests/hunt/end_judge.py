"""The end of a scenario: PingOne's devices and our tables must tell the same story."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from support.judges.otp_calls import POSTS_PER_OTP

from hunt import initial_state
from hunt.database import Row
from hunt.schedule import Broken
from hunt.step_judge import MOST_PAIRINGS
from hunt.tenant import EXTRA, FIND, INVALID, PAIR, POST, READ, REFUSED, SETTINGS, Call, ModelDevice
from models.attempt import Outcome
from models.reason import Reason
from models.record_states import OtpState, Status

if TYPE_CHECKING:
    from hunt.scenario import Scenario

COUNTED = (Outcome.ACTIVE, Outcome.RETRY, Outcome.LOST)


def judge_end(scenario: Scenario) -> None:
    """Raises Broken."""
    for charge in (*scenario.pingone.charges, *_secrets(scenario)):
        raise Broken(charge)
    for row in scenario.step_judge.rows.values():
        device = scenario.pingone.devices[row.serial_number]
        told = chain(_history(scenario, row), _calls(scenario, row), _changes(scenario, row))
        for charge in chain(_activity(row, device), told, _reason(scenario, row, device)):
            raise Broken(f"record {row.id}: {charge}")


def _activity(row: Row, device: ModelDevice) -> Iterator[str]:
    """Promise 4: what we made ACTIVE ends active."""
    if device.activated_by is not None and row.status != Status.ACTIVE:
        yield f"{device.activated_by} made its device ACTIVE, and it is {row.status} ({row.reason})"


def _history(scenario: Scenario, row: Row) -> Iterator[str]:
    """Each attempt ends once, and is counted if its line says so."""
    found = scenario.database.raw.execute("SELECT lease_id, outcome FROM attempt WHERE record_id = ?", (row.id,))
    lines = found.fetchall()
    leases = [lease_id for lease_id, _ in lines]
    if len(leases) != len(set(leases)):
        yield "an attempt ended twice"
    counted = sum(outcome in COUNTED for _, outcome in lines)
    dead_letters = sum(outcome == Outcome.DEAD_LETTER for _, outcome in lines)
    if not counted <= row.attempts <= counted + dead_letters:
        yield f"{row.attempts} attempts are written down, and its history has {counted} that count"


def _calls(scenario: Scenario, row: Row) -> Iterator[str]:
    """Promise 7: each call of an attempt stands in its line as it was. What a worker that died had not written down yet
    may be missing there, unless it may have changed something."""
    made = defaultdict[str, list[Call]](list)
    for call in scenario.pingone.calls:
        if not call.is_forgotten:
            made[call.attempt].append(call)
    lines = "SELECT lease_id, outcome, calls FROM attempt WHERE record_id = ?"
    attempts = {attempt for attempt in made if attempt.startswith(f"oathbulk-record-{row.id}-")}
    for lease_id, outcome, calls in scenario.database.raw.execute(lines, (row.id,)).fetchall():
        attempt = f"oathbulk-record-{row.id}-{lease_id[:8]}"
        attempts.discard(attempt)
        told = [{name: part for name, part in call.items() if name != MILLISECONDS} for call in _read_calls(calls)]
        if not (
            _is_known_of(told, made[attempt]) if outcome == Outcome.LOST else told == list(map(_tell, made[attempt]))
        ):
            yield f"its history tells {told} of what was {list(map(_tell, made[attempt]))}"
    for attempt in attempts:
        if any(call.is_change for call in made[attempt]):
            yield f"its history tells nothing of what was {list(map(_tell, made[attempt]))}"


def _read_calls(calls: Any) -> list[dict[str, Any]]:
    """Read the calls of an attempt: SQLite has them as text."""
    return (json.loads(calls) if isinstance(calls, str) else calls) or []


def _changes(scenario: Scenario, row: Row) -> Iterator[str]:
    """Promise 7: of whom, or of which device, a person's command has taken the token stands in its history, and of
    nobody else."""
    lines = "SELECT user_id, username, device_id, audit_id FROM change WHERE record_id = ?"
    changes = scenario.database.raw.execute(lines, (row.id,)).fetchall()
    told = {tuple(former) for *former, _ in changes}
    replaced, owners = scenario.step_judge.replaced[row.id], scenario.step_judge.owners[row.id]
    if row.id in scenario.step_judge.erased:
        replaced, owners, told = map(_forget_names, (replaced, owners, told))
    if missing := replaced - told:
        yield f"its history does not tell that it was that of {missing}"
    if others := told - owners:
        yield f"its history tells that it was that of {others}, and it never was"
    if not all(line for *_, line in changes):
        yield "its history has a change without a command"


def _forget_names(former: set[Any]) -> set[Any]:
    return {(user_id, None, device_id) for user_id, _, device_id in former}


MILLISECONDS = "milliseconds"
NAMES = {READ: "read", PAIR: "pair", FIND: "find", SETTINGS: "find"}


def _tell(call: Call) -> dict[str, Any]:
    """A call as the history has to tell it."""
    told: dict[str, Any] = {"call": f"otp{call.ordinal}" if call.kind == POST else NAMES[call.kind]}
    if call.kind == POST:
        told["resync"] = call.has_flag
    if call.heard is None:
        return told
    status, headers, body = call.heard
    try:
        said = json.loads(body)
    except ValueError:
        said = {}
    details = said.get("details") or [{}]
    ids = {"error_id": said.get("id") if status >= 300 else None, "correlation_id": headers.get("correlation-id")}
    told |= {"status": status, "code": said.get("code"), "detail_code": details[0].get("code")} | ids
    return {name: part for name, part in told.items() if part is not None}


def _is_known_of(told: Sequence[dict[str, Any]], made: Sequence[Call]) -> bool:
    """Whether each call that is told was made, and each that may have changed something is told. A worker may die once
    it has marked a call, before that goes out."""
    rest = list(made)
    if told and "status" not in told[-1] and not (rest and told[-1].items() <= _tell(rest[-1]).items()):
        told = told[:-1]
    for call in reversed(told):
        while rest and not call.items() <= _tell(rest[-1]).items():
            if rest.pop().may_have_changed:
                return False
        if not rest:
            return False
        rest.pop()
    return not any(call.may_have_changed for call in rest)


def _reason(scenario: Scenario, row: Row, device: ModelDevice) -> Iterator[str]:
    """A dead letter is one for the reason that it names."""
    if row.status != Status.DEAD_LETTER:
        return
    heard = [call for call in scenario.pingone.calls if call.device is device and call.heard_at is not None]
    if not _is_just(Reason(row.reason or ""), row, device, heard, scenario):
        yield f"it is a dead letter for {row.reason}, and that did not happen"


def _is_just(reason: Reason, row: Row, device: ModelDevice, heard: Sequence[Call], scenario: Scenario) -> bool:
    verdicts = {(call.ordinal, call.verdict) for call in heard if call.is_post}
    match reason:
        case Reason.INVALID_OTP:
            return (1, INVALID) in verdicts
        case Reason.RESYNC_FAILED:
            return bool({(2, INVALID), (2, EXTRA)} & verdicts)
        case Reason.SECOND_OTP_MISSING:
            return any(pair.second is None for pair in device.pairs) and (1, EXTRA) in verdicts
        case Reason.STALE_OTP:
            return any(pair.good_until is not None for pair in device.pairs)
        case Reason.REJECTED:
            return bool({(1, REFUSED), (2, REFUSED)} & verdicts)
        case Reason.ACCOUNT_NOT_USABLE:
            is_refused = any(call.kind in (POST, PAIR) and call.verdict == REFUSED for call in heard)
            return is_refused or device.person.kind == "disabled"
        case Reason.USER_NOT_FOUND:
            return device.person.kind == "none"
        case Reason.USER_AMBIGUOUS:
            return device.person.kind == "two"
        case Reason.TOKEN_TAKEN:
            return bool(device.foreign_ids)
        case Reason.TOKEN_DIFFERS:
            return device.is_different
        case Reason.TOKEN_NOT_IN_INVENTORY:
            return device.seed is None or device.is_different
        case Reason.PAIRING_FAILED:
            return row.pairings >= MOST_PAIRINGS
        case Reason.DEVICE_NOT_FOUND:
            is_gone = device.was_deleted or bool(device.foreign_ids)
            return is_gone and not _should_be_paired_again(row, device, scenario)
        case Reason.BUDGET_SPENT:
            # A new pair of a seed takes two posts.
            needed = 2 if device.seed is not None and (1, EXTRA) in verdicts else 1
            spent = row.otp1_posts + row.otp2_posts
            is_spent = spent + needed > scenario.settings.otp_post_budget
            return is_spent or max(row.otp1_posts, row.otp2_posts) >= POSTS_PER_OTP
        case Reason.ATTEMPTS_SPENT:
            return row.attempts - row.attempts_forgiven >= scenario.settings.max_attempts
    return True


def _should_be_paired_again(row: Row, device: ModelDevice, scenario: Scenario) -> bool:
    """Its device is gone, the token is free, its batch may make another, and no OTP of a pair was answered."""
    found = scenario.database.raw.execute("SELECT may_pair FROM batch WHERE id = ?", (row.batch_id,)).fetchone()
    is_half_done = row.next_counter is None and row.otp1_state == OtpState.ANSWERED
    return bool(found[0]) and not device.device_id and not is_half_done


def _secrets(scenario: Scenario) -> Iterator[str]:
    """Promise 1: in what is stored or logged, no OTP and no client secret stands in the clear."""
    secrets = [initial_state.CLIENT_SECRET, "access-token-"]
    for device in scenario.pingone.devices.values():
        otps = {otp for pair in device.pairs for otp in (pair.first, pair.second)} | device.taken
        secrets += sorted(otp for otp in otps if otp)
        if device.seed is not None:
            secrets.append(device.seed.seed.secret.reveal().hex())
    for text in _texts(scenario):
        for secret in secrets:
            if secret in text:
                yield f"a secret stands in the clear in {text!r}"


def judge_erased(scenario: Scenario, name: str) -> None:
    """After an erasure the name is nowhere."""
    whole = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
    for text in _read_texts(scenario, ("batch", "record", "attempt", "change", "refused_rows", "audit")):
        if whole.search(text):
            raise Broken(f"{name} was erased, and stands in {text!r}")


def judge_purged(scenario: Scenario) -> None:
    """Of a purged batch no record is left, nor the history of one."""
    for (batch_id,) in scenario.database.raw.execute("SELECT id FROM batch WHERE purged_at IS NOT NULL").fetchall():
        left = scenario.database.raw.execute("SELECT id FROM record WHERE batch_id = ?", (batch_id,)).fetchall()
        for table in ("attempt", "change"):
            orphans = f"SELECT record_id FROM {table} WHERE record_id NOT IN (SELECT id FROM record)"
            left += scenario.database.raw.execute(orphans).fetchall()
        if left:
            raise Broken(f"batch {batch_id} was purged, and of {left} something is left")


def _texts(scenario: Scenario) -> Iterator[str]:
    yield from _read_texts(scenario, ("batch", "record", "attempt", "inventory_job"))
    yield from map(str, scenario.logs)


def _read_texts(scenario: Scenario, tables: Sequence[str]) -> Iterator[str]:
    for table in tables:
        for values in scenario.database.raw.execute(f"SELECT * FROM {table}"):
            yield from (_readable(value) for value in values if isinstance(value, str | bytes))


def _readable(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
