"""What is read out of the database of batches, for a person and for a monitor: how they stand and how they came there,
the export, and metrics. How that is shown, the golden files hold."""

import csv
import io
import random
import re
import uuid
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
from sqlalchemy import Table, delete, event, insert, select, update
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, count, enqueue, make_batch, make_environment, note_job
from support.data.calls import called
from support.data.facts import MadeUp, write_metrics
from support.data.loading import ACTIVE, REFUSED, LoadingDesk, earlier, token
from support.data.moving_clock import ON_SQLITE, MovingDatabase
from support.data.progress import Heard
from support.judges.secret_search import Secrets

from models.attempt import AttemptLine
from models.batch import Batch, BatchState
from models.encrypted import DecryptionError, Keyring, generate_key
from models.inventory_job import JobState
from models.pace import LicensePace
from models.reason import PauseReason, Reason
from models.record import Record
from models.record_states import Status
from models.refused_row import RefusedRow
from worker.batches.commands import Batches
from worker.batches.finding import UnknownBatch
from worker.batches.loading import CHUNK, Loaded
from worker.desk.batch_page import write_file
from worker.fleet import Processes
from worker.intake.files import Hints
from worker.intake.shipment import open_shipment
from worker.leases.lease import CallSummary
from worker.pingone.errors import Answer
from worker.reports import metrics
from worker.reports.batch_history import SPANS, BatchHistory, read_batch_history
from worker.reports.export import RESULT_COLUMNS, export
from worker.reports.facts import FEWEST_SETTLED, LONGEST_REST, BatchStatus, read_statuses
from worker.reports.metrics import MetricsCollector
from worker.reports.stall import STILL_AFTER, UNPREPARED_AFTER, Cause
from worker.rules.steps import Active, DeadLetter, Decision, Retry

ANSWER = Answer(400, "INVALID_DATA", "INVALID_OTP", "error-1", "correlation-1", None)
HOUR = 3600.0
UNKNOWN = Retry(600.0, is_counted=True, why="outcome_unknown")


def read(database: MovingDatabase, name: str = "shipment") -> BatchStatus:
    (status,) = read_statuses(database, name)
    return status


def read_story(database: MovingDatabase) -> BatchHistory:
    return read_batch_history(database, read(database))


def settle(desk: LoadingDesk, made: Made | Loaded, *ends: tuple[Decision, CallSummary, bool]) -> None:
    """The next records of the batch end so; the flag says whether the second OTP went out too."""
    assert desk.leases is not None
    for decision, tally, is_resync in ends:
        (record_id,) = enqueue(desk.database, made, room=1)
        claimed = desk.leases.claim(record_id, ENVIRONMENT_ID)
        assert claimed is not None
        progress = claimed.progress.with_otp_answered(1)
        if is_resync:
            progress = progress.with_otp_sent(2).with_otp_answered(2)
        assert desk.leases.settle(claimed, progress, decision, tally)


# The status.


def test_counts_and_costs_add_up(database: MovingDatabase, desk: LoadingDesk) -> None:
    made = make_batch(database, 6)
    settle(
        desk,
        made,
        (Active(), called(1, 0), False),
        (Active(), called(3, 1), True),
        (DeadLetter(Reason.INVALID_OTP), called(2, 0, ANSWER), False),
        (DeadLetter(Reason.RESYNC_FAILED), called(3, 0, ANSWER), True),
        (UNKNOWN, called(1, 0), False),
    )
    first = update(Record).where(Record.reason == Reason.INVALID_OTP)
    database.change(update(Batch).values(rows_refused=7), first.values(next_counter=3))

    status = read(database)

    counts = dict.fromkeys(map(str, Status), 0) | {"active": 2, "dead_letter": 2, "pending": 2}
    assert (status.counts, sum(status.counts.values()), status.total, status.rows) == (counts, 6, 6, 13)
    assert status.dead_letters == {"invalid_otp": 1, "resync_failed": 1}
    assert (status.resynced, status.attempts, status.otp_posts) == (1, 5, 7)
    assert (status.requests, status.rate_limited, status.to_do) == (10, 1, 2)
    # One of its dead letters has no seed.
    assert not status.has_seeds


@ON_SQLITE
def test_the_records_of_all_batches_are_gone_through_once(database: MovingDatabase) -> None:
    for name in ("first", "second"):
        make_batch(database, [{}, {"status": Status.DEAD_LETTER, "reason": Reason.LOCKED}], name=name)
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))

    assert [status.name for status in read_statuses(database)] == ["second", "first"]

    assert len([statement for statement in statements if re.search(r"\bFROM record\b", statement)]) == 1


