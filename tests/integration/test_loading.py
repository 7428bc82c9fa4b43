"""A shipment becomes a batch, or leaves no trace: row by row, however large it is and whoever else is at work. A
preflight says of each row what the load then does with it; refused ones are kept without a secret."""

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from support.data.batches import TESTER, Made, count, look_at_batch, make_batch, opened, statuses
from support.data.loading import HEADER, LoadingDesk, Token, earlier, environment, token
from support.data.moving_clock import ON_SQLITE, MovingDatabase
from support.data.progress import Heard
from support.processes.waiting import wait_until

from models.batch import Batch, BatchState
from models.encrypted import Keyring, generate_key, identify_row
from models.reason import Reason
from models.record import Record
from models.record_states import OtpState, Status
from models.refused_row import RefusedRow
from models.row_fault import RowFault
from worker.batches import loading
from worker.batches.commands import Batches
from worker.batches.finding import choose_records
from worker.batches.loading import (
    CHUNK,
    AllActive,
    Loaded,
    Loader,
    NameTaken,
    RecordRows,
    choose_free_name,
    read_names_like,
)
from worker.batches.mending import Mender
from worker.database.engine import DISPATCH_LOCK
from worker.database.row_writer import RowWriter
from worker.intake.files import Hints
from worker.intake.rows import PLAIN, Column, RowError, UnusableFile
from worker.intake.shipment import open_shipment
from worker.preflight import files
from worker.preflight.files import RowReader
from worker.preflight.findings import Finding, Level, Verdicts
from worker.reports.facts import read_statuses
from worker.reports.search import find_tokens, is_in_range
from worker.vault.otps import OtpPair, Secret, Seed

# What is written.


def test_a_shipment_becomes_a_batch_that_runs(desk: LoadingDesk) -> None:
    loaded = desk.load([token(0), token(1)])

    batch = look_at_batch(desk.database, loaded.batch_id)
    assert loaded == Loaded(batch.id, "shipment", total=2, rows_refused=0, is_new=True)
    assert (batch.state, batch.total, batch.rows_refused, batch.columns) == (BatchState.RUNNING, 2, 0, list(HEADER))
    assert (batch.environment, batch.environment_id) == ("default", "tenant-1")
    assert (batch.file, batch.created_at) == (str(desk.directory / "shipment.csv"), batch.running_since)
    # Under another name of its file, and another of the batch, it is the same.
    again = desk.load_file(desk.write([token(0), token(1)], "b.csv"), "another name")
    assert again == Loaded(batch.id, "shipment", total=2, rows_refused=0, is_new=False)
    assert desk.load_file(desk.directory / "b.csv", "second", into=environment("second", "tenant-2")).is_new


def test_a_row_becomes_a_pending_record_that_is_due(desk: LoadingDesk) -> None:
    row = token(7, username="alice@example.test", lot="L-1", cost_centre="4711")

    (record,) = desk.records(desk.load([row]))

    assert (record.status, record.row_number, record.attempts) == (Status.PENDING, 2, 0)
    ids = (record.serial_number, record.user_id, record.device_id, record.pairing)
    assert ids == (row["serial"], row["user_id"], row["device_id"], "paired")
    assert (record.username, record.lot, record.extra) == ("alice@example.test", "L-1", {"cost_centre": "4711"})
    assert (record.otp1_state, record.otp2_state, record.has_second_otp) == (OtpState.UNSENT, OtpState.UNSENT, True)
    assert (record.scheduled_at <= desk.database.read_clock(), record.otp_expires_at) == (True, None)


def test_otps_are_sealed_for_their_row_and_lie_nowhere_in_the_clear(desk: LoadingDesk) -> None:
    loaded = desk.load([token(0, otp1="13572468", otp2="24681357"), token(1, otp2="")])

    records = desk.records(loaded)
    pairs = [pair for record in records if isinstance(pair := opened(record, desk.keyring), OtpPair)]
    shown = [(pair.first.reveal(), pair.second and pair.second.reveal()) for pair in pairs]
    assert (shown, records[1].has_second_otp) == ([("13572468", "24681357"), ("000001", None)], False)
    written = repr([*map(tuple, records), tuple(look_at_batch(desk.database, loaded.batch_id))])
    assert not [otp for otp in ("13572468", "24681357") if otp in written]


@pytest.mark.parametrize(
    ("kind", "past", "kept"),
    [
        ("hotp, 6, 7", None, (7, 7)),
        # It goes on behind what an earlier batch has sent; the token in the drawer has not moved.
        ("hotp, 6, 3", {"first_counter": 3, "next_counter": 5}, (3, 5)),
        ("totp, 6, 30", None, (None, 0)),
    ],
)
def test_the_counter_of_a_hotp_seed_is_kept(
    desk: LoadingDesk, kind: str, past: dict[str, Any] | None, kept: tuple[int | None, int]
) -> None:
    if past:
        earlier(desk.database, desk.keyring, status=Status.DEAD_LETTER, reason=Reason.RESYNC_FAILED, **past)
    box, who = desk.directory / "box.csv", desk.directory / "who.csv"
    box.write_text(f"MADE000000, d2f7a4affb163ad95f3593f4c6f9b05b89a8105b, {kind}\n")
    who.write_text(f"serial,user_id,device_id\nMADE000000,{token(0)['user_id']},{token(0)['device_id']}\n")
    (record,) = desk.records(desk.load_file(box, who=who))

    assert (record.first_counter, record.next_counter) == kept


