"""What is read out of the database for a person, on both databases."""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, enqueue, make_batch
from support.data.moving_clock import MovingDatabase
from support.data.progress import Heard

from models.batch import BatchState
from models.encrypted import DecryptionError, Keyring, generate_key
from models.pace import LicensePace
from models.reason import CURES, PauseReason, Reason
from models.record_states import Status
from worker.batches.commands import Batches
from worker.batches.finding import UnknownBatch
from worker.batches.loading import Loader
from worker.batches.upkeep import Upkeep
from worker.config.environment import Environment
from worker.intake import Hints, open_shipment
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.pingone.errors import Answer
from worker.reports.export import RESULT_COLUMNS, export
from worker.reports.facts import FEWEST_SETTLED, read_statuses
from worker.rules.breaker import Thresholds
from worker.rules.progress import Active, DeadLetter, Decision, Retry

# DESIGN, section 5. More keys may be added; none of these goes away.
KEYS = {
    "batch": str,
    "environment": str,
    "state": str,
    "reason": str | None,
    "total": int,
    "rows_refused": int,
    "counts": dict,
    "resynced": int,
    "attempts": int,
    "otp_posts": int,
    "requests": int,
    "rate_limited": int,
    "dead_letters": dict,
    "created_at": str,
    "finished_at": str | None,
}
COUNTS = {"pending", "queued", "activating", "active", "dead_letter", "cancelled"}
ANSWER = Answer(400, "INVALID_DATA", "INVALID_OTP", "error-1", "correlation-1", None)


def report(database: MovingDatabase, name: str = "shipment") -> dict[str, Any]:
    """As a program reads it from `oathbulk status BATCH --json`."""
    (status,) = read_statuses(database, name)
    answer = json.loads(json.dumps(status.to_json()))
    assert isinstance(answer, dict)
    return answer


def settle(database: MovingDatabase, leases: Leases, made: Made, *ends: tuple[Decision, CallSummary, bool]) -> None:
    """The next records of the batch end so; the flag says whether the second OTP went out too."""
    for decision, tally, is_resync in ends:
        (record_id,) = enqueue(database, made, room=1)
        claimed = leases.claim(record_id, ENVIRONMENT_ID)
        assert claimed is not None
        progress = claimed.progress.with_otp_answered(1)
        if is_resync:
            progress = progress.with_otp_sent(2).with_otp_answered(2)
        assert leases.settle(claimed, progress, decision, tally)


# The status.


def test_the_status_has_the_keys_that_programs_rely_on(database: MovingDatabase) -> None:
    make_batch(database, [{"status": status} for status in Status])

    answer = report(database)

    assert KEYS.keys() <= answer.keys()
    assert [key for key, type_ in KEYS.items() if not isinstance(answer[key], type_)] == []
    assert answer["counts"].keys() == COUNTS


def test_a_batch_that_was_just_loaded(database: MovingDatabase) -> None:
    make_batch(database, 3)

    answer = report(database)

    assert answer["batch"] == "shipment"
    assert answer["environment"] == "default"
    assert (answer["state"], answer["reason"], answer["finished_at"]) == ("running", None, None)
    assert (answer["total"], answer["rows_refused"]) == (3, 0)
    assert answer["counts"] == dict.fromkeys(COUNTS, 0) | {"pending": 3}
    assert answer["dead_letters"] == {}
    assert [answer[key] for key in ("resynced", "attempts", "otp_posts", "requests", "rate_limited")] == [0] * 5
    assert datetime.fromisoformat(answer["created_at"]).utcoffset() == timedelta(0)


