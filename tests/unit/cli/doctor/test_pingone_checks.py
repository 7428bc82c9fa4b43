"""What doctor says of the way to PingOne: certificates of real servers, and addresses."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support.servers.certificates import make_certificate

from worker.cli.doctor import pingone_checks
from worker.cli.doctor.finding import State
from worker.cli.doctor.pingone_checks import check_clock, check_egress, check_tls
from worker.config.environment import Environment
from worker.config.settings import ConfigError
from worker.pingone.errors import NotDelivered

# Serves TLS with a certificate that is good for so many days; returns an environment there, and the certificate.
ServeTls = Callable[[int], tuple[Environment, Path]]


class _Silent(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def environment_at(url: str) -> Environment:
    fields = {"name": "default", "environment_id": "e", "client_id": "c", "client_secret": "s"}
    return Environment.model_validate(fields | {"api_url": f"{url}/v1", "token_url": f"{url}/as/token"})


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def serve_tls(tmp_path: Path) -> Iterator[ServeTls]:
    with ExitStack() as stack:

        def serve(days: int) -> tuple[Environment, Path]:
            certificate, key = make_certificate(tmp_path / "certificate", "pingone.example", days=days)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            server = stack.enter_context(HTTPServer(("127.0.0.1", 0), _Silent))
            server.socket = context.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            stack.callback(server.shutdown)
            return environment_at(f"https://127.0.0.1:{server.server_address[1]}"), certificate

        yield serve


def test_the_end_of_a_certificate_is_told(serve_tls: ServeTls, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, certificate = serve_tls(30)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    found = check_tls(environment)
    assert found.state is State.WELL
    assert f"by the authorities of {certificate}; 127.0.0.1:" in found.detail
    assert "'s is good until 20" in found.detail


def test_a_certificate_that_ends_within_a_week_is_a_fault(serve_tls: ServeTls, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, certificate = serve_tls(6)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert check_tls(environment).state is State.FAULT


def test_a_certificate_that_nobody_vouches_for_is_a_fault_and_names_the_setting(serve_tls: ServeTls) -> None:
    environment, _ = serve_tls(30)
    found = check_tls(environment)
    assert found.state is State.FAULT
    assert "CERTIFICATE_VERIFY_FAILED" in found.detail
    assert "SSL_CERT_FILE" in found.cure


def test_authorities_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        check_tls(environment_at("https://127.0.0.1:1"))


def test_without_a_server_the_end_of_its_certificate_is_not_known() -> None:
    assert check_tls(environment_at("https://127.0.0.1:1")).state is State.NOT_KNOWN


def test_a_simulated_pingone_on_this_machine_needs_no_certificate() -> None:
    assert check_tls(environment_at("http://127.0.0.1:1")).state is State.WELL


@pytest.mark.parametrize(
    ("address", "state"), [("8.8.8.8", State.WELL), ("10.0.0.5", State.NOT_KNOWN), (None, State.NOT_KNOWN)]
)
def test_only_a_public_address_of_our_own_is_surely_the_one_that_pingone_sees(
    monkeypatch: pytest.MonkeyPatch, address: str | None, state: State
) -> None:
    monkeypatch.setattr(pingone_checks, "find_own_address", lambda _: address)
    assert check_egress("https://api.pingone.example/v1").state is state


def test_a_name_that_leads_nowhere_has_no_address_of_ours() -> None:
    assert check_egress("https://api.pingone.invalid/v1").state is State.NOT_KNOWN


@pytest.mark.parametrize(
    ("ahead", "state", "detail"),
    [
        (4.6, State.WELL, "5 s ahead of PingOne's"),
        (-5.0, State.WELL, "5 s behind PingOne's"),
        (-5.1, State.FAULT, "5 s behind PingOne's"),
    ],
)
def test_a_clock_may_be_some_seconds_off(ahead: float, state: State, detail: str) -> None:
    found = check_clock(lambda: ahead)
    assert (found.state, found.detail) == (state, detail)


def test_without_pingone_the_clock_is_not_known() -> None:
    def measure() -> float:
        raise NotDelivered

    assert check_clock(measure).state is State.NOT_KNOWN
