"""SQL in every text that comes from outside: it is kept as text, and no table feels it."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, inspect, select
from support.data.batches import ENVIRONMENT_ID, TESTER

from models.audit import AuditLine
from models.base import Base
from models.batch import Batch
from models.encrypted import Keyring, generate_key
from models.record import Record
from worker import audit
from worker.audit import Actor
from worker.batches.commands import Batches
from worker.batches.finding import LONGEST_NAME, NameTaken, NameUnfit
from worker.batches.loading import Loader
from worker.config.environment import Environment
from worker.database.engine import Database
from worker.intake import UnusableFile, open_shipment
from worker.leases.worker import Leases
from worker.reports.export import export
from worker.reports.facts import read_statuses

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
    database: Database, loader: Loader, tmp_path: Path, name: str, text: str
) -> None:
    before = count(database, Batch)
    try:
        loader.load(open_shipment(write(tmp_path / "shipment.csv", "note", text)), name)
    except (NameTaken, NameUnfit):
        assert count(database, Batch) == before
        return
    (status,) = read_statuses(database, name)
    assert (status.name, status.total, status.state) == (name, 1, "running")
    batches = Batches(database, Actor(text, text))
    batches.pause(name)
    batches.resume(name)
    assert batches.cancel(name) == 1
    assert [each.state for each in read_statuses(database) if each.name != name].count("running") == 0
    with database.reading() as connection:
        lines = [line for line in audit.read(connection, name) if line.action != "load"]
        assert {(line.batch, line.actor, line.ticket) for line in lines} == {(name, text, text)}
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
