"""Mutants that write what several threads ask for together, and get them wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import OperationalError

from hunt.mutants.patching import Patch, around, mutant
from worker.leases.group_commit import Combiner, GroupCommit


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
