"""The threads of one process, which wait for each other in a combiner of its own."""

from __future__ import annotations

from copy import copy
from typing import Any, TypeVar

from hunt.strands import Strands
from worker.database.errors import is_away
from worker.leases.group_commit import Combiner, GroupCommit, R, T, _Waiter
from worker.leases.settlement import Settlement
from worker.leases.worker import Leases

P = TypeVar("P")


def make_waiter(strands: Strands) -> type[_Waiter[Any, Any]]:
    """The class of threads that wait: here a strand does, while others go on."""

    class ModelWaiter(_Waiter[T, R]):
        def __init__(self, request: T) -> None:
            super().__init__(request)
            self._is_called = False

        def wait(self) -> None:
            strands.wait_for(lambda: self._is_called)

        def call(self) -> None:
            self._is_called = True

    return ModelWaiter


def copy_for_process(part: P) -> P:
    """A copy with combiners of its own, of which each process has its own; statements are shared, since building them
    takes long."""
    if isinstance(part, tuple):
        return type(part)(map(copy_for_process, part))
    if isinstance(part, dict):
        return type(part)((name, copy_for_process(each)) for name, each in part.items())
    if isinstance(part, GroupCommit):
        statement = copy(part)
        statement._combiner = Combiner(statement._commit, is_away)
        return statement
    if isinstance(part, Leases | Settlement):
        whole = copy(part)
        vars(whole).update({name: copy_for_process(each) for name, each in vars(part).items()})
        return whole
    return part
