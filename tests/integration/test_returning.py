"""What failed comes back as the file of an export, whatever a person and a spreadsheet did to it, on both databases."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.data.batches import TESTER, Made, enqueue, look_at_batch, make_batch
from support.data.loading import LoadingDesk, Token, environment, token
from support.data.moving_clock import MovingDatabase

from models.audit import Action
from models.encrypted import Keyring, generate_key, identify_row
from models.reason import Reason
from models.record_states import Status
from worker import audit
from worker.batches.commands import Batches, NotPossible
from worker.batches.loaded import AllActive, Loaded
from worker.batches.loading import Loader
from worker.batches.returning import KEY_IS_GONE, NO_FRESH_OTPS, NO_RECORD, NO_SEED, OLD_TIME, OTHER_TOKEN, OTHER_TYPE
from worker.intake import Hints, RowError, UnusableFile, open_assignment, open_shipment
from worker.leases.attempt_line import CallSummary
from worker.leases.worker import Leases
from worker.reports.export import export
from worker.reports.history import read_histories
from worker.reports.sentences.next_step import describe_next
from worker.reports.sentences.tokens import describe_tokens
from worker.reports.status import read_statuses, take_environment_for_license
from worker.reports.status_json import make_status_json
from worker.rules.steps import Active, DeadLetter, Decision
from worker.vault.otp import OtpPair
from worker.vault.otp_source import OtpSource, read_otp_source
from worker.vault.seed import Seed

ACTIVE = Active()
REFUSED = DeadLetter(Reason.INVALID_OTP)
GONE = DeadLetter(Reason.DEVICE_NOT_FOUND)
FRESH = {"otp1": "111111", "otp2": "222222"}
SECRETS = ("3132333435363738393031323334353637383930", "6b1f85dfcd2763697c6e3d6af46643520fda2d9b")
Rows = list[dict[str, str]]


@dataclass
class RoundTrip:
    """Loads files, ends their records, and exports and loads them again."""

    desk: LoadingDesk
    leases: Leases

    @property
    def refused(self) -> list[RowError]:
        return self.desk.refused

    def load_seeds(self, count: int = 1, otp_type: str = "hotp", name: str = "box") -> Loaded:
        """Load seeds of a vendor's file, with the ids of users and devices in a list beside it."""
        tokens = [token(number) for number in range(count)]
        step = ",30" if otp_type == "totp" else ""
        file, who = self.desk.directory / f"{name}.txt", self.desk.directory / f"{name}-who.csv"
        file.write_text("".join(f"{row['serial']},{SECRETS[n % 2]}\n" for n, row in enumerate(tokens)))
        lines = [f"{row['serial']},{row['user_id']},{row['device_id']},Hall {n}\n" for n, row in enumerate(tokens)]
        who.write_text("serial,user_id,device_id,site\n" + "".join(lines))
        hints = Hints(otp_type=otp_type, time_step=30 if step else None)  # type: ignore[arg-type]
        shipment = open_shipment(file, hints=hints, assignment=open_assignment(who))
        return Loader(self.desk.database, self.desk.keyring, environment(), TESTER).load(shipment, name)

    def end(self, loaded: Loaded, *decisions: Decision) -> None:
        """Let the next records of a batch end so. The OTP of a device that is gone counts as not sent."""
        made = Made(loaded.batch_id, loaded.name, [record.id for record in self.desk.records(loaded)])
        for record_id, decision in zip(made.ids, decisions, strict=False):
            enqueue(self.desk.database, made)
            claimed = self.leases.claim(record_id, "tenant-1")
            assert claimed is not None
            sent = claimed.progress
            if not claimed.is_otp1_marked:
                assert self.leases.mark_sent(claimed, 1, 60_000_000)
                sent = sent.with_otp_sent(1, 60_000_000)
            progress = sent.with_otp_unsent(1) if decision == GONE else sent.with_otp_answered(1)
            assert self.leases.settle(claimed, progress, decision, CallSummary(1))

    def export(self, name: str, status: str | None = Status.DEAD_LETTER) -> Rows:
        text = io.StringIO(newline="")
        export(self.desk.database, name, text, status=status)
        return list(csv.DictReader(io.StringIO(text.getvalue(), newline="")))

    def load(self, rows: Rows, name: str = "again", keyring: Keyring | None = None) -> Loaded:
        return self.desk.load_file(self.write(rows, name), name, keyring=keyring)

    def write(self, rows: Rows, name: str, **dialect: Any) -> Path:
        path = self.desk.directory / f"{name}.csv"
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]), **dialect)
        writer.writeheader()
        writer.writerows(rows)
        path.write_text(text.getvalue(), newline="")
        return path

    def opened(self, loaded: Loaded) -> list[OtpSource]:
        """The pairs and seeds of a batch, decrypted as those of their rows."""
        return [
            read_otp_source(self.desk.keyring.open(record.otps, identify_row(record.batch_id, record.row_number)))
            for record in self.desk.records(loaded)
        ]

    def parent(self, loaded: Loaded) -> str | None:
        (status,) = read_statuses(self.desk.database, loaded.name)
        assert make_status_json(status)["parent"] == status.parent
        return status.parent

    def refuses(self, rows: Rows, reason: str) -> bool:
        """Whether the only row is refused for this reason, and nothing is left of the load."""
        before = self.desk.found()
        with pytest.raises(UnusableFile, match="its only row cannot be loaded"):
            self.load(rows)
        assert self.desk.found() == before
        return [error.reason for error in self.refused] == [reason]


