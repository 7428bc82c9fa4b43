"""A URL that leads to a standby by mistake: every command and a worker say so. Or on purpose, for what only reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.fleets.real_fleet import plain_env
from support.processes.command_desk import NOWHERE, CommandDesk, enter_desk, make_browser
from support.processes.program import Program
from support.servers.postgres import PostgresServer, Standby

from models.encrypted import generate_key

pytestmark = pytest.mark.faults

READING = (
    "status",
    "status july",
    "show ACME00001",
    "show ACME",
    "export july -o export.csv",
    "report july -o july.html",
    "audit",
    "metrics --once",
    "check other.csv --offline",
)
WRITING = (
    "load other.csv --offline",
    "run other.csv --offline",
    "pause july",
    "cancel july",
    "purge --person ann --yes",
)
# Also what would find nothing to do.
ALL = (*READING, *WRITING, "db upgrade", "desk --port 0")


@dataclass(frozen=True)
class Loaded:
    """A folder, the URL of a hot standby, whose primary has the batch july, and a worker's variables."""

    desk: CommandDesk
    url: str


@pytest.fixture
def loaded(migrate, valkey_url: str, tmp_path: Path) -> Iterator[Loaded]:
    variables = {"OATHBULK_REDIS_URL": valkey_url, "OATHBULK_ENCRYPTION_KEYS": generate_key()}
    with (
        PostgresServer(durable=False) as primary,
        Standby(primary) as standby,
        primary.database() as url,
        CommandDesk(tmp_path / "desk", NOWHERE, variables) as desk,
    ):
        standby.wait_until_it_follows()
        standby.be_waited_for(replayed=True)
        migrate(url)
        write_shipment(desk.folder / "july.csv", make_tokens(3))
        write_shipment(desk.folder / "other.csv", make_tokens(3, prefix="OTHER"))
        assert desk.oathbulk("load", "july.csv", "--offline", OATHBULK_DATABASE_URL=url).code == 0
        yield Loaded(desk, standby.url(url.rpartition("/")[2]))


def test_every_command_says_so_in_one_line(loaded: Loaded) -> None:
    for command in ALL:
        told = loaded.desk.oathbulk(*command.split(), OATHBULK_DATABASE_URL=loaded.url)
        lines = told.stderr.strip().splitlines()
        assert (told.code, len(lines)) == (3, 1), (command, told)
        assert lines[0].startswith("oathbulk: the database takes no writes (")
        assert "let OATHBULK_DATABASE_URL lead to the primary" in lines[0]
    found = loaded.desk.oathbulk("doctor", "--json", OATHBULK_DATABASE_URL=loaded.url).json["checks"]
    (database,) = [each for each in found if each["check"] == "database"]
    assert database["detail"].startswith("the database takes no writes")
    assert "lead to the primary" in database["cure"]


def test_what_only_reads_works_where_the_url_asks_for_it(loaded: Loaded) -> None:
    url = loaded.url + "?target_session_attrs=any"
    for command in READING:
        told = loaded.desk.oathbulk(*command.split(), OATHBULK_DATABASE_URL=url)
        assert told.code == 0, (command, told.stderr)
    running = loaded.desk.start("desk", "--port", "0", "--read-only", OATHBULK_DATABASE_URL=url)
    with make_browser() as browser:
        assert "july" in enter_desk(browser, lambda: running.stderr)
    for command in WRITING:
        told = loaded.desk.oathbulk(*command.split(), OATHBULK_DATABASE_URL=url)
        assert told.code == 3, (command, told)
        assert "oathbulk: the database takes no writes (" in told.stderr.strip().splitlines()[-1]
    found = loaded.desk.oathbulk("doctor", "--json", OATHBULK_DATABASE_URL=url).json["checks"]
    (database,) = [each for each in found if each["check"] == "database"]
    assert (database["state"], database["detail"]) == ("fault", "the database takes no writes")


def test_a_worker_ends_with_the_same_line(loaded: Loaded, tmp_path: Path) -> None:
    variables = plain_env() | loaded.desk.settings | {"OATHBULK_DATABASE_URL": loaded.url}
    with Program("worker", "celery", ("-A", "worker", "worker"), variables, tmp_path) as worker:
        assert worker.wait() == 3
        assert "oathbulk: the database takes no writes" in worker.read_log().strip().splitlines()[-1]
        assert "Traceback" not in worker.read_log()
