"""Mutants that let a record go again with what a mend must not bring, or forget what went before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hunt.mutants.patching import Patch, around, execute, mutant
from worker.batches import mending
from worker.batches.mending import Mender, _Writer


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
    def change(real: Any, self: _Writer, correction: Any) -> dict[str, Any]:
        return real(self, replace(correction, is_fresh=True))  # type: ignore[no-any-return]

    def choose(real: Any, row: Any, record: Any, source: Any, **named: Any) -> Any:
        return source if row.otps is None and source is not None else real(row, record, source, **named)

    return [around(_Writer, "_change", change), around(mending, "_choose_otps", choose)]


@mutant("times, and", amid=("batch_mended",))
def forgets_the_posts_of_earlier_budgets() -> list[Patch]:
    def change(real: Any, self: _Writer, correction: Any) -> dict[str, Any]:
        return real(self, correction) | {"posts_forgiven": 0}

    return [around(_Writer, "_change", change)]


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
