"""What is read out of the database for a person: how batches stand and how they came there, and the export. How that is
shown, the golden files hold."""

import csv
import io
import random
import re
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, event, select, update
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, enqueue, make_batch, make_environment
from support.data.loading import token
from support.data.moving_clock import MovingDatabase
from support.data.progress import Heard
from support.judges.secret_search import Secrets

from models.batch import Batch
from models.encrypted import DecryptionError, Keyring, generate_key
from models.reason import CURES, Reason
from models.record import Record
from models.record_states import Status
from worker.batches.commands import Batches
from worker.batches.finding import UnknownBatch
from worker.batches.loading import Loader
from worker.desk.batch_page import write_file
from worker.intake.files import Hints
from worker.intake.lists import open_assignment
from worker.intake.shipment import open_shipment
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.pingone.errors import Answer
from worker.reports.export import RESULT_COLUMNS, export
from worker.reports.facts import FEWEST_SETTLED, BatchStatus, read_statuses
from worker.reports.overview import SPANS, Overview, read_overview
from worker.rules.steps import Active, DeadLetter, Decision, Retry

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ANSWER = Answer(400, "INVALID_DATA", "INVALID_OTP", "error-1", "correlation-1", None)
UNKNOWN = Retry(600.0, is_counted=True, why="outcome_unknown")


def read(database: MovingDatabase, name: str = "shipment") -> BatchStatus:
    (status,) = read_statuses(database, name)
    return status


def read_story(database: MovingDatabase) -> Overview:
    return read_overview(database, read(database))


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
        (UNKNOWN, CallSummary(1, 0), False),
    )
    with database.writing() as connection:
        connection.execute(update(Batch).values(rows_refused=7))
        first = update(Record).where(Record.reason == Reason.INVALID_OTP)
        connection.execute(first.values(next_counter=3))

    status = read(database)

    counts = dict.fromkeys(map(str, Status), 0) | {"active": 2, "dead_letter": 2, "pending": 2}
    assert (status.counts, sum(status.counts.values()), status.total, status.rows) == (counts, 6, 6, 13)
    assert status.dead_letters == {"invalid_otp": 1, "resync_failed": 1}
    assert (status.resynced, status.attempts, status.otp_posts) == (1, 5, 7)
    assert (status.requests, status.rate_limited, status.left) == (10, 1, 2)
    # One of its dead letters has no seed; and it was loaded before refused rows were kept.
    assert (status.has_seeds, status.refused) == (False, None)


@on_sqlite
def test_the_records_of_all_batches_are_gone_through_once(database: MovingDatabase) -> None:
    for name in ("first", "second"):
        make_batch(database, [{}, {"status": Status.DEAD_LETTER, "reason": Reason.LOCKED}], name=name)
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))

    assert [status.name for status in read_statuses(database)] == ["second", "first"]

    assert len([statement for statement in statements if re.search(r"\bFROM record\b", statement)]) == 1


@on_sqlite
def test_a_batch_is_finished_when_every_record_is_final_and_runs_again_when_one_is_replayed(
    database: MovingDatabase, leases: Leases
) -> None:
    made = make_batch(database, 2)
    settle(database, leases, made, (DeadLetter(Reason.FORBIDDEN), CallSummary(1), False))
    assert (read(database).state, read(database).finished_at) == ("running", None)

    database.ahead = 500
    settle(database, leases, made, (Active(), CallSummary(1), False))

    status = read(database)
    assert status.state == "finished"
    assert status.finished_at is not None
    assert timedelta(seconds=500) <= status.finished_at - status.created_at < timedelta(seconds=600)
    Batches(database, TESTER).replay("shipment")
    assert (read(database).state, read(database).finished_at) == ("running", None)
    Batches(database, TESTER).cancel("shipment")
    # Who cancelled it is told so when it is over, too.
    assert (read(database).state, read(database).finished_at is None) == ("cancelled", False)


