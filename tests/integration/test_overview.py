"""How a batch came to where it is, as its page reads it, on both databases: it adds up, and says what status says."""

from __future__ import annotations

import csv
import hashlib
import io
import random
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from support.data.batches import TESTER, Made, enqueue, make_batch
from support.data.loading import environment
from support.data.moving_clock import MovingDatabase
from support.judges.secret_search import Secrets

from models.batch import Batch
from models.encrypted import Keyring
from models.reason import CURES, Reason, find_cure
from models.record import Record
from models.record_states import Status
from models.row_fault import FAULT_CURES, RowFault
from worker.batches.commands import Batches
from worker.batches.finding import UnknownBatch
from worker.batches.loading import Loader
from worker.desk.batch_page import write_file
from worker.intake import open_assignment, open_shipment
from worker.leases.settlement import CallSummary
from worker.leases.worker import Leases
from worker.reports.facts import read_statuses
from worker.reports.overview import SPANS, Overview, read_curve, read_overview
from worker.reports.sentences import list_dead_letters, list_refused
from worker.rules.progress import Active, DeadLetter, Decision, Retry

TENANT = environment()
SECRET = "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"


def read(database: MovingDatabase, name: str = "shipment") -> Overview:
    (status,) = read_statuses(database, name)
    return read_overview(database, status)


def write(database: MovingDatabase, name: str = "shipment") -> str:
    """The page as a file."""
    (status,) = read_statuses(database, name)
    return write_file(status, read_overview(database, status))


def load(
    database: MovingDatabase, keyring: Keyring, path: Path, text: str, name: str = "shipment", who: Any = None
) -> Made:
    path.write_text(text)
    loaded = Loader(database, keyring, TENANT, TESTER).load(open_shipment(path, assignment=who), name)
    return Made(loaded.batch_id, loaded.name, [])


def attempt(database: MovingDatabase, leases: Leases, made: Made, *decisions: Decision) -> None:
    """Make an attempt of the next records, each of which ends so."""
    for record_id, decision in zip(enqueue(database, made, len(decisions)), decisions, strict=True):
        claimed = leases.claim(record_id, TENANT.environment_id)
        assert claimed is not None
        leases.settle(claimed, claimed.progress.with_otp_answered(1), decision, CallSummary(1))


def shipment(rows: int, refused: int = 0) -> str:
    """OTP pairs of eight digits, as no time and no number has them; rows of one lot; then rows without an OTP."""
    digits = random.Random(4226)
    lines = ["serial,otp1,otp2,user_id,device_id,lot,username"]
    for number in range(rows + refused):
        otps = [str(digits.randrange(20_000_000, 99_999_999)) for _ in range(2)] if number < rows else ["", ""]
        ids = [f"00000000-0000-4000-{kind}000-{number:012}" for kind in "89"]
        lines.append(",".join([f"MADE{number}", *otps, *ids, "L-1", f"person{number}"]))
    return "\n".join(lines) + "\n"


def read_only_curve(database: MovingDatabase, batch_id: int) -> tuple[tuple[tuple[datetime, int], ...], list[float]]:
    with database.reading() as connection:
        return read_curve(database, connection, batch_id)


def settle(database: MovingDatabase, *ends: tuple[Status, float], **batch: Any) -> int:
    """Make a batch whose records were settled so many seconds after a moment."""
    began = database.read_clock() - timedelta(hours=30)
    rows = [
        {"status": status, "finalized_at": began + timedelta(seconds=seconds)}
        | ({"reason": Reason.LOCKED} if status == Status.DEAD_LETTER else {})
        for status, seconds in ends
    ]
    return make_batch(database, rows, **batch).batch_id


