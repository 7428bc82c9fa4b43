"""From the last release to this version in the midst of a batch, and back, as docs/operating.md has it: the last tag,
or this commit while there is none, and this checkout with one more migration. Both are installed from their wheels,
with the packages of today."""

import shutil
import subprocess
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from support.data.next_version import NEXT, write_next_version
from support.fleets.real_fleet import plain_env
from support.processes.command_desk import CommandDesk, Running
from support.processes.installed import install
from support.processes.waiting import wait_until
from support.servers.postgres import PostgresServer
from support.servers.simulator import Simulator

from models.encrypted import generate_key
from worker.simulator.shipment import make_shipment

CHECKOUT = Path(__file__).parents[2]
UPGRADED, GONE_BACK = 120, 20
RATE = {"PINGONE_RATE": "8", "PINGONE_RATE_MAX": "8", "_OATHBULK_TUNING__first_records": "0"}


class Version:
    """An installed version, at a desk of its own beside the same servers."""

    def __init__(self, python: Path, desk: CommandDesk) -> None:
        self._python, self.desk = python, desk

    def type(self, *words: str | Path) -> str:
        """Type a command of it: what it prints."""
        result = self.desk.oathbulk(*words)
        assert result.code == 0, result.stderr
        return result.stdout

    def start(self) -> list[Running]:
        """Start a worker and beat."""
        celery = (self._python, "-m", "celery", "-A", "worker")
        beat = ("beat", "-s", self.desk.folder / "schedule", "--pidfile=")
        return [self.desk.start_program(*celery, "worker"), self.desk.start_program(*celery, *beat)]


def stop(programs: list[Running]) -> None:
    for program in programs:
        program.terminate()
    for program in programs:
        program.wait()


def write_last_release(folder: Path) -> Path:
    """The files of the last tag; those of this commit while there is none."""
    git = ["git", "-C", str(CHECKOUT)]
    describe = [*git, "describe", "--tags", "--abbrev=0", "--match", "v*"]
    tag = subprocess.run(describe, check=False, capture_output=True, text=True).stdout.strip()
    archive = subprocess.check_output([*git, "archive", tag or "HEAD"])
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    return folder


def write_next(folder: Path) -> Path:
    write_next_version(folder)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, folder / name)
    return folder


@pytest.mark.faults
def test_a_batch_of_the_last_release_goes_on_over_an_upgrade_and_its_workers_go_back(own_valkey, tmp_path):
    made = make_shipment(UPGRADED + GONE_BACK)
    (tmp_path / "next").mkdir()
    sources = {"last": write_last_release(tmp_path / "last"), "next": write_next(tmp_path / "next")}
    pythons = {name: install(source, tmp_path / f"{name}-installed") for name, source in sources.items()}
    (tmp_path / "outside").mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(PostgresServer(durable=False))
        database = {"OATHBULK_DATABASE_URL": stack.enter_context(server.database())}
        simulator = stack.enter_context(Simulator(tmp_path / "outside", made, plain_env()))
        keys = {"OATHBULK_REDIS_URL": own_valkey.url, "OATHBULK_ENCRYPTION_KEYS": generate_key()}
        settings = (simulator.variables, database, keys, RATE)
        last, new = (
            Version(
                python,
                stack.enter_context(
                    CommandDesk(tmp_path / f"{name}-desk", *settings, command=[str(python.with_name("oathbulk"))])
                ),
            )
            for name, python in pythons.items()
        )
        replace(made, rows=made.rows[:UPGRADED]).write_pairs(last.desk.folder / "july.csv")
        replace(made, rows=made.rows[UPGRADED:]).write_pairs(new.desk.folder / "august.csv")

        last.type("db", "upgrade")
        last.type("load", "july.csv")
        programs = last.start()
        wait_until(lambda: len(simulator.active()) >= UPGRADED // 8, "a part of the batch is active")
        # The workers of the last release go on meanwhile.
        assert NEXT in new.type("db", "upgrade")
        seen = len(simulator.active())
        wait_until(lambda: len(simulator.active()) > seen + 2, "workers go on beside the newer schema")
        stop(programs)
        assert len(simulator.active()) < UPGRADED, "the upgrade came in the midst of the batch"
        programs = new.start()
        wait_until(lambda: len(simulator.active()) == UPGRADED, "the batch is finished by the new version")

        stop(programs)
        new.type("load", "august.csv")
        programs = last.start()
        wait_until(lambda: len(simulator.active()) == UPGRADED + GONE_BACK, "workers of the last release go on")
        wait_until(lambda: new.desk.status("august")["state"] == "finished", "and the batch is finished")
        stop(programs)
        assert {new.desk.status(batch)["failed"] for batch in ("july", "august")} == {0}
        assert new.desk.status("july")["active"] == UPGRADED
        sent = Counter((call.device_id, call.otp) for call in simulator.calls() if call.is_post)
        assert set(sent.values()) == {1}
