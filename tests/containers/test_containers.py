"""docker-compose.yml for real: images are built, containers run, a shipment becomes ACTIVE. `make compose-test`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from containers.engine import engine
from support.processes.waiting import wait_until
from support.servers import tls_proxy
from support.servers.certificates import make_certificate
from support.servers.compose_service import PROJECT

from worker.embedded.ports import find_free_port
from worker.simulator.seeding import CLIENT_ID, CLIENT_SECRET, ENVIRONMENT_ID

# Another name than a real installation's: `down --volumes` is meant for this one.
NAME = "oathbulk-test"
FILES = ("docker-compose.yml", "tests/containers/simulator.yml")
TOKENS = 40
START_TIMEOUT = 300.0
COMMAND_TIMEOUT = 120.0
HEALTHY = {"postgres": 1, "valkey": 1, "worker": 2, "beat": 1, "flower": 1, "desk": 1, "metrics": 1}


class ComposeProject:
    """The containers of one installation, in a folder with a checkout of its own."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self.flower_port, self.desk_port, self.metrics_port = (find_free_port() for _ in range(3))
        self._env = {**os.environ, **variables}
        self._prepare(variables)

    def compose(self, *arguments: str, timeout: float = COMMAND_TIMEOUT) -> str:
        """What `docker compose …` prints. Raises CalledProcessError."""
        files = [option for file in FILES for option in ("-f", file)]
        argv = ["docker", "compose", "-p", NAME, *files, *arguments]
        result = subprocess.run(argv, cwd=self.folder, env=self._env, capture_output=True, text=True, timeout=timeout)
        if result.returncode:
            raise subprocess.CalledProcessError(result.returncode, argv, result.stdout, result.stderr)
        return result.stdout

    def oathbulk(self, *arguments: str) -> str:
        return self.compose("run", "--rm", "-T", "oathbulk", *arguments)

    def containers(self) -> list[dict[str, Any]]:
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return [json.loads(line) for line in lines]

    def healthy(self) -> dict[str, int]:
        """How many containers of each service say that they are well."""
        services = [container["Service"] for container in self.containers() if container["Health"] == "healthy"]
        return {service: services.count(service) for service in set(services)}

    def wait_until_healthy(self) -> None:
        wait_until(lambda: self.healthy() == HEALTHY, START_TIMEOUT, "every service is well")

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text().strip()

    def _prepare(self, variables: dict[str, str]) -> None:
        """What docs/deployment.md tells a person to do, for the simulator in PingOne's place."""
        subprocess.run(["make", "secrets"], cwd=self.folder, check=True, capture_output=True, timeout=60)
        certificate, key = make_certificate(self.folder / "tls", "simulator")
        key.chmod(0o644)
        shutil.copy(tls_proxy.__file__, self.folder / "tls/tls.py")
        shutil.copy(certificate, self.folder / "secrets/ca.pem")
        (self.folder / "secrets/pingone_client_secret").write_text(CLIENT_SECRET)
        settings = variables | {
            "PINGONE_ENVIRONMENT_ID": ENVIRONMENT_ID,
            "PINGONE_CLIENT_ID": CLIENT_ID,
            "PINGONE_API_URL": "https://simulator:8443/v1",
            "PINGONE_TOKEN_URL": "https://simulator:8443/{env}/as/token",
            "SSL_CERT_FILE": "/run/secrets/ca.pem",
            "TOOLS_USER": f"{os.getuid()}:{os.getgid()}",
            "WORKERS": "2",
            "FLOWER_PUBLISHED_PORT": str(self.flower_port),
            "DESK_PUBLISHED_PORT": str(self.desk_port),
            "METRICS_PUBLISHED_PORT": str(self.metrics_port),
        }
        (self.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeProject]:
    folder = tmp_path_factory.mktemp("checkout")
    _check_out(folder)
    with engine(folder) as variables:
        project = ComposeProject(folder, variables)
        project.compose("down", "--volumes", "--remove-orphans")
        try:
            project.compose("up", "--detach", timeout=START_TIMEOUT)
            project.wait_until_healthy()
            yield project
        except (TimeoutError, subprocess.SubprocessError) as error:
            error.add_note(str(getattr(error, "stderr", "")))
            error.add_note(project.compose("logs", "--tail", "50"))
            raise
        finally:
            project.compose("down", "--volumes", "--remove-orphans")