def test_counts_and_costs_add_up(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, 6)
    settle(
        database,
        leases,
        made,
        (Active(), CallSummary(1, 0), False),
        (Active(), CallSummary(3, 1), True),
        (DeadLetter(Reason.INVALID_OTP), CallSummary(2, 0, ANSWER), False),
        (DeadLetter(Reason.RESYNC_FAILED), CallSummary(3, 0, ANSWER), True),
        (Retry(600.0, is_counted=True, why="outcome_unknown"), CallSummary(1, 0), False),
    )

    answer = report(database)

    assert answer["counts"] == dict.fromkeys(COUNTS, 0) | {"active": 2, "dead_letter": 2, "pending": 2}
    assert answer["dead_letters"] == {"invalid_otp": 1, "resync_failed": 1}
    assert answer["resynced"] == 1
    assert answer["attempts"] == 5
    assert answer["otp_posts"] == 7
    assert (answer["requests"], answer["rate_limited"]) == (10, 1)
    assert sum(answer["counts"].values()) == answer["total"]


def test_the_records_of_all_batches_are_gone_through_once(database: MovingDatabase) -> None:
    make_batch(database, [{}, {"status": Status.DEAD_LETTER, "reason": Reason.LOCKED}])
    make_batch(database, 2, name="other", status=Status.ACTIVE)
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))

    assert len(read_statuses(database)) == 2

    assert len([statement for statement in statements if re.search(r"\bFROM record\b", statement)]) == 1


def test_a_batch_is_finished_when_every_record_is_final(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, 2)
    settle(database, leases, made, (DeadLetter(Reason.LOCKED), CallSummary(1), False))
    assert (report(database)["state"], report(database)["finished_at"]) == ("running", None)

    database.ahead = 500
    settle(database, leases, made, (Active(), CallSummary(1), False))

    answer = report(database)
    assert answer["state"] == "finished"
    finished_at, created_at = (datetime.fromisoformat(answer[key]) for key in ("finished_at", "created_at"))
    assert timedelta(seconds=500) <= finished_at - created_at < timedelta(seconds=600)


def test_a_replay_makes_a_finished_batch_run_again(database: MovingDatabase) -> None:
    make_batch(database, status=Status.DEAD_LETTER, reason=Reason.FORBIDDEN)
    assert report(database)["state"] == "finished"

    Batches(database, TESTER).replay("shipment")

    answer = report(database)
    assert (answer["state"], answer["finished_at"], answer["dead_letters"]) == ("running", None, {})


def test_a_paused_batch_says_why(database: MovingDatabase) -> None:
    made = make_batch(database)
    Upkeep(database, Thresholds()).pause(made.batch_id, PauseReason.CREDENTIALS)

    assert (report(database)["state"], report(database)["reason"]) == ("paused", "credentials")


def test_a_batch_that_was_cancelled_says_so_when_it_is_over_too(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, 2)
    (record_id,) = enqueue(database, made, room=1)
    claimed = leases.claim(record_id, ENVIRONMENT_ID)
    assert claimed is not None
    Batches(database, TESTER).cancel("shipment")
    answer = report(database)
    assert (answer["state"], answer["reason"], answer["finished_at"]) == ("cancelled", None, None)
    assert answer["counts"] == dict.fromkeys(COUNTS, 0) | {"cancelled": 1, "activating": 1}

    leases.settle(claimed, claimed.progress.with_otp_answered(1), Active(), CallSummary(1))

    answer = report(database)
    assert answer["state"] == "cancelled"
    assert answer["finished_at"] is not None
    assert answer["counts"] == dict.fromkeys(COUNTS, 0) | {"cancelled": 1, "active": 1}


def test_the_pace_is_what_was_settled_lately(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, FEWEST_SETTLED + 20)
    settle(database, leases, made, *[(Active(), CallSummary(1), False)] * (FEWEST_SETTLED - 1))
    database.ahead = 10
    assert [status.eta_seconds for status in read_statuses(database)] == [None]

    settle(database, leases, made, (Active(), CallSummary(1), False))
    (status,) = read_statuses(database)
    # Ten seconds, and what a busy machine took beside them.
    assert FEWEST_SETTLED / 40 < status.pace <= FEWEST_SETTLED / 9
    assert status.eta_seconds == pytest.approx(20 / status.pace)

    database.ahead = 100
    assert [(status.pace, status.eta_seconds) for status in read_statuses(database)] == [(0, None)]


