from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs
from support.processes.waiting import wait_until

from worker.process import affinity
from worker.process.affinity import move_to_this_processor

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux lets a process choose")


@pytest.fixture
def others() -> Iterator[list[int]]:
    """Threads that wait, by their ids."""
    ready, gate = threading.Barrier(4), threading.Event()

    def wait() -> int:
        ready.wait()
        gate.wait(60)
        return threading.get_native_id()

    ids = list[int]()
    with ThreadPoolExecutor(3, initializer=lambda: ids.append(threading.get_native_id())) as pool:
        calls = [pool.submit(wait) for _ in range(3)]
        ready.wait()
        yield ids
        gate.set()
        assert {call.result() for call in calls} == set(ids)


def test_all_threads_go_to_one_processor_and_whoever_asks_stays_free(others: list[int]) -> None:
    allowed = os.sched_getaffinity(0)
    own = threading.get_native_id()

    move_to_this_processor([own, *others])

    kept = [os.sched_getaffinity(thread) for thread in others]
    assert len(kept[0]) == 1
    assert kept == [kept[0]] * 3
    assert kept[0] < allowed or len(allowed) == 1
    assert os.sched_getaffinity(own) == allowed


def test_they_go_where_whoever_asks_is(others: list[int]) -> None:
    def gather_at(processor: int) -> None:
        os.sched_setaffinity(0, {processor})
        move_to_this_processor(others)

    for processor in sorted(os.sched_getaffinity(0)):
        asking = threading.Thread(target=gather_at, args=(processor,))
        asking.start()
        asking.join()
        assert [os.sched_getaffinity(thread) for thread in others] == [{processor}] * 3


def test_a_thread_that_has_ended_is_no_failure(others: list[int]) -> None:
    ended = threading.Thread(target=lambda: None)
    ended.start()
    ended.join()
    assert ended.native_id is not None

    move_to_this_processor([ended.native_id, *others])

    assert len(os.sched_getaffinity(others[-1])) == 1


def test_whoever_is_refused_asks_no_more_unless_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's processors may change at any time: the next look finds those that are left. A rule of its host's
    does not change."""
    answers = iter([OSError(errno.EINVAL, "Invalid argument"), PermissionError(errno.EPERM, "Not permitted")])

    def refuse(*_: object) -> None:
        raise next(answers)

    monkeypatch.setattr(affinity, "LOOK_INTERVAL", 0.0)
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with capture_logs() as told:
        affinity.start()
        wait_until(lambda: told, 30, "it says so")
    assert [line["event"] for line in told] == ["affinity_refused"]
    assert list(answers) == []