@pytest.fixture
def trip(database: MovingDatabase, keyring: Keyring, leases: Leases, tmp_path: Path) -> RoundTrip:
    return RoundTrip(LoadingDesk(database, keyring, tmp_path), leases)


# Pairs.


def test_pairs_with_fresh_otps_run_in_a_new_batch_that_names_its_parent(trip: RoundTrip) -> None:
    first = trip.desk.load([token(0, Carton="7"), token(1), token(2)])
    trip.end(first, REFUSED, ACTIVE, REFUSED)
    rows = trip.export("shipment")
    assert [row["serial"] for row in rows] == ["MADE000000", "MADE000002"]
    assert {row["otp1"] + row["otp2"] for row in rows} == {""}

    again = trip.load([rows[0] | FRESH, rows[1] | {"otp1": "333333", "otp2": ""}])

    assert (again.total, again.rows_refused, again.already_active, again.parent) == (2, 0, 0, "shipment")
    records = trip.desk.records(again)
    assert [(record.status, record.attempts, record.otp1_posts) for record in records] == [(Status.PENDING, 0, 0)] * 2
    assert [record.extra for record in records] == [{"Carton": "7"}, {"Carton": ""}]
    assert look_at_batch(trip.desk.database, again.batch_id).columns == [
        *("serial", "otp1", "otp2", "user_id", "device_id", "Carton")
    ]
    assert (trip.parent(again), trip.parent(first)) == ("shipment", None)


def test_the_same_file_twice_does_nothing(trip: RoundTrip) -> None:
    trip.end(trip.desk.load([token(0)]), REFUSED)
    rows = [trip.export("shipment")[0] | FRESH]
    again = trip.load(rows)

    twice = trip.load(rows, "twice")

    assert (twice.batch_id, twice.is_new) == (again.batch_id, False)


def test_a_row_without_fresh_otps_is_refused_and_the_others_are_loaded(trip: RoundTrip) -> None:
    trip.end(trip.desk.load([token(0), token(1)]), REFUSED, REFUSED)
    first, second = trip.export("shipment")

    assert trip.load([first, second | FRESH]).total == 1
    assert [(error.row_number, error.reason) for error in trip.refused] == [(2, NO_FRESH_OTPS)]


def test_an_otp_that_was_sent_is_refused_for_a_new_device_too(trip: RoundTrip) -> None:
    trip.end(trip.desk.load([token(0)]), REFUSED)
    (row,) = trip.export("shipment")
    old = {"otp1": "000000", "otp2": "500000", "device_id": str(uuid.UUID(int=99))}

    with pytest.raises(UnusableFile):
        trip.load([row | old])

    assert "was sent already, in batch 'shipment'" in trip.refused[0].reason


