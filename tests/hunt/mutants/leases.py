"""Mutants that do not respect a lease or a batch that was stopped, write down too late or not what was, or get wrong
what several threads ask for together."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from sqlalchemy import true
from sqlalchemy.exc import OperationalError

import worker.leases.queue
import worker.leases.settlement
import worker.leases.worker
from hunt import initial_state
from hunt.mutants.patching import Patch, around, execute, mutant
from models.batch import BatchState
from models.encrypted import Keyring
from models.record import Record
from worker import records
from worker.dispatch import Dispatcher, Messages
from worker.leases import moves
from worker.leases.group_commit import Combiner, GroupCommit
from worker.leases.worker import Leases
from worker.pingone.client import Client
from worker.records import Attempt
from worker.rules.steps import OtpProgress


@mutant("no arrow leads from activating to queued")
def claims_what_another_holds() -> list[Patch]:
    def claim(real: Any, self: Leases, record_id: int, *rest: Any) -> Any:
        execute("UPDATE record SET status='queued', lease_id=NULL WHERE id=? AND status='activating'", record_id)
        return real(self, record_id, *rest)

    return [around(Leases, "claim", claim)]


@mutant("a lease is taken over, or used twice")
def shares_one_lease_id() -> list[Patch]:
    return [(worker.leases.worker, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex="5" * 32)))]


@mutant("goes out without a lease")
def sends_however_late_it_is() -> list[Patch]:
    late = {"send_within": 1e9, "last_send": 1e9}
    return [around(records, "AttemptTools", lambda real, **given: real(**given | late))]


@mutant("is final, and nobody asked for pending")
def hands_back_whatever_it_is() -> list[Patch]:
    def hand_back(_: Any, self: Leases, record_id: int, delay: float) -> bool:
        with initial_state.database().writing():
            execute("UPDATE record SET status='pending', lease_id=NULL, lease_until=NULL WHERE id=?", record_id)
        return True

    return [around(Leases, "hand_back", hand_back)]


@mutant("is to go out although the batch does not run")
def sends_although_the_batch_is_paused() -> list[Patch]:
    return [(module, "may_call", lambda *_: true()) for module in (worker.leases.settlement, worker.leases.worker)]


@mutant("it is claimed although its batch is paused")
def claims_although_the_batch_is_paused() -> list[Patch]:
    return [(worker.leases.settlement, "may_work", lambda *_: true())]


@mutant("s before its date", amid=("dates",))
def lets_records_go_before_their_date() -> list[Patch]:
    return [(module, "may_begin", lambda _: true()) for module in (moves, worker.leases.queue)]


@mutant("s before its date", amid=("kept_back",))
def goes_on_with_a_claim_although_its_record_is_kept_back() -> list[Patch]:
    return [(worker.leases.worker, "may_call", lambda *_: moves.is_batch_in(BatchState.RUNNING))]


@mutant("and its window closed", amid=("window",))
def waits_for_a_tick_to_notice_that_a_window_has_closed() -> list[Patch]:
    modules = (moves, worker.leases.settlement, worker.leases.worker)
    return [(module, "may_call", lambda *_: moves.is_batch_in(BatchState.RUNNING)) for module in modules]


@mutant("begins, and it is paused")
def asks_no_permit_between_tries() -> list[Patch]:
    return [around(Attempt, "_check_permit", lambda *_: None)]


@mutant("goes out while its OTP is committed as unsent")
def writes_sending_after_the_post() -> list[Patch]:
    late: list[Callable[[], object]] = []

    def claim(real: Any, self: Leases, record_id: int, *rest: Any) -> Any:
        claimed = real(self, record_id, *rest)
        if claimed is None or not claimed.is_otp1_marked:
            return claimed
        with initial_state.database().writing():
            execute("UPDATE record SET otp1_state='unsent', otp1_posts=0 WHERE id=?", record_id)
        progress = replace(claimed.progress, first=OtpProgress())
        return replace(claimed, progress=progress, is_otp1_marked=False)

    def mark_sent(real: Any, self: Leases, claimed: Any, *rest: Any) -> bool:
        late.append(lambda: real(self, claimed, *rest))
        return True

    def activate(real: Any, self: Client, *arguments: Any, **named: Any) -> Any:
        try:
            return real(self, *arguments, **named)
        finally:
            late.pop()()

    return [
        around(Leases, "claim", claim),
        around(Leases, "mark_sent", mark_sent),
        around(Client, "activate", activate),
    ]


@mutant("goes out while OTP 1 is committed as sent")
def does_not_write_that_it_was_answered() -> list[Patch]:
    return [around(Leases, "write_progress", lambda *_: True)]


@mutant("is published before it is committed as queued")
def publishes_before_it_commits() -> list[Patch]:
    def enqueue(real: Any, self: Dispatcher, *rest: Any) -> list[Messages]:
        self._publish(real(self, *rest), {})
        return []

    return [around(Dispatcher, "_enqueue", enqueue)]


@mutant("attempts are written down, and its history has")
def counts_no_attempt() -> list[Patch]:
    return [around(worker.leases.settlement, "_parameters", lambda real, *given: {**real(*given), "uncounted": 1})]


@mutant("it is active and keeps its OTPs")
def keeps_the_otps_of_an_active_device() -> list[Patch]:
    def settle(real: Any, database: Any, kind: str, given: Any) -> Any:
        return real(database, kind, given).values(otps=Record.otps) if kind == "active" else real(database, kind, given)

    return [around(worker.leases.settlement, "_settle", settle)]


@mutant("a secret stands in the clear")
def stores_otps_in_the_clear() -> list[Patch]:
    return [
        around(Keyring, "seal", lambda _real, _self, plaintext, _identity: plaintext),
        around(Keyring, "open", lambda _real, _self, sealed, _identity: sealed),
    ]


@mutant("goes out without a lease", amid=("commit_fails",))
def believes_what_it_wrote_before_it_is_committed() -> list[Patch]:
    def execute(_: Any, self: GroupCommit, requests: Sequence[Any]) -> Any:
        found: list[Any] = []
        try:
            with self._database.writing() as connection:
                found = list(self._run(connection, requests))
        except OperationalError:
            if not found:
                raise
        return found

    return [around(GroupCommit, "_commit", execute)]


@mutant("goes out without a lease")
def tells_the_result_of_one_thread_to_another() -> list[Patch]:
    def execute(real: Any, self: GroupCommit, requests: Sequence[Any]) -> Any:
        found = real(self, requests)
        return [*found[1:], *found[:1]]

    return [around(GroupCommit, "_commit", execute)]


@mutant("does not come to rest")
def forgets_a_thread_that_waits() -> list[Patch]:
    def lead(real: Any, self: Any, me: Any) -> None:
        if len(self._waiting) > 2:
            self._waiting.pop()
        real(self, me)

    return [around(Combiner, "_lead", lead)]


@mutant("does not come to rest")
def lets_nobody_lead_next() -> list[Patch]:
    def lead(_: Any, self: Any, me: Any) -> None:
        taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        self._perform_all(taken)
        self._is_led = bool(self._waiting)
        for each in taken:
            if each is not me:
                each.call()

    return [around(Combiner, "_lead", lead)]
