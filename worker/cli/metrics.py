"""`oathbulk metrics`: tells Prometheus how everything stands. It reads the database at each scrape, so no worker has to
open a port."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from functools import partial
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
import typer
from sqlalchemy.exc import DBAPIError

from worker.cli.console import console, error_console
from worker.cli.failures import explain_server_failure
from worker.installation.broker_check import find_broker_fault
from worker.installation.installation import Installation
from worker.observability.logs import configure_logs

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

log = structlog.get_logger()

# Of an answer: its status line, its media type, its text.
Answer: TypeAlias = tuple[str, str, bytes]

_PLAIN = "text/plain; charset=utf-8"
# Seconds after which a connection that sends no request is closed.
_LONGEST_REQUEST = 10


def metrics(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 9188,
    bind: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on; without TLS.")] = "127.0.0.1",
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and end.")] = False,
) -> None:
    """Serve metrics for Prometheus at /metrics, until Ctrl-C; the database is read at each scrape."""
    installation = Installation()
    generate = make_generator(installation)
    if once:
        console.print(generate().decode(), end="", soft_wrap=True)
        return
    configure_logs("WARNING", installation.settings.log_format)
    try:
        server = make_server(bind, port, partial(_serve, generate), _choose_server(bind), _QuietHandler)
    except OSError as error:
        raise typer.BadParameter(f"cannot listen on {bind}:{port}: {error.strerror}") from error
    error_console.print(f"Metrics at http://{_write_host(bind)}:{server.server_port}/metrics, until Ctrl-C.")
    with server:
        server.serve_forever()


def make_generator(installation: Installation) -> Callable[[], bytes]:
    """Make the function that reads the metrics and writes them as text. It raises DBAPIError; threads may share it.
    Raises what `Installation.database` raises."""
    # Not at the top: no other command needs them, and importing them takes time.
    from prometheus_client import CollectorRegistry, generate_latest

    from worker.cli.metric_families import MetricsCollector
    from worker.reports.metrics import MetricsReader

    reader = MetricsReader(
        installation.database, installation.license_of, partial(find_broker_fault, installation.settings)
    )
    # Not registered by `register`, which would read all the metrics to learn their names.
    registry, lock = CollectorRegistry(auto_describe=False), threading.Lock()
    registry.register(MetricsCollector(reader))

    def generate() -> bytes:
        with lock:
            return generate_latest(registry)

    return generate


def answer(generate: Callable[[], bytes], path: str) -> Answer:
    """Answer a request for this path. Where the database fails, that is 503, so that Prometheus counts the exporter as
    down."""
    if path not in ("/metrics", "/"):
        return "404 Not Found", _PLAIN, b"See /metrics.\n"
    from prometheus_client import CONTENT_TYPE_LATEST

    try:
        return "200 OK", CONTENT_TYPE_LATEST, generate()
    except DBAPIError as error:
        why = explain_server_failure(error)
        log.warning("metrics_not_read", why=why)
        return "503 Service Unavailable", _PLAIN, f"{why}\n".encode()


def _serve(generate: Callable[[], bytes], environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    status, media_type, text = answer(generate, environ["PATH_INFO"])
    start_response(status, [("Content-Type", media_type), ("Content-Length", str(len(text)))])
    return [text]


def _choose_server(bind: str) -> type[WSGIServer]:
    return _ServerOnV6 if ":" in bind else _Server


def _write_host(bind: str) -> str:
    return f"[{bind}]" if ":" in bind else bind


class _Server(ThreadingMixIn, WSGIServer):
    """Serves each connection in a thread of its own, so that one which sends nothing keeps no scrape waiting."""

    daemon_threads = True


class _ServerOnV6(_Server):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    """Reads requests without a line in the log for each."""

    timeout = _LONGEST_REQUEST

    def log_message(self, format: str, *_: object) -> None:
        """Log nothing."""