def _check_out(folder: Path) -> None:
    """The files that git knows, or would take: no more than a clone has."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=PROJECT, text=True, timeout=60
    )
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)


def test_every_service_is_well_and_the_schema_was_made_once(project: ComposeProject) -> None:
    assert project.healthy() == HEALTHY
    (migrate,) = (container for container in project.containers() if container["Service"] == "migrate")
    assert (migrate["State"], migrate["ExitCode"]) == ("exited", 0)


def test_a_shipment_is_activated(project: ComposeProject) -> None:
    checks = json.loads(project.oathbulk("doctor", "--json"))["checks"]
    assert all(check["is_well"] for check in checks), checks
    loaded = json.loads(project.oathbulk("load", "pairs.csv", "--batch", "july", "--json"))
    assert (loaded["total"], loaded["rows_refused"]) == (TOKENS, 0)
    wait_until(lambda: _status(project)["state"] == "finished", 120, "the batch is finished")
    status = _status(project)
    assert status["counts"]["active"] == TOKENS
    assert status["resynced"] == 8
    project.oathbulk("export", "july", "-o", "july.csv")
    exported = project.folder / "shipments/july.csv"
    assert exported.stat().st_uid == os.getuid()
    assert len(exported.read_text().splitlines()) == TOKENS + 1


def _status(project: ComposeProject) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(project.oathbulk("status", "july", "--json"))
    return status


def test_flower_answers_to_its_password_alone(project: ComposeProject) -> None:
    user, password = project.secret("flower_basic_auth").split(":")
    names = ("postgres_password", "redis_password", "encryption_keys", "audit_key", "pingone_client_secret")
    secrets = [password, *(project.secret(name) for name in names)]
    with httpx.Client(base_url=f"http://127.0.0.1:{project.flower_port}", trust_env=False, timeout=20) as http:
        for page in ("/", "/tasks", "/broker", "/api/tasks", "/api/workers?refresh=1"):
            assert http.get(page).status_code == 401, page
            answer = http.get(page, auth=(user, password))
            assert answer.status_code == 200, page
            assert not [secret for secret in secrets if secret in answer.text], page


def test_the_desk_lets_one_in_by_the_link_of_its_log(project: ComposeProject) -> None:
    link = re.findall(rf"http://127\.0\.0\.1:{project.desk_port}/enter\S+", project.compose("logs", "desk"))[-1]
    with httpx.Client(trust_env=False, timeout=20, follow_redirects=True) as browser:
        assert browser.get(f"http://127.0.0.1:{project.desk_port}/").status_code == 401
        assert "july" in browser.get(link).text


def test_prometheus_finds_the_batch(project: ComposeProject) -> None:
    address = f"http://127.0.0.1:{project.metrics_port}/metrics"
    assert 'batch="july"' in httpx.get(address, trust_env=False, timeout=20).text


@pytest.mark.parametrize("service", HEALTHY)
def test_a_container_may_write_nothing_and_has_no_rights(project: ComposeProject, service: str) -> None:
    script = "id -u; grep -E '^(CapEff|CapBnd|NoNewPrivs):' /proc/1/status; ! touch /written 2>&1 && touch /tmp/written"
    user, effective, bounding, new_privileges, refusal = project.compose(
        "exec", "-T", service, "sh", "-c", script
    ).splitlines()
    assert user != "0"
    assert {effective.split()[1], bounding.split()[1]} == {"0" * 16}
    assert new_privileges.split()[1] == "1"
    assert "Read-only file system" in refusal


def test_our_image_has_a_user_of_its_own_and_no_tools_to_build_with(project: ComposeProject) -> None:
    found = project.compose("exec", "-T", "worker", "sh", "-c", "id -u; ls /opt/oathbulk/bin /opt")
    assert found.splitlines()[0] == "10001"
    assert not {"pip", "pip3", "hatchling"} & set(found.split())
    assert "celery" in found.split()


def test_no_containers_settings_show_a_secret(project: ComposeProject) -> None:
    secrets = [project.secret(name) for name in ("postgres_password", "redis_password", "encryption_keys", "audit_key")]
    for container in project.containers():
        settings = project.compose("config")
        if container["State"] == "running":
            settings += project.compose(
                "exec", "-T", container["Service"], "sh", "-c", "env; tr '\\0' ' ' < /proc/1/cmdline"
            )
        assert not [secret for secret in secrets if secret in settings], container["Service"]


def test_a_dump_takes_the_place_of_what_is_there(project: ComposeProject) -> None:
    project.compose("stop", "worker", "beat")
    dump = "pg_dump -U oathbulk -Fc oathbulk > /tmp/dump"
    restore = "pg_restore -U oathbulk --clean --if-exists -d oathbulk < /tmp/dump"
    spoil = "psql -q -U oathbulk -c 'DELETE FROM attempt'"
    count = "psql -U oathbulk -tAc 'SELECT count(*) FROM attempt'"
    script = f"{count} && {dump} && {spoil} && {count} && {restore} && {count}"
    before, spoilt, after = map(int, project.compose("exec", "-T", "postgres", "sh", "-c", script).split())
    assert before >= TOKENS
    assert (spoilt, after) == (0, before)
    project.compose("start", "worker", "beat")
    project.wait_until_healthy()


def test_a_worker_that_has_just_started_can_be_stopped(project: ComposeProject) -> None:
    project.compose("restart", "worker")
    began = time.monotonic()
    project.compose("stop", "worker")
    assert time.monotonic() - began < 60
    project.compose("start", "worker")
    project.wait_until_healthy()


def test_the_project_stops_in_good_order_and_comes_back(project: ComposeProject) -> None:
    began = time.monotonic()
    project.compose("stop")
    assert time.monotonic() - began < 60
    ended = {(container["Service"], container["State"], container["ExitCode"]) for container in project.containers()}
    assert {ending for ending in ended if ending[0] != "simulator"} == {
        (service, "exited", 0) for service in (*HEALTHY, "migrate")
    }
    project.compose("up", "--detach", timeout=START_TIMEOUT)
    project.wait_until_healthy()
