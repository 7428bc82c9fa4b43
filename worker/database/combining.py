"""Does together what several threads ask for at the same time: while one request is under way, those that come
meanwhile wait, and go together afterwards. No timer holds anything back: a request that is alone goes at once, by
itself."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

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
