"""Corrected rows come back into the batch that they belong to, whatever a person and a spreadsheet did to the file."""

import csv
import io
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import select, update
from support.data.audit_lines import read
from support.data.batches import TESTER, enqueue, look_at_batch, note_job, opened
from support.data.loading import ACTIVE, GONE, REFUSED, LoadingDesk, token
from support.data.moving_clock import ON_SQLITE, MovingDatabase

from models.audit import Action
from models.batch import Batch, BatchState
from models.encrypted import Keyring, generate_key, identify_row
from models.inventory_job import JobState
from models.reason import PauseReason, Reason
from models.record import Record
from models.record_states import TAKEN_BACK, OtpState, Status
from models.refused_row import RefusedRow
from worker.batches import mending
from worker.batches.commands import Batches
from worker.batches.loading import Loaded
from worker.batches.long_list import Turn
from worker.batches.mending import (
    ACTIVE_FOR_ANOTHER,
    BEGUN_FOR_ANOTHER,
    DEVICE_OF_ANOTHER,
    HAS_SEED,
    KEY_IS_GONE,
    NO_FRESH_OTPS,
    NO_OTPS,
    NO_ROW,
    NO_SEED,
    OLD_NAME,
    OLD_TIME,
    OTHER_SEED,
    OTHER_TOKEN,
    OTHER_TYPE,
    OTHER_ZEROS,
    SENT_BEFORE,
    WAITS_FOR_ANOTHER,
    Corrections,
    Mended,
    Mender,
    read_mended_batch,
)
from worker.batches.people import People
from worker.intake.files import Hints
from worker.intake.lists import open_assignment
from worker.intake.rows import Row, UnusableFile
from worker.intake.shipment import Switches, open_shipment
from worker.leases.lease import Leases
from worker.pingone.devices import User
from worker.reports.export import export
from worker.reports.facts import read_statuses
from worker.rules.steps import DeadLetter, Decision, OtpProgress
from worker.vault.otps import Otp, OtpPair, OtpSource, Secret, Seed, write_spent

FRESH = {"otp1": "111111", "otp2": "222222"}
SECRETS = (
    "3132333435363738393031323334353637383930",
    "6b1f85dfcd2763697c6e3d6af46643520fda2d9b",
    *(f"6b1f85dfcd2763697c6e3d6af46643520fda2d9{last}" for last in "cdef"),
)
RESULTS = ("status", "reason", "detail", "pingone_error_id", "correlation_id", "attempts", "otp_posts")
# The statements differ in nothing between the databases; two mends at once are in test_loading.py.
pytestmark = ON_SQLITE
OTHER_PERSON = str(uuid.UUID(int=77))
MENDS = Hints(otp_type="hotp", mends=True)
Rows = list[dict[str, str]]


class Mends(LoadingDesk):
    """Loads files, ends their records, and brings corrected ones back."""

    def load_seeds(self, count: int, *decisions: Decision, otp_type: str = "hotp") -> Loaded:
        """Load seeds of a vendor's file, with the ids of users and devices in a list beside it, and end the first."""
        tokens = [token(number) for number in range(count)]
        who = self.directory / "who.csv"
        self.vendor.write_text("".join(f"{row['serial']},{SECRETS[n]}\n" for n, row in enumerate(tokens)))
        lines = [f"{row['serial']},{row['user_id']},{row['device_id']},Hall {n}\n" for n, row in enumerate(tokens)]
        who.write_text("serial,user_id,device_id,site\n" + "".join(lines))
        hints = Hints(otp_type=otp_type, time_step=30 if otp_type == "totp" else None)  # type: ignore[arg-type]
        loaded = self.load_file(self.vendor, "box", who=who, hints=hints)
        self.end(loaded, *decisions)
        return loaded

    @property
    def vendor(self) -> Path:
        """The vendor's file of seeds."""
        return self.directory / "vendor.txt"

    def export(self, status: str | None = Status.DEAD_LETTER, *, failed: bool = False) -> Rows:
        text = io.StringIO(newline="")
        export(self.database, "box", text, status=None if failed else status, failed=failed)
        return list(csv.DictReader(io.StringIO(text.getvalue(), newline="")))

    def mend(self, rows: Rows, **parts: Any) -> Mended:
        return self.mend_by(self.write_rows(rows), **parts)

    def mend_by(
        self,
        path: Path,
        *,
        who: Path | None = None,
        keyring: Keyring | None = None,
        switches: Switches | None = None,
        hints: Hints = MENDS,
    ) -> Mended:
        self.refused = []
        shipment = open_shipment(
            path,
            hints=hints,
            assignment=open_assignment(who) if who else None,
            only_assigned=True,
            switches=switches or Switches(),
        )
        mender = Mender(
            self.database, keyring or self.keyring, TESTER, totp_max_age=1e9, on_refused=self.refused.append
        )
        return mender.mend(shipment, "box")

    def write_rows(self, rows: Rows, **dialect: Any) -> Path:
        return self.write(rows, "left.csv", list(rows[0]), **dialect)

    def opened(self, loaded: Loaded) -> list[OtpSource]:
        """The pairs and seeds of a batch, decrypted as those of their rows."""
        return [opened(record, self.keyring) for record in self.records(loaded) if record.otps]

    def refuses(self, row: dict[str, str], reason: str, **parts: Any) -> bool:
        """Whether a row is refused for this reason, and nothing is changed."""
        before = self.look()
        assert (self.mend([row], **parts), self.look()) == (Mended(refused=1), before)
        return [error.reason for error in self.refused] == [reason]

    def look(self) -> list[Any]:
        """All records and refused rows as they stand."""
        return [row for table in (Record, RefusedRow) for row in self.database.rows(select(table.__table__))]

    def counts(self) -> tuple[int, int, dict[str, int]]:
        """Records, refused rows, and records by status, of those that there are."""
        (status,) = read_statuses(self.database, "box")
        return status.total, status.rows_refused, {name: number for name, number in status.counts.items() if number}