def test_a_totp_pair_expires_and_a_hotp_pair_lasts(desk: LoadingDesk) -> None:
    generated_at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=30)
    totp = token(0, otp_type="totp", generated_at=generated_at.isoformat())
    hotp = token(1, otp_type="hotp", generated_at=generated_at.isoformat())

    records = desk.records(desk.load([totp, hotp], totp_max_age=90.0))

    assert [record.generated_at for record in records] == [generated_at] * 2
    assert [record.otp_expires_at for record in records] == [generated_at + timedelta(seconds=90), None]


@pytest.mark.parametrize("column", PLAIN, ids=lambda column: column.name)
def test_a_value_that_the_database_has_no_room_for_costs_its_row_and_not_the_load(
    desk: LoadingDesk, column: Column
) -> None:
    longest, longer = ({column.name: "x" * length} for length in (column.longest, column.longest + 1))

    loaded = desk.load([token(0), token(1, **longer), token(2, **longest)])

    assert (loaded.total, loaded.rows_refused, desk.refused[0].serial_number) == (2, 1, "MADE000001")
    assert desk.refused[0].reason.startswith(f"{column.name} has more than {column.longest} characters: ")


# The same file, and the same name.


def test_a_name_belongs_to_one_file_and_a_cancelled_one_may_be_loaded_again(desk: LoadingDesk) -> None:
    path = desk.write([token(0)])
    desk.load_file(path, "pallet 7")
    with pytest.raises(NameTaken, match="another name, such as: --batch 'pallet 7-2'"):
        desk.load_file(desk.write([token(1)], "other.csv"), "pallet 7")
    assert desk.found() == (1, 1, 0)
    Batches(desk.database, TESTER).cancel("pallet 7")
    assert (desk.load_file(path, "pallet 7-2").is_new, desk.refused) == (True, [])


def test_names_are_found_by_how_they_begin_and_the_first_free_one_is_proposed(desk: LoadingDesk) -> None:
    for name in ("50%", "50%-2", "50_", "500-2", "a 50%"):
        make_batch(desk.database, 0, name=name)

    with desk.database.reading() as connection:
        assert read_names_like(connection, "50%") == {"50%", "50%-2"}
        assert read_names_like(connection, "50_") == {"50_"}
    assert [choose_free_name("50%", taken) for taken in ({"50%", "50%-2"}, {"50%-2"})] == ["50%-3", "50%"]


@pytest.mark.parametrize(
    ("files", "totals"),
    [
        # One file four times; two files with the same token, which share it out.
        ([range(20)] * 4, [20] * 4),
        ([(0, 1), (0, 2)], [1, 2]),
    ],
)
def test_loads_at_once_make_one_batch_of_a_file_and_one_record_of_a_token(
    desk: LoadingDesk, files: list[Iterable[int]], totals: list[int]
) -> None:
    shipments = [open_shipment(desk.write(list(map(token, each)), f"{n}.csv")) for n, each in enumerate(files)]
    ready = threading.Barrier(len(files))

    def load(number: int) -> Loaded:
        loader = Loader(desk.database, desk.keyring, environment(), TESTER)
        ready.wait(timeout=30)
        return loader.load(shipments[number], f"load {number}")

    with ThreadPoolExecutor(len(files)) as threads:
        loads = list(threads.map(load, range(len(files))))

    assert sorted(loaded.total for loaded in loads) == totals
    made = {loaded.batch_id: loaded.total for loaded in loads}
    assert sum(loaded.is_new for loaded in loads) == len(made)
    assert desk.found() == (1 if len(files) == 4 else 2, sum(made.values()), 0)


def test_two_mends_at_once_let_each_row_go_once(desk: LoadingDesk) -> None:
    """Of pairs of which nothing went out."""
    given_up = {"status": Status.DEAD_LETTER, "reason": Reason.DEVICE_NOT_FOUND}
    tokens = [{"serial_number": f"M{number}"} for number in range(40)]
    made = make_batch(desk.database, tokens, name="box", keyring=desk.keyring, **given_up)
    path, ready = desk.directory / "left.csv", threading.Barrier(2)
    path.write_text("serial\n" + "".join(f"M{number}\n" for number in range(40)))

    def mend(_: int) -> tuple[int, int]:
        mender = Mender(desk.database, desk.keyring, TESTER)
        ready.wait(timeout=30)
        mended = mender.mend(open_shipment(path, hints=Hints(mends=True)), "box")
        return mended.again, mended.in_work

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(mend, range(2))) == [(0, 40), (40, 0)]
    assert statuses(desk.database, made) == [Status.PENDING] * 40


# Tokens and devices that have been here before.


