"""Deliberate faults of our own code, each of which breaks a promise: the hunt has to find every one of them.

A mutant is a patch of our own classes and functions in memory, by name; nothing is written to a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from types import SimpleNamespace
from typing import Any

from sqlalchemy import false, true

import worker.leases.commands
import worker.leases.queue
import worker.leases.settlement
import worker.leases.worker
from hunt import stock
from models.encrypted import Keyring
from models.record import Record, Status
from worker import decisions
from worker.activation import Activation
from worker.decisions import Active, OtpProgress, Retry, SendOtp
from worker.dispatch import Dispatcher
from worker.leases.queue import Queue
from worker.leases.settlement import Settlement
from worker.leases.worker import Leases
from worker.pingone import errors
from worker.pingone.client import Client

Patch = tuple[Any, str, Any]

MUTANTS: dict[str, Callable[[], list[Patch]]] = {}


@contextmanager
def at_large(name: str) -> Iterator[None]:
    """The mutant takes the place of the real code."""
    # Statements that a healthy Leases has built are of no use to it, and the other way round.
    stock.leases.cache_clear()
    with ExitStack() as stack:
        for target, attribute, value in MUTANTS[name]():
            stack.enter_context(_patched(target, attribute, value))
        try:
            yield
        finally:
            stock.leases.cache_clear()


@contextmanager
def _patched(target: Any, attribute: str, value: Any) -> Iterator[None]:
    real = getattr(target, attribute)
    setattr(target, attribute, value)
    try:
        yield
    finally:
        setattr(target, attribute, real)


def mutant(make: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
    MUTANTS[make.__name__] = make
    return make


def around(target: Any, attribute: str, change: Callable[..., Any]) -> Patch:
    """`change` is called in the place of the real function, which it gets first."""
    real = getattr(target, attribute)

    @wraps(real)
    def changed(*arguments: Any, **named: Any) -> Any:
        return change(real, *arguments, **named)

    return target, attribute, changed


def execute(statement: str, *values: Any) -> Any:
    """Behind everybody's back."""
    return stock.database().raw.execute(statement, values).fetchone()


# The lease.


@mutant
def settles_without_its_lease() -> list[Patch]:
    def settle(real: Any, self: Leases, claim: Any, *rest: Any) -> bool:
        (held,) = execute("SELECT lease_id FROM record WHERE id = ?", claim.record_id)
        return bool(real(self, replace(claim, lease_id=held or claim.lease_id), *rest))

    return [around(Leases, "settle", settle)]


@mutant
def claims_what_another_holds() -> list[Patch]:
    def claim(real: Any, self: Leases, record_id: int, *rest: Any) -> Any:
        execute("UPDATE record SET status='queued', lease_id=NULL WHERE id=? AND status='activating'", record_id)
        return real(self, record_id, *rest)

    return [around(Leases, "claim", claim)]


@mutant
def shares_one_lease_id() -> list[Patch]:
    return [(worker.leases.worker, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex="5" * 32)))]


@mutant
def rescues_and_keeps_the_lease() -> list[Patch]:
    def move(real: Any, database: Any, source: Status, target: Status) -> Any:
        statement = real(database, source, target)
        return statement.values(lease_id=Record.lease_id) if source == Status.ACTIVATING else statement

    return [around(worker.leases.queue, "move", move)]


@mutant
def sends_however_late_it_is() -> list[Patch]:
    def build(real: Any, self: Activation, *arguments: Any) -> None:
        real(self, *arguments)
        self.send_within = self.last_send = 1e9

    return [around(Activation, "__init__", build)]


@mutant
def hands_back_whatever_it_is() -> list[Patch]:
    def hand_back(_: Any, self: Leases, record_id: int, delay: float) -> bool:
        with stock.database().writing():
            execute("UPDATE record SET status='pending', lease_id=NULL, lease_until=NULL WHERE id=?", record_id)
        return True

    return [around(Leases, "hand_back", hand_back)]


# Written down, and when.


@mutant
def writes_sending_after_the_post() -> list[Patch]:
    late: list[Callable[[], object]] = []

    def claim(real: Any, self: Leases, record_id: int, *rest: Any) -> Any:
        claimed = real(self, record_id, *rest)
        if claimed is None or not claimed.is_sending:
            return claimed
        with stock.database().writing():
            execute("UPDATE record SET otp1_state='unsent', otp1_posts=0 WHERE id=?", record_id)
        progress = replace(claimed.progress, first=OtpProgress())
        return replace(claimed, progress=progress, is_sending=False)

    def sending(real: Any, self: Leases, claimed: Any, ordinal: int) -> bool:
        late.append(lambda: real(self, claimed, ordinal))
        return True

    def activate(real: Any, self: Client, *arguments: Any, **named: Any) -> Any:
        try:
            return real(self, *arguments, **named)
        finally:
            late.pop()()

    return [around(Leases, "claim", claim), around(Leases, "sending", sending), around(Client, "activate", activate)]


@mutant
def does_not_write_that_it_was_answered() -> list[Patch]:
    return [around(Leases, "answered", lambda *_: True)]


