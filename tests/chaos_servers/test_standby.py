"""A standby: the primary is killed while workers commit, and it is promoted; the URL names both. Or a URL leads to it
by mistake, and every command and a worker say so; or on purpose, for what only reads."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.fleets.real_fleet import PATIENT, Fleet, plain_env
from support.judges.call_log import sent_after_their_answer
from support.processes.command_desk import NOWHERE, CommandDesk, enter_desk, make_browser
from support.processes.program import Program
from support.servers.postgres import PostgresServer, Standby, name_both

from models.encrypted import generate_key
from worker.simulator.shipment import make_shipment

pytestmark = pytest.mark.faults

RECORDS = 120
# Slow enough for a failover in the middle.
STEADY = {"PINGONE_RATE": "40", "PINGONE_RATE_MAX": "40"}
# A busy machine must not make a call too slow, and the leases of killed workers have to run out.
HURRIED = {
    "_OATHBULK_TUNING__call_deadline": "6",
    "_OATHBULK_TUNING__lease_left_for_post": "7",
    "_OATHBULK_TUNING__lease": "14",
}

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


def examine(desk: CommandDesk, url: str) -> dict[str, str]:
    """What doctor says of the database."""
    found = desk.oathbulk("doctor", "--json", OATHBULK_DATABASE_URL=url).json["checks"]
    (database,) = [each for each in found if each["check"] == "database"]
    assert database["state"] == "fault"
    return database


def test_every_command_and_a_worker_say_so_in_one_line_and_what_only_reads_works_where_the_url_asks_for_it(
    migrate, valkey_url: str, tmp_path: Path
) -> None:
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
        url = standby.url(url.rpartition("/")[2])
        for command in ALL:
            told = desk.oathbulk(*command.split(), OATHBULK_DATABASE_URL=url)
            lines = told.stderr.strip().splitlines()
            assert (told.code, len(lines)) == (3, 1), (command, told)
            assert lines[0].startswith("oathbulk: the database takes no writes (")
            assert "let OATHBULK_DATABASE_URL lead to the primary" in lines[0]
        assert "lead to the primary" in examine(desk, url)["cure"]
        variables = plain_env() | desk.settings | {"OATHBULK_DATABASE_URL": url}
        with Program("worker", "celery", ("-A", "worker", "worker"), variables, tmp_path) as worker:
            assert worker.wait() == 3
            assert "oathbulk: the database takes no writes" in worker.read_log().strip().splitlines()[-1]
            assert "Traceback" not in worker.read_log()

        url += "?target_session_attrs=any"
        for command in READING:
            told = desk.oathbulk(*command.split(), OATHBULK_DATABASE_URL=url)
            assert told.code == 0, (command, told.stderr)
        running = desk.start("desk", "--port", "0", "--read-only", OATHBULK_DATABASE_URL=url)
        with make_browser() as browser:
            assert "july" in enter_desk(browser, lambda: running.stderr)
        for command in WRITING:
            told = desk.oathbulk(*command.split(), OATHBULK_DATABASE_URL=url)
            assert told.code == 3, (command, told)
            assert "oathbulk: the database takes no writes (" in told.stderr.strip().splitlines()[-1]
        assert examine(desk, url)["detail"] == "the database takes no writes"


@dataclass(frozen=True)
class Pair:
    """A primary, its standby, and the URL that names both."""

    primary: PostgresServer
    standby: Standby
    url: str


@pytest.fixture
def pair(migrate) -> Iterator[Pair]:
    with PostgresServer(durable=False) as primary, Standby(primary) as standby, primary.database() as url:
        standby.wait_until_it_follows()
        migrate(url)
        yield Pair(primary, standby, name_both(primary, standby, url))


def make_fleet(pair: Pair, valkey_url: str, directory: Path, settings: dict[str, str]) -> Fleet:
    shipment = make_shipment(RECORDS, out_of_step=0.3)
    return Fleet(directory, directory / "home", pair.url, valkey_url, shipment, settings=STEADY | settings)


def start_workers(fleet: Fleet, *names: str) -> None:
    for name in names:
        fleet.worker(name)
    fleet.beat(f"beat of {names[0]}")


def test_where_commits_wait_for_the_standby_no_record_is_lost_and_no_otp_wasted(
    pair: Pair, valkey_url: str, tmp_path: Path
) -> None:
    pair.standby.be_waited_for()
    with make_fleet(pair, valkey_url, tmp_path, PATIENT) as fleet:
        start_workers(fleet, "one", "two")
        fleet.wait_until_posted(30)
        pair.primary.kill()
        pair.standby.promote()
        fleet.database.close()
        status = fleet.wait_until_finished()
        assert sent_after_their_answer(fleet.simulator.calls()) == []
        fleet.judge()
        assert fleet.records.wrong_endings() == []
        assert status.counts["active"] == RECORDS


def test_what_a_standby_lacked_is_looked_up_before_anything_goes(pair: Pair, valkey_url: str, tmp_path: Path) -> None:
    with make_fleet(pair, valkey_url, tmp_path, HURRIED) as fleet:
        start_workers(fleet, "one", "two")
        fleet.wait_until_posted(20)
        # What is committed from now on, it never gets.
        pair.standby.kill()
        fleet.wait_until_posted(60)
        pair.primary.kill()
        for program in fleet.programs:
            program.kill()
        fleet.wait_until(lambda: not fleet.simulator.open_calls(), "the calls are over")
        pair.standby.start()
        pair.standby.promote()
        fleet.database.close()
        active, before = fleet.simulator.active(), len(fleet.simulator.calls())

        # Not while the killed workers count as alive.
        tries = count()
        distrust = lambda: fleet.command(f"restored-{next(tries)}", "db", "restored").wait() == 0  # noqa: E731
        fleet.wait_until(distrust, "the database is distrusted")
        start_workers(fleet, "three", "four")
        status = fleet.wait_until_finished()
        calls = fleet.simulator.calls()
        assert active & {call.device_id for call in calls[before:] if call.is_post} == set()
        assert max(Counter((call.device_id, call.otp) for call in calls if call.is_post).values()) <= 2
        assert {device_id for device_id, _ in sent_after_their_answer(calls)} & active == set()
        assert status.counts["active"] == RECORDS == len(fleet.simulator.active())
