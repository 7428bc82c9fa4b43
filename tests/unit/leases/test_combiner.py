"""Requests of several threads that are made together: who leads, who hears which result, and what a failure means."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from worker.leases import group_commit
from worker.leases.group_commit import Combiner, LeaderLost

# Seconds that something may take which happens at once.
PATIENCE = 20.0


class Unclear(Exception):
    """It may have taken effect."""


class Site:
    """Doubles numbers. A request stays under way until the test lets it end."""

    def __init__(self, most: int = 64) -> None:
        self.combiner = Combiner[int, int](self.perform, lambda failure: isinstance(failure, Unclear), most)
        self.made: list[list[int]] = []
        self.failing: dict[int, BaseException] = {}
        self.gate = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.pool = ThreadPoolExecutor(16)

    def perform(self, numbers: Sequence[int]) -> list[int]:
        self.made.append(list(numbers))
        self.begun.release()
        assert self.gate.acquire(timeout=PATIENCE)
        for number in numbers:
            if number in self.failing:
                raise self.failing[number]
        return [2 * number for number in numbers]

    def submit(self, number: int) -> Future[int]:
        """Submit in a thread of its own, and return once it is under way or waits."""
        before = len(self.combiner._waiting)
        is_first = not self.combiner._is_led
        future = self.pool.submit(self.combiner.submit, number)
        if is_first:
            assert self.begun.acquire(timeout=PATIENCE)
        else:
            until(lambda: len(self.combiner._waiting) == before + 1)
        return future

    def let_end(self, count: int = 1) -> None:
        for _ in range(count):
            self.gate.release()


def until(is_so: object) -> None:
    assert callable(is_so)
    for _ in range(round(PATIENCE * 1000)):
        if is_so():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not come to that")


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.let_end(100)
    site.pool.shutdown()


def test_a_request_that_is_alone_goes_at_once_by_itself(site: Site) -> None:
    future = site.submit(1)
    site.let_end()
    assert future.result(PATIENCE) == 2
    assert site.made == [[1]]


def test_what_comes_while_a_request_is_under_way_goes_together_afterwards_in_its_order(site: Site) -> None:
    futures = [site.submit(number) for number in (1, 2, 3, 4)]
    site.let_end(2)
    assert [future.result(PATIENCE) for future in futures] == [2, 4, 6, 8]
    assert site.made == [[1], [2, 3, 4]]


def test_nobody_returns_before_the_request_has_taken_effect(site: Site) -> None:
    first, second, third = (site.submit(number) for number in (1, 2, 3))
    site.let_end()
    assert first.result(PATIENCE) == 2
    assert site.begun.acquire(timeout=PATIENCE)
    assert not second.done()
    assert not third.done()
    site.let_end()
    assert (second.result(PATIENCE), third.result(PATIENCE)) == (4, 6)


def test_no_more_go_together_than_permitted() -> None:
    site = Site(most=2)
    futures = [site.submit(number) for number in range(6)]
    site.let_end(4)
    assert [future.result(PATIENCE) for future in futures] == [0, 2, 4, 6, 8, 10]
    assert site.made == [[0], [1, 2], [3, 4], [5]]


def test_only_the_request_at_fault_fails(site: Site) -> None:
    site.failing[3] = ValueError("3")
    futures = [site.submit(number) for number in (1, 2, 3, 4)]
    site.let_end(5)
    assert [future.result(PATIENCE) for future in (futures[0], futures[1], futures[3])] == [2, 4, 8]
    with pytest.raises(ValueError, match="3"):
        futures[2].result(PATIENCE)
    assert site.made == [[1], [2, 3, 4], [2], [3], [4]]


def test_a_failure_that_may_have_taken_effect_is_told_to_everybody_and_nothing_is_made_again(site: Site) -> None:
    site.failing[3] = Unclear()
    futures = [site.submit(number) for number in (1, 2, 3)]
    site.let_end(2)
    assert futures[0].result(PATIENCE) == 2
    for future in futures[1:]:
        with pytest.raises(Unclear):
            future.result(PATIENCE)
    assert site.made == [[1], [2, 3]]


def test_a_thread_that_is_ended_while_it_leads_leaves_nobody_waiting(site: Site) -> None:
    site.failing[2] = SystemExit()
    first, second, third = (site.submit(number) for number in (1, 2, 3))
    site.let_end(2)
    assert first.result(PATIENCE) == 2
    with pytest.raises(SystemExit):
        second.result(PATIENCE)
    with pytest.raises(LeaderLost):
        third.result(PATIENCE)
    again = site.submit(5)
    site.let_end()
    assert again.result(PATIENCE) == 10


def test_many_threads_get_their_own_results() -> None:
    combiner = Combiner[int, int](lambda numbers: [2 * number for number in numbers], lambda _: False)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(combiner.submit, range(5000))) == [2 * number for number in range(5000)]


def test_a_child_process_begins_with_nothing_waiting(site: Site) -> None:
    future = site.submit(1)
    pid = os.fork()
    if pid == 0:
        # It must not outlive a test that fails.
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        site.gate.release()
        os._exit(0 if site.combiner.submit(7) == 14 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    site.let_end()
    assert future.result(PATIENCE) == 2


# Deliberate faults: what is wrong, and the test that must find it.


class Forgetful(set[Any]):
    """A set to which nothing is added."""

    def add(self, element: object) -> None:
        pass


class LastFirst(deque[Any]):
    """A queue from which the last to come is taken first."""

    popleft = deque.pop


MUTANTS: dict[str, tuple[object, str, object, Callable[[Site], None]]] = {
    "tells everybody of the failure of one": (
        Combiner,
        "_perform_all",
        lambda self, taken: _perform(self, taken),
        test_only_the_request_at_fault_fails,
    ),
    "takes the last to come first": (
        group_commit,
        "deque",
        LastFirst,
        test_what_comes_while_a_request_is_under_way_goes_together_afterwards_in_its_order,
    ),
    "keeps in a child what waited in its parent": (
        group_commit,
        "_COMBINERS",
        Forgetful(),
        test_a_child_process_begins_with_nothing_waiting,
    ),
    "does not wait": (
        group_commit._Waiter,
        "wait",
        lambda _: None,
        test_nobody_returns_before_the_request_has_taken_effect,
    ),
    "leaves those waiting whose leader was ended": (
        Combiner,
        "_lead",
        lambda self, me: _lead(self, me),
        test_a_thread_that_is_ended_while_it_leads_leaves_nobody_waiting,
    ),
}


def _perform(self: Any, taken: Sequence[Any]) -> None:
    try:
        results = self._perform([each.request for each in taken])
    except ValueError as failure:
        for each in taken:
            each.failure = failure
        return
    for each, result in zip(taken, results, strict=True):
        each.succeed(result)


def _lead(self: Any, me: Any) -> None:
    taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
    self._perform_all(taken)
    for each in taken:
        if each is not me:
            each.call()
    self._is_led = bool(self._waiting)
    if self._waiting:
        self._waiting[0].leads = True
        self._waiting[0].call()


@pytest.mark.parametrize("name", MUTANTS)
def test_each_fault_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    target, attribute, fault, find = MUTANTS[name]
    monkeypatch.setitem(globals(), "PATIENCE", 1.0)
    monkeypatch.setattr(target, attribute, fault)
    site = Site()
    try:
        with pytest.raises((AssertionError, TimeoutError, ValueError, LeaderLost)):
            find(site)
    finally:
        site.let_end(100)
        site.pool.shutdown(wait=False, cancel_futures=True)
