"""Writes files in the home that only their owner may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import BinaryIO


def write_draft(path: Path, content: bytes) -> Path:
    """Write the content to a draft beside `path`, and sync it to the disk. The caller then links or renames the draft,
    so that nobody ever reads half a file."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    return draft


def open_log(path: Path) -> BinaryIO:
    """Open a log for appending, so that a child that is started again does not delete why it ended before."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "ab")
