"""Every device of a batch is read back, and its truth compared with ours: against the simulator."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
import tenacity
from pydantic import SecretStr
from support.data.batches import ENVIRONMENT_ID, Made, look, make_batch
from support.data.heard import Heard
from support.data.moving_clock import MovingDatabase
from support.simulator.faults import FaultOrder
from support.simulator.simulation import WatchedSimulation

from models.encrypted import Keyring
from models.record_states import Status
from worker.batches.finding import UnknownBatch, find_environment
from worker.config.environment import Environment
from worker.config.settings import ConfigError, Settings, Tuning
from worker.pace.errors import PaceOutOfReach, SlotTooFar
from worker.pace.rate_groups import RateGroup
from worker.pingone.client import Call, Client
from worker.pingone.devices import Device
from worker.pingone.errors import Answer, Forbidden, NotFound
from worker.process.parts import Parts
from worker.reports import verification
from worker.reports.verification import Difference, TokenCheck, make_device_reader, verify
from worker.simulator.world import CLIENT_ID, CLIENT_SECRET, WorldSeed

# The statements differ in nothing between the databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ACTIVE = Device("ACTIVE", is_locked=False, is_blocked=False, answer=Answer(200))
WAITING = Device("ACTIVATION_REQUIRED", is_locked=False, is_blocked=False, answer=Answer(200))
THREADS = 4
# Seconds; where nothing is wrong nobody waits so long.
TIMEOUT = 30.0


class PingOne:
    """A simulator whose world is that of a batch's devices; None in place of a status: there is no such device."""

    def __init__(self, simulation: WatchedSimulation, url: str) -> None:
        self.simulation = simulation
        self._url = url

    def seed(self, **world: Any) -> None:
        self.simulation.seed(WorldSeed.model_validate({"environment_id": ENVIRONMENT_ID} | world))

    def seed_devices(self, database: MovingDatabase, made: Made, devices: list[Mapping[str, Any] | str | None]) -> None:
        records = [look(database, record_id) for record_id in made.ids]
        for record, device in zip(records, devices, strict=True):
            if device is not None:
                own = {"serial": record.serial_number, "user_id": record.user_id, "device_id": record.device_id}
                self.seed(devices=[own | ({"status": device} if isinstance(device, str) else device)])

    def environment(self, **settings: Any) -> Environment:
        return Environment(
            **{
                "name": "default",
                "environment_id": ENVIRONMENT_ID,
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
                "api_url": f"{self._url}/v1",
                "token_url": f"{self._url}/{{env}}/as/token",
                "rate": 1000,
            }
            | settings
        )

    def reads(self) -> list[tuple[str, float]]:
        """Device ids, and when each was read."""
        entries = self.simulation.call_log.entries()
        return [(entry.device_id or "", entry.arrived_at) for entry in entries if entry.operation == "read"]


@pytest.fixture
def pingone(listening: tuple[WatchedSimulation, str]) -> PingOne:
    """One in which there is no device yet."""
    pingone = PingOne(*listening)
    pingone.simulation.reset()
    return pingone


class Readers(Parts):
    """The parts of a process that reads; the clients of its threads are closed in the end."""

    def __init__(self, database: MovingDatabase, pingone: PingOne, redis_url: str) -> None:
        tuning = Tuning(furthest_slot=0.2)
        settings = Settings(redis_url=SecretStr(redis_url), concurrency=THREADS, tuning=tuning)
        super().__init__(settings, lambda name: pingone.environment(name=name))
        self.database = database
        # By the thread that each belongs to.
        self.made = set[tuple[int, Client]]()

    def client(self, group: RateGroup = RateGroup.MFA) -> Client:
        """The calling thread's own."""
        client = self.clients.of(self.environments.get("default"), group)
        self.made.add((threading.get_ident(), client))
        return client

    def check(self, keyring: Keyring) -> TokenCheck:
        """Which reads the inventory in the calling thread."""
        self.client(RateGroup.INVENTORY)
        return TokenCheck(lambda: self.clients.reads(self.environments.get("default")), keyring)

    def verify(self, name: str = "shipment", check: TokenCheck | None = None) -> list[Difference]:
        return list(verify(self.database, name, make_device_reader(self.client), THREADS, check))

    def close(self) -> None:
        for _, client in self.made:
            client.close()
        self.redis.close()