@ON_SQLITE
def test_a_batch_is_finished_when_every_record_is_final_and_runs_again_when_one_is_replayed(
    database: MovingDatabase, desk: LoadingDesk
) -> None:
    made, batches = make_batch(database, 2), Batches(database, TESTER)
    settle(desk, made, (DeadLetter(Reason.FORBIDDEN), called(1), False))
    assert (read(database).state, read(database).finished_at) == ("running", None)

    database.ahead = 500
    settle(desk, made, (Active(), called(1), False))

    status = read(database)
    assert status.state == "finished"
    assert status.finished_at is not None
    assert timedelta(seconds=500) <= status.finished_at - status.created_at < timedelta(seconds=600)
    batches.replay("shipment")
    assert (read(database).state, read(database).finished_at) == ("running", None)
    batches.cancel("shipment")
    # Who cancelled it is told so when it is over, too.
    assert (read(database).state, read(database).finished_at is None) == ("cancelled", False)


@ON_SQLITE
def test_the_pace_is_what_was_settled_lately(database: MovingDatabase, desk: LoadingDesk) -> None:
    made = make_batch(database, FEWEST_SETTLED + 20)
    settle(desk, made, *[(Active(), called(1), False)] * (FEWEST_SETTLED - 1))
    database.ahead = 10
    assert read(database).eta_seconds is None

    settle(desk, made, (Active(), called(1), False))
    # How long it takes is told once the pace stays.
    assert (read(database).pace > 0, read(database).eta_seconds) == (True, None)
    database.ahead = 20
    settle(desk, made, *[(Active(), called(1), False)] * FEWEST_SETTLED)
    status = read(database)
    # Twenty seconds, and what a busy machine took beside them.
    assert FEWEST_SETTLED / 40 < status.pace <= FEWEST_SETTLED / 9
    assert status.eta_seconds == pytest.approx(15 / status.pace)

    database.ahead = 100
    assert (read(database).pace, read(database).eta_seconds) == (0, None)


# The counts are the rows of the file.

GOOD = [token(number) for number in range(10, 15)]
FILES = {
    "only good ones": GOOD,
    "one twice": [*GOOD[:3], token(10), token(5, device_id=token(11)["device_id"])],
    "active before": [token(0, otp1="111111", otp2="222222"), *GOOD[:2], token(1, otp1="")],
    "all but one": [GOOD[0], *(token(n, otp1="") for n in range(100, 100 + CHUNK))],
}


@ON_SQLITE
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("ends", [[ACTIVE] * 5, [REFUSED] * 5, []], ids=["active", "dead letters", "pending"])
def test_active_not_active_and_refused_rows_are_all_rows_of_the_file(
    desk: LoadingDesk, kind: str, ends: list[Decision]
) -> None:
    earlier(desk.database, desk.keyring, status=Status.ACTIVE)
    desk.load(FILES[kind], "july", *ends)

    status = read(desk.database, "july")

    counts, refused = status.counts, status.refused or {}
    assert sum(counts.values()) + sum(refused.values()) == len(FILES[kind]) == status.rows
    assert sum(refused.values()) == status.rows_refused == count(desk.database, RefusedRow)
    assert status.active + status.to_do + status.failed + status.closed == len(FILES[kind])
    told = status.to_json()
    assert (told["rows"], told["rows_refused"], told["refused"]) == (status.rows, status.rows_refused, refused)


@ON_SQLITE
def test_the_export_of_what_failed_has_as_many_rows_as_the_status_says(desk: LoadingDesk) -> None:
    desk.load([token(0), token(2, otp1="12"), token(3, serial="")], "july", REFUSED)
    made = [{"serial_number": f"S{n}", "status": status} for n, status in enumerate(Status)]
    make_batch(desk.database, made, name="june")

    assert exported_left(desk, "july") == [
        ("MADE000000", "dead_letter", "2"),
        ("MADE000002", "not_loaded", "3"),
        ("", "not_loaded", "4"),
    ]
    status = read(desk.database, "july")
    assert (status.failed, status.refused) == (3, {"otps_unfit": 1, "serial_unfit": 1})
    assert {status for _, status, _ in exported_left(desk, "june")} == {Status.DEAD_LETTER}


def exported_left(desk: LoadingDesk, name: str) -> list[tuple[str, ...]]:
    header, *rows = exported(desk.database, name, failed=True)
    places = [header.index(column) for column in ("serial", "status", "file_row")]
    return [tuple(row[place] for place in places) for row in rows]


