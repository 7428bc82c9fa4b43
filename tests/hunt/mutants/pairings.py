"""Mutants that make a device twice, or take one that is not theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import update

from hunt import initial_state
from hunt.mutants.patching import Patch, around, execute, mutant
from models.record import PairingState, Record, Status
from worker.leases.claims import mark_pairing
from worker.leases.worker import _THIS_LEASE, _THIS_RECORD, Leases
from worker.pingone import errors
from worker.pingone.pairing import PairedDevice, Pairing
from worker.rules import pairing
from worker.rules.progress import PairingProgress, Progress


@mutant
def takes_a_lost_pairing_for_not_delivered() -> list[Patch]:
    def decide(real: Any, progress: Progress, answer: Any, limits: Any) -> Any:
        is_lost = isinstance(answer, errors.OutcomeUnknown) and not answer.is_over
        return real(progress, errors.NotDelivered() if is_lost else answer, limits)

    return [around(pairing, "decide_after_pairing", decide)]


@mutant
def pairs_again_without_a_look_up() -> list[Patch]:
    def decide(real: Any, progress: Progress, answer: Any, limits: Any) -> Any:
        known, step = real(progress, answer, limits)
        return _with(known, state=PairingState.UNSENT) if known.pairing.is_open else known, step

    return [around(pairing, "decide_after_pairing", decide)]


@mutant
def looks_a_token_up_too_soon() -> list[Patch]:
    def decide(real: Any, progress: Progress, answer: Any, limits: Any) -> Any:
        return real(progress, answer, replace(limits, read_delay=0.0))

    return [around(pairing, "decide_after_pairing", decide)]


@mutant
def believes_one_look_up() -> list[Patch]:
    def missed(real: Any, self: PairingProgress) -> PairingProgress:
        return replace(self, state=PairingState.UNSENT, was_free=True)

    return [around(PairingProgress, "missed", missed)]


@mutant
def marks_a_pairing_only_with_its_answer() -> list[Patch]:
    def claim(real: Any, self: Leases, record_id: int, *rest: Any) -> Any:
        claimed = real(self, record_id, *rest)
        if claimed is not None and claimed.is_pairing_marked:
            with initial_state.database().writing():
                execute("UPDATE record SET pairing='unsent', pairings=0 WHERE id=?", record_id)
        return claimed

    return [around(Leases, "claim", claim)]


@mutant
def writes_its_device_down_only_at_the_end() -> list[Patch]:
    def write_progress(real: Any, self: Leases, claim: Any, progress: Progress) -> bool:
        known = replace(claim, progress=replace(claim.progress, pairing=progress.pairing))
        return bool(real(self, known, progress))

    return [around(Leases, "write_progress", write_progress)]


@mutant
def takes_another_persons_device() -> list[Patch]:
    def decide(real: Any, progress: Progress, answer: Any, *rest: Any) -> Any:
        return real(progress, replace(answer, user_id=None) if isinstance(answer, Pairing) else answer, *rest)

    return [around(pairing, "decide_after_search", decide)]


@mutant
def calls_every_device_its_own() -> list[Patch]:
    def found(real: Any, self: PairingProgress, device_id: str, **_: bool) -> PairingProgress:
        return real(self, device_id, is_made=True)  # type: ignore[no-any-return]

    return [around(PairingProgress, "found", found)]


@mutant
def pairs_again_although_its_batch_was_cancelled() -> list[Patch]:
    def build(real: Any, self: Leases, database: Any, **settings: Any) -> None:
        real(self, database, **settings)
        held = update(Record).where(_THIS_RECORD, _THIS_LEASE, Record.status == Status.ACTIVATING)
        self._mark_pairing = held.values(mark_pairing(database))

    return [around(Leases, "__init__", build)]


@mutant
def pairs_without_end() -> list[Patch]:
    return [(pairing, "MOST_PAIRINGS", 99)]


@mutant
def sends_an_otp_although_the_pairing_was_answered_with_active() -> list[Patch]:
    return [(PairedDevice, "is_active", False)]


@mutant
def does_not_pair_a_deleted_device_again() -> list[Patch]:
    return [around(pairing, "may_be_deleted", lambda *_: False)]


def _with(progress: Progress, **changes: Any) -> Progress:
    return replace(progress, pairing=replace(progress.pairing, **changes))