@pytest.mark.parametrize("other", [{"device_id": str(uuid.UUID(int=99))}, {"serial": "OTHER1"}])
@pytest.mark.parametrize("status", [Status.PENDING, Status.QUEUED, Status.ACTIVATING])
def test_a_token_or_device_in_progress_elsewhere_is_refused(desk: LoadingDesk, other: Token, status: Status) -> None:
    earlier(desk.database, desk.keyring, status=status)

    loaded = desk.load([token(0, **other), token(1)])

    what = "device" if "serial" in other else "serial number"
    assert (loaded.total, loaded.rows_refused) == (1, 1)
    assert desk.refused[0].reason.startswith(f"the {what} is in progress in batch 'earlier' (row 2)")
    # Another environment does not matter.
    assert desk.load([token(0, **other), token(1)], "second", into=environment("second", "tenant-2")).total == 2


@pytest.mark.parametrize("apart", [1, CHUNK])
@pytest.mark.parametrize("other", [{"device_id": str(uuid.UUID(int=99))}, {"serial": "OTHER1"}, {"otp2": "000000"}])
def test_a_token_or_device_on_two_rows_that_differ_is_not_loaded(desk: LoadingDesk, other: Token, apart: int) -> None:
    """Within a chunk, and across two."""
    between = [token(number) for number in range(1, apart + 1)]

    loaded = desk.load([token(0), *between, token(0, **other)])

    what = "device" if "serial" in other else "serial number"
    assert (loaded.total, loaded.rows_refused) == (apart, 2)
    assert {error.row_number: error.reason.split(" too, ")[0] for error in desk.refused} == {
        2: f"the {what} is on row {apart + 3} of this file",
        apart + 3: f"the {what} is on row 2 of this file",
    }
    assert token(0)["serial"] not in [record.serial_number for record in desk.records(loaded)]


@pytest.mark.parametrize("apart", [1, CHUNK])
def test_a_token_on_two_rows_that_say_the_same_is_loaded_once_and_a_refused_row_stands_in_no_ones_way(
    desk: LoadingDesk, apart: int
) -> None:
    between = [token(number) for number in range(1, apart)]

    loaded = desk.load([token(0, site="Oslo"), *between, token(0, site="Rome"), token(apart, otp1="12"), token(apart)])

    same, unfit = desk.refused
    assert (loaded.total, loaded.rows_refused) == (apart + 1, 2)
    assert (same.row_number, unfit.row_number) == (apart + 2, apart + 3)
    assert same.reason.startswith("the serial number is on row 2 of this file already")


def test_a_token_that_is_active_on_this_device_is_refused_or_left_out_on_purpose(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring, status=Status.ACTIVE)
    before = desk.found()
    with pytest.raises(AllActive):
        desk.load([token(0)], only_new=True)
    assert desk.found() == before
    rows = [token(0, otp1="111111", otp2="222222"), token(1)]

    loaded = desk.load(rows, only_new=True)

    assert (loaded.total, loaded.rows_refused, loaded.left_out, desk.refused) == (1, 0, 1, [])
    Batches(desk.database, TESTER).cancel("shipment")
    again = desk.load(rows, "again")
    assert (again.total, again.rows_refused, again.left_out) == (1, 1, 0)
    assert "its token is active already, in batch 'earlier'" in desk.refused[0].reason
    # On another device it may be paired anew.
    assert desk.load([token(0, device_id=str(uuid.UUID(int=99)))], "anew").total == 1


def test_a_serial_number_beside_the_active_device_of_another_is_refused_also_where_the_active_are_left_out(
    desk: LoadingDesk,
) -> None:
    """What it brings may be the OTPs that were answered there, and these are erased."""
    earlier(desk.database, desk.keyring, status=Status.ACTIVE)

    loaded = desk.load([token(0, serial="OTHER1"), token(1)], only_new=True)

    assert (loaded.total, loaded.rows_refused, loaded.left_out) == (1, 1, 0)
    serial, (refused,) = token(0)["serial"], desk.refused
    assert f"its device is that of token {serial}, which is active in batch 'earlier'" in refused.reason


def test_serial_numbers_that_differ_in_capitals_are_one_token_wherever_they_are_compared(
    desk: LoadingDesk, tmp_path: Path
) -> None:
    """Neither is in capitals or in small letters alone."""
    loaded = desk.load([token(0, serial="AbC1")], "july")
    who = tmp_path / "who.csv"
    who.write_text("serial,username\nABc1,ada\n")
    assert desk.load([token(1, serial="aBc1"), token(2)], "august", who=who).total == 1
    (refused,) = desk.refused
    assert refused.reason.startswith("the serial number is in progress in batch 'july' (row 2)")

    (record,) = desk.records(loaded)
    with desk.database.reading() as connection:
        for condition in (choose_records(connection, "july", ["serial=aBC1"]), is_in_range("aBc")):
            assert connection.scalars(select(Record.id).where(Record.batch_id == loaded.batch_id, condition)).all()
        assert find_tokens(connection, "aBC1") == [("tenant-1", "AbC1")]
    (other,) = desk.records(Loaded(loaded.batch_id + 1, "august", 1, 1, is_new=True))
    with pytest.raises(IntegrityError):
        desk.database.change(update(Record).where(Record.id == other.id).values(serial_number="abC1"))
    assert record.serial_key == "abc1"


