"""A database that was restored from a backup in the middle of a batch learns from the journal what went out since."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import make_url
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, enqueue, look, make_batch, rescue, statuses
from support.data.heard import Heard
from support.data.moving_clock import MovingDatabase
from support.judges.status_moves import judge_moves, judge_totals

from models.batch import BatchState
from models.encrypted import Keyring
from models.reason import Reason
from models.record_states import OtpState, Status
from worker import audit
from worker.batches import reconciliation
from worker.batches.commands import Batches
from worker.batches.reconciliation import BatchFindings, Findings, Reconciliation, StillAtWork
from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.journal.evidence import Evidence, Row, gather_evidence
from worker.journal.reader import Line, Reader, find_files
from worker.journal.writer import FileJournal
from worker.leases.worker import Leases
from worker.pace.errors import SlotTooFar
from worker.pace.slot import Slot
from worker.pingone import errors, refusals
from worker.pingone.client import Call
from worker.pingone.errors import Answer
from worker.pingone.wire import Device
from worker.records.activation import Activation
from worker.vault.otp import Otp

READ_DELAY = 30.0
# What PingOne makes of a device's posts. The answer to a lost one does not arrive: the device is ACTIVE, or is not.
KINDS = ("in_step", "out_of_step", "wrong", "wrong_second", "rejected", "lost_active", "lost_waiting")
ENDS = {
    "wrong": (Status.DEAD_LETTER, Reason.INVALID_OTP),
    "wrong_second": (Status.DEAD_LETTER, Reason.RESYNC_FAILED),
    "rejected": (Status.DEAD_LETTER, Reason.REJECTED),
}
RECORDS = 4 * len(KINDS)


def kind_of(device_id: str) -> str:
    """By the record's place in its batch, which is the lower half of its device's id."""
    return KINDS[int(device_id.replace("-", "")[16:], 16) % len(KINDS)]


class PingOne:
    """Notes every post, and each that went although an earlier one of the same OTP was answered."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, int]] = []
        self.answered: set[tuple[str, int]] = set()
        self.wasted: list[tuple[str, int]] = []
        self.active: set[str] = set()

    def activate(self, user_id: str, device_id: str, otp: Otp, *, resync: bool, call: Call) -> Device:
        call.requests += 1
        ordinal = 1 if int(otp.reveal()) < 500_000 else 2
        post = (device_id, ordinal)
        if post in self.answered:
            self.wasted.append(post)
        self.posts.append(post)
        kind = kind_of(device_id)
        if kind.startswith("lost") and self.posts.count(post) == 1:
            if kind == "lost_active":
                self.active.add(device_id)
            raise errors.OutcomeUnknown()
        self.answered.add(post)
        return self._answer(device_id, kind, ordinal)

    def read_device(self, user_id: str, device_id: str, *, call: Call) -> Device:
        call.requests += 1
        status = "ACTIVE" if device_id in self.active else "ACTIVATION_REQUIRED"
        return Device(status, is_locked=False, is_blocked=False, answer=Answer(200))

    def _answer(self, device_id: str, kind: str, ordinal: int) -> Device:
        if device_id in self.active or kind == "rejected":
            raise refusals.Rejected(Answer(400))
        if kind in ("out_of_step", "wrong_second") and ordinal == 1:
            raise errors.ResyncRequired(Answer(400))
        if kind in ("wrong", "wrong_second"):
            raise errors.InvalidOtp(Answer(400))
        self.active.add(device_id)
        return Device("ACTIVE", is_locked=False, is_blocked=False, answer=Answer(200))


# Nobody does anything about an attempt that was settled.
UNHEARD = SimpleNamespace(apply_decision=lambda *_: None)


class OpenPace:
    """Every slot is now, until there are no more."""

    slots = 10_000

    def wait(self) -> Slot:
        if not self.slots:
            raise SlotTooFar(5.0)
        self.slots -= 1
        return Slot(0, 1.0)


