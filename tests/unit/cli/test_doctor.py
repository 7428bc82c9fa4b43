"""What each check of doctor says where neither the golden file nor a real fault shows it, and what becomes of one that
fails or never ends."""

import errno
import os
import sqlite3
import ssl
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.servers.tls_server import make_certificate

from worker.cli import doctor
from worker.cli.doctor import (
    CheckOutcome,
    State,
    check_clock,
    check_home,
    check_network,
    check_workers,
    examine,
    fault,
)
from worker.config.environment import Environment
from worker.config.settings import ConfigError
from worker.embedded.home import EmbeddedError
from worker.fleet import KnownProcess
from worker.installation.installation import Installation
from worker.pingone.errors import NotDelivered
from worker.reports.stall import Fleet

# How a check is made.


def fail_with(error: Exception) -> Any:
    raise error


def test_a_failure_is_told_by_its_first_line_with_the_cure_and_a_fault_of_our_own_is_not_hidden() -> None:
    error = ConfigError("the key is missing\nBackground on this error at https://example.com")
    assert examine(lambda: fail_with(error), "restore it") == fault("the key is missing", "restore it")
    with pytest.raises(ZeroDivisionError):
        examine(lambda: fail_with(ZeroDivisionError()))


def test_a_check_that_hangs_is_left_alone() -> None:
    never = threading.Event()
    found = examine(lambda: CheckOutcome(str(never.wait(60))), "see to the server", longest=0.1)
    never.set()
    assert found == fault("no answer within 0.1 s", "see to the server")


