"""The report of a batch, read from both databases: it adds up, and nothing secret is in it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update
from support.data.batches import TESTER, Made, enqueue, make_batch
from support.data.loading import environment
from support.data.moving_clock import MovingDatabase
from support.judges.secret_search import Secrets

from migrations import HEAD
from models.attempt import AttemptLine
from models.batch import Batch
from models.encrypted import Keyring
from models.reason import CURES, Reason
from models.record import Record
from models.record_states import Status
from worker.batches.commands import Batches
from worker.batches.finding import UnknownBatch
from worker.batches.loading import Loader
from worker.intake import open_assignment, open_shipment
from worker.leases.attempt_line import CallSummary
from worker.leases.worker import Leases
from worker.pages.report_files import Form, render
from worker.reports.batch_report import tally
from worker.reports.batch_report.contents import Report
from worker.reports.batch_report.reading import open_snapshot, read_report, read_tokens
from worker.rules.steps import Active, DeadLetter, Decision, Retry

TENANT = environment()
SECRET = "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"


def read(database: MovingDatabase, name: str = "shipment") -> Report:
    with open_snapshot(database) as connection:
        return read_report(database, connection, name)


def write(database: MovingDatabase, form: Form, name: str = "shipment") -> str:
    with open_snapshot(database) as connection:
        report = read_report(database, connection, name)
        return "".join(render(form, report, lambda: read_tokens(connection, name)))


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


def test_the_counts_are_the_rows_of_the_file(
    database: MovingDatabase, leases: Leases, keyring: Keyring, tmp_path: Path
) -> None:
    made = load(database, keyring, tmp_path / "shipment.csv", shipment(6, refused=2))
    attempt(database, leases, made, Active(), Active(), DeadLetter(Reason.LOCKED))

    counts = read(database).counts

    assert (counts.active, counts.dead_letter, counts.open, counts.refused, counts.rows) == (2, 1, 3, 2, 8)
    (group,) = read(database).refused or ()
    assert (group.reason, group.count, [row.row_number for row in group.rows]) == ("otps_unfit", 2, [8, 9])
    Batches(database, TESTER).cancel("shipment")
    counts = read(database).counts
    assert (counts.open, counts.cancelled, counts.rows) == (0, 3, 8)


def test_rows_whose_tokens_were_active_before_count_too(database: MovingDatabase) -> None:
    make_batch(database, [{"status": Status.ACTIVE}, {}])
    with database.writing() as connection:
        connection.execute(update(Batch).values(already_active=8))

    counts = read(database).counts

    assert (counts.active, counts.already_active, counts.open, counts.rows) == (1, 8, 1, 10)


def test_every_status_is_counted_once(database: MovingDatabase) -> None:
    make_batch(database, [{"status": status} for status in Status])

    report = read(database)

    counts = report.counts
    assert (counts.active, counts.dead_letter, counts.cancelled, counts.open) == (1, 1, 1, 3)
    assert counts.rows == len(Status) == len(report.tokens or ())


def test_dead_letters_stand_by_reason_with_cure_and_tokens(
    database: MovingDatabase, leases: Leases, keyring: Keyring, tmp_path: Path
) -> None:
    made = load(database, keyring, tmp_path / "shipment.csv", shipment(4))
    locked = DeadLetter(Reason.LOCKED)
    attempt(database, leases, made, locked, DeadLetter(Reason.BLOCKED), locked, Active())

    groups = read(database).dead_letters

    assert [(group.reason, group.count, group.cure) for group in groups] == [
        (Reason.LOCKED, 2, CURES[Reason.LOCKED]),
        (Reason.BLOCKED, 1, CURES[Reason.BLOCKED]),
    ]
    named = [(token.serial_number, token.row_number, token.person) for token in groups[0].tokens]
    assert named == [("MADE0", 2, "person0"), ("MADE2", 4, "person2")]


def test_of_many_tokens_the_report_keeps_few(database: MovingDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "MOST_TOKENS", 5)
    monkeypatch.setattr(tally, "MOST_PER_REASON", 3)
    make_batch(database, [{"status": Status.DEAD_LETTER, "reason": Reason.LOCKED}] * 6)

    report = read(database)

    assert report.tokens is None
    assert (report.dead_letters[0].count, len(report.dead_letters[0].tokens)) == (6, 3)
    assert len(list(csv.DictReader(io.StringIO(write(database, Form.CSV))))) == 6
    assert len(json.loads(write(database, Form.JSON))["tokens"]) == 6


def test_the_file_who_loaded_it_and_what_was_commanded_since(
    database: MovingDatabase, keyring: Keyring, tmp_path: Path
) -> None:
    made = load(database, keyring, tmp_path / "shipment.csv", shipment(2))
    batches = Batches(database, TESTER)
    batches.pause(made.name)
    database.ahead = timedelta(minutes=5).total_seconds()
    batches.resume(made.name)

    report = read(database)

    assert (report.origin.file, report.origin.loaded_by) == (str(tmp_path / "shipment.csv"), TESTER.name)
    assert report.origin.sha256 == hashlib.sha256((tmp_path / "shipment.csv").read_bytes()).hexdigest()
    assert [command.action for command in report.commands] == ["load", "pause", "resume"]
    (pause,) = report.timeline.pauses
    assert pause.why == f"paused by {TESTER.name}"
    assert report.versions.schema == HEAD
    with database.reading() as connection, pytest.raises(UnknownBatch):
        read_report(database, connection, "another")


def test_a_digest_of_files_and_switches_together_is_not_told_as_that_of_the_file(
    database: MovingDatabase, keyring: Keyring, tmp_path: Path
) -> None:
    """Lines of the audit from before have it, of shipments that may make devices."""
    load(database, keyring, tmp_path / "shipment.csv", shipment(2))
    with database.writing() as connection:
        connection.execute(update(Batch).values(may_pair=True))

    assert read(database).origin.sha256 is None

    with database.writing() as connection:
        connection.execute(update(Batch).values(file_sha256="f" * 64))

    assert read(database).origin.sha256 is not None


def test_a_lot_that_is_out_of_step_is_found_in_the_database(database: MovingDatabase) -> None:
    active = {"status": Status.ACTIVE, "otp1_posts": 1}
    ordinary = [active | {"lot": f"B{number % 5}", "resynced": number % 8 == 0} for number in range(160)]
    make_batch(database, [*ordinary, *(active | {"lot": "B7", "resynced": number > 1} for number in range(20))])

    report = read(database)

    (lots,) = report.step_columns
    assert [group.name for group in lots.groups if group.stands_out] == ["B7"]
    assert "18 of 20 tokens of lot B7 were out of step, against 12 % elsewhere." in write(database, Form.HTML)
    assert (report.in_step.tokens, report.in_step.out_of_step) == (180, 38)


def test_how_long_a_token_took(database: MovingDatabase) -> None:
    made = make_batch(database, 2, status=Status.ACTIVE, otp1_posts=1)
    ended_at = database.read_clock()
    sent = {"otp_sent_at": ended_at - timedelta(seconds=2), "finalized_at": ended_at}
    with database.writing() as connection:
        connection.execute(update(Record).values(sent))
        connection.execute(update(Record).where(Record.id == made.ids[1]).values(attempts=2))
        for record_id, number, ago in ((made.ids[0], 1, 0), (made.ids[1], 1, 90), (made.ids[1], 2, 0)):
            line = {"batch_id": made.batch_id, "outcome": "active" if ago == 0 else "retry", "lease_id": "lease"}
            at = {"record_id": record_id, "number": number, "ended_at": ended_at - timedelta(seconds=ago)}
            connection.execute(insert(AttemptLine), [line | at])

    durations = read(database).durations

    assert durations.first_attempt.longest == pytest.approx(2.0)
    assert durations.more_attempts.longest == pytest.approx(90.0)
    assert durations.all.tokens == 2


def test_all_of_a_report_is_from_one_moment(database: MovingDatabase) -> None:
    made = make_batch(database, 3)
    with open_snapshot(database) as connection:
        before = read_report(database, connection, made.name)
        with database.writing() as other:
            other.execute(update(Record).values(status=Status.QUEUED, lease_until=before.made_at))
            other.execute(update(Batch).values(rows_refused=9))
        again = read_report(database, connection, made.name)
        statuses = {token.status for token in read_tokens(connection, made.name)}
    assert (again.counts, statuses) == (before.counts, {Status.PENDING})
    assert read(database).counts.refused == 9


def otps_of(text: str) -> Iterator[tuple[str, ...]]:
    return ((row["otp1"], row["otp2"]) for row in csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("form", Form)
def test_nothing_secret_is_in_any_form(
    database: MovingDatabase, leases: Leases, keyring: Keyring, tmp_path: Path, form: Form
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
        written = write(database, form, name).encode()
        assert b"MADE" in written
        assert secrets.found_in(written) == set()
