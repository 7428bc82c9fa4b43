"""Keeps all threads of a worker process on one processor, and chooses which. The threads of an interpreter take turns,
so a second processor does not help them. If they are spread over several, each turn wakes a thread on another
processor, some sixty times for each record, which takes a quarter of a worker's time (docs/decisions/0002). So they
stay on one: the one where the kernel puts a thread that is free to run anywhere, since that one has room."""

import errno
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.get_logger()

# Seconds between two checks of the processor.
LOOK_INTERVAL = 0.5
# What Linux says about the calling thread.
_SELF = Path("/proc/thread-self/stat")
# One entry for each thread of this process.
_ALL = Path("/proc/self/task")
# Position of the processor among the fields after the name: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
_PROCESSOR = 39 - 3


def start() -> None:
    """Start a thread that keeps the others together; it ends with the process. Only Linux lets a process choose its
    processor; elsewhere nothing happens."""
    if _SELF.exists():
        threading.Thread(target=_watch, name="affinity", daemon=True).start()


def move_to_this_processor(threads: Iterable[int]) -> None:
    """Move these threads, by the kernel's ids, to the caller's processor. The caller itself stays free to run anywhere.
    Raises OSError if that is refused."""
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
            # EINVAL: the processor was just taken from this container, which passes. Anything else does not.
            if refusal.errno != errno.EINVAL:
                log.info("affinity_refused", error=str(refusal))
                return


def _processor() -> int:
    """The number of the processor on which the calling thread runs."""
    return int(_SELF.read_text().rpartition(")")[2].split()[_PROCESSOR])
