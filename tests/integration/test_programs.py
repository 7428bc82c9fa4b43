"""The programs of a fleet as a person starts them: `celery -A worker worker`, `beat` and `flower`. What they say of a
setting that is missing, and whom Flower lets in. And what docker-compose.yml says of them; containers/ starts it."""

import json
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.fleets.real_fleet import plain_env
from support.processes.waiting import wait_until
from support.servers.compose_service import FILE, PROJECT, default_variables, read_services
from support.servers.postgres import USER

from models.encrypted import generate_key
from worker.config.sources import load_settings
from worker.embedded.valkey import find_free_port
from worker.installation.stack import GRACE
from worker.pace.slots import LONGEST_WAIT

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
        (
            "worker",
            {
                "OATHBULK_REDIS_URL": NOBODY,
                "OATHBULK_ENCRYPTION_KEYS": generate_key(),
                "SSL_CERT_FILE": "/nowhere/ca.pem",
            },
            "SSL_CERT_FILE=/nowhere/ca.pem cannot be used",
        ),
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
        wait_until(lambda: answers_at(port) or process.poll() is not None, "Flower answers")
        assert process.poll() is None, log.read_text()
        yield port, log
    finally:
        process.kill()
        process.wait()


def answers_at(port: int) -> bool:
    """Whether HTTP is spoken there: a connection alone may be one of this process with itself."""
    try:
        httpx.get(f"http://127.0.0.1:{port}", trust_env=False, timeout=20)
    except httpx.TransportError:
        return False
    return True


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


# What docker-compose.yml says, and the secrets that the Makefile makes for it.

DEPLOYMENT = FILE.with_name("docs") / "deployment.md"
SERVICES = read_services({})
ENDLESS = sorted(name for name in SERVICES if name not in ("migrate", "oathbulk"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout's folder as far as docker compose looks at it, with secrets made by the Makefile."""
    make_secrets(tmp_path)
    return tmp_path


def make_secrets(folder: Path) -> None:
    command = ["make", "-f", str(PROJECT / "Makefile"), "secrets"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=30)


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
