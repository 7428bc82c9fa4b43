"""The programs of a fleet as a person starts them: `celery -A worker worker`, `beat` and `flower`. What they say of a
setting that is missing, which certificate of Redis they take, and whom Flower lets in."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from support.fleets.real_fleet import plain_env
from support.processes.waiting import wait_until
from support.servers.tls_server import TlsServer, make_certificate

from models.encrypted import generate_key
from worker.embedded.valkey import find_free_port

NOBODY = "redis://127.0.0.1:1"
CELERY = [sys.executable, "-m", "celery", "-A", "worker"]


@pytest.mark.parametrize(
    ("program", "variables", "complaint"),
    [
        ("worker", {}, "OATHBULK_REDIS_URL is not set"),
        ("worker", {"OATHBULK_ENV_FILE": "nothing.env"}, "nothing.env does not exist"),
        (
            "worker",
            {
                "OATHBULK_REDIS_URL": NOBODY,
                "OATHBULK_ENCRYPTION_KEYS": generate_key(),
                "OATHBULK_DATABASE_URL": "mysql://h/x",
            },
            "OATHBULK_DATABASE_URL must",
        ),
        ("beat", {"OATHBULK_REDIS_URL": NOBODY, "OATHBULK_MAX_ATTEMPTS": "often"}, "OATHBULK_MAX_ATTEMPTS"),
        ("worker", {"OATHBULK_REDIS_URL": NOBODY}, "encryption.key is missing"),
        ("worker", {"OATHBULK_HOME": "/"}, "OATHBULK_HOME names /"),
        ("beat", {"OATHBULK_HOME": "loop"}, "OATHBULK_HOME: loop is out of reach"),
        ("beat", {"OATHBULK_ACTOR_FILE": "nul"}, "OATHBULK_ACTOR holds a NUL byte"),
        (
            "worker",
            {"OATHBULK_REDIS_URL": NOBODY, "OATHBULK_DATABASE_URL": "postgresql+psycopg://user@127.0.0.1:1/oathbulk"},
            "OATHBULK_ENCRYPTION_KEYS is not set",
        ),
    ],
)
def test_what_is_missing_is_named_in_one_line_before_a_message_is_taken(
    tmp_path: Path, program: str, variables: dict[str, str], complaint: str
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nul").write_bytes(b"a\0b")
    env = plain_env() | {"OATHBULK_HOME": str(tmp_path)} | variables

    ended = subprocess.run([*CELERY, program], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 3
    assert ended.stderr.splitlines()[-1].startswith("oathbulk: ")
    assert complaint in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


# Each ends with 0 once it has reached the server that OATHBULK_REDIS_URL names.
CONNECT = """
from worker.celery import app
with app.connection_for_write() as connection:
    connection.ensure_connection(max_retries=1, timeout=10)