@pytest.fixture
def readers(database: MovingDatabase, pingone: PingOne, valkey_url: str) -> Iterator[Readers]:
    with closing(Readers(database, pingone, valkey_url)) as readers:
        yield readers


def told(found: list[Difference]) -> list[tuple[int, str, str, bool]]:
    """Places in the file from 0, ours, theirs, and whether that is known."""
    return [(each.row_number - 2, each.ours, each.theirs, each.is_known) for each in found]


# Differences of every kind.

AGREEING: list[tuple[Status, Mapping[str, Any] | str | None]] = [
    (Status.ACTIVE, "ACTIVE"),
    (Status.ACTIVE, {"status": "ACTIVE", "locked": True}),
    (Status.DEAD_LETTER, "ACTIVATION_REQUIRED"),
    (Status.DEAD_LETTER, {"locked": True}),
    (Status.DEAD_LETTER, {"blocked": True}),
    (Status.DEAD_LETTER, None),
    (Status.PENDING, "ACTIVATION_REQUIRED"),
    (Status.PENDING, None),
    (Status.CANCELLED, "ACTIVATION_REQUIRED"),
]
DIFFERING: list[tuple[Status, str | None, str]] = [
    (Status.ACTIVE, "ACTIVATION_REQUIRED", "ACTIVATION_REQUIRED"),
    (Status.ACTIVE, None, "not found"),
    (Status.DEAD_LETTER, "ACTIVE", "ACTIVE"),
    (Status.PENDING, "ACTIVE", "ACTIVE"),
    (Status.CANCELLED, "ACTIVE", "ACTIVE"),
]


def test_where_pingone_says_the_same_nothing_differs_and_other_batches_are_left_alone(
    database: MovingDatabase, pingone: PingOne, readers: Readers, keyring: Keyring
) -> None:
    made = make_batch(database, [{"status": status} for status, _ in AGREEING])
    make_batch(database, 2, name="other", status=Status.ACTIVE)
    pingone.seed_devices(database, made, [device for _, device in AGREEING])
    pingone.simulation.change({"latency": 0.05})

    assert readers.verify(check=readers.check(keyring)) == []

    # Every device was read, once; where the file names them all, no inventory is.
    devices = sorted(look(database, record_id).device_id for record_id in made.ids)
    assert sorted(device_id for device_id, _ in pingone.reads()) == devices
    operations = pingone.simulation.call_log.counts()["operations"]
    assert (operations["access_token"], operations.get("list_tokens")) == (1, None)
    # Each thread has a client of its own, this one that for the inventory.
    threads, own = zip(*readers.made, strict=True)
    assert len(set(threads)) == len(set(own)) == THREADS + 1
    assert [theirs for _, _, theirs, _ in told(readers.verify("other"))] == ["not found"] * 2


def test_every_difference_is_told_in_the_order_of_the_file(
    database: MovingDatabase, pingone: PingOne, readers: Readers
) -> None:
    made = make_batch(database, [{"status": Status.ACTIVE}, *({"status": status} for status, _, _ in DIFFERING)])
    pingone.seed_devices(database, made, ["ACTIVE", *(device for _, device, _ in DIFFERING)])

    found = readers.verify()

    expected = [(place, status, theirs, True) for place, (status, _, theirs) in enumerate(DIFFERING, start=1)]
    assert told(found) == expected
    assert found[0].serial_number == look(database, made.ids[1]).serial_number