@on_sqlite
def test_the_pace_is_what_was_settled_lately(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, FEWEST_SETTLED + 20)
    settle(database, leases, made, *[(Active(), CallSummary(1), False)] * (FEWEST_SETTLED - 1))
    database.ahead = 10
    assert read(database).eta_seconds is None

    settle(database, leases, made, (Active(), CallSummary(1), False))
    status = read(database)
    # Ten seconds, and what a busy machine took beside them.
    assert FEWEST_SETTLED / 40 < status.pace <= FEWEST_SETTLED / 9
    assert status.eta_seconds == pytest.approx(20 / status.pace)

    database.ahead = 100
    assert (read(database).pace, read(database).eta_seconds) == (0, None)


# How it came there.


@pytest.mark.parametrize("seconds", [0.0, 1e-6, 0.05, 5000.0, 86_400.0])
def test_each_point_of_the_curve_is_true_at_its_moment_however_long_it_took(
    database: MovingDatabase, seconds: float
) -> None:
    dice, began = random.Random(4226), database.read_clock() - timedelta(hours=30)
    ends = [(dice.choice([Status.ACTIVE, Status.DEAD_LETTER]), dice.random() ** 3 * seconds) for _ in range(400)]
    ends += [(Status.ACTIVE, 0.0), (Status.DEAD_LETTER, seconds)]
    rows = [{"status": status, "finalized_at": began + timedelta(seconds=after)} for status, after in ends]
    made = make_batch(database, rows, reason=Reason.LOCKED)
    make_batch(database, 5, name="other", status=Status.ACTIVE)

    timeline = read_story(database).timeline

    active = select(Record.finalized_at).where(Record.status == Status.ACTIVE, Record.batch_id == made.batch_id)
    with database.reading() as connection:
        active_at = list(connection.scalars(active))
    assert timeline.moments[-1] == (max(active_at), len(active_at))
    assert [sum(each <= at for each in active_at) for at, _ in timeline.moments] == [
        count for _, count in timeline.moments
    ]
    assert list(timeline.moments) == sorted(timeline.moments)
    assert (50 if seconds > 1 else 0) < len(timeline.moments) <= SPANS + 1
    # Of a finished batch the time ends with its last token.
    assert abs(timeline.until - began - timedelta(seconds=seconds)) < timedelta(milliseconds=1)


@on_sqlite
def test_pauses_are_those_that_the_audit_tells(database: MovingDatabase) -> None:
    make_batch(database, 3)
    batches = Batches(database, TESTER)
    for _ in range(2):
        batches.pause("shipment")
        database.ahead += 600
        batches.resume("shipment")
        database.ahead += 60
    batches.pause("shipment")

    timeline = read_story(database).timeline

    lengths = [pause.end and round((pause.end - pause.start).total_seconds(), -1) for pause in timeline.pauses]
    assert (lengths, timeline.moments) == ([600, 600, None], ())
    assert {pause.why for pause in timeline.pauses} == {f"paused by {TESTER.name}"}


def test_all_of_it_is_from_one_moment(database: MovingDatabase) -> None:
    make_batch(database, 3)
    with database.reading_snapshot() as connection:
        count = select(Record.status).distinct()
        before = set(connection.scalars(count))
        with database.writing() as other:
            other.execute(update(Record).values(status=Status.QUEUED, lease_until=database.read_clock()))
        again = set(connection.scalars(count))
    assert before == again == {Status.PENDING}


# The export.


def load(
    database: MovingDatabase, keyring: Keyring, path: Path, *lines: str, name: str = "shipment", who: Any = None
) -> Made:
    """Load a file of these lines as a batch."""
    path.write_text("\n".join(lines) + "\n")
    loaded = Loader(database, keyring, make_environment(), TESTER).load(open_shipment(path, assignment=who), name)
    return Made(loaded.batch_id, loaded.name, [])


def ids(number: int) -> str:
    return f"{uuid.UUID(int=number)},{uuid.UUID(int=1 << 100 | number)}"


def exported(database: MovingDatabase, **options: Any) -> list[list[str]]:
    text = io.StringIO(newline="")
    written = export(database, "shipment", text, **options)
    lines = list(csv.reader(io.StringIO(text.getvalue(), newline="")))
    assert written == len(lines) - 1
    return lines