ANSWERED = {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1}
SENT_BOTH = ANSWERED | {"otp2_state": OtpState.ANSWERED, "otp2_posts": 1}


@pytest.mark.parametrize(
    ("past", "row"),
    [
        (ANSWERED, {}),
        (ANSWERED, {"otp2": "000000", "otp1": "777777"}),
        (SENT_BOTH, {"otp1": "500000", "otp2": "777777"}),
        ({"otp1_state": OtpState.SENT, "otp1_posts": 1}, {}),
        # It went out, no answer came, and a read found the device waiting: half of what one OTP may be sent.
        ({"otp1_state": OtpState.UNSENT, "otp1_posts": 1}, {}),
        # PingOne takes capitals and small letters for the same.
        (ANSWERED, {"serial": token(0)["serial"].lower()}),
        # A slip in the serial number: the device is the same.
        (ANSWERED, {"serial": "OTHER1"}),
        # Another device of the same token.
        (ANSWERED, {"device_id": "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f"}),
    ],
)
def test_an_otp_that_was_sent_before_is_refused(desk: LoadingDesk, past: dict[str, Any], row: Token) -> None:
    earlier(desk.database, desk.keyring, status=Status.DEAD_LETTER, reason=Reason.REJECTED, **past)

    assert desk.load([token(0, **row), token(1)]).total == 1
    (reason,) = (error.reason for error in desk.refused)
    assert ("was sent already, in batch 'earlier' (row 2)" in reason, "000000" in reason) == (True, False)


@pytest.mark.parametrize(
    ("past", "row", "is_key_gone"),
    [(SENT_BOTH, {"otp1": "111111", "otp2": "222222"}, False), ({}, {}, False), (SENT_BOTH, {}, True)],
    ids=["fresh OTPs", "never sent", "a past whose key is gone"],
)
def test_otps_that_went_out_nowhere_begin_again(
    desk: LoadingDesk, past: dict[str, Any], row: Token, is_key_gone: bool
) -> None:
    keyring = Keyring([generate_key()]) if is_key_gone else desk.keyring
    earlier(desk.database, keyring, status=Status.CANCELLED, **past)

    (record,) = desk.records(desk.load([token(0, **row)]))
    assert (record.otp1_state, record.otp1_posts, record.attempts) == (OtpState.UNSENT, 0, 0)


# All or nothing.


def test_a_load_that_breaks_in_the_middle_leaves_nothing_and_one_that_goes_on_is_seen_only_whole(
    desk: LoadingDesk,
) -> None:
    """The first chunk is written already when the second one's row is refused."""
    tokens = [token(number) for number in range(CHUNK)] + [token(CHUNK, otp1="12")]
    seen: list[tuple[int, Any]] = []

    def interrupt(error: RowError) -> None:
        seen.append((error.row_number, desk.found()))
        if len(seen) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.load(tokens, refused=interrupt)
    assert desk.found() == (0, 0, 0)
    loaded = desk.load(tokens, refused=interrupt)
    # A dispatcher that ticks in the middle finds nothing of it.
    assert seen == [(CHUNK + 2, (0, 0, 0))] * 2
    assert set(statuses(desk.database, Made(loaded.batch_id, loaded.name, []))) == {Status.PENDING}


def test_a_shipment_without_a_good_row_leaves_nothing(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring)
    before = desk.found()

    with pytest.raises(UnusableFile, match="not one of its 2 rows"):
        desk.load([token(0), token(1, otp1="12")])

    assert (desk.found(), [error.row_number for error in desk.refused]) == (before, [2, 3])


def test_a_file_that_changes_under_the_load_leaves_nothing(desk: LoadingDesk) -> None:
    path = desk.write([token(number) for number in range(CHUNK + 5)])
    shipment = open_shipment(path)
    path.write_text(path.read_text() + "MADE999999,123456,,,\n")

    with pytest.raises(UnusableFile, match="changed while it was being read"):
        Loader(desk.database, desk.keyring, environment(), TESTER).load(shipment, "shipment")

    assert desk.found() == (0, 0, 0)


REPLAYS: dict[str, Callable[[Batches], object]] = {
    "a person's": lambda batches: batches.replay("earlier").records,
    "the schedule's": Batches.replay_transient,
}


@pytest.mark.parametrize("whose", REPLAYS)
def test_a_replay_during_a_load_of_the_same_token_leaves_it_to_that(desk: LoadingDesk, whose: str) -> None:
    again, batches = token(0), Batches(desk.database, TESTER)
    same = {"serial_number": again["serial"], "device_id": again["device_id"], "environment_id": "tenant-1"}
    made = make_batch(desk.database, name="earlier", status=Status.DEAD_LETTER, reason=Reason.ATTEMPTS_SPENT, **same)
    with ThreadPoolExecutor(1) as person:
        replayed: list[Future[object]] = []

        def meanwhile(_: RowError) -> None:
            replayed.append(person.submit(REPLAYS[whose], batches))
            wait_until(lambda: replayed[0].done() or somebody_waits(desk.database), "the replay waits for the load")
            assert may_tick(desk.database)

        desk.load([again, token(1, otp1="12")], refused=meanwhile)

        assert [future.result() for future in replayed] == [0]
    assert statuses(desk.database, made) == [Status.DEAD_LETTER]