# How fast a batch is prepared.

LACKS_USER = {"user_id": "", "is_in_inventory": False, "email": "ada@example.com", "device_id": ""}
LACKS_TOKEN = LACKS_USER | {"user_id": "u1"}
PREPARED = LACKS_TOKEN | {"is_in_inventory": True}


@ON_SQLITE
def test_the_tokens_of_the_jobs_that_have_ended_since_a_pause_give_the_pace(database: MovingDatabase) -> None:
    made = make_batch(database, [LACKS_TOKEN] * 3)
    database.change(update(Batch).values(may_import=True))
    for size, job in ((500, JobState.DONE), (300, JobState.DONE), (9000, JobState.RUNNING)):
        note_job(database, made, job, size=size)
    database.ahead = 80.0

    status = read(database)
    assert (status.waiting, status.may_import) == ({"user": 0, "token": 3}, True)
    assert 9.0 < status.preparation_pace <= 10.0
    database.change(update(Batch).values(running_since=database.read_clock()))
    assert read(database).preparation_pace == 0.0


@ON_SQLITE
def test_without_imports_the_persons_found_since_the_load_give_the_pace(database: MovingDatabase) -> None:
    make_batch(database, [LACKS_USER] * 5 + [PREPARED] * 20)
    database.ahead = 10.0
    assert 1.5 < read(database).preparation_pace <= 2.0
    # Nobody has prepared it since; now a worker has it, until then.
    assert 9.0 < (read(database).unprepared_for or 0.0) < 60.0
    database.change(update(Batch).values(prepared_until=database.read_clock() + timedelta(seconds=180)))
    assert read(database).unprepared_for == 0.0

    # When persons were found is not written down, so after a pause that is no measure.
    database.change(update(Batch).values(running_since=database.read_clock() - timedelta(seconds=1)))
    assert read(database).preparation_pace == 0.0
    database.change(update(Batch).values(state=BatchState.PAUSED, reason="person", detail="Someone paused it."))
    assert read(database).unprepared_for is None


@ON_SQLITE
@pytest.mark.parametrize("lacking", [[], [LACKS_USER]])
def test_what_is_prepared_and_records_that_their_preparation_gave_up_give_no_pace(
    database: MovingDatabase, lacking: list[dict[str, Any]]
) -> None:
    given_up = LACKS_USER | {"status": Status.DEAD_LETTER, "reason": Reason.USER_NOT_FOUND}
    make_batch(database, [given_up] * (FEWEST_SETTLED * 10) + [PREPARED] + lacking)
    database.ahead = 2.0

    status = read(database)

    assert (status.pace, status.eta_seconds) == (0.0, None)
    assert lacking or (status.preparation_pace, status.unprepared_for) == (0.0, None)


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
    active_at = database.values(active)
    assert (timeline.moments[0][0], timeline.moments[-1]) == (min(active_at), (max(active_at), len(active_at)))
    assert [sum(each <= at for each in active_at) for at, _ in timeline.moments] == [
        count for _, count in timeline.moments
    ]
    assert list(timeline.moments) == sorted(timeline.moments)
    assert (50 if seconds > 1 else 0) < len(timeline.moments) <= SPANS + 1
    # Of a finished batch the time ends with its last token.
    assert abs(timeline.until - began - timedelta(seconds=seconds)) < timedelta(milliseconds=1)


@ON_SQLITE
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
        database.change(update(Record).values(status=Status.QUEUED, lease_until=database.read_clock()))
        again = set(connection.scalars(count))
    assert before == again == {Status.PENDING}


# The export.


def load(desk: LoadingDesk, *lines: str, name: str = "shipment", who: Path | None = None) -> Loaded:
    """Load a file of these lines as a batch."""
    path = desk.directory / f"{name}.csv"
    path.write_text("\n".join(lines) + "\n")
    return desk.load_file(path, name, into=make_environment(), who=who)


def ids(number: int) -> str:
    return f"{uuid.UUID(int=number)},{uuid.UUID(int=1 << 100 | number)}"


def exported(database: MovingDatabase, name: str = "shipment", **options: Any) -> list[list[str]]:
    text = io.StringIO(newline="")
    written = export(database, name, text, **options)
    lines = list(csv.reader(io.StringIO(text.getvalue(), newline="")))
    assert written == len(lines) - 1
    return lines


