"""What a person's commands changed in records, and what these were before: told with the attempts, found by the names
of those who had a token, and gone with an erasure and a purge."""

import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from support.data.batches import TESTER, Made, count, look, make_batch
from support.data.moving_clock import MovingDatabase

from models.audit import Action
from models.batch import Batch, BatchState
from models.change import Change
from models.reason import Reason
from models.record import Record
from models.record_states import CLOSED, Status
from worker import audit
from worker.audit import Actor
from worker.batches.commands import Batches
from worker.batches.long_list import may_go
from worker.batches.mending import NotGiven, give
from worker.leases import replay
from worker.leases.moves import note_device_gone, note_tokens_gone, take_back
from worker.purging import Erasure, Purging
from worker.reports.facts import read_statuses
from worker.reports.search import Sought, describe_former, search
from worker.reports.token_history import describe_change, read_histories, sort_history

DEVICE = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f"
LEA = {"user_id": "3f0c8a52-8a4e-4f0e-9b1d-0c5a6e7f8091", "username": "lea.santos", "device_id": DEVICE}
MADE = {"is_device_made": True, "is_token_made": True, "is_in_inventory": True}
FAILED = {"status": Status.DEAD_LETTER, "reason": Reason.LOCKED}
ADA = Actor("ada", "INC-7")


def changes(database: MovingDatabase) -> list[tuple[Any, ...]]:
    with database.reading() as connection:
        found = select(Change.record_id, Change.audit_id, Change.username, Change.device_id).order_by(Change.id)
        return [tuple(row) for row in connection.execute(found)]


def undo(database: MovingDatabase, made: Made) -> None:
    """What an undo writes down that removes a device, and then revokes its token."""
    with database.changing_many() as connection:
        line = audit.append(database, connection, ADA, Action.UNDO, "shipment", {})
        assert note_device_gone(database, connection, made.ids[0], DEVICE, was_made=True, line=line)
    with database.changing_many() as connection:
        assert note_tokens_gone(database, connection, [made.ids[0]], line=line) == 1


def test_an_undo_keeps_whose_the_token_was_and_its_device_once(database: MovingDatabase) -> None:
    made = make_batch(database, [LEA | MADE | {"status": Status.ACTIVE}])
    undo(database, made)
    assert changes(database) == [(made.ids[0], 1, "lea.santos", DEVICE)]
    with database.changing_many() as connection:
        take_back(database, connection, [made.ids[0]], line=1)
    assert len(changes(database)) == 1


def test_an_undo_ended_what_a_mend_later_gives_to_somebody_else(database: MovingDatabase) -> None:
    made = make_batch(database, [LEA | MADE | {"status": Status.ACTIVE}])
    undo(database, made)
    with database.changing_many() as connection:
        take_back(database, connection, [made.ids[0]], line=1)
        bob = {"this_id": made.ids[0], "user_id": "0f0b7a52-8a4e-4f0e-9b1d-0c5a6e7f8091", "username": "bob"}
        assert replay.mend(database, connection, Status.CANCELLED, [bob]) == 1
        audit.append(database, connection, ADA, Action.MEND, "shipment", {})

    assert len(changes(database)) == 2
    (former,) = search(database, Sought(text="lea.sant"), 50).former
    assert describe_former(former).endswith("undo by ada, ticket INC-7")


