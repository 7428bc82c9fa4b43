"""A large shipment is loaded in time and memory that its size accounts for, and every refused row is told."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from support.data.batches import make_batch
from support.data.loading import LoadingDesk, Token, environment, token
from support.data.moving_clock import MovingDatabase
from support.data.progress import Heard
from support.processes.waiting import wait_until

from models.encrypted import Keyring
from worker.batches.loading import CHUNK
from worker.intake import open_shipment
from worker.preflight.files import RowReader

# Many chunks.
ROWS = 10_000
ON_ROW_2 = "stands on row 2 of this file too, and the rows with it do not all say the same"


@pytest.fixture
def desk(database: MovingDatabase, keyring: Keyring, tmp_path: Path) -> LoadingDesk:
    return LoadingDesk(database, keyring, tmp_path)


def tokens_with_faults(rows: int, every: int) -> Iterator[Token]:
    """One row of `every` so many is bad, in four ways by turns, two of which make the first one bad as well."""
    for number in range(rows):
        place = number // every
        if not number or number % every:
            yield token(number)
        elif place % 4 == 0:
            yield token(number, otp1="12")
        elif place % 4 == 1:
            yield token(number, serial=token(0)["serial"])
        elif place % 4 == 2:
            yield token(number, device_id=token(0)["device_id"])
        else:
            # A token of the batch before this one.
            yield token(number, serial=f"BEFORE{place}")


def test_every_bad_row_of_a_large_file_is_told_in_its_order(desk: LoadingDesk) -> None:
    before = [{"serial_number": f"BEFORE{place}", "device_id": f"another {place}"} for place in range(3, 101, 4)]
    make_batch(desk.database, before, name="earlier", environment_id="tenant-1", keyring=desk.keyring)

    loaded = desk.load(list(tokens_with_faults(ROWS + 1, ROWS // 100)))

    assert (loaded.total, loaded.rows_refused) == (ROWS + 1 - 101, 101)
    assert [error.row_number for error in desk.refused] == [2 + place * ROWS // 100 for place in range(101)]
    first = desk.refused.pop(0)
    assert first.reason.startswith(f"the serial number stands on row {2 + ROWS // 100} of this file too")
    beginnings = (
        f"the serial number {ON_ROW_2}",
        f"the device {ON_ROW_2}",
        "the serial number is in progress in batch 'earlier' (row ",
        "otp1 has 2 digits, but an OTP 6 or 8",
    )
    for place, error in enumerate(desk.refused):
        assert error.reason.startswith(beginnings[place % 4])


def test_a_record_that_was_written_is_not_read_again_for_each_chunk(desk: LoadingDesk) -> None:
    """PostgreSQL, without statistics of what the load has written so far, is tempted to. SQLite has no such choice."""
    if desk.database.is_sqlite:
        assert desk.load([token(number) for number in range(CHUNK)]).total == CHUNK
        return
    with desk.database.reading() as connection:
        connection.execute(text("SELECT pg_stat_reset()"))
    rows = 10 * CHUNK
    desk.load([token(number) for number in range(rows)], into=environment(environment_id=str(uuid.uuid4())))

    assert records_read(desk.database, written=rows) < rows


def records_read(database: MovingDatabase, written: int) -> int:
    """How many PostgreSQL has read so far, by its own statistics, which it brings up to date when a connection ends."""
    database.engine.dispose()
    statement = text("SELECT n_tup_ins, seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'record'")

    def read() -> int | None:
        with database.reading() as connection:
            inserted, tuples = connection.execute(statement).one()
        return int(tuples) + 1 if inserted >= written else None

    return wait_until(read, 30, "the statistics tell of the load")


def test_it_is_told_how_far_a_load_and_its_preflight_are(desk: LoadingDesk) -> None:
    path = desk.write([token(number, **({"otp1": "12"} if number == 1 else {})) for number in range(2 * CHUNK + 1)])
    loading, reading = Heard(), Heard()

    with desk.database.reading() as connection:
        RowReader(connection, desk.keyring, "tenant-1").read(open_shipment(path), reading)
    desk.load_file(path, on_progress=loading)

    assert reading == [("Reading rows", done, None) for done in (CHUNK, 2 * CHUNK)]
    assert loading == [("Loading rows", done, None) for done in (CHUNK, 2 * CHUNK)]
