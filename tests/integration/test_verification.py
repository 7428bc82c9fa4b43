"""Every device of a batch is read back, and its truth compared with ours: on both databases, against the simulator."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest
import tenacity
from pydantic import SecretStr
from redis import Redis
from support.data.batches import ENVIRONMENT_ID, Made, look, make_batch
from support.data.moving_clock import MovingDatabase
from support.data.progress import Heard
from support.simulator.simulation import FaultOrder, WatchedSimulation

from models.encrypted import Keyring
from models.record_states import Status
from worker.batches.finding import UnknownBatch, find_environment
from worker.config.environment import Environment
from worker.config.settings import ConfigError, Settings, Tuning
from worker.pace.errors import PaceOutOfReach, SlotTooFar
from worker.pace.rate_groups import RateGroup
from worker.pace.slots import Pace
from worker.pingone.client import Call, Client
from worker.pingone.devices import Device
from worker.pingone.errors import Answer, Forbidden, NotFound, PingOneError
from worker.process.parts import Parts
from worker.reports import verification
from worker.reports.verification import Difference, TokenCheck, make_device_reader, verify
from worker.simulator.world import CLIENT_ID, CLIENT_SECRET, WorldSeed

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

    def seed(self, database: MovingDatabase, made: Made, devices: list[Mapping[str, Any] | str | None]) -> None:
        seeds = [
            {"serial": record.serial_number, "user_id": record.user_id, "device_id": record.device_id}
            | ({"status": device} if isinstance(device, str) else device)
            for record, device in zip((look(database, record_id) for record_id in made.ids), devices, strict=True)
            if device is not None
        ]
        world = {"environment_id": ENVIRONMENT_ID, "devices": seeds}
        self.simulation.seed(WorldSeed.model_validate(world))

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
        return [
            (entry.device_id or "", entry.arrived_at)
            for entry in self.simulation.call_log.entries()
            if entry.operation == "read"
        ]


@pytest.fixture
def pingone(listening: tuple[WatchedSimulation, str]) -> PingOne:
    """One in which there is no device yet."""
    pingone = PingOne(*listening)
    pingone.simulation.reset()
    return pingone


class Readers(Parts):
    """The parts of a process that reads; the clients of its threads are closed in the end."""

    def __init__(
        self,
        database: MovingDatabase,
        pingone: PingOne,
        redis_url: str,
        furthest_slot: float = 0.2,
        rate: float = 1000,
    ) -> None:
        settings = Settings(
            redis_url=SecretStr(redis_url), concurrency=THREADS, tuning=Tuning(furthest_slot=furthest_slot)
        )
        super().__init__(settings, lambda name: pingone.environment(name=name, rate=rate))
        self.database = database
        # By the thread that each belongs to.
        self.made = set[tuple[int, Client]]()

    def client(self) -> Client:
        """The calling thread's own."""
        client = self.clients.of(self.environments.get("default"))
        self.made.add((threading.get_ident(), client))
        return client

    def close(self) -> None:
        for _, client in self.made:
            client.close()
        self.redis.close()


@pytest.fixture
def readers(database: MovingDatabase, pingone: PingOne, valkey_url: str) -> Iterator[Readers]:
    with closing(Readers(database, pingone, valkey_url)) as readers:
        yield readers


def differences(database: MovingDatabase, readers: Readers, name: str = "shipment") -> list[Difference]:
    return list(verify(database, name, make_device_reader(readers.client), THREADS))


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


def test_where_pingone_says_the_same_nothing_differs(
    database: MovingDatabase, pingone: PingOne, readers: Readers
) -> None:
    made = make_batch(database, [{"status": status} for status, _ in AGREEING])
    pingone.seed(database, made, [device for _, device in AGREEING])

    assert differences(database, readers) == []

    # Every device was read, once.
    assert sorted(device_id for device_id, _ in pingone.reads()) == sorted(
        look(database, record_id).device_id for record_id in made.ids
    )


