"""What each check of doctor says, and what becomes of one that fails or never ends."""

from __future__ import annotations

import errno
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.data.facts import FLEET, RUNNING
from support.servers.tls_server import make_certificate

from worker.cli import doctor
from worker.cli.doctor import (
    Finding,
    State,
    check_batches,
    check_clock,
    check_home,
    check_network,
    check_workers,
    examine,
    fault,
    not_known,
)
from worker.config.environment import Environment
from worker.config.settings import ConfigError
from worker.embedded.home import EmbeddedError
from worker.fleet import KnownProcess
from worker.installation.installation import Installation
from worker.pingone.errors import NotDelivered
from worker.reports.stall import STILL_AFTER, Fleet

SEEN = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
WELL = KnownProcess("host:1", True, SEEN, 1.0, None, None, None, "1.0")
GONE = replace(WELL, name="host:2", is_alive=False, version="0.9")
SICK = replace(
    WELL, name="host:3", is_alive=False, sick_since=SEEN, reason="network", detail="PingOne cannot be reached."
)
STILL = replace(RUNNING, still_for=STILL_AFTER + 10, fleet=Fleet(batch="pallet 7"))
# Serves TLS with a certificate that is good for so many days; returns an environment there, and the certificate.
ServeTls = Callable[[int], tuple[Environment, Path]]


# How a check is made.


def test_a_failure_is_told_by_its_first_line_with_the_cure() -> None:
    def look() -> Finding:
        raise ConfigError("the key is missing\nBackground on this error at https://example.com")

    assert examine(look, "put it back") == fault("the key is missing", "put it back")


def test_a_check_that_hangs_is_left_alone() -> None:
    never = threading.Event()
    found = examine(lambda: Finding(str(never.wait(60))), "see to the server", longest=0.1)
    assert found == fault("no answer within 0.1 s", "see to the server")
    never.set()


def test_a_fault_of_our_own_is_not_hidden() -> None:
    def look() -> Finding:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        examine(look)


def test_only_a_fault_is_not_well() -> None:
    unknown = not_known("nobody tells")
    assert [each.is_well for each in (Finding("0 s"), unknown, fault("90 s", "NTP"))] == [True, True, False]
    found = {"is_well": True, "state": State.NOT_KNOWN, "detail": "not known: nobody tells", "cure": None}
    assert unknown.to_json() == found


# This machine.


@pytest.mark.parametrize(("free", "state"), [(499_999_999, State.FAULT), (500_000_000, State.WELL)])
def test_half_a_gigabyte_should_be_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: State
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    found = check_home(Installation({"OATHBULK_HOME": str(tmp_path / "later" / "home")}))
    assert found.state is state
    assert found.detail.startswith(f"0.5 GB free in {tmp_path / 'later' / 'home'}: nothing was loaded")


def test_a_home_with_something_in_it_is_closed_to_others(tmp_path: Path) -> None:
    installation = Installation({"OATHBULK_HOME": str(tmp_path)})
    tmp_path.chmod(0o755)
    assert check_home(installation).state is State.WELL
    (tmp_path / "oathbulk.db").touch()
    assert check_home(installation).cure == f"chmod 700 {tmp_path}"
    tmp_path.chmod(0o700)
    assert check_home(installation).state is State.WELL


@pytest.fixture
def foreign_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of another user's, which is closed to this one: in a container, who runs the commands is not its owner."""
    home = tmp_path / "home"
    home.mkdir()
    access, stat = os.access, Path.stat

    def refuse(path: Path, **options: Any) -> os.stat_result:
        if home in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "access", lambda path, mode: path != home and access(path, mode))
    monkeypatch.setattr(Path, "stat", refuse)
    return home


def test_a_home_of_another_users_does_not_matter_where_servers_keep_everything(foreign_home: Path) -> None:
    servers = {"OATHBULK_DATABASE_URL": "postgresql+psycopg://oathbulk@database/oathbulk"}
    installation = Installation({"OATHBULK_HOME": str(foreign_home)} | servers)
    assert not installation.has_home
    assert check_home(installation).state is State.WELL


def test_a_home_of_another_users_that_is_needed_is_refused_in_one_line(foreign_home: Path) -> None:
    (config := foreign_home.with_name("oathbulk.toml")).touch()
    installation = Installation({"OATHBULK_HOME": str(foreign_home), "OATHBULK_CONFIG": str(config)})
    with pytest.raises(EmbeddedError, match="belongs to another user: set OATHBULK_HOME to a directory of your own"):
        _ = installation.has_home


# Workers and batches.