@on_sqlite
def test_an_export_has_the_columns_of_the_file_and_then_how_each_row_ended(
    database: MovingDatabase, leases: Leases, keyring: Keyring, tmp_path: Path
) -> None:
    # What is named as a result is replaced by it.
    header = "Status,Cost Centre,Serial Number,OTP 1,OTP 2,user_id,device_id,correlation id"
    rows = [f"old,4711,MADE{n},11111{n},22222{n},{ids(n)},old" for n in (5, 3, 4)]
    made = load(database, keyring, tmp_path / "shipment.csv", header, *rows)
    settle(
        database,
        leases,
        made,
        (DeadLetter(Reason.RESYNC_FAILED), CallSummary(2, 0, ANSWER), True),
        (Active(), CallSummary(1), False),
    )

    first, *rest = exported(database)

    assert first == ["Cost Centre", "Serial Number", "OTP 1", "OTP 2", "user_id", "device_id", *RESULT_COLUMNS]
    assert [row[:6] for row in rest] == [["4711", f"MADE{n}", "", "", *ids(n).split(",")] for n in (5, 3, 4)]
    dead = ["dead_letter", "resync_failed", CURES[Reason.RESYNC_FAILED], "error-1", "correlation-1", "1", "2"]
    ends = [dead, ["active", "", "", "", "", "1", "1"], ["pending", "", "", "", "", "0", "0"]]
    assert sorted(row[6:13] for row in rest) == sorted(ends)
    assert [row[13] for row in rest] == ["2", "3", "4"]
    assert len(exported(database, status=Status.DEAD_LETTER)) == 2


@on_sqlite
def test_more_rows_than_are_fetched_at_once_are_exported(database: MovingDatabase) -> None:
    make_batch(database, 1200)
    heard = Heard()

    assert len({row[0] for row in exported(database, on_progress=heard)[1:]}) == 1200
    assert heard == [("Writing records", 1000, 1200)]


FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@on_sqlite
def test_no_cell_begins_a_formula(database: MovingDatabase, keyring: Keyring, tmp_path: Path) -> None:
    """Whoever sent the file must not run commands on the machine of whoever opens the export."""
    rows = [f'"{start}1+1",MADE{n},11111{n},{ids(n)},"{start}1+1"' for n, start in enumerate(FORMULA_STARTS)]
    load(database, keyring, tmp_path / "shipment.csv", "note,serial,otp1,user_id,device_id,lot", *rows)

    cells = [cell for row in exported(database) for cell in row]

    assert [cell for cell in cells if cell.startswith(FORMULA_STARTS)] == []
    assert cells.count("'=1+1") == 2


@on_sqlite
def test_no_part_of_a_cell_begins_a_formula_where_a_spreadsheet_splits_cells_elsewhere(
    database: MovingDatabase, keyring: Keyring, tmp_path: Path
) -> None:
    """Excel splits at semicolons in many languages, and then takes a quotation mark inside a cell for a letter."""
    starts = ("=", "+", "-", "@", "\uff1d", "\uff0d")
    parts = [f"a{separator}{start}1+1" for separator in (";", "\r\n", "\t", ';""') for start in starts]
    rows = [f'"{part}",MADE{n},1{n:05},{ids(n)},"{part};b"' for n, part in enumerate(parts)]
    header = '"note;=1+1",serial,otp1,user_id,device_id,more'
    load(database, keyring, tmp_path / "shipment.csv", header, *rows)
    file = io.StringIO()

    assert export(database, "shipment", file) == len(parts)

    for delimiter in (",", ";", "\t"):
        cells = [cell.strip('"') for line in file.getvalue().splitlines() for cell in line.split(delimiter)]
        assert [cell for cell in cells if cell.startswith(starts)] == []


