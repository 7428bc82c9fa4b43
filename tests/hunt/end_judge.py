"""The end of a scenario: PingOne's devices and our tables must tell the same story."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from support.judges.otp_calls import POSTS_PER_OTP

from hunt import initial_state
from hunt.database import Row
from hunt.schedule import Broken
from hunt.tenant import EXTRA, INVALID, PAIR, POST, REFUSED, Call, ModelDevice
from models.attempt import Outcome
from models.reason import Reason
from models.record_states import OtpState, Status
from worker.rules.decisions import MOST_PAIRINGS

if TYPE_CHECKING:
    from hunt.scenario import Scenario

COUNTED = (Outcome.ACTIVE, Outcome.RETRY, Outcome.LOST)


def judge_end(scenario: Scenario) -> None:
    """Raises Broken."""
    for charge in (*scenario.pingone.charges, *_secrets(scenario)):
        raise Broken(charge)
    for row in scenario.step_judge.rows.values():
        device = scenario.pingone.devices[row.serial_number]
        for charge in (*_activity(row, device), *_history(scenario, row), *_reason(scenario, row, device)):
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


def _texts(scenario: Scenario) -> Iterator[str]:
    for table in ("batch", "record", "attempt", "inventory_job"):
        for values in scenario.database.raw.execute(f"SELECT * FROM {table}"):
            yield from (_readable(value) for value in values if isinstance(value, str | bytes))
    yield from map(str, scenario.logs)


def _readable(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
