"""How long the threads of this process were ready to compute and had to wait for a processor, as Linux counts it.

https://docs.kernel.org/scheduler/sched-stats.html"""

from __future__ import annotations

import os
from contextlib import suppress

THREADS = "/proc/self/task"


def read_run_delay(threads: str = THREADS) -> float:
    """Seconds of all threads that are alive, together, since each began; 0 where the system does not count them."""
    nanoseconds = 0
    # Some systems have no such files, and a thread may end meanwhile.
    with suppress(OSError), os.scandir(threads) as entries:
        for thread in entries:
            with suppress(OSError, IndexError):
                # A path object for each of hundreds of threads would take longer than reading does.
                file = os.open(f"{thread.path}/schedstat", os.O_RDONLY)
                try:
                    nanoseconds += int(os.read(file, 100).split()[1])
                finally:
                    os.close(file)
    return nanoseconds / 1e9
