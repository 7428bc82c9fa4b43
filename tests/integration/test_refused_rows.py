"""Rows that are refused at loading are kept, without a secret, and found again; on both databases."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from support.data.batches import count, make_batch
from support.data.loading import LoadingDesk, Token, earlier, token
from support.data.moving_clock import MovingDatabase

from models.encrypted import Keyring
from models.record import Record
from models.record_states import Status
from models.refused_row import REFUSED, RefusedRow
from models.row_fault import RowFault
from worker.batches.loading import CHUNK
from worker.reports.export import export
from worker.reports.facts import BatchStatus, read_statuses
from worker.reports.search import Sought, search
from worker.reports.sentences import describe_refused
from worker.reports.token_history import read_histories

MALFORMED = {"otp1": "12"}


@pytest.fixture
def desk(database: MovingDatabase, keyring: Keyring, tmp_path: Path) -> LoadingDesk:
    return LoadingDesk(database, keyring, tmp_path)


def kept(desk: LoadingDesk) -> Sequence[Any]:
    with desk.database.reading() as connection:
        return connection.execute(select(RefusedRow.__table__).order_by(RefusedRow.id)).all()


def read(desk: LoadingDesk, name: str = "july") -> BatchStatus:
    (status,) = read_statuses(desk.database, name)
    return status


def end(desk: LoadingDesk, batch_id: int, status: Status = Status.ACTIVE) -> None:
    """All records of a batch end so, one arrow after the other; those that shall be pending stay as they are."""
    if status == Status.PENDING:
        return
    steps: list[dict[str, Any]] = [{"status": Status.QUEUED}, {"status": Status.ACTIVATING, "lease_id": "lease"}]
    steps.append({"status": status, "lease_id": None, "finalized_at": desk.database.now()})
    with desk.database.writing() as connection:
        for step in steps:
            connection.execute(update(Record).where(Record.batch_id == batch_id).values(step))


# What is kept.


def test_a_refused_row_is_kept_with_its_number_its_token_and_why(desk: LoadingDesk) -> None:
    loaded = desk.load([token(0), token(1, otp1="12"), token(0), token(3, serial="no serial!")], "july")

    rows = [(row.row_number, row.serial_number, row.reason) for row in kept(desk)]
    assert rows == [
        (3, "MADE000001", RowFault.OTPS_UNFIT),
        (4, "MADE000000", RowFault.REPEATED),
        (5, None, RowFault.SERIAL_UNFIT),
    ]
    assert [row.detail for row in kept(desk)] == [error.reason for error in desk.refused]
    assert {(row.batch_id, row.environment_id) for row in kept(desk)} == {(loaded.batch_id, "tenant-1")}


def test_nothing_of_a_refused_row_can_be_an_otp(desk: LoadingDesk) -> None:
    """Whatever column it stands in."""
    otps = ["13572468", "24681357", "97531864"]
    desk.load(
        [
            token(0),
            token(1, serial=otps[0], otp1="MADE1", otp2=otps[1]),
            token(2, otp1=otps[0], otp2=otps[1] + "x"),
            token(3, user_id=otps[2]),
            token(4, serial=otps[2], otp1="", otp2="", oathbulk_row="batch 900 row 2"),
        ],
        "july",
    )

    written = repr([tuple(row) for row in kept(desk)])
    assert count(desk.database, RefusedRow) == 4
    assert not [otp for otp in otps if otp in written]


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
    path = desk.write(tokens, "july.csv")
    told = []

    def break_off(what: str, rows: int, _: int | None = None) -> None:
        told.append(rows)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.load_file(path, "july", on_progress=break_off)
    assert told == [CHUNK]
    assert count(desk.database, RefusedRow) == 0

    loaded = desk.load_file(path, "july")
    assert not desk.load_file(path, "july").is_new
    assert [row.row_number for row in kept(desk)] == [number + 2 for number in range(0, len(tokens), 3)]
    assert loaded.rows_refused == count(desk.database, RefusedRow)


def test_a_file_of_which_nothing_is_loaded_leaves_no_refused_row(desk: LoadingDesk) -> None:
    with pytest.raises(Exception, match="not one of its 2 rows"):
        desk.load([token(0, **MALFORMED), token(1, **MALFORMED)], "july")
    assert count(desk.database, RefusedRow) == 0


# The counts are the rows of the file.


def good(number: int) -> list[Token]:
    return [token(n) for n in range(10, 10 + number)]


FILES = {
    "only good ones": good(5),
    "some malformed": [*good(3), token(1, otp1=""), token(2, serial="")],
    "one twice": [*good(3), token(10), token(5, device_id=token(11)["device_id"])],
    "active before": [token(0, otp1="111111", otp2="222222"), *good(2), token(1, otp1="")],
    "more than a chunk": [token(n, **(MALFORMED if n % 7 == 0 else {})) for n in range(10, CHUNK + 50)],
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


def test_the_numbers_of_rows_that_an_earlier_version_refused_are_not_taken_for_none(desk: LoadingDesk) -> None:
    desk.load([token(0), token(1, **MALFORMED)], "july")
    with desk.database.writing() as connection:
        connection.execute(RefusedRow.__table__.delete())  # type: ignore[attr-defined]

    status = read(desk)

    assert (status.refused, status.rows_refused, status.rows, status.tokens_left) == (None, 1, 2, 2)


# What is left.


def exported_left(desk: LoadingDesk) -> list[tuple[str, str, str]]:
    text = io.StringIO(newline="")
    written = export(desk.database, "july", text, is_left=True)
    rows = list(csv.DictReader(io.StringIO(text.getvalue(), newline="")))
    assert len(rows) == written
    return [(row["serial"], row["status"], row["file_row"]) for row in rows]


def test_the_export_of_what_is_left_has_as_many_rows_as_the_status_says(desk: LoadingDesk) -> None:
    tokens = [token(0), token(1), token(2, otp1="12"), token(3, serial="")]
    end(desk, desk.load(tokens, "july").batch_id, Status.DEAD_LETTER)

    assert exported_left(desk) == [
        ("MADE000000", "dead_letter", "2"),
        ("MADE000001", "dead_letter", "3"),
        ("MADE000002", "refused", "4"),
        ("", "refused", "5"),
    ]
    assert (read(desk).tokens_left, read(desk).refused) == (4, {"otps_unfit": 1, "serial_unfit": 1})


def test_what_is_still_to_do_or_active_is_not_left_for_a_person(desk: LoadingDesk) -> None:
    made = [{"serial_number": f"MADE{n}", "status": status} for n, status in enumerate(Status)]
    make_batch(desk.database, made, name="july")
    assert {status for _, status, _ in exported_left(desk)} == {Status.DEAD_LETTER, Status.CANCELLED}


# They are found.


def test_a_token_of_which_only_a_refused_row_is_there_is_shown(desk: LoadingDesk) -> None:
    desk.load([token(0), token(1, otp1="12")], "july")

    (history,) = read_histories(desk.database, "made000001")

    assert (history.serial_number, history.records) == ("MADE000001", [])
    (line,) = history.refused
    assert describe_refused(line) == f"Row 3 of july was refused: {desk.refused[0].reason}"
    assert history.to_json()["refused"][0]["reason"] == "otps_unfit"


def test_a_token_is_shown_with_its_refused_row_and_the_record_of_the_fix(desk: LoadingDesk) -> None:
    desk.load([token(0), token(1, otp1="12")], "july")
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
