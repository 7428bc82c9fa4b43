"""docker-compose.yml for real: images are built, containers run, shipments become ACTIVE, one of them while its
surroundings die. `make compose-test`."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from containers.conftest import HEALTHY, WORKERS, ComposeProject, Engine, copy_files, running
from sqlalchemy.dialects import postgresql
from support.judges.final_tables import UNWRITTEN, name_attempt
from support.processes.waiting import wait_until
from support.servers.compose_service import PROJECT, read_services

from worker.simulator.shipment import make_shipment

CALM, DISTURBED = 40, 200


@pytest.fixture(scope="module")
def project(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeProject]:
    """One that runs, with two shipments that are not loaded yet."""
    folder = tmp_path_factory.mktemp("installation") / "checkout"
    copy_files(PROJECT, folder)
    project = ComposeProject("oathbulk-test", folder, make_shipment(CALM + DISTURBED), engine.variables)
    project.write_pairs("july.csv", project.shipment.rows[:CALM])
    project.write_pairs("august.csv", project.shipment.rows[CALM:])
    with running(project):
        project.up()
        project.wait_until_healthy()
        yield project


def test_every_service_is_well_and_the_schema_was_made_once(project: ComposeProject) -> None:
    assert project.healthy() == HEALTHY
    (migrate,) = (container for container in project.containers() if container["Service"] == "migrate")
    assert (migrate["State"], migrate["ExitCode"]) == ("exited", 0)


def test_a_shipment_is_activated(project: ComposeProject) -> None:
    checks = json.loads(project.oathbulk("doctor", "--json"))["checks"]
    assert all(check["is_well"] for check in checks), checks
    loaded = project.load("july.csv", "july")
    assert (loaded["total"], loaded["rows_refused"]) == (CALM, 0)
    status = project.wait_until_finished("july")
    assert status["counts"]["active"] == CALM
    assert "Traceback" not in project.compose("logs", "worker", "beat")
    serials = [row.serial for row in project.shipment.rows[:CALM]]
    assert status["resynced"] == sum(project.shipment.expected[serial].resynced for serial in serials)
    project.oathbulk("export", "july", "-o", "july-ended.csv")
    exported = project.folder / "shipments/july-ended.csv"
    assert exported.stat().st_uid == os.getuid()
    assert len(exported.read_text().splitlines()) == CALM + 1


def test_a_batch_becomes_active_while_a_worker_dies_and_the_servers_restart(project: ComposeProject) -> None:
    before = len(project.active())
    loaded = project.load("august.csv", "august")
    assert (loaded["total"], loaded["rows_refused"]) == (DISTURBED, 0)
    project.wait_until_active(before + 10)
    project.up("--no-deps", "--no-recreate", "--scale", f"worker={WORKERS + 1}", "worker")
    project.wait_until_active(before + 30)
    former = read_start(project)
    # All processes but the first, which ends with them: nobody asked the container to stop, so it comes back.
    with suppress(subprocess.CalledProcessError):
        project.compose("exec", "-T", "--index", "1", "worker", "sh", "-c", "kill -9 -1")
    project.compose("restart", "valkey")
    project.wait_until_active(before + 60)
    project.compose("restart", "postgres")
    assert len(project.active()) < before + DISTURBED, "all this was done in the midst of the batch"
    assert project.wait_until_finished("august")["counts"]["active"] == DISTURBED
    assert project.active() == {row.device_id for row in project.shipment.rows}
    assert not project.judge(find_unwritten(project))
    project.wait_until_healthy({**HEALTHY, "worker": WORKERS + 1})
    assert read_start(project) != former, "the worker that was killed is another"
    project.up("--no-recreate")
    project.wait_until_healthy()


def read_start(project: ComposeProject) -> str:
    """When the first process of the first worker's container started, in ticks since the machine did."""
    return project.compose("exec", "-T", "--index", "1", "worker", "cut", "-d", " ", "-f", "22", "/proc/1/stat")


def find_unwritten(project: ComposeProject) -> set[str]:
    """The transaction ids of attempts whose worker died before it wrote down how they ended."""
    sql = UNWRITTEN.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})
    found = (line.split("|") for line in project.query(str(sql)))
    return {name_attempt(int(record_id), lease_id) for record_id, lease_id in found}


def test_flower_answers_to_its_password_alone(project: ComposeProject) -> None:
    user, password = project.secret("flower_basic_auth").split(":")
    names = ("postgres_password", "redis_password", "encryption_keys", "pingone_client_secret")
    secrets = [password, *(project.secret(name) for name in names)]
    with httpx.Client(base_url=f"http://127.0.0.1:{project.flower_port}", trust_env=False, timeout=20) as http:
        for page in ("/", "/tasks", "/broker", "/api/tasks", "/api/workers?refresh=1"):
            assert http.get(page).status_code == 401, page
            answer = http.get(page, auth=(user, password))
            assert answer.status_code == 200, page
            assert not [secret for secret in secrets if secret in answer.text], page


