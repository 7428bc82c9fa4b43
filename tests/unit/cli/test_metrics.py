"""The metrics that are made of what was read, where the golden file shows no such case; and the HTTP server of
`oathbulk metrics`."""

import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain
from sqlalchemy.exc import OperationalError
from support.data.facts import make_process, make_reading, parse_metrics, write_metrics

from worker.cli.metrics import serve
from worker.reports.facts import BatchStatus
from worker.reports.metrics import MetricsCollector, measure_backup_age
from worker.reports.stall import Fleet

# What Prometheus asks for.
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


def test_where_nobody_ever_ticked_the_last_tick_is_endlessly_long_ago() -> None:
    quiet = replace(make_reading(), fleet=Fleet([make_process("a")]))
    assert parse_metrics(write_metrics(quiet))["oathbulk_last_tick_age_seconds", ()] == math.inf


@contextmanager
def serving(collector: Any) -> Iterator[str]:
    """Serve what is read, until the block ends; yields the URL."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    server, thread = serve("127.0.0.1", 0, registry)
    with closing(server.socket):
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("asked", "kind", "parse"),
    [("*/*", "text/plain", parse_plain), (OPENMETRICS, "application/openmetrics-text", parse_openmetrics)],
)
def test_the_metrics_are_served_in_the_form_that_is_asked_for_beside_a_connection_that_sends_nothing(
    asked: str, kind: str, parse: Any
) -> None:
    with serving(make_reading()) as url, socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)):
        answer = httpx.get(url, headers={"Accept": asked})
    assert answer.headers["Content-Type"].startswith(kind)
    names = {family.name for family in parse(answer.text)}
    assert {"oathbulk_records", "oathbulk_attempts", "oathbulk_attempt_call_seconds"} <= names


def test_a_database_that_is_away_is_told_without_the_statement() -> None:
    def fail() -> list[BatchStatus]:
        raise OperationalError("SELECT secret", {"otp": "308714"}, Exception("connection refused"))

    with serving(MetricsCollector(Mock(), fail)) as url:
        answer = httpx.get(url)
    assert answer.status_code == 503
    assert "connection refused" in answer.text
    assert not any(hidden in answer.text for hidden in ("SELECT", "308714"))


def test_a_backup_is_as_old_as_its_stamp_and_for_ever_where_that_is_missing(tmp_path: Path) -> None:
    stamp = tmp_path / "stamp"
    assert (measure_backup_age(None), measure_backup_age(stamp)) == (None, math.inf)
    stamp.touch()
    os.utime(stamp, (0, time.time() - 7200))
    assert measure_backup_age(stamp) == pytest.approx(7200, abs=600)