def test_otps_that_never_went_out_need_no_person_for_a_device_that_was_paired_again(trip: RoundTrip) -> None:
    """What a batch needs whose devices PingOne deleted after 24 hours."""
    first = trip.desk.load([token(0), token(1)])
    trip.end(first, GONE)
    Batches(trip.desk.database, TESTER).cancel("shipment")
    paired = [str(uuid.UUID(int=99)), str(uuid.UUID(int=98))]
    rows = [row | {"device_id": device} for row, device in zip(trip.export("shipment", None), paired, strict=True)]

    again = trip.load(rows)

    assert (again.total, again.rows_refused) == (2, 0)
    assert [record.device_id for record in trip.desk.records(again)] == paired
    pairs = trip.opened(again)
    assert [pair.first.reveal() for pair in pairs if isinstance(pair, OtpPair)] == ["000000", "000001"]
    # Once they went out with the later batch, the earlier export does not bring them back.
    trip.end(again, REFUSED)
    older = rows[0] | {"device_id": str(uuid.UUID(int=97))}
    with pytest.raises(UnusableFile):
        trip.load([older], "third")
    assert "was sent already, in batch 'again'" in trip.refused[0].reason


def totp(**columns: str) -> Token:
    return token(0, otp_type="totp", generated_at="2026-03-01T09:30:00Z", **columns)


def test_a_totp_pair_comes_back_only_with_fresh_otps_and_their_time(trip: RoundTrip) -> None:
    trip.end(trip.desk.load([totp()], totp_max_age=1e9), GONE)
    (row,) = trip.export("shipment")

    assert trip.refuses([row], NO_FRESH_OTPS)
    assert trip.refuses([row | FRESH], OLD_TIME)
    assert trip.refuses([without(row, "otp_type") | FRESH], OTHER_TYPE)
    assert trip.load([row | FRESH | {"generated_at": "2026-03-01T10:30:00Z"}]).total == 1


# Seeds.


def test_a_seed_comes_back_as_it_was_exported_with_its_counter(trip: RoundTrip) -> None:
    first = trip.load_seeds(2)
    before = trip.opened(first)
    trip.end(first, REFUSED, REFUSED)
    rows = trip.export("box")
    assert not any(secret in str(rows).lower() for secret in SECRETS)
    assert not any(column in rows[0] for column in ("otp1", "secret"))

    again = trip.load(rows)

    assert (again.total, again.rows_refused, trip.parent(again)) == (2, 0, "box")
    # The seed says where the token itself stands, so it stays as it was; the record goes on behind what was used.
    assert trip.opened(again) == before
    records = trip.desk.records(again)
    assert [(record.next_counter, record.has_second_otp, record.otp_type) for record in records] == [
        (1, True, "hotp")
    ] * 2
    assert [record.extra for record in records] == [{"site": "Hall 0"}, {"site": "Hall 1"}]


def test_no_counter_is_used_twice_over_many_rounds_whichever_export_is_loaded(trip: RoundTrip) -> None:
    loaded = trip.load_seeds()
    trip.end(loaded, REFUSED)
    oldest = trip.export("box")
    for number in range(1, 4):
        loaded = trip.load(trip.export(loaded.name), f"round{number}")
        assert trip.desk.records(loaded)[0].next_counter == number
        trip.end(loaded, REFUSED)

    # Changed, so that it is another file; it names the very first record.
    late = trip.load([row | {"site": "Cellar"} for row in oldest], "late")

    assert trip.desk.records(late)[0].next_counter == 4
    assert trip.parent(late) == "box"


@pytest.mark.parametrize("deleted", [(), ("otp_type",)])
def test_a_totp_seed_comes_back_with_its_time_step(trip: RoundTrip, deleted: tuple[str, ...]) -> None:
    trip.end(trip.load_seeds(otp_type="totp"), REFUSED)
    (row,) = trip.export("box")

    again = trip.load([without(row, *deleted)])

    (record,) = trip.desk.records(again)
    assert (record.otp_type, record.next_counter, record.otp_expires_at) == ("totp", 60_000_001, None)
    (seed,) = trip.opened(again)
    assert isinstance(seed, Seed)
    assert (seed.otp_type, seed.time_step) == ("totp", 30)