def somebody_waits(database: MovingDatabase) -> bool:
    """For a lock in PostgreSQL; on SQLite nobody can begin to write before the load has ended."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return database.is_sqlite or bool(database.values(waiting)[0])


def may_tick(database: MovingDatabase) -> bool:
    """A long load must not keep the dispatcher from what was loaded before. On SQLite it does."""
    if database.is_sqlite:
        return True
    with database.writing() as connection:
        return database.try_lock(connection, DISPATCH_LOCK)


# Many chunks.

ON_ROW_2 = "is on row 2 of this file too, and these rows differ"


def test_every_bad_row_of_many_chunks_is_told_in_its_order(desk: LoadingDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "CHUNK", 4)
    before = [{"serial_number": f"BEFORE{number}", "device_id": f"another {number}"} for number in (12, 24)]
    make_batch(desk.database, before, name="earlier", environment_id="tenant-1", keyring=desk.keyring)
    # Every third row is bad, in four ways by turns, two of which make the first one bad as well.
    bad: dict[int, tuple[Token, str]] = {
        number: [
            ({"serial": f"BEFORE{number}"}, "the serial number is in progress in batch 'earlier' (row "),
            ({"otp1": "12"}, "otp1 has 2 digits, but an OTP has 6 or 8"),
            ({"serial": token(0)["serial"]}, f"the serial number {ON_ROW_2}"),
            ({"device_id": token(0)["device_id"]}, f"the device {ON_ROW_2}"),
        ][number // 3 % 4]
        for number in range(3, 27, 3)
    }

    loaded = desk.load([token(number, **bad.get(number, ({}, ""))[0]) for number in range(30)])

    assert (loaded.total, loaded.rows_refused) == (30 - 9, 9)
    first, *others = desk.refused
    assert (first.row_number, first.reason[:51]) == (2, "the serial number is on row 8 of this file too, and")
    assert [error.row_number - 2 for error in others] == list(bad)
    assert [error.reason.startswith(bad[error.row_number - 2][1]) for error in others] == [True] * 8


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_record_that_was_written_is_not_read_again_for_each_chunk(desk: LoadingDesk) -> None:
    """PostgreSQL, without statistics of what the load has written so far, is tempted to. SQLite has no such choice."""
    desk.database.rows(text("SELECT pg_stat_reset()"))
    rows = 10 * CHUNK
    desk.load([token(number) for number in range(rows)], into=environment(environment_id=str(uuid.uuid4())))
    # A connection brings the statistics up to date when it ends.
    desk.database.engine.dispose()
    counted = text("SELECT n_tup_ins, seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'record'")

    def count_reads() -> list[int]:
        return [read for written, read in desk.database.rows(counted) if written >= rows]

    assert wait_until(count_reads, "the statistics tell of the load")[0] < rows


def test_it_is_told_how_far_a_load_and_its_preflight_are(desk: LoadingDesk) -> None:
    path = desk.write([token(number, **({"otp1": "12"} if number == 1 else {})) for number in range(2 * CHUNK + 1)])
    written, reading = Heard(), Heard()

    with desk.database.reading() as connection:
        RowReader(connection, desk.keyring, "tenant-1").read(open_shipment(path), reading)
    desk.load_file(path, on_progress=written)

    assert reading == [("Reading rows", done, None) for done in (CHUNK, 2 * CHUNK)]
    assert written == [("Loading rows", done, None) for done in (CHUNK, 2 * CHUNK)]


# How rows are written.

TABLE = Record.metadata.tables["record"]
# What a load writes.
COLUMNS = RecordRows(Keyring([generate_key()]), 1, timedelta(0)).columns
# What COPY's text format, CSV or SQL would take for something else, and what is not one byte a character.
ODD = [
    "",
    " ",
    "\\N",
    "\\.",
    "\\",
    "a\\tb",
    "a\tb",
    "a\nb",
    "a\r\nb",
    "\r",
    '"',
    "'; DROP TABLE record; --",
    "%s %(name)s ? :name {0}",
    "NULL",
    "\x01\x08\x0b\x0c\x1b\x7f\x85",
    "\u2028\ufeff\ufffd",
    "Zoë 東京 👩🏽‍🚒 e\u0301",
]


def row(number: int, **columns: Any) -> tuple[Any, ...]:
    values: dict[str, Any] = dict.fromkeys(COLUMNS) | {
        "row_number": number + 2,
        "serial_number": f"S{number}",
        "user_id": "user",
        "device_id": f"device {number}",
        "pairing": "paired",
        "is_in_inventory": True,
        "otp_type": "hotp",
        "has_second_otp": True,
        "otps": b"sealed",
    }
    return tuple((values | columns)[name] for name in COLUMNS)


@pytest.fixture
def batch(database: MovingDatabase) -> Made:
    return make_batch(database, [])


def write(database: MovingDatabase, batch: Made, rows: Iterable[tuple[Any, ...]]) -> None:
    same = {"batch_id": batch.batch_id, "environment_id": "tenant", "scheduled_at": datetime.now(UTC)}
    total = select(func.count(Record.id)).where(Record.batch_id == Batch.id).scalar_subquery()
    with database.writing() as connection:
        with RowWriter(connection, TABLE, COLUMNS, same).writing() as write_row:
            for values in rows:
                write_row(values)
        # The judge of totals looks at it.
        connection.execute(update(Batch).values(total=total))


def records(database: MovingDatabase) -> Sequence[Any]:
    return database.rows(select(TABLE).order_by(Record.row_number))


def test_odd_characters_and_every_byte_arrive_as_they_are(database: MovingDatabase, batch: Made) -> None:
    sealed = [bytes(range(256)), b"\0", b"\\x00\\N\n", b""]
    odd = [(text, sealed[number % 4]) for number, text in enumerate(ODD)]

    write(
        database,
        batch,
        [row(n, username=text, lot=text, extra={text: text}, otps=otps) for n, (text, otps) in enumerate(odd)],
    )

    found = [(record.username, record.lot, record.extra, record.otps) for record in records(database)]
    assert found == [(text, text, {text: text}, otps) for text, otps in odd]


def test_times_arrive_in_utc_and_what_is_empty_stays_empty(database: MovingDatabase, batch: Made) -> None:
    at = datetime(2026, 3, 1, 9, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    write(database, batch, [row(0, generated_at=at, has_second_otp=False), row(1)])

    first, second = records(database)
    assert (first.generated_at, first.has_second_otp) == (at.astimezone(UTC), False)
    assert first.generated_at.tzinfo is not None
    assert (second.generated_at, second.username, second.lot, second.extra) == (None, None, None, None)
    assert database.values(text("SELECT count(*) FROM record WHERE extra IS NULL")) == [2]


def test_a_row_is_what_an_insert_makes_of_it(database: MovingDatabase, batch: Made) -> None:
    """The model's defaults too, to the last column."""
    (example,) = make_batch(database, name="example").ids
    write(database, batch, [row(0)])

    differing = {
        "id",
        "batch_id",
        "environment_id",
        "serial_number",
        "serial_key",
        "user_id",
        "device_id",
        "otps",
        "scheduled_at",
    }
    written, inserted = (
        {name: value for name, value in record._asdict().items() if name not in differing}
        for record in sorted(records(database), key=lambda record: record.id == example)
    )
    assert written == inserted
    assert written["status"] == Status.PENDING


