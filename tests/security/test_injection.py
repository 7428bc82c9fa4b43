"""The database: SQL in every text that comes from outside is kept as text, and no table feels it; ciphertexts that
somebody has moved in it do not open, the batch pauses, and nothing is sent."""

import csv
import io
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, inspect, select, text
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, enqueue, look, look_at_batch
from support.data.moving_clock import MovingDatabase
from support.data.tokens import make_tokens, write_shipment
from support.servers.stand_in import StandIn

from models.audit import AuditLine
from models.base import Base
from models.batch import LONGEST_NAME, Batch
from models.encrypted import DecryptionError, Keyring, generate_key
from models.record import Record
from worker import audit
from worker.audit import Actor
from worker.batches.commands import Batches
from worker.batches.finding import NameTaken, NameUnfit
from worker.batches.loading import Loader
from worker.config.environment import Environment
from worker.config.sources import load_environment, load_settings
from worker.database.engine import Database
from worker.intake.rows import UnusableFile
from worker.intake.shipment import open_shipment
from worker.leases.worker import Leases
from worker.process.worker_parts import WorkerParts
from worker.reports.export import export
from worker.reports.facts import read_statuses
from worker.vault.keys import load_keyring

QUICK = settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
ENVIRONMENT = Environment.model_validate(
    {"name": "default", "environment_id": ENVIRONMENT_ID, "client_id": "client", "client_secret": "secret"}
)
SNIPPETS = st.sampled_from(
    [
        *("'; DROP TABLE record; --", "' OR '1'='1", '"', "`", "\\", "\\'", "''", "%s", "%(name)s", ":name", ":1", "?"),
        *("$1", "{0}", "%", "%%", "/*", "*/", "--", ";", "\\x27", "\u02bc", "\uff07", "$$", "E'\\''", "; COMMIT; "),
    ]
)
PRINTABLE = st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]) | st.just(" ")
TEXTS = st.lists(SNIPPETS | st.text(PRINTABLE, max_size=8), min_size=1, max_size=5).map("".join).filter(str.strip)
DANGEROUS = "x'; DROP TABLE record; UPDATE batch SET state = 'cancelled'; --"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def loader(database: Database) -> Loader:
    return Loader(database, Keyring([generate_key()]), ENVIRONMENT, TESTER)


def write(path: Path, column: str, value: str) -> Path:
    ids = [str(uuid.uuid4()), str(uuid.uuid4())]
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["serial", "otp1", "user_id", "device_id", "lot", "username", column])
        rows.writerow([uuid.uuid4().hex, "123456", *ids, value[:200], value, value])
    return path


def count(database: Database, table: type[Base]) -> int:
    with database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


@QUICK
@given(TEXTS, TEXTS)
@example(DANGEROUS, DANGEROUS)
def test_a_batch_may_be_called_anything_and_is_found_under_that_name_only(
    database: Database, loader: Loader, tmp_path: Path, name: str, word: str
) -> None:
    before = count(database, Batch)
    try:
        loader.load(open_shipment(write(tmp_path / "shipment.csv", "note", word)), name)
    except (NameTaken, NameUnfit):
        assert count(database, Batch) == before
        return
    (status,) = read_statuses(database, name)
    assert (status.name, status.total, status.state) == (name, 1, "running")
    batches = Batches(database, Actor(word, word))
    batches.pause(name)
    batches.resume(name)
    assert batches.cancel(name) == 1
    assert [each.state for each in read_statuses(database) if each.name != name].count("running") == 0
    with database.reading() as connection:
        lines = [line for line in audit.read(connection, name) if line.action != "load"]
        assert {(line.batch, line.actor, line.ticket) for line in lines} == {(name, word, word)}
        assert audit.check(connection).broken is None


@QUICK
@given(TEXTS, TEXTS)
@example(DANGEROUS, DANGEROUS)
def test_a_column_may_be_called_anything_and_comes_out_as_it_came(
    database: Database, loader: Loader, tmp_path: Path, column: str, value: str
) -> None:
    name = uuid.uuid4().hex
    try:
        shipment = open_shipment(write(tmp_path / "shipment.csv", column, value))
    except UnusableFile:
        # The name says that it holds a secret, or means one of our columns.
        return
    before = count(database, Record)
    loader.load(shipment, name)
    assert count(database, Record) == before + 1
    out = io.StringIO(newline="")
    assert export(database, name, out) == 1
    header, row = csv.reader(io.StringIO(out.getvalue(), newline=""))
    # An apostrophe keeps a spreadsheet from taking it for a formula.
    assert header[6].replace("'", "") == column.replace("'", "")
    assert row[4].replace("'", "") == value[:200].strip().replace("'", "")


STRANGE_IDS = [
    DANGEROUS,
    "1",
    "1 OR 1=1",
    None,
    True,
    1.5,
    [1],
    {"id": 1},
    -1,
    2**31,
    2**63,
    10**30,
    "\x00",
    float("nan"),
]


