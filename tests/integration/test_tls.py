"""Redis behind TLS: both of its clients, Celery's and the pace's, take the right certificate only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.servers.tls_server import TlsServer, make_certificate

# Each ends with 0 once it has reached the server that OATHBULK_REDIS_URL names.
CELERY = """
from worker.celery import app
with app.connection_for_write() as connection:
    connection.ensure_connection(max_retries=1, timeout=10)
"""
PACE = """
from worker.config.sources import load_settings
from worker.process.parts import Parts
Parts(load_settings()).redis.ping()
"""


@dataclass(frozen=True)
class Secured:
    url: str
    certificate: Path


@pytest.fixture
def secured(valkey_url: str, tmp_path: Path) -> Iterator[Secured]:
    certificate, key = make_certificate(tmp_path / "right", "localhost")
    plain = urlsplit(valkey_url)
    assert plain.port
    with TlsServer(certificate, key, plain.port) as server:
        yield Secured(f"rediss://:{plain.password}@localhost:{server.port}/0", certificate)


def reach(program: str, url: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.defpath, "OATHBULK_REDIS_URL": url}
    return subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("program", [CELERY, PACE], ids=["celery", "pace"])
def test_the_authority_that_the_url_names_is_trusted(program: str, secured: Secured) -> None:
    reached = reach(program, f"{secured.url}?ssl_cert_reqs=required&ssl_ca_certs={secured.certificate}")
    assert reached.returncode == 0, reached.stderr


@pytest.mark.parametrize("program", [CELERY, PACE], ids=["celery", "pace"])
def test_a_certificate_that_nobody_vouches_for_is_refused(program: str, secured: Secured) -> None:
    reached = reach(program, secured.url)
    assert reached.returncode == 1
    assert "certificate verify failed" in reached.stderr.lower()
