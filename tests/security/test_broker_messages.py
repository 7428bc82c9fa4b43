"""Whoever gets at the broker: a worker takes JSON with the name of a task and an id, and nothing else does anything."""

import json
import pickle
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from celery import Celery
from kombu import Connection, Exchange, Producer
from sqlalchemy import inspect, select, update
from support.data.batches import TESTER
from support.data.moving_clock import MovingDatabase
from support.data.tokens import make_tokens, write_shipment
from support.fleets.real_fleet import QUICK, plain_env
from support.processes.program import Program
from support.processes.waiting import wait_until
from support.servers.stand_in import StandIn

from models.batch import Batch
from models.encrypted import generate_key
from models.reason import Reason
from models.record import Record
from models.record_states import Status
from worker.batches.loading import Loader
from worker.config.sources import load_environment, load_settings
from worker.embedded.home import home_key
from worker.intake.shipment import open_shipment
from worker.vault.keys import load_keyring

PATIENCE = 60.0
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
# Each of these ended the worker, or cut its connection.
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


class Place:
    """A home with one token to activate, and the worker for it."""

    def __init__(self, folder: Path, sqlite_url: str, broker_url: str, pingone: StandIn) -> None:
        home = Path(urlsplit(sqlite_url).path).parent
        variables = QUICK | pingone.settings
        variables |= {
            "OATHBULK_HOME": str(home),
            "OATHBULK_REDIS_URL": broker_url,
            "OATHBULK_AUDIT_KEY": generate_key(),
        }
        self.database = MovingDatabase(sqlite_url)
        settings = load_settings(variables)
        self.secrets = [home_key(home), variables["OATHBULK_AUDIT_KEY"], variables["PINGONE_CLIENT_SECRET"]]
        self.secrets.append(str(urlsplit(broker_url).password))
        loader = Loader(self.database, load_keyring(settings), load_environment(settings, variables=variables), TESTER)
        loader.load(open_shipment(write_shipment(folder / "shipment.csv", list(pingone.tokens.values()))), "shipment")
        self.broker_url = broker_url
        self.trap = folder / "trap"
        arguments = ["-A", "worker", "worker", "-l", "INFO", "--without-gossip", "--without-mingle"]
        self.worker = Program("worker", "celery", arguments, plain_env() | variables, folder)
        self.app = Celery(broker=broker_url)

    def ready(self) -> bool:
        return bool(self.app.control.ping(timeout=0.5))

    def status(self) -> str:
        with self.database.reading() as connection:
            return str(connection.scalar(select(Record.status)))

    def send_pickles(self) -> None:
        """To the queue of tasks, and to the commands that every worker listens to."""
        body = pickle.dumps(((Trap(self.trap), "default"), {}, {}))
        command = pickle.dumps({"method": "ping", "arguments": {"x": Trap(self.trap)}, "destination": None})
        kind = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}
        with Connection(self.broker_url) as connection, connection.channel() as channel:
            producer = Producer(channel)
            producer.publish(body, routing_key=ACTIVATE, headers=HEADERS, **kind)
            # As JSON, and not JSON.
            producer.publish(body, routing_key=ACTIVATE, headers=HEADERS, content_type="application/json")
            pidbox = Exchange("celery.pidbox", type="fanout")
            Producer(channel, exchange=pidbox).publish(command, **kind)

    def close(self) -> None:
        self.worker.close()
        self.app.close()
        self.database.close()


@pytest.fixture
def pingone() -> Iterator[StandIn]:
    with StandIn(make_tokens(1)) as pingone:
        yield pingone


@pytest.fixture
def place(tmp_path: Path, sqlite_url: str, valkey_url: str, pingone: StandIn) -> Iterator[Place]:
    with closing(Place(tmp_path, sqlite_url, valkey_url, pingone)) as place:
        wait_until(place.ready, PATIENCE, "the worker answers")
        yield place


def test_a_worker_takes_no_pickle_and_no_strange_argument_and_works_on(place: Place, pingone: StandIn) -> None:
    place.send_pickles()
    for arguments in STRANGE_ARGUMENTS:
        place.app.send_task(ACTIVATE, arguments, queue=ACTIVATE)
    place.app.send_task(ACTIVATE, (1,), {"environment": "default", "__class__": "x"}, queue=ACTIVATE)
    for task in ("os.system", "celery.backend_cleanup", "worker.tasks.activate", ""):
        place.app.send_task(task, ("touch owned",), queue=ACTIVATE)
    wait_until(lambda: place.worker.read_log().count("os.system"), PATIENCE, "the last of them was read")
    assert place.status() == "pending"
    # Then comes what is meant to come.
    place.app.send_task(DISPATCH, queue=DISPATCH)
    wait_until(lambda: place.status() == "active", PATIENCE, "the token is active")

    assert len(pingone.posts) == 1
    assert not place.trap.exists()
    # The trap would have worked.
    pickle.loads(pickle.dumps(Trap(place.trap))).close()
    assert place.trap.exists()
    with place.database.reading() as connection:
        assert connection.execute(select(Batch.state, Batch.reason)).one() == ("running", None)
    assert {"batch", "record", "attempt"} <= set(inspect(place.database.engine).get_table_names())
    assert "ContentDisallowed" in place.worker.read_log()
    check_what_is_told(place)


def test_a_worker_drops_what_is_no_message_and_works_on(place: Place, pingone: StandIn) -> None:
    with redis.Redis.from_url(place.broker_url) as client:
        # More than a worker takes in hand at once, so that none of them stays there.
        for envelope in STRANGE_ENVELOPES * 3:
            client.lpush(ACTIVATE, envelope)
            client.publish("/0.celery.pidbox", envelope)
        wait_until(lambda: not client.llen(ACTIVATE), PATIENCE, "all were taken")
    place.app.send_task(DISPATCH, queue=DISPATCH)
    wait_until(lambda: place.status() == "active", PATIENCE, "the token is active")

    assert len(pingone.posts) == 1
    assert place.worker.is_running
    wait_until(place.ready, PATIENCE, "the worker answers")
    log = place.worker.read_log()
    assert "Connection to broker lost" in log
    assert QUOTED not in log


def test_a_forged_message_replays_nothing_where_no_person_has_set_a_schedule(place: Place, pingone: StandIn) -> None:
    given_up = {"status": Status.DEAD_LETTER, "reason": Reason.ATTEMPTS_SPENT}
    with place.database.writing() as connection:
        connection.execute(update(Record).values(given_up))

    place.app.send_task(REPLAY, queue=DISPATCH)

    wait_until(lambda: re.search(rf"{REPLAY}\[.*succeeded", place.worker.read_log()), PATIENCE, "it was taken")
    assert place.status() == "dead_letter"
    assert pingone.posts == []


def check_what_is_told(place: Place) -> None:
    """By the worker to all who ask it, Flower among them; and by its log, which quotes messages."""
    inspect_ = place.app.control.inspect(timeout=5)
    told = f"{inspect_.conf()}{inspect_.stats()}{inspect_.report()}{place.worker.read_log()}"
    assert "accept_content" in told
    for secret in place.secrets:
        assert secret not in told
