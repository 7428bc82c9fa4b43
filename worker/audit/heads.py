"""Notes the head of the audit, which is the hash of its last line, as a line of a file after every line of the audit.

Whoever controls the database and the audit key can rewrite the audit. A head that was noted where they cannot write
shows that they did: the file is shipped like any log. Nothing secret is written there."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from worker.config.settings import Settings
from worker.observability.escaping import escape_line

# The file in the home of the embedded stack, in which heads are noted by default.
HEADS_FILE = "audit.heads"

# The standard library's logger, which writes warnings to stderr if no log is configured, as in a command.
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Head:
    """The number, hash and time of a line of the audit, when it was the last one."""

    line: int
    hash: str
    at: datetime

    def __str__(self) -> str:
        return f"{self.line} {self.hash} {self.at.astimezone(UTC).isoformat(timespec='milliseconds')}"


def find_heads_file(settings: Settings) -> Path | None:
    """The file in which heads are noted: OATHBULK_AUDIT_HEAD, or by default one in the home of the embedded stack; None
    for other databases."""
    if settings.audit_head is None and settings.is_embedded_database:
        return settings.home.absolute() / HEADS_FILE
    return Path(settings.audit_head) if settings.audit_head else None


def note_heads(path: Path, heads: Sequence[Head]) -> None:
    """Append heads to the file, a line each. A failure is logged and not raised, since the lines of the audit are
    committed already."""
    try:
        _append(path, heads)
    except OSError as error:
        numbers = ", ".join(str(head.line) for head in heads)
        log.warning(
            escape_line(
                f"The head of the audit (line {numbers}) could not be noted in {path} ({error}). What was "
                "commanded is done, and the next line's head is noted again. Mend the file, or set "
                "OATHBULK_AUDIT_HEAD to another"
            )
        )


def _append(path: Path, heads: Sequence[Head]) -> None:
    """Append all heads with one write, so that two processes do not mix their lines; a pipe without a reader must not
    block the command. Raises OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        content = "".join(f"{head}\n" for head in heads).encode()
        if os.write(descriptor, content) < len(content):
            raise OSError("only a part of it was written")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