@pytest.fixture
def mends(database: MovingDatabase, keyring: Keyring, leases: Leases, tmp_path: Path) -> Mends:
    return Mends(database, keyring, tmp_path, leases)


def without(row: dict[str, str], *columns: str) -> dict[str, str]:
    return {name: cell for name, cell in row.items() if name not in columns}


# Pairs.


def test_pairs_with_fresh_otps_go_again_in_their_batch_under_a_new_budget(mends: Mends) -> None:
    box = mends.load([token(0, Carton="7"), token(1), token(2)], "box", REFUSED, ACTIVE, REFUSED)
    rows = mends.export()
    assert [(row["serial"], row["otp1"] + row["otp2"]) for row in rows] == [("MADE000000", ""), ("MADE000002", "")]

    # A row without fresh OTPs is refused, and the others go.
    assert mends.mend([rows[0], rows[1] | {"otp1": "333333", "otp2": ""}]) == Mended(again=1, refused=1)
    assert [(error.row_number, error.reason) for error in mends.refused] == [(2, NO_FRESH_OTPS)]
    assert mends.mend([rows[0] | FRESH | {"Carton": "8", "note": "x"}]) == Mended(again=1)

    first, *_ = records = mends.records(box)
    assert [record.status for record in records] == [Status.PENDING, Status.ACTIVE, Status.PENDING]
    assert (first.otp1_state, first.otp1_posts, first.posts_forgiven, first.attempts_forgiven) == ("unsent", 0, 1, 1)
    assert (first.reason, first.detail, first.finalized_at) == (None, None, None)
    assert [record.extra for record in records] == [{"Carton": "8", "note": "x"}, {"Carton": ""}, {"Carton": ""}]
    assert look_at_batch(mends.database, box.batch_id).columns[-2:] == ["Carton", "note"]
    assert [record.has_second_otp for record in records] == [True, True, False]
    (status,) = read_statuses(mends.database, "box")
    assert (mends.counts(), status.otp_posts) == ((3, 0, {"pending": 2, "active": 1}), 3)


def test_an_otp_that_was_sent_never_goes_again_however_many_pairs_came_between(mends: Mends) -> None:
    box = mends.load([token(0)], "box", REFUSED)
    (row,) = mends.export()
    old = row | {"otp1": "000000", "otp2": "500000"}
    assert mends.refuses(old, SENT_BEFORE)
    assert mends.refuses(old | {"device_id": str(uuid.UUID(int=99))}, SENT_BEFORE)

    assert mends.mend([row | FRESH]).again == 1
    mends.end(box, REFUSED)

    assert mends.refuses(old, SENT_BEFORE)
    assert mends.refuses(row | FRESH, SENT_BEFORE)
    # A slip in the serial number does not hide the device.
    assert mends.mend([token(0, serial="OTHER1")]).refused == 1
    assert "was sent already, in batch 'box'" in mends.refused[-1].reason
    # Its second OTP never went out.
    assert mends.mend([row | {"otp1": "222222", "otp2": "333333"}]).again == 1


def test_a_pair_of_which_nothing_went_out_needs_no_fresh_otps(mends: Mends) -> None:
    """What a batch needs whose devices PingOne deleted after 24 hours."""
    box = mends.load([token(0), token(1)], "box", GONE)
    Batches(mends.database, TESTER).cancel("box")
    paired = [str(uuid.UUID(int=99)), str(uuid.UUID(int=98))]
    rows = [row | {"device_id": device} for row, device in zip(mends.export(None), paired, strict=True)]

    assert mends.mend(rows) == Mended(again=2)

    assert [record.device_id for record in mends.records(box)] == paired
    pairs = mends.opened(box)
    assert [pair.first.reveal() for pair in pairs if isinstance(pair, OtpPair)] == ["000000", "000001"]
    assert look_at_batch(mends.database, box.batch_id).state == BatchState.RUNNING


