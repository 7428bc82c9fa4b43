"""Group commit: statements of several threads run as one, since most of their cost is the way to the database and the
commit. The name is PostgreSQL's: https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-COMMIT-DELAY"""

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Connection, Row, String, bindparam, func, type_coerce
from sqlalchemy.sql.base import Executable
from sqlalchemy.types import TypeEngine

from worker.database.engine import Database
from worker.database.errors import is_away

T = TypeVar("T")
R = TypeVar("R")

# Maximum number of requests in one group.
MOST_TOGETHER = 64


class LeaderLost(Exception):
    """The leader's thread ended during the request: nobody knows whether it took effect."""


class _Waiter(Generic[T, R]):
    """A thread and its request. The thread sleeps until its request is done, or until it becomes the leader, who makes
    all waiting requests."""

    __slots__ = ("_wake", "failure", "is_leader", "request", "result")

    def __init__(self, request: T) -> None:
        self.request = request
        self.is_leader = False
        self.result: R | None = None
        self.failure: Exception | None = LeaderLost()
        self._wake = threading.Lock()
        self._wake.acquire()

    def sleep(self) -> None:
        self._wake.acquire()

    def wake(self) -> None:
        self._wake.release()

    def succeed(self, result: R) -> None:
        self.result, self.failure = result, None


class Combiner(Generic[T, R]):
    """Combines requests of the threads of one process. `perform` makes many requests at once, and returns their results
    in order: all take effect, or none does. After a failure, each request is made alone, so that only the faulty one
    fails; unless `is_unclear` says that the requests may have taken effect anyway: then all fail.

    No call returns before its request has taken effect."""

    def __init__(
        self,
        perform: Callable[[Sequence[T]], Sequence[R]],
        is_unclear: Callable[[Exception], bool],
        most: int = MOST_TOGETHER,
    ) -> None:
        self._perform = perform
        self._is_unclear = is_unclear
        self._most = most
        self._begin()
        _COMBINERS.add(self)

    def _begin(self) -> None:
        """Begin with an empty queue. After a fork, the threads that waited in the parent do not exist in the child."""
        self._lock = threading.Lock()
        self._waiting = deque[_Waiter[T, R]]()
        self._has_leader = False

    def submit(self, request: T) -> R:
        """Make a request, together with those of other threads. Raises the error that the request failed with, or
        LeaderLost."""
        # Not _Waiter[T, R](request), which looks the types up each time.
        waiter: _Waiter[T, R] = _Waiter(request)
        with self._lock:
            self._waiting.append(waiter)
            waiter.is_leader = not self._has_leader
            self._has_leader = True
        if not waiter.is_leader:
            waiter.sleep()
        if waiter.is_leader:
            self._lead(waiter)
        if waiter.failure is not None:
            raise waiter.failure
        return waiter.result  # type: ignore[return-value]

    def _lead(self, leader: _Waiter[T, R]) -> None:
        """Make all waiting requests, including the leader's; then wake the next leader, and the threads whose requests
        are done."""
        with self._lock:
            waiters = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        try:
            self._perform_all(waiters)
        finally:
            with self._lock:
                next_leader = self._waiting[0] if self._waiting else None
                self._has_leader = next_leader is not None
            if next_leader is not None:
                next_leader.is_leader = True
                next_leader.wake()
            for waiter in waiters:
                if waiter is not leader:
                    waiter.wake()

    def _perform_all(self, waiters: Sequence[_Waiter[T, R]]) -> None:
        try:
            results = self._perform([waiter.request for waiter in waiters])
        except Exception as failure:
            if len(waiters) == 1 or self._is_unclear(failure):
                for waiter in waiters:
                    waiter.failure = failure
                return
            for waiter in waiters:
                self._perform_all([waiter])
            return
        for waiter, result in zip(waiters, results, strict=True):
            waiter.succeed(result)


# All combiners of this process.
_COMBINERS = weakref.WeakSet[Combiner[Any, Any]]()


def _begin_after_fork() -> None:
    for combiner in list(_COMBINERS):
        combiner._begin()


os.register_at_fork(after_in_child=_begin_after_fork)


# The parameter values of one record's statement, by name; and the row that it returns, or None if it changed nothing.
Values: TypeAlias = Mapping[str, Any]
Found: TypeAlias = Row[Any] | None
# The SQL types of the values, by name.
Types: TypeAlias = Mapping[str, TypeEngine[Any]]
# The parameters of a statement, as expressions, by name.
Given: TypeAlias = Mapping[str, ColumnElement[Any]]
Build: TypeAlias = Callable[[Given], Executable]

# Parameters of every statement. Results are assigned to threads by lease, since no two threads share one. No parameter
# may have a column's name: SQLAlchemy would write the parameter's value into that column.
THIS: dict[str, TypeEngine[Any]] = {"this_id": BigInteger(), "this_lease": String()}


def bind(types: Types) -> Given:
    """The parameters of a statement for one record."""
    return {name: bindparam(name, type_=kind) for name, kind in types.items()}


class GroupCommit:
    """A statement about one record that runs for the records of several threads together. `build` makes the statement
    from its parameters, which are THIS and `types`, each with its SQL type; it must return the lease first.

    PostgreSQL runs one statement for all records, with the values in arrays; the statement commits by itself. SQLite
    runs the statement for one record after another in one transaction; after each record that it found, it runs `then`,
    which does what SQLite cannot do in a single statement."""

    def __init__(self, database: Database, types: Types, build: Build, then: Executable | None = None) -> None:
        self._database = database
        types = {**THIS, **types}
        arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in types.items()]
        given = func.unnest(*arrays).table_valued(*types).render_derived(name="given")
        self._names = tuple(types)
        self._one = build(bind(types))
        self._many = build({name: type_coerce(given.c[name], kind) for name, kind in types.items()})
        self._then = then
        self._combiner = Combiner[Values, Found](self._commit, is_away)

    def execute(self, values: Values) -> Found:
        """Execute the statement for one record, together with those of other threads, and commit it durably. Returns
        its row, or None if it changed nothing. Raises DBAPIError."""
        return self._combiner.submit(values)

    def _commit(self, requests: Sequence[Values]) -> Sequence[Found]:
        database = self._database
        with database.writing() if database.is_sqlite else database.writing_one() as connection:
            return self._run(connection, requests)

    def _run(self, connection: Connection, requests: Sequence[Values]) -> Sequence[Found]:
        """Run the statement for these records. Returns what it returned for each, in their order."""
        # A single record is passed without arrays: PostgreSQL's generic plan for arrays expects ten records, so every
        # execution would be planned again.
        if self._database.is_sqlite or len(requests) == 1:
            return [self._run_one(connection, values) for values in requests]
        # In the order of their ids, so that two processes cannot lock the same records in different orders.
        in_order = sorted(requests, key=lambda values: values["this_id"])
        arrays = {name: [values[name] for values in in_order] for name in self._names}
        found = {row[0]: row for row in connection.execute(self._many, arrays)}
        return [found.get(values["this_lease"]) for values in requests]

    def _run_one(self, connection: Connection, values: Values) -> Found:
        found = connection.execute(self._one, values).one_or_none()
        if found is not None and self._then is not None:
            connection.execute(self._then, values)
        return found