@ON_SQLITE
def test_what_a_column_of_the_file_names_as_a_result_is_replaced_by_it(desk: LoadingDesk) -> None:
    """Other exports are golden files."""
    header = "Status,Cost Center,Serial Number,OTP 1,OTP 2,user_id,device_id,correlation id"
    load(desk, header, f"old,4711,MADE5,111115,222225,{ids(5)},old")

    assert exported(desk.database) == [
        ["Cost Center", "Serial Number", "OTP 1", "OTP 2", "user_id", "device_id", *RESULT_COLUMNS],
        ["4711", "MADE5", "", "", *ids(5).split(","), "pending", "", "", "", "", "0", "0", "2"],
    ]


@ON_SQLITE
def test_more_rows_than_are_fetched_at_once_are_exported(database: MovingDatabase) -> None:
    make_batch(database, 1200)
    heard = Heard()

    assert len({row[0] for row in exported(database, on_progress=heard)[1:]}) == 1200
    assert heard == [("Writing records", 1000, 1200)]


FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@ON_SQLITE
def test_no_cell_and_no_header_begins_a_formula_nor_does_what_pingone_answered(desk: LoadingDesk) -> None:
    """Whoever sent the file must not run commands on the machine of whoever opens the export."""
    rows = [f'"{start}1+1",MADE{n},11111{n},{ids(n)},"{start}1+1"' for n, start in enumerate(FORMULA_STARTS)]
    loaded = load(desk, '"=HYPERLINK(""http://example.test"")",serial,otp1,user_id,device_id,lot', *rows)
    answer = Answer(400, None, None, "=1+1", "@SUM(1)", None)
    settle(desk, loaded, (DeadLetter(Reason.REJECTED), called(1, 0, answer), False))

    first, *rest = exported(desk.database)

    cells = [cell for row in rest for cell in row]
    assert [cell for cell in (*first, *cells) if cell.startswith(FORMULA_STARTS)] == []
    assert (first[0], cells.count("'=1+1"), cells.count("'@SUM(1)")) == ('\'=HYPERLINK("http://example.test")', 3, 1)


@ON_SQLITE
def test_no_part_of_a_cell_begins_a_formula_where_a_spreadsheet_splits_cells_elsewhere(desk: LoadingDesk) -> None:
    """Excel splits at semicolons in many languages, and then takes a quotation mark inside a cell for a letter."""
    starts = ("=", "+", "-", "@", "\uff1d", "\uff0d")
    parts = [f"a{separator}{start}1+1" for separator in (";", "\r\n", "\t", ';""') for start in starts]
    rows = [f'"{part}",MADE{n},1{n:05},{ids(n)},"{part};b"' for n, part in enumerate(parts)]
    load(desk, '"note;=1+1",serial,otp1,user_id,device_id,more', *rows)
    file = io.StringIO()

    assert export(desk.database, "shipment", file) == len(parts)

    for delimiter in (",", ";", "\t"):
        cells = [cell.strip('"') for line in file.getvalue().splitlines() for cell in line.split(delimiter)]
        assert [cell for cell in cells if cell.startswith(starts)] == []


@ON_SQLITE
def test_otps_are_exported_only_with_the_keys_and_then_say_what_the_file_said(desk: LoadingDesk) -> None:
    loaded = load(
        desk,
        "serial,otp1,otp2,otp_type,generated_at,user_id,device_id,note",
        f"MADE1,012345,543210,totp,2026-03-01T10:30:00+01:00,{ids(1)},\"=two\n+lines;@ and a comma, it's '\"",
    )
    (original,) = open_shipment(desk.directory / "shipment.csv").rows()
    assert exported(desk.database)[1][1:3] == ["", ""]
    with pytest.raises(DecryptionError, match="OATHBULK_ENCRYPTION_KEYS"):
        exported(desk.database, keyring=Keyring([generate_key()]))
    again = desk.directory / "again.csv"
    with again.open("w", newline="", encoding="utf-8") as file:
        export(desk.database, "shipment", file, keyring=desk.keyring)

    (row,) = open_shipment(again, hints=Hints(mends=True)).rows()

    fields = ("serial_number", "user_id", "device_id", "otps", "otp_type", "generated_at")
    assert [getattr(row, name) for name in fields] == [getattr(original, name) for name in fields]
    # Without the apostrophes against formulas.
    assert row.extra["note"] == "=two\n+lines;@ and a comma, it's '"
    # Those of an active record are gone.
    settle(desk, loaded, (Active(), called(1), False))
    assert exported(desk.database, keyring=desk.keyring)[1][1:3] == ["", ""]