def test_every_difference_is_told_in_the_order_of_the_file(
    database: MovingDatabase, pingone: PingOne, readers: Readers
) -> None:
    both = [(status, device) for status, device, _ in DIFFERING for _ in range(2)]
    made = make_batch(database, [{"status": Status.ACTIVE}, *({"status": status} for status, _ in both)])
    pingone.seed(database, made, ["ACTIVE", *(device for _, device in both)])

    found = differences(database, readers)

    assert told(found) == [
        (place, status, theirs, True)
        for place, (status, _, theirs) in enumerate((each for each in DIFFERING for _ in range(2)), start=1)
    ]
    assert found[0].serial_number == look(database, made.ids[1]).serial_number


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost reads are made again at once."""
    monkeypatch.setattr("worker.pingone.client.BACKOFF", tenacity.wait_none())


def order_losses(database: MovingDatabase, pingone: PingOne, made: Made, times: int) -> None:
    """Let so many reads of two devices in a row come to nothing."""
    pingone.simulation.change({"error_statuses": [503], "error_html_share": 0})
    for place, kind in ((1, "error_before"), (2, "garbled")):
        device_id = look(database, made.ids[place]).device_id
        pingone.simulation.faults.orders += [FaultOrder(kind, "read", device_id)] * times  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_backoff")
def test_a_lost_read_is_made_again(database: MovingDatabase, pingone: PingOne, readers: Readers) -> None:
    made = make_batch(database, 4, status=Status.ACTIVE)
    pingone.seed(database, made, ["ACTIVE"] * 4)
    order_losses(database, pingone, made, 2)

    assert differences(database, readers) == []


@pytest.mark.usefixtures("no_backoff")
def test_a_device_that_cannot_be_read_is_no_known_difference(
    database: MovingDatabase, pingone: PingOne, readers: Readers
) -> None:
    made = make_batch(database, 4, status=Status.ACTIVE)
    pingone.seed(database, made, ["ACTIVE"] * 4)
    order_losses(database, pingone, made, 4)

    found = differences(database, readers)

    assert [(place, ours, is_known) for place, ours, _, is_known in told(found)] == [
        (1, "active", False),
        (2, "active", False),
    ]
    assert all(each.theirs.startswith("could not be read (HTTP ") for each in found)
    assert "503" in found[0].theirs


def test_what_is_not_known_is_told_whatever_the_record_says(database: MovingDatabase) -> None:
    make_batch(database, [{"status": status} for status in Status])

    for failure in (Forbidden(Answer(403)), SlotTooFar(1.0)):
        found = list(verify(database, "shipment", lambda *_, failure=failure: failure, 1))
        assert [(each.ours, each.is_known) for each in found] == [(status, False) for status in Status]


def test_a_device_of_a_person_who_is_not_known_is_not_read(database: MovingDatabase) -> None:
    make_batch(database, [{"user_id": "", "status": Status.DEAD_LETTER}])
    assert list(verify(database, "shipment", lambda *_: pytest.fail("it was read"), 1)) == []


def test_other_batches_are_left_alone(database: MovingDatabase, pingone: PingOne, readers: Readers) -> None:
    made = make_batch(database, 2, status=Status.ACTIVE)
    other = make_batch(database, 2, name="other", status=Status.ACTIVE)
    pingone.seed(database, made, ["ACTIVE", "ACTIVE"])

    assert differences(database, readers) == []
    assert [theirs for _, _, theirs, _ in told(differences(database, readers, other.name))] == ["not found"] * 2


def test_a_batch_that_is_not_there_is_told(database: MovingDatabase) -> None:
    with pytest.raises(UnknownBatch, match="'unheard-of'"):
        list(verify(database, "unheard-of", lambda *_: ACTIVE, 1))
    with pytest.raises(UnknownBatch, match="'unheard-of'"):
        find_environment(database, "unheard-of", lambda name: pytest.fail(f"{name} is nobody's"))


# The tenant that the batch was loaded for.


def test_devices_are_looked_for_where_they_were_loaded_for_and_nowhere_else(
    database: MovingDatabase, pingone: PingOne
) -> None:
    make_batch(database, environment="production")

    found = find_environment(database, "shipment", lambda name: pingone.environment(name=name))
    assert (found.name, found.environment_id) == ("production", ENVIRONMENT_ID)

    with pytest.raises(ConfigError, match=f"loaded for environment {ENVIRONMENT_ID}.*restore PINGONE_ENVIRONMENT_ID"):
        find_environment(database, "shipment", lambda name: pingone.environment(name=name, environment_id="tenant-2"))


# Many devices, several threads.


def devices_of(database: MovingDatabase, made: Made) -> dict[str, int]:
    """Places in the file by device id."""
    return {look(database, record_id).device_id: place for place, record_id in enumerate(made.ids)}


@pytest.mark.parametrize("records", [0, 1, 7, 8, 30])
def test_all_records_are_read_once_however_many_pages_they_fill(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch, records: int
) -> None:
    monkeypatch.setattr(verification, "CHUNK", 7)
    made = make_batch(database, records, status=Status.ACTIVE)
    places, seen = devices_of(database, made), list[int]()

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
    made = make_batch(database, 4 * THREADS, status=Status.ACTIVE)
    all_are_reading = threading.Barrier(THREADS)
    transactions = list[int]()

    def read(user_id: str, device_id: str, call: Call) -> Device:
        # Each waits for the others: fewer threads would wait for ever.
        all_are_reading.wait(TIMEOUT)
        transactions.append(database.engine.pool.checkedout())  # type: ignore[attr-defined]
        return ACTIVE

    assert verify(database, made.name, read, THREADS) == []
    assert transactions == [0] * 4 * THREADS


def test_each_thread_has_a_client_of_its_own_and_all_share_an_access_token(
    database: MovingDatabase, pingone: PingOne, readers: Readers
) -> None:
    made = make_batch(database, 12, status=Status.ACTIVE)
    pingone.seed(database, made, ["ACTIVE"] * 12)
    pingone.simulation.change({"latency": 0.05})

    assert differences(database, readers) == []

    threads, own = {thread for thread, _ in readers.made}, {client for _, client in readers.made}
    assert len(threads) == len(own) == len(readers.made) == THREADS
    assert pingone.simulation.call_log.counts()["operations"]["access_token"] == 1


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


# Patience.


class Crowded:
    """A client that gets no slot so many times."""

    def __init__(self, failure: SlotTooFar, times: int) -> None:
        self.failure = failure
        self.left = times
        self.asked = 0

    def read_device(self, user_id: str, device_id: str, *, call: Call) -> Device:
        self.asked += 1
        self.left -= 1
        if self.left >= 0:
            raise self.failure
        return ACTIVE


def read_with(client: Any) -> Device | PingOneError:
    return make_device_reader(lambda: client)("user", "device", Call("session", "transaction"))


@pytest.mark.parametrize("times", [0, 1, 4, 5, 100])
def test_a_read_waits_for_a_slot_when_the_fleet_leaves_none(times: int) -> None:
    client = Crowded(SlotTooFar(0.001), times)
    assert read_with(client) is ACTIVE
    assert client.asked == times + 1


@pytest.mark.parametrize(("times", "asked"), [(4, 5), (1000, 5)])
def test_redis_out_of_reach_is_told_in_the_end(times: int, asked: int) -> None:
    client = Crowded(PaceOutOfReach(0.001), times)
    assert isinstance(read_with(client), PaceOutOfReach) == (times >= asked)
    assert client.asked == asked


def test_no_other_failure_is_asked_again() -> None:
    asked = list[int]()

    class Refused:
        def read_device(self, user_id: str, device_id: str, *, call: Call) -> Device:
            asked.append(1)
            raise NotFound(Answer(404))

    assert isinstance(read_with(Refused()), NotFound)
    assert asked == [1]


def test_a_hold_of_the_fleet_is_waited_for(database: MovingDatabase, pingone: PingOne, readers: Readers) -> None:
    """Longer than a worker would wait for its slot: it would hand its record back."""
    made = make_batch(database, 6, status=Status.ACTIVE)
    pingone.seed(database, made, ["ACTIVE"] * 6)
    hold = 4 * readers.settings.tuning.furthest_slot
    began_at = time.monotonic()
    readers.paces.of(readers.environments.get("default")).hold(hold)

    assert differences(database, readers) == []

    reads = pingone.reads()
    assert len(reads) == 6
    assert all(read_at >= began_at + hold for _, read_at in reads)


def test_beside_a_fleet_that_takes_every_slot_each_device_is_read(
    database: MovingDatabase, pingone: PingOne, valkey_url: str
) -> None:
    made = make_batch(database, 6, status=Status.ACTIVE)
    pingone.seed(database, made, ["ACTIVE"] * 6)
    with closing(Readers(database, pingone, valkey_url, rate=50)) as readers, crowd(valkey_url, readers):
        assert differences(database, readers) == []

    assert len(pingone.reads()) == 6


@contextmanager
def crowd(valkey_url: str, readers: Readers) -> Iterator[None]:
    """More workers than there are slots within their reach, each of which asks for the next as soon as it had one."""
    environment, is_over = readers.environments.get("default"), threading.Event()
    threads = round(2 * environment.rate * readers.settings.tuning.furthest_slot)

    def work(redis: Redis) -> None:
        pace = Pace(redis, environment.license, environment.rate, furthest=readers.settings.tuning.furthest_slot)
        while not is_over.is_set():
            try:
                pace.wait()
            except SlotTooFar as far:
                # As long as it takes to hand a record back and to take the next.
                is_over.wait(min(far.wait, 0.01))

    with closing(Redis.from_url(valkey_url)) as redis, ThreadPoolExecutor(threads) as pool:
        workers = [pool.submit(work, redis) for _ in range(threads)]
        try:
            yield
        finally:
            is_over.set()
    for worker in workers:
        worker.result()


def test_without_redis_nothing_is_read_and_nothing_is_claimed(database: MovingDatabase, pingone: PingOne) -> None:
    made = make_batch(database, 2, status=Status.ACTIVE)
    pingone.seed(database, made, ["ACTIVE"] * 2)
    with closing(Readers(database, pingone, "redis://127.0.0.1:1/0", furthest_slot=0.01)) as readers:
        found = differences(database, readers)

    assert [each.is_known for each in found] == [False, False]
    assert pingone.reads() == []


# Tokens.


def make_check(readers: Readers, keyring: Keyring) -> TokenCheck:
    environment = readers.environments.get("default")
    # The calling thread reads the inventory.
    readers.made.add((threading.get_ident(), readers.clients.of(environment, RateGroup.INVENTORY)))
    return TokenCheck(lambda: readers.clients.reads(environment), keyring)


def tokens_differing(database: MovingDatabase, readers: Readers, keyring: Keyring) -> list[Difference]:
    check = make_check(readers, keyring)
    return list(verify(database, "shipment", make_device_reader(readers.client), THREADS, check))


@pytest.fixture
def made_tokens(database: MovingDatabase, pingone: PingOne) -> Made:
    """Records without a device, the first three of which have their token in the inventory; that of the second is
    somebody's device, that of the third its own person's."""
    lacking = {"device_id": "", "is_token_made": True}
    made = make_batch(database, [lacking | {"status": status} for status in (Status.PENDING, *[Status.CANCELLED] * 3)])
    there = [look(database, record_id) for record_id in made.ids[:3]]
    users = (None, "somebody", there[2].user_id)
    for record, user_id in zip(there, users, strict=True):
        token = {"serial": record.serial_number}
        device = token | {"user_id": user_id, "device_id": f"of-{user_id}"}
        world = {"devices": [device]} if user_id else {"tokens": [token]}
        pingone.simulation.seed(WorldSeed.model_validate({"environment_id": ENVIRONMENT_ID} | world))
    return made


def test_a_record_without_a_device_is_looked_for_in_the_inventory_which_is_read_once(
    database: MovingDatabase, pingone: PingOne, readers: Readers, keyring: Keyring, made_tokens: Made
) -> None:
    assert told(tokens_differing(database, readers, keyring)) == [
        (1, "cancelled", "paired with another person", True),
        (2, "cancelled", "paired with this person, as a device that the record does not have", True),
        (3, "cancelled", "not in the inventory", True),
    ]
    operations = pingone.simulation.call_log.counts()["operations"]
    assert (operations.get("list_tokens"), operations.get("read")) == (1, None)


def test_an_inventory_that_may_not_be_read_is_told_once_with_the_number_of_records_that_need_it(
    database: MovingDatabase, pingone: PingOne, readers: Readers, keyring: Keyring
) -> None:
    """One has no device, one has a device that the batch made, and one brought its device with it."""
    records = [{"device_id": ""}, {"status": Status.ACTIVE, "is_device_made": True}, {"status": Status.ACTIVE}]
    made = make_batch(database, records)
    pingone.seed(database, made, [None, "ACTIVE", "ACTIVE"])
    pingone.simulation.change({"forbidden_groups": ["inventory"]})
    check = make_check(readers, keyring)

    assert list(verify(database, "shipment", make_device_reader(readers.client), THREADS, check)) == []

    assert (str(check.failure)[:8], check.unread) == ("HTTP 403", 2)


def test_a_batch_whose_file_names_every_device_needs_no_inventory(
    database: MovingDatabase, pingone: PingOne, readers: Readers, keyring: Keyring
) -> None:
    made = make_batch(database, 2, status=Status.ACTIVE)
    pingone.seed(database, made, ["ACTIVE", "ACTIVE"])
    assert tokens_differing(database, readers, keyring) == []
    assert "list_tokens" not in pingone.simulation.call_log.counts()["operations"]


def test_an_active_record_whose_token_is_another_persons_now_differs(
    database: MovingDatabase, pingone: PingOne, readers: Readers, keyring: Keyring
) -> None:
    """The device was read and is ACTIVE; the token has gone elsewhere."""
    made = make_batch(database, [{"status": Status.ACTIVE, "is_device_made": True}])
    record = look(database, made.id)
    pingone.seed(database, made, [{"status": "ACTIVE", "serial": "ANOTHER"}])
    device = {"serial": record.serial_number, "user_id": "somebody", "device_id": "elsewhere"}
    pingone.simulation.seed(WorldSeed.model_validate({"environment_id": ENVIRONMENT_ID, "devices": [device]}))
    assert told(tokens_differing(database, readers, keyring)) == [(0, "active", "paired with another person", True)]


def test_it_is_told_how_far_a_verification_is(database: MovingDatabase) -> None:
    make_batch(database, 3, status=Status.ACTIVE)
    heard = Heard()

    list(verify(database, "shipment", lambda *_: ACTIVE, THREADS, on_progress=heard))

    assert heard == [("Reading devices back", done, 3) for done in range(4)]


def test_a_read_that_waits_long_for_its_slot_does_not_hide_how_many_others_are_done(database: MovingDatabase) -> None:
    """The first device of the file is answered only when it was told that all others are read."""
    made = make_batch(database, 5, status=Status.ACTIVE)
    first, others_are_told, heard = look(database, made.ids[0]).device_id, threading.Event(), Heard()

    def hear(what: str, done: int, total: int | None = None) -> None:
        heard(what, done, total)
        if done == 4:
            others_are_told.set()

    def read(user_id: str, device_id: str, call: Call) -> Device:
        if device_id == first:
            assert others_are_told.wait(TIMEOUT)
        return WAITING

    found = list(verify(database, "shipment", read, THREADS, on_progress=hear))

    assert heard == [("Reading devices back", done, 5) for done in range(6)]
    # The differences come in the order of the file all the same.
    assert [each.row_number for each in found] == [2, 3, 4, 5, 6]


def test_after_a_read_that_failed_unexpectedly_no_further_one_goes_out(database: MovingDatabase) -> None:
    make_batch(database, 50, status=Status.ACTIVE)
    reads = list[str]()

    def read(user_id: str, device_id: str, call: Call) -> Device:
        reads.append(device_id)
        raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        list(verify(database, "shipment", read, 1))
    assert len(reads) < 50