@pytest.mark.parametrize("who", ["the database", "the driver", "a person"])
def test_a_row_that_is_refused_and_an_interruption_in_the_midst_leave_none(
    database: MovingDatabase, batch: Made, who: str
) -> None:
    """The rows before it are on their way."""
    unfit = {"serial_number": "S7"} if who == "the database" else {"username": object()}
    if who == "the driver" and not database.is_sqlite:
        unfit = {"username": "a\0b"}

    def arriving() -> Iterator[tuple[Any, ...]]:
        yield from map(row, range(500))
        if who == "a person":
            raise KeyboardInterrupt
        yield row(500, **unfit)
        yield from map(row, range(501, 600))

    errors = {"the database": IntegrityError, "the driver": DBAPIError, "a person": KeyboardInterrupt}
    with pytest.raises(errors[who]):
        write(database, batch, arriving())

    assert records(database) == []
    write(database, batch, map(row, range(500)))
    assert count(database, Record) == 500


def test_an_error_shows_no_value_but_what_the_database_itself_tells(database: MovingDatabase, batch: Made) -> None:
    with pytest.raises(IntegrityError) as raised:
        write(database, batch, [row(0, username="mallory"), row(0, otps=b"closed")])

    assert [value for value in ("mallory", "closed") if value in str(raised.value)] == []


# What a preflight says of each row, without a trace of it.


def examine(
    desk: LoadingDesk, *tokens: Token, environment_id: str = "tenant-1", only_new: bool = False
) -> tuple[Verdicts, dict[str, Finding]]:
    shipment = open_shipment(desk.write(tokens), only_new=only_new)
    with desk.database.reading() as connection:
        verdicts, leftovers = RowReader(connection, desk.keyring, environment_id).read(shipment)
    findings = files.check_files(shipment, verdicts, leftovers, totp_max_age=120)
    return verdicts, {finding.name: finding for finding in findings}


# What stands in the way, each beside rows that are well.
SHIPMENTS: dict[str, list[Token]] = {
    "well": [token(1), token(2)],
    "serial twice": [token(1), token(2), token(1, device_id=token(9)["device_id"])],
    "device twice": [token(1), token(2, device_id=token(1)["device_id"]), token(3)],
    "in progress": [token(0), token(1)],
    "in progress twice": [token(0), token(0), token(1)],
    "device in progress": [token(5, device_id=token(0)["device_id"]), token(1)],
    "no otp": [token(1, otp1=""), token(2)],
}


