"""A whole installation on a PostgreSQL with 20 connections, of which an ordinary role gets 17; and one whose
administrator has set the limits of time very low."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from support.fleets.real_fleet import BATCH, PATIENT, Fleet
from support.processes.command_desk import TIMEOUT, enter_desk, make_browser
from support.processes.waiting import wait_until
from support.servers.postgres import PostgresServer

from worker.embedded.valkey import find_free_port
from worker.simulator.shipment import make_shipment

pytestmark = pytest.mark.faults

LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout")
MAX_CONNECTIONS = 20
RECORDS = 150
# What docs/deployment.md says for a server as small as this, with all of these processes.
CONNECTIONS = 2
# Commands that are typed at the same moment: more than there are connections left.
BURST = 8
METRICS = re.compile(r"http://\S+/metrics")
# What docs/deployment.md says of each process.
MOST = {"worker": CONNECTIONS, "beat": 0, "flower": 0, "desk": CONNECTIONS, "metrics": 1, "status": 1}
# Slow enough for everybody to be there while work goes on.
STEADY = PATIENT | {"PINGONE_RATE": "30", "PINGONE_RATE_MAX": "30", "OATHBULK_DATABASE_CONNECTIONS": str(CONNECTIONS)}


@pytest.fixture
def few(migrate) -> Iterator[tuple[PostgresServer, str]]:
    """A server, and the URL of a database whose owner is an ordinary role."""
    with PostgresServer(durable=False, max_connections=MAX_CONNECTIONS) as server:
        server.execute("CREATE ROLE ordinary LOGIN PASSWORD 'ordinary'")
        server.execute("CREATE DATABASE oathbulk OWNER ordinary")
        url = f"postgresql+psycopg://ordinary:ordinary@127.0.0.1:{server.port}/oathbulk"
        migrate(url)
        yield server, url


class Watch:
    """The most connections that each process had when it was looked, by its application_name."""

    def __init__(self, server: PostgresServer) -> None:
        self._connection = psycopg.connect(server.url().replace("+psycopg", ""), autocommit=True)
        self.most = Counter[str]()

    def look(self) -> None:
        statement = "SELECT application_name, count(*) FROM pg_stat_activity GROUP BY 1"
        self.most |= Counter(dict(self._connection.execute(statement).fetchall()))

    def close(self) -> None:
        self._connection.close()


@contextmanager
def everybody(fleet: Fleet) -> Iterator[tuple[httpx.Client, str]]:
    """Four workers, beat, Flower, desk and metrics, each known to PostgreSQL by its name; a browser that has entered
    the desk, and the metrics' address."""
    for number in range(4):
        fleet.worker(f"worker {number}", PGAPPNAME=f"worker {number}")
    fleet.beat("beat", PGAPPNAME="beat")
    fleet.celery("flower", "flower", f"--port={find_free_port()}", PGAPPNAME="flower")
    desk = fleet.command("desk", "desk", "--port", "0", PGAPPNAME="desk")
    metrics = fleet.command("metrics", "metrics", "--port", "0", PGAPPNAME="metrics")
    with make_browser() as browser:
        enter_desk(browser, desk.read_log)
        told = wait_until(lambda: METRICS.search(metrics.read_log()), TIMEOUT, "metrics are served")
        yield browser, told[0]


def test_all_processes_fit_and_commands_wait_for_their_turn(
    few: tuple[PostgresServer, str], valkey_url: str, tmp_path: Path
) -> None:
    server, url = few
    with ExitStack() as stack:
        watch = stack.enter_context(closing(Watch(server)))
        fleet = Fleet(tmp_path, tmp_path / "home", url, valkey_url, make_shipment(RECORDS), settings=STEADY)
        stack.callback(fleet.close)
        browser, metrics = stack.enter_context(everybody(fleet))
        fleet.wait_until_posted(20)
        names = [f"status {number}" for number in range(BURST)]
        commands = [fleet.command(name, "status", BATCH, PGAPPNAME=name) for name in names]
        while any(command.is_running for command in commands):
            watch.look()
            assert browser.get("/").status_code == 200
            assert httpx.get(metrics, trust_env=False, timeout=60).status_code == 200
        for command in commands:
            assert command.wait() == 0, command.read_log()
        status = fleet.wait_until_finished()
        watch.look()
        fleet.judge()
        assert fleet.records.wrong_endings() == []
        assert status.attempts == RECORDS
    for name, most in MOST.items():
        found = max((count for seen, count in watch.most.items() if seen.startswith(name)), default=0)
        assert found <= most, watch.most
    assert watch.most["worker 0"] > 0


def test_a_batch_finishes_whatever_these_end(
    postgres_server: PostgresServer, postgres_url: str, valkey_url: str, tmp_path: Path
) -> None:
    shipment = make_shipment(60, out_of_step=0.3)
    with Fleet(tmp_path, tmp_path / "home", postgres_url, valkey_url, shipment, settings=PATIENT) as fleet:
        # Of sessions that begin from now on: those of workers and commands.
        for limit in LIMITS:
            postgres_server.execute(f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET {limit} = '150ms'")
        fleet.worker("one")
        fleet.beat()
        fleet.wait_until_finished()
        fleet.judge()
        assert fleet.records.wrong_endings() == []
        with fleet.database.reading() as connection:
            ended = "SELECT sessions_fatal FROM pg_stat_database WHERE datname = current_database()"
            assert connection.exec_driver_sql(ended).scalar_one() > 0