def test_a_message_with_a_strange_id_claims_nothing(database: Database, loader: Loader, tmp_path: Path) -> None:
    loader.load(open_shipment(write(tmp_path / "shipment.csv", "note", "x")), "shipment")
    leases = Leases(database, lease=60.0, max_attempts=8)
    for record_id in STRANGE_IDS:
        # Whatever it fails with is the end of that message alone.
        with suppress(Exception):
            leases.claim(record_id, ENVIRONMENT_ID, 0.5)  # type: ignore[arg-type]
        with suppress(Exception):
            leases.hand_back(record_id, 0.0)  # type: ignore[arg-type]
    with database.reading() as connection:
        assert connection.execute(select(Record.status, Record.attempts)).all() == [("pending", 0)]
    assert set(inspect(database.engine).get_table_names()) >= {"batch", "record", "attempt", AuditLine.__tablename__}


def test_a_name_that_would_feign_a_line_or_steer_a_terminal_is_refused(
    database: Database, loader: Loader, tmp_path: Path
) -> None:
    """It may be the name of a vendor's file."""
    shipment = open_shipment(write(tmp_path / "shipment.csv", "note", "x"))
    around = ("", " ", "wave-04 ", " a")
    for name in (*around, "-y", "two\nlines", "\x1b[2J", "a\u202eb", "\udcff", "\x9b2J", "x" * (LONGEST_NAME + 1)):
        with pytest.raises(NameUnfit, match="printable characters: give another --batch NAME"):
            loader.load(shipment, name)
    assert (count(database, Batch), count(database, Record)) == (0, 0)


# Ciphertexts that whoever may write the database has moved. That a single one opens in its own row only stands in
# unit/vault/test_secrets.py.

# What a database administrator may do; row 2 of batch 1 is the victim. Each batch has rows 2 and 3.
TAMPERINGS = {
    "from another row": "SELECT otps FROM record WHERE batch_id = 1 AND row_number = 3",
    "from another batch": "SELECT otps FROM record WHERE batch_id = 2 AND row_number = 2",
}
VICTIM = "batch_id = 1 AND row_number = 2"


class Place:
    """Two batches of two tokens each, and everything that works on them."""

    def __init__(self, database_url: str, redis_url: str, pingone: StandIn) -> None:
        variables = pingone.settings | {
            "OATHBULK_DATABASE_URL": database_url,
            "OATHBULK_REDIS_URL": redis_url,
            "OATHBULK_ENCRYPTION_KEYS": generate_key(),
        }
        settings = load_settings(variables)
        self.pingone = pingone
        self.database = MovingDatabase(database_url)
        self.environment = load_environment(settings, variables=variables)
        self.loader = Loader(self.database, load_keyring(settings), self.environment, TESTER)
        self.parts = WorkerParts(settings, broker=None, load=lambda _: self.environment)

    def run(self, record_id: int) -> None:
        self.parts.activations.activate_record(record_id, "default")

    def close(self) -> None:
        self.parts.clients.of(self.environment).close()
        self.parts.redis.close()
        self.parts.database.close()
        self.database.close()


@pytest.fixture
def place(sqlite_url: str, valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("shipments")
    tokens = {name: make_tokens(2, prefix=name) for name in ("FIRST", "SECOND")}
    with StandIn([*tokens["FIRST"], *tokens["SECOND"]]) as pingone:
        place = Place(sqlite_url, valkey_url, pingone)
        for name, mine in tokens.items():
            place.loader.load(open_shipment(write_shipment(folder / f"{name}.csv", mine)), name)
        yield place
        place.close()


def execute(place: Place, statement: str) -> None:
    with place.database.writing() as connection:
        connection.execute(text(statement))


def queue_all(place: Place) -> list[int]:
    """The ids of the first batch's records, in the order of their rows."""
    with place.database.reading() as connection:
        ids = list(connection.scalars(text("SELECT id FROM record WHERE batch_id = 1 ORDER BY row_number")))
    enqueue(place.database, Made(1, "FIRST", ids))
    return ids


@pytest.mark.parametrize("source", TAMPERINGS)
def test_a_ciphertext_that_was_moved_pauses_the_batch_and_nothing_is_sent(source: str, place: Place) -> None:
    execute(place, f"UPDATE record SET otps = ({TAMPERINGS[source]}) WHERE {VICTIM}")
    victim, _ = queue_all(place)
    with pytest.raises(DecryptionError, match="do not belong to this record"):
        place.run(victim)
    assert place.pingone.posts == []
    batch = look_at_batch(place.database, 1)
    assert (batch.state, batch.reason) == ("paused", "internal")
    record = look(place.database, victim)
    assert (record.status, record.otp1_state, record.otp1_posts) == ("pending", "unsent", 0)


def test_a_row_that_was_renumbered_does_not_open_any_more_and_what_was_not_moved_is_activated(place: Place) -> None:
    execute(place, "UPDATE record SET row_number = 99 WHERE batch_id = 1 AND row_number = 3")
    untouched, moved = queue_all(place)
    place.run(untouched)
    assert [post.answer for post in place.pingone.posts] == ["ACTIVE"]
    assert look(place.database, untouched).otps is None
    with pytest.raises(DecryptionError):
        place.run(moved)
    assert len(place.pingone.posts) == 1
