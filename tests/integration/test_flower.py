"""`celery -A worker flower`, as a person starts it: who gets in where nothing was said, and where something was."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.fleets.real_fleet import plain_env
from support.processes.waiting import wait_until

from worker.embedded.valkey import find_free_port

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
    argv = [sys.executable, "-m", "celery", "-A", "worker", "flower", f"--port={port}", *options]
    with log.open("wb") as stderr:
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


def answers(port: int, auth: tuple[str, str] | None = None) -> list[int]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20, auth=auth) as browser:
        return [browser.get(page).status_code for page in PAGES]


NOBODY, EVERYBODY = [401] * len(PAGES), [200] * len(PAGES)


def test_by_itself_it_listens_here_alone_and_asks_for_a_password_that_it_made_up(
    tmp_path: Path, valkey_url: str
) -> None:
    with flower(tmp_path, valkey_url) as (port, log):
        ((user, password),) = MADE_UP.findall(log.read_text())
        assert answers(port) == NOBODY
        assert answers(port, (user, "guessed")) == NOBODY
        assert answers(port, (user, password)) == EVERYBODY
        # On Linux all of 127.0.0.0/8 is this machine, and reaches whoever listens on every interface.
        assert not listens("127.0.0.2", port)
    assert log.read_text().count(password) == 1
    with flower(tmp_path, valkey_url) as (port, log):
        ((_, another),) = MADE_UP.findall(log.read_text())
    assert another != password


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
        assert answers(port) == NOBODY
        assert answers(port, ("me", "mine")) == EVERYBODY
    assert "oathbulk:" not in log.read_text()


def test_an_empty_password_and_an_open_api_are_no_password(tmp_path: Path, valkey_url: str) -> None:
    empty = {"FLOWER_BASIC_AUTH": "", "FLOWER_ADDRESS": "", "FLOWER_UNAUTHENTICATED_API": "true"}
    with flower(tmp_path, valkey_url, **empty) as (port, log):
        assert answers(port) == NOBODY
        ((user, password),) = MADE_UP.findall(log.read_text())
        assert answers(port, (user, password)) == EVERYBODY
        assert not listens("127.0.0.2", port)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("given", "code"),
    [({}, 403), ({"FLOWER_READ_ONLY": "false"}, 404)],
    ids=["by itself", "where a person wants to command workers"],
)
def test_it_stops_no_worker_unless_a_person_asked_for_that(
    tmp_path: Path, valkey_url: str, given: dict[str, str], code: int
) -> None:
    shutdown = "/api/worker/shutdown/nobody@nowhere"
    with flower(tmp_path, valkey_url, FLOWER_BASIC_AUTH="me:mine", **given) as (port, _):
        url, me = f"http://127.0.0.1:{port}{shutdown}", ("me", "mine")
        assert httpx.post(url, trust_env=False, timeout=20, auth=me).status_code == code


def test_another_way_to_sign_in_is_left_alone(tmp_path: Path, valkey_url: str) -> None:
    oauth = ["--auth=.*@example\\.com", "--auth-provider=flower.views.auth.GoogleAuth2LoginHandler"]
    with flower(tmp_path, valkey_url, *oauth) as (port, log):
        assert all(code != 200 for code in answers(port))
        assert not listens("127.0.0.2", port)
    assert "oathbulk:" not in log.read_text()


def test_no_other_process_imports_flower_for_that() -> None:
    told = "import sys, worker.celery, celery.signals; celery.signals.import_modules.send(None); print(*sys.modules)"
    env = plain_env() | {"OATHBULK_REDIS_URL": "redis://127.0.0.1:1"}
    printed = subprocess.run([sys.executable, "-c", told], env=env, check=True, capture_output=True, text=True)
    loaded = set(printed.stdout.split())
    assert "worker.celery" in loaded
    assert loaded & {"worker.process.flower_defaults", "flower"} == set()
