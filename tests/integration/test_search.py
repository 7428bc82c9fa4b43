"""The search for records, on both databases: what begins so is found, and the rest is counted."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, insert
from support.data.batches import ENVIRONMENT_ID, make_batch
from support.data.moving_clock import MovingDatabase

from models.reason import Reason
from models.record_states import Status
from models.refused_row import RefusedRow
from worker.batches.finding import UnknownBatch
from worker.reports import search as module
from worker.reports.search import Findings, Sought, count_others, name_user, search

DEVICE = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f"
USER = "3f0c8a52-8a4e-4f0e-9b1d-0c5a6e7f8091"
KNOWN: dict[str, Any] = {
    "serial_number": "ACME0017",
    "device_id": DEVICE,
    "user_id": USER,
    "username": "alice",
    "email": "Alice@example.test",
    "external_id": "E-4711",
    "lot": "L_7",
    "extra": {"Cost centre": "Basel%1", "note": None},
}


def serials(findings: Findings) -> list[str]:
    return [each.serial_number for each in findings.found]


@pytest.fixture
def two_batches(database: MovingDatabase) -> None:
    """One with a record of which all is known, and another with a dead letter and an active one."""
    make_batch(database, [KNOWN, {"serial_number": "ACME0018"}, {"serial_number": "OTHER1"}], name="july")
    make_batch(
        database,
        [
            {"serial_number": "ACME0019", "status": Status.DEAD_LETTER, "reason": Reason.LOCKED, "username": "bob"},
            {"serial_number": "OTHER2", "status": Status.ACTIVE, "email": "bob@example.test"},
        ],
        name="august",
    )


@pytest.mark.parametrize(
    "text",
    [
        *("ACME0017", "acme0017", DEVICE, DEVICE[:9], USER[:8].upper(), "alice", "ALI", "alice@exa", "E-47", "L_7"),
        *("basel", "Basel%1", "Basel%"),
    ],
)
@pytest.mark.usefixtures("two_batches")
def test_whatever_is_known_of_a_token_finds_it_by_its_beginning(database: MovingDatabase, text: str) -> None:
    assert serials(search(database, Sought(text=text), 50)) == ["ACME0017"]


@pytest.mark.parametrize("text", ["CME0017", "lice", "asel", "Cost centre", "B%1", "L%7", "E_47", "null", "ACME00170"])
@pytest.mark.usefixtures("two_batches")
def test_what_does_not_begin_so_is_not_found(database: MovingDatabase, text: str) -> None:
    assert search(database, Sought(text=text), 50) == Findings([], 0)


@pytest.mark.usefixtures("two_batches")
def test_a_beginning_finds_serial_numbers_and_names_alike(database: MovingDatabase) -> None:
    make_batch(database, [{"serial_number": "X1", "username": "acme-admin"}], name="names")

    findings = search(database, Sought(text="acme"), 50)

    assert serials(findings) == ["X1", "ACME0019", "ACME0017", "ACME0018"]
    assert (findings.more, findings.is_by_serial_number) == (0, False)


@pytest.mark.parametrize(
    ("sought", "found"),
    [
        (Sought(batch="july"), ["ACME0017", "ACME0018", "OTHER1"]),
        (Sought(status="dead_letter"), ["ACME0019"]),
        (Sought(reason="locked"), ["ACME0019"]),
        (Sought(user="BOB"), ["ACME0019", "OTHER2"]),
        (Sought(user=USER[:6]), ["ACME0017"]),
        (Sought(user="L_7"), []),
        (Sought(text="ACME", batch="august"), ["ACME0019"]),
        (Sought(text="ACME0017", batch="august"), []),
        (Sought(text="ACME0017", status="active"), []),
        (Sought(text="bob", status="active"), ["OTHER2"]),
        (Sought(), ["ACME0019", "OTHER2", "ACME0017", "ACME0018", "OTHER1"]),
    ],
)
@pytest.mark.usefixtures("two_batches")
def test_conditions_narrow_it_and_the_latest_batch_comes_first(
    database: MovingDatabase, sought: Sought, found: list[str]
) -> None:
    assert serials(search(database, sought, 50)) == found


@pytest.mark.usefixtures("two_batches")
def test_what_is_told_of_a_record(database: MovingDatabase) -> None:
    (found,) = search(database, Sought(text="alice"), 50).found

    assert (found.batch, found.row, found.environment, found.status, found.reason) == (
        *("july", 2, "default", "pending", None),
    )
    assert (found.user_id, found.username, found.email, found.external_id) == (
        *(USER, "alice", "Alice@example.test", "E-4711"),
    )
    assert (found.device_id, found.lot, name_user(found), found.finalized_at) == (DEVICE, "L_7", "alice", None)


@pytest.mark.parametrize(("limit", "more"), [(1, 4), (4, 1), (5, 0), (6, 0)])
@pytest.mark.usefixtures("two_batches")
def test_what_is_not_listed_is_counted(database: MovingDatabase, limit: int, more: int) -> None:
    findings = search(database, Sought(), limit)

    assert (len(findings.found), findings.more) == (5 - more, more)


@pytest.mark.usefixtures("two_batches")
def test_serial_numbers_that_fill_the_list_are_enough(database: MovingDatabase) -> None:
    """The index of serial numbers serves them, where the database sorts by the codes of characters."""
    findings = search(database, Sought(text="ACME"), 2)

    assert (serials(findings), findings.more, findings.is_by_serial_number) == (["ACME0019", "ACME0017"], 1, True)


@pytest.mark.parametrize("sorts_by_code", [True, False])
def test_a_whole_serial_number_is_enough_and_what_is_longer_is_found_with_it(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch, sorts_by_code: bool
) -> None:
    monkeypatch.setattr(module, "sorts_by_code", lambda _: sorts_by_code)
    longer = [{"serial_number": "ACME1"}, {"serial_number": "ACME12"}, {"serial_number": "X", "username": "acme1"}]
    make_batch(database, longer)

    findings = search(database, Sought(text="acme1"), 50)

    assert (serials(findings), findings.more, findings.is_by_serial_number) == (["ACME1", "ACME12"], 0, True)


@pytest.mark.usefixtures("two_batches")
def test_where_texts_are_sorted_as_a_language_does_the_same_is_found(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "sorts_by_code", lambda _: False)

    findings = search(database, Sought(text="ACME"), 2)

    assert (serials(findings), findings.more, findings.is_by_serial_number) == (["ACME0019", "ACME0017"], 1, False)


@pytest.mark.parametrize("value", ['say "so"', "back\\slash", "Zürich", "two\nlines"])
def test_a_value_is_found_whatever_characters_are_in_it(database: MovingDatabase, value: str) -> None:
    make_batch(database, extra={"note": value})

    assert len(search(database, Sought(text=value), 50).found) == 1
    assert len(search(database, Sought(text=value[:-1]), 50).found) == 1
    assert search(database, Sought(text=value + "!"), 50).found == []


def test_a_batch_that_is_not_there_is_named(database: MovingDatabase) -> None:
    with pytest.raises(UnknownBatch, match="'september'"):
        search(database, Sought(batch="september"), 50)


@pytest.mark.parametrize("sorts_by_code", [True, False])
def test_others_are_the_longer_serial_numbers_that_begin_so_each_counted_once(
    database: MovingDatabase, monkeypatch: pytest.MonkeyPatch, sorts_by_code: bool
) -> None:
    monkeypatch.setattr(module, "sorts_by_code", lambda _: sorts_by_code)
    serial_numbers = ("ACME1", "ACME10", "ACME11", "OTHER1", "1")
    make_batch(database, [{"serial_number": each, "status": Status.ACTIVE} for each in serial_numbers], name="july")
    make_batch(database, [{"serial_number": "ACME10", "device_id": "another"}], name="august")

    texts = ("ACME1", "acme1", "ACME10", "two words", "#1", DEVICE)
    assert [count_others(database, text) for text in texts] == [2, 2, 0, 0, 0, 0]


def test_a_token_is_named_if_all_that_was_found_is_of_it(database: MovingDatabase) -> None:
    columns = {"serial_number": "ACME1", "status": Status.ACTIVE}
    make_batch(database, [columns, {"serial_number": "OTHER1"}], name="july")
    later = make_batch(database, [columns | {"device_id": "another"}], name="august")
    refused = {"batch_id": later.batch_id, "environment_id": ENVIRONMENT_ID, "reason": "otps_unfit", "detail": "short"}
    with database.writing() as connection:
        rows = [
            refused | {"row_number": 7 + place, "serial_number": each} for place, each in enumerate(("ACME1", "NEW1"))
        ]
        connection.execute(insert(RefusedRow), rows)

    def name(text: str, limit: int = 50) -> str | None:
        return search(database, Sought(text=text), limit).name_only_token()

    assert (name("ACM"), name("NE"), name("OTH")) == (f"#{later.id}", "NEW1", "#2")
    # Another begins so; or what else is listed nobody knows.
    make_batch(database, serial_number="ACME1", name="there", environment="second", environment_id="other")
    assert (name("ACM"), name("A", 1), name("nothing")) == (None, None, None)


def test_serial_numbers_are_found_by_the_index_alone(database: MovingDatabase) -> None:
    make_batch(database, [{"serial_number": f"ACME{number:05}"} for number in range(3000)])
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    statements: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if "FROM record" in statement:
            statements.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        findings = search(database, Sought(text="ACME000"), 50)
    finally:
        event.remove(database.engine, "before_cursor_execute", note)

    assert (len(findings.found), findings.more) == (50, 50)
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
    with database.reading() as connection:
        for statement, parameters in statements:
            plan = "\n".join(str(row[-1]) for row in connection.exec_driver_sql(explain + statement, parameters))
            assert "ix_record_history" in plan, plan
