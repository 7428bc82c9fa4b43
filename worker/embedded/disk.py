"""Room on the disk that holds a home: without it, nothing that is in hand can be written down."""

from __future__ import annotations

import os
from pathlib import Path

from worker.embedded.errors import FREE_SPACE, EmbeddedError

# Bytes: enough to write down what is in hand, and to end in good order.
NEEDED = 4 * 1024 * 1024


def ensure_room(home: Path) -> None:
    """Raises EmbeddedError."""
    disk = os.statvfs(home)
    free = disk.f_bavail * disk.f_frsize
    if free < NEEDED:
        raise EmbeddedError(f"the disk of {home} is full, {free // 1024} KiB are left: {FREE_SPACE}")
