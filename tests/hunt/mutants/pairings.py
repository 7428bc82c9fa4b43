"""Mutants that make a device twice, or take one that is not theirs. How soon a token is looked up and how often it is
paired, the tests of worker.rules.decisions hold: here that shows too seldom."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hunt import initial_state
from hunt.mutants.patching import Patch, around, execute, mutant
from models.record_states import PairingState
from worker.leases.worker import Leases
from worker.pingone import errors
from worker.pingone.devices import PairedDevice, Pairing
from worker.rules import decisions
from worker.rules.progress import PairingProgress, Progress


@mutant("requests to pair went out, and")
def takes_a_lost_pairing_for_not_delivered() -> list[Patch]:
    def decide(real: Any, progress: Progress, answer: Any, limits: Any) -> Any:
        is_lost = isinstance(answer, errors.OutcomeUnknown) and not answer.is_over
        return real(progress, errors.NotDelivered() if is_lost else answer, limits)

    return [around(decisions, "decide_after_pairing", decide)]


@mutant("goes out while no two look-ups have told what became of")
def pairs_again_without_a_look_up() -> list[Patch]:
    def decide(real: Any, progress: Progress, answer: Any, limits: Any) -> Any:
        known, step = real(progress, answer, limits)
        return _with(known, state=PairingState.UNSENT) if known.pairing.is_open else known, step

    return [around(decisions, "decide_after_pairing", decide)]


@mutant("goes out while no two look-ups have told what became of")
def believes_one_look_up() -> list[Patch]:
    def missed(real: Any, self: PairingProgress) -> PairingProgress:
        return replace(self, state=PairingState.UNSENT, was_free=True)

    return [around(PairingProgress, "missed", missed)]


@mutant("goes out while its pairing is committed as unsent")
def marks_a_pairing_only_with_its_answer() -> list[Patch]:
    def claim(real: Any, self: Leases, record_id: int, *rest: Any) -> Any:
        claimed = real(self, record_id, *rest)
        if claimed is not None and claimed.is_pairing_marked:
            with initial_state.database().writing():
                execute("UPDATE record SET pairing='unsent', pairings=0 WHERE id=?", record_id)
        return claimed

    return [around(Leases, "claim", claim)]


@mutant("and no device is written down")
def writes_its_device_down_only_at_the_end() -> list[Patch]:
    def write_progress(real: Any, self: Leases, claim: Any, progress: Progress) -> bool:
        return bool(real(self, claim, replace(progress, pairing=claim.progress.pairing)))

    return [around(Leases, "write_progress", write_progress)]


@mutant("it goes on with another person's device")
def takes_another_persons_device() -> list[Patch]:
    def decide(real: Any, progress: Progress, answer: Any, *rest: Any) -> Any:
        return real(progress, replace(answer, user_id=None) if isinstance(answer, Pairing) else answer, *rest)

    return [around(decisions, "decide_after_search", decide)]


@mutant("it calls a device its own that it did not make")
def calls_every_device_its_own() -> list[Patch]:
    def found(real: Any, self: PairingProgress, device_id: str, **_: bool) -> PairingProgress:
        return real(self, device_id, is_made=True)  # type: ignore[no-any-return]

    return [around(PairingProgress, "found", found)]


@mutant("brings an OTP to a device that was ACTIVE from its pairing")
def sends_an_otp_although_the_pairing_was_answered_with_active() -> list[Patch]:
    return [(PairedDevice, "is_active", False)]


@mutant("it is a dead letter for device_not_found, and that did not happen")
def does_not_pair_a_deleted_device_again() -> list[Patch]:
    return [around(decisions, "may_be_deleted", lambda *_: False)]


def _with(progress: Progress, **changes: Any) -> Progress:
    return replace(progress, pairing=replace(progress.pairing, **changes))