@ON_SQLITE
def test_a_batch_that_is_gone_has_no_status_no_story_and_no_export(database: MovingDatabase) -> None:
    make_batch(database, 0)
    status = read(database)
    database.change(delete(Batch))
    for ask in (lambda: read(database), lambda: read_batch_history(database, status), lambda: exported(database)):
        with pytest.raises(UnknownBatch, match="'shipment'"):
            ask()


# Nothing secret.

SECRET = "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"


@ON_SQLITE
def test_nothing_secret_is_in_the_page(desk: LoadingDesk) -> None:
    # As no time and no number has them.
    pairs = [token(number, otp1=f"{48_151_623 + number}", otp2=f"{84_610_815 + number}") for number in range(8)]
    loaded = load(desk, *map(",".join, (pairs[0], *(pair.values() for pair in pairs))))
    ends: list[Decision] = [Active(), DeadLetter(Reason.LOCKED), UNKNOWN]
    settle(desk, loaded, *((decision, called(1), False) for decision in ends))
    who = desk.directory / "who.csv"
    who.write_text(f"serial,user_id,device_id\nMADE100,{ids(1)}\n")
    load(desk, f"MADE100, {SECRET}, hotp, 6, 0", name="box", who=who)
    otps = [(pair["otp1"], pair["otp2"]) for pair in pairs]
    secrets = Secrets(otps, {"a seed": SECRET, "a seed's bytes": bytes.fromhex(SECRET).decode("latin-1")})
    assert secrets.found_in(" ".join(otps[0]).encode())

    for status in read_statuses(desk.database):
        written = write_file(status, read_batch_history(desk.database, status)).encode()
        assert f"Batch {status.name}".encode() in written
        assert secrets.found_in(written) == set()


# What a monitor reads. How it is written, a golden file holds.


def read_by(collector: MetricsCollector) -> MadeUp:
    """What the collector reads for its metrics."""
    with patch.object(metrics, "make_metrics", MadeUp):
        return cast(MadeUp, collector.collect())


def scrape(database: MovingDatabase) -> MadeUp:
    """Read by a collector that has kept nothing, as `--once` does."""
    return read_by(MetricsCollector(database, partial(read_statuses, database)))


@ON_SQLITE
@pytest.mark.parametrize(("took", "rest"), [(0.1, 10.0), (5.0, LONGEST_REST)], ids=["quickly", "slowly"])
def test_what_was_read_is_used_again_for_so_long_that_reading_takes_little_of_the_time(
    database: MovingDatabase, took: float, rest: float
) -> None:
    made, moments = make_batch(database, 2), [1000.0]

    def read_slowly() -> list[BatchStatus]:
        moments.append(moments[-1] + took)
        return read_statuses(database)

    collector = MetricsCollector(database, read_slowly, lambda: moments[-1])
    assert read_by(collector).statuses[0].counts["pending"] == 2
    queued = {"status": Status.QUEUED, "lease_until": database.read_clock()}
    database.change(update(Record).where(Record.id == made.ids[0]).values(queued))

    for wait, pending in ((rest / 2, 2), (rest / 2 + 0.01, 1)):
        moments.append(moments[-1] + wait)
        assert read_by(collector).statuses[0].counts["pending"] == pending


OURS = {"is_device_made": True, "pairing": "paired"}


@pytest.mark.parametrize(
    ("age", "columns", "is_old"),
    [
        (19, OURS, False),
        (21, OURS, True),
        (25, OURS, False),
        (21, OURS | {"status": Status.DEAD_LETTER, "reason": "locked"}, True),
        (21, OURS | {"status": Status.DEAD_LETTER, "reason": Reason.DEVICE_NOT_FOUND}, False),
        (21, OURS | {"status": Status.ACTIVE}, False),
        (21, OURS | {"status": Status.CANCELLED}, False),
        (21, {"device_id": ""}, False),
    ],
)
def test_a_device_that_oathbulk_made_is_as_old_as_its_pairing(
    database: MovingDatabase, age: int, columns: dict[str, Any], is_old: bool
) -> None:
    began_at = database.read_clock() + timedelta(hours=30 - age)
    make_batch(database, [columns | {"pairing_began_at": began_at}])
    database.ahead += 30 * HOUR
    assert [batch.old_devices for batch in scrape(database).statuses] == [is_old]


@ON_SQLITE
def test_a_device_of_the_file_is_as_old_as_the_batch(database: MovingDatabase) -> None:
    make_batch(database, 1)
    for hours, is_old in ((19, False), (2, True), (4, False)):
        database.ahead += hours * HOUR
        assert [batch.old_devices for batch in scrape(database).statuses] == [is_old]