@pytest.mark.parametrize(("counters", "has_seeds"), [((3, 4), True), ((3, None), False)])
def test_where_all_dead_letters_have_seeds_their_cures_are_those_of_seeds(
    database: MovingDatabase, counters: tuple[int | None, ...], has_seeds: bool
) -> None:
    dead = {"status": Status.DEAD_LETTER, "reason": Reason.INVALID_OTP}
    make_batch(database, [dead | {"next_counter": counter} for counter in counters])

    ((_, _, cure),) = list_dead_letters(read_statuses(database)[0])

    assert cure == find_cure(Reason.INVALID_OTP, has_seed=has_seeds)


def test_the_counts_are_those_of_status_and_add_up_to_the_file(database: MovingDatabase) -> None:
    dead = [{"status": Status.DEAD_LETTER, "reason": reason} for reason in ("locked", "rejected", "locked", "blocked")]
    make_batch(database, [*({"status": status} for status in Status if status != Status.DEAD_LETTER), *dead])
    with database.writing() as connection:
        connection.execute(update(Batch).values(rows_refused=7))

    (status,) = read_statuses(database)

    told = status.to_json()
    assert status.rows == told["rows"] == len(Status) + 3 + 7
    assert status.left == told["counts"]["pending"] + told["counts"]["queued"] + told["counts"]["activating"] == 3
    assert list_dead_letters(status) == [
        (reason, told["dead_letters"][reason], CURES[reason])
        for reason in (Reason.LOCKED, Reason.BLOCKED, Reason.REJECTED)
    ]
    # Loaded before refused rows were kept.
    assert status.refused is None


def test_refused_rows_stand_by_reason_with_their_cure(
    database: MovingDatabase, keyring: Keyring, tmp_path: Path
) -> None:
    load(database, keyring, tmp_path / "shipment.csv", shipment(6, refused=2))

    (status,) = read_statuses(database)

    assert (status.left, status.rows_refused, status.rows) == (6, 2, 8)
    assert list_refused(status) == [("otps_unfit", 2, FAULT_CURES[RowFault.OTPS_UNFIT])]


def test_a_batch_of_which_nothing_is_settled_has_no_curve(database: MovingDatabase) -> None:
    made = make_batch(database, 3)
    assert read_only_curve(database, made.batch_id) == ((), [])
    assert read(database).timeline.moments == ()


@pytest.mark.parametrize("seconds", [0.0, 1e-6, 0.05, 1.0, 86_400.0])
def test_the_last_point_of_the_curve_is_all_that_are_active_however_long_it_took(
    database: MovingDatabase, seconds: float
) -> None:
    dice = random.Random(4226)
    ends = [
        (dice.choice([Status.ACTIVE, Status.ACTIVE, Status.DEAD_LETTER]), dice.random() * seconds) for _ in range(600)
    ]
    batch_id = settle(database, *ends, (Status.ACTIVE, 0.0), (Status.ACTIVE, seconds))
    settle(database, *[(Status.ACTIVE, 500.0)] * 5, name="other")

    moments, settled = read_only_curve(database, batch_id)
    (status,) = read_statuses(database, "shipment")

    active = sum(status == Status.ACTIVE for status, _ in ends) + 2
    assert moments[-1][1] == status.tokens_active == active
    with database.reading() as connection:
        last = select(Record.finalized_at).where(Record.status == Status.ACTIVE, Record.batch_id == batch_id)
        assert moments[-1][0] == max(connection.scalars(last))
    assert len(moments) <= SPANS + 1
    times, numbers = zip(*moments, strict=True)
    assert list(times) == sorted(times)
    assert list(numbers) == sorted(numbers)
    assert settled == sorted(settled)


def test_each_point_of_the_curve_is_true_at_its_moment(database: MovingDatabase) -> None:
    dice = random.Random(6238)
    ends = [(dice.choice([Status.ACTIVE, Status.DEAD_LETTER]), dice.random() ** 3 * 5000) for _ in range(400)]
    batch_id = settle(database, *ends)
    with database.reading() as connection:
        active_at = list(connection.scalars(select(Record.finalized_at).where(Record.status == Status.ACTIVE)))
    moments, _ = read_only_curve(database, batch_id)
    assert len(moments) > 50
    for at, count in moments:
        assert sum(each <= at for each in active_at) == count