def test_another_device_or_person_does_not_get_the_rest_of_a_pair_that_was_begun(mends: Mends) -> None:
    """PingOne has not asked it for a second OTP."""
    box = mends.load([token(0)], "box", DeadLetter(Reason.FORBIDDEN))
    (row,) = mends.export()

    for other in ({"device_id": str(uuid.UUID(int=99))}, {"user_id": OTHER_PERSON}):
        assert mends.refuses(row | other, NO_FRESH_OTPS)
    assert mends.mend([row]).again == 1
    assert mends.records(box)[0].otp1_state == OtpState.ANSWERED


def test_a_totp_pair_goes_again_only_with_fresh_otps_and_their_time(mends: Mends) -> None:
    totp = token(0, otp_type="totp", generated_at="2026-03-01T09:30:00Z")
    mends.load([totp], "box", REFUSED, totp_max_age=1e9)
    (row,) = mends.export()

    assert mends.refuses(row, NO_FRESH_OTPS)
    assert mends.refuses(row | FRESH, OLD_TIME)
    assert mends.refuses(without(row, "otp_type") | FRESH, OTHER_TYPE)
    assert mends.mend([row | FRESH | {"generated_at": "2026-03-01T10:30:00Z"}]).again == 1


# Seeds.


def test_a_seed_mints_on_from_its_counter_and_no_export_has_it(mends: Mends) -> None:
    box = mends.load_seeds(2)
    before = mends.opened(box)
    mends.end(box, REFUSED, REFUSED)
    rows = mends.export()
    assert not any(secret in str(rows).lower() for secret in SECRETS)

    assert (mends.mend(rows).again, mends.opened(box)) == (2, before)

    # After an OTP 1 one counter is left out: PingOne may wait for the second.
    assert [(record.next_counter, record.otp_type) for record in mends.records(box)] == [(2, "hotp")] * 2


def test_no_counter_is_used_twice_over_many_rounds_whichever_file_comes(mends: Mends) -> None:
    box = mends.load_seeds(1, REFUSED)
    (oldest,) = mends.export()
    # A pair might be one of those that were minted and answered.
    assert mends.refuses(oldest | FRESH, HAS_SEED)
    assert mends.refuses(oldest, KEY_IS_GONE, keyring=Keyring([generate_key()]))
    assert mends.refuses(oldest | FRESH, KEY_IS_GONE, keyring=Keyring([generate_key()]))
    for number in (2, 4):
        assert (mends.mend([oldest]).again, mends.records(box)[0].next_counter) == (1, number)
        mends.end(box, REFUSED)

    assert (mends.mend_by(mends.vendor).again, mends.records(box)[0].next_counter) == (1, 6)


def test_a_record_whose_key_is_lost_goes_with_the_vendors_seed_beyond_what_went_out(mends: Mends) -> None:
    box = mends.load_seeds(1, REFUSED)
    before, other = mends.opened(box), Keyring([generate_key()])

    assert mends.mend_by(mends.vendor, keyring=other).again == 1

    (record,) = mends.records(box)
    assert (record.next_counter, [opened(record, other)]) == (2, before)


def test_a_pair_whose_key_is_lost_goes_only_if_nothing_went_out(mends: Mends) -> None:
    mends.load([token(0), token(1)], "box", REFUSED)
    Batches(mends.database, TESTER).cancel("box")
    other = Keyring([generate_key()])

    posted, unposted = (each | FRESH for each in mends.export(None))

    assert mends.refuses(posted, KEY_IS_GONE, keyring=other)
    assert mends.mend([unposted], keyring=other) == Mended(again=1)


def test_a_seed_is_loaded_beyond_what_a_pair_of_another_batch_has_used(mends: Mends) -> None:
    seed = Seed(secret=Secret(bytes.fromhex(SECRETS[0])))
    mends.load([token(0, otp1=seed.mint(5).reveal(), otp2=seed.mint(6).reveal())], "pairs", REFUSED)

    assert mends.records(mends.load_seeds(1))[0].next_counter == 6


def test_a_seed_is_loaded_beyond_what_its_device_was_sent_under_another_serial_number(mends: Mends) -> None:
    """As where a spreadsheet took the zeros."""
    mends.load_seeds(1, REFUSED)
    mends.database.change(update(Record).values(serial_number="12"))
    mends.database.change(update(Batch).values(name="slip", file_sha256="0" * 64))

    # PingOne may wait for the second OTP of the pair that the first began.
    assert mends.records(mends.load_seeds(1))[0].next_counter == 2


def test_a_seed_that_comes_back_after_another_goes_on_beyond_what_went_out_of_both(mends: Mends) -> None:
    box = mends.load_seeds(1, REFUSED)
    first = mends.vendor.read_text()
    mends.vendor.write_text(first.replace(SECRETS[0], SECRETS[1]))
    assert mends.mend_by(mends.vendor).again == 1
    mends.end(box, REFUSED)
    mends.vendor.write_text(first)
    assert mends.mend_by(mends.vendor).again == 1
    assert mends.records(box)[0].next_counter == 4


