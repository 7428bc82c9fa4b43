"""Group commit: statements of several threads run as one, since most of their cost is the way to the database and the
commit. https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-COMMIT-DELAY calls the same by this name."""

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

# Requests that go together at most.
MOST_TOGETHER = 64


class LeaderLost(Exception):
    """The thread that made a request for others was ended in it: whether it took effect is not known."""


class _Waiter(Generic[T, R]):
    """One thread's request. It is called when the request is done, or when it has to make the next ones."""

    __slots__ = ("_called", "failure", "leads", "request", "result")

    def __init__(self, request: T) -> None:
        self.request = request
        self.leads = False
        self.result: R | None = None
        self.failure: Exception | None = LeaderLost()
        self._called = threading.Lock()
        self._called.acquire()

    def wait(self) -> None:
        self._called.acquire()

    def call(self) -> None:
        self._called.release()

    def succeed(self, result: R) -> None:
        self.result, self.failure = result, None


class Combiner(Generic[T, R]):
    """Combines requests of the threads of one process. `perform` makes many requests at once, and returns a result for
    each, in their order: all of them take effect, or none. After a failure of which `is_unclear` says that it may have
    taken effect all the same, each thread hears of it; after any other, each request is made by itself, so that only
    the one at fault fails.

    Nobody returns before the request has taken effect."""

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
        """Begin with nothing waiting. After a fork the child has none of the threads that waited in its parent."""
        self._lock = threading.Lock()
        self._waiting = deque[_Waiter[T, R]]()
        self._is_led = False

    def submit(self, request: T) -> R:
        """Make a request, together with those of other threads. Raises what it failed with, or LeaderLost."""
        # Not _Waiter[T, R](request), which looks the types up each time.
        me: _Waiter[T, R] = _Waiter(request)
        with self._lock:
            self._waiting.append(me)
            me.leads = not self._is_led
            self._is_led = True
        if not me.leads:
            me.wait()
        if me.leads:
            self._lead(me)
        if me.failure is not None:
            raise me.failure
        return me.result  # type: ignore[return-value]

    def _lead(self, me: _Waiter[T, R]) -> None:
        """Make all requests that wait, one's own among them; then let the next thread lead, and the others go."""
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        try:
            self._perform_all(taken)
        finally:
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                self._is_led = following is not None
            if following is not None:
                following.leads = True
                following.call()
            for each in taken:
                if each is not me:
                    each.call()

    def _perform_all(self, taken: Sequence[_Waiter[T, R]]) -> None:
        try:
            results = self._perform([each.request for each in taken])
        except Exception as failure:
            if len(taken) == 1 or self._is_unclear(failure):
                for each in taken:
                    each.failure = failure
                return
            for each in taken:
                self._perform_all([each])
            return
        for each, result in zip(taken, results, strict=True):
            each.succeed(result)


# All combiners of this process.
_COMBINERS = weakref.WeakSet[Combiner[Any, Any]]()


def _begin_anew() -> None:
    for combiner in list(_COMBINERS):
        combiner._begin()


os.register_at_fork(after_in_child=_begin_anew)


# The values of one record's statement, by name; and those of its columns that it returns, None where it found nothing.
Values: TypeAlias = Mapping[str, Any]
Found: TypeAlias = Row[Any] | None
# The SQL types of the values, by name.
Types: TypeAlias = Mapping[str, TypeEngine[Any]]
# What a statement is built of: an expression for each of its values, by name.
Given: TypeAlias = Mapping[str, ColumnElement[Any]]
Build: TypeAlias = Callable[[Given], Executable]

# Every statement has these two. By the lease, which is one thread's, results are told apart. No value may have the name
# of a column: SQLAlchemy would write it there.
THIS: dict[str, TypeEngine[Any]] = {"this_id": BigInteger(), "this_lease": String()}


def bind(types: Types) -> Given:
    """Parameters of these names and types, of which the statement for one record is built."""
    return {name: bindparam(name, type_=kind) for name, kind in types.items()}


class GroupCommit:
    """A statement about one record, which is executed for the records of several threads together. `build` makes it of
    an expression for each of its values, which are those of THIS and of `types`, with their SQL types; the lease is the
    first column that it returns.

    On PostgreSQL it is one statement for all records, whose values go in arrays, and commits by itself. On SQLite it
    runs for one record after the other, in one transaction, each time with `then` after it where it found its record:
    for what SQLite has no single statement."""

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
        """Execute the statement for one record, beside those of other threads. Returns what it returned, or None where
        it changed nothing. It is committed, durably, when this returns. Raises DBAPIError."""
        return self._combiner.submit(values)

    def _commit(self, requests: Sequence[Values]) -> Sequence[Found]:
        database = self._database
        with database.writing() if database.is_sqlite else database.writing_one() as connection:
            return self._run(connection, requests)

    def _run(self, connection: Connection, requests: Sequence[Values]) -> Sequence[Found]:
        """Run the statement for these records. Returns what it returned for each, in their order."""
        # A record that is alone goes without arrays: a plan that is kept for any array expects ten records, so that
        # PostgreSQL would make one anew for each record.
        if self._database.is_sqlite or len(requests) == 1:
            return [self._run_one(connection, values) for values in requests]
        # By record, so that two processes that concern the same records do not lock them in different orders.
        in_order = sorted(requests, key=lambda values: values["this_id"])
        arrays = {name: [values[name] for values in in_order] for name in self._names}
        found = {row[0]: row for row in connection.execute(self._many, arrays)}
        return [found.get(values["this_lease"]) for values in requests]

    def _run_one(self, connection: Connection, values: Values) -> Found:
        found = connection.execute(self._one, values).one_or_none()
        if found is not None and self._then is not None:
            connection.execute(self._then, values)
        return found
