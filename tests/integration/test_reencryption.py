"""Rotation of the encryption key beside the work, on both databases."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, update
from sqlalchemy.exc import DBAPIError
from support.data.audit_lines import read, refuse_lines
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, enqueue, look, make_batch, pair_of, statuses
from support.data.loading import file_bytes
from support.data.moving_clock import MovingDatabase
from support.data.progress import Heard

from models.audit import Action
from models.encrypted import DecryptionError, Keyring, generate_key, identify_row
from models.record import Record
from models.record_states import Status
from worker import audit
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.rules.steps import Active, Retry
from worker.vault import rotation
from worker.vault.otps import OtpPair, read_otp_source
from worker.vault.rotation import CHUNK

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
OLD, NEW, THIRD = generate_key(), generate_key(), generate_key()
BEFORE, ROTATING, AFTER = Keyring([OLD]), Keyring([NEW, OLD]), Keyring([NEW])


def reencrypt(database: MovingDatabase, keyring: Keyring) -> int:
    def write_down(connection: Connection, records: int) -> None:
        audit.append(database, connection, TESTER, Action.REENCRYPT, None, {"records": records})

    return rotation.reencrypt(database, keyring, write_down)


def opened(database: MovingDatabase, keyring: Keyring, record_id: int) -> OtpPair:
    record = look(database, record_id)
    return read_otp_source(keyring.open(record.otps, identify_row(record.batch_id, record.row_number)))


def open_all(database: MovingDatabase, keyring: Keyring, made: Made) -> list[OtpPair]:
    return [opened(database, keyring, record_id) for record_id in made.ids]


def test_every_pair_opens_with_the_new_key_alone_and_nothing_but_the_seal_changes(database: MovingDatabase) -> None:
    made = make_batch(database, [{"status": status} for status in Status], keyring=BEFORE)
    # What was erased stays so.
    sealed = [record_id for record_id, status in zip(made.ids, Status, strict=True) if status != Status.ACTIVE]
    before = [look(database, record_id)._asdict() for record_id in made.ids]

    assert reencrypt(database, ROTATING) == len(sealed)

    place = {record_id: number for number, record_id in enumerate(made.ids)}
    for record_id in sealed:
        assert opened(database, AFTER, record_id) == pair_of(place[record_id])
    with pytest.raises(DecryptionError):
        opened(database, BEFORE, sealed[0])
    after = [look(database, record_id)._asdict() for record_id in made.ids]
    assert {name for old, new in zip(before, after, strict=True) for name in old if old[name] != new[name]} == {"otps"}

    # A second one finds nothing to do, and has no line in the audit.
    assert (reencrypt(database, ROTATING), reencrypt(database, AFTER)) == (0, 0)
    assert [look(database, record_id)._asdict() for record_id in made.ids] == after
    (line,) = read(database)
    assert (line.actor, line.action, line.batch, line.facts) == ("tester", "reencrypt", None, {"records": len(sealed)})


@ON_SQLITE
def test_a_rotation_that_fails_half_way_was_written_down_and_one_that_cannot_be_changes_nothing(
    database: MovingDatabase,
) -> None:
    made = make_batch(database, 2, keyring=Keyring([generate_key()]))
    with pytest.raises(DecryptionError):
        reencrypt(database, ROTATING)
    assert [line.action for line in read(database)] == ["reencrypt"]

    refuse_lines(database)
    sealed = look(database, made.ids[0]).otps
    with pytest.raises(DBAPIError, match="no room"):
        reencrypt(database, ROTATING)
    assert look(database, made.ids[0]).otps == sealed


@ON_SQLITE
def test_a_key_that_is_missing_is_told_and_it_goes_on_where_it_was_once_that_is_there(database: MovingDatabase) -> None:
    known = make_batch(database, CHUNK, name="known", keyring=BEFORE)
    lost = make_batch(database, 2, name="lost", keyring=Keyring([THIRD]))

    with pytest.raises(DecryptionError, match="OATHBULK_ENCRYPTION_KEYS"):
        reencrypt(database, ROTATING)
    assert opened(database, AFTER, known.ids[0]) == pair_of(0)
    assert open_all(database, Keyring([THIRD]), lost) == [pair_of(0), pair_of(1)]

    assert reencrypt(database, Keyring([NEW, OLD, THIRD])) == 2
    assert open_all(database, AFTER, lost) == [pair_of(0), pair_of(1)]
    assert opened(database, AFTER, known.ids[-1]) == pair_of(CHUNK - 1)


@ON_SQLITE
def test_a_pair_copied_to_another_row_is_not_taken(database: MovingDatabase) -> None:
    made = make_batch(database, 2, keyring=BEFORE)
    foreign = look(database, made.ids[0]).otps
    with database.writing() as connection:
        connection.execute(update(Record).where(Record.id == made.ids[1]).values(otps=foreign))

    with pytest.raises(DecryptionError, match="do not belong to this record"):
        reencrypt(database, ROTATING)


def test_rotation_beside_workers_loses_no_pair_and_brings_none_back(database: MovingDatabase, leases: Leases) -> None:
    made = make_batch(database, 90, keyring=BEFORE)
    enqueue(database, made)
    all_ready = threading.Barrier(4)

    def work(ids: list[int]) -> None:
        """Every second record becomes active, the others go back."""
        all_ready.wait(timeout=30)
        for record_id in ids:
            claimed = leases.claim(record_id, ENVIRONMENT_ID)
            assert claimed is not None
            pair = ROTATING.open(claimed.otps, identify_row(claimed.batch_id, claimed.row_number))
            assert read_otp_source(pair) == pair_of(claimed.row_number - 2)
            again = Retry(600.0, is_counted=True, why="outcome_unknown")
            leases.settle(claimed, claimed.progress, Active() if record_id % 2 else again, CallSummary(1))

    def rotate() -> int:
        all_ready.wait(timeout=30)
        return reencrypt(database, ROTATING)

    with ThreadPoolExecutor(4) as threads:
        workers = [threads.submit(work, made.ids[first::3]) for first in range(3)]
        rotated = threads.submit(rotate).result()
        for worker in workers:
            worker.result()

    assert rotated >= len(made.ids) // 2
    for number, (record_id, status) in enumerate(zip(made.ids, statuses(database, made), strict=True)):
        if status == Status.ACTIVE:
            assert look(database, record_id).otps is None
        else:
            assert opened(database, AFTER, record_id) == pair_of(number)


@ON_SQLITE
def test_it_is_told_how_far_a_rotation_is(database: MovingDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "CHUNK", 2)
    make_batch(database, 5, keyring=BEFORE)
    heard = Heard()

    assert rotation.reencrypt(database, ROTATING, lambda *_: None, heard) == 5

    assert heard == [("Encrypting records", done, 5) for done in (2, 4, 5)]


@ON_SQLITE
def test_the_former_seals_are_gone_from_sqlites_files_while_others_work_with_it(
    database: MovingDatabase, tmp_path: Path
) -> None:
    made = make_batch(database, 50, keyring=BEFORE)
    former = [look(database, record_id).otps for record_id in made.ids]
    with closing(sqlite3.connect(tmp_path / "oathbulk.db")) as another:
        another.execute("SELECT count(*) FROM record").fetchone()

        reencrypt(database, ROTATING)

        found = file_bytes(tmp_path)
    assert [seal for seal in former if seal in found] == []