def test_a_seed_of_another_type_counts_by_itself(mends: Mends) -> None:
    box = mends.load_seeds(1, REFUSED, otp_type="totp")

    assert mends.mend_by(mends.vendor, hints=Hints(mends=True, otp_type="hotp")).again == 1

    assert mends.records(box)[0].next_counter == 0


@pytest.mark.parametrize("deleted", [(), ("otp_type",)])
def test_a_totp_seed_goes_again_with_its_time_step(mends: Mends, deleted: tuple[str, ...]) -> None:
    box = mends.load_seeds(1, REFUSED, otp_type="totp")

    assert mends.mend([without(mends.export()[0], *deleted)]).again == 1

    (record,), (seed,) = mends.records(box), mends.opened(box)
    assert (record.otp_type, record.otp_expires_at, record.next_counter > 60_000_000) == ("totp", None, True)
    assert isinstance(seed, Seed)
    assert (seed.otp_type, seed.time_step) == ("totp", 30)


def test_a_seed_in_place_of_a_pair_leaves_out_what_the_pair_has_used(mends: Mends) -> None:
    seed = Seed(secret=Secret(bytes.fromhex(SECRETS[0])))
    mends.vendor.write_text(f"MADE000000,{SECRETS[0]}\n")
    box = mends.load([token(0, otp1=seed.mint(4).reveal(), otp2=seed.mint(5).reveal())], "box", REFUSED)

    assert mends.mend_by(mends.vendor).again == 1

    (record,) = mends.records(box)
    assert (record.next_counter, record.has_second_otp, record.otp1_posts) == (5, True, 0)


def test_fresh_otps_do_not_make_an_unknown_outcome_known(mends: Mends) -> None:
    box = mends.load([token(0)], "box", REFUSED)
    lost = {"otp1_state": OtpState.SENT, "reason": Reason.DEVICE_NOT_FOUND}
    mends.database.change(update(Record).values(lost))
    assert mends.mend([mends.export()[0] | FRESH]).again == 1
    (record,) = mends.records(box)
    assert (record.otp1_state, record.otp1_posts) == (OtpState.SENT, 0)
    enqueue(mends.database, box)
    claimed = mends.leases.claim(record.id, "tenant-1")
    assert (claimed.is_otp1_marked, claimed.progress.needs_read) == (False, True)
    # The read finds that it waits: both of the fresh OTPs may go.
    assert claimed.progress.with_device_waiting().first == OtpProgress(OtpState.UNSENT, 0)


def test_another_device_has_no_unknown_outcome(mends: Mends) -> None:
    box = mends.load([token(0)], "box", REFUSED)
    mends.database.change(update(Record).values(otp1_state=OtpState.SENT, reason=Reason.DEVICE_NOT_FOUND))
    assert mends.mend([mends.export()[0] | FRESH | {"device_id": str(uuid.UUID(int=78))}]).again == 1
    assert mends.records(box)[0].otp1_state == OtpState.UNSENT


def test_a_pair_that_made_its_device_active_does_not_go_again_after_an_undo(mends: Mends) -> None:
    """Its first OTP was enough, so the second one is known to nobody any more."""
    box = mends.load([token(0)], "box", ACTIVE)
    (record,) = mends.records(box)
    spent = mends.keyring.seal(write_spent(frozenset({Otp("000000")})), identify_row(box.batch_id, record.row_number))
    undone = {"status": Status.CANCELLED, "reason": TAKEN_BACK, "spent": spent}
    mends.database.change(update(Record).values(undone))
    old = mends.export(None)[0] | {"otp1": "000000", "otp2": "500000"}

    assert mends.refuses(old, SENT_BEFORE)
    mends.load([token(0), token(1)], "august")
    assert "an OTP of this row was sent already, in batch 'box' (row 2)" in mends.refused[0].reason
    assert mends.mend([old | {"otp1": "111111", "otp2": "222222"}]).again == 1
    # What went out before stays known with the fresh pair.
    (pair,) = mends.opened(box)
    assert pair.spent == {Otp("000000")}


def test_a_person_who_has_a_token_of_the_batch_is_asked_about(mends: Mends) -> None:
    rows = [token(number, username=f"Ada{number}") for number in range(4)]
    mends.load(rows, "box", ACTIVE, REFUSED)
    again = [token(number, username=f"ada{number - 10}", user_id="") for number in (10, 11, 12, 13)]
    again[3]["username"] = "somebody"
    shipment = open_shipment(mends.write_rows(again), hints=MENDS)
    with mends.database.reading() as connection:
        batch, now = read_mended_batch(connection, "box", shipment), mends.database.read_clock()
        corrections = Corrections(connection, mends.keyring, batch, now)
        corrected = corrections.judge([row for row in shipment.tokens() if isinstance(row, Row)])
        second = corrections.find_second_tokens(corrected)
    # Whose token failed may get another, and so may whoever has none.
    assert [row.serial_number for row in second] == [again[0]["serial"], again[2]["serial"]]


