"""Notes the head of the audit, which is the hash of its last line, in a place outside the database after every line.

Whoever controls the database and the audit key can rewrite the audit. A head that was noted where they cannot write
shows that they did. Nothing secret is written there."""

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

# The file in the home of the embedded stack, in which heads are noted by default.
HEADS_FILE = "audit.heads"
# The value of OATHBULK_AUDIT_HEAD for the system's log.
SYSLOG = "syslog:"
# The socket of the system's log.
SYSLOG_SOCKET = "/dev/log"
# Seconds for one request to a server, since a person waits for the end of the command.
DEADLINE = 5.0

# The standard library's logger, which writes warnings to stderr if no log is configured, as in a command.
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Head:
    """The number, hash, time and HMAC of a line of the audit, when it was the last one."""

    line: int
    hash: str
    at: datetime
    mac: str | None

    def __str__(self) -> str:
        return f"{self.line} {self.hash} {self.at.astimezone(UTC).isoformat(timespec='milliseconds')}"


class _HeadRefused(Exception):
    """The file or server could be reached, but did not take the whole head."""


def find_heads_place(settings: Settings) -> str | None:
    """The place where heads are noted: OATHBULK_AUDIT_HEAD, or by default a file in the home of the embedded stack;
    None for other databases."""
    if settings.audit_head is None and settings.is_embedded_database:
        return str(settings.home.absolute() / HEADS_FILE)
    return settings.audit_head


def redact_place(place: str) -> str:
    """The place as it may be printed: of a URL without what is behind the host, which may be a secret of that
    server."""
    return "{0.scheme}://{0.netloc}".format(urlsplit(place)) if "://" in place else place


def note_heads(place: str, heads: Sequence[Head]) -> None:
    """Write heads to the place. A failure is logged and not raised, since the lines are committed already."""
    try:
        if place == SYSLOG:
            _write_to_syslog(heads)
        elif "://" in place:
            _post_to_server(place, heads)
        else:
            _append_to_file(Path(place), heads)
    except (OSError, PingOneError, ConfigError, _HeadRefused) as error:
        numbers = ", ".join(str(head.line) for head in heads)
        where = redact_place(place)
        log.warning(
            escape_line(
                f"The head of the audit (line {numbers}) could not be noted in {where} ({error}). What was "
                "commanded is done, and the next line's head is noted again. Mend the place, or set "
                "OATHBULK_AUDIT_HEAD to another"
            )
        )


def _append_to_file(path: Path, heads: Sequence[Head]) -> None:
    """Append all heads with one write, so that two processes do not mix their lines; a pipe without a reader must not
    block the command."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        content = "".join(f"{head}\n" for head in heads).encode()
        if os.write(descriptor, content) < len(content):
            raise _HeadRefused("only a part of it was written")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Syslog(SysLogHandler):
    def handleError(self, record: logging.LogRecord) -> NoReturn:  # noqa: ARG002, N802
        """Raise the error that the handler caught, instead of printing its traceback."""
        raise


def _write_to_syslog(heads: Sequence[Head]) -> None:
    handler = _Syslog(address=SYSLOG_SOCKET, facility=SysLogHandler.LOG_AUTH)
    handler.ident = "oathbulk: "
    try:
        for head in heads:
            handler.emit(logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO", "msg": f"audit {head}"}))
    finally:
        handler.close()


def _post_to_server(url: str, heads: Sequence[Head]) -> None:
    """Post each head to a server, with the same proxies and certificate authorities as calls to PingOne, and a total
    deadline. A redirect is not followed."""
    # Not at the top: few installations note heads on a server, and httpx takes a fifth of a command's start.
    from worker.pingone.transport import Transport
    from worker.pingone.wire import Request

    transport = Transport(url, deadline=DEADLINE)
    # A connection that the server closes after its answer must not be used for the next head.
    headers = {"Content-Type": "application/json", "Connection": "close"}
    try:
        for head in heads:
            content = json.dumps({"line": head.line, "hash": head.hash, "mac": head.mac}).encode()
            status, _, _ = transport.exchange(Request("POST", url, headers, content))
            if not 200 <= status < 300:
                raise _HeadRefused(f"HTTP {status}")
    finally:
        transport.close()
