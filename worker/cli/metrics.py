"""`oathbulk metrics`: shows Prometheus the state of everything, in its format
(https://prometheus.io/docs/instrumenting/exposition_formats/). It reads the database at each scrape, so no worker has
to open a port."""

import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Annotated
from wsgiref.simple_server import WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
import typer
from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app, start_http_server
from sqlalchemy.exc import DBAPIError

from worker.cli.console import console, error_console
from worker.cli.failures import explain_server_failure
from worker.cli.signals import turning_signals_into_interrupts
from worker.installation.installation import Installation, read_statuses
from worker.observability.logs import configure_logs
from worker.reports.metrics import MetricsCollector

log = structlog.get_logger()


def metrics(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 9188,
    bind: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on, without TLS.")] = "127.0.0.1",
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and exit.")] = False,
) -> None:
    """Serve metrics for Prometheus at /metrics, until Ctrl-C. Reads the database at each scrape."""
    installation = Installation()
    # Without `auto_describe`: otherwise the metrics would be read twice, to learn their names.
    registry = CollectorRegistry(auto_describe=False)
    read, stamp = partial(read_statuses, installation), installation.settings.backup_stamp
    registry.register(MetricsCollector(installation.database, read, backup_stamp=stamp))
    if not once:
        configure_logs("WARNING", installation.settings.log_format)
    # If the database cannot be read, the command ends here and says how to fix that.
    text = generate_latest(registry)
    if once:
        console.print(text.decode(), end="", soft_wrap=True)
        return
    try:
        server, thread = serve(bind, port, registry)
    except OSError as error:
        raise typer.BadParameter(f"cannot listen on {bind}:{port}: {error.strerror}. Give another --port") from error
    host = f"[{bind}]" if ":" in bind else bind
    error_console.print(f"Metrics at http://{host}:{server.server_port}/metrics, until Ctrl-C.")
    with suppress(KeyboardInterrupt), turning_signals_into_interrupts():
        thread.join()


def serve(bind: str, port: int, registry: CollectorRegistry) -> tuple[WSGIServer, threading.Thread]:
    """Serve these metrics on this address, in a thread. If the database fails, the server answers 503, so that
    Prometheus counts the exporter as down. Raises OSError."""
    server, thread = start_http_server(port, bind, registry)
    app: WSGIApplication = make_wsgi_app(registry)

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return app(environ, start_response)
        except DBAPIError as error:
            why = explain_server_failure(error)
            log.warning("metrics_not_read", why=why)
            start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{why}\n".encode()]

    server.set_app(answer)
    return server, thread