def test_the_seed_of_a_token_that_was_undone_comes_from_the_vendors_file(mends: Mends) -> None:
    box = mends.load_seeds(1, ACTIVE)
    undone = {
        "status": Status.CANCELLED,
        "reason": TAKEN_BACK,
        "device_id": "",
        "is_device_made": True,
        "otp1_state": OtpState.UNSENT,
    }
    mends.database.change(update(Record).values(undone))
    (row,) = mends.export(None)
    may_pair = Switches(may_pair=True)

    # Who has left gets no token by a list of before, nor by one that names them otherwise.
    assert mends.mend([row], switches=may_pair).taken_back == 1
    assert mends.mend([row | {"user_id": "", "username": "anna"}], switches=may_pair).taken_back == 1
    assert mends.refuses(row | {"user_id": OTHER_PERSON}, NO_SEED, switches=may_pair)
    who = mends.directory / "anew.csv"
    who.write_text(f"serial,user_id\n{row['serial']},{OTHER_PERSON}\n")
    assert mends.mend_by(mends.vendor, who=who, switches=may_pair).again == 1
    (record,) = mends.records(box)
    assert (record.user_id, record.is_device_made, record.next_counter) == (OTHER_PERSON, False, 1)


@pytest.mark.parametrize("imported", ["done", "under way"])
def test_a_token_that_was_imported_keeps_its_seed_until_it_is_undone(mends: Mends, imported: str) -> None:
    box = mends.load_seeds(1, REFUSED)
    if imported == "done":
        mends.database.change(update(Record).values(is_token_made=True))
    else:
        note_job(mends.database, box, JobState.RUNNING, *(r.id for r in mends.records(box)))
    assert mends.mend_by(mends.vendor).again == 1
    mends.end(box, REFUSED)

    mends.vendor.write_text(f"MADE000000,{SECRETS[1]}\n")
    assert mends.mend_by(mends.vendor).refused == 1
    assert [error.reason for error in mends.refused] == [OTHER_SEED]


# Whose it is.


@pytest.mark.parametrize(
    ("cells", "ends"),
    [
        ({"username": "beat", "user_id": ""}, ("beat", "")),
        # The same person by one of the names stays whole.
        ({"username": "ANNA", "user_id": ""}, ("ANNA", token(0)["user_id"])),
    ],
)
def test_another_person_takes_the_token_and_what_was_looked_up_is_forgotten(
    mends: Mends, cells: dict[str, str], ends: tuple[str, str]
) -> None:
    box = mends.load([token(0, username="anna")], "box", DeadLetter(Reason.USER_NOT_FOUND))

    assert mends.mend([mends.export()[0] | cells | FRESH]).again == 1

    (record,) = mends.records(box)
    assert (record.username, record.user_id) == ends


@pytest.mark.parametrize("date", ["2027-04-01T08:00Z", "2027-05-01T08:00Z", ""])
def test_a_row_for_somebody_else_changes_nothing_of_a_record_that_is_to_do(mends: Mends, date: str) -> None:
    mends.load([token(0, not_before="2027-05-01T08:00Z")], "box")
    told = WAITS_FOR_ANOTHER.format(batch="box", serial="MADE000000")
    assert mends.refuses(token(0, not_before=date, user_id=OTHER_PERSON), told)
    assert mends.mend([token(0, not_before="2027-04-01T08:00Z")]).dated == 1


def test_a_row_for_somebody_else_names_the_undo_once_the_record_has_begun(mends: Mends) -> None:
    mends.load([token(0)], "box")
    mends.database.change(update(Record).values(otp1_state=OtpState.SENT, otp1_posts=1))
    told = BEGUN_FOR_ANOTHER.format(batch="box")
    assert mends.refuses(token(0, user_id=OTHER_PERSON), told)


def test_an_active_token_for_somebody_else_is_to_be_taken_back_first(mends: Mends) -> None:
    mends.load([token(0)], "box", ACTIVE)
    assert mends.refuses(token(0, user_id=OTHER_PERSON), ACTIVE_FOR_ANOTHER.format(batch="box"))
    assert mends.mend([token(0)]) == Mended(active=1)


def test_a_broken_row_of_the_box_is_refused_only_if_the_list_names_its_token(mends: Mends) -> None:
    mends.load_seeds(2, REFUSED, REFUSED)
    box = mends.vendor.read_text() + f"BROKEN1,{SECRETS[0][:-1]}\n,{SECRETS[0]}\nBROKEN2,{SECRETS[0][:-1]}\n"
    mends.vendor.write_text(box)
    who = mends.directory / "who.csv"
    who.write_text(f"serial,user_id\n{token(0)['serial']},{OTHER_PERSON}\nBROKEN2,{OTHER_PERSON}\n")
    mended = mends.mend_by(mends.vendor, who=who, switches=Switches(may_pair=True))
    assert (mended, [error.serial_number for error in mends.refused]) == (Mended(again=1, refused=1), ["BROKEN2"])


