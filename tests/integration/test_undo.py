"""What a batch made is taken away again, and nothing else: on both databases, against the simulator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Update, insert, select, update
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, look, make_batch, statuses
from support.data.moving_clock import MovingDatabase

from models.batch import Batch, BatchState
from models.encrypted import Keyring
from models.inventory_job import InventoryJob, JobKind, JobState
from models.reason import PauseReason
from models.record import Record
from models.record_states import NOBODY, OtpState, PairingState, Status
from worker import audit
from worker.batches.commands import NotPossible
from worker.batches.undo import chunks, revocation, unpairing
from worker.batches.undo.obstacles import CannotGoOn
from worker.batches.undo.read_back import Heir
from worker.batches.undo.removal import End, Outcome, Removal
from worker.batches.undo.revocation import Revocation, Revoked
from worker.batches.undo.revocation_jobs import RevocationJobs
from worker.batches.undo.unpairing import Unpairing
from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.leases.undoing import note_tokens_gone
from worker.pace.rate_groups import RateGroup
from worker.pingone.client import Client
from worker.pingone.errors import NotDelivered, NotFound
from worker.pingone.pairings import Pairings
from worker.process.undo_parts import UndoParts
from worker.simulator.call_log import CallLog
from worker.simulator.faults import FaultOrder
from worker.simulator.seeding import CLIENT_ID, CLIENT_SECRET, WorldSeed
from worker.simulator.server import running
from worker.simulator.simulation import Simulation

OURS = {"is_device_made": True, "pairing": PairingState.PAIRED}
OPEN = {"device_id": "", "pairing": PairingState.SENT, "pairings": 1, "owner_id": NOBODY}
# The status of a device by that of its record.
STATUSES = {Status.ACTIVE: "ACTIVE"}


class PingOne:
    """A simulator whose world is that of a batch's devices."""

    def __init__(self, simulation: Simulation, url: str) -> None:
        self.simulation = simulation
        self.url = url

    def seed(self, **world: Any) -> None:
        self.simulation.seed(WorldSeed.model_validate({"environment_id": ENVIRONMENT_ID} | world))

    def devices(self) -> set[str]:
        return {device.id for device in self.simulation.world.devices()}

    def tokens(self) -> set[str]:
        return {token.serial_number for token in self.simulation.world.inventory.all_tokens()}

    def calls(self, *operations: str) -> list[str]:
        """Operations that were called, in their order."""
        called = (entry.operation for entry in self.simulation.call_log.entries())
        return [operation for operation in called if operation in operations]

    def order(self, kind: str, operation: str, device_id: str | None = None) -> None:
        self.simulation.faults.orders.append(FaultOrder(kind, operation, device_id))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def listening() -> Iterator[PingOne]:
    simulation = Simulation(call_log=CallLog(salt="salt"))
    with running(simulation) as url:
        yield PingOne(simulation, url)


@pytest.fixture
def pingone(listening: PingOne) -> PingOne:
    listening.simulation.reset()
    listening.simulation.change({"job_takes": 0})
    listening.seed()
    return listening


class Desk(UndoParts):
    """The commands, with waits that are written down and pass at once."""

    def __init__(self, database: MovingDatabase, pingone: PingOne, redis_url: str, keyring: Keyring) -> None:
        self.environment = Environment(
            name="default",
            environment_id=ENVIRONMENT_ID,
            client_id=CLIENT_ID,
            client_secret=SecretStr(CLIENT_SECRET),
            api_url=f"{pingone.url}/v1",
            token_url=f"{pingone.url}/{{env}}/as/token",
            rate=1000,
        )
        settings = Settings(redis_url=SecretStr(redis_url), furthest_slot=0.2, tokens_per_import=4)
        super().__init__(settings, lambda _: self.environment)
        self.database = database
        self.keyring = keyring
        self._moving = database
        self.waits = list[float]()
        # Of every thread, to be closed in the end.
        self._made = list[Client]()
        make_client = self.clients._make

        def make_and_keep(environment: Environment, group: RateGroup) -> Client:
            self._made.append(client := make_client(environment, group))
            return client

        self.clients._make = make_and_keep  # type: ignore[method-assign]

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._moving.ahead += seconds

    @property
    def unpair(self) -> Unpairing:
        return self.unpairing(self.environment, TESTER)

    @property
    def revoke(self) -> Revocation:
        return self.revocation(self.environment, TESTER)

    def close(self) -> None:
        for client in self._made:
            client.close()
        self.redis.close()


