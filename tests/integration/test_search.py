"""What is read out of the database about a token: records that a search finds, its history, and the hand-out that says
who has it. What all of these show is in golden files."""

import csv
import io
import json
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert, update
from support.data.batches import ENVIRONMENT_ID, TESTER, make_batch
from support.data.loading import LoadingDesk, token
from support.data.moving_clock import ON_SQLITE, MovingDatabase
from support.data.progress import Heard

from models.batch import Batch
from models.pace import LicensePace
from models.reason import Reason
from models.record import Record
from models.record_states import Status
from models.refused_row import NOT_LOADED, RefusedRow
from worker.batches.commands import Batches
from worker.batches.finding import UnknownBatch
from worker.reports.export import write_hand_out
from worker.reports.facts import read_statuses
from worker.reports.search import Sought, count_others, search
from worker.reports.token_history import UnknownToken, describe_next, read_histories

DEVICE = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f"
USER = "3f0c8a52-8a4e-4f0e-9b1d-0c5a6e7f8091"
KNOWN: dict[str, Any] = {
    "serial_number": "ACME0017",
    "device_id": DEVICE,
    "user_id": USER,
    "username": "alice",
    "email": "Alice@example.test",
    "external_id": "E-4711",
    "lot": "L_7",
    "extra": {"Cost center": "Basel%1", "note": None},
}


# The search.


def serials(database: MovingDatabase, sought: Sought, limit: int = 50) -> list[str]:
    return [each.serial_number for each in search(database, sought, limit).found]


@pytest.fixture
def two_batches(database: MovingDatabase) -> None:
    """One with a record of which all is known, and another with a dead letter and an active one."""
    dead_letter = {"status": Status.DEAD_LETTER, "reason": Reason.LOCKED, "username": "bob"}
    active = {"serial_number": "OTHER2", "status": Status.ACTIVE, "email": "bob@example.test"}
    make_batch(database, [KNOWN, {"serial_number": "ACME0018"}, {"serial_number": "OTHER1"}], name="july")
    make_batch(database, [{"serial_number": "ACME0019"} | dead_letter, active], name="august")


@pytest.mark.usefixtures("two_batches")
def test_whatever_is_known_of_a_token_finds_it_by_its_beginning_and_by_nothing_else(database: MovingDatabase) -> None:
    known = ("ACME0017", "acme0017", DEVICE, DEVICE[:9], USER[:8].upper(), "alice", "ALI", "alice@exa", "E-47", "L_7")
    others = ("CME0017", "lice", "asel", "Cost center", "B%1", "L%7", "E_47", "null", "ACME00170")
    found = {text: serials(database, Sought(text=text)) for text in (*known, "basel", "Basel%1", "Basel%", *others)}
    assert found == {text: [] if text in others else ["ACME0017"] for text in found}


@pytest.mark.usefixtures("two_batches")
def test_conditions_narrow_it_and_the_latest_batch_comes_first(database: MovingDatabase) -> None:
    for sought, found in (
        (Sought(batch="july"), ["ACME0017", "ACME0018", "OTHER1"]),
        (Sought(status="dead_letter"), ["ACME0019"]),
        (Sought(reason="locked"), ["ACME0019"]),
        (Sought(user="BOB"), ["ACME0019", "OTHER2"]),
        (Sought(user=USER[:6]), ["ACME0017"]),
        (Sought(user="L_7"), []),
        (Sought(text="ACME", batch="august"), ["ACME0019"]),
        (Sought(text="ACME0017", batch="august"), []),
        (Sought(text="ACME0017", status="active"), []),
        (Sought(text="bob", status="active"), ["OTHER2"]),
        (Sought(), ["ACME0019", "OTHER2", "ACME0017", "ACME0018", "OTHER1"]),
    ):
        assert serials(database, sought) == found, sought
    for limit, more in ((1, 4), (4, 1), (5, 0), (6, 0)):
        findings = search(database, Sought(), limit)
        assert (len(findings.found), findings.more) == (5 - more, more)
    with pytest.raises(UnknownBatch, match="'september'"):
        search(database, Sought(batch="september"), 50)