def test_a_person_who_is_corrected_by_a_name_that_counts_less_is_told(mends: Mends) -> None:
    """The token would go to the one of before."""
    mends.load([token(0, email="anna@x.test")], "box", DeadLetter(Reason.USER_NOT_FOUND))
    (row,) = mends.export()
    assert mends.refuses(row | {"email": "beat@x.test"} | FRESH, OLD_NAME)
    assert mends.mend([row | {"email": "beat@x.test", "user_id": ""} | FRESH]).again == 1


@pytest.mark.parametrize("is_found", [True, False])
def test_what_a_look_up_of_the_person_before_finds_is_not_written_down(mends: Mends, is_found: bool) -> None:
    box = mends.load([token(0, username="anna", user_id="")], "box")

    def find_users(*_: object) -> list[User]:
        Batches(mends.database, TESTER).cancel("box")
        (row,) = mends.export(Status.CANCELLED)
        assert mends.mend([row | {"username": "beat"}]).again == 1
        return [User(OTHER_PERSON, "anna")] if is_found else []

    People(mends.database, most_names=40).list_unknown(
        Turn(box.batch_id, "default", "env", False), find_users
    ).advance()

    (record,) = mends.records(box)
    assert (record.username, record.user_id, record.status) == ("beat", "", Status.PENDING)


def test_the_person_of_a_device_that_we_made_stays_until_it_is_undone(mends: Mends) -> None:
    mends.load_seeds(1, REFUSED)
    mends.database.change(update(Record).values(is_device_made=True))
    (row,) = mends.export()

    for other in ({"user_id": OTHER_PERSON}, {"user_id": "", "email": "bob@example.com"}):
        assert mends.refuses(row | other, DEVICE_OF_ANOTHER)
    assert mends.refuses(row | {"device_id": str(uuid.UUID(int=99))}, DEVICE_OF_ANOTHER)
    assert mends.mend([row | {"email": "ada@example.com"}]).again == 1


def test_a_token_of_another_person_is_looked_for_again_for_the_right_one(mends: Mends) -> None:
    box = mends.load_seeds(1, DeadLetter(Reason.TOKEN_TAKEN))
    mends.database.change(update(Record).values(owner_id="somebody", import_job_id=7))
    (row,) = mends.export()

    assert mends.mend([row | {"device_id": "", "user_id": OTHER_PERSON}], switches=Switches(may_pair=True)).again == 1

    (record,) = mends.records(box)
    assert (record.user_id, record.device_id) == (OTHER_PERSON, "")
    assert (record.owner_id, record.is_in_inventory, record.import_job_id) == (None, False, None)


# What is left alone.


def test_a_whole_export_lets_only_what_failed_go_again_and_twice_changes_nothing(mends: Mends) -> None:
    box = mends.load_seeds(4, ACTIVE, REFUSED, ACTIVE)
    Batches(mends.database, TESTER).pause("box")
    rows = mends.export(None)

    # What was paused stays so.
    assert mends.mend(rows) == Mended(again=1, active=2, in_work=1, is_paused=True)
    batch = look_at_batch(mends.database, box.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, PauseReason.PERSON)
    *_, line = read(mends.database, "box")
    assert (line.action, line.facts["again"], line.facts["in_work"]) == (Action.MEND, 1, 1)
    assert (line.facts["file"], len(line.facts["sha256"])) == ("left.csv", 64)
    Batches(mends.database, TESTER).resume("box")
    before = mends.look()
    assert (mends.mend(rows), mends.look()) == (Mended(active=2, in_work=2), before)


def test_what_breaks_in_the_middle_changes_nothing(mends: Mends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "CHUNK", 2)
    mends.load_seeds(5, *[REFUSED] * 5)
    rows, before = mends.export(), mends.look()
    break_off = Mock(side_effect=[None, KeyboardInterrupt])
    mender = Mender(mends.database, mends.keyring, TESTER, on_progress=break_off)
    with pytest.raises(KeyboardInterrupt):
        mender.mend(open_shipment(mends.write_rows(rows), hints=MENDS), "box")
    assert (mends.look(), mends.mend(rows).again) == (before, 5)


# Rows that had been refused, and new ones.


def test_a_refused_row_becomes_a_record_under_its_number_and_is_closed(mends: Mends) -> None:
    box = mends.load([token(0), token(1, otp1="12"), token(2, serial="")], "box")
    rows = mends.export(failed=True)
    assert [(row["serial"], row["file_row"]) for row in rows] == [("MADE000001", "3"), ("", "4")]
    assert mends.counts() == (1, 2, {"pending": 1})

    # The serial number was what was wrong: the row is found by its number alone.
    assert mends.mend([rows[0] | token(1), rows[1] | token(2)]) == Mended(added=2)

    assert [(each.row_number, each.serial_number) for each in mends.records(box)] == [
        (number + 2, f"MADE00000{number}") for number in range(3)
    ]
    assert mends.counts() == (3, 0, {"pending": 3})
    pairs = [pair.first.reveal() for pair in mends.opened(box) if isinstance(pair, OtpPair)]
    assert pairs == ["000000", "000001", "000002"]