@ON_SQLITE
@pytest.mark.parametrize("status", [Status.PENDING, Status.ACTIVE, Status.DEAD_LETTER])
@pytest.mark.parametrize("name", SHIPMENTS)
@pytest.mark.parametrize("chunk", [1, 1000])
def test_each_row_is_told_what_the_load_does_with_it_and_nothing_is_written(
    desk: LoadingDesk, monkeypatch: pytest.MonkeyPatch, name: str, status: Status, chunk: int
) -> None:
    for module in (files, loading):
        monkeypatch.setattr(module, "CHUNK", chunk)
    earlier(desk.database, desk.keyring, status=status, otp1_posts=1)
    before = desk.found()
    verdicts, _ = examine(desk, *SHIPMENTS[name])
    assert desk.found() == before
    try:
        loaded = desk.load(SHIPMENTS[name])
    except UnusableFile:
        assert not verdicts.good
        return
    assert [row.row_number for row in verdicts.list_good()] == [record.row_number for record in desk.records(loaded)]
    told, refused = (
        sorted((error.row_number, error.reason) for error in errors)
        for errors in (verdicts.refused.first, desk.refused)
    )
    assert told == refused


@ON_SQLITE
def test_a_token_in_progress_is_named_with_its_batch(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring, status=Status.PENDING)
    _, findings = examine(desk, token(0), token(1))
    found = findings["in_database"]
    assert (found.level, found.tokens, found.serials) == (Level.NOTE, 1, (token(0)["serial"],))
    assert found.text == "Refused because of what is in oathbulk's own database: 1 row."
    # Where the reason is told already, it is not told twice.
    assert findings["rows_refused"].text.endswith(
        "the serial number is in progress in batch 'earlier' (row 2): wait until it is finished, or cancel it there"
    )
    # Records of another environment are no matter.
    assert examine(desk, token(0), environment_id="tenant-2")[0].good == 1


@ON_SQLITE
def test_a_token_that_is_active_elsewhere_is_refused_or_left_out_on_purpose(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring, status=Status.ACTIVE)
    assert "active already, in batch 'earlier'" in examine(desk, token(0), token(1))[1]["rows_refused"].text
    verdicts, findings = examine(desk, token(0), token(1), only_new=True)
    found = findings["left_out"]
    assert (found.level, found.text) == (Level.NOTE, "Left out, because they are active in other batches: 1 token.")
    assert [line[4] for line in verdicts.lines({})] == ["left_out", "ready"]


@ON_SQLITE
def test_who_has_an_active_token_of_the_file_or_gets_one_is_asked_about_and_rows_that_fail_do_not_count(
    desk: LoadingDesk,
) -> None:
    earlier(desk.database, desk.keyring, status=Status.ACTIVE)
    has_one, fails, first = token(0)["user_id"], token(2)["user_id"], token(4)["user_id"]
    _, findings = examine(
        desk,
        *(token(0), token(1, user_id=has_one), token(2, otp1=""), token(3, user_id=fails)),
        *(token(4), token(5, user_id=first.upper())),
    )
    assert findings["person_twice"].serials == (token(1)["serial"], token(5)["serial"])


SEED = Seed(secret=Secret(b"12345678901234567890"), counter=3)


def make_earlier_seed(desk: LoadingDesk, seed: Seed = SEED, keyring: Keyring | None = None, **columns: Any) -> None:
    """A record of token 0 that was given up, and whose seed is still there."""
    same = {"serial_number": token(0)["serial"], "status": Status.DEAD_LETTER, "next_counter": 4}
    # The first batch of the database, and its first row.
    sealed = (keyring or desk.keyring).seal(seed.to_plaintext(), identify_row(1, 2))
    make_batch(desk.database, [same | {"otps": sealed} | columns], name="box", environment_id="tenant-1")


def with_pair(seed: Seed, first: int, second: int, **columns: str) -> Token:
    return token(0, otp1=seed.mint(first).reveal(), otp2=seed.mint(second).reveal(), **columns)


@ON_SQLITE
def test_a_pair_that_a_seed_of_ours_contradicts_is_asked_about(desk: LoadingDesk) -> None:
    make_earlier_seed(desk)
    assert "not_consecutive" not in examine(desk, with_pair(SEED, 4, 5), token(1))[1]
    verdicts, findings = examine(desk, with_pair(SEED, 4, 6), token(1))
    found = findings["not_consecutive"]
    assert (found.level, found.serials) == (Level.ASK, (token(0)["serial"],))
    assert found.text.startswith(
        "Pairs whose OTPs are not consecutive, according to the token's seed in an earlier batch"
    )
    assert SEED.secret.reveal().hex() not in repr(verdicts) + found.text