@pytest.mark.usefixtures("two_batches")
def test_serial_numbers_that_fill_the_list_are_enough(database: MovingDatabase) -> None:
    """The index of serial numbers serves them."""

    def look(text: str, limit: int = 50) -> tuple[list[str], int | None, bool]:
        findings = search(database, Sought(text=text), limit)
        return [each.serial_number for each in findings.found], findings.more, findings.is_by_serial_number

    assert look("AcMe", 2) == (["ACME0019", "ACME0017"], 1, True)

    # A beginning finds serial numbers and names alike; a whole serial number is enough, with what is longer.
    make_batch(database, [{"serial_number": "X1", "username": "acme0018"}, {"serial_number": "ACME00182"}])
    assert look("acme") == (["X1", "ACME00182", "ACME0019", "ACME0017", "ACME0018"], 0, False)
    assert look("acme0018") == (["ACME00182", "ACME0018"], 0, True)


@pytest.mark.parametrize("value", ['say "so"', "back\\slash", "Zürich", "two\nlines"])
def test_a_value_is_found_whatever_characters_are_in_it(database: MovingDatabase, value: str) -> None:
    make_batch(database, extra={"note": value})

    assert [len(serials(database, Sought(text=text))) for text in (value, value[:-1], value + "!")] == [1, 1, 0]


def test_others_are_the_longer_serial_numbers_that_begin_so_each_counted_once(database: MovingDatabase) -> None:
    serial_numbers = ("ACME1", "ACME10", "ACME11", "OTHER1", "1")
    make_batch(database, [{"serial_number": each, "status": Status.ACTIVE} for each in serial_numbers], name="july")
    make_batch(database, [{"serial_number": "ACME10", "device_id": "another"}], name="august")

    texts = ("ACME1", "acMe1", "ACME10", "two words", "#1", DEVICE)
    assert [count_others(database, text) for text in texts] == [2, 2, 0, 0, 0, 0]


@ON_SQLITE
def test_a_token_is_named_if_all_that_was_found_is_of_it(database: MovingDatabase) -> None:
    columns = {"serial_number": "ACME1", "status": Status.ACTIVE}
    make_batch(database, [columns, {"serial_number": "OTHER1"}], name="july")
    later = make_batch(database, [columns | {"device_id": "another"}], name="august")
    refused = {"batch_id": later.batch_id, "environment_id": ENVIRONMENT_ID, "reason": "otps_unfit", "detail": "short"}
    rows = [refused | {"row_number": row, "serial_number": each} for row, each in ((7, "ACME1"), (8, "NEW1"))]
    database.change(insert(RefusedRow).values(rows))

    def name(text: str, limit: int = 50) -> str | None:
        return search(database, Sought(text=text), limit).name_only_token()

    assert (name("ACM"), name("NE"), name("OTH")) == (f"#{later.id}", "NEW1", "#2")
    # Another begins so; or what else is listed nobody knows.
    make_batch(database, serial_number="ACME1", name="there", environment="second", environment_id="other")
    assert (name("ACM"), name("A", 1), name("nothing")) == (None, None, None)


def test_serial_numbers_are_found_by_the_index_alone(database: MovingDatabase) -> None:
    make_batch(database, [{"serial_number": f"ACME{number:05}"} for number in range(3000)])
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    noted: list[tuple[str, Any]] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: noted.append(given[2:4]))

    findings = search(database, Sought(text="ACME000"), 50)

    assert (len(findings.found), findings.more) == (50, 50)
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
    with database.reading() as connection:
        for statement, parameters in [each for each in noted if "FROM record" in each[0]]:
            plan = "\n".join(str(row[-1]) for row in connection.exec_driver_sql(explain + statement, parameters))
            assert "ix_record_history" in plan, plan


# The history of a token.


@ON_SQLITE
def test_a_token_is_found_by_whatever_names_it_and_has_a_history_in_each_environment(database: MovingDatabase) -> None:
    first = make_batch(database, 3, name="others")
    made = make_batch(database, serial_number="MADE7", device_id=DEVICE)
    for spelling in ("MADE7", " MADE7 ", "made7", DEVICE, DEVICE.upper(), f"#{made.id}"):
        found = [record.id for token in read_histories(database, spelling) for record in token.records]
        assert found == [made.id], spelling
    for unknown in ("MADE8", "#999999", USER, "9" * 30, "", "two words"):
        with pytest.raises(UnknownToken, match="no record has"):
            read_histories(database, unknown)

    # A plain number is a serial number, and no record's number.
    number = str(first.ids[1])
    second = make_batch(database, name="second", serial_number=number)
    (by_serial,), (by_number,) = (read_histories(database, text) for text in (number, f"#{number}"))
    assert (by_serial.latest.id, by_number.latest.id) == (second.id, first.ids[1])
    with pytest.raises(UnknownToken, match=r"written '#123'"):
        read_histories(database, str(first.ids[0]))

    make_batch(database, name="there", environment="second", environment_id="other", serial_number="MADE7")
    assert [token.environment for token in read_histories(database, "MADE7")] == ["default", "second"]


