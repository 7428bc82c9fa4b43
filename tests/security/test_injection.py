"""The database: SQL in every text that comes from outside is kept as text, and no table feels it; ciphertexts that
somebody has moved in it do not open, the batch pauses, and nothing is sent. And the broker: a worker takes JSON with
the name of a task and an id, and nothing else does anything."""

import csv
import io
import json
import pickle
import re
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hypothesis
import pytest
import redis
from celery import Celery
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from kombu import Connection, Exchange, Producer, Queue, pools
from sqlalchemy import inspect, select, text, update
from support.data.batches import (
    ENVIRONMENT_ID,
    TESTER,
    Made,
    count,
    enqueue,
    look,
    look_at_batch,
    make_environment,
)
from support.data.moving_clock import MovingDatabase
from support.data.tokens import Token, make_tokens, write_shipment
from support.fleets.real_fleet import QUICK, plain_env
from support.processes.program import Program
from support.processes.waiting import wait_until
from support.servers.stand_in import StandIn

from models.batch import LONGEST_NAME, Batch
from models.encrypted import DecryptionError, Keyring, generate_key
from models.record import Record
from worker import audit
from worker.audit import Actor
from worker.batches.commands import Batches
from worker.batches.loading import Loader, NameTaken, NameUnfit
from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.config.sources import load_environment, load_settings
from worker.database.schema import read_installation_id
from worker.embedded.home import home_key
from worker.intake.rows import UnusableFile
from worker.intake.shipment import open_shipment
from worker.leases.lease import Leases
from worker.process.worker_parts import WorkerParts
from worker.reports.export import export
from worker.reports.facts import read_statuses
from worker.vault.keys import load_keyring

BRIEF = hypothesis.settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
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
def database(database_url: str) -> Iterator[MovingDatabase]:
    with closing(MovingDatabase(database_url)) as database:
        yield database


@pytest.fixture
def loader(database: MovingDatabase) -> Loader:
    return Loader(database, Keyring([generate_key()]), make_environment(), TESTER)


def write(path: Path, column: str, value: str) -> Path:
    ids = [str(uuid.uuid4()), str(uuid.uuid4())]
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["serial", "otp1", "user_id", "device_id", "lot", "username", column])
        rows.writerow([uuid.uuid4().hex, "123456", *ids, value[:200], value, value])
    return path


