"""The HTTP server of `oathbulk metrics`: one page, for Prometheus."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from functools import partial
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, TypeAlias
from wsgiref import simple_server

import structlog
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import DBAPIError

from worker.cli.failures import explain_server_failure

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

log = structlog.get_logger()

# Of an answer: its status line, its media type, its text.
Answer: TypeAlias = tuple[str, str, bytes]

_PLAIN = "text/plain; charset=utf-8"
# Seconds after which a connection that sends no request is closed.
_LONGEST_REQUEST = 10


def make_server(bind: str, port: int, generate: Callable[[], bytes]) -> simple_server.WSGIServer:
    """Make a server that listens on this address, and serves what `generate` returns. Raises OSError."""
    kind = _ServerOnV6 if ":" in bind else _Server
    return simple_server.make_server(bind, port, partial(_serve, generate), kind, _QuietHandler)


def answer(generate: Callable[[], bytes], path: str) -> Answer:
    """Answer a request for this path. Where the database fails, that is 503, so that Prometheus counts the exporter as
    down."""
    if path not in ("/metrics", "/"):
        return "404 Not Found", _PLAIN, b"See /metrics.\n"
    try:
        return "200 OK", CONTENT_TYPE_LATEST, generate()
    except DBAPIError as error:
        why = explain_server_failure(error)
        log.warning("metrics_not_read", why=why)
        return "503 Service Unavailable", _PLAIN, f"{why}\n".encode()


def _serve(generate: Callable[[], bytes], environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request, as a WSGI application."""
    status, media_type, text = answer(generate, environ["PATH_INFO"])
    start_response(status, [("Content-Type", media_type), ("Content-Length", str(len(text)))])
    return [text]


class _Server(ThreadingMixIn, simple_server.WSGIServer):
    """Serves each connection in a thread of its own, so that one which sends nothing keeps no scrape waiting."""

    daemon_threads = True


class _ServerOnV6(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(simple_server.WSGIRequestHandler):
    """Reads requests without a line in the log for each."""

    timeout = _LONGEST_REQUEST

    def log_message(self, format: str, *_: object) -> None:
        """Log nothing."""