@pytest.mark.parametrize("times", [2, 4])
def test_a_lost_read_is_made_again_and_one_that_fails_is_no_known_difference(
    database: MovingDatabase, pingone: PingOne, readers: Readers, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr("worker.pingone.client.BACKOFF", tenacity.wait_none())
    made = make_batch(database, 4, status=Status.ACTIVE)
    pingone.seed_devices(database, made, ["ACTIVE"] * 4)
    pingone.simulation.change({"error_statuses": [503], "error_html_share": 0})
    for place, kind in ((1, "error_before"), (2, "garbled")):
        device_id = look(database, made.ids[place]).device_id
        pingone.simulation.faults.orders += [FaultOrder(kind, "read", device_id)] * times  # type: ignore[arg-type]

    found = readers.verify()

    lost = [(1, "active", False), (2, "active", False)] if times == 4 else []
    assert [(place, ours, is_known) for place, ours, _, is_known in told(found)] == lost
    assert all(each.theirs.startswith("could not be read (HTTP ") for each in found)
    assert not found or "503" in found[0].theirs


def test_what_is_not_known_is_told_whatever_the_record_says_and_who_is_not_known_is_not_asked_about(
    database: MovingDatabase,
) -> None:
    make_batch(database, [{"status": status} for status in Status])
    make_batch(database, [{"user_id": "", "status": Status.DEAD_LETTER}], name="nobody's")

    for failure in (Forbidden(Answer(403)), SlotTooFar(1.0)):
        found = list(verify(database, "shipment", lambda *_, failure=failure: failure, 1))
        assert [(each.ours, each.is_known) for each in found] == [(status, False) for status in Status]
    assert list(verify(database, "nobody's", lambda *_: pytest.fail("it was read"), 1)) == []


def test_devices_are_looked_for_where_they_were_loaded_for_and_nowhere_else(
    database: MovingDatabase, pingone: PingOne
) -> None:
    make_batch(database, environment="production")

    found = find_environment(database, "shipment", lambda name: pingone.environment(name=name))
    assert (found.name, found.environment_id) == ("production", ENVIRONMENT_ID)

    with pytest.raises(ConfigError, match=f"loaded for environment {ENVIRONMENT_ID}.*restore PINGONE_ENVIRONMENT_ID"):
        find_environment(database, "shipment", lambda name: pingone.environment(name=name, environment_id="tenant-2"))
    with pytest.raises(UnknownBatch, match="'unheard-of'"):
        find_environment(database, "unheard-of", lambda name: pytest.fail(f"{name} is nobody's"))
    with pytest.raises(UnknownBatch, match="'unheard-of'"):
        list(verify(database, "unheard-of", lambda *_: ACTIVE, 1))


# Many devices, several threads.


@pytest.mark.parametrize("records", [0, 7, 30])
def test_all_records_are_read_once_however_many_pages_they_fill(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch, records: int
) -> None:
    monkeypatch.setattr(verification, "CHUNK", 7)
    made = make_batch(database, records, status=Status.ACTIVE)
    places = {look(database, record_id).device_id: place for place, record_id in enumerate(made.ids)}
    seen = list[int]()

    def read(user_id: str, device_id: str, call: Call) -> Device:
        seen.append(places[device_id])
        return WAITING if places[device_id] % 3 == 0 else ACTIVE

    found = verify(database, made.name, read, THREADS)

    assert sorted(seen) == list(range(records))
    assert [each.row_number - 2 for each in found] == list(range(0, records, 3))


def test_as_many_reads_are_under_way_as_there_are_threads_and_no_transaction_is_open(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "CHUNK", 2 * THREADS)
    make_batch(database, 4 * THREADS, status=Status.ACTIVE)
    all_are_reading, transactions = threading.Barrier(THREADS), list[int]()

    def read(user_id: str, device_id: str, call: Call) -> Device:
        # Each waits for the others: fewer threads would wait for ever.
        all_are_reading.wait(TIMEOUT)
        transactions.append(database.engine.pool.checkedout())  # type: ignore[attr-defined]
        return ACTIVE

    assert verify(database, "shipment", read, THREADS) == []
    assert transactions == [0] * 4 * THREADS


def test_a_failure_of_our_own_is_not_taken_for_a_difference_and_nothing_is_read_after_it(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "CHUNK", 8)
    make_batch(database, 100, status=Status.ACTIVE)
    reads = list[str]()

    def read(user_id: str, device_id: str, call: Call) -> Device:
        reads.append(device_id)
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        verify(database, "shipment", read, THREADS)
    assert len(reads) <= 8


def test_a_read_that_waits_long_for_its_slot_does_not_hide_how_many_others_are_done(database: MovingDatabase) -> None:
    """The first device of the file is answered only when it was told that all others are read."""
    made = make_batch(database, 5, status=Status.ACTIVE)
    first, others_are_told, heard = look(database, made.ids[0]).device_id, threading.Event(), Heard()

    def hear(what: str, done: int, total: int | None = None) -> None:
        heard(what, done, total)
        if done == 4:
            others_are_told.set()

    def read(user_id: str, device_id: str, call: Call) -> Device:
        assert device_id != first or others_are_told.wait(TIMEOUT)
        return WAITING

    found = verify(database, "shipment", read, THREADS, on_progress=hear)

    assert heard == [("Reading devices back", done, 5) for done in range(6)]
    # The differences come in the order of the file all the same.
    assert [each.row_number for each in found] == [2, 3, 4, 5, 6]


# Patience.


@pytest.mark.parametrize(
    ("failure", "times", "asked"),
    [
        (SlotTooFar(0.001), 100, 101),
        (PaceOutOfReach(0.001), 4, 5),
        # Redis out of reach is told in the end, and every other failure at once.
        (PaceOutOfReach(0.001), 1000, 5),
        (NotFound(Answer(404)), 1000, 1),
    ],
)
def test_a_read_waits_for_a_slot_and_for_redis_and_no_other_failure_is_asked_again(
    database: MovingDatabase, failure: Exception, times: int, asked: int
) -> None:
    failures, calls = [failure] * times, list[str]()

    class Crowded:
        def read_device(self, user_id: str, device_id: str, *, call: Call) -> Device:
            calls.append(device_id)
            if failures:
                raise failures.pop()
            return ACTIVE

    client: Any = Crowded()
    answer = make_device_reader(lambda: client)("user", "device", Call("session", "transaction"))
    assert (answer, len(calls)) == (failure if times == 1000 else ACTIVE, asked)


def test_a_hold_of_the_fleet_is_waited_for(database: MovingDatabase, pingone: PingOne, readers: Readers) -> None:
    """Longer than a worker would wait for its slot: it would hand its record back."""
    made = make_batch(database, 6, status=Status.ACTIVE)
    pingone.seed_devices(database, made, ["ACTIVE"] * 6)
    hold = 4 * readers.settings.tuning.furthest_slot
    began_at = time.monotonic()
    readers.paces.of(readers.environments.get("default")).hold(hold)

    assert readers.verify() == []
    assert [read_at >= began_at + hold for _, read_at in pingone.reads()] == [True] * 6


# Tokens.


def test_a_token_is_looked_for_in_the_inventory_which_is_read_once(
    database: MovingDatabase, pingone: PingOne, readers: Readers, keyring: Keyring
) -> None:
    """Four records without a device, the first three of which have their token in the inventory; that of the second is
    somebody's device, that of the third its own person's. And one whose device is ACTIVE, but whose token has gone to
    another person."""
    lacking = {"device_id": "", "is_token_made": True, "status": Status.CANCELLED}
    active = {"status": Status.ACTIVE, "is_device_made": True}
    made = make_batch(database, [lacking | {"status": Status.PENDING}, *[lacking] * 3, active])
    free, others, own, _, moved = (look(database, record_id) for record_id in made.ids)
    pingone.seed_devices(database, made, [*[None] * 4, {"status": "ACTIVE", "serial": "ANOTHER"}])
    pingone.seed(tokens=[{"serial": free.serial_number}])
    for record, user_id in ((others, "somebody"), (own, own.user_id), (moved, "nobody")):
        pingone.seed(devices=[{"serial": record.serial_number, "user_id": user_id, "device_id": f"of-{user_id}"}])

    assert told(readers.verify(check=readers.check(keyring))) == [
        (1, "cancelled", "paired with another person", True),
        (2, "cancelled", "paired with this person, as a device that the record does not have", True),
        (3, "cancelled", "not in the inventory", True),
        (4, "active", "paired with another person", True),
    ]
    operations = pingone.simulation.call_log.counts()["operations"]
    assert (operations["list_tokens"], operations["read"]) == (1, 1)


def test_an_inventory_that_may_not_be_read_is_told_once_with_the_number_of_records_that_need_it(
    database: MovingDatabase, pingone: PingOne, readers: Readers, keyring: Keyring
) -> None:
    """One has no device, one has a device that the batch made, and one brought its device with it."""
    records = [{"device_id": ""}, {"status": Status.ACTIVE, "is_device_made": True}, {"status": Status.ACTIVE}]
    made = make_batch(database, records)
    pingone.seed_devices(database, made, [None, "ACTIVE", "ACTIVE"])
    pingone.simulation.change({"forbidden_groups": ["inventory"]})
    check = readers.check(keyring)

    assert readers.verify(check=check) == []
    assert (str(check.failure)[:8], check.unread) == ("HTTP 403", 2)
