"""Steps: the moments around what outlives a process, a commit or an HTTP exchange. Each is named after the method of
the worker's that is about to do it, or has just done it, as it is found in the running code."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy.engine.default import DefaultDialect

import worker
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
COMMIT, COMMITTED = "before its commit", "after its commit"
# httpx's own events: before the last of the request, and after the last of the answer.
EXCHANGE = {
    "http11.send_request_headers.complete": "the headers are out",
    "http11.receive_response_body.complete": "the answer was read",
}


def watch(announce: Callable[[str], None]) -> None:
    """For the whole life of this process, from before it opens its first connection: `announce` hears of each step."""
    execute, commit, send = DefaultDialect.do_execute, DefaultDialect.do_commit, httpx.HTTPTransport.handle_request

    def step(moment: str) -> None:
        announce(f"{find_method()}: {moment}")

    def do_execute(dialect: DefaultDialect, cursor: Any, *arguments: Any, **named: Any) -> None:
        if not commits_itself(cursor.connection):
            execute(dialect, cursor, *arguments, **named)
            return
        step(COMMIT)
        execute(dialect, cursor, *arguments, **named)
        step(COMMITTED)

    def do_commit(dialect: DefaultDialect, connection: Any) -> None:
        step(COMMIT)
        commit(dialect, connection)
        step(COMMITTED)

    def handle_request(route: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        trace = request.extensions.get("trace")

        def traced(event: str, info: Mapping[str, Any]) -> None:
            # The transport comes first: it may refuse to send.
            trace(event, info)
            if event in EXCHANGE:
                step(EXCHANGE[event])

        if trace:
            request.extensions = {**request.extensions, "trace": traced}
        return send(route, request)

    DefaultDialect.do_execute = do_execute  # type: ignore[method-assign, assignment]
    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign, assignment]
    httpx.HTTPTransport.handle_request = handle_request  # type: ignore[method-assign, assignment]


def commits_itself(connection: Any) -> bool:
    """Each statement, as soon as it has run: psycopg's autocommit. What sqlite3 calls so is a number."""
    return getattr(connection, "autocommit", None) is True


def find_method() -> str:
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