def test_a_replay_of_seeds_needs_no_file_and_leaves_what_a_later_batch_has(trip: RoundTrip) -> None:
    trip.end(trip.load_seeds(2), REFUSED, REFUSED)
    trip.load(trip.export("box")[:1])

    replayed = Batches(trip.desk.database, TESTER).replay("box")

    assert replayed.records == 1
    assert [(left.records, left.batch) for left in replayed.not_replayed] == [(1, "again")]


def test_a_seed_whose_key_is_gone_is_refused_with_the_cure(trip: RoundTrip) -> None:
    trip.end(trip.load_seeds(), REFUSED)
    rows = trip.export("box")

    with pytest.raises(UnusableFile):
        trip.load(rows, keyring=Keyring([generate_key()]))

    assert [error.reason for error in trip.refused] == [KEY_IS_GONE]


def test_of_a_cancelled_batch_whose_file_was_loaded_again_no_replay_is_offered(trip: RoundTrip) -> None:
    """The later load refused the row whose OTP was sent, so that no record took over from it."""
    path = trip.desk.write([token(0), token(1)], "first.csv")
    trip.end(trip.desk.load_file(path, "first"), DeadLetter(Reason.FORBIDDEN))
    (before,) = read_statuses(trip.desk.database, "first")
    Batches(trip.desk.database, TESTER).cancel("first")
    assert (before.replayable, before.successor) == ({"forbidden": 1}, None)

    trip.desk.load_file(path, "second")

    with pytest.raises(NotPossible, match="was loaded again"):
        Batches(trip.desk.database, TESTER).replay("first", [Reason.FORBIDDEN])
    (status,) = read_statuses(trip.desk.database, "first")
    assert (status.replayable, status.successor) == ({}, "second")
    assert not any("oathbulk replay" in line for line in describe_tokens(status))
    (told,) = read_histories(trip.desk.database, "MADE000000", license_of=take_environment_for_license)
    step = describe_next(told, lease=60.0)
    assert (step.why or "").startswith("Its file was loaded again, as batch second.")
    assert step.command == "oathbulk export first --left -o first-left.csv"


# What is active already.


@pytest.mark.parametrize("kind", ["pairs", "seeds"])
def test_a_whole_export_brings_only_what_failed_and_counts_what_is_active(trip: RoundTrip, kind: str) -> None:
    first = trip.load_seeds(3) if kind == "seeds" else trip.desk.load([token(number) for number in range(3)], "box")
    trip.end(first, ACTIVE, REFUSED, ACTIVE)
    rows = trip.export("box", None)
    if kind == "pairs":
        rows[1] |= FRESH

    again = trip.load(rows)

    assert (again.total, again.rows_refused, again.already_active) == (1, 0, 2)
    assert [record.serial_number for record in trip.desk.records(again)] == ["MADE000001"]


def test_a_file_that_is_a_batch_already_is_told_with_the_rows_that_were_left_out(trip: RoundTrip) -> None:
    trip.end(trip.desk.load([token(0), token(1)], "box"), ACTIVE, REFUSED)
    rows = trip.export("box", None)
    rows[1] |= FRESH
    first = trip.load(rows)

    again = trip.load(rows, "twice")

    assert (again.total, again.rows_refused, again.already_active) == (1, 0, 1)
    assert (again.batch_id, again.is_new) == (first.batch_id, False)


def test_where_all_is_active_there_is_nothing_to_do_and_no_batch(trip: RoundTrip) -> None:
    trip.end(trip.desk.load([token(0), token(1)]), ACTIVE, ACTIVE)

    with pytest.raises(AllActive) as found:
        trip.load(trip.export("shipment", None))

    assert found.value.rows == 2
    assert [status.name for status in read_statuses(trip.desk.database)] == ["shipment"]
    with trip.desk.database.reading() as connection:
        assert [line.batch for line in audit.read(connection) if line.action == Action.LOAD] == ["shipment"]


