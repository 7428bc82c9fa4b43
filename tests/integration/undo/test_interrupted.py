"""What an undo does when a call fails, it was killed, or something changes meanwhile: on both databases, against the
simulator."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from sqlalchemy import Connection, select, update
from support.data.batches import look, make_batch, statuses
from support.data.moving_clock import MovingDatabase
from support.data.undo_desk import OPEN, OURS, Desk, PingOne, audit_facts, make

from models.batch import Batch, BatchState
from models.record import Record
from models.record_states import Status
from worker.batches import undo
from worker.batches.commands import NotPossible
from worker.batches.removal import DeviceOutcome, End, Removal
from worker.leases.commands import replay
from worker.pingone.errors import NotDelivered


def test_what_is_not_written_down_is_found_gone_when_the_command_is_given_again(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "CHUNK", 2)
    made = make(database, pingone, [OURS | {"status": Status.ACTIVE}] * 6)
    noted = list[int]()

    def die(*arguments: Any, **named: Any) -> bool:
        if len(noted) == 3:
            raise KeyboardInterrupt
        noted.append(1)
        return original(*arguments, **named)

    original = undo.note_device_gone
    monkeypatch.setattr(undo, "note_device_gone", die)
    with pytest.raises(KeyboardInterrupt):
        desk.command.undo("shipment")
    # In whatever order the answers came.
    assert sorted(statuses(database, made)) == ["active"] * 3 + ["cancelled"] * 3
    assert [facts["removed"] for facts in audit_facts(database) if "removed" in facts] == [2, 1]
    monkeypatch.setattr(undo, "note_device_gone", original)

    again = desk.command.undo("shipment")

    assert again.devices.made == 3
    assert again.devices.earlier == 3
    assert again.devices.ends[End.GONE] >= 1
    assert again.devices.ends.total() == 3
    assert (pingone.devices(), statuses(database, made)) == (set(), ["cancelled"] * 6)


def test_what_is_written_down_as_ctrl_c_comes_is_counted(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(database, pingone, [OURS | {"status": Status.ACTIVE}] * 6)
    write, note, noted = database.writing, undo.note_device_gone, list[int]()

    def note_and_count(*arguments: Any, **named: Any) -> bool:
        noted.append(1)
        return note(*arguments, **named)

    @contextmanager
    def interrupted_after_the_third() -> Iterator[Connection]:
        with write() as connection:
            yield connection
        if len(noted) == 3:
            noted.append(0)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(undo, "note_device_gone", note_and_count)
    monkeypatch.setattr(database, "writing", interrupted_after_the_third)
    with pytest.raises(KeyboardInterrupt):
        desk.command.undo("shipment")
    monkeypatch.undo()

    written_down = statuses(database, made).count("cancelled")
    assert written_down >= 3
    assert audit_facts(database)[-1]["removed"] == written_down


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

    assert desk.command.undo("shipment").devices.ends == {End.REMOVED: 1}

    assert statuses(database, made) == ["cancelled"]
    assert pingone.calls("unpair", "list", "remove_order") == calls


@pytest.mark.parametrize("kind", ["reset_after", "error_after"])
def test_a_lost_read_is_made_again(database: MovingDatabase, pingone: PingOne, desk: Desk, kind: str) -> None:
    make(database, pingone, [OURS | {"status": Status.ACTIVE}])
    pingone.order(kind, "list")

    assert desk.command.undo("shipment").devices.ends == {End.REMOVED: 1}


def test_a_batch_that_is_resumed_meanwhile_is_left_at_once(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "CHUNK", 1)
    made = make(
        database, pingone, [OURS | {"status": Status.ACTIVE}] * 2 + [{"device_id": ""}], state=BatchState.PAUSED
    )
    original = undo.note_device_gone

    def resume_after(*arguments: Any, **named: Any) -> bool:
        is_noted = original(*arguments, **named)
        arguments[1].execute(update(Batch).values(state=BatchState.RUNNING))
        return is_noted

    monkeypatch.setattr(undo, "note_device_gone", resume_after)
    with pytest.raises(NotPossible, match="runs"):
        desk.command.undo("shipment")

    assert (len(pingone.devices()), statuses(database, made)) == (1, ["cancelled", "active", "pending"])
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

    def look_at_it(removal: Removal, row: Any) -> DeviceOutcome:
        due.append((look(database, made.id).scheduled_at - database.read_clock()).total_seconds())
        if is_interrupted:
            raise NotDelivered
        return original(removal, row)

    monkeypatch.setattr(Removal, "remove", look_at_it)
    with pytest.raises(NotDelivered) if is_interrupted else nullcontext():
        desk.command.undo("shipment")

    assert due[0] > undo.KEPT_FOR / 2
    assert look(database, made.id).scheduled_at == record.scheduled_at


def test_a_record_that_was_given_another_time_meanwhile_keeps_it(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_batch(database, [OPEN | {"owner_id": None}], state=BatchState.CANCELLED)
    another = database.read_clock().replace(year=2100)

    def reschedule(*_: Any) -> DeviceOutcome:
        with database.writing() as connection:
            connection.execute(update(Record).values(scheduled_at=another))
        return DeviceOutcome(End.LEFT)

    monkeypatch.setattr(Removal, "remove", reschedule)
    desk.command.undo("shipment")

    assert look(database, made.id).scheduled_at == another


def test_what_is_under_way_when_a_call_fails_is_written_down_when_it_ends(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(database, pingone, [OURS | {"status": Status.ACTIVE}] * 4)
    all_have_begun, original = threading.Barrier(4), Removal.remove

    def fail_first(removal: Removal, row: Any) -> DeviceOutcome:
        all_have_begun.wait(30)
        if row.id == made.ids[0]:
            raise NotDelivered
        return original(removal, row)

    monkeypatch.setattr(Removal, "remove", fail_first)
    with pytest.raises(NotDelivered):
        desk.command.undo("shipment")

    assert statuses(database, made) == ["active", *["cancelled"] * 3]
    assert audit_facts(database)[-1]["removed"] == 3


def test_a_record_that_was_changed_meanwhile_is_left_and_told_as_such(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(database, pingone, [OURS | {"status": Status.PENDING}])
    original = Removal.remove

    def change_it(removal: Removal, row: Any) -> DeviceOutcome:
        with database.writing() as connection:
            connection.execute(update(Record).values(device_id="another"))
        return original(removal, row)

    monkeypatch.setattr(Removal, "remove", change_it)
    kept = desk.command.undo("shipment").kept.values()

    assert [each.why for each in kept] == [
        "its record was changed meanwhile, or a worker has it: give the command again"
    ]
    assert (look(database, made.id).device_id, statuses(database, made)) == ("another", ["pending"])


def test_a_device_that_a_worker_finds_while_pairings_are_waited_for_goes_too(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cancelled batch, too, workers read what is owed."""
    made = make_batch(database, [OPEN | {"otp_sent_at": database.read_clock()}], state=BatchState.CANCELLED)
    record = look(database, made.id)
    pingone.seed(devices=[{"serial": record.serial_number, "user_id": record.user_id, "device_id": "made"}])

    def find(seconds: float) -> None:
        with database.writing() as connection:
            connection.execute(update(Record).values(OURS | {"device_id": "made"}))
        wait(seconds)

    wait = desk.wait
    monkeypatch.setattr(desk, "wait", find)
    desk.command.undo("shipment")

    assert (pingone.devices(), statuses(database, made)) == (set(), ["cancelled"])