def test_the_zeros_that_a_spreadsheet_takes_from_a_refused_rows_serial_number_come_back(mends: Mends) -> None:
    box = mends.load([token(0), token(1, serial="007", otp1="12")], "box")
    (row,) = mends.export(failed=True)

    assert mends.mend([row | token(1, serial="7")]) == Mended(added=1)

    assert [each.serial_number for each in mends.records(box)] == ["MADE000000", "007"]


def test_a_serial_number_without_its_zeros_is_no_further_token(mends: Mends) -> None:
    mends.load([token(0, serial="00071001")], "box", REFUSED)
    row = mends.export()[0] | FRESH
    reason = OTHER_ZEROS.format(serial="00071001", file_row="file_row")
    assert mends.refuses(without(row, "file_row") | {"serial": "71001"}, reason)
    assert mends.mend([row | {"serial": "71001"}]).again == 1


def test_a_column_that_is_written_otherwise_than_in_the_batch_is_the_same(mends: Mends) -> None:
    box = mends.load([token(0, site="Oslo")], "box", GONE)
    (row,) = mends.export()

    assert mends.mend([{"Serial Number": row["serial"], "SITE": "Bergen"}]) == Mended(again=1)

    assert list(mends.export(Status.PENDING)[0])[:7] == list(row)[:7]
    assert [each.extra for each in mends.records(box)] == [{"site": "Bergen"}]


@pytest.mark.parametrize("refused", [[{"otp1": "12"}], [{}, {"otp1": "999999"}]], ids=["once", "repeated"])
def test_a_refused_row_is_found_by_its_serial_number_too(mends: Mends, refused: Rows) -> None:
    mends.load([token(0), *(token(1, **cells) for cells in refused)], "box")
    assert mends.mend([token(1), token(0)]) == Mended(added=1, in_work=1)
    assert mends.counts() == (2, 0, {"pending": 2})


def test_new_rows_may_be_added_and_a_file_of_another_shipment_may_not(mends: Mends) -> None:
    box = mends.load([token(0)], "box", GONE)
    (row,) = mends.export()
    assert mends.mend([row, dict.fromkeys(row, "") | token(5)]) == Mended(again=1, added=1)
    assert [each.row_number for each in mends.records(box)] == [2, 3]

    for cells, reason in (({}, NO_OTPS), ({"user_id": ""}, "user_id is missing")):
        who = {"serial": "MADE000007", "user_id": OTHER_PERSON, "device_id": str(uuid.UUID(int=9))} | cells
        assert (mends.mend([who]).refused, reason in mends.refused[0].reason) == (1, True)

    before = mends.look()
    with pytest.raises(UnusableFile, match="none of its tokens is in batch 'box'"):
        mends.mend([token(8), token(9)])
    assert mends.look() == before


def test_a_row_that_another_batch_works_on_or_made_active_stays_and_says_where(mends: Mends) -> None:
    mends.load([token(1)], "other")
    box = mends.load([token(0), token(1)], "box")

    assert mends.mend([token(1), token(0)]) == Mended(in_work=1, refused=1)
    assert "is in progress in batch 'other'" in mends.refused[0].reason
    # Of a token that the batch does not know it keeps nothing.
    assert mends.mend([token(3, device_id=token(1)["device_id"]), token(0)]).refused == 1
    assert mends.counts() == (1, 1, {"pending": 1})

    mends.end(box, REFUSED)
    mends.load([token(0, otp1="777777", otp2="888888")], "again", ACTIVE)
    assert mends.mend([mends.export()[0] | FRESH]).refused == 1
    assert "active already, in batch 'again'" in mends.refused[0].reason


# What a person and a spreadsheet do to a file.

HARMLESS: dict[str, Callable[[Rows], Rows]] = {
    "nothing": lambda rows: rows,
    "sorted otherwise": lambda rows: rows[::-1],
    "result columns deleted": lambda rows: [without(row, *RESULTS) for row in rows],
    "file_row deleted": lambda rows: [without(row, "file_row") for row in rows],
    "columns deleted": lambda rows: [{"serial": row["serial"]} for row in rows],
    "serial numbers in small letters": lambda rows: [
        without(row, "file_row") | {"serial": row["serial"].lower()} for row in rows
    ],
    "ids in capitals": lambda rows: [row | {"user_id": row["user_id"].upper()} for row in rows],
    "ids emptied": lambda rows: [row | {"user_id": "", "device_id": ""} for row in rows],
    "zeros taken from serials": lambda rows: [row | {"serial": row["serial"].lstrip("0")} for row in rows],
    "blank rows": lambda rows: [rows[0], dict.fromkeys(rows[0], ""), rows[1]],
    "own columns added": lambda rows: [{"note": "x"} | row | {"later": "y"} for row in rows],
    "result cells overwritten": lambda rows: [row | dict.fromkeys(RESULTS, "=1+1") for row in rows],
}


