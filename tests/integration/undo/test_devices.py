"""Devices that a batch made are taken away again, and no others: on both databases, against the simulator."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from support.data.batches import look, make_batch, statuses
from support.data.moving_clock import MovingDatabase
from support.data.undo_desk import OPEN, OURS, Desk, PingOne, audit_facts, make

from models.batch import Batch, BatchState
from models.reason import PauseReason
from models.record import Record
from models.record_states import OtpState, PairingState, Status
from worker.batches.commands import NotPossible
from worker.batches.removal import End, Heir
from worker.leases.queue import Queue
from worker.pingone.clients import Pairings
from worker.pingone.errors import NotFound


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
    made = make(database, pingone, [OURS | {"status": Status.ACTIVE}, {"device_id": ""}], state=state)
    with database.writing() as connection:
        connection.execute(update(Batch).values(reason=reason))

    for command in (desk.command.undo, desk.command.examine):
        with pytest.raises(NotPossible, match=says):
            command("shipment")

    assert len(pingone.devices()) == 1
    assert statuses(database, made) == ["active", "pending"]
    assert audit_facts(database) == []


@pytest.mark.parametrize(
    ("state", "reason"), [(BatchState.RUNNING, None), (BatchState.PAUSED, PauseReason.OUTAGE)], ids=str
)
def test_a_finished_batch_need_not_be_cancelled(
    database: MovingDatabase, pingone: PingOne, desk: Desk, state: BatchState, reason: PauseReason | None
) -> None:
    made = make(database, pingone, [OURS | {"status": Status.ACTIVE}], state=state)
    with database.writing() as connection:
        connection.execute(update(Batch).values(reason=reason))

    assert desk.command.undo("shipment").devices.ends == {End.REMOVED: 1}

    assert (pingone.devices(), statuses(database, made)) == (set(), ["cancelled"])
    desk.command.examine("shipment")


@pytest.mark.parametrize("status", [Status.QUEUED, Status.ACTIVATING])
def test_a_record_in_hand_is_waited_for_and_that_of_a_dead_worker_is_taken_back(
    database: MovingDatabase, pingone: PingOne, desk: Desk, status: Status
) -> None:
    until = database.read_clock().replace(year=2100)
    made = make(database, pingone, [OURS | {"status": status, "lease_until": until}])
    with pytest.raises(NotPossible, match="1 record of batch 'shipment' is in hand"):
        desk.command.undo("shipment")
    with database.writing() as connection:
        connection.execute(update(Record).values(lease_until=until.replace(year=2001)))

    assert desk.command.undo("shipment").devices.ends == {End.REMOVED: 1}
    assert statuses(database, made) == ["cancelled"]


def test_devices_that_the_batch_made_go_and_no_others(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    ours = [
        OURS | {"status": status} for status in (Status.ACTIVE, Status.DEAD_LETTER, Status.PENDING, Status.CANCELLED)
    ]
    made = make(database, pingone, [*ours, {"status": Status.ACTIVE}, {"status": Status.PENDING}])
    other = make(database, pingone, [OURS | {"status": Status.ACTIVE}], name="other")
    left = {look(database, record_id).device_id for record_id in (*made.ids[4:], *other.ids)}

    shown = desk.command.examine("shipment")
    assert (shown.devices.made, shown.devices.ends) == (4, {End.THERE: 4})
    assert len(pingone.devices()) == 7
    assert audit_facts(database) == []

    assert desk.command.undo("shipment").devices.ends == {End.REMOVED: 4}

    assert pingone.devices() == left
    assert statuses(database, made) == ["cancelled"] * 4 + ["active", "pending"]
    assert statuses(database, other) == ["active"]
    for record in (look(database, record_id) for record_id in made.ids[:4]):
        assert (record.device_id, record.is_device_made, record.pairing) == ("", True, PairingState.UNSENT)
        assert (record.lease_id, record.finalized_at is not None) == (None, True)
    first, last = audit_facts(database)
    assert first == {"devices": 4, "unknown_pairings": 0}
    assert last == {"removed": 4, "gone": 0, "never_made": 0, "left": 0}


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

    result = desk.command.undo("shipment")

    assert result.devices.ends == {End.LEFT: 2}
    assert {each.why for each in result.kept.values()} == {
        "this id is another token's device, or no token's, in PingOne: it stays"
    }
    assert (len(pingone.devices()), statuses(database, made)) == (2, ["active"] * 2)


def test_where_the_list_does_not_name_the_token_it_is_looked_up(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make(database, pingone, [OURS | {"status": Status.ACTIVE}])
    pingone.simulation.change({"device_shows_serial_number": False})
    assert desk.command.undo("shipment").devices.ends == {End.REMOVED: 1}
    assert statuses(database, made) == ["cancelled"]


def test_what_nothing_shows_stays(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    make(database, pingone, [OURS | {"status": Status.ACTIVE}])
    pingone.simulation.change({"device_shows_serial_number": False, "forbidden_groups": ["inventory"]})
    result = desk.command.undo("shipment")
    assert (result.devices.ends, len(pingone.devices())) == ({End.LEFT: 1}, 1)
    assert "let the worker application read the inventory" in next(iter(result.kept.values())).why


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

    (kept,) = desk.command.undo("shipment").kept.values()

    assert kept.why == (
        "batch again goes on with this token, so it stays: `oathbulk cancel again` ends that; where it is active "
        "there, `oathbulk undo again`, or remove it in PingOne"
    )
    assert len(pingone.devices()) == 1


def test_another_batch_whose_record_is_active_on_another_device_keeps_only_that(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    """The token was unpaired, and paired again by a later batch: what this one made is gone."""
    made = make_batch(database, [OURS | {"status": Status.ACTIVE}], state=BatchState.CANCELLED)
    serial_number = look(database, made.id).serial_number
    later = make(database, pingone, [OURS | {"status": Status.ACTIVE, "serial_number": serial_number}], name="later")

    assert desk.command.undo("shipment").devices.ends == {End.GONE: 1}

    assert (len(pingone.devices()), statuses(database, later)) == (1, ["active"])


def test_a_device_of_unknown_fate_may_be_that_of_another_batch(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make_batch(database, [OPEN], state=BatchState.CANCELLED)
    serial_number = look(database, made.id).serial_number
    make(database, pingone, [OURS | {"status": Status.ACTIVE, "serial_number": serial_number}], name="later")

    assert desk.command.undo("shipment").devices.ends == {End.LEFT: 1}
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

    changes = desk.command.examine("shipment").defaults

    assert {user_id: change.heir for user_id, change in changes.items()} == {
        alone.user_id: Heir.NONE,
        first.user_id: Heir.NEXT,
    }


def test_a_device_that_is_gone_is_told_and_written_down_only_by_the_real_command(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    """PingOne deletes what waits for its activation longer than 24 hours, and a user's devices with the user."""
    made = make_batch(database, [OURS | {"status": Status.ACTIVE}], state=BatchState.CANCELLED)

    assert desk.command.examine("shipment").devices.ends == {End.GONE: 1}
    assert statuses(database, made) == ["active"]

    assert desk.command.undo("shipment").devices.ends == {End.GONE: 1}
    assert statuses(database, made) == ["cancelled"]
    assert pingone.calls("unpair", "remove_order") == []


