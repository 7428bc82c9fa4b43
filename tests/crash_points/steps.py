"""Steps: the moments between which a process does something that outlives it. Each is named after the method of the
worker's that is about to do it, or has just done it."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, event
from sqlalchemy.engine.default import DefaultDialect

import worker
from models.encrypted import Keyring
from worker.dispatch import CeleryBroker
from worker.pace.slots import Pace
from worker.pingone.client import Client

WORKER = str(Path(worker.__file__).parent)
# What everything goes through says nothing of who wants it.
PASSED_OVER = tuple(
    f"{WORKER}/{file}"
    for file in (
        "database/engine.py",
        "leases/group_commit.py",
        "pingone/transport.py",
    )
)
assert all(Path(file).exists() for file in PASSED_OVER), "one of these was moved"
# The same, of a module whose other methods do say it.
PASSED_THROUGH, BETWEEN = Client.perform.__qualname__, ("RetryPolicy.",)
# Work that is neither a transaction nor an HTTP exchange.
WATCHED: tuple[tuple[type, str], ...] = (
    (Pace, "wait"),
    (Pace, "hold"),
    (Pace, "read_hold_left"),
    (CeleryBroker, "count_waiting"),
    (CeleryBroker, "publish"),
    (Keyring, "open"),
)

BEGIN, COMMIT, COMMITTED = "before it begins", "before its commit", "after its commit"
FIRST_BYTE, HEADERS_OUT = "before the first byte", "the headers are out"
ARRIVED, READ = "the answer has arrived", "the answer was read"
BEFORE, AFTER = "before", "after"

# Seconds.
ANSWER_TIMEOUT = 30.0


class Steps:
    """Those of this process. Each is announced, and then the process may be dead."""

    def __init__(self) -> None:
        self._announce: Callable[[str], bool] = lambda _: False
        self._ending = signal.SIGKILL
        self._sockets: dict[httpx.HTTPTransport, socket.socket] = {}

    def begin(self, announce: Callable[[str], bool], ending: signal.Signals = signal.SIGKILL) -> None:
        """`announce` hears of every step from now on, and says whether it is the last: then the signal comes."""
        self._announce, self._ending = announce, ending

    def watch(self) -> None:
        """For the whole life of this process, from before it opens its first connection."""
        event.listen(Engine, "begin", lambda _: self._step(BEGIN))
        execute, commit, send = DefaultDialect.do_execute, DefaultDialect.do_commit, httpx.HTTPTransport.handle_request

        def do_execute(dialect: DefaultDialect, cursor: Any, *arguments: Any, **named: Any) -> None:
            if not commits_itself(cursor.connection):
                execute(dialect, cursor, *arguments, **named)
                return
            self._step(COMMIT)
            execute(dialect, cursor, *arguments, **named)
            self._step(COMMITTED)

        def do_commit(dialect: DefaultDialect, connection: Any) -> None:
            self._step(COMMIT)
            commit(dialect, connection)
            self._step(COMMITTED)

        def traced_send(route: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            if trace := request.extensions.get("trace"):
                request.extensions = {**request.extensions, "trace": self._traced(route, trace)}
            return send(route, request)

        DefaultDialect.do_execute = do_execute  # type: ignore[method-assign, assignment]
        DefaultDialect.do_commit = do_commit  # type: ignore[method-assign, assignment]
        httpx.HTTPTransport.handle_request = traced_send  # type: ignore[method-assign, assignment]
        for owner, name in WATCHED:
            setattr(owner, name, self._watched(getattr(owner, name)))

    def _step(self, moment: str, name: str | None = None) -> None:
        if self._announce(f"{name or who()}: {moment}"):
            os.kill(os.getpid(), self._ending)

    def _watched(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def watched(*arguments: Any, **named: Any) -> Any:
            self._step(BEFORE, method.__qualname__)
            try:
                return method(*arguments, **named)
            finally:
                self._step(AFTER, method.__qualname__)

        return watched

    def _traced(
        self, route: httpx.HTTPTransport, trace: Callable[[str, Mapping[str, Any]], None]
    ) -> Callable[..., None]:
        """httpx's own events, as the transport sees them. The transport comes first: it may refuse to send."""

        def step(event: str, info: Mapping[str, Any]) -> None:
            trace(event, info)
            match event:
                case "connection.connect_tcp.complete":
                    self._sockets[route] = info["return_value"].get_extra_info("socket")
                case "http11.send_request_headers.started":
                    self._step(FIRST_BYTE)
                case "http11.send_request_headers.complete":
                    self._step(HEADERS_OUT)
                case "http11.send_request_body.complete":
                    # Until then it is a matter of luck whether PingOne has acted.
                    select.select([self._sockets[route]], [], [], ANSWER_TIMEOUT)
                    self._step(ARRIVED)
                case "http11.receive_response_body.complete":
                    self._step(READ)

        return step


def commits_itself(connection: Any) -> bool:
    """Each statement, as soon as it has run: psycopg's autocommit. What sqlite3 calls so is a number."""
    return getattr(connection, "autocommit", None) is True


def who() -> str:
    """The method of the worker's that is at work, by which its class was entered; or else its module, by functions."""
    frame, home, name = sys._getframe(1), "", "nobody"
    while frame.f_back is not None:
        frame = frame.f_back
        code = frame.f_code
        is_ours = code.co_filename.startswith(WORKER) and code.co_filename not in PASSED_OVER
        if not is_ours or code.co_name.startswith("<") or code.co_qualname.startswith(BETWEEN):
            continue
        here = f"{code.co_filename} {code.co_qualname.split('.')[0]}"
        is_in_function = "." not in name and name != "nobody"
        is_home = here == home or (is_in_function and here.split()[0] == home.split()[0])
        if home and not is_home and name != PASSED_THROUGH:
            break
        home, name = here, code.co_qualname
    return name
