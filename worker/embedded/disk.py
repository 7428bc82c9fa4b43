"""Checks that the disk of a home has room: without it, the records in work cannot be written down."""

from __future__ import annotations

import os
from pathlib import Path

from worker.embedded.errors import FREE_SPACE, EmbeddedError

# Bytes that must be free: enough to write down the records in work, and to end in good order.
NEEDED_BYTES = 4 * 1024 * 1024


def ensure_room(home: Path) -> None:
    """Check that the disk of this home has room for NEEDED_BYTES. Raises EmbeddedError."""
    disk = os.statvfs(home)
    free = disk.f_bavail * disk.f_frsize
    if free < NEEDED_BYTES:
        raise EmbeddedError(f"the disk of {home} is full, {free // 1024} KiB are left: {FREE_SPACE}")
