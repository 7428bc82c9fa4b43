"""A whole batch through PgBouncer in transaction mode, where each transaction may get another server connection."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from support.data.tokens import make_tokens, write_shipment
from support.fleets.real_fleet import BATCH, PATIENT, Fleet
from support.processes.command_desk import NOWHERE, CommandDesk, enter_desk, make_browser
from support.servers.postgres import PgBouncer, PostgresServer

from models.encrypted import generate_key
from worker.database.engine import Database
from worker.database.errors import explain
from worker.simulator.shipment import make_shipment

pytestmark = pytest.mark.faults

SERVER_CONNECTIONS = 5
# Statements, so that each of these connections gets some.
ENOUGH = 30
# Slow enough for a pause in the middle.
STEADY = PATIENT | {"PINGONE_RATE": "40", "PINGONE_RATE_MAX": "40"}
RENAME = text("UPDATE schema_revision SET version_num = version_num")


@pytest.fixture(params=[0, 200], ids=["without prepared statements", "with prepared statements"])
def prepared(request: pytest.FixtureRequest) -> int:
    assert isinstance(request.param, int)
    return request.param


@contextmanager
def pgbouncer(url: str, prepared: int) -> Iterator[str]:
    """The URL of the database through one that has several connections to the server, and takes another for each
    transaction."""
    with PgBouncer(url, prepared=prepared) as server, ExitStack() as stack:
        plain = server.url.replace("+psycopg", "")
        for _ in range(SERVER_CONNECTIONS):
            stack.enter_context(psycopg.connect(plain)).execute("SELECT 1")
        stack.close()
        yield server.url


def opened(url: str) -> closing[Database]:
    return closing(Database(url))


def set_default(server: PostgresServer, url: str, name: str, value: str) -> None:
    """As an administrator does; before PgBouncer opens its connections."""
    server.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET {name} = '{value}'")


def rename_often(database: Database) -> None:
    for _ in range(ENOUGH):
        with database.writing_one() as connection:
            assert connection.execute(RENAME).rowcount == 1


def in_force(database: Database, name: str) -> set[str]:
    """In statements alone and in transactions, so many that each connection to the server gets some."""
    found = set[str]()
    for _ in range(ENOUGH):
        for enter in (database.writing_one, database.writing):
            with enter() as connection:
                found.add(str(connection.exec_driver_sql(f"SHOW {name}").scalar_one()))
    return found


def test_commits_are_durable_and_read_committed_whatever_the_defaults_are_and_nothing_is_left_behind(
    postgres_server: PostgresServer, postgres_url: str, prepared: int
) -> None:
    set_default(postgres_server, postgres_url, "synchronous_commit", "off")
    set_default(postgres_server, postgres_url, "default_transaction_isolation", "serializable")
    with pgbouncer(postgres_url, prepared) as url:
        with opened(url) as database:
            assert in_force(database, "synchronous_commit") == {"on"}
            assert in_force(database, "transaction_isolation") == {"read committed"}
            rename_often(database)
        # Others get the same connections.
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as other:
            for _ in range(ENOUGH):
                assert other.execute("SHOW synchronous_commit", prepare=False).fetchone() == ("off",)
                assert other.execute("SELECT count(*) FROM pg_prepared_statements", prepare=False).fetchone() == (0,)


def test_statements_are_prepared_where_the_url_says_that_they_may_be(postgres_url: str) -> None:
    with pgbouncer(postgres_url, 200) as url, opened(url + "?prepare_threshold=2") as database:
        rename_often(database)
        with database.reading() as connection:
            count = connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one()
        assert count > 0


def test_a_batch_is_finished_and_pauses_for_nothing(
    postgres_url: str, prepared: int, valkey_url: str, tmp_path: Path
) -> None:
    shipment = make_shipment(200, out_of_step=0.3)
    with (
        pgbouncer(postgres_url, prepared) as url,
        Fleet(tmp_path, tmp_path / "home", url, valkey_url, shipment, settings=STEADY) as fleet,
    ):
        for name in ("one", "two"):
            fleet.worker(name)
        fleet.beat()
        fleet.wait_until_posted(40)
        fleet.oathbulk("pause", "pause", BATCH)
        fleet.wait_until(lambda: fleet.status().counts["activating"] == 0, "nothing is in hand")
        assert fleet.status().to_do > 0
        fleet.oathbulk("resume", "resume", BATCH)
        status = fleet.wait_until_finished()
        fleet.judge()
        assert fleet.records.wrong_endings() == []
        assert status.attempts == 200
        assert status.otp_posts == fleet.records.posts_as_made()


COMMANDS = """
db upgrade
check shipment.csv --offline
load shipment.csv --batch july --offline
status july
pause july
resume july
cancel july
replay july
show ACME
show ACME00001
export july -o july.csv
report july -o july.html
audit
metrics --once
purge --older-than 90d --yes
db reencrypt
"""


def test_every_command_works_through_it(
    postgres_server: PostgresServer, prepared: int, valkey_url: str, tmp_path: Path
) -> None:
    with postgres_server.database() as empty, pgbouncer(empty, prepared) as url:
        variables = {
            "OATHBULK_DATABASE_URL": url,
            "OATHBULK_REDIS_URL": valkey_url,
            "OATHBULK_ENCRYPTION_KEYS": generate_key(),
        }
        with CommandDesk(tmp_path / "desk", NOWHERE, variables) as desk:
            write_shipment(desk.folder / "shipment.csv", make_tokens(3))
            for command in COMMANDS.split("\n")[1:-1]:
                result = desk.oathbulk(*command.split())
                assert result.code == 0, (command, result.stderr)
            found = {each["check"]: each for each in desk.oathbulk("doctor", "--json").json["checks"]}
            assert found["database"]["state"] == "well"
            running = desk.start("desk", "--port", "0")
            with make_browser() as browser:
                assert "july" in enter_desk(browser, lambda: running.stderr)


def explain_refusal(url: str) -> str:
    """What a command says to whom this database refuses a statement."""
    with opened(url) as database, pytest.raises(OperationalError) as refused:
        rename_often(database)
    return str(explain(refused.value))


def test_what_it_cannot_do_is_refused_with_its_cure(postgres_server: PostgresServer, postgres_url: str) -> None:
    # So that what is written needs a transaction.
    set_default(postgres_server, postgres_url, "synchronous_commit", "off")
    with PgBouncer(postgres_url, prepared=0, mode="statement") as server:
        assert explain_refusal(server.url).endswith("set its pool_mode to transaction or session")
    with PgBouncer(postgres_url, prepared=0) as server:
        assert "ALTER ROLE oathbulk SET" in explain_refusal(server.url + "?options=-c%20search_path%3Dother")
    # A standby behind it is no primary.
    set_default(postgres_server, postgres_url, "default_transaction_read_only", "on")
    with PgBouncer(postgres_url, prepared=200) as server:
        assert explain_refusal(server.url).startswith("the database does not accept writes")