def test_a_file_that_another_program_holds_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.examine.__kwdefaults__ or {}, "longest", 0.3)
    installation, before = Installation({"OATHBULK_HOME": str(tmp_path)}), set(threading.enumerate())
    with closing(sqlite3.connect(tmp_path / "oathbulk.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        checks = doctor._run_checks(installation, "default")
        found = next(outcome for check, outcome in checks if check == "database")
    # Now the abandoned check gets its connection, which is closed once the check is over.
    for thread in set(threading.enumerate()) - before:
        thread.join()
    installation.database.close()
    assert (found.state, f"another program may hold {tmp_path / 'oathbulk.db'}" in found.cure) == (State.FAULT, True)


# This machine.


@pytest.mark.parametrize(("free", "state"), [(499_999_999, State.FAULT), (500_000_000, State.WELL)])
def test_half_a_gigabyte_should_be_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: State
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    found = check_home(Installation({"OATHBULK_HOME": str(home := tmp_path / "later" / "home")}))
    assert (found.state, found.detail.startswith(f"0.5 GB free in {home}: nothing has been loaded")) == (state, True)


def test_a_home_with_something_in_it_is_closed_to_others(tmp_path: Path) -> None:
    installation = Installation({"OATHBULK_HOME": str(tmp_path)})
    tmp_path.chmod(0o755)
    assert check_home(installation).state is State.WELL
    (tmp_path / "oathbulk.db").touch()
    assert check_home(installation).cure == f"chmod 700 {tmp_path}"
    tmp_path.chmod(0o700)
    assert check_home(installation).state is State.WELL


def test_a_home_of_another_users_matters_only_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container, who runs the commands is not its owner."""
    home, config, access, stat = tmp_path / "home", tmp_path / "oathbulk.toml", os.access, Path.stat
    home.mkdir()
    config.touch()
    closed = PermissionError(errno.EACCES, "Permission denied", str(home))
    monkeypatch.setattr(os, "access", lambda path, mode: path != home and access(path, mode))
    monkeypatch.setattr(
        Path, "stat", lambda path, **more: fail_with(closed) if home in path.parents else stat(path, **more)
    )
    servers = {"OATHBULK_DATABASE_URL": "postgresql+psycopg://oathbulk@database/oathbulk"}
    installation = Installation({"OATHBULK_HOME": str(home)} | servers)
    assert not installation.has_home
    assert check_home(installation).state is State.WELL
    installation = Installation({"OATHBULK_HOME": str(home), "OATHBULK_CONFIG": str(config)})
    with pytest.raises(EmbeddedError, match="belongs to another user: set OATHBULK_HOME to a directory of your own"):
        _ = installation.has_home


# Workers.


SEEN = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
WELL = KnownProcess("host:1", True, SEEN, 1.0, None, None, None, "1.0")
GONE = replace(WELL, name="host:2", is_alive=False, version="0.9")
SICK = replace(
    WELL, name="host:3", is_alive=False, sick_since=SEEN, reason="network", detail="PingOne cannot be reached."
)
OTHERS = [replace(WELL, name="host:4", version="0.9"), replace(WELL, name="host:5", version=None)]


def ticked(seconds: float | None, *, is_alive: bool = True) -> KnownProcess:
    return replace(WELL, seconds_since_tick=seconds, is_alive=is_alive)


@pytest.mark.parametrize(
    ("processes", "detail", "cure"),
    [
        ([WELL, GONE], "1 running, version 1.0; the last tick arrived 1 s ago", ""),
        ([ticked(60.0)], "1 running, version 1.0; the last tick arrived 60 s ago", ""),
        ([GONE], "none is running", ""),
        (
            [WELL, *OTHERS],
            "not this command's version, 1.0: host:4 (0.9), host:5 (older)",
            "docs/operating.md",
        ),
        (
            [replace(WELL, version=None), SICK],
            "these shut down, because they failed where others did not: host:3 (network: PingOne cannot be reached.)",
            "their supervisor",
        ),
        ([ticked(90.0)], "the last tick arrived 90 s ago", "celery -A worker beat"),
        ([ticked(None)], "no tick has ever arrived", "celery -A worker beat"),
        (
            [replace(ticked(None), running_for=5.0)],
            "1 running, version 1.0; the fleet just started, so no tick has arrived yet",
            "",
        ),
        ([ticked(-3600.0)], "the last tick is in the future", "NTP"),
        ([replace(WELL, dropped=2)], "2 messages were dropped that neither workers nor beat send", "who else writes"),
        # Nobody waits for them.
        ([ticked(90.0, is_alive=False)], "none is running", ""),
        ([ticked(None, is_alive=False)], "none is running", ""),
    ],
)
def test_workers_are_counted_and_named_where_they_fail_and_missed_ticks_are_told(
    processes: list[KnownProcess], detail: str, cure: str
) -> None:
    found = check_workers(Fleet(processes), "1.0")
    assert (found.state, found.detail, cure in found.cure) == (State.FAULT if cure else State.WELL, detail, True)


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


@pytest.mark.parametrize(
    ("days", "is_known", "state", "detail"),
    [
        (30, True, State.WELL, "'s is valid until 20"),
        (6, True, State.FAULT, "'s is valid until 20"),
        (30, False, State.FAULT, "CERTIFICATE_VERIFY_FAILED"),
    ],
    ids=["good for long", "good for a week", "nobody vouches for it"],
)
def test_the_end_of_a_certificate_is_told_and_one_that_is_not_known_names_the_setting(
    days: int, is_known: bool, state: State, detail: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path / "certificate", "pingone.example", days=days)
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    if is_known:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer(("127.0.0.1", 0), _Silent) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        found = check_network(environment_at(f"https://127.0.0.1:{server.server_address[1]}"))
        server.shutdown()
    by = f"with the authorities of {certificate if is_known else 'the package certifi'}; "
    assert (found.state, detail in found.detail, by in found.detail) == (state, True, True), found
    assert is_known or "SSL_CERT_FILE" in found.cure


def test_authorities_that_cannot_be_read_are_named_and_without_a_server_its_certificate_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_network(environment_at("https://127.0.0.1:1")).state is State.NOT_KNOWN
    assert check_network(environment_at("http://127.0.0.1:1")).state is State.WELL
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    for scheme in ("https", "http"):
        with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
            check_network(environment_at(f"{scheme}://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("ahead", "state", "detail"),
    [
        (4.6, State.WELL, "5 s ahead of PingOne's"),
        (-5.0, State.WELL, "5 s behind PingOne's"),
        (-5.1, State.FAULT, "5 s behind PingOne's"),
    ],
)
def test_a_clock_may_be_some_seconds_off_and_is_not_known_without_pingone(
    ahead: float, state: State, detail: str
) -> None:
    found = check_clock(lambda: ahead)
    assert (found.state, found.detail) == (state, detail)
    assert check_clock(lambda: fail_with(NotDelivered())).state is State.NOT_KNOWN
