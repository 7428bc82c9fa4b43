"""What is read of PingOne, against the simulator, which shares no code with our client: every device of a batch is read
back, and its truth compared with ours; and what a preflight asks."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any
from unittest.mock import Mock

import pytest
import tenacity
from support.data.batches import ENVIRONMENT_ID, Made, look, make_batch, make_environment
from support.data.moving_clock import ON_SQLITE, MovingDatabase
from support.data.progress import Heard
from support.data.undo_desk import Desk, PingOne

from models.encrypted import Keyring
from models.record_states import Status
from worker.batches.finding import UnknownBatch, find_environment
from worker.config.settings import ConfigError
from worker.pace.search import SlotTooFar
from worker.pingone.client import Call
from worker.pingone.clients import Reads
from worker.pingone.devices import Device, UserAttribute
from worker.pingone.errors import Answer, Forbidden
from worker.reports import verification
from worker.reports.verification import Difference, TokenCheck, make_device_reader, verify

# The statements differ in nothing between the databases.
pytestmark = ON_SQLITE

ACTIVE = Device("ACTIVE", is_locked=False, is_blocked=False, answer=Answer(200))
WAITING = Device("ACTIVATION_REQUIRED", is_locked=False, is_blocked=False, answer=Answer(200))
THREADS = 4
# Seconds; where nothing is wrong nobody waits so long.
TIMEOUT = 30.0


@pytest.fixture
def desk(database: MovingDatabase, pingone: PingOne, valkey_url: str, keyring: Keyring) -> Iterator[Desk]:
    with closing(Desk(database, pingone, valkey_url, keyring)) as desk:
        yield desk


def seed_devices(pingone: PingOne, database: MovingDatabase, made: Made, devices: Sequence[Any]) -> None:
    """Let PingOne have the devices of records, given by their status or by what differs; None: there is no such
    device."""
    for record_id, device in zip(made.ids, devices, strict=True):
        if device is not None:
            pingone.give(look(database, record_id), **({"status": device} if isinstance(device, str) else device))


def verify_all(desk: Desk, name: str = "shipment", check: TokenCheck | None = None) -> list[Difference]:
    read = make_device_reader(lambda: desk.clients.client(desk.environment))
    return list(verify(desk.database, name, read, check, threads=THREADS))


def check_of(desk: Desk) -> TokenCheck:
    return TokenCheck(lambda: desk.clients.reads(desk.environment), desk.keyring)


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
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make_batch(database, [{"status": status} for status, _ in AGREEING])
    make_batch(database, 2, name="other", status=Status.ACTIVE)
    seed_devices(pingone, database, made, [device for _, device in AGREEING])
    pingone.simulation.change({"latency": 0.05})

    assert verify_all(desk, check=check_of(desk)) == []

    # Every device was read, once; where the file names them all, no inventory is.
    devices = sorted(look(database, record_id).device_id for record_id in made.ids)
    assert sorted(entry.device_id for entry in reads_of(pingone)) == devices
    assert (pingone.calls("access_token"), pingone.calls("list_tokens")) == (["access_token"], [])
    # Each thread had a client of its own.
    assert len(set(desk._made)) == THREADS
    assert [theirs for _, _, theirs, _ in told(verify_all(desk, "other"))] == ["not found"] * 2


def reads_of(pingone: PingOne) -> list[Any]:
    """The reads of devices that arrived."""
    return [entry for entry in pingone.simulation.call_log.entries() if entry.operation == "read"]


def test_every_difference_is_told_in_the_order_of_the_file(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make_batch(database, [{"status": Status.ACTIVE}, *({"status": status} for status, _, _ in DIFFERING)])
    seed_devices(pingone, database, made, ["ACTIVE", *(device for _, device, _ in DIFFERING)])

    found = verify_all(desk)

    assert told(found) == [
        (place, status, theirs, True) for place, (status, _, theirs) in enumerate(DIFFERING, start=1)
    ]
    assert found[0].serial_number == look(database, made.ids[1]).serial_number


@pytest.mark.parametrize("times", [2, 4])
def test_a_lost_read_is_made_again_and_one_that_fails_is_no_known_difference(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr("worker.pingone.retry_policy.BACKOFF", tenacity.wait_none())
    made = make_batch(database, 4, status=Status.ACTIVE)
    seed_devices(pingone, database, made, ["ACTIVE"] * 4)
    pingone.simulation.change({"error_statuses": [503], "error_html_share": 0})
    for place, kind in ((1, "error_before"), (2, "garbled")) * times:
        pingone.order(kind, "read", look(database, made.ids[place]).device_id)

    found = verify_all(desk)

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
        found = list(verify(database, "shipment", lambda *_, failure=failure: failure, threads=1))
        assert [(each.ours, each.is_known) for each in found] == [(status, False) for status in Status]
    assert list(verify(database, "nobody's", lambda *_: pytest.fail("it was read"), threads=1)) == []


def test_devices_are_looked_for_where_they_were_loaded_for_and_nowhere_else(database: MovingDatabase) -> None:
    make_batch(database, environment="production")

    found = find_environment(database, "shipment", lambda name: make_environment(name=name))
    assert (found.name, found.environment_id) == ("production", ENVIRONMENT_ID)

    with pytest.raises(ConfigError, match=f"loaded for environment {ENVIRONMENT_ID}.*restore PINGONE_ENVIRONMENT_ID"):
        find_environment(database, "shipment", lambda name: make_environment(name=name, environment_id="tenant-2"))
    with pytest.raises(UnknownBatch, match="'unheard-of'"):
        find_environment(database, "unheard-of", lambda name: pytest.fail(f"{name} is nobody's"))
    with pytest.raises(UnknownBatch, match="'unheard-of'"):
        list(verify(database, "unheard-of", lambda *_: ACTIVE, threads=1))


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

    found = [each.row_number - 2 for each in verify(database, made.name, read, threads=THREADS)]

    assert (sorted(seen), found) == (list(range(records)), list(range(0, records, 3)))


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

    assert verify(database, "shipment", read, threads=THREADS) == []
    assert transactions == [0] * 4 * THREADS


def test_a_failure_of_our_own_is_not_taken_for_a_difference_and_nothing_is_read_after_it(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "CHUNK", 8)
    make_batch(database, 100, status=Status.ACTIVE)
    read = Mock(side_effect=RuntimeError("a fault"))

    with pytest.raises(RuntimeError, match="a fault"):
        verify(database, "shipment", read, threads=THREADS)
    assert read.call_count <= 8


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

    found = verify(database, "shipment", read, on_progress=hear, threads=THREADS)

    assert heard == [("Reading devices back", done, 5) for done in range(6)]
    # The differences come in the order of the file all the same.
    assert [each.row_number for each in found] == [2, 3, 4, 5, 6]


def test_a_hold_of_the_fleet_is_waited_for(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    """Longer than a worker would wait for its slot: it would hand its record back."""
    made = make_batch(database, 6, status=Status.ACTIVE)
    seed_devices(pingone, database, made, ["ACTIVE"] * 6)
    hold = 4 * desk.settings.tuning.furthest_slot
    began_at = time.monotonic()
    desk.paces.of(desk.environment).hold(hold)

    assert verify_all(desk) == []
    assert [entry.arrived_at >= began_at + hold for entry in reads_of(pingone)] == [True] * 6


# Tokens.


def test_a_token_is_looked_for_in_the_inventory_which_is_read_once(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    """Four records without a device, the first three of which have their token in the inventory; that of the second is
    somebody's device, that of the third its own person's. And one whose device is ACTIVE, but whose token has gone to
    another person."""
    lacking = {"device_id": "", "is_token_made": True, "status": Status.CANCELLED}
    active = {"status": Status.ACTIVE, "is_device_made": True}
    made = make_batch(database, [lacking | {"status": Status.PENDING}, *[lacking] * 3, active])
    free, others, own, _, moved = (look(database, record_id) for record_id in made.ids)
    seed_devices(pingone, database, made, [*[None] * 4, {"status": "ACTIVE", "serial": "ANOTHER"}])
    pingone.seed(tokens=[{"serial": free.serial_number}])
    for record, user_id in ((others, "somebody"), (own, own.user_id), (moved, "nobody")):
        pingone.seed(devices=[{"serial": record.serial_number, "user_id": user_id, "device_id": f"of-{user_id}"}])

    assert told(verify_all(desk, check=check_of(desk))) == [
        (1, "cancelled", "paired with another person", True),
        (2, "cancelled", "paired with this person, as a device that the record does not have", True),
        (3, "cancelled", "not in the inventory", True),
        (4, "active", "paired with another person", True),
    ]
    assert sorted(pingone.calls("list_tokens", "read")) == ["list_tokens", "read"]


def test_an_inventory_that_may_not_be_read_is_told_once_with_the_number_of_records_that_need_it(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    """One has no device, one has a device that the batch made, and one brought its device with it."""
    records = [{"device_id": ""}, {"status": Status.ACTIVE, "is_device_made": True}, {"status": Status.ACTIVE}]
    made = make_batch(database, records)
    seed_devices(pingone, database, made, [None, "ACTIVE", "ACTIVE"])
    pingone.simulation.change({"forbidden_groups": ["inventory"]})
    check = check_of(desk)

    assert verify_all(desk, check=check) == []
    assert (str(check.failure)[:8], check.unread) == ("HTTP 403", 2)


# What a preflight asks.

CALL = Call("check-1", "reads")


@pytest.fixture
def reads(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Reads:
    """At paces that are faster than any test, so that nothing but holds delays a request."""
    monkeypatch.setattr("worker.pace.license_paces.choose_rates", lambda *_: (100_000.0, 100_000.0))
    monkeypatch.setattr("worker.pingone.retry_policy.BACKOFF", lambda _: 0.0)
    return desk.clients.reads(desk.environment)


@pytest.mark.parametrize("name", ['a" or username sw "', "DOMAIN\\ada", "a+b&c=d#e f%20", "Zoë 🔑", "(x) or y"])
def test_a_name_of_any_kind_finds_its_user_alone(reads: Reads, pingone: PingOne, name: str) -> None:
    pingone.seed(users=[{"user_id": "wanted", "username": name}, {"user_id": "other"}])
    (user,) = reads.find_users(UserAttribute.USERNAME, [name], call=CALL)
    assert (user.id, user.find(UserAttribute.USERNAME)) == ("wanted", name)


@pytest.mark.parametrize("place", ["inline", "embedded"])
def test_the_inventory_is_listed_to_its_end(reads: Reads, pingone: PingOne, place: str) -> None:
    totp = {"type": "totp", "digits": 8, "hash": "sha512", "time_step": 60}
    pingone.seed(
        tokens=[{"serial": f"FREE{number}"} | totp for number in range(25)],
        devices=[{"serial": "MADE1", "user_id": "u1", "device_id": "d1"}],
        settings={"page_size": 10, "expanded_devices": place},
    )
    pages = [page.items for page in reads.list_tokens(call=CALL)]
    tokens = [token for page in pages for token in page]
    assert [len(page) for page in pages] == [10, 10, 6]
    assert [token.serial_number for token in tokens] == [*(f"FREE{number}" for number in range(25)), "MADE1"]
    assert [(each.type, each.digits, each.hash_name, each.time_step) for each in (tokens[0], tokens[25])] == [
        ("TOTP", 8, "sha512", 60),
        ("HOTP", 6, "sha1", None),
    ]
    assert [(each.device_id, each.user_id) for each in (tokens[0], tokens[25])] == [(None, None), ("d1", "u1")]
