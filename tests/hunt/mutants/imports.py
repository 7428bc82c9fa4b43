"""Mutants that import a token twice, or otherwise than its seed says, or prepare what is not theirs to prepare."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hunt.mutants.patching import Patch, around, execute, mutant
from worker.batches import tokens
from worker.batches.long_list import Turns
from worker.batches.tokens import Tokens


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
    def note_lost(_: Any, self: Tokens, _batch_id: int, job: int) -> None:
        self.take_back(job)

    return [around(Tokens, "note_lost", note_lost)]


@mutant("it calls a token imported by us, which was there before")
def calls_every_token_imported_by_itself() -> list[Patch]:
    def judge(real: Any, self: Tokens, *arguments: Any, **_: bool) -> Any:
        return real(self, *arguments, is_made=True)

    return [around(Tokens, "_judge", judge)]


@mutant("begins, and it is paused")
def prepares_a_batch_that_was_paused() -> list[Patch]:
    return [around(Turns, "check", lambda *_: None)]