@pytest.mark.parametrize(("columns", "end"), [(OURS, End.GONE), (OPEN, End.NEVER_MADE)])
def test_with_a_user_that_is_gone_the_device_is_gone_too_even_where_the_inventory_may_not_be_read(
    database: MovingDatabase, pingone: PingOne, desk: Desk, columns: dict[str, Any], end: End
) -> None:
    made = make_batch(database, [columns | {"status": Status.PENDING}], state=BatchState.CANCELLED)
    pingone.simulation.change({"forbidden_groups": ["inventory"]})

    assert desk.command.undo("shipment").devices.ends == {end: 1}

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
    result = desk.command.undo("shipment")

    assert result.devices.ends == {End.REMOVED: 1, End.LEFT: 1}
    assert statuses(database, made) == ["cancelled", "pending"]


def test_a_device_that_came_of_a_pairing_of_unknown_fate_is_found_and_removed(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make_batch(database, [OPEN | {"otp_sent_at": database.read_clock()}], state=BatchState.CANCELLED)
    record = look(database, made.id)
    pingone.seed(devices=[{"serial": record.serial_number, "user_id": record.user_id, "device_id": "made"}])

    result = desk.command.undo("shipment")

    assert (result.devices.unknown_pairings, result.devices.ends) == (1, {End.REMOVED: 1})
    assert (pingone.devices(), statuses(database, made)) == (set(), ["cancelled"])
    # Not before the request to pair can have done what it does.
    settings, gone = desk.settings, look(database, made.id)
    waited = (gone.finalized_at - gone.otp_sent_at).total_seconds()
    assert waited >= settings.tuning.over_after


def test_after_a_jump_of_the_clock_a_lost_pairing_is_looked_up_no_sooner_than_workers_would(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    """By the clock as it is now the request went out an hour ago; that was a moment ago."""
    made = make_batch(database, [OPEN | {"otp_sent_at": database.read_clock() - timedelta(hours=1)}])
    with database.writing() as connection:
        connection.execute(update(Batch).values(state=BatchState.CANCELLED))
        Queue(database, over_after=desk.settings.tuning.over_after).restart_times(connection, queue_lease=60.0)
    began = database.read_clock()
    pingone.seed(tokens=[{"serial": look(database, made.id).serial_number}])

    assert desk.command.undo("shipment").devices.ends == {End.NEVER_MADE: 1}
    assert (look(database, made.id).finalized_at - began).total_seconds() >= desk.settings.tuning.over_after - 1


def test_a_device_that_somebody_else_made_since_stays(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    sent_at = database.read_clock() - timedelta(days=2)
    lost = OPEN | {"otp_sent_at": sent_at, "pairing_began_at": sent_at - timedelta(hours=1)}
    made = make_batch(database, [lost], state=BatchState.CANCELLED)
    record = look(database, made.id)
    pingone.seed(devices=[{"serial": record.serial_number, "user_id": record.user_id, "device_id": "theirs"}])

    result = desk.command.undo("shipment")

    assert (result.devices.ends, pingone.devices()) == ({End.LEFT: 1}, {"theirs"})
    assert "it is somebody else's" in next(iter(result.kept.values())).why
    assert statuses(database, made) == ["pending"]


def test_one_that_made_nothing_is_believed_after_a_second_look(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make_batch(database, [OPEN], state=BatchState.CANCELLED)
    pingone.seed(tokens=[{"serial": look(database, made.id).serial_number}])

    assert desk.command.undo("shipment").devices.ends == {End.NEVER_MADE: 1}

    assert (desk.waits, statuses(database, made)) == ([5.0], ["cancelled"])


@pytest.mark.parametrize("is_theirs", [True, False])
def test_a_device_that_may_have_been_there_before_stays(
    database: MovingDatabase, pingone: PingOne, desk: Desk, is_theirs: bool
) -> None:
    made = make_batch(database, [OPEN | ({} if is_theirs else {"owner_id": None})], state=BatchState.CANCELLED)
    record = look(database, made.id)
    user_id = "somebody-else" if is_theirs else record.user_id
    pingone.seed(devices=[{"serial": record.serial_number, "user_id": user_id, "device_id": "there-before"}])

    assert desk.command.undo("shipment").devices.ends == {End.LEFT: 1}

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

    desk.command.undo("shipment")

    records = [look(database, record_id) for record_id in made.ids]
    assert [record.otps is None for record in records] == [True, False, False]
    assert [record.otp1_state for record in records] == ["answered", "unsent", "unsent"]
    # One counter is left out: PingOne may have asked for the second OTP.
    assert records[2].next_counter == 9