@ON_SQLITE
def test_a_batch_stands_still_that_nobody_prepares_or_whose_own_license_holds(database: MovingDatabase) -> None:
    make_batch(database, 2, name="unprepared", user_id="", username="somebody")
    make_batch(database, 1, name="held", environment="second", environment_id="another")
    assert [batch.stall for batch in scrape(database).statuses] == [None, None]
    database.ahead += max(UNPREPARED_AFTER, STILL_AFTER) + 1
    now = database.read_clock()
    hold = {"held_since": now, "held_until": now + timedelta(minutes=2), "held_why": "PingOne asked for it"}
    database.change(insert(LicensePace).values(license="another", rate=40.0, ceiling=50.0, **hold))

    reading = scrape(database)

    assert [batch.stall and batch.stall.cause for batch in reading.statuses] == [Cause.WORKER, Cause.HOLD]
    # A license without a name is called by its environment's, and not by its id.
    assert {name: pace.hold is not None for name, pace in reading.paces.items()} == {"second": True}


def test_attempts_are_counted_by_outcome_and_by_how_long_pingone_took(
    database: MovingDatabase, desk: LoadingDesk
) -> None:
    made = make_batch(database, 4)
    ends: list[tuple[Decision, CallSummary]] = [
        (Active(), called(1, seconds=0.05)),
        (Active(), called(1, seconds=0.051)),
        (DeadLetter(Reason.LOCKED), called(1, seconds=99.5)),
        (Retry(60.0, is_counted=False, why="hold"), called(0)),
    ]
    settle(desk, made, *((*end, False) for end in ends))
    of_batch = ("shipment", "default")
    assert scrape(database).attempts == [
        (*of_batch, "active", 2, 101, (1, *13 * [2])),
        (*of_batch, "dead_letter", 1, 99_500, (*13 * [0], 1)),
        (*of_batch, "handed_back", 1, 0, (*14 * [0],)),
    ]
    # A purge takes them away bit by bit.
    outcome = {"groups": [], "refused": {}, "rows_closed": 0}
    database.change(update(Batch).values(purged_at=database.read_clock(), outcome=outcome))
    assert scrape(database).attempts == []


def list_texts(database: MovingDatabase, table: Table, *left_out: str) -> set[str]:
    """The texts in the rows of a table, but for these columns. Numbers and short words of ours would be found in any
    text."""
    cells = [cell for row in database.rows(select(table)) for cell in row._mapping.items()]
    texts = {str(value) for name, value in cells if name not in left_out and value is not None}
    return {text for text in texts if len(text) > 4 and not text.isdigit()}


@ON_SQLITE
def test_no_secret_serial_number_user_or_id_stands_in_the_text(database: MovingDatabase, desk: LoadingDesk) -> None:
    personal = {"username": "mallory", "email": "mallory@example.com", "external_id": "person-4711", "lot": "lot-4711"}
    made = make_batch(database, 4, otps=b"sealed-otps", extra={"note": "a note of a person"}, **personal)
    paused = make_batch(database, 1, name="august", state=BatchState.PAUSED)
    stop = {"reason": PauseReason.PERSON, "detail": "quotes PingOne about mallory"}
    pace = {"license": ENVIRONMENT_ID, "rate": 40.0, "set_by": "alice", "ticket": "CHG-1"}
    database.change(update(Batch).where(Batch.id == paused.batch_id).values(stop), insert(LicensePace).values(pace))
    for decision in (Active(), DeadLetter(Reason.LOCKED), UNKNOWN):
        settle(desk, made, (decision, called(1, 0, ANSWER, 0.1), False))
    Processes(database, "host-4711:1").show_life()

    text = write_metrics(scrape(database))

    ours = ("status", "reason", "otp1_state", "otp2_state", "otp_type", "pairing")
    hidden = list_texts(database, Record.__table__, *ours)
    hidden |= list_texts(database, AttemptLine.__table__, "outcome", "reason")
    hidden |= {ENVIRONMENT_ID, "host-4711", "alice", "CHG-1", "quotes PingOne", "shipment.csv", "a note"}
    assert {"mallory", "correlation-1", f"MADE{made.batch_id:03}000000"} <= hidden
    assert [value for value in hidden if value in text] == []
    labels = set(re.findall(r'(\w+)="', text))
    assert labels == {"batch", "environment", "kind", "license", "status", "outcome", "reason", "state", "cause", "le"}