def test_an_old_export_of_what_became_active_on_a_new_device_since_wakes_nothing(trip: RoundTrip) -> None:
    trip.end(trip.load_seeds(), GONE)
    rows = trip.export("box")
    again = trip.load([rows[0] | {"device_id": str(uuid.UUID(int=99))}])
    trip.end(again, ACTIVE)

    with pytest.raises(AllActive):
        trip.load([rows[0] | {"site": "Cellar"}], "late")


def test_a_token_that_was_active_on_an_older_device_comes_back_for_its_new_one(trip: RoundTrip) -> None:
    make_batch(trip.desk.database, serial_number="MADE000000", status=Status.ACTIVE, environment_id="tenant-1")
    trip.end(trip.load_seeds(), REFUSED)

    assert trip.load(trip.export("box")).total == 1


def test_the_seed_of_an_active_token_is_gone_for_another_device(trip: RoundTrip) -> None:
    trip.end(trip.load_seeds(), ACTIVE)
    (row,) = trip.export("box", None)

    assert trip.refuses([row | {"device_id": str(uuid.UUID(int=99))}], NO_SEED)


def test_refused_rows_beside_active_ones_alone_are_an_error(trip: RoundTrip) -> None:
    trip.end(trip.desk.load([token(0), token(1)]), ACTIVE, REFUSED)

    with pytest.raises(UnusableFile, match="one row of it cannot be loaded, and 1 other is active already"):
        trip.load(trip.export("shipment", None))


# What a person and a spreadsheet do to the file in between.


def without(row: dict[str, str], *columns: str) -> dict[str, str]:
    return {name: value for name, value in row.items() if name not in columns}


RESULTS = ("status", "reason", "detail", "pingone_error_id", "correlation_id", "attempts", "otp_posts")
# Ways in which all rows are still good.
HARMLESS: dict[str, Callable[[Rows], Rows]] = {
    "sorted": lambda rows: rows[::-1],
    "columns reordered": lambda rows: [dict(sorted(row.items())) for row in rows],
    "result columns deleted": lambda rows: [without(row, *RESULTS) for row in rows],
    "only serial and origin left": lambda rows: [
        {"serial": row["serial"], "oathbulk_row": row["oathbulk_row"]} for row in rows
    ],
    "origin in capitals with blanks": lambda rows: [
        row | {"oathbulk_row": f" {row['oathbulk_row'].upper().replace(' ', '  ')} "} for row in rows
    ],
    "ids in capitals": lambda rows: [row | {"user_id": row["user_id"].upper()} for row in rows],
    "ids emptied": lambda rows: [row | {"user_id": "", "device_id": ""} for row in rows],
    "blank rows": lambda rows: [rows[0], dict.fromkeys(rows[0], ""), rows[1]],
    "own columns added": lambda rows: [{"note": "x"} | row | {"later": "y"} for row in rows],
    "result cells overwritten": lambda rows: [row | dict.fromkeys(RESULTS, "=1+1") for row in rows],
}


@pytest.mark.parametrize("kind", ["pairs", "seeds"])
@pytest.mark.parametrize("how", HARMLESS)
def test_what_a_person_may_do_to_the_file(trip: RoundTrip, how: str, kind: str) -> None:
    first = trip.load_seeds(2) if kind == "seeds" else trip.desk.load([token(0), token(1)], "box")
    # Their OTPs never went out, so pairs come back without fresh ones.
    trip.end(first, *([REFUSED] * 2 if kind == "seeds" else [GONE] * 2))

    again = trip.load(HARMLESS[how](trip.export("box")))

    assert (again.total, again.rows_refused, trip.parent(again)) == (2, 0, "box")
    records = sorted(trip.desk.records(again), key=lambda record: record.serial_number)
    assert [(record.serial_number, record.user_id, record.device_id) for record in records] == [
        (row["serial"], row["user_id"], row["device_id"]) for row in (token(0), token(1))
    ]
    assert all(set(record.extra or {}) <= {"site", "note", "later"} for record in records)
    assert not set(RESULTS) & set(look_at_batch(trip.desk.database, again.batch_id).columns)


