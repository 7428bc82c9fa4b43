"""The HTTP server of `oathbulk metrics`."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import OperationalError

from worker.cli.metrics_server import answer, make_server


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