"""
PING = """
from worker.config.sources import load_settings
from worker.process.parts import Parts
Parts(load_settings()).redis.ping()
"""


@pytest.mark.parametrize("program", [CONNECT, PING], ids=["celery", "pace"])
def test_redis_with_a_certificate_that_nobody_vouches_for_is_refused_and_the_urls_authority_is_trusted(
    program: str, valkey_url: str, tmp_path: Path
) -> None:
    certificate, key = make_certificate(tmp_path / "right", "localhost")
    plain = urlsplit(valkey_url)
    with TlsServer(certificate, key, plain.port) as server:
        url = f"rediss://:{plain.password}@localhost:{server.port}/0"
        trusted, refused = (
            subprocess.run(
                [sys.executable, "-c", program],
                env={"PATH": os.defpath, "OATHBULK_REDIS_URL": url + said},
                capture_output=True,
                text=True,
                timeout=60,
            )
            for said in (f"?ssl_cert_reqs=required&ssl_ca_certs={certificate}", "")
        )
    assert trusted.returncode == 0, trusted.stderr
    assert refused.returncode == 1
    assert "certificate verify failed" in refused.stderr.lower()


# Flower: who gets in where nothing was said, and where something was.

START_TIMEOUT = 60.0
MADE_UP = re.compile(
    r"^oathbulk: Flower asks for user (\S+) and password (\S+), made up for this start\. ", re.MULTILINE
)
PAGES = ["/", "/tasks", "/workers", "/broker", "/api/tasks", "/api/workers"]


@contextmanager
def flower(
    folder: Path, broker_url: str, *options: str, config: str = "", **variables: str
) -> Iterator[tuple[int, Path]]:
    """One that listens: its port, and what it printed on stderr."""
    port, log = find_free_port(), folder / "stderr"
    if config:
        (folder / "flowerconfig.py").write_text(config)
    env = {name: value for name, value in plain_env().items() if not name.startswith("FLOWER_")}
    env |= {"OATHBULK_HOME": str(folder), "OATHBULK_REDIS_URL": broker_url} | variables
    with log.open("wb") as stderr:
        argv = [*CELERY, "flower", f"--port={port}", *options]
        process = subprocess.Popen(argv, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        wait_until(lambda: listens("127.0.0.1", port) or process.poll() is not None, START_TIMEOUT, "Flower listens")
        assert process.poll() is None, log.read_text()
        yield port, log
    finally:
        process.kill()
        process.wait()


def listens(address: str, port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((address, port)) == 0


def answers(port: int, auth: tuple[str, str] | None = None) -> set[int]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20, auth=auth) as browser:
        return {browser.get(page).status_code for page in PAGES}


def test_by_itself_it_listens_here_alone_and_asks_for_a_password_that_it_made_up(
    tmp_path: Path, valkey_url: str
) -> None:
    with flower(tmp_path, valkey_url) as (port, log):
        ((user, password),) = MADE_UP.findall(log.read_text())
        assert [answers(port), answers(port, (user, "guessed"))] == [{401}, {401}]
        assert answers(port, (user, password)) == {200}
        # On Linux all of 127.0.0.0/8 is this machine, and reaches whoever listens on every interface.
        assert not listens("127.0.0.2", port)
    assert log.read_text().count(password) == 1


def test_an_empty_password_and_an_open_api_are_no_password_and_another_is_made_up_at_each_start(
    tmp_path: Path, valkey_url: str
) -> None:
    empty = {"FLOWER_BASIC_AUTH": "", "FLOWER_ADDRESS": "", "FLOWER_UNAUTHENTICATED_API": "true"}
    passwords = set()
    for _ in range(2):
        with flower(tmp_path, valkey_url, **empty) as (port, log):
            assert answers(port) == {401}
            ((user, password),) = MADE_UP.findall(log.read_text())
            assert answers(port, (user, password)) == {200}
            assert not listens("127.0.0.2", port)
        passwords.add(password)
    assert len(passwords) == 2


@pytest.mark.faults
@pytest.mark.parametrize("how", ["option", "variable", "config"])
def test_an_address_and_a_password_that_a_person_gave_are_used(tmp_path: Path, valkey_url: str, how: str) -> None:
    given = {
        "option": flower(tmp_path, valkey_url, "--address=127.0.0.2", "--address=0.0.0.0", "--basic-auth=me:mine"),
        "variable": flower(tmp_path, valkey_url, FLOWER_ADDRESS="0.0.0.0", FLOWER_BASIC_AUTH="me:mine"),
        "config": flower(tmp_path, valkey_url, config="address = '0.0.0.0'\nbasic_auth = ['me:mine']\n"),
    }
    with given[how] as (port, log):
        assert listens("127.0.0.2", port)
        assert [answers(port), answers(port, ("me", "mine"))] == [{401}, {200}]
    assert "oathbulk:" not in log.read_text()


@pytest.mark.faults
@pytest.mark.parametrize(
    ("given", "code"),
    [({}, 403), ({"FLOWER_READ_ONLY": "false"}, 404)],
    ids=["by itself", "where a person wants to command workers"],
)
def test_it_stops_no_worker_unless_a_person_asked_for_that(
    tmp_path: Path, valkey_url: str, given: dict[str, str], code: int
) -> None:
    with flower(tmp_path, valkey_url, FLOWER_BASIC_AUTH="me:mine", **given) as (port, _):
        url = f"http://127.0.0.1:{port}/api/worker/shutdown/nobody@nowhere"
        assert httpx.post(url, trust_env=False, timeout=20, auth=("me", "mine")).status_code == code


def test_another_way_to_sign_in_is_left_alone(tmp_path: Path, valkey_url: str) -> None:
    oauth = ["--auth=.*@example\\.com", "--auth-provider=flower.views.auth.GoogleAuth2LoginHandler"]
    with flower(tmp_path, valkey_url, *oauth) as (port, log):
        assert 200 not in answers(port)
        assert not listens("127.0.0.2", port)
    assert "oathbulk:" not in log.read_text()


def test_no_other_process_imports_flower_for_that() -> None:
    told = "import sys, worker.celery, celery.signals; celery.signals.import_modules.send(None); print(*sys.modules)"
    env = plain_env() | {"OATHBULK_REDIS_URL": NOBODY}
    printed = subprocess.run([sys.executable, "-c", told], env=env, check=True, capture_output=True, text=True)
    loaded = set(printed.stdout.split())
    assert "worker.celery" in loaded
    assert "flower" not in loaded
