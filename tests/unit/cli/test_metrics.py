"""The metrics that are made of what was read, and the HTTP server of `oathbulk metrics`."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain
from sqlalchemy.exc import OperationalError
from support.data.facts import (
    MadeUp,
    Samples,
    batch,
    find_values,
    make_process,
    make_reading,
    parse_metrics,
    write_metrics,
)

from worker.cli.metrics import MetricsCollector, make_server
from worker.reports.metrics import Scrape
from worker.reports.stall import Fleet

# What Prometheus asks for.
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
BATCH = (("batch", "july"), ("environment", "default"))


@pytest.fixture
def reading() -> Scrape:
    return make_reading()


@pytest.fixture
def samples(reading: Scrape) -> Samples:
    return parse_metrics(write_metrics(reading))


def test_dead_letters_are_a_part_of_what_is_final(samples: Samples) -> None:
    assert samples["oathbulk_dead_letter_ratio", BATCH] == 0.25


def test_of_a_batch_of_which_nothing_is_final_no_part_is_dead(reading: Scrape) -> None:
    new = replace(batch(pending=100), name="july")
    assert parse_metrics(write_metrics(replace(reading, statuses=[new])))["oathbulk_dead_letter_ratio", BATCH] == 0


def test_a_bucket_counts_what_is_in_those_below(samples: Samples) -> None:
    name = "oathbulk_attempt_call_seconds"
    of_active = {
        dict(labels)["le"]: value
        for (each, labels), value in samples.items()
        if each == f"{name}_bucket" and ("outcome", "active") in labels
    }
    assert [of_active[bound] for bound in ("0.05", "0.1", "60.0", "+Inf")] == [0, 14, 14, 15]
    assert samples[f"{name}_count", (("outcome", "active"),)] == 15
    assert samples[f"{name}_sum", (("outcome", "active"),)] == 91


def test_a_batch_stands_still_while_it_runs_and_is_paused_while_it_does_not(samples: Samples) -> None:
    assert find_values(samples, "oathbulk_batch_still_seconds", "batch") == {"july": 75}
    assert find_values(samples, "oathbulk_batch_still_seconds", "cause") == {"broker": 75}
    assert find_values(samples, "oathbulk_batch_paused", "batch") == {"august": 1}
    assert find_values(samples, "oathbulk_batch_paused", "reason") == {"credentials": 1}
    assert find_values(samples, "oathbulk_batches", "state") == {
        "running": 1,
        "paused": 1,
        "cancelled": 0,
        "finished": 0,
    }


def test_a_pace_of_which_nothing_is_known_has_a_share_and_no_ceiling(samples: Samples) -> None:
    assert find_values(samples, "oathbulk_pace_requests_per_second", "license") == {"default": 40}
    assert find_values(samples, "oathbulk_pace_ceiling_requests_per_second", "license") == {"default": 50}
    assert find_values(samples, "oathbulk_pace_share_ratio", "license") == {"default": 0.6, "second": 1}
    assert find_values(samples, "oathbulk_pace_held", "license") == {"default": 1, "second": 0}
    assert find_values(samples, "oathbulk_pace_hold_left_seconds", "license") == {"default": 12.5, "second": 0}


def test_the_last_tick_is_that_of_any_worker(samples: Samples) -> None:
    assert samples["oathbulk_workers_alive", ()] == 2
    assert find_values(samples, "oathbulk_workers_sick", "reason") == {"network": 1}
    assert samples["oathbulk_last_tick_age_seconds", ()] == 3


def test_where_nobody_ever_ticked_the_last_tick_is_endlessly_long_ago(reading: Scrape) -> None:
    quiet = replace(reading, fleet=Fleet([make_process("a")]))
    assert parse_metrics(write_metrics(quiet))["oathbulk_last_tick_age_seconds", ()] == math.inf


class Failing:
    """Stands in for a reader whose database is away."""

    def read(self) -> Scrape:
        raise OperationalError("SELECT secret", {"otp": "308714"}, Exception("connection refused"))


@contextmanager
def serving(reader: Any) -> Iterator[str]:
    """Serve what is read, until the block ends; yields the URL."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(reader))
    with make_server("127.0.0.1", 0, registry) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("asked", "parse"), [("*/*", parse_plain), (OPENMETRICS, parse_openmetrics)])
def test_the_metrics_are_served_in_the_form_that_is_asked_for(reading: Scrape, asked: str, parse: Any) -> None:
    with serving(MadeUp(reading)) as url:
        answer = httpx.get(url, headers={"Accept": asked})
    assert answer.headers["Content-Type"].startswith("text/plain" if asked == "*/*" else "application/openmetrics-text")
    names = {family.name for family in parse(answer.text)}
    assert {"oathbulk_records", "oathbulk_attempts", "oathbulk_attempt_call_seconds"} <= names


def test_a_connection_that_sends_nothing_keeps_nobody_waiting(reading: Scrape) -> None:
    with serving(MadeUp(reading)) as url:
        address = httpx.URL(url)
        with socket.create_connection((address.host, address.port or 0)):
            assert httpx.get(url).status_code == 200


def test_a_database_that_is_away_is_told_without_the_statement() -> None:
    with serving(Failing()) as url:
        answer = httpx.get(url)
    assert answer.status_code == 503
    assert "connection refused" in answer.text
    assert "SELECT" not in answer.text
    assert "308714" not in answer.text
