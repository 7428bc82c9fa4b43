"""Mutants that import a token twice or otherwise than its seed says, make a device twice or take one that is not
theirs, or let a record go again with what a mend must not bring. How soon a token is looked up and how often it is
paired, the tests of worker.rules.decisions hold: here that shows too seldom."""

from dataclasses import replace
from typing import Any

from hunt import initial_state
from hunt.mutants.patching import Patch, around, execute, mutant
from models.record_states import PairingState
from worker.batches import mending, tokens
from worker.batches.long_list import Turns
from worker.batches.mending import Mender, _Writer
from worker.batches.tokens import Tokens
from worker.leases.worker import Leases
from worker.pingone import errors
from worker.pingone.devices import PairedDevice, Pairing
from worker.rules import decisions
from worker.rules.steps import PairingProgress, Progress


@mutant("is malformed", amid=("process_dies",))
def repeats_an_import_with_another_hash() -> list[Patch]:
    def make_token(real: Any, keyring: Any, row: Any) -> Any:
        token = real(keyring, row)
        is_repeated = execute("SELECT 1 FROM inventory_job WHERE batch_id = ?", row.batch_id)
        if not (token and is_repeated):
            return token
        return replace(token, seed=replace(token.seed, hash_algorithm="sha256"))

    return [around(tokens, "make_token", make_token)]


@mutant("goes out while nothing has told what became of", amid=("reset",))
def repeats_a_lost_import_without_reading_the_inventory() -> list[Patch]:
    return [around(Tokens, "note_lost", lambda _real, self, _batch_id, job: self.take_back(job))]


@mutant("it calls a token imported by us, which was there before")
def calls_every_token_imported_by_itself() -> list[Patch]:
    return [around(Tokens, "_judge", lambda real, *arguments, **_: real(*arguments, is_made=True))]


@mutant("begins, and it is paused")
def prepares_a_batch_that_was_paused() -> list[Patch]:
    return [around(Turns, "check", lambda *_: None)]


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
        unsent = replace(known, pairing=replace(known.pairing, state=PairingState.UNSENT))
        return unsent if known.pairing.is_open else known, step

    return [around(decisions, "decide_after_pairing", decide)]


@mutant("goes out while no two look-ups have told what became of")
def believes_one_look_up() -> list[Patch]:
    was_free = {"state": PairingState.UNSENT, "was_free": True}
    return [around(PairingProgress, "missed", lambda _real, self: replace(self, **was_free))]


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
    return [around(PairingProgress, "found", lambda real, *arguments, **_: real(*arguments, is_made=True))]


@mutant("brings an OTP to a device that was ACTIVE from its pairing")
def sends_an_otp_although_the_pairing_was_answered_with_active() -> list[Patch]:
    return [(PairedDevice, "is_active", False)]


@mutant("it is a dead letter for device_not_found, and that did not happen")
def does_not_pair_a_deleted_device_again() -> list[Patch]:
    return [around(decisions, "may_be_deleted", lambda *_: False)]


@mutant("brings an OTP that was answered", amid=("batch_mended",))
def takes_an_otp_that_was_sent_for_a_fresh_one() -> list[Patch]:
    return [around(mending, "find_used_otps", lambda *_: frozenset())]


@mutant("and that one or a later one went before", amid=("batch_mended",))
def sets_the_counter_of_a_seed_back_by_a_mend() -> list[Patch]:
    def change(real: Any, self: _Writer, correction: Any) -> dict[str, Any]:
        columns = real(self, correction)
        counter = columns["next_counter"]
        return columns if counter is None else columns | {"next_counter": columns["first_counter"] or 0}

    return [around(_Writer, "_change", change)]


@mutant("its device was made for the one before", amid=("batch_mended",))
def gives_a_token_to_another_person_whose_device_was_made() -> list[Patch]:
    return [around(mending, "_may_be_same_person", lambda *_: True)]


@mutant("brings an OTP that was answered", amid=("batch_mended",))
def begins_a_new_budget_with_the_same_otps() -> list[Patch]:
    def choose(real: Any, row: Any, record: Any, source: Any, **named: Any) -> Any:
        return source if row.otps is None and source is not None else real(row, record, source, **named)

    as_fresh = around(_Writer, "_change", lambda real, self, given: real(self, replace(given, is_fresh=True)))
    return [as_fresh, around(mending, "_choose_otps", choose)]


@mutant("times, and", amid=("batch_mended",))
def forgets_the_posts_of_earlier_budgets() -> list[Patch]:
    return [around(_Writer, "_change", lambda real, *given: real(*given) | {"posts_forgiven": 0})]


@mutant("goes out, and PingOne has not asked for OTP 2", amid=("batch_mended",))
def takes_the_answer_to_an_earlier_otp_for_that_to_a_fresh_one() -> list[Patch]:
    def change(real: Any, self: _Writer, correction: Any) -> dict[str, Any]:
        return real(self, correction) | {"otp1_state": correction.record.otp1_state}

    return [around(_Writer, "_change", change)]


@mutant("times, and", amid=("batch_mended",))
def mends_a_record_that_is_in_work() -> list[Patch]:
    def mend_rows(real: Any, self: Mender, connection: Any, shipment: Any, batch: Any) -> Any:
        renewed = "status='pending', lease_id=NULL, lease_until=NULL, otp1_state='unsent', otp1_posts=0"
        execute(f"UPDATE record SET {renewed} WHERE batch_id=? AND status='activating'", batch.id)
        return real(self, connection, shipment, batch)

    return [around(Mender, "_mend_rows", mend_rows)]