@pytest.mark.parametrize("kind", ["pairs", "seeds"])
@pytest.mark.parametrize("how", HARMLESS)
def test_what_a_person_may_do_to_the_file(mends: Mends, how: str, kind: str) -> None:
    tokens = [token(0, serial="0000123400" if kind == "pairs" else "MADE000000"), token(1)]
    box = mends.load(tokens, "box", GONE, GONE) if kind == "pairs" else mends.load_seeds(2, REFUSED, REFUSED)

    assert mends.mend(HARMLESS[how](mends.export())) == Mended(again=2)

    records = mends.records(box)
    assert [(each.serial_number, each.user_id, each.device_id) for each in records] == [
        (row["serial"], row["user_id"], row["device_id"]) for row in tokens
    ]
    assert all(set(each.extra or {}) <= {"site", "note", "later"} for each in records)
    assert not set(RESULTS) & set(look_at_batch(mends.database, box.batch_id).columns)


@pytest.mark.parametrize(
    ("mark", "dialect"),
    [
        ("", {"delimiter": ";"}),
        ("\ufeff", {"delimiter": ";", "lineterminator": "\r\n"}),
        ("", {"delimiter": "\t"}),
        ("\ufeff", {"quoting": csv.QUOTE_ALL}),
    ],
)
def test_how_a_spreadsheet_saves_it(mends: Mends, mark: str, dialect: dict[str, Any]) -> None:
    mends.load_seeds(2, REFUSED, REFUSED)
    path = mends.write_rows(mends.export(), **dialect)
    path.write_bytes((mark + path.read_bytes().decode()).encode())

    assert mends.mend_by(path) == Mended(again=2)


# Ways in which the row is refused, and a part of the reason.
REFUSALS: dict[str, tuple[Callable[[dict[str, str]], dict[str, str]], str]] = {
    "serial as a number": (lambda row: row | {"serial": "1.00013E+12"}, "the serial was turned into a number"),
    "serial with an apostrophe": (lambda row: row | {"serial": "'" + row["serial"]}, "written as a quoted number"),
    "serial of another token": (lambda row: row | {"serial": "MADE000009"}, OTHER_TOKEN),
    "serial emptied": (lambda row: row | {"serial": ""}, "serial is missing"),
    "file_row changed": (lambda row: row | {"file_row": "x"}, "file_row is not as the export wrote it"),
    "file_row of no row": (lambda row: row | {"file_row": "999"}, NO_ROW),
    "file_row too long": (lambda row: row | {"file_row": "9" * 30}, "is not as the export wrote"),
    "OTP without its zeros": (lambda row: row | {"otp1": "634"}, "Excel drops leading zeros"),
    "OTP for a formula": (lambda row: row | {"otp1": '="000634"'}, "written as a quoted number"),
    "device id cut off": (lambda row: row | {"device_id": row["device_id"][:20]}, "device_id is not a UUID"),
}


@pytest.mark.parametrize("how", REFUSALS)
def test_what_is_refused_says_how_to_correct_it(mends: Mends, how: str) -> None:
    mends.load([token(0)], "box", GONE)
    change, reason = REFUSALS[how]

    assert mends.mend([change(mends.export()[0])]) == Mended(refused=1)
    assert [reason in error.reason for error in mends.refused] == [True]


def test_a_column_that_was_sorted_alone_is_noticed_at_every_row(mends: Mends) -> None:
    mends.load_seeds(2, REFUSED, REFUSED)
    first, second = mends.export()

    assert mends.mend([first | {"serial": second["serial"]}, second | {"serial": first["serial"]}]).refused == 2
    assert [error.reason for error in mends.refused] == [OTHER_TOKEN] * 2


def test_a_row_that_was_copied_goes_once(mends: Mends) -> None:
    mends.load([token(0), token(1, serial="0012")], "box", REFUSED, REFUSED)
    first, second = mends.export()

    assert mends.mend([first | FRESH, first | FRESH]) == Mended(again=1, refused=1)
    assert mends.mend([second, second | FRESH]) == Mended(refused=2)
    # Under two spellings.
    assert mends.mend(
        [second | FRESH | {"serial": "12", "device_id": ""}, second | FRESH | {"file_row": ""}]
    ) == Mended(again=1, refused=1)
    assert "the token is on row 2 of this file already" in mends.refused[0].reason


def test_an_export_is_no_shipment_and_one_with_its_secrets_pasted_in_is_refused(mends: Mends) -> None:
    mends.load_seeds(1, REFUSED)
    path = mends.write_rows(mends.export())
    with pytest.raises(UnusableFile, match="oathbulk mend BATCH FILE"):
        open_shipment(path)
    path.write_text("serial,secret key,file_row\nx,x,2\n")
    with pytest.raises(UnusableFile, match="says that it holds a seed"):
        open_shipment(path, hints=MENDS)