def test_flower_knows_a_token_that_went_after_the_broker_restarted(project: ComposeProject) -> None:
    serial = find_last_active(project)
    user, password = project.secret("flower_basic_auth").split(":")
    url = f"http://127.0.0.1:{project.flower_port}/api/tasks?limit=10000"
    tasks = httpx.get(url, auth=(user, password), trust_env=False, timeout=20).raise_for_status().json().values()
    # Ticks and preparations are no tasks that somebody looks for.
    assert {task["name"] for task in tasks if task["name"]} == {"oathbulk.activate"}
    told = [task["result"] for task in tasks if str(task["args"]).startswith("august, row ") and serial in task["args"]]
    assert [result for result in told if result and "active" in result], told


def test_the_desk_lets_one_in_by_the_link_of_its_log_and_shows_a_token(project: ComposeProject) -> None:
    link = re.findall(rf"http://127\.0\.0\.1:{project.desk_port}/enter\S+", project.compose("logs", "desk"))[-1]
    serial = find_last_active(project)
    address = f"http://127.0.0.1:{project.desk_port}"
    with httpx.Client(base_url=address, trust_env=False, timeout=20, follow_redirects=True) as browser:
        assert browser.get("/").status_code == 401
        shipments = browser.get(link).text
        assert "july" in shipments
        assert "august" in shipments
        page = browser.get("/search", params={"text": serial}).raise_for_status().text
        assert serial in page
        page = browser.get("/token", params={"of": serial}).raise_for_status().text
        assert '<p class="outcome">Active</p>' in page
    assert httpx.get(link, trust_env=False, timeout=20).status_code == 401, "the link works once"


def find_last_active(project: ComposeProject) -> str:
    """The serial number of the token that became ACTIVE last."""
    serials = {row.device_id: row.serial for row in project.shipment.rows}
    return serials[[call for call in project.calls() if call.outcome == "ACTIVE"][-1].device_id]


def test_prometheus_finds_the_batches(project: ComposeProject) -> None:
    text = httpx.get(f"http://127.0.0.1:{project.metrics_port}/metrics", trust_env=False, timeout=20).text
    for batch, count in (("july", CALM), ("august", DISTURBED)):
        assert re.search(rf'oathbulk_records{{batch="{batch}",[^}}]*status="active"[^}}]*}} {count}(\.0)?$', text, re.M)


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
    secrets = [project.secret(name) for name in ("postgres_password", "redis_password", "encryption_keys")]
    for container in project.containers():
        settings = project.compose("config")
        if container["State"] == "running":
            settings += project.compose(
                "exec", "-T", container["Service"], "sh", "-c", "env; tr '\\0' ' ' < /proc/1/cmdline"
            )
        assert not [secret for secret in secrets if secret in settings], container["Service"]


def test_valkey_keeps_what_is_queued_and_asks_for_its_password(project: ComposeProject) -> None:
    settings = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "maxmemory": str(256 * 1024**2),
        "save": "",
        "dir": "/data",
    }
    told = ask_valkey(project, "config", "get", *settings)
    assert dict(zip(told[::2], told[1::2], strict=True)) == settings
    ask_valkey(project, "rpush", "kept", "1")
    project.compose("restart", "valkey")
    project.wait_until_healthy()
    assert ask_valkey(project, "lrange", "kept", "0", "-1") == ["1"]
    ask_valkey(project, "del", "kept")
    assert project.compose("exec", "-T", "valkey", "valkey-cli", "ping").startswith("NOAUTH")


def ask_valkey(project: ComposeProject, *words: str) -> list[str]:
    """The lines that Valkey answers to who has its password."""
    script = 'REDISCLI_AUTH="$(cat /run/secrets/redis_password)" valkey-cli "$@"'
    return project.compose("exec", "-T", "valkey", "sh", "-c", script, "sh", *words).splitlines()


def test_no_list_of_processes_shows_valkeys_password(project: ComposeProject) -> None:
    shown = project.compose("exec", "-T", "valkey", "cat", "/proc/1/cmdline", "/proc/1/environ")
    assert "valkey-server" in shown
    assert project.secret("redis_password") not in shown


def test_beat_is_well_without_workers_and_not_while_it_stands_still(project: ComposeProject) -> None:
    check = read_services({})["beat"]["healthcheck"]["test"][-1]

    def in_beat(script: str) -> str:
        return project.compose("exec", "-T", "beat", "sh", "-c", script)

    def is_well() -> bool:
        with suppress(subprocess.CalledProcessError):
            in_beat(check)
            return True
        return False

    project.compose("stop", "worker")
    wait_until(is_well, "beat is well without workers")
    # All processes but the first.
    in_beat("kill -STOP -1")
    assert not is_well()
    in_beat("kill -CONT -1")
    wait_until(is_well, "beat is well again")
    project.compose("start", "worker")
    project.wait_until_healthy()


def test_a_dump_takes_the_place_of_what_is_there(project: ComposeProject) -> None:
    project.compose("stop", "worker", "beat")
    dump = "pg_dump -U oathbulk -Fc oathbulk > /tmp/dump"
    restore = "pg_restore -U oathbulk --clean --if-exists -d oathbulk < /tmp/dump"
    spoil = "psql -q -U oathbulk -c 'DELETE FROM attempt'"
    count = "psql -U oathbulk -tAc 'SELECT count(*) FROM attempt'"
    script = f"{count} && {dump} && {spoil} && {count} && {restore} && {count}"
    before, spoilt, after = map(int, project.compose("exec", "-T", "postgres", "sh", "-c", script).split())
    assert before >= CALM + DISTURBED
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
    project.up()
    project.wait_until_healthy()
