"""A shipment becomes a batch, or leaves no trace, on both databases."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from support.data.batches import TESTER, Made, look_at_batch, make_batch, statuses
from support.data.loading import HEADER, LoadingDesk, Token, earlier, environment, token
from support.data.moving_clock import MovingDatabase
from support.processes.waiting import wait_until

from models.batch import BatchState
from models.encrypted import Keyring, generate_key, identify_row
from models.reason import Reason
from models.record_states import OtpState, Status
from worker.batches.commands import Batches
from worker.batches.finding import NameTaken, choose_free_name, read_names_like
from worker.batches.loading import CHUNK, AllActive, Loaded, Loader
from worker.database.engine import DISPATCH_LOCK
from worker.intake import Column, RowError, UnusableFile, open_shipment
from worker.intake.rows import PLAIN
from worker.vault.otps import read_otp_source


@pytest.fixture
def desk(database: MovingDatabase, keyring: Keyring, tmp_path: Path) -> LoadingDesk:
    return LoadingDesk(database, keyring, tmp_path)


# What is written.


def test_a_shipment_becomes_a_batch_that_runs(desk: LoadingDesk) -> None:
    loaded = desk.load([token(0), token(1)])

    batch = look_at_batch(desk.database, loaded.batch_id)
    assert loaded == Loaded(batch.id, "shipment", total=2, rows_refused=0, is_new=True)
    assert (batch.state, batch.total, batch.rows_refused, batch.columns) == (BatchState.RUNNING, 2, 0, list(HEADER))
    assert (batch.environment, batch.environment_id) == ("default", "tenant-1")
    assert batch.file == str(desk.directory / "shipment.csv")
    assert batch.created_at == batch.running_since


def test_a_row_becomes_a_pending_record_that_is_due(desk: LoadingDesk) -> None:
    row = token(7, username="alice@example.test", lot="L-1", cost_centre="4711")

    (record,) = desk.records(desk.load([row]))

    assert (record.status, record.row_number, record.attempts) == (Status.PENDING, 2, 0)
    ids = (record.serial_number, record.user_id, record.device_id, record.pairing)
    assert ids == (row["serial"], row["user_id"], row["device_id"], "paired")
    assert (record.username, record.lot, record.extra) == ("alice@example.test", "L-1", {"cost_centre": "4711"})
    assert (record.otp1_state, record.otp2_state, record.has_second_otp) == (OtpState.UNSENT, OtpState.UNSENT, True)
    assert record.scheduled_at <= desk.database.read_clock()
    assert record.otp_expires_at is None


def test_otps_are_sealed_for_their_row(desk: LoadingDesk) -> None:
    records = desk.records(desk.load([token(0), token(1, otp2="")]))

    opened = [
        read_otp_source(desk.keyring.open(record.otps, identify_row(record.batch_id, record.row_number)))
        for record in records
    ]
    assert [pair.first.reveal() for pair in opened] == ["000000", "000001"]
    assert opened[0].second is not None
    assert opened[0].second.reveal() == "500000"
    assert opened[1].second is None
    assert not records[1].has_second_otp


def test_no_otp_lies_in_the_database_in_the_clear(desk: LoadingDesk) -> None:
    loaded = desk.load([token(0, otp1="13572468", otp2="24681357")])

    (record,) = desk.records(loaded)
    written = repr([tuple(record), tuple(look_at_batch(desk.database, loaded.batch_id))])
    assert "13572468" not in written
    assert "24681357" not in written


def test_a_totp_pair_expires_and_a_hotp_pair_lasts(desk: LoadingDesk) -> None:
    generated_at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=30)
    totp = token(0, otp_type="totp", generated_at=generated_at.isoformat())
    hotp = token(1, otp_type="hotp", generated_at=generated_at.isoformat())

    records = desk.records(desk.load([totp, hotp], totp_max_age=90.0))

    assert [record.generated_at for record in records] == [generated_at] * 2
    assert [record.otp_expires_at for record in records] == [generated_at + timedelta(seconds=90), None]


def test_rows_that_cannot_be_read_are_refused_and_the_others_loaded(desk: LoadingDesk) -> None:
    loaded = desk.load([token(0), token(1, otp1="12"), token(2)])

    assert (loaded.total, loaded.rows_refused) == (2, 1)
    assert [error.row_number for error in desk.refused] == [3]
    assert [record.row_number for record in desk.records(loaded)] == [2, 4]


@pytest.mark.parametrize("column", PLAIN, ids=lambda column: column.name)
def test_a_value_that_the_database_has_no_room_for_costs_its_row_and_not_the_load(
    desk: LoadingDesk, column: Column
) -> None:
    longest, longer = ({column.name: "x" * length} for length in (column.longest, column.longest + 1))

    loaded = desk.load([token(0), token(1, **longer), token(2, **longest)])

    assert (loaded.total, loaded.rows_refused) == (2, 1)
    assert desk.refused[0].reason.startswith(f"{column.name} has more than {column.longest} characters: ")
    assert desk.refused[0].serial_number == "MADE000001"


def test_refused_rows_are_told_in_the_order_of_the_file(desk: LoadingDesk) -> None:
    make_batch(desk.database, serial_number=token(1)["serial"], name="earlier", environment_id="tenant-1")

    desk.load([token(0), token(1), token(2, otp1="12"), token(0), token(3, otp1="34")])

    assert [error.row_number for error in desk.refused] == [3, 4, 5, 6]


# The same file, and the same name.


def test_the_same_file_is_loaded_once(desk: LoadingDesk) -> None:
    path = desk.write([token(0), token(1, otp1="12")])
    first = desk.load_file(path, "first")

    again = desk.load_file(path, "another name")

    assert again == Loaded(first.batch_id, "first", total=1, rows_refused=1, is_new=False)
    assert desk.found() == (1, 1, 0)


def test_the_same_bytes_under_another_file_name_are_the_same_file(desk: LoadingDesk) -> None:
    first = desk.load_file(desk.write([token(0)], "a.csv"), "a")

    assert desk.load_file(desk.write([token(0)], "b.csv"), "b").batch_id == first.batch_id


def test_the_same_file_is_another_batch_in_another_environment(desk: LoadingDesk) -> None:
    path = desk.write([token(0)])
    desk.load_file(path, "first")

    assert desk.load_file(path, "second", into=environment("second", "tenant-2")).is_new


def test_a_cancelled_file_may_be_loaded_again(desk: LoadingDesk) -> None:
    path = desk.write([token(0)])
    desk.load_file(path, "first")
    Batches(desk.database, TESTER).cancel("first")

    again = desk.load_file(path, "second")

    assert (again.is_new, again.total, desk.refused) == (True, 1, [])


def test_a_name_belongs_to_one_file(desk: LoadingDesk) -> None:
    desk.load([token(0)], "pallet 7")

    with pytest.raises(NameTaken, match="another name, such as: --batch 'pallet 7-2'"):
        desk.load_file(desk.write([token(1)], "other.csv"), "pallet 7")
    assert desk.found() == (1, 1, 0)


def test_names_are_found_by_how_they_begin_and_the_first_free_one_is_proposed(desk: LoadingDesk) -> None:
    for number, name in enumerate(("50%", "50%-2", "50_", "500-2", "a 50%")):
        desk.load_file(desk.write([token(number)], f"{number}.csv"), name)

    with desk.database.reading() as connection:
        assert read_names_like(connection, "50%") == {"50%", "50%-2"}
        assert read_names_like(connection, "50_") == {"50_"}
    assert choose_free_name("50%", {"50%", "50%-2"}) == "50%-3"
    assert choose_free_name("50%", {"50%-2"}) == "50%"


def test_two_loads_of_one_file_at_once_make_one_batch(desk: LoadingDesk) -> None:
    shipment = open_shipment(desk.write([token(number) for number in range(20)]))
    ready = threading.Barrier(4)

    def load(number: int) -> Loaded:
        loader = Loader(desk.database, desk.keyring, environment(), TESTER)
        ready.wait(timeout=30)
        return loader.load(shipment, f"load {number}")

    with ThreadPoolExecutor(4) as threads:
        loads = list(threads.map(load, range(4)))

    assert sorted(loaded.is_new for loaded in loads) == [False, False, False, True]
    assert len({loaded.batch_id for loaded in loads}) == 1
    assert desk.found() == (1, 20, 0)


def test_two_files_with_the_same_token_loaded_at_once_share_it_out(desk: LoadingDesk) -> None:
    files = [open_shipment(desk.write([token(0), token(number)], f"{number}.csv")) for number in (1, 2)]
    ready = threading.Barrier(2)

    def load(number: int) -> Loaded:
        loader = Loader(desk.database, desk.keyring, environment(), TESTER)
        ready.wait(timeout=30)
        return loader.load(files[number], f"load {number}")

    with ThreadPoolExecutor(2) as threads:
        loads = list(threads.map(load, range(2)))

    assert sorted(loaded.total for loaded in loads) == [1, 2]
    assert desk.found() == (2, 3, 0)


# Tokens and devices that have been here before.


@pytest.mark.parametrize("other", [{"device_id": str(uuid.UUID(int=99))}, {"serial": "OTHER1"}])
@pytest.mark.parametrize("status", [Status.PENDING, Status.QUEUED, Status.ACTIVATING])
def test_a_token_or_device_in_progress_elsewhere_is_refused(desk: LoadingDesk, other: Token, status: Status) -> None:
    earlier(desk.database, desk.keyring, status=status)

    loaded = desk.load([token(0, **other), token(1)])

    what = "device" if "serial" in other else "serial number"
    assert (loaded.total, loaded.rows_refused) == (1, 1)
    assert desk.refused[0].reason.startswith(f"the {what} is in progress in batch 'earlier' (row 2)")


def test_a_token_in_progress_in_another_environment_does_not_matter(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring)

    assert desk.load([token(0)], into=environment("second", "tenant-2")).total == 1


@pytest.mark.parametrize("apart", [1, CHUNK])
@pytest.mark.parametrize("other", [{"device_id": str(uuid.UUID(int=99))}, {"serial": "OTHER1"}, {"otp2": "000000"}])
def test_a_token_or_device_on_two_rows_that_differ_is_not_loaded(desk: LoadingDesk, other: Token, apart: int) -> None:
    """Within a chunk, and across two."""
    between = [token(number) for number in range(1, apart + 1)]

    loaded = desk.load([token(0), *between, token(0, **other)])

    what = "device" if "serial" in other else "serial number"
    assert (loaded.total, loaded.rows_refused) == (apart, 2)
    assert {error.row_number: error.reason.split(" too, ")[0] for error in desk.refused} == {
        2: f"the {what} stands on row {apart + 3} of this file",
        apart + 3: f"the {what} stands on row 2 of this file",
    }
    assert token(0)["serial"] not in [record.serial_number for record in desk.records(loaded)]


@pytest.mark.parametrize("apart", [1, CHUNK])
def test_a_token_on_two_rows_that_say_the_same_is_loaded_once(desk: LoadingDesk, apart: int) -> None:
    between = [token(number) for number in range(1, apart)]

    loaded = desk.load([token(0, site="Oslo"), *between, token(0, site="Rome")])

    (error,) = desk.refused
    assert (loaded.total, loaded.rows_refused) == (apart, 1)
    assert error.row_number == apart + 2
    assert error.reason.startswith("the serial number stands on row 2 of this file already")


def test_a_refused_row_does_not_stand_in_the_way_of_a_good_one(desk: LoadingDesk) -> None:
    assert desk.load([token(0, otp1="12"), token(0)]).total == 1


def test_a_token_that_is_active_on_this_device_is_refused_or_left_out_on_purpose(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring, status=Status.ACTIVE)
    rows = [token(0, otp1="111111", otp2="222222"), token(1)]

    loaded = desk.load(rows, only_new=True)

    assert (loaded.total, loaded.rows_refused, loaded.left_out, desk.refused) == (1, 0, 1, [])
    Batches(desk.database, TESTER).cancel("shipment")
    again = desk.load(rows, "again")
    assert (again.total, again.rows_refused, again.left_out) == (1, 1, 0)
    assert "its token is active already, in batch 'earlier'" in desk.refused[0].reason


def test_where_all_is_active_elsewhere_no_batch_is_made(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring, status=Status.ACTIVE)
    before = desk.found()

    with pytest.raises(AllActive):
        desk.load([token(0)], only_new=True)

    assert desk.found() == before


def test_a_token_that_was_active_on_another_device_may_be_paired_anew(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring, status=Status.ACTIVE)

    assert desk.load([token(0, device_id=str(uuid.UUID(int=99)))]).total == 1


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
    ],
)
@pytest.mark.parametrize("status", [Status.DEAD_LETTER, Status.CANCELLED])
def test_an_otp_that_was_sent_before_is_refused(
    desk: LoadingDesk, past: dict[str, Any], row: Token, status: Status
) -> None:
    earlier(desk.database, desk.keyring, status=status, reason=Reason.REJECTED, **past)

    loaded = desk.load([token(0, **row), token(1)])

    assert loaded.total == 1
    assert "was sent already, in batch 'earlier' (row 2)" in desk.refused[0].reason
    assert "000000" not in desk.refused[0].reason


def test_fresh_otps_begin_again(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring, status=Status.DEAD_LETTER, reason=Reason.INVALID_OTP, **SENT_BOTH)

    loaded = desk.load([token(0, otp1="111111", otp2="222222")])

    (record,) = desk.records(loaded)
    assert (record.otp1_state, record.otp1_posts, record.attempts) == (OtpState.UNSENT, 0, 0)


def test_otps_that_were_never_sent_may_come_again(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring, status=Status.CANCELLED)

    assert desk.load([token(0)]).total == 1


def test_a_past_whose_key_is_gone_does_not_stop_a_load(desk: LoadingDesk) -> None:
    earlier(desk.database, Keyring([generate_key()]), status=Status.DEAD_LETTER, **SENT_BOTH)

    assert desk.load([token(0)]).total == 1


# All or nothing.


def test_a_shipment_without_a_good_row_leaves_nothing(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring)
    before = desk.found()

    with pytest.raises(UnusableFile, match="not one of its 2 rows"):
        desk.load([token(0), token(1, otp1="12")])

    assert desk.found() == before
    assert [error.row_number for error in desk.refused] == [2, 3]


def test_a_file_that_changes_under_the_load_leaves_nothing(desk: LoadingDesk) -> None:
    path = desk.write([token(number) for number in range(CHUNK + 5)])
    shipment = open_shipment(path)
    path.write_text(path.read_text() + "MADE999999,123456,,,\n")

    with pytest.raises(UnusableFile, match="changed while it was read"):
        Loader(desk.database, desk.keyring, environment(), TESTER).load(shipment, "shipment")

    assert desk.found() == (0, 0, 0)


def test_a_load_that_breaks_in_the_middle_leaves_nothing(desk: LoadingDesk) -> None:
    """The first chunk is written already when the second one's row is refused."""
    tokens = [token(number) for number in range(CHUNK)] + [token(CHUNK, otp1="12")]
    written: list[int] = []

    def interrupt(error: RowError) -> None:
        written.append(error.row_number)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.load(tokens, refused=interrupt)

    assert written == [CHUNK + 2]
    assert desk.found() == (0, 0, 0)