@BRIEF
@given(TEXTS, TEXTS)
@example(DANGEROUS, DANGEROUS)
def test_a_batch_may_be_called_anything_and_is_found_under_that_name_only(
    database: MovingDatabase, loader: Loader, tmp_path: Path, name: str, word: str
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
    with database.reading_snapshot() as connection:
        lines = [line for line in audit.read(connection, name) if line.action != "load"]
        assert {(line.batch, line.actor, line.ticket) for line in lines} == {(name, word, word)}
        assert audit.check(connection).broken is None


@BRIEF
@given(TEXTS, TEXTS)
@example(DANGEROUS, DANGEROUS)
def test_a_column_may_be_called_anything_and_comes_out_as_it_came(
    database: MovingDatabase, loader: Loader, tmp_path: Path, column: str, value: str
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


def test_a_message_with_a_strange_id_claims_nothing(database: MovingDatabase, loader: Loader, tmp_path: Path) -> None:
    loader.load(open_shipment(write(tmp_path / "shipment.csv", "note", "x")), "shipment")
    leases = Leases(database, lease=60.0, max_attempts=8)
    for record_id in STRANGE_IDS:
        # Whatever it fails with is the end of that message alone.
        with suppress(Exception):
            leases.claim(record_id, ENVIRONMENT_ID, 0.5)  # type: ignore[arg-type]
        with suppress(Exception):
            leases.hand_back(record_id, 0.0)  # type: ignore[arg-type]
    assert database.rows(select(Record.status, Record.attempts)) == [("pending", 0)]
    assert set(inspect(database.engine).get_table_names()) >= {"batch", "record", "attempt", "audit"}


def test_a_name_that_would_feign_a_line_or_steer_a_terminal_is_refused(
    database: MovingDatabase, loader: Loader, tmp_path: Path
) -> None:
    """It may be the name of a vendor's file."""
    shipment = open_shipment(write(tmp_path / "shipment.csv", "note", "x"))
    around = ("", " ", "wave-04 ", " a")
    for name in (*around, "-y", "two\nlines", "\x1b[2J", "a\u202eb", "\udcff", "\x9b2J", "x" * (LONGEST_NAME + 1)):
        with pytest.raises(NameUnfit, match="end with a space: use another --batch NAME"):
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


@dataclass(frozen=True)
class Place:
    """A home with a batch for each shipment, and all that works on them."""

    database: MovingDatabase
    pingone: StandIn
    variables: dict[str, str]
    settings: Settings
    environment: Environment


@contextmanager
def made_place(folder: Path, sqlite_url: str, broker_url: str, *shipments: list[Token]) -> Iterator[Place]:
    known = [token for tokens in shipments for token in tokens]
    with StandIn(known) as pingone, closing(MovingDatabase(sqlite_url)) as database:
        variables = QUICK | pingone.settings
        variables |= {"OATHBULK_HOME": str(Path(urlsplit(sqlite_url).path).parent), "OATHBULK_REDIS_URL": broker_url}
        settings = load_settings(variables)
        home_key(settings.home)
        environment = load_environment(settings, variables=variables)
        loader = Loader(database, load_keyring(settings), environment, TESTER)
        for tokens in shipments:
            path = write_shipment(folder / f"{tokens[0].serial}.csv", tokens)
            loader.load(open_shipment(path), path.stem)
        yield Place(database, pingone, variables, settings, environment)


@pytest.fixture
def two_batches(sqlite_url: str, valkey_url: str, tmp_path: Path) -> Iterator[Place]:
    shipments = [make_tokens(2, prefix=prefix) for prefix in ("FIRST", "SECOND")]
    with made_place(tmp_path, sqlite_url, valkey_url, *shipments) as place:
        yield place


@pytest.fixture
def parts(two_batches: Place) -> Iterator[WorkerParts]:
    parts = WorkerParts(two_batches.settings, broker=None, load=lambda _: two_batches.environment)
    yield parts
    for opened in (parts.clients.client(two_batches.environment), parts.redis, parts.database):
        opened.close()


def tamper(place: Place, change: str) -> list[int]:
    """Change the records so, and put the first batch's onto the queue: their ids, in the order of their rows."""
    place.database.change(text(f"UPDATE record SET {change}"))
    return sorted(enqueue(place.database, Made(1, "FIRST", [])))


@pytest.mark.parametrize("source", TAMPERINGS)
def test_a_ciphertext_that_was_moved_pauses_the_batch_and_nothing_is_sent(
    source: str, two_batches: Place, parts: WorkerParts
) -> None:
    victim, _ = tamper(two_batches, f"otps = ({TAMPERINGS[source]}) WHERE {VICTIM}")
    with pytest.raises(DecryptionError, match="do not belong to this record"):
        parts.activations.activate_record(victim, "default")
    assert two_batches.pingone.posts == []
    batch = look_at_batch(two_batches.database, 1)
    assert (batch.state, batch.reason) == ("paused", "internal")
    record = look(two_batches.database, victim)
    assert (record.status, record.otp1_state, record.otp1_posts) == ("pending", "unsent", 0)


def test_a_row_that_was_renumbered_does_not_open_any_more_and_what_was_not_moved_is_activated(
    two_batches: Place, parts: WorkerParts
) -> None:
    untouched, moved = tamper(two_batches, "row_number = 99 WHERE batch_id = 1 AND row_number = 3")
    parts.activations.activate_record(untouched, "default")
    assert look(two_batches.database, untouched).otps is None
    with pytest.raises(DecryptionError):
        parts.activations.activate_record(moved, "default")
    assert [post.answer for post in two_batches.pingone.posts] == ["ACTIVE"]


# Messages that whoever gets at the broker has written.

ACTIVATE, DISPATCH, REPLAY = "oathbulk.activate", "oathbulk.dispatch", "oathbulk.replay"
# Stands in messages, and in no log.
QUOTED = "cafe-quoted-cafe"
HEADERS = {"lang": "py", "task": ACTIVATE, "id": "c0ffee", "root_id": "c0ffee", "parent_id": None, "group": None}

STRANGE_ARGUMENTS: list[Any] = [
    ("1'; DROP TABLE record; --", "default"),
    (1, "../../etc/passwd"),
    (1, "\n\x1b[2J[feigned]"),
    (None, None),
    ([1, 2], {"environment": "default"}),
    ({"id": 1}, ["default"]),
    (2**70, "default"),
    (-1, "default"),
    (1.5, "default"),
    (1, "default", "one too many"),
    (),
    ("a" * 100_000, "default"),
]


# Behind the name of a JSON message: what kombu itself reads, before Celery sees anything of it.
PROPERTIES: dict[str, Any] = {
    "delivery_tag": "1",
    "body_encoding": "base64",
    "delivery_info": {"exchange": "", "routing_key": ""},
}
SOUND: dict[str, Any] = {
    "body": "W1tdLHt9LHt9XQ==",
    "content-type": "application/json",
    "content-encoding": "utf-8",
    "headers": HEADERS,
    "properties": PROPERTIES,
}
# Each of these ended the worker, or cut its connection, or came back to it again and again.
STRANGE_ENVELOPES: list[str | bytes] = [
    f"no JSON: {QUOTED}",
    "",
    b"\xff\xfe\x00",
    "[" * 100_000,
    *map(json.dumps, ([], 1, None, "text", {}, {"body": 5}, {"properties": None}, {"properties": {}})),
    json.dumps({"__type__": "uuid", "__value__": {"hex": QUOTED}}),
    json.dumps({"__type__": ["uuid"], "__value__": 1}),
    json.dumps(SOUND | {"body": QUOTED}),
    json.dumps(SOUND | {"body": ["a list"]}),
    json.dumps(SOUND | {"headers": [QUOTED]}),
    json.dumps(SOUND | {"headers": HEADERS | {"task": [ACTIVATE]}}),
    json.dumps(SOUND | {"headers": HEADERS | {"timelimit": "x"}}),
    json.dumps(SOUND | {"headers": HEADERS | {"stamped_headers": 1}}),
    json.dumps(SOUND | {"properties": PROPERTIES | {"body_encoding": "rot13"}}),
    json.dumps(SOUND | {"properties": PROPERTIES | {"delivery_tag": ["a list"]}}),
    json.dumps(SOUND | {"properties": PROPERTIES | {"delivery_info": "text"}}),
]


class Trap:
    """Unpickled, it writes a file: what a worker that took pickles would run could be anything."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.fixture
def place(tmp_path: Path, sqlite_url: str, valkey_url: str) -> Iterator[Place]:
    with made_place(tmp_path, sqlite_url, valkey_url, make_tokens(1)) as place:
        yield place


@pytest.fixture
def app(place: Place, valkey_url: str) -> Iterator[Celery]:
    """One that sends to the queues of the place's installation."""
    installation = read_installation_id(place.database)
    with closing(Celery(broker=valkey_url)) as app:
        app.amqp.queues = [Queue(f"{name}.{installation}", alias=name) for name in (ACTIVATE, DISPATCH)]
        yield app
    # Another app of this process would get the same connections, and late answers to `ping` with them.
    pools.reset()


@pytest.fixture
def worker(place: Place, app: Celery, tmp_path: Path) -> Iterator[Program]:
    """The worker for the place's token, which answers."""
    arguments = ["-A", "worker", "worker", "-l", "INFO"]
    with closing(Program("worker", "celery", arguments, plain_env() | place.variables, tmp_path)) as worker:
        wait_until(lambda: app.control.ping(timeout=0.5), "the worker answers")
        yield worker


def status(place: Place) -> str:
    return str(place.database.values(select(Record.status))[0])


def dispatch(place: Place, app: Celery) -> None:
    """Send what is meant to come, after all else."""
    app.send_task(DISPATCH, queue=DISPATCH)
    wait_until(lambda: status(place) == "active", "the token is active")
    assert len(place.pingone.posts) == 1


def send_pickles(broker_url: str, queue: str, trap: Trap) -> None:
    """To the queue of tasks, and to the commands that every worker listens to."""
    body = pickle.dumps(((trap, "default"), {}, {}))
    command = pickle.dumps({"method": "ping", "arguments": {"x": trap}, "destination": None})
    kind = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
    with Connection(broker_url) as connection, connection.channel() as channel:
        producer = Producer(channel)
        producer.publish(body, routing_key=queue, headers=HEADERS, **kind)
        # As JSON, and not JSON.
        producer.publish(body, routing_key=queue, headers=HEADERS, content_type="application/json")
        pidbox = Exchange("celery.pidbox", type="fanout")
        Producer(channel, exchange=pidbox).publish(command, **kind)


def send_strange_tasks(app: Celery) -> None:
    for arguments in STRANGE_ARGUMENTS:
        app.send_task(ACTIVATE, arguments, queue=ACTIVATE)
    app.send_task(ACTIVATE, (1,), {"environment": "default", "__class__": "x"}, queue=ACTIVATE)
    for task in ("os.system", "celery.backend_cleanup", "worker.tasks.activate", ""):
        app.send_task(task, ("touch owned",), queue=ACTIVATE)


def send_strange_envelopes(broker_url: str, queue: str) -> None:
    """Wait until the worker has taken them."""
    with redis.Redis.from_url(broker_url) as client:
        for envelope in STRANGE_ENVELOPES * 3:
            client.lpush(queue, envelope)
            # kombu quotes what is said to all workers and cannot be read, if it hears it between two connections.
            if isinstance(envelope, bytes) or QUOTED not in envelope:
                client.publish("/0.celery.pidbox", envelope)
        wait_until(lambda: not client.llen(queue), "all were taken")


def test_a_worker_does_nothing_but_a_task_of_ours_with_an_id_and_works_on_whatever_else_is_on_its_queues(
    place: Place, worker: Program, app: Celery, valkey_url: str, tmp_path: Path
) -> None:
    # A replay that is forged, where no person has set a schedule.
    place.database.change(update(Record).values(status="dead_letter", reason="attempts_spent"))
    app.send_task(REPLAY, queue=DISPATCH)
    wait_until(lambda: re.search(rf"{REPLAY}\[.*succeeded", worker.read_log()), "it was taken")
    assert status(place) == "dead_letter"
    place.database.change(update(Record).values(status="pending", reason=None))

    trap = Trap(tmp_path / "trap")
    send_pickles(valkey_url, app.amqp.queues[ACTIVATE].name, trap)
    send_strange_tasks(app)
    send_strange_envelopes(valkey_url, app.amqp.queues[ACTIVATE].name)
    dropped = "SELECT dropped FROM process"
    # Two are as ours could be, for environments of which the record is not.
    sent = 2 + len(STRANGE_ARGUMENTS) - 2 + 5 + 3 * len(STRANGE_ENVELOPES)
    wait_until(lambda: place.database.values(text(dropped)) == [sent], "all were dropped")
    assert (status(place), place.pingone.posts) == ("pending", [])
    dispatch(place, app)

    assert not trap.path.exists()
    # The trap would have worked.
    pickle.loads(pickle.dumps(trap)).close()
    assert trap.path.exists()
    assert [(each.state, each.reason) for each in read_statuses(place.database)] == [("finished", None)]
    assert {"batch", "record", "attempt"} <= set(inspect(place.database.engine).get_table_names())
    assert worker.is_running
    wait_until(lambda: app.control.ping(timeout=0.5), "the worker answers")
    for told in ("ContentDisallowed", "Connection to broker lost"):
        assert told in worker.read_log()
    # It neither asks nor hears other workers.
    assert [word for word in (QUOTED, "mingle", "Gossip") if word in worker.read_log()] == []
    # What the worker tells all who ask it, Flower among them; and its log, which quotes messages.
    asked = app.control.inspect(timeout=5)
    told = f"{asked.conf()}{asked.stats()}{asked.report()}{worker.read_log()}"
    assert "accept_content" in told
    secrets = home_key(place.settings.home), place.variables["PINGONE_CLIENT_SECRET"], urlsplit(valkey_url).password
    assert [secret for secret in secrets if str(secret) in told] == []