def test_workers_of_this_version_are_counted_and_the_last_tick_is_told() -> None:
    told = "1 at work, of version 1.0; the last tick came 1 s ago"
    assert check_workers(Fleet([WELL, GONE]), "1.0").detail == told
    assert check_workers(Fleet([GONE]), "1.0").detail == "none runs now"


def test_a_worker_of_another_version_is_named_and_so_is_one_that_does_not_say() -> None:
    other, silent = replace(WELL, name="host:4", version="0.9"), replace(WELL, name="host:5", version=None)
    found = check_workers(Fleet([WELL, other, silent]), "1.0")
    assert found.state is State.FAULT
    assert found.detail == "of another version than this command, 1.0: host:4 (0.9), host:5 (older)"
    assert "docs/operating.md" in found.cure


def test_a_worker_that_ended_since_it_fails_alone_is_named_first() -> None:
    found = check_workers(Fleet([replace(WELL, version=None), SICK]), "1.0")
    assert found.state is State.FAULT
    assert (
        found.detail == "these ended, since they fail where others do not: host:3 (network: PingOne cannot be reached.)"
    )


def test_ticks_are_missed_only_while_somebody_waits_for_them() -> None:
    late, never = replace(WELL, seconds_since_tick=90.0), replace(WELL, seconds_since_tick=None)
    for seconds in (1.0, 60.0):
        assert check_workers(Fleet([replace(WELL, seconds_since_tick=seconds)]), "1.0").state is State.WELL
    for process, told in ((late, "the last tick came 90 s ago"), (never, "no tick ever came")):
        found = check_workers(Fleet([process]), "1.0")
        assert (found.state, found.detail) == (State.FAULT, told)
        assert "celery -A worker beat" in found.cure
        gone = check_workers(Fleet([replace(process, is_alive=False)]), "1.0")
        assert (gone.state, gone.detail) == (State.WELL, "none runs now")


def test_a_tick_in_the_future_is_the_fault_of_a_clock() -> None:
    found = check_workers(Fleet([replace(WELL, seconds_since_tick=-3600.0)]), "1.0")
    assert found.state is State.FAULT
    assert "NTP" in found.cure


def test_a_batch_that_stands_still_without_a_worker_is_a_fault_with_the_cure_of_status() -> None:
    found = check_batches([RUNNING, STILL])
    assert (found.state, found.detail) == (
        State.FAULT,
        "pallet-7: nothing has moved for 1 min 10 s. No worker runs.",
    )
    assert found.cure.startswith("`oathbulk run 'pallet 7'` brings one; or start `celery -A worker worker`")


def test_batches_that_stand_still_for_the_same_reason_have_one_cure() -> None:
    found = check_batches([STILL, replace(STILL, name="pallet-8")])
    assert found.detail.count("No worker runs.") == 2
    assert "pallet-8: nothing has moved" in found.detail
    assert found.cure == check_batches([STILL]).cure


def test_work_that_moves_or_waits_only_shortly_is_no_fault() -> None:
    assert check_batches([]).state is State.WELL
    found = check_batches([replace(RUNNING, fleet=FLEET), replace(STILL, name="pallet-8", still_for=STILL_AFTER - 1)])
    assert (found.state, found.detail) == (State.WELL, "work left in pallet-7, pallet-8; none stands still")


# The way to PingOne: certificates of real servers, and the clock.


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
    found = check_network(environment)
    assert found.state is State.WELL
    assert f"by the authorities of {certificate}; 127.0.0.1:" in found.detail
    assert "'s is good until 20" in found.detail


def test_a_certificate_that_ends_within_a_week_is_a_fault(serve_tls: ServeTls, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, certificate = serve_tls(6)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert check_network(environment).state is State.FAULT


def test_a_certificate_that_nobody_vouches_for_is_a_fault_and_names_the_setting(serve_tls: ServeTls) -> None:
    environment, _ = serve_tls(30)
    found = check_network(environment)
    assert found.state is State.FAULT
    assert "CERTIFICATE_VERIFY_FAILED" in found.detail
    assert "SSL_CERT_FILE" in found.cure


def test_authorities_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        check_network(environment_at("https://127.0.0.1:1"))


def test_without_a_server_the_end_of_its_certificate_is_not_known() -> None:
    assert check_network(environment_at("https://127.0.0.1:1")).state is State.NOT_KNOWN


def test_a_simulated_pingone_on_this_machine_needs_no_certificate() -> None:
    assert check_network(environment_at("http://127.0.0.1:1")).state is State.WELL


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
