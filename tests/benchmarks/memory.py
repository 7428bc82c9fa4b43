"""Memory that processes have, as the kernel tells it."""

from __future__ import annotations

from pathlib import Path


def resident(pid: int) -> float:
    """Resident memory of a process, in MiB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