def test_a_load_after_one_that_broke_finds_nothing_in_its_way(desk: LoadingDesk) -> None:
    def interrupt(error: RowError) -> None:
        raise KeyboardInterrupt

    tokens = [token(0), token(1, otp1="12")]
    with pytest.raises(KeyboardInterrupt):
        desk.load(tokens, refused=interrupt)

    assert desk.load(tokens).is_new


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
            wait_until(lambda: replayed[0].done() or somebody_waits(desk.database), 30, "the replay waits for the load")
            assert may_tick(desk.database)

        desk.load([again, token(1, otp1="12")], refused=meanwhile)

        assert [future.result() for future in replayed] == [0]
    assert statuses(desk.database, made) == [Status.DEAD_LETTER]


def somebody_waits(database: MovingDatabase) -> bool:
    """For a lock in PostgreSQL; on SQLite nobody can begin to write before the load has ended."""
    if database.is_sqlite:
        return True
    with database.reading() as connection:
        return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


def may_tick(database: MovingDatabase) -> bool:
    """A long load must not keep the dispatcher from what was loaded before. On SQLite it does."""
    if database.is_sqlite:
        return True
    with database.writing() as connection:
        return database.try_lock(connection, DISPATCH_LOCK)


def test_a_record_is_seen_only_when_its_whole_batch_is(desk: LoadingDesk) -> None:
    """A dispatcher that ticks in the middle of a load finds nothing of it."""
    seen: list[tuple[int, int, int]] = []
    tokens = [token(number) for number in range(CHUNK)] + [token(CHUNK, otp1="12")]

    loaded = desk.load(tokens, refused=lambda error: seen.append(desk.found()))

    assert seen == [(0, 0, 0)]
    assert set(statuses(desk.database, Made(loaded.batch_id, loaded.name, []))) == {Status.PENDING}