@pytest.fixture
def desk(
    database: MovingDatabase, pingone: PingOne, valkey_url: str, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    with closing(Desk(database, pingone, valkey_url, keyring)) as desk:
        monkeypatch.setattr("worker.process.undo_parts.time.sleep", desk.wait)
        yield desk


def make(database: MovingDatabase, pingone: PingOne, records: list[dict[str, Any]], **common: Any) -> Made:
    """A cancelled batch, and the devices of its records in PingOne."""
    made = make_batch(database, records, **({"state": BatchState.CANCELLED} | common))
    for record in (look(database, record_id) for record_id in made.ids):
        if record.device_id:
            device = {"serial": record.serial_number, "user_id": record.user_id, "device_id": record.device_id}
            pingone.seed(devices=[device | {"status": STATUSES.get(record.status, "ACTIVATION_REQUIRED")}])
    return made


def audit_facts(database: MovingDatabase) -> list[dict[str, Any]]:
    with database.reading() as connection:
        return [line.facts for line in audit.read(connection)]


# Which batch may be undone.


@pytest.mark.parametrize(
    ("state", "reason", "says"),
    [
        (BatchState.RUNNING, None, "runs: `oathbulk cancel shipment` first"),
        (BatchState.PAUSED, PauseReason.OUTAGE, "goes on by itself"),
    ],
)
def test_a_batch_that_somebody_works_on_is_not_undone(
    database: MovingDatabase, pingone: PingOne, desk: Desk, state: BatchState, reason: PauseReason | None, says: str
) -> None:
    made = make(database, pingone, [OURS | {"status": Status.ACTIVE}], state=state)
    with database.writing() as connection:
        connection.execute(update(Batch).values(reason=reason))

    for command in (desk.unpair.remove, desk.unpair.examine, desk.revoke.revoke, desk.revoke.examine):
        with pytest.raises(NotPossible, match=says):
            command("shipment")

    assert len(pingone.devices()) == 1
    assert statuses(database, made) == ["active"]
    assert audit_facts(database) == []


@pytest.mark.parametrize("status", [Status.QUEUED, Status.ACTIVATING])
def test_a_record_in_hand_is_waited_for_and_that_of_a_dead_worker_is_taken_back(
    database: MovingDatabase, pingone: PingOne, desk: Desk, status: Status
) -> None:
    until = database.read_clock().replace(year=2100)
    made = make(database, pingone, [OURS | {"status": status, "lease_until": until}])
    with pytest.raises(NotPossible, match="1 records of batch 'shipment' are in hand"):
        desk.unpair.remove("shipment")
    with database.writing() as connection:
        connection.execute(update(Record).values(lease_until=until.replace(year=2001)))

    assert desk.unpair.remove("shipment").ends == {End.REMOVED: 1}
    assert statuses(database, made) == ["cancelled"]


# Unpair.


def test_devices_that_the_batch_made_go_and_no_others(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    ours = [
        OURS | {"status": status} for status in (Status.ACTIVE, Status.DEAD_LETTER, Status.PENDING, Status.CANCELLED)
    ]
    made = make(database, pingone, [*ours, {"status": Status.ACTIVE}, {"status": Status.PENDING}])
    other = make(database, pingone, [OURS | {"status": Status.ACTIVE}], name="other")
    left = {look(database, record_id).device_id for record_id in (*made.ids[4:], *other.ids)}

    shown = desk.unpair.examine("shipment")
    assert (shown.devices, shown.ends) == (4, {End.THERE: 4})
    assert len(pingone.devices()) == 7
    assert audit_facts(database) == []

    assert desk.unpair.remove("shipment").ends == {End.REMOVED: 4}

    assert pingone.devices() == left
    assert statuses(database, made) == ["cancelled"] * 4 + ["active", "pending"]
    assert statuses(database, other) == ["active"]
    for record in (look(database, record_id) for record_id in made.ids[:4]):
        assert (record.device_id, record.is_device_made, record.pairing) == ("", False, PairingState.UNSENT)
        assert (record.lease_id, record.finalized_at is not None) == (None, True)
    first, last = audit_facts(database)
    assert first == {"devices": 4, "unknown_pairings": 0}
    assert last == {"removed": 4, "gone": 0, "never_made": 0, "left": 0}


def test_what_is_not_written_down_is_found_gone_when_the_command_is_given_again(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 2)
    made = make(database, pingone, [OURS | {"status": Status.ACTIVE}] * 6)
    noted = list[int]()

    def die(*arguments: Any) -> bool:
        if len(noted) == 3:
            raise KeyboardInterrupt
        noted.append(1)
        return original(*arguments)

    original = unpairing.note_device_gone
    monkeypatch.setattr(unpairing, "note_device_gone", die)
    with pytest.raises(KeyboardInterrupt):
        desk.unpair.remove("shipment")
    assert statuses(database, made) == ["cancelled"] * 3 + ["active"] * 3
    assert audit_facts(database)[-1]["removed"] == 3
    monkeypatch.setattr(unpairing, "note_device_gone", original)

    again = desk.unpair.remove("shipment")

    assert again.devices == 3
    assert again.ends[End.GONE] >= 1
    assert again.ends.total() == 3
    assert (pingone.devices(), statuses(database, made)) == (set(), ["cancelled"] * 6)


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        ("reset_after", ["list", "unpair", "list"]),
        ("error_after", ["list", "unpair", "list"]),
        ("reset_before", ["list", "unpair", "list", "unpair"]),
    ],
)
def test_a_lost_answer_is_looked_up_before_the_device_is_deleted_again(
    database: MovingDatabase, pingone: PingOne, desk: Desk, kind: str, calls: list[str]
) -> None:
    made = make(database, pingone, [OURS | {"status": Status.ACTIVE}])
    pingone.order(kind, "unpair")

    assert desk.unpair.remove("shipment").ends == {End.REMOVED: 1}

    assert statuses(database, made) == ["cancelled"]
    assert pingone.calls("unpair", "list", "remove_order") == calls


