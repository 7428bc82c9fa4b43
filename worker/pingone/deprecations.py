"""Calls that PingOne is going to take away: it says so in two headers of their answers.

https://developer.pingidentity.com/pingone-api/before-you-begin/forward-compatibility.html
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

from worker.pingone.envelope import find_header, make_printable
from worker.pingone.wire import Request


class Deprecations:
    """Writes one log line for each kind of call that is deprecated, however often it is made. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: set[str] = set()

    def report(self, request: Request, headers: Mapping[str, str]) -> None:
        """Log what an answer says of a deprecation, unless it was logged for the same kind of call before."""
        date = find_header(headers, "api-deprecation-date")
        message = find_header(headers, "api-deprecation-message")
        if date is None and message is None:
            return
        call = name_call(request)
        with self._lock:
            if call in self._told:
                return
            self._told.add(call)
        # Not imported at the top: commands make calls too, and write no log.
        import structlog

        structlog.get_logger().warning(
            "pingone_call_deprecated", call=call, date=make_printable(date), message=make_printable(message)
        )


def name_call(request: Request) -> str:
    """Name a kind of call by its method and path without ids, as in `DELETE /users/{id}/devices/{id}`: below an
    environment, names and ids take turns in a path."""
    _, _, path = urlsplit(request.url).path.partition("/environments/")
    _, *segments = path.split("/")
    kinds = [segment if place % 2 == 0 else "{id}" for place, segment in enumerate(segments)]
    return f"{request.method} /{'/'.join(kinds)}"