def test_a_paused_batch_tells_until_when_its_records_in_work_may_be_waited_for(database: MovingDatabase) -> None:
    ends = [database.read_clock() + timedelta(seconds=seconds) for seconds in (20, 45)]
    in_work = [{"status": Status.ACTIVATING, "lease_until": end} for end in ends]
    queued = {"status": Status.QUEUED, "lease_until": database.read_clock() + timedelta(seconds=90)}
    make_batch(database, [*in_work, queued], name="paused", state=BatchState.PAUSED)
    make_batch(database, in_work, name="running")
    make_batch(database, 1, name="resting", state=BatchState.PAUSED)
    found = {status.name: status.in_work_until for status in read_statuses(database)}
    assert found == {"paused": ends[1], "running": None, "resting": None}


def test_the_status_tells_when_the_next_record_is_due(database: MovingDatabase) -> None:
    now = database.read_clock()
    make_batch(database, [{"scheduled_at": now + timedelta(seconds=seconds)} for seconds in (90, 30)])

    (status,) = read_statuses(database, "shipment")

    assert status.next_due_at is not None
    assert abs(status.next_due_at - now - timedelta(seconds=30)) < timedelta(milliseconds=10)


def test_every_batch_is_listed_the_latest_first(database: MovingDatabase) -> None:
    assert read_statuses(database) == []
    for name in ("a", "c", "b"):
        make_batch(database, name=name)

    assert [status.name for status in read_statuses(database)] == ["b", "c", "a"]


def test_a_batch_that_is_not_there_has_no_status(database: MovingDatabase) -> None:
    with pytest.raises(UnknownBatch, match="'nothing'"):
        read_statuses(database, "nothing")


# The export.


@pytest.fixture
def load_file(database: MovingDatabase, keyring: Keyring) -> Any:
    """Loads a file as a batch of this name."""
    environment = Environment(name="default", environment_id=ENVIRONMENT_ID, client_id="id", client_secret="secret")

    def load_named(path: Path, name: str) -> Made:
        loaded = Loader(database, keyring, environment, TESTER).load(open_shipment(path), name)
        return Made(loaded.batch_id, loaded.name, [])

    return load_named


@pytest.fixture
def load(load_file: Any, tmp_path: Path) -> Any:
    """Loads a file of these lines as the batch `shipment`."""

    def load_lines(*lines: str) -> Made:
        path = tmp_path / "shipment.csv"
        path.write_text("\n".join(lines) + "\n")
        made = load_file(path, "shipment")
        assert isinstance(made, Made)
        return made

    return load_lines


def ids(number: int) -> str:
    return f"{uuid.UUID(int=number)},{uuid.UUID(int=1 << 100 | number)}"


def exported(database: MovingDatabase, **options: Any) -> list[list[str]]:
    text = io.StringIO(newline="")
    written = export(database, "shipment", text, **options)
    lines = list(csv.reader(io.StringIO(text.getvalue(), newline="")))
    assert written == len(lines) - 1
    return lines


def test_an_export_has_the_columns_of_the_file_and_then_the_results(database: MovingDatabase, load: Any) -> None:
    load("Cost Centre,Serial Number,OTP 1,user_id,device_id,lot", f"4711,MADE1,012345,{ids(1)},L-1")

    header, row = exported(database)

    assert header == ["Cost Centre", "Serial Number", "OTP 1", "user_id", "device_id", "lot", *RESULT_COLUMNS]
    assert RESULT_COLUMNS == (
        "status",
        "reason",
        "detail",
        "pingone_error_id",
        "correlation_id",
        "attempts",
        "otp_posts",
        "file_row",
    )
    results = ["pending", "", "", "", "", "0", "0", "2"]
    assert row == ["4711", "MADE1", "", *ids(1).split(","), "L-1", *results]


