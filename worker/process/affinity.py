"""One processor for all threads of a worker process, and which.

The threads of an interpreter take turns, so that a second processor is no use to them. Spread over several all the
same, each turn wakes a thread on another one, some sixty times a record, and that takes a fifth of a worker's time
(docs/decisions/0011). So they are kept on one, and go together to wherever the kernel puts a thread that may go
anywhere: where there is room."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger()

# Seconds between two looks.
LOOK_INTERVAL = 0.5
_SELF, _ALL = Path("/proc/thread-self/stat"), Path("/proc/self/task")
# Which of the fields behind the name: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
_PROCESSOR = 39 - 3


def start() -> None:
    """In a thread that is free, and ends with the process. Only Linux lets a process choose; elsewhere nothing
    happens."""
    if _SELF.exists():
        threading.Thread(target=_watch, name="affinity", daemon=True).start()


def move_to_this_processor(threads: Iterable[int]) -> None:
    """Move these threads, by the kernel's ids, to the processor that the caller runs on; the caller itself stays free.
    Raises OSError where that is refused."""
    own, here = threading.get_native_id(), _processor()
    for thread in threads:
        if thread != own:
            # It may have ended.
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread, {here})


def _watch() -> None:
    while True:
        time.sleep(LOOK_INTERVAL)
        try:
            move_to_this_processor([int(thread.name) for thread in _ALL.iterdir()])
        except OSError as refusal:
            # The processor was just taken from this container. Anything else will not pass.
            if refusal.errno != errno.EINVAL:
                log.info("affinity_refused", error=str(refusal))
                return


def _processor() -> int:
    """That this thread runs on."""
    return int(_SELF.read_text().rpartition(")")[2].split()[_PROCESSOR])