@pytest.mark.parametrize("is_named", [True, False])
def test_a_device_that_is_something_else_stays(
    database: MovingDatabase, pingone: PingOne, desk: Desk, is_named: bool
) -> None:
    """Whether the list of devices tells it, or the inventory."""
    pingone.simulation.change({"device_shows_serial_number": is_named})
    made = make_batch(database, 2, state=BatchState.CANCELLED, status=Status.ACTIVE, **OURS)
    records = [look(database, record_id) for record_id in made.ids]
    pingone.seed(
        devices=[
            {"serial": f"OTHER{place}", "user_id": record.user_id, "device_id": record.device_id}
            for place, record in enumerate(records)
        ],
    )

    result = desk.unpair.remove("shipment")

    assert result.ends == {End.LEFT: 2}
    assert {each.why for each in result.kept} == {
        "this id is another token's device, or no token's, in PingOne: it stays"
    }
    assert (len(pingone.devices()), statuses(database, made)) == (2, ["active"] * 2)


def test_where_the_list_does_not_name_the_token_it_is_looked_up(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make(database, pingone, [OURS | {"status": Status.ACTIVE}])
    pingone.simulation.change({"device_shows_serial_number": False})
    assert desk.unpair.remove("shipment").ends == {End.REMOVED: 1}
    assert statuses(database, made) == ["cancelled"]


def test_what_nothing_shows_stays(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    make(database, pingone, [OURS | {"status": Status.ACTIVE}])
    pingone.simulation.change({"device_shows_serial_number": False, "forbidden_groups": ["inventory"]})
    result = desk.unpair.remove("shipment")
    assert (result.ends, len(pingone.devices())) == ({End.LEFT: 1}, 1)
    assert "let the worker application read the inventory" in result.kept[0].why


@pytest.mark.parametrize(
    "other",
    [
        {"status": Status.PENDING},
        {"status": Status.PENDING, "device_id": "another"},
        {"status": Status.ACTIVE},
        {"status": Status.PENDING, "serial_number": "abc-1", "device_id": ""},
    ],
    ids=["it is not done with the device", "it is not done with the token", "it is active", "in small letters"],
)
def test_a_device_with_which_another_batch_goes_on_stays(
    database: MovingDatabase, pingone: PingOne, desk: Desk, other: dict[str, Any]
) -> None:
    make(database, pingone, [OURS | {"status": Status.DEAD_LETTER, "serial_number": "ABC-1", "device_id": "mine"}])
    same = {"serial_number": "ABC-1", "device_id": "MINE"}
    make_batch(database, [same | other], name="again")

    (kept,) = desk.unpair.remove("shipment").kept

    assert kept.why == (
        "batch again goes on with this token, so it stays: `oathbulk cancel again` ends that; where it is active "
        "there, `oathbulk unpair again`, or remove it in PingOne"
    )
    assert len(pingone.devices()) == 1


def test_another_batch_whose_record_is_active_on_another_device_keeps_only_that(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    """The token was unpaired, and paired again by a later batch: what this one made is gone."""
    made = make_batch(database, [OURS | {"status": Status.ACTIVE}], state=BatchState.CANCELLED)
    serial_number = look(database, made.id).serial_number
    later = make(database, pingone, [OURS | {"status": Status.ACTIVE, "serial_number": serial_number}], name="later")

    assert desk.unpair.remove("shipment").ends == {End.GONE: 1}

    assert (len(pingone.devices()), statuses(database, later)) == (1, ["active"])


def test_a_device_of_unknown_fate_may_be_that_of_another_batch(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make_batch(database, [OPEN], state=BatchState.CANCELLED)
    serial_number = look(database, made.id).serial_number
    make(database, pingone, [OURS | {"status": Status.ACTIVE, "serial_number": serial_number}], name="later")

    assert desk.unpair.remove("shipment").ends == {End.LEFT: 1}
    assert len(pingone.devices()) == 1


def test_it_says_for_whom_the_default_device_changes(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    made = make(database, pingone, [OURS | {"status": Status.ACTIVE}] * 3)
    alone, first, second = (look(database, record_id) for record_id in made.ids)
    phone = {"serial": "PHONE", "status": "ACTIVE"}
    pingone.seed(devices=[phone | {"user_id": first.user_id, "device_id": "phone-1"}])
    pingone.simulation.world.remove(pingone.simulation.world.find_by_id(second.device_id))
    pingone.seed(
        devices=[
            phone | {"serial": "PHONE2", "user_id": second.user_id, "device_id": "phone-2"},
            {
                "serial": second.serial_number,
                "user_id": second.user_id,
                "device_id": second.device_id,
                "status": "ACTIVE",
            },
        ]
    )

    changes = desk.unpair.examine("shipment").defaults

    assert {user_id: change.heir for user_id, change in changes.items()} == {
        alone.user_id: Heir.NONE,
        first.user_id: Heir.NEXT,
    }


def test_a_device_that_is_gone_is_told_and_written_down_only_by_the_real_command(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    """PingOne deletes what waits for its activation longer than 24 hours, and a user's devices with the user."""
    made = make_batch(database, [OURS | {"status": Status.ACTIVE}], state=BatchState.CANCELLED)

    assert desk.unpair.examine("shipment").ends == {End.GONE: 1}
    assert statuses(database, made) == ["active"]

    assert desk.unpair.remove("shipment").ends == {End.GONE: 1}
    assert statuses(database, made) == ["cancelled"]
    assert pingone.calls("unpair", "remove_order") == []


@pytest.mark.parametrize(("columns", "end"), [(OURS, End.GONE), (OPEN, End.NEVER_MADE)])
def test_with_a_user_that_is_gone_the_device_is_gone_too_even_where_the_inventory_may_not_be_read(
    database: MovingDatabase, pingone: PingOne, desk: Desk, columns: dict[str, Any], end: End
) -> None:
    made = make_batch(database, [columns | {"status": Status.PENDING}], state=BatchState.CANCELLED)
    pingone.simulation.change({"forbidden_groups": ["inventory"]})

    assert desk.unpair.remove("shipment").ends == {end: 1}

    assert statuses(database, made) == ["cancelled"]


def test_a_token_that_the_inventory_shows_by_half_is_not_taken_for_free(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its user is there."""
    pingone.simulation.change({"device_shows_serial_number": True})
    made = make(database, pingone, [OURS | {"status": Status.ACTIVE}, OPEN])
    there = look(database, made.ids[0])
    with database.writing() as connection:
        connection.execute(update(Record).where(Record.id == made.ids[1]).values(user_id=there.user_id))

    def find_half(*_: Any, **__: Any) -> None:
        raise NotFound

    monkeypatch.setattr(Pairings, "find_pairing", find_half)
    result = desk.unpair.remove("shipment")

    assert result.ends == {End.REMOVED: 1, End.LEFT: 1}
    assert statuses(database, made) == ["cancelled", "pending"]


def test_a_batch_that_is_resumed_meanwhile_is_left_at_once(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 1)
    records = [OURS | {"status": Status.ACTIVE}] * 2
    made = make(database, pingone, records, state=BatchState.PAUSED)
    original = unpairing.note_device_gone

    def resume_after(*arguments: Any) -> bool:
        is_noted = original(*arguments)
        arguments[1].execute(update(Batch).values(state=BatchState.RUNNING))
        return is_noted

    monkeypatch.setattr(unpairing, "note_device_gone", resume_after)
    with pytest.raises(NotPossible, match="runs"):
        desk.unpair.remove("shipment")

    assert (len(pingone.devices()), statuses(database, made)) == (1, ["cancelled", "active"])
    assert audit_facts(database)[-1]["removed"] == 1


@pytest.mark.parametrize("is_interrupted", [True, False])
def test_workers_are_kept_from_what_is_worked_on_and_no_longer(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch, is_interrupted: bool
) -> None:
    """A record to which a read is owed is due in a cancelled batch, too."""
    made = make_batch(database, [OPEN | {"owner_id": None}], state=BatchState.CANCELLED)
    record, due = look(database, made.id), list[float]()
    pingone.seed(devices=[{"serial": record.serial_number, "user_id": record.user_id, "device_id": "there-before"}])
    original = Removal.remove

    def look_at_it(removal: Removal, row: Any) -> Outcome:
        due.append((look(database, made.id).scheduled_at - database.read_clock()).total_seconds())
        if is_interrupted:
            raise NotDelivered
        return original(removal, row)

    monkeypatch.setattr(Removal, "remove", look_at_it)
    with pytest.raises(NotDelivered) if is_interrupted else nullcontext():
        desk.unpair.remove("shipment")

    assert due[0] > chunks.KEPT_FOR / 2
    assert look(database, made.id).scheduled_at == record.scheduled_at


def test_a_record_that_was_given_another_time_meanwhile_keeps_it(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_batch(database, [OPEN | {"owner_id": None}], state=BatchState.CANCELLED)
    another = database.read_clock().replace(year=2100)

    def reschedule(*_: Any) -> Outcome:
        with database.writing() as connection:
            connection.execute(update(Record).values(scheduled_at=another))
        return Outcome(End.LEFT)

    monkeypatch.setattr(Removal, "remove", reschedule)
    desk.unpair.remove("shipment")

    assert look(database, made.id).scheduled_at == another


def test_what_is_under_way_when_a_call_fails_is_written_down_when_it_ends(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(database, pingone, [OURS | {"status": Status.ACTIVE}] * 4)
    all_have_begun, original = threading.Barrier(4), Removal.remove

    def fail_first(removal: Removal, row: Any) -> Outcome:
        all_have_begun.wait(30)
        if row.id == made.ids[0]:
            raise NotDelivered
        return original(removal, row)

    monkeypatch.setattr(Removal, "remove", fail_first)
    with pytest.raises(NotDelivered):
        desk.unpair.remove("shipment")

    assert statuses(database, made) == ["active", *["cancelled"] * 3]
    assert audit_facts(database)[-1]["removed"] == 3


def test_a_record_that_was_changed_meanwhile_is_left_and_told_as_such(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(database, pingone, [OURS | {"status": Status.PENDING}])
    original = Removal.remove

    def change_it(removal: Removal, row: Any) -> Outcome:
        with database.writing() as connection:
            connection.execute(update(Record).values(device_id="another"))
        return original(removal, row)

    monkeypatch.setattr(Removal, "remove", change_it)
    kept = desk.unpair.remove("shipment").kept

    assert [each.why for each in kept] == [
        "its record was changed meanwhile, or a worker has it: give the command again"
    ]
    assert (look(database, made.id).device_id, statuses(database, made)) == ("another", ["pending"])


# Pairings of unknown fate.


def test_a_device_that_came_of_a_pairing_of_unknown_fate_is_found_and_removed(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make_batch(database, [OPEN | {"otp_sent_at": database.read_clock()}], state=BatchState.CANCELLED)
    record = look(database, made.id)
    pingone.seed(devices=[{"serial": record.serial_number, "user_id": record.user_id, "device_id": "made"}])

    result = desk.unpair.remove("shipment")

    assert (result.unknown, result.ends) == (1, {End.REMOVED: 1})
    assert (pingone.devices(), statuses(database, made)) == (set(), ["cancelled"])
    # Not before the request to pair can have done what it does.
    settings, gone = desk.settings, look(database, made.id)
    waited = (gone.finalized_at - gone.otp_sent_at).total_seconds()
    assert waited >= settings.send_within + settings.call_deadline + settings.read_delay


def test_one_that_made_nothing_is_believed_after_a_second_look(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make_batch(database, [OPEN], state=BatchState.CANCELLED)
    pingone.seed(tokens=[{"serial": look(database, made.id).serial_number}])

    assert desk.unpair.remove("shipment").ends == {End.NEVER_MADE: 1}

    assert (desk.waits, statuses(database, made)) == ([5.0], ["cancelled"])


@pytest.mark.parametrize("is_theirs", [True, False])
def test_a_device_that_may_have_been_there_before_stays(
    database: MovingDatabase, pingone: PingOne, desk: Desk, is_theirs: bool
) -> None:
    made = make_batch(database, [OPEN | ({} if is_theirs else {"owner_id": None})], state=BatchState.CANCELLED)
    record = look(database, made.id)
    user_id = "somebody-else" if is_theirs else record.user_id
    pingone.seed(devices=[{"serial": record.serial_number, "user_id": user_id, "device_id": "there-before"}])

    assert desk.unpair.remove("shipment").ends == {End.LEFT: 1}

    assert pingone.devices() == {"there-before"}
    assert statuses(database, made) == ["pending"]


def test_otps_that_a_new_device_would_refuse_are_erased_and_a_seed_is_kept(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    answered, sent = {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1}, {"otp1_state": OtpState.SENT, "otp1_posts": 1}
    made = make(
        database,
        pingone,
        [
            OURS | {"status": Status.DEAD_LETTER} | answered,
            OURS | {"status": Status.PENDING} | sent,
            OURS | {"status": Status.PENDING, "next_counter": 8} | sent,
        ],
    )

    desk.unpair.remove("shipment")

    records = [look(database, record_id) for record_id in made.ids]
    assert [record.otps is None for record in records] == [True, False, False]
    assert [record.otp1_state for record in records] == ["answered", "unsent", "unsent"]
    # One counter is left out: PingOne may have asked for the second OTP.
    assert records[2].next_counter == 9


# Revoke.

TOKEN = {
    "device_id": "",
    "is_token_made": True,
    "is_in_inventory": True,
    "owner_id": NOBODY,
    "status": Status.CANCELLED,
}


def make_tokens(database: MovingDatabase, pingone: PingOne, records: list[dict[str, Any]], **common: Any) -> Made:
    """A cancelled batch whose tokens are in the inventory."""
    made = make_batch(database, records, **({"state": BatchState.CANCELLED} | common))
    pingone.seed(tokens=[{"serial": look(database, record_id).serial_number} for record_id in made.ids])
    return made


def test_tokens_that_the_batch_imported_are_revoked_and_no_others(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    before = TOKEN | {"is_token_made": False}
    made = make_tokens(database, pingone, [*([TOKEN] * 9), before, TOKEN | {"status": Status.DEAD_LETTER}])
    other = make_tokens(database, pingone, [TOKEN], name="other")
    left = {look(database, record_id).serial_number for record_id in (made.ids[9], *other.ids)}

    assert desk.revoke.examine("shipment") == Revoked(own=10, not_ours=1)
    assert pingone.calls("revoke_tokens") == []

    assert desk.revoke.revoke("shipment") == Revoked(own=10, revoked=10, not_ours=1)

    assert pingone.tokens() == left
    assert pingone.calls("revoke_tokens") == ["revoke_tokens"] * 3
    assert statuses(database, made) == ["cancelled"] * 11
    record = look(database, made.ids[0])
    assert (record.is_token_made, record.is_in_inventory, record.import_job_id) == (False, False, None)
    assert audit_facts(database) == [{"tokens": 10}, {"revoked": 10, "gone": 0, "left": 0}]
    assert desk.revoke.revoke("shipment") == Revoked(not_ours=1)


def test_a_paired_token_stays_and_is_named(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    made = make_tokens(database, pingone, [TOKEN, TOKEN])
    paired = look(database, made.ids[0])
    pingone.seed(devices=[{"serial": paired.serial_number, "user_id": paired.user_id, "device_id": "device"}])

    result = desk.revoke.revoke("shipment")

    assert (result.revoked, [each.serial_number for each in result.kept]) == (1, [paired.serial_number])
    assert "oathbulk unpair" in result.kept[0].why
    assert pingone.devices() == {"device"}


@pytest.mark.parametrize("status", [Status.PENDING, Status.ACTIVE])
def test_a_token_with_which_another_batch_goes_on_stays(
    database: MovingDatabase, pingone: PingOne, desk: Desk, status: Status
) -> None:
    make_tokens(database, pingone, [TOKEN | {"serial_number": "ABC-1"}])
    make_batch(database, [{"serial_number": "abc-1", "status": status}], name="again")

    (kept,) = desk.revoke.revoke("shipment").kept

    assert "`oathbulk cancel again`" in kept.why
    assert pingone.tokens() == {"ABC-1"}


@pytest.mark.parametrize("kind", ["reset_after", "error_after", "reset_before"])
def test_a_job_whose_answer_is_lost_is_looked_up_in_the_inventory(
    database: MovingDatabase, pingone: PingOne, desk: Desk, kind: str
) -> None:
    made = make_tokens(database, pingone, [TOKEN] * 3)
    pingone.order(kind, "revoke_tokens")

    result = desk.revoke.revoke("shipment")

    if kind == "reset_before":
        assert (result.revoked, len(result.kept), len(pingone.tokens())) == (0, 3, 3)
        result = desk.revoke.revoke("shipment")
    assert (result.revoked, result.kept, pingone.tokens()) == (3, [], set())
    assert [look(database, record_id).is_token_made for record_id in made.ids] == [False] * 3


def test_a_revocation_that_was_killed_goes_on(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    made = make_tokens(database, pingone, [TOKEN] * 3)
    pingone.simulation.world.revoke(
        pingone.simulation.world.inventory.find(ENVIRONMENT_ID, look(database, made.ids[1]).serial_number)
    )
    with database.writing() as connection:
        values = {"batch_id": made.batch_id, "kind": JobKind.REVOKE, "state": JobState.SENT, "size": 3}
        connection.execute(insert(InventoryJob).values(values | {"sent_at": database.now()}))

    result = desk.revoke.revoke("shipment")

    assert (result.revoked, result.gone, pingone.tokens()) == (2, 1, set())
    columns = (InventoryJob.state, InventoryJob.sent_at, InventoryJob.ended_at)
    with database.reading() as connection:
        lost, done = connection.execute(select(*columns).order_by(InventoryJob.id)).all()
    assert (lost.state, done.state) == (JobState.LOST, JobState.DONE)
    assert (lost.ended_at - lost.sent_at).total_seconds() >= desk.settings.import_over_after


def after_begin(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do this when a revocation job is written down, and its request has not gone out."""
    original = RevocationJobs.begin

    def begin(*arguments: Any) -> int:
        job = original(*arguments)
        act()
        return job

    monkeypatch.setattr(RevocationJobs, "begin", begin)


def test_a_job_that_waits_for_the_end_of_a_hold_is_marked_as_sent_when_it_goes_out(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_tokens(database, pingone, [TOKEN])
    begun, pace = [], desk.paces.of(desk.environment, RateGroup.INVENTORY)
    after_begin(monkeypatch, lambda: (begun.append(database.read_clock()), pace.hold(0.6)))

    assert desk.revoke.revoke("shipment").revoked == 1

    with database.reading() as connection:
        job = connection.execute(select(InventoryJob.sent_at).where(InventoryJob.batch_id == made.batch_id)).one()
    assert (job.sent_at - begun[0]).total_seconds() > 0.5


@pytest.mark.parametrize(
    ("meanwhile", "says", "state"),
    [
        (update(Batch).values(state=BatchState.RUNNING), "runs", JobState.FAILED),
        (update(InventoryJob).values(state=JobState.LOST), "another command", JobState.LOST),
    ],
)
def test_a_job_does_not_go_out_once_the_batch_goes_on_or_another_command_has_ended_it(
    database: MovingDatabase,
    pingone: PingOne,
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Update,
    says: str,
    state: JobState,
) -> None:
    make_tokens(database, pingone, [TOKEN], state=BatchState.PAUSED)

    def change() -> None:
        with database.writing() as connection:
            connection.execute(meanwhile)

    after_begin(monkeypatch, change)
    with pytest.raises(NotPossible, match=says):
        desk.revoke.revoke("shipment")

    assert (pingone.calls("revoke_tokens"), len(pingone.tokens())) == ([], 1)
    with database.reading() as connection:
        assert connection.scalars(select(InventoryJob.state)).all() == [state]


def test_more_tokens_than_one_statement_may_name_are_noted(database: MovingDatabase) -> None:
    made = make_batch(database, [TOKEN] * 2, state=BatchState.CANCELLED)
    others = range(max(made.ids) + 1, max(made.ids) + 66_000)
    with database.changing_many() as connection:
        assert note_tokens_gone(database, connection, [made.ids[0], *others, made.ids[1]]) == 2
    assert [look(database, record_id).is_token_made for record_id in made.ids] == [False] * 2


def import_by(database: MovingDatabase, made: Made, state: JobState, *record_ids: int) -> int:
    """Write down that a job imported the tokens of these records. Returns the id of its row."""
    values = {"batch_id": made.batch_id, "kind": JobKind.IMPORT, "state": state, "size": len(record_ids)}
    with database.writing() as connection:
        written = insert(InventoryJob).values(values | {"sent_at": database.now()}).returning(InventoryJob.id)
        job = connection.scalars(written).one()
        connection.execute(update(Record).where(Record.id.in_(record_ids)).values(import_job_id=job))
    return job


UNKNOWN = TOKEN | {"is_token_made": False, "is_in_inventory": False, "owner_id": None}


def test_what_the_list_does_not_have_yet_is_looked_up_by_itself(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_tokens(database, pingone, [TOKEN, UNKNOWN])
    job = import_by(database, made, JobState.LOST, made.ids[1])
    monkeypatch.setattr(revocation, "find_tokens", lambda *_: {})

    result = desk.revoke.revoke("shipment")

    assert (result.gone, [each.row_number for each in result.kept]) == (0, [2, 3])
    assert {each.why for each in result.kept} == {
        "PingOne shows it in one place and not in another: give the command again"
    }
    assert look(database, made.ids[0]).is_token_made
    assert look(database, made.ids[1]).import_job_id == job


def test_a_token_that_the_list_does_not_have_after_a_lost_revocation_is_looked_up_by_itself(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_tokens(database, pingone, [TOKEN] * 2)
    pingone.order("reset_before", "revoke_tokens")
    lists, read_list = list[int](), revocation.find_tokens
    monkeypatch.setattr(
        revocation, "find_tokens", lambda *arguments: {} if lists else lists.append(1) or read_list(*arguments)
    )

    result = desk.revoke.revoke("shipment")

    assert (result.revoked, len(result.kept), len(pingone.tokens())) == (0, 2, 2)
    assert [look(database, record_id).is_token_made for record_id in made.ids] == [True] * 2


def test_an_import_of_unknown_fate_that_made_nothing_is_written_down(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make_batch(database, [UNKNOWN], state=BatchState.CANCELLED)
    import_by(database, made, JobState.LOST, made.id)

    assert desk.revoke.revoke("shipment") == Revoked()

    assert look(database, made.id).import_job_id is None


@pytest.mark.parametrize("state", [JobState.SENT, JobState.RUNNING])
def test_imports_that_have_not_ended_are_counted_where_nothing_is_followed(
    database: MovingDatabase, pingone: PingOne, desk: Desk, state: JobState
) -> None:
    made = make_batch(database, [UNKNOWN] * 3, state=BatchState.CANCELLED)
    import_by(database, made, JobState.DONE, made.ids[0])
    import_by(database, made, state, *made.ids[1:])
    assert desk.revoke.examine("shipment") == Revoked(open_imports=1)


def test_what_was_found_is_not_written_down_if_the_batch_goes_on_meanwhile(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_batch(database, [TOKEN, UNKNOWN], state=BatchState.PAUSED)
    job = import_by(database, made, JobState.LOST, made.ids[1])
    read_list = revocation.find_tokens

    def resume_meanwhile(*arguments: Any) -> Any:
        with database.writing() as connection:
            connection.execute(update(Batch).values(state=BatchState.RUNNING))
        return read_list(*arguments)

    monkeypatch.setattr(revocation, "find_tokens", resume_meanwhile)
    with pytest.raises(NotPossible, match="runs"):
        desk.revoke.revoke("shipment")

    assert look(database, made.ids[0]).is_token_made
    assert look(database, made.ids[1]).import_job_id == job


def test_the_fate_of_a_token_that_is_imported_again_is_left_to_that_import(
    database: MovingDatabase, desk: Desk
) -> None:
    made = make_batch(database, [UNKNOWN] * 4, state=BatchState.PAUSED)
    lost, again = made.ids[:2], made.ids[2:]
    import_by(database, made, JobState.LOST, *lost)
    job = import_by(database, made, JobState.SENT, *again)

    with database.changing_many() as connection:
        made_now, never_made = [lost[0], again[0]], [lost[1], again[1]]
        desk.tokens.note_fates(connection, made.batch_id, made=made_now, never_made=never_made)

    assert [look(database, record_id).is_token_made for record_id in made.ids] == [True, False, False, False]
    assert [look(database, record_id).import_job_id for record_id in (lost[1], *again)] == [None, job, job]


@pytest.mark.parametrize("revoke_paired", ["failed", "skipped"])
def test_one_that_is_paired_at_the_last_moment_does_not_keep_the_others(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch, revoke_paired: str
) -> None:
    made = make_tokens(database, pingone, [TOKEN] * 4)
    pingone.simulation.change({"revoke_paired": revoke_paired})
    late = look(database, made.ids[2])
    original = desk.standing.require_rest_within

    def pair_it(*arguments: Any) -> None:
        original(*arguments)
        pingone.seed(devices=[{"serial": late.serial_number, "user_id": late.user_id, "device_id": "late"}])

    monkeypatch.setattr(desk.standing, "require_rest_within", pair_it)
    result = desk.revoke.revoke("shipment")

    assert (result.revoked, len(result.kept), pingone.tokens()) == (3, 1, {late.serial_number})
    assert pingone.devices() == {"late"}


def test_a_role_that_is_missing_is_named(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    make_tokens(database, pingone, [TOKEN])
    pingone.simulation.change({"forbidden_groups": ["inventory"]})
    with pytest.raises(CannotGoOn, match="PINGONE_IMPORT_CLIENT_ID"):
        desk.revoke.revoke("shipment")