@dataclass
class Site:
    """A database, PingOne, a journal, and a worker between them."""

    database: MovingDatabase
    pingone: PingOne
    pace: OpenPace
    journal: Path
    keyring: Keyring

    def run(self, record_ids: list[int]) -> None:
        environment = Environment(name="default", environment_id=ENVIRONMENT_ID, client_id="id", client_secret="secret")
        leases, client, pace = Leases(self.database), self.pingone, self.pace
        journal = FileJournal(self.journal)
        worker: Any = Activation
        # Every record has its device, so nothing is paired.
        tools = leases, client, None, pace, self.keyring, UNHEARD
        activation = worker(environment, Settings(), *tools, journal=journal)
        for record_id in record_ids:
            activation.run(record_id)
        journal.close()

    def finish(self, made: Made) -> None:
        while {Status.PENDING} & set(statuses(self.database, made)):
            self.run(enqueue(self.database, made))
            self.database.ahead += 60

    def ends(self, made: Made) -> list[tuple[str, str | None]]:
        records = [look(self.database, record_id) for record_id in made.ids]
        return [(record.status, record.reason) for record in records]

    def evidence(self) -> dict[Row, Evidence]:
        return gather_evidence(Reader(find_files([self.journal])))


@pytest.fixture
def site(database: MovingDatabase, keyring: Keyring, tmp_path: Path) -> Site:
    return Site(database, PingOne(), OpenPace(), tmp_path / "journal", keyring)


@pytest.fixture
def back_up(
    database: MovingDatabase, database_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], str]]:
    """Makes a copy of the database as it stands; its URL."""
    with ExitStack() as stack:

        def copy() -> str:
            database.close()
            if database.is_sqlite:
                shutil.copyfile(make_url(database_url).database or "", tmp_path / "backup.db")
                return f"sqlite:///{tmp_path / 'backup.db'}"
            server = request.getfixturevalue("postgres_server")
            name = make_url(database_url).database
            server.cut_off(name)
            url = stack.enter_context(server.database(name))
            assert isinstance(url, str)
            return url

        yield copy


def restore(site: Site, url: str) -> Site:
    """The same site with the database of the backup; the clock goes on."""
    database = MovingDatabase(url)
    database.ahead = site.database.ahead
    return replace(site, database=database)


def reconcile(database: MovingDatabase, evidence: dict[Row, Evidence], *, is_written: bool = True) -> Findings:
    return Reconciliation(database, TESTER, read_delay=READ_DELAY, is_written=is_written).run(evidence)


