"""The head of the audit, which is the hash of its last line, noted in a place outside the database on every line.

Whoever owns the database and the audit key can rewrite the audit; what was noted where they cannot write shows it.
Nothing secret goes there."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import SysLogHandler
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from worker.config.settings import ConfigError, Settings
from worker.observability.escaping import escape_line
from worker.pingone.errors import PingOneError
from worker.pingone.transport import Transport
from worker.pingone.wire import Request

# The file in the home of the embedded stack.
HEADS_FILE = "audit.heads"
SYSLOG = "syslog:"
# Where the system's log listens.
SYSLOG_SOCKET = "/dev/log"
# Seconds for one request: a person waits for the end of the command.
DEADLINE = 5.0

# The standard library's: a command has no log, and this one then writes to stderr by itself.
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Head:
    line: int
    hash: str
    at: datetime
    mac: str | None

    def __str__(self) -> str:
        return f"{self.line} {self.hash} {self.at.astimezone(UTC).isoformat(timespec='milliseconds')}"


class _NotTaken(Exception):
    """The place answered, and did not take the head."""


def place_of(settings: Settings) -> str | None:
    """OATHBULK_AUDIT_HEAD; by default a file in the home of the embedded stack, and nothing for other databases."""
    if settings.audit_head is None and settings.is_embedded_database:
        return str(settings.home.absolute() / HEADS_FILE)
    return settings.audit_head


def show_place(place: str) -> str:
    """The place as it may be printed: what stands behind the host of a URL may be meant for its server alone."""
    return "{0.scheme}://{0.netloc}".format(urlsplit(place)) if "://" in place else place


def note(place: str, heads: Sequence[Head]) -> None:
    """Write heads to the place. The lines are committed, so a failure is told, and raised nowhere."""
    try:
        if place == SYSLOG:
            _log(heads)
        elif "://" in place:
            _post(place, heads)
        else:
            _append(Path(place), heads)
    except (OSError, PingOneError, ConfigError, _NotTaken) as error:
        numbers = ", ".join(str(head.line) for head in heads)
        log.warning(
            escape_line(
                f"The head of the audit (line {numbers}) could not be noted in {show_place(place)} ({error}). What was "
                "commanded is done, and the next line's head is noted again. Mend the place, or set "
                "OATHBULK_AUDIT_HEAD to another"
            )
        )


def _append(path: Path, heads: Sequence[Head]) -> None:
    """One write for all lines, so that two processes do not mix theirs; a pipe without a reader must not block."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        content = "".join(f"{head}\n" for head in heads).encode()
        if os.write(descriptor, content) < len(content):
            raise _NotTaken("only a part of it was written")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Syslog(SysLogHandler):
    def handleError(self, record: logging.LogRecord) -> NoReturn:  # noqa: ARG002, N802
        """Raise what was caught, instead of printing a traceback."""
        raise


def _log(heads: Sequence[Head]) -> None:
    handler = _Syslog(address=SYSLOG_SOCKET, facility=SysLogHandler.LOG_AUTH)
    handler.ident = "oathbulk: "
    try:
        for head in heads:
            handler.emit(logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO", "msg": f"audit {head}"}))
    finally:
        handler.close()


def _post(url: str, heads: Sequence[Head]) -> None:
    """With the proxies, certificate authorities and total deadline of any other call; a redirect is not followed."""
    transport = Transport(deadline=DEADLINE)
    # A connection that the server closes after its answer must not be taken for the next head.
    headers = {"Content-Type": "application/json", "Connection": "close"}
    try:
        for head in heads:
            content = json.dumps({"line": head.line, "hash": head.hash, "mac": head.mac}).encode()
            status, _, _ = transport.exchange(Request("POST", url, headers, content))
            if not 200 <= status < 300:
                raise _NotTaken(f"HTTP {status}")
    finally:
        transport.close()
