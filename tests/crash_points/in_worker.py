"""For a whole worker, which imports it (`celery worker --include crash_points.in_worker`): it dies when it passes the
step CRASH_POINT for the CRASH_TIME-th time, whatever its other threads are at. With CRASH_AMONG=several only those
times count at which what several threads write goes together; with CRASH_LATER it dies so many seconds later."""

from __future__ import annotations

import os
import signal
import sys
import threading
from itertools import count

from crash_points.steps import Steps
from worker.leases.group_commit import GroupCommit


def install(point: str, time: int, *, among: str = "", later: float = 0.0) -> None:
    times = count(1)

    def is_last(step: str) -> bool:
        is_meant = step == point and (not among or goes_together()) and next(times) == time
        if is_meant and later:
            threading.Timer(later, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return is_meant and not later

    steps = Steps()
    steps.watch()
    steps.begin(is_last)


def goes_together() -> bool:
    """Whether this thread is writing what several have asked for."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is GroupCommit._commit.__code__:
            return len(frame.f_locals["requests"]) > 1
    return False


install(
    os.environ["CRASH_POINT"],
    int(os.environ["CRASH_TIME"]),
    among=os.environ.get("CRASH_AMONG", ""),
    later=float(os.environ.get("CRASH_LATER", "0")),
)