def lose_the_second_half(site: Site, made: Made, back_up: Callable[[], str]) -> Site:
    """Half of a batch is worked on, some of it half done; then the database is copied, and the batch finished; and
    then the copy takes the place of the database."""
    ids = enqueue(site.database, made, RECORDS // 2)
    site.run(ids[:-4])
    # No slot is left for second OTPs.
    site.pace.slots = 4
    site.run(ids[-4:])
    site.pace.slots = 10_000
    backup = back_up()
    site.finish(made)
    assert site.pingone.wasted == []
    return restore(site, backup)


def test_no_answered_otp_goes_again_and_every_record_ends_as_it_had(
    site: Site, back_up: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation, "CHUNK", 5)
    made = make_batch(site.database, RECORDS, keyring=site.keyring)
    restored = lose_the_second_half(site, made, back_up)
    batches = Batches(restored.database, TESTER)
    batches.pause(made.name)

    # A database that forgot nothing has nothing to learn.
    assert reconcile(site.database, site.evidence(), is_written=False).changes == 0
    foreseen = reconcile(restored.database, restored.evidence(), is_written=False)
    found = reconcile(restored.database, restored.evidence())
    again = reconcile(restored.database, restored.evidence())

    assert found == foreseen
    assert found.changes >= RECORDS // 2
    assert (found.unknown, again) == (0, Findings({made.batch_id: BatchFindings(made.name)}))
    batches.resume(made.name)
    restored.finish(made)
    assert restored.pingone.wasted == []
    assert restored.ends(made) == site.ends(made)
    expected = [ENDS.get(KINDS[number % len(KINDS)], (Status.ACTIVE, None)) for number in range(RECORDS)]
    assert restored.ends(made) == expected
    judge_moves(restored.database)
    judge_totals(restored.database)
    restored.database.close()


def test_without_it_answered_otps_would_go_again(site: Site, back_up: Callable[[], str]) -> None:
    made = make_batch(site.database, RECORDS, keyring=site.keyring)
    restored = lose_the_second_half(site, made, back_up)
    restored.finish(made)
    assert len(restored.pingone.wasted) >= RECORDS // 4
    restored.database.close()


# One record at a time.


def line(made: Made, state: OtpState, then: str | None = None, **changed: Any) -> Line:
    """Of the batch's first record, unless changed."""
    row = {"batch": made.batch_id, "row": 2, "device": f"00000000-0000-{made.batch_id:04x}-0000-000000000000"}
    fields = {"at": datetime(2026, 7, 1, tzinfo=UTC), "lease": "lease", "otp": 1, "state": state, "posts": 1}
    return Line.model_validate(row | fields | {"then": then} | changed)


def paused(database: MovingDatabase, **columns: Any) -> Made:
    return make_batch(database, [columns], state=BatchState.PAUSED)


def test_the_line_of_these_tests_is_the_records(database: MovingDatabase) -> None:
    made = paused(database)
    record = look(database, made.id)
    assert (record.row_number, record.device_id) == (2, line(made, OtpState.SENT).device)


def test_an_otp_of_unknown_fate_is_not_read_before_the_read_delay(database: MovingDatabase) -> None:
    made = paused(database)
    before = database.read_clock()
    found = reconcile(database, gather_evidence([line(made, OtpState.SENT)]))
    record = look(database, made.id)
    assert found.batches[made.batch_id] == BatchFindings(made.name, sent=1)
    assert (record.status, record.otp1_state, record.otp1_posts) == (Status.PENDING, OtpState.SENT, 1)
    assert record.scheduled_at >= before + timedelta(seconds=READ_DELAY)


def test_a_record_that_is_due_later_stays_so(database: MovingDatabase) -> None:
    later = database.read_clock().replace(microsecond=0) + timedelta(hours=1)
    made = paused(database, scheduled_at=later)
    reconcile(database, gather_evidence([line(made, OtpState.SENT)]))
    assert look(database, made.id).scheduled_at == later


def test_a_dry_run_changes_nothing_and_asks_for_no_pause(database: MovingDatabase) -> None:
    made = make_batch(database)
    before = look(database, made.id)
    assert reconcile(database, gather_evidence([line(made, OtpState.SENT)]), is_written=False).changes == 1
    assert look(database, made.id) == before


def test_what_was_corrected_is_in_the_audit_and_a_dry_run_is_not(database: MovingDatabase) -> None:
    made = paused(database)
    evidence = gather_evidence([line(made, OtpState.SENT)])
    for is_written in (False, True, True):
        reconcile(database, evidence, is_written=is_written)
    with database.reading() as connection:
        lines = [(each.actor, each.action, each.batch, each.facts) for each in audit.read(connection)]
    assert lines == [(TESTER.name, "reconcile", made.name, {"records": 1})]


def test_a_batch_that_runs_is_refused_with_the_cure(database: MovingDatabase) -> None:
    made = make_batch(database, name="my batch")
    before = look(database, made.id)
    with pytest.raises(StillAtWork, match="batch 'my batch' runs: `oathbulk pause 'my batch'`, then reconcile again"):
        reconcile(database, gather_evidence([line(made, OtpState.SENT)]))
    assert look(database, made.id) == before


def test_a_batch_that_runs_and_has_nothing_to_learn_is_left_alone(database: MovingDatabase) -> None:
    made = make_batch(database, [{"otp1_state": OtpState.SENT, "otp1_posts": 1}])
    assert reconcile(database, gather_evidence([line(made, OtpState.SENT)])).changes == 0


@pytest.mark.parametrize("status", [Status.QUEUED, Status.ACTIVATING])
def test_a_paused_batch_of_which_records_are_in_hand_is_refused(database: MovingDatabase, status: Status) -> None:
    soon = database.read_clock() + timedelta(seconds=50)
    made = make_batch(database, [{}, {"status": status, "lease_until": soon}], state=BatchState.PAUSED)
    with pytest.raises(StillAtWork, match="1 record of batch 'shipment' is in hand"):
        reconcile(database, gather_evidence([line(made, OtpState.SENT)]))


def test_what_a_lost_worker_had_in_hand_learns_too_and_is_read_after_its_rescue(database: MovingDatabase) -> None:
    made = paused(database, status=Status.ACTIVATING, otp1_state=OtpState.ANSWERED, otp1_posts=1)
    database.ahead = 1
    reconcile(database, gather_evidence([line(made, OtpState.SENT, otp=2)]))
    record = look(database, made.id)
    assert (record.status, record.otp2_state, record.otp2_posts) == (Status.ACTIVATING, OtpState.SENT, 1)
    assert rescue(database) == 1
    record = look(database, made.id)
    assert record.status == Status.PENDING
    assert record.scheduled_at >= database.read_clock() + timedelta(seconds=READ_DELAY)


@pytest.mark.parametrize("status", [Status.DEAD_LETTER, Status.CANCELLED])
def test_what_is_final_stays_final_and_its_answered_otp_is_not_sent_by_a_replay(
    database: MovingDatabase, leases: Leases, status: Status
) -> None:
    reason = Reason.FORBIDDEN if status == Status.DEAD_LETTER else None
    made = paused(database, status=status, reason=reason)
    reconcile(database, gather_evidence([line(made, OtpState.ANSWERED, "invalid_otp")]))
    assert statuses(database, made) == [status]
    assert Batches(database, TESTER).replay(made.name).records == 1
    database.ahead = READ_DELAY + 1
    enqueue(database, made)
    claimed = leases.claim(made.id, ENVIRONMENT_ID)
    assert claimed is not None
    assert not claimed.is_otp1_marked
    assert (claimed.progress.first.state, claimed.progress.verdict) == (OtpState.ANSWERED, Reason.INVALID_OTP)


def test_what_is_active_needs_to_learn_nothing(database: MovingDatabase) -> None:
    made = paused(database, status=Status.ACTIVE)
    assert reconcile(database, gather_evidence([line(made, OtpState.ANSWERED, "active")])).changes == 0


def test_rows_of_a_batch_that_was_loaded_after_the_backup_are_counted(database: MovingDatabase) -> None:
    made = paused(database)
    lost = [line(made, OtpState.SENT, batch=made.batch_id + 1, row=row) for row in (2, 3, 4)]
    found = reconcile(database, gather_evidence(lost))
    assert (found.missing, found.changes, found.unknown) == ({made.batch_id + 1: 3}, 0, 3)


@pytest.mark.parametrize("changed", [{"row": 9}, {"device": "another"}])
def test_a_row_of_another_batch_that_had_the_number_before_is_not_taken_for_this_one(
    database: MovingDatabase, changed: dict[str, Any]
) -> None:
    made = paused(database)
    before = look(database, made.id)
    found = reconcile(database, gather_evidence([line(made, OtpState.SENT, **changed)]))
    assert found.batches[made.batch_id] == BatchFindings(made.name, strange=1)
    assert look(database, made.id) == before


def test_it_is_told_how_far_a_reconciliation_is(database: MovingDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "CHUNK", 2)
    evidence = {Row(7, number, "device"): Evidence() for number in range(5)}
    heard = Heard()

    Reconciliation(database, TESTER, read_delay=READ_DELAY, is_written=False).run(evidence, heard)

    assert heard == [("Comparing records", 2, 5), ("Comparing records", 4, 5)]