@pytest.mark.parametrize(
    ("mark", "dialect"),
    [
        ("", {"delimiter": ";"}),
        ("\ufeff", {"delimiter": ";", "lineterminator": "\r\n"}),
        ("", {"delimiter": "\t"}),
        ("\ufeff", {"quoting": csv.QUOTE_ALL}),
    ],
)
def test_how_a_spreadsheet_saves_it(trip: RoundTrip, mark: str, dialect: dict[str, Any]) -> None:
    trip.end(trip.load_seeds(2), REFUSED, REFUSED)
    path = trip.write(trip.export("box"), "again", **dialect)
    path.write_bytes((mark + path.read_bytes().decode()).encode())

    again = trip.desk.load_file(path, "again")

    assert (again.total, again.rows_refused) == (2, 0)


def test_leading_zeros_that_a_spreadsheet_took_from_a_serial_number_come_back(trip: RoundTrip) -> None:
    trip.end(trip.desk.load([token(0, serial="0000123400")], "box"), GONE)
    (row,) = trip.export("box")

    again = trip.load([row | {"serial": "123400"}])

    assert [record.serial_number for record in trip.desk.records(again)] == ["0000123400"]


# Ways in which the row is refused, and a part of the reason.
REFUSALS: dict[str, tuple[Callable[[dict[str, str]], dict[str, str]], str]] = {
    "serial as a number": (lambda row: row | {"serial": "1.00013E+12"}, "the serial was turned into a number"),
    "serial with an apostrophe": (lambda row: row | {"serial": "'" + row["serial"]}, "written as a quoted number"),
    "serial of another token": (lambda row: row | {"serial": "MADE000009"}, OTHER_TOKEN),
    "serial emptied": (lambda row: row | {"serial": ""}, "serial is missing"),
    "origin changed": (lambda row: row | {"oathbulk_row": "17"}, "oathbulk_row is not as the export wrote it"),
    "origin of no record": (lambda row: row | {"oathbulk_row": "batch 999 row 2"}, NO_RECORD),
    "origin too long": (lambda row: row | {"oathbulk_row": f"batch {'9' * 30} row 2"}, "is not as the export wrote"),
    "origin emptied": (lambda row: row | {"oathbulk_row": ""}, "otp1 is missing"),
    "OTP without its zeros": (lambda row: row | {"otp1": "634"}, "Excel drops leading zeros"),
    "OTP for a formula": (lambda row: row | {"otp1": '="000634"'}, "written as a quoted number"),
    "device id cut off": (lambda row: row | {"device_id": row["device_id"][:20]}, "device_id is not a UUID"),
}


@pytest.mark.parametrize("how", REFUSALS)
def test_what_is_refused_says_how_to_mend_it(trip: RoundTrip, how: str) -> None:
    trip.end(trip.desk.load([token(0)]), GONE)
    change, reason = REFUSALS[how]
    changed = change(trip.export("shipment")[0])

    with pytest.raises(UnusableFile, match="its only row cannot be loaded"):
        trip.load([changed])

    (error,) = trip.refused
    assert reason in error.reason


def test_a_column_that_was_sorted_alone_is_noticed_at_every_row(trip: RoundTrip) -> None:
    trip.end(trip.load_seeds(2), REFUSED, REFUSED)
    first, second = trip.export("box")

    with pytest.raises(UnusableFile):
        trip.load([first | {"serial": second["serial"]}, second | {"serial": first["serial"]}])

    assert [error.reason for error in trip.refused] == [OTHER_TOKEN] * 2


def test_a_row_that_was_copied_is_refused_once(trip: RoundTrip) -> None:
    trip.end(trip.load_seeds(), REFUSED)
    (row,) = trip.export("box")

    assert trip.load([row, row]).total == 1
    assert ["delete one of the two rows" in error.reason for error in trip.refused] == [True]


