"""`oathbulk metrics`: tells Prometheus how everything stands. It reads the database at each scrape, so no worker has to
open a port."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Annotated

import typer

from worker.cli.console import console, error_console
from worker.cli.ending_signals import turning_signals_into_interrupts
from worker.installation.installation import Installation
from worker.installation.lookups import read_statuses


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
    # Not at the top: no other command serves or logs, and importing these takes time.
    from worker.cli.metrics_exporter import make_server
    from worker.observability.logs import configure_logs

    configure_logs("WARNING", installation.settings.log_format)
    # The first read goes through the whole history, which no scrape should have to wait for.
    generate()
    try:
        server = make_server(bind, port, generate)
    except OSError as error:
        raise typer.BadParameter(f"cannot listen on {bind}:{port}: {error.strerror}. Give another --port") from error
    host = f"[{bind}]" if ":" in bind else bind
    error_console.print(f"Metrics at http://{host}:{server.server_port}/metrics, until Ctrl-C.")
    with suppress(KeyboardInterrupt), turning_signals_into_interrupts(), server:
        server.serve_forever()


def make_generator(installation: Installation) -> Callable[[], bytes]:
    """Make the function that reads the metrics and writes them as text. It raises DBAPIError; threads may share it.
    Raises what `Installation.database` raises."""
    # Not at the top, as above.
    from prometheus_client import CollectorRegistry, generate_latest

    from worker.cli.metrics_exporter import MetricsCollector
    from worker.reports.metrics import MetricsReader

    reader = MetricsReader(installation.database, partial(read_statuses, installation))
    # Without `auto_describe`: otherwise the metrics would be read once more, to learn their names.
    registry, lock = CollectorRegistry(auto_describe=False), threading.Lock()
    registry.register(MetricsCollector(reader))

    def generate() -> bytes:
        with lock:
            return generate_latest(registry)

    return generate