def test_a_mend_keeps_who_had_the_token_before_and_the_search_finds_them_until_then(database: MovingDatabase) -> None:
    made = make_batch(database, [LEA | FAILED, {"username": "lea.santoro"}])
    bob = {"this_id": made.ids[0], "user_id": "0f0b7a52-8a4e-4f0e-9b1d-0c5a6e7f8091", "username": "bob"}
    with database.changing_many() as connection:
        assert replay.mend(database, connection, Status.DEAD_LETTER, [bob]) == 1
        audit.append(database, connection, ADA, Action.MEND, "shipment", {})

    assert changes(database) == [(made.ids[0], 1, "lea.santos", DEVICE)]
    found = search(database, Sought(text="lea.sant"), 50)
    assert sorted(str(row.username) for row in found.found) == ["bob", "lea.santoro"]
    (former,) = found.former
    assert (former.record, former.username) == (made.ids[0], "lea.santos")
    assert describe_former(former).endswith("mend by ada, ticket INC-7")
    # By PingOne's id of the user, too; and who has it now has it.
    assert [row.record for row in search(database, Sought(user=LEA["user_id"]), 50).former] == [made.ids[0]]
    assert search(database, Sought(user="bob"), 50).former == ()

    (token,) = read_histories(database, f"#{made.ids[0]}")
    ((place, line),) = sort_history(token.latest)
    assert (place, describe_change(line)) == (None, f"mend by ada, ticket INC-7; before: lea.santos (device {DEVICE})")


@pytest.mark.parametrize("status", [Status.DEAD_LETTER, Status.PENDING])
def test_what_a_person_closes_is_not_left_and_goes_again_only_if_it_is_chosen(
    database: MovingDatabase, status: Status
) -> None:
    failed = LEA | ({"status": status, "reason": Reason.LOCKED} if status == Status.DEAD_LETTER else {})
    made = make_batch(database, [failed, {"status": Status.ACTIVE}, FAILED])
    batches = Batches(database, TESTER)

    assert batches.cancel("shipment", ["username=lea.santos"]) == 1

    record = look(database, made.ids[0])
    assert (record.status, record.reason) == (Status.CANCELLED, CLOSED)
    assert changes(database) == [(made.ids[0], 1, "lea.santos", DEVICE)]
    # Once more, it changes nothing, and neither does a replay of all.
    assert batches.cancel("shipment", ["username=lea.santos"]) == 0
    assert batches.replay("shipment").records == 1
    assert look(database, made.ids[0]).status == Status.CANCELLED
    assert batches.replay("shipment", where=["username=lea.santos"]).records == 1
    assert look(database, made.ids[0]).status == Status.PENDING
    assert [each[:2] for each in changes(database)] == [(made.ids[0], 1), (made.ids[2], 3), (made.ids[0], 4)]


def test_what_is_active_or_has_begun_is_not_closed(database: MovingDatabase) -> None:
    begun = {"otp1_state": "answered", "otp1_posts": 1}
    lea = {"username": "lea.santos"}
    make_batch(database, [lea | {"status": Status.ACTIVE}, lea | begun, lea | {"status": Status.QUEUED}])
    assert Batches(database, TESTER).cancel("shipment", ["username=lea.santos"]) == 0
    assert changes(database) == []


def test_the_schedule_changes_no_history_and_every_change_has_its_line(database: MovingDatabase) -> None:
    make_batch(database, [FAILED | {"reason": Reason.BUDGET_SPENT, "otps": b"x"}, FAILED])
    batches = Batches(database, TESTER)
    batches.replay_transient()
    assert changes(database) == []
    batches.replay("shipment")
    assert changes(database)
    assert all(line is not None for _, line, *_ in changes(database))


@pytest.mark.parametrize("owner", ["lea.santos", "somebody.else"])
def test_an_erasure_goes_through_the_changes_and_a_purge_takes_them_along(database: MovingDatabase, owner: str) -> None:
    made = make_batch(database, [LEA | MADE | {"status": Status.ACTIVE}], state=BatchState.CANCELLED)
    undo(database, made)
    with database.writing() as connection:
        connection.execute(update(Record).values(username=owner))
    Erasure(database, TESTER).erase("Lea.Santos")
    assert changes(database) == [(made.ids[0], 1, None, DEVICE)]
    assert search(database, Sought(text="lea.sant"), 50).found == []

    database.ahead = timedelta(days=40).total_seconds()
    purging = Purging(database, TESTER, timedelta(days=30))
    purging.purge(purging.examine())
    assert count(database, Change) == count(database, Record) == 0