def test_runs_that_were_killed_or_lost_answers_add_up_to_what_the_batch_had(
    database: MovingDatabase, pingone: PingOne, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with calls on their way; then one device cannot be read; then all is well."""
    monkeypatch.setattr(undo, "CHUNK", 2)
    make(database, pingone, [OURS | {"status": Status.ACTIVE}] * 6)
    command, original, noted = desk.command, undo.note_device_gone, list[int]()

    def die_at_the_third(*arguments: Any, **named: Any) -> bool:
        noted.append(1)
        if len(noted) > 2:
            raise SystemExit
        return original(*arguments, **named)

    monkeypatch.setattr(undo, "note_device_gone", die_at_the_third)
    # A process that is killed writes no line after it.
    write_down = command._write_down
    monkeypatch.setattr(command, "_write_down", lambda *line: "removed" in line[-1] or write_down(*line))
    with pytest.raises(SystemExit):
        command.undo("shipment")
    monkeypatch.setattr(undo, "note_device_gone", original)
    with monkeypatch.context() as patch:
        patch.setattr(Removal, "remove", lose_the_last_device(Removal.remove))
        shown, second = (
            desk.command.examine("shipment"),
            desk.command.undo("shipment"),
        )
    third = desk.command.undo("shipment")

    assert (shown.devices.made, shown.devices.earlier) == (4, 2)
    assert (second.devices.earlier, len(second.kept), second.devices.ends[End.GONE] > 0) == (2, 1, True)
    assert (third.devices.earlier, third.devices.ends) == (5, {End.REMOVED: 1})
    assert desk.command.examine("shipment").devices.earlier == 6


def lose_the_last_device(remove: Callable[[Removal, Any], DeviceOutcome]) -> Callable[[Removal, Any], DeviceOutcome]:
    """Remove devices, but for that of the sixth row, which cannot be read."""
    return lambda removal, row: DeviceOutcome(End.LEFT, "lost") if row.row_number == 6 else remove(removal, row)


def test_a_device_of_a_pairing_of_unknown_fate_is_counted_if_there_was_one(
    database: MovingDatabase, pingone: PingOne, desk: Desk
) -> None:
    made = make_batch(database, [OPEN, OPEN], state=BatchState.CANCELLED)
    record = look(database, made.ids[0])
    pingone.seed(devices=[{"serial": record.serial_number, "user_id": record.user_id, "device_id": "made"}])

    assert desk.command.undo("shipment").devices.ends == {End.REMOVED: 1, End.NEVER_MADE: 1}

    assert desk.command.examine("shipment").devices.earlier == 1


def test_a_replay_begins_the_count_anew(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    pair = {"otps": b"sealed", "next_counter": 1, "status": Status.DEAD_LETTER}
    made = make(database, pingone, [OURS | pair, OURS | {"status": Status.ACTIVE}])
    desk.command.undo("shipment")
    assert desk.command.examine("shipment").devices.earlier == 2

    with database.writing() as connection:
        # An active record's OTPs are erased, so that it stays.
        assert replay(database, connection, made.batch_id) == 1

    with database.reading() as connection:
        assert connection.scalars(select(Record.is_device_made).order_by(Record.id)).all() == [False, True]


def test_it_is_told_how_far_the_removal_of_devices_is(database: MovingDatabase, pingone: PingOne, desk: Desk) -> None:
    make(database, pingone, [OURS | {"status": Status.ACTIVE}] * 3 + [OPEN | {"otp_sent_at": database.read_clock()}])

    desk.command.examine("shipment")
    assert desk.told == [("Reading devices", done, 3) for done in range(4)]

    desk.told.clear()
    desk.command.undo("shipment")
    waits = [step for step in desk.told if step == ("Waiting until the last requests to pair are over", 0, None)]
    assert waits
    assert desk.told[len(waits) :] == [("Removing devices", done, 4) for done in range(5)]