def test_pauses_are_those_that_the_audit_tells(database: MovingDatabase) -> None:
    make_batch(database, 3, name="shipment")
    batches = Batches(database, TESTER)
    for _ in range(2):
        batches.pause("shipment")
        database.ahead += 600
        batches.resume("shipment")
        database.ahead += 60
    batches.pause("shipment")

    overview = read(database)

    lengths = [pause.end and round((pause.end - pause.start).total_seconds(), -1) for pause in overview.timeline.pauses]
    assert lengths == [600, 600, None]
    assert {pause.why for pause in overview.timeline.pauses} == {f"paused by {TESTER.name}"}


def test_the_time_of_a_finished_batch_ends_with_its_last_token(database: MovingDatabase) -> None:
    settle(database, (Status.ACTIVE, 10.0), (Status.DEAD_LETTER, 40.0))
    overview = read(database)
    assert (overview.timeline.until - overview.timeline.moments[-1][0]).total_seconds() == pytest.approx(30.0)
    assert overview.timeline.until < database.read_clock() - timedelta(hours=29)


def test_a_batch_that_was_purged_meanwhile_is_unknown(database: MovingDatabase) -> None:
    make_batch(database, 0)
    (status,) = read_statuses(database)
    with database.writing() as connection:
        connection.execute(Batch.__table__.delete())
    with pytest.raises(UnknownBatch):
        read_overview(database, status)


def test_the_file_who_loaded_it_and_what_was_commanded_since(
    database: MovingDatabase, keyring: Keyring, tmp_path: Path
) -> None:
    made = load(database, keyring, tmp_path / "shipment.csv", shipment(2))
    batches = Batches(database, TESTER)
    batches.pause(made.name)
    database.ahead = timedelta(minutes=5).total_seconds()
    batches.resume(made.name)

    overview = read(database)

    assert (overview.origin.file, overview.origin.loaded_by) == (str(tmp_path / "shipment.csv"), TESTER.name)
    assert overview.origin.sha256 == hashlib.sha256((tmp_path / "shipment.csv").read_bytes()).hexdigest()
    assert [command.action for command in overview.commands] == ["load", "pause", "resume"]


def test_all_of_it_is_from_one_moment(database: MovingDatabase) -> None:
    make_batch(database, 3)
    with database.reading_snapshot() as connection:
        count = select(Record.status).distinct()
        before = set(connection.scalars(count))
        with database.writing() as other:
            other.execute(update(Record).values(status=Status.QUEUED, lease_until=database.read_clock()))
        again = set(connection.scalars(count))
    assert before == again == {Status.PENDING}


def otps_of(text: str) -> Iterator[tuple[str, ...]]:
    return ((row["otp1"], row["otp2"]) for row in csv.DictReader(io.StringIO(text)))


def test_nothing_secret_is_in_the_page(
    database: MovingDatabase, leases: Leases, keyring: Keyring, tmp_path: Path
) -> None:
    pairs = shipment(8)
    made = load(database, keyring, tmp_path / "shipment.csv", pairs)
    ends: list[Any] = [Active(), DeadLetter(Reason.LOCKED), Retry(600.0, is_counted=True, why="outcome_unknown")]
    attempt(database, leases, made, *ends)
    (tmp_path / "who.csv").write_text(f"serial,user_id,device_id\nMADE100,{uuid.UUID(int=1)},{uuid.UUID(int=2)}\n")
    who = open_assignment(tmp_path / "who.csv")
    load(database, keyring, tmp_path / "box.csv", f"MADE100, {SECRET}, hotp, 6, 0\n", "box", who)
    secrets = Secrets([*otps_of(pairs)], {"a seed": SECRET, "a seed's bytes": bytes.fromhex(SECRET).decode("latin-1")})
    assert secrets.found_in(pairs.encode())

    for name in ("shipment", "box"):
        written = write(database, name).encode()
        assert f"Batch {name}".encode() in written
        assert secrets.found_in(written) == set()