@on_sqlite
def test_no_header_begins_a_formula(database: MovingDatabase, keyring: Keyring, tmp_path: Path) -> None:
    header = '"=HYPERLINK(""http://example.test"")",serial,otp1,user_id,device_id'
    load(database, keyring, tmp_path / "shipment.csv", header, f"x,MADE1,012345,{ids(1)}")

    assert exported(database)[0][0] == '\'=HYPERLINK("http://example.test")'


@on_sqlite
def test_nothing_that_pingone_answered_begins_a_formula(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database)
    answer = Answer(400, None, None, "=1+1", "@SUM(1)", None)
    settle(database, leases, made, (DeadLetter(Reason.REJECTED), CallSummary(1, 0, answer), False))

    assert exported(database)[1][-5:-3] == ["'=1+1", "'@SUM(1)"]


@on_sqlite
def test_otps_are_exported_only_with_the_keys_and_then_say_what_the_file_said(
    database: MovingDatabase, leases: Leases, keyring: Keyring, tmp_path: Path
) -> None:
    made = load(
        database,
        keyring,
        tmp_path / "shipment.csv",
        "serial,otp1,otp2,otp_type,generated_at,user_id,device_id,note",
        f'MADE1,012345,543210,totp,2026-03-01T10:30:00+01:00,{ids(1)},"two\nlines, and a comma"',
    )
    (original,) = open_shipment(tmp_path / "shipment.csv").rows()
    assert exported(database)[1][1:3] == ["", ""]
    with pytest.raises(DecryptionError, match="OATHBULK_ENCRYPTION_KEYS"):
        exported(database, keyring=Keyring([generate_key()]))
    again = tmp_path / "again.csv"
    with again.open("w", newline="", encoding="utf-8") as file:
        export(database, "shipment", file, keyring=keyring)

    (row,) = open_shipment(again, hints=Hints(mends=True)).rows()

    fields = ("serial_number", "user_id", "device_id", "otps", "otp_type", "generated_at")
    assert [getattr(row, name) for name in fields] == [getattr(original, name) for name in fields]
    assert row.extra["note"] == "two\nlines, and a comma"
    # Those of an active record are gone.
    settle(database, leases, made, (Active(), CallSummary(1), False))
    assert exported(database, keyring=keyring)[1][1:3] == ["", ""]


@on_sqlite
def test_a_batch_that_is_gone_has_no_status_no_story_and_no_export(database: MovingDatabase) -> None:
    make_batch(database, 0)
    status = read(database)
    with database.writing() as connection:
        connection.execute(delete(Batch))
    for ask in (lambda: read(database), lambda: read_overview(database, status), lambda: exported(database)):
        with pytest.raises(UnknownBatch, match="'shipment'"):
            ask()


# Nothing secret.

SECRET = "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"


@on_sqlite
def test_nothing_secret_is_in_the_page(
    database: MovingDatabase, leases: Leases, keyring: Keyring, tmp_path: Path
) -> None:
    # As no time and no number has them.
    pairs = [token(number, otp1=f"{48_151_623 + number}", otp2=f"{84_610_815 + number}") for number in range(8)]
    made = load(database, keyring, tmp_path / "shipment.csv", *map(",".join, (pairs[0], *(p.values() for p in pairs))))
    ends: list[Decision] = [Active(), DeadLetter(Reason.LOCKED), UNKNOWN]
    settle(database, leases, made, *((decision, CallSummary(1), False) for decision in ends))
    (tmp_path / "who.csv").write_text(f"serial,user_id,device_id\nMADE100,{ids(1)}\n")
    who = open_assignment(tmp_path / "who.csv")
    load(database, keyring, tmp_path / "box.csv", f"MADE100, {SECRET}, hotp, 6, 0", name="box", who=who)
    otps = [(pair["otp1"], pair["otp2"]) for pair in pairs]
    secrets = Secrets(otps, {"a seed": SECRET, "a seed's bytes": bytes.fromhex(SECRET).decode("latin-1")})
    assert secrets.found_in(" ".join(otps[0]).encode())

    for status in read_statuses(database):
        written = write_file(status, read_overview(database, status)).encode()
        assert f"Batch {status.name}".encode() in written
        assert secrets.found_in(written) == set()