@mutant
def publishes_before_it_commits() -> list[Patch]:
    def enqueue(real: Any, self: Dispatcher, *rest: Any) -> dict[str, list[int]]:
        self._publish(real(self, *rest))
        return {}

    return [around(Dispatcher, "_enqueue", enqueue)]


@mutant
def counts_no_attempt() -> list[Patch]:
    def parameters(real: Any, *arguments: Any) -> dict[str, Any]:
        return {**real(*arguments), "uncounted": 1}

    return [around(worker.leases.worker, "parameters", parameters)]


# Reads.


@mutant
def sends_again_without_a_read() -> list[Patch]:
    def begin(real: Any, progress: Any, limits: Any) -> Any:
        return real(progress.found_waiting() if progress.is_open else progress, limits)

    return [around(decisions, "begin", begin)]


@mutant
def takes_no_answer_for_not_delivered() -> list[Patch]:
    def after_post(real: Any, progress: Any, ordinal: int, answer: Any, limits: Any) -> Any:
        is_unknown = isinstance(answer, errors.OutcomeUnknown)
        return real(progress, ordinal, errors.NotDelivered() if is_unknown else answer, limits)

    return [around(decisions, "after_post", after_post)]


@mutant
def takes_a_fault_of_its_own_for_not_delivered() -> list[Patch]:
    def try_(real: Any, self: Client, request: Any, parse: Any, call: Any) -> Any:
        before = call.requests
        try:
            return real(self, request, parse, call)
        except errors.PingOneError:
            raise
        except Exception:
            call.requests = before
            raise

    return [around(Client, "_try", try_)]


@mutant
def reads_at_once_after_a_rescue() -> list[Patch]:
    def build(real: Any, self: Queue, *arguments: Any, **named: Any) -> None:
        real(self, *arguments, **named | {"send_within": 0.0, "call_deadline": 0.0, "read_delay": 0.0})

    return [around(Queue, "__init__", build)]


@mutant
def reads_at_once_after_a_loss() -> list[Patch]:
    def after_post(real: Any, progress: Any, ordinal: int, answer: Any, limits: Any) -> Any:
        return real(progress, ordinal, answer, replace(limits, read_delay=0.0))

    return [around(decisions, "after_post", after_post)]


@mutant
def cancels_although_a_read_is_owed() -> list[Patch]:
    return [(worker.leases.commands, "needs_read", false)]


@mutant
def settles_as_cancelled_although_a_read_is_owed() -> list[Patch]:
    def statement(real: Any, self: Settlement, progress: Any, decision: Any) -> Any:
        if isinstance(decision, Retry):
            progress = replace(progress.found_waiting(), verdict=None)
        return real(self, progress, decision)

    return [around(Settlement, "statement", statement)]


# Budgets, and which OTP.


@mutant
def has_no_budget() -> list[Patch]:
    def build(real: Any, self: Activation, *arguments: Any) -> None:
        real(self, *arguments)
        self.limits = replace(self.limits, posts=99)

    return [around(Activation, "__init__", build)]


@mutant
def sends_an_otp_three_times() -> list[Patch]:
    return [(decisions, "POSTS_PER_OTP", 3)]


@mutant
def sends_otp_2_unasked() -> list[Patch]:
    def after_post(real: Any, progress: Any, ordinal: int, answer: Any, limits: Any) -> Any:
        if isinstance(answer, errors.InvalidOtp) and ordinal == 1 and progress.second is not None:
            return progress.answered(1), SendOtp(2)
        return real(progress, ordinal, answer, limits)

    return [around(decisions, "after_post", after_post)]


@mutant
def replays_answered_otps() -> list[Patch]:
    return [(worker.leases.commands, "is_replayable", true)]


@mutant
def sends_although_the_batch_is_paused() -> list[Patch]:
    return [(worker.leases.worker, "batch_is", lambda _: true())]


@mutant
def claims_although_the_batch_is_paused() -> list[Patch]:
    return [(worker.leases.worker, "may_work", true)]


# Coming to an end.


@mutant
def rescues_nothing() -> list[Patch]:
    return [around(Queue, "rescue", lambda *_: 0)]


@mutant
def rescues_no_lost_message() -> list[Patch]:
    return [around(Queue, "_rescue_queued", lambda *_: 0)]


@mutant
def leaves_cancelled_records_pending() -> list[Patch]:
    return [around(Queue, "sweep_cancelled", lambda *_: None)]


# Secrets.


@mutant
def keeps_the_otps_of_an_active_device() -> list[Patch]:
    def statement(real: Any, self: Settlement, progress: Any, decision: Any) -> Any:
        found = real(self, progress, decision)
        return found.values(otps=Record.otps) if isinstance(decision, Active) else found

    return [around(Settlement, "statement", statement)]


@mutant
def stores_otps_in_the_clear() -> list[Patch]:
    return [
        around(Keyring, "seal", lambda _real, _self, plaintext, _identity: plaintext),
        around(Keyring, "open", lambda _real, _self, sealed, _identity: sealed),
    ]