def test_an_export_tells_how_each_row_ended(database: MovingDatabase, leases: Leases, load: Any) -> None:
    made = load("serial,otp1,otp2,user_id,device_id", *(f"MADE{n},11111{n},22222{n},{ids(n)}" for n in range(2)))
    settle(
        database,
        leases,
        made,
        (DeadLetter(Reason.RESYNC_FAILED), CallSummary(2, 0, ANSWER), True),
        (Active(), CallSummary(1), False),
    )

    rows = [row[-8:-1] for row in exported(database)[1:]]

    dead = ["dead_letter", "resync_failed", CURES[Reason.RESYNC_FAILED], "error-1", "correlation-1", "1", "2"]
    assert sorted(rows) == sorted([dead, ["active", "", "", "", "", "1", "1"]])


def test_rows_come_in_the_order_of_the_file_and_by_status(database: MovingDatabase, leases: Leases, load: Any) -> None:
    made = load("serial,otp1,user_id,device_id", *(f"MADE{n},11111{n},{ids(n)}" for n in (5, 3, 4)))
    settle(database, leases, made, (Active(), CallSummary(1), False))

    assert [row[0] for row in exported(database)[1:]] == ["MADE5", "MADE3", "MADE4"]
    assert len(exported(database, status=Status.ACTIVE)) == 2
    assert len(exported(database, status=Status.PENDING)) == 3
    assert len(exported(database, status=Status.DEAD_LETTER)) == 1


def test_more_rows_than_are_fetched_at_once_are_exported(database: MovingDatabase) -> None:
    make_batch(database, 1200)
    heard = Heard()

    assert len({row[0] for row in exported(database, on_progress=heard)[1:]}) == 1200
    assert heard == [("Writing records", 1000, 1200)]


FORMULA_STARTS = ("=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1")


def test_no_cell_begins_a_formula(database: MovingDatabase, load: Any) -> None:
    """Whoever sent the file must not run commands on the machine of whoever opens the export."""
    rows = [f'"{cell}",MADE{n},11111{n},{ids(n)},"{cell}"' for n, cell in enumerate(FORMULA_STARTS)]
    load("note,serial,otp1,user_id,device_id,lot", *rows)

    cells = [cell for row in exported(database) for cell in row]

    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []
    assert cells.count("'=1+1") == 2


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_no_part_of_a_cell_begins_a_formula_where_a_spreadsheet_splits_cells_elsewhere(
    database: MovingDatabase, load: Any, delimiter: str
) -> None:
    """Excel splits at semicolons in many languages, and then takes a quotation mark inside a cell for a letter."""
    starts = ("=", "+", "-", "@", "\uff1d", "\uff0d")
    parts = [f"a{separator}{start}1+1" for separator in (";", "\r\n", "\t", ';""') for start in starts]
    rows = [f'"{part}",MADE{n},1{n:05},{ids(n)},"{part};b"' for n, part in enumerate(parts)]
    load('"note;=1+1",serial,otp1,user_id,device_id,more', *rows)
    file = io.StringIO()

    assert export(database, "shipment", file) == len(parts)

    cells = [cell.strip('"') for line in file.getvalue().splitlines() for cell in line.split(delimiter)]
    assert [cell for cell in cells if cell.startswith(starts)] == []


def test_no_header_begins_a_formula(database: MovingDatabase, load: Any) -> None:
    load('"=HYPERLINK(""http://example.test"")",serial,otp1,user_id,device_id', f"x,MADE1,012345,{ids(1)}")

    assert exported(database)[0][0] == '\'=HYPERLINK("http://example.test")'


def test_nothing_that_pingone_answered_begins_a_formula(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database)
    answer = Answer(400, None, None, "=1+1", "@SUM(1)", None)
    settle(database, leases, made, (DeadLetter(Reason.REJECTED), CallSummary(1, 0, answer), False))

    assert exported(database)[1][-5:-3] == ["'=1+1", "'@SUM(1)"]