@ON_SQLITE
def test_a_pair_that_a_seed_of_ours_has_sent_is_refused(desk: LoadingDesk) -> None:
    make_earlier_seed(desk, device_id=token(0)["device_id"])
    assert desk.load([with_pair(SEED, 3, 4), token(1)]).rows_refused == 1
    assert "was sent already, in batch 'box'" in desk.refused[0].reason
    assert desk.load([with_pair(SEED, 4, 5)], "fresh").total == 1


@ON_SQLITE
def test_a_totp_pair_is_compared_by_the_time_at_which_it_was_made(desk: LoadingDesk) -> None:
    seed, now = Seed(secret=SEED.secret, otp_type="totp", time_step=30), datetime.now(UTC)
    make_earlier_seed(desk, seed, otp_type="totp", next_counter=None)
    step, columns = int(now.timestamp() // 30), {"otp_type": "totp", "generated_at": now.isoformat()}
    found = [examine(desk, with_pair(seed, step, step + gap, **columns))[1] for gap in (1, 2)]
    assert ["not_consecutive" in each for each in found] == [False, True]


@ON_SQLITE
@pytest.mark.parametrize(
    "columns",
    [{"otps": None}, {"environment_id": "tenant-2"}, {"keyring": Keyring([generate_key()])}],
    ids=["erased", "of another tenant", "of a key that is gone"],
)
def test_a_seed_that_cannot_be_opened_contradicts_nothing(desk: LoadingDesk, columns: dict[str, Any]) -> None:
    make_earlier_seed(desk, **columns)
    assert "not_consecutive" not in examine(desk, with_pair(SEED, 4, 6))[1]


# What is kept of a refused row.


def kept(desk: LoadingDesk) -> Sequence[Any]:
    return desk.database.rows(select(RefusedRow.__table__).order_by(RefusedRow.id))


@ON_SQLITE
def test_nothing_of_a_refused_row_can_be_an_otp(desk: LoadingDesk) -> None:
    """Whatever column it stands in."""
    otps = ["13572468", "24681357", "97531864"]
    tokens = [
        token(0),
        token(1, serial=otps[0], otp1="MADE1", otp2=otps[1]),
        token(2, otp1=otps[0], otp2=otps[1] + "x"),
        token(3, user_id=otps[2]),
        token(4, serial=otps[2], otp1="", otp2="", oathbulk_row="batch 900 row 2"),
    ]
    loaded = desk.load(tokens, "july")

    rows = kept(desk)
    assert not [otp for otp in otps if otp in repr([tuple(row) for row in rows])]
    assert [(row.row_number, row.serial_number) for row in rows] == [
        (3, None),
        (4, "MADE000002"),
        (5, "MADE000003"),
        (6, None),
    ]
    assert [row.detail for row in rows] == [error.reason for error in desk.refused]
    assert {(row.batch_id, row.environment_id) for row in rows} == {(loaded.batch_id, "tenant-1")}


@ON_SQLITE
@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"otp1": ""}, RowFault.OTPS_UNFIT),
        ({"otp_type": "totp"}, RowFault.OTPS_UNFIT),
        ({"serial": ""}, RowFault.SERIAL_UNFIT),
        ({"user_id": "somebody"}, RowFault.PERSON_UNFIT),
        ({"device_id": ""}, RowFault.PERSON_UNFIT),
        ({"serial": "MADE000000"}, RowFault.REPEATED),
        ({"device_id": token(0)["device_id"]}, RowFault.REPEATED),
    ],
)
def test_each_fault_has_its_word(desk: LoadingDesk, row: Token, word: RowFault) -> None:
    desk.load([token(0), token(1, **row), token(2)], "july")

    # What two rows contradict each other about, both are refused for.
    rows = 2 if word == RowFault.REPEATED else 1
    assert [row.reason for row in kept(desk)] == [word] * rows
    (status,) = read_statuses(desk.database)
    assert status.refused == {word: rows}


@ON_SQLITE
@pytest.mark.parametrize(("status", "word"), [("pending", "in_progress"), ("dead_letter", "otps_used")])
def test_what_our_own_database_refuses_has_its_word_too(desk: LoadingDesk, status: str, word: str) -> None:
    earlier(desk.database, desk.keyring, status=status, otp1_state="answered", otp1_posts=1)
    desk.load([token(0, otp2="555555"), token(1)], "july")
    assert [row.reason for row in kept(desk)] == [word]


@ON_SQLITE
def test_a_load_that_was_broken_off_leaves_no_refused_row_and_the_next_one_has_each_once(desk: LoadingDesk) -> None:
    tokens = [token(number, **({} if number % 3 else {"otp1": "12"})) for number in range(2 * CHUNK + 10)]
    path, break_off = desk.write(tokens, "july.csv"), Mock(side_effect=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        desk.load_file(path, "july", on_progress=break_off)
    assert (break_off.call_args.args[1], count(desk.database, RefusedRow)) == (CHUNK, 0)

    loaded = desk.load_file(path, "july")
    assert not desk.load_file(path, "july").is_new
    assert [row.row_number for row in kept(desk)] == [number + 2 for number in range(0, len(tokens), 3)]
    assert loaded.rows_refused == count(desk.database, RefusedRow)
