"""Rows that are refused at loading: a preflight says of each what the load then does with it; they are kept without a
secret, counted and found again."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from support.data.batches import count, make_batch
from support.data.loading import LoadingDesk, Token, earlier, token
from support.data.moving_clock import MovingDatabase

from models.encrypted import Keyring, generate_key, identify_row
from models.record import Record
from models.record_states import Status
from models.refused_row import REFUSED, RefusedRow
from models.row_fault import RowFault
from worker.batches import loading
from worker.batches.loading import CHUNK
from worker.intake.rows import UnusableFile
from worker.intake.shipment import open_shipment
from worker.preflight import files
from worker.preflight.files import RowReader
from worker.preflight.findings import Finding, Level, Verdicts
from worker.reports.export import export
from worker.reports.facts import BatchStatus, read_statuses
from worker.reports.search import Sought, search
from worker.reports.sentences import describe_refused
from worker.reports.token_history import read_histories
from worker.vault.otps import Secret, Seed

# The statements differ in nothing between the databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

MALFORMED = {"otp1": "12"}
SECRET = Secret(b"12345678901234567890")
SEED = Seed(secret=SECRET, counter=3)


@pytest.fixture
def desk(database: MovingDatabase, keyring: Keyring, tmp_path: Path) -> LoadingDesk:
    return LoadingDesk(database, keyring, tmp_path)


# What a preflight says.


def examine(
    desk: LoadingDesk, tokens: Sequence[Token], environment_id: str = "tenant-1", *, only_new: bool = False
) -> tuple[Verdicts, dict[str, Finding]]:
    shipment = open_shipment(desk.write(tokens), only_new=only_new)
    with desk.database.reading() as connection:
        verdicts, leftovers = RowReader(connection, desk.keyring, environment_id).read(shipment)
    findings = files.check_files(shipment, verdicts, leftovers, totp_max_age=120)
    return verdicts, {finding.name: finding for finding in findings}


def tell(desk: LoadingDesk, *tokens: Token, **options: Any) -> dict[str, Finding]:
    return examine(desk, tokens, **options)[1]


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
    verdicts, _ = examine(desk, SHIPMENTS[name])
    assert desk.found() == before
    try:
        loaded = desk.load(SHIPMENTS[name])
    except UnusableFile:
        assert not verdicts.good
        return
    assert [row.row_number for row in verdicts.good] == [record.row_number for record in desk.records(loaded)]
    told = sorted((error.row_number, error.reason) for error in verdicts.refused)
    assert told == sorted((error.row_number, error.reason) for error in desk.refused)


def test_a_token_in_progress_is_named_with_its_batch(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring, status=Status.PENDING)
    findings = tell(desk, token(0), token(1))
    found = findings["in_database"]
    assert (found.level, found.tokens, found.serials) == (Level.NOTE, 1, (token(0)["serial"],))
    assert found.text == "Refused for what our own database holds: 1 row."
    # Where the reason is told already, it is not told twice.
    assert findings["rows_refused"].text.endswith(
        "the serial number is in progress in batch 'earlier' (row 2): wait until it is finished, or cancel it there"
    )
    # Records of another environment are no matter.
    assert len(examine(desk, [token(0)], "tenant-2")[0].good) == 1


def test_a_token_that_is_active_elsewhere_is_refused_or_left_out_on_purpose(desk: LoadingDesk) -> None:
    earlier(desk.database, desk.keyring, status=Status.ACTIVE)
    assert "active already, in batch 'earlier'" in tell(desk, token(0), token(1))["rows_refused"].text
    verdicts, findings = examine(desk, [token(0), token(1)], only_new=True)
    found = findings["left_out"]
    assert (found.level, found.text) == (Level.NOTE, "Active in other batches, and left out: 1 token.")
    assert [line[2] for line in verdicts.lines()] == ["left_out", "ready"]


def make_earlier_seed(desk: LoadingDesk, seed: Seed = SEED, keyring: Keyring | None = None, **columns: Any) -> None:
    """A record of token 0 that was given up, and whose seed is still there."""
    same = {"serial_number": token(0)["serial"], "status": Status.DEAD_LETTER, "next_counter": 4}
    # The first batch of the database, and its first row.
    sealed = (keyring or desk.keyring).seal(seed.to_plaintext(), identify_row(1, 2))
    make_batch(desk.database, [same | {"otps": sealed} | columns], name="box", environment_id="tenant-1")


def with_pair(seed: Seed, first: int, second: int, **columns: str) -> Token:
    return token(0, otp1=seed.mint(first).reveal(), otp2=seed.mint(second).reveal(), **columns)


def test_a_pair_that_a_seed_of_ours_contradicts_is_asked_about(desk: LoadingDesk) -> None:
    make_earlier_seed(desk)
    assert "not_consecutive" not in tell(desk, with_pair(SEED, 4, 5), token(1))
    verdicts, findings = examine(desk, [with_pair(SEED, 4, 6), token(1)])
    found = findings["not_consecutive"]
    assert (found.level, found.serials) == (Level.ASK, (token(0)["serial"],))
    assert found.text.startswith("With two OTPs that do not follow each other, by the seed that an earlier batch")
    assert SECRET.reveal().hex() not in repr(verdicts) + found.text


def test_a_totp_pair_is_compared_by_the_time_at_which_it_was_made(desk: LoadingDesk) -> None:
    seed = Seed(secret=SECRET, otp_type="totp", time_step=30)
    make_earlier_seed(desk, seed, otp_type="totp", next_counter=None)
    now = datetime.now(UTC)
    step, columns = int(now.timestamp() // 30), {"otp_type": "totp", "generated_at": now.isoformat()}
    assert "not_consecutive" not in tell(desk, with_pair(seed, step, step + 1, **columns))
    assert "not_consecutive" in tell(desk, with_pair(seed, step, step + 2, **columns))


@pytest.mark.parametrize(
    "columns",
    [{"otps": None}, {"environment_id": "tenant-2"}, {"keyring": Keyring([generate_key()])}],
    ids=["erased", "of another tenant", "of a key that is gone"],
)
def test_a_seed_that_cannot_be_opened_contradicts_nothing(desk: LoadingDesk, columns: dict[str, Any]) -> None:
    make_earlier_seed(desk, **columns)
    assert "not_consecutive" not in tell(desk, with_pair(SEED, 4, 6))


# What is kept.


def kept(desk: LoadingDesk) -> Sequence[Any]:
    with desk.database.reading() as connection:
        return connection.execute(select(RefusedRow.__table__).order_by(RefusedRow.id)).all()


def read(desk: LoadingDesk) -> BatchStatus:
    (status,) = read_statuses(desk.database, "july")
    return status


def end(desk: LoadingDesk, batch_id: int, status: Status) -> None:
    """All records of a batch end so, one arrow after the other; those that shall be pending stay as they are."""
    steps: list[dict[str, Any]] = [{"status": Status.QUEUED}, {"status": Status.ACTIVATING, "lease_id": "lease"}]
    steps.append({"status": status, "lease_id": None, "finalized_at": desk.database.now()})
    with desk.database.writing() as connection:
        for step in steps if status != Status.PENDING else []:
            connection.execute(update(Record).where(Record.batch_id == batch_id).values(step))


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
    written = repr([tuple(row) for row in rows])
    assert not [otp for otp in otps if otp in written]
    assert [(row.row_number, row.serial_number) for row in rows] == [
        (3, None),
        (4, "MADE000002"),
        (5, "MADE000003"),
        (6, None),
    ]
    assert [row.detail for row in rows] == [error.reason for error in desk.refused]
    assert {(row.batch_id, row.environment_id) for row in rows} == {(loaded.batch_id, "tenant-1")}


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
    assert read(desk).refused == {word: rows}


@pytest.mark.parametrize(("status", "word"), [("pending", "in_progress"), ("dead_letter", "otps_used")])
def test_what_our_own_database_refuses_has_its_word_too(desk: LoadingDesk, status: str, word: str) -> None:
    earlier(desk.database, desk.keyring, status=status, otp1_state="answered", otp1_posts=1)

    desk.load([token(0, otp2="555555"), token(1)], "july")

    assert [row.reason for row in kept(desk)] == [word]


def test_a_load_that_was_broken_off_leaves_none_and_the_next_one_has_each_once(desk: LoadingDesk) -> None:
    tokens = [token(number, **(MALFORMED if number % 3 == 0 else {})) for number in range(2 * CHUNK + 10)]
    path, told = desk.write(tokens, "july.csv"), list[int]()

    def break_off(what: str, rows: int, _: int | None = None) -> None:
        told.append(rows)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.load_file(path, "july", on_progress=break_off)
    assert (told, count(desk.database, RefusedRow)) == ([CHUNK], 0)

    loaded = desk.load_file(path, "july")
    assert not desk.load_file(path, "july").is_new
    assert [row.row_number for row in kept(desk)] == [number + 2 for number in range(0, len(tokens), 3)]
    assert loaded.rows_refused == count(desk.database, RefusedRow)


# The counts are the rows of the file.


def good(number: int) -> list[Token]:
    return [token(n) for n in range(10, 10 + number)]


FILES = {
    "only good ones": good(5),
    "one twice": [*good(3), token(10), token(5, device_id=token(11)["device_id"])],
    "active before": [token(0, otp1="111111", otp2="222222"), *good(2), token(1, otp1="")],
    "all but one": [*good(1), *(token(n, otp1="") for n in range(100, 100 + CHUNK))],
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("ended", [Status.ACTIVE, Status.DEAD_LETTER, Status.PENDING])
def test_active_not_active_and_refused_rows_are_all_rows_of_the_file(
    desk: LoadingDesk, kind: str, ended: Status
) -> None:
    earlier(desk.database, desk.keyring, status=Status.ACTIVE)
    end(desk, desk.load(FILES[kind], "july").batch_id, ended)

    status = read(desk)

    counts, refused = status.counts, status.refused or {}
    assert sum(counts.values()) + sum(refused.values()) == len(FILES[kind]) == status.rows
    assert sum(refused.values()) == status.rows_refused == count(desk.database, RefusedRow)
    assert status.tokens_active + status.tokens_left == len(FILES[kind])
    told = status.to_json()
    assert (told["rows"], told["rows_refused"], told["refused"]) == (status.rows, status.rows_refused, refused)


def test_the_export_of_what_is_left_has_as_many_rows_as_the_status_says(desk: LoadingDesk) -> None:
    """What is still to do or active is not left for a person; and the numbers of rows that an earlier version refused
    are not taken for none."""
    end(desk, desk.load([token(0), token(2, otp1="12"), token(3, serial="")], "july").batch_id, Status.DEAD_LETTER)
    made = [{"serial_number": f"S{n}", "status": status} for n, status in enumerate(Status)]
    make_batch(desk.database, made, name="june")

    assert exported_left(desk, "july") == [
        ("MADE000000", "dead_letter", "2"),
        ("MADE000002", "refused", "3"),
        ("", "refused", "4"),
    ]
    assert (read(desk).tokens_left, read(desk).refused) == (3, {"otps_unfit": 1, "serial_unfit": 1})
    assert {status for _, status, _ in exported_left(desk, "june")} == {Status.DEAD_LETTER, Status.CANCELLED}
    with desk.database.writing() as connection:
        connection.execute(RefusedRow.__table__.delete())  # type: ignore[attr-defined]
    status = read(desk)
    assert (status.refused, status.rows_refused, status.rows, status.tokens_left) == (None, 2, 3, 3)


def exported_left(desk: LoadingDesk, name: str) -> list[tuple[str, str, str]]:
    text = io.StringIO(newline="")
    written = export(desk.database, name, text, is_left=True)
    rows = list(csv.DictReader(io.StringIO(text.getvalue(), newline="")))
    assert len(rows) == written
    return [(row["serial"], row["status"], row["file_row"]) for row in rows]


# They are found.


def test_a_token_is_shown_with_its_refused_row_and_the_record_of_the_fix(desk: LoadingDesk) -> None:
    desk.load([token(0), token(1, otp1="12")], "july")
    reason = desk.refused[0].reason

    (history,) = read_histories(desk.database, "made000001")

    assert (history.serial_number, history.records) == ("MADE000001", [])
    (line,) = history.refused
    assert describe_refused(line) == f"Row 3 of july was refused: {reason}"
    assert history.to_json()["refused"][0]["reason"] == "otps_unfit"
    desk.load([token(1)], "july-fixed")
    (history,) = read_histories(desk.database, "MADE000001")
    assert [record.batch.name for record in history.records] == ["july-fixed"]
    assert [line.batch for line in history.refused] == ["july"]


@pytest.mark.parametrize(
    ("sought", "rows"),
    [
        (Sought(text="MADE000001"), [3]),
        (Sought(text="made"), [3, 4]),
        (Sought(status=REFUSED), [3, 4, 5]),
        (Sought(batch="july"), [3, 4, 5]),
        (Sought(batch="june"), []),
        (Sought(text="MADE", status="pending"), []),
        (Sought(text="MADE", reason="locked"), []),
        (Sought(text="MADE", user="alice"), []),
    ],
)
def test_a_search_finds_refused_rows(desk: LoadingDesk, sought: Sought, rows: list[int]) -> None:
    make_batch(desk.database, name="june")
    desk.load([token(0), token(1, otp1="12"), token(2, otp1="12"), token(3, serial="")], "july")

    findings = search(desk.database, sought, 50)

    assert [line.row_number for line in findings.refused] == rows
    assert (findings.more, [line["row"] for line in findings.to_json()["refused"]]) == (0, rows)


def test_a_search_lists_no_more_refused_rows_than_it_has_room_for(desk: LoadingDesk) -> None:
    desk.load([token(0), *(token(number, otp1="") for number in range(1, 6))], "july")

    findings = search(desk.database, Sought(text="MADE"), 3)

    assert (len(findings.found), len(findings.refused), findings.more) == (1, 2, 3)
