"""For a whole worker, which imports it (`celery worker --include crash_points.in_worker`): it dies when it passes the
step CRASH_POINT for the CRASH_TIME-th time, whatever its other threads are at."""

from __future__ import annotations

import os
from itertools import count

from crash_points.steps import Steps


def install(point: str, time: int) -> None:
    times = count(1)
    steps = Steps()
    steps.watch()
    steps.begin(lambda step: step == point and next(times) == time)


install(os.environ["CRASH_POINT"], int(os.environ["CRASH_TIME"]))