def test_a_row_that_comes_back_as_it_was_and_with_fresh_otps_is_not_loaded(trip: RoundTrip) -> None:
    trip.end(trip.desk.load([token(0), token(1)]), REFUSED, REFUSED)
    first, second = trip.export("shipment")

    assert trip.load([first, first | FRESH, second | FRESH]).total == 1
    assert [error.row_number for error in trip.refused] == [2, 3]


def test_two_rows_that_turn_out_to_be_of_one_device_once_they_are_completed_are_loaded_once(trip: RoundTrip) -> None:
    """An emptied cell takes the device of its record, which the file alone does not tell."""
    trip.end(trip.desk.load([token(0)]), REFUSED)
    (row,) = trip.export("shipment")
    other = dict.fromkeys(row, "") | token(1, device_id=row["device_id"])

    assert trip.load([row | FRESH | {"device_id": ""}, other]).total == 1
    assert ["keep one of the two rows" in error.reason for error in trip.refused] == [True]


def test_an_export_does_not_come_back_into_another_environment(trip: RoundTrip) -> None:
    trip.end(trip.load_seeds(), REFUSED)
    path = trip.write(trip.export("box"), "again")

    with pytest.raises(UnusableFile):
        trip.desk.load_file(path, "again", into=environment("other", "tenant-2"))

    assert [error.reason for error in trip.refused] == [NO_RECORD]


def test_an_export_of_what_is_in_progress_waits(trip: RoundTrip) -> None:
    trip.load_seeds()

    with pytest.raises(UnusableFile):
        trip.load(trip.export("box", None))

    assert "is in progress in batch 'box'" in trip.refused[0].reason


def test_a_row_without_otps_is_told_first_that_a_later_batch_works_on_its_token(trip: RoundTrip) -> None:
    trip.end(trip.desk.load([token(0)]), REFUSED)
    (row,) = trip.export("shipment")
    trip.load([row | FRESH])

    with pytest.raises(UnusableFile):
        trip.load([row], "late")

    assert "is in progress in batch 'again'" in trip.refused[0].reason


def test_exports_of_several_batches_in_one_file_name_the_one_with_most_rows(trip: RoundTrip) -> None:
    trip.end(trip.desk.load([token(7)], "small"), GONE)
    trip.end(trip.load_seeds(2), REFUSED, REFUSED)
    columns = dict.fromkeys([*trip.export("small")[0], *trip.export("box")[0]], "")
    rows = [columns | row for row in (*trip.export("small"), *trip.export("box"))]

    again = trip.load(rows)

    assert (again.total, trip.parent(again)) == (3, "box")


def test_new_rows_may_be_added_to_an_export(trip: RoundTrip) -> None:
    trip.end(trip.desk.load([token(0)]), GONE)
    (row,) = trip.export("shipment")

    assert trip.load([row, dict.fromkeys(row, "") | token(5)]).total == 2


def test_many_rows_come_back_in_several_chunks(trip: RoundTrip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.batches.loading.CHUNK", 2)
    trip.end(trip.load_seeds(5), *[REFUSED] * 5)

    assert trip.load(trip.export("box")).total == 5


def list_bad(columns: Sequence[str]) -> str:
    return ",".join(columns) + "\n" + ",".join("x" for _ in columns) + "\n"


def test_an_export_without_its_last_column_is_told_how_to_mend_it(trip: RoundTrip) -> None:
    path = trip.desk.directory / "again.csv"
    path.write_text(list_bad(["serial", "user_id", "device_id", *RESULTS]))

    with pytest.raises(UnusableFile, match="export it again and leave its column oathbulk_row in"):
        open_shipment(path)


def test_an_export_with_its_secrets_pasted_in_is_refused(trip: RoundTrip) -> None:
    path = trip.desk.directory / "again.csv"
    path.write_text(list_bad(["serial", "secret key", *RESULTS, "oathbulk_row"]))

    with pytest.raises(UnusableFile, match="says that it holds a seed"):
        open_shipment(path)