# Tokens that are given out at a table.

ON_TABLE = {"user_id": "", "device_id": "", "pairing": "unsent", "is_in_inventory": True}
ANN = {"email": "ann@x.test", "user_id": "3f0c8a52-8a4e-4f0e-9b1d-0c5a6e7f8091"}


@pytest.fixture
def table(database: MovingDatabase) -> Made:
    """Two tokens wait to be given out; others are somebody's, failed, or paired by somebody else."""
    differing: list[dict[str, Any]] = [
        *(ON_TABLE | {"serial_number": serial} for serial in ("0012", "0013")),
        ANN | {"serial_number": "0020", "status": Status.ACTIVE},
        {"email": "bob@x.test", "user_id": "", "serial_number": "0021"},
        ON_TABLE | FAILED | {"serial_number": "0022"},
        ON_TABLE | {"serial_number": "0023", "owner_id": "somebody"},
        ANN | {"serial_number": "0024", "status": Status.ACTIVE, "next_counter": 2},
    ]
    return make_batch(database, differing)


def test_a_token_is_given_out_before_all_others_and_its_history_says_by_whom(
    database: MovingDatabase, table: Made
) -> None:
    (status,) = read_statuses(database, "shipment")
    assert (status.on_the_table, status.to_do, status.waiting) == (3, 4, {"user": 1, "token": 0})
    assert give(database, ADA, "shipment", "0012", "cleo@x.test") == table.ids[0]
    record = look(database, table.ids[0])
    assert (record.email, record.user_id, record.username) == ("cleo@x.test", "", None)
    assert record.scheduled_at < look(database, table.ids[1]).scheduled_at
    (line,) = (change for history in read_histories(database, "0012") for change in history.latest.changes)
    assert (line.action, line.actor, line.ticket, line.email) == (Action.GIVE, "ada", "INC-7", None)
    (status,) = read_statuses(database, "shipment")
    assert (status.on_the_table, status.waiting) == (2, {"user": 2, "token": 0})


@pytest.mark.parametrize(
    ("serial", "person", "why"),
    [
        ("12", "cleo@x.test", "has the token as 0012: write it that way"),
        ("0099", "cleo@x.test", "has no token 0099"),
        (
            "0020",
            "cleo@x.test",
            "and active: if the batch is running, end `oathbulk run` and type `oathbulk pause shipment` first",
        ),
        (
            "0024",
            "cleo@x.test",
            "`oathbulk mend shipment FILE --assign LIST` with the token and its new person, and with the key",
        ),
        ("0021", "cleo@x.test", "the token is bob@x.test's already"),
        ("0022", "cleo@x.test", "failed or is closed: take it back at the desk"),
        ("0023", "cleo@x.test", "PingOne has the token as a device already"),
        ("0013", "Ann@X.test", "batch 'shipment' has a token for Ann@X.test already"),
    ],
)
def test_a_wrong_scan_is_told_before_anything_is_done(
    database: MovingDatabase, table: Made, serial: str, person: str, why: str
) -> None:
    with pytest.raises(NotGiven, match=re.escape(why)):
        give(database, TESTER, "shipment", serial, person)
    assert (changes(database), count(database, Record)) == ([], len(table.ids))


def test_whoever_has_a_token_gets_a_second_one_only_if_that_is_meant(database: MovingDatabase, table: Made) -> None:
    assert give(database, TESTER, "shipment", "0013", "ann@x.test", may_have_two=True) == table.ids[1]
    with pytest.raises(NotGiven, match="already, and in progress"):
        give(database, TESTER, "shipment", "0013", "cleo@x.test")


def test_first_records_are_those_that_are_given_out(database: MovingDatabase, table: Made) -> None:
    database.change(update(Batch).values(trial=3))
    with database.reading() as connection:
        first = select(Record.serial_number).where(*may_go(table.batch_id, 3)).order_by(Record.id)
        assert list(connection.scalars(first)) == ["0020", "0021", "0022"]
