"""Waiting for conditions, and telling whether a process runs."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Seconds between two looks: at first, and at the most. Looking costs those who work, so each pause is this much longer,
# and none is shorter than the look before it.
FIRST_PAUSE, LONGEST_PAUSE, LONGER = 0.01, 0.1, 1.1
# Seconds after which a condition is taken for one that never comes, however busy the machine is.
PATIENCE = 600.0


def wait_until(condition: Callable[[], T], what: str) -> T:
    """The condition's first true value. Raises TimeoutError where none comes."""
    give_up_at, pause = time.monotonic() + PATIENCE, FIRST_PAUSE
    while True:
        began = time.monotonic()
        if value := condition():
            return value
        now = time.monotonic()
        if now > give_up_at:
            raise TimeoutError(f"never came true: {what}")
        time.sleep(max(pause, now - began))
        pause = min(pause * LONGER, LONGEST_PAUSE)


def is_running(pid: int) -> bool:
    """Whether a process runs. A zombie does not: where nobody reaps orphans, an ended process keeps its pid."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return not Path("/proc/self").exists()
    return stat.rpartition(")")[2].split()[0] not in "ZX"
