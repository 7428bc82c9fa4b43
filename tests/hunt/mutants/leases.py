"""Mutants that do not respect a lease, or a batch that was stopped."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sqlalchemy import ColumnElement, true

import worker.leases.queue
import worker.leases.settlement
import worker.leases.worker
from hunt import initial_state
from hunt.mutants.patching import Patch, around, execute, mutant
from models.batch import BatchState
from worker import records
from worker.leases import moves
from worker.leases.worker import Leases
from worker.records import Attempt


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
    def tools(real: Any, **given: Any) -> Any:
        return real(**given | {"send_within": 1e9, "last_send": 1e9})

    return [around(records, "AttemptTools", tools)]


@mutant("is final, and nobody asked for pending")
def hands_back_whatever_it_is() -> list[Patch]:
    def hand_back(_: Any, self: Leases, record_id: int, delay: float) -> bool:
        with initial_state.database().writing():
            execute("UPDATE record SET status='pending', lease_id=NULL, lease_until=NULL WHERE id=?", record_id)
        return True

    return [around(Leases, "hand_back", hand_back)]


@mutant("is to go out although the batch does not run")
def sends_although_the_batch_is_paused() -> list[Patch]:
    return [
        (module, "is_batch_running", lambda *_: true()) for module in (worker.leases.settlement, worker.leases.worker)
    ]


@mutant("it is claimed although its batch is paused")
def claims_although_the_batch_is_paused() -> list[Patch]:
    return [(worker.leases.settlement, "may_work", lambda *_: true())]


@mutant("and its window closed", amid=("window",))
def waits_for_a_tick_to_notice_that_a_window_has_closed() -> list[Patch]:
    modules = (moves, worker.leases.settlement, worker.leases.worker)
    return [(module, "is_batch_running", _has_state) for module in modules]


def _has_state(*_: Any) -> ColumnElement[bool]:
    return moves.is_batch_in(BatchState.RUNNING)


@mutant("begins, and it is paused")
def asks_no_permit_between_tries() -> list[Patch]:
    return [around(Attempt, "_check_permit", lambda *_: None)]