def test_otps_are_exported_only_with_the_keys(database: MovingDatabase, keyring: Keyring, load: Any) -> None:
    load("serial,otp1,otp2,user_id,device_id", f"MADE1,012345,543210,{ids(1)}", f"MADE2,000001,,{ids(2)}")

    assert [row[1:3] for row in exported(database)[1:]] == [["", ""], ["", ""]]
    assert [row[1:3] for row in exported(database, keyring=keyring)[1:]] == [["012345", "543210"], ["000001", ""]]


def test_otps_of_an_active_record_are_gone(
    database: MovingDatabase, leases: Leases, keyring: Keyring, load: Any
) -> None:
    made = load("serial,otp1,otp2,user_id,device_id", f"MADE1,012345,543210,{ids(1)}")
    settle(database, leases, made, (Active(), CallSummary(1), False))

    (row,) = exported(database, keyring=keyring)[1:]

    assert row[1:3] == ["", ""]
    assert row[5] == "active"


def test_an_export_with_the_wrong_key_says_so(database: MovingDatabase, load: Any) -> None:
    load("serial,otp1,user_id,device_id", f"MADE1,012345,{ids(1)}")

    with pytest.raises(DecryptionError, match="OATHBULK_ENCRYPTION_KEYS"):
        exported(database, keyring=Keyring([generate_key()]))


def test_an_export_with_otps_says_what_the_file_said(
    database: MovingDatabase, keyring: Keyring, load: Any, tmp_path: Path
) -> None:
    load(
        "serial,otp1,otp2,otp_type,generated_at,user_id,device_id,note",
        f'MADE1,012345,543210,totp,2026-03-01T10:30:00+01:00,{ids(1)},"two\nlines, and a comma"',
    )
    (original,) = open_shipment(tmp_path / "shipment.csv").rows()
    again = tmp_path / "again.csv"
    with again.open("w", newline="", encoding="utf-8") as file:
        export(database, "shipment", file, keyring=keyring)

    (row,) = open_shipment(again, hints=Hints(mends=True)).rows()

    for field in ("serial_number", "user_id", "device_id", "otps", "otp_type", "generated_at"):
        assert getattr(row, field) == getattr(original, field), field
    assert row.extra["note"] == "two\nlines, and a comma"


def test_columns_that_are_named_as_a_result_are_replaced_by_it(database: MovingDatabase, load: Any) -> None:
    load("Status,serial,otp1,user_id,device_id,correlation id,note", f"old,MADE1,012345,{ids(1)},old,kept")

    header, row = exported(database)

    assert header == ["serial", "otp1", "user_id", "device_id", "note", *RESULT_COLUMNS]
    assert row == ["MADE1", "", *ids(1).split(","), "kept", "pending", "", "", "", "", "0", "0", "2"]


def test_a_batch_that_is_not_there_is_not_exported(database: MovingDatabase) -> None:
    with pytest.raises(UnknownBatch, match="'nothing'"):
        export(database, "nothing", io.StringIO())


def test_a_status_tells_of_the_hold_of_its_license(database: MovingDatabase) -> None:
    make_batch(database)
    assert report(database)["hold"] is None
    held = {
        "license": ENVIRONMENT_ID,
        "held_since": database.now(-5),
        "held_until": database.now(60),
        "held_why": "Why",
    }
    with database.writing() as connection:
        connection.execute(insert(LicensePace).values(held))
    hold = report(database)["hold"]
    assert set(hold) == {"since", "until", "why"}
    assert hold["why"] == "Why"
    assert datetime.fromisoformat(hold["until"]) - datetime.fromisoformat(hold["since"]) == timedelta(seconds=65)
    database.ahead = 61
    assert report(database)["hold"] is None