@ON_SQLITE
def test_a_tokens_latest_record_is_the_one_that_ended_last_whenever_it_was_loaded(database: MovingDatabase) -> None:
    """A mend lets it go again in the earlier batch."""
    first = make_batch(database, [{"serial_number": "MADE7", "status": Status.ACTIVE}], name="first")
    second = make_batch(database, [{"serial_number": "MADE7", "status": Status.CANCELLED}], name="second")
    for seconds, made in ((2.0, first), (1.0, second)):
        ended = update(Record).where(Record.id == made.id)
        database.change(ended.values(finalized_at=database.now(seconds)))
    (token,) = read_histories(database, "MADE7")
    assert [record.batch.name for record in token.records] == ["second", "first"]

    third = make_batch(database, [{"serial_number": "MADE7"}], name="third")
    assert read_histories(database, "MADE7")[0].latest.id == third.id


@ON_SQLITE
@pytest.mark.parametrize(
    ("columns", "is_replayable"),
    [
        ({"reason": Reason.FORBIDDEN, "otp1_state": "answered"}, True),
        ({"reason": Reason.LOCKED}, True),
        ({"reason": Reason.LOCKED, "otp1_state": "answered"}, False),
        ({"reason": Reason.INVALID_OTP, "otp1_state": "answered"}, False),
        ({"reason": Reason.INVALID_OTP, "otp1_state": "answered", "next_counter": 5}, True),
        ({"reason": Reason.FORBIDDEN, "otps": None}, False),
        ({}, False),
    ],
)
def test_a_replay_is_promised_to_what_it_would_take(
    database: MovingDatabase, columns: dict[str, object], is_replayable: bool
) -> None:
    make_batch(database, serial_number="MADE7", status=Status.DEAD_LETTER, **columns)

    (token,) = read_histories(database, "MADE7")
    (status,) = read_statuses(database)

    assert token.latest.is_replayable is is_replayable
    assert status.replayable == ({columns["reason"]: 1} if is_replayable else {})
    assert Batches(database, TESTER).replay("shipment").records == int(is_replayable)


@ON_SQLITE
def test_what_holds_a_record_back_is_read_with_it_and_no_otp_and_no_seed(database: MovingDatabase) -> None:
    seed = {"otps": b"a sealed seed", "next_counter": 7, "first_counter": 0}
    make_batch(database, [{"serial_number": "MADE7", "otps": b"a sealed pair"}, {"serial_number": "MADE8"} | seed])
    now = database.read_clock()
    hold = {"held_since": now, "held_until": now + timedelta(seconds=90), "held_why": "PingOne answered 503"}
    database.change(insert(LicensePace).values(license="gold", **hold), update(Batch).values(canary=5, trial=3))

    (token,) = read_histories(database, "MADE7", lambda *_: "gold")

    assert (token.hold and token.hold.why, token.fleet.alive) == ("PingOne answered 503", [])
    assert (token.latest.batch.canary, token.latest.batch.trial) == (5, 3)
    assert timedelta() <= token.now - now < timedelta(minutes=5)
    for serial_number in ("MADE7", "MADE8"):
        (elsewhere,) = read_histories(database, serial_number)
        assert (elsewhere.hold, elsewhere.latest.are_otps_kept) == (None, True)
        assert "sealed" not in repr(elsewhere) + json.dumps(elsewhere.to_json())


# Refused rows.


@ON_SQLITE
def test_a_token_is_shown_with_its_refused_row_and_the_record_of_the_fix(desk: LoadingDesk) -> None:
    desk.load([token(0), token(1, otp1="12")], "july")
    desk.load([token(1)], "july-fixed")
    (history,) = read_histories(desk.database, "made000001")
    told = (
        [record.batch.name for record in history.records],
        [(line.batch, line.row_number) for line in history.refused],
    )
    assert told == (["july-fixed"], [("july", 3)])


