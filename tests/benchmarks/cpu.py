"""CPU that processes used and memory that they have, as the kernel accounts it to them."""

import os
import time
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
# A started process that waits may poll: what it uses in a look is less than this.
IDLE = 0.06
LOOK = 0.5


def cpu(pid: int) -> float:
    """Seconds of CPU of a process and its children; 0 of one that has ended, which is in its parent's time then."""
    try:
        return ticks(pid) + sum(map(cpu, children(pid)))
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def wait_until_idle(pid: int, timeout: float = 60) -> None:
    """Until a started process has no more to do; however it says that it is ready, its start is over then."""
    give_up_at = time.monotonic() + timeout
    quiet, before = 0, cpu(pid)
    while quiet < 3:
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"process {pid} did not come to rest within {timeout:g} s")
        time.sleep(LOOK)
        now = cpu(pid)
        quiet = quiet + 1 if now - before <= IDLE else 0
        before = now


def resident(pid: int) -> float:
    """Resident memory of a process, in MiB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def ticks(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # User and system time, of the process and of its children that ended.
    return sum(map(int, fields[11:15])) / TICKS


def children(pid: int) -> list[int]:
    """Of all its threads; a thread may end while it is looked at."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, (task / "children").read_text().split())
    return found
