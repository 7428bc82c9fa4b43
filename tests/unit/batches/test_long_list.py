"""A chunk that several threads ask about."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from worker.batches import long_list
from worker.batches.long_list import LongList, taking

THREADS = 4


def test_after_a_failure_nothing_further_is_asked_and_what_is_under_way_is_written_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_ending = threading.Event()

    class Pool(ThreadPoolExecutor):
        """One whose threads hear that nothing more is to be begun."""

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            is_ending.set()
            super().shutdown(wait=wait)

    monkeypatch.setattr(long_list, "ThreadPoolExecutor", Pool)
    asked, written = list[int](), list[int]()

    def ask(thing: int) -> int:
        asked.append(thing)
        if thing == 0:
            raise RuntimeError("a fault")
        is_ending.wait(30)
        return thing

    things = LongList(taking(range(100), 100), ask, lambda thing, _: written.append(thing), THREADS)
    with pytest.raises(RuntimeError, match="a fault"):
        things.advance()

    # The thread of the one that failed may have begun another before that was known.
    assert len(asked) <= THREADS + 1
    assert sorted(written) == sorted(asked)[1:]