# An export has no seed that could come back with it.
@ON_SQLITE
@pytest.mark.parametrize(
    ("columns", "command"),
    [
        (["Serial", "OTP 1", "OTP 2"], "oathbulk mend july july-not_loaded.csv"),
        (["serial", "email"], "oathbulk mend july 'box 1.xml' --assign LIST"),
    ],
)
def test_a_row_that_was_not_loaded_goes_back_in_an_export_or_with_its_seed_file(
    desk: LoadingDesk, columns: list[str], command: str
) -> None:
    desk.load([token(0), token(1, otp1="12")], "july")
    desk.database.change(update(Batch).values(columns=columns, file="/boxes/box 1.xml"))
    (history,) = read_histories(desk.database, "made000001")
    assert str(describe_next(history, lease=60.0).why).endswith(f": {command}")


@ON_SQLITE
@pytest.mark.parametrize(
    ("sought", "limit", "rows", "more"),
    [
        (Sought(text="MADE000001"), 50, [3], 0),
        (Sought(text="made"), 50, [3, 4], 0),
        (Sought(status=NOT_LOADED), 50, [3, 4, 5], 0),
        (Sought(batch="july"), 50, [3, 4, 5], 0),
        (Sought(batch="june"), 50, [], 0),
        (Sought(text="MADE", status="pending"), 50, [], 0),
        (Sought(text="MADE", reason="locked"), 50, [], 0),
        (Sought(text="MADE", user="alice"), 50, [], 0),
        # No more than there is room for beside the records.
        (Sought(batch="july"), 2, [3], 2),
    ],
)
def test_a_search_finds_refused_rows(desk: LoadingDesk, sought: Sought, limit: int, rows: list[int], more: int) -> None:
    make_batch(desk.database, name="june")
    desk.load([token(0), token(1, otp1="12"), token(2, otp1="12"), token(3, serial="")], "july")

    findings = search(desk.database, sought, limit)

    assert [line.row_number for line in findings.refused] == rows
    assert (findings.more, [line["row"] for line in findings.to_json()["refused"]]) == (more, rows)


# The hand-out of a batch.


def hand_out(database: MovingDatabase, record: dict[str, Any], columns: Sequence[str]) -> dict[str, str]:
    """The line of the hand-out of a batch with this record, which is active."""
    made = make_batch(database, [{"status": Status.ACTIVE, "serial_number": "MADE1", "first_counter": 7} | record])
    text = io.StringIO(newline="")
    database.change(update(Batch).where(Batch.id == made.batch_id).values(columns=list(columns)))
    assert write_hand_out(database, made.name, text) == 1
    (line,) = csv.DictReader(io.StringIO(text.getvalue(), newline=""))
    return line


@ON_SQLITE
def test_a_line_says_who_and_what_and_how_often_to_press(database: MovingDatabase) -> None:
    record = {"next_counter": 9, "username": "person1", "extra": {"site": "Oslo"}}
    *line, _ = hand_out(database, record, ["serial", "site"]).items()
    assert line == [
        *(("serial", "MADE1"), ("username", "person1"), ("email", ""), ("external_id", "")),
        *(("user_id", str(uuid.UUID(int=0))), ("site", "Oslo"), ("otp_type", "hotp"), ("presses_to_discard", "2")),
    ]
    with pytest.raises(UnknownBatch, match="'nothing'"):
        write_hand_out(database, "nothing", io.StringIO())


@ON_SQLITE
@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(1)"])
def test_no_cell_and_no_header_begins_a_formula(database: MovingDatabase, cell: str) -> None:
    ours = ("serial", "otp1", "otp2", "user_id", "device_id", "presses to discard", "status")
    line = hand_out(database, {"extra": {cell: cell}}, [*ours, cell])
    assert line[f"'{cell}"] == f"'{cell}"
    assert not [text for pair in line.items() for text in pair if text.startswith(("=", "+", "-", "@"))]
    assert not {"otp1", "otp2", "presses to discard", "status"} & set(line)


@ON_SQLITE
def test_only_what_is_active_is_handed_out_in_the_order_of_the_file_and_it_is_told_how_far(
    database: MovingDatabase,
) -> None:
    others = [{"status": status} for status in Status if status != Status.ACTIVE]
    rows = [{"status": Status.ACTIVE, "serial_number": f"S{number}"} for number in range(1001)]
    make_batch(database, [*rows[:1], *others, *rows[1:]])
    text, heard = io.StringIO(newline=""), Heard()

    assert write_hand_out(database, "shipment", text, heard) == 1001

    lines = csv.DictReader(io.StringIO(text.getvalue(), newline=""))
    assert [line["serial"] for line in lines] == [f"S{number}" for number in range(1001)]
    assert heard == [("Writing records", 1000, 1001)]
