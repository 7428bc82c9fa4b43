"""The metrics that are made of what was read, and the HTTP server of `oathbulk metrics`."""

from __future__ import annotations

import math
import socket
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError
from support.data.metric_readings import (
    Samples,
    find_values,
    make_process,
    make_reading,
    parse_metrics,
    write_metrics,
)
from support.data.statuses import batch

from worker.cli.metrics_exporter import answer, make_server
from worker.reports.metrics import Scrape
from worker.reports.stall import Fleet

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


def fail() -> bytes:
    raise OperationalError("SELECT secret", {"otp": "308714"}, Exception("connection refused"))


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that serves three letters."""
    with make_server("127.0.0.1", 0, lambda: b"abc") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def read(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        text: bytes = response.read()
    return text


def test_the_metrics_are_served(port: int) -> None:
    assert read(port) == b"abc"


def test_a_connection_that_sends_nothing_keeps_nobody_waiting(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)):
        assert read(port) == b"abc"


def test_other_pages_are_not_there() -> None:
    assert answer(fail, "/../etc/passwd")[0] == "404 Not Found"


def test_a_database_that_is_away_is_told_without_the_statement() -> None:
    status, _, text = answer(fail, "/metrics")
    assert status == "503 Service Unavailable"
    assert b"connection refused" in text
    assert b"SELECT" not in text
    assert b"308714" not in text
