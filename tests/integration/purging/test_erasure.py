"""A person's names are erased from what is final, and the audit does not name the person, on both databases."""

from __future__ import annotations

import io
import json

import pytest
from support.data.audit_lines import read
from support.data.batches import TESTER
from support.data.loading import ACTIVE, REFUSED, PurgeDesk, Token, file_bytes, token

from models.person import NAMES, PERSON
from worker.batches.commands import Batches
from worker.pingone.users import UserAttribute
from worker.purging import Erasure
from worker.reports.export import write_hand_out
from worker.reports.search import Sought, name_user, search

LEA = {"username": "lea.santos", "email": "Lea@example.org", "external_id": "E-4711", "Carton": "box of Lea"}
TOM = {"username": "tom", "email": "tom@example.org", "external_id": "E-4712", "Carton": "box of Tom"}


def tokens(count: int) -> list[Token]:
    """Lea's tokens, and one of Tom's at the end."""
    return [*(token(number, **LEA) for number in range(count)), token(99, **TOM)]


def erasure(desk: PurgeDesk) -> Erasure:
    return Erasure(desk.database, TESTER)


@pytest.mark.parametrize("name", ["lea.santos", "LEA.Santos", "lea@example.org", "E-4711", token(0)["user_id"]])
def test_a_person_is_found_by_each_name_and_erased_from_what_is_final(desk: PurgeDesk, name: str) -> None:
    loaded = desk.load(tokens(1), ACTIVE, ACTIVE)
    assert erasure(desk).examine(name).batches == {"july": 1}
    assert "lea.santos" in desk.read_everything()

    erased = erasure(desk).erase(name)

    assert (erased.batches, erased.in_progress) == ({"july": 1}, [])
    everything = desk.read_everything()
    assert [each for each in LEA.values() if each in everything] == []
    assert [each for each in TOM.values() if each not in everything] == []
    record = desk.desk.records(loaded)[0]
    # What an unpairing and a verification need stays.
    assert (record.status, record.user_id) == ("active", token(0)["user_id"])


@pytest.mark.parametrize("name", PERSON)
def test_whatever_names_a_person_is_loaded_looked_up_searched_handed_out_and_erased(desk: PurgeDesk, name: str) -> None:
    row = token(0, **{each: f"lea.{each}" for each in NAMES})
    desk.load([row], ACTIVE)
    assert {attribute.column for attribute in UserAttribute} == set(NAMES)
    assert [name_user(found) for found in search(desk.database, Sought(user=row[name]), 10).found] == ["lea.username"]
    hand_out = io.StringIO()
    write_hand_out(desk.database, "july", hand_out)
    assert row[name] in hand_out.getvalue()

    erasure(desk).erase(row[name])

    assert "lea." not in desk.read_everything()


@pytest.mark.parametrize(
    ("stored", "given"),
    [
        ("Änne.Öz", "änne.öz"),
        ("Änne.Öz", "ÄNNE.ÖZ"),
        ("ГАЛЯ%_", "галя%_"),
        ("STRASSE", "straße"),
        # Written as a letter and its accent, as some systems do.
        ("A\u0308nne", "änne"),
        ("änne", "A\u0308nne"),
    ],
)
def test_a_name_with_other_letters_than_english_ones_is_found_in_large_and_small(
    desk: PurgeDesk, stored: str, given: str
) -> None:
    desk.load([token(0, username=stored), token(1, username="Ännä.Öz"), token(2, username="галя%__")], *[ACTIVE] * 3)

    assert erasure(desk).erase(given).batches == {"july": 1}

    assert stored not in desk.read_everything()
    assert "Ännä.Öz" in desk.read_everything()


def test_the_audit_says_what_was_erased_and_never_whom(desk: PurgeDesk) -> None:
    desk.load(tokens(1), ACTIVE, ACTIVE)
    desk.load([token(7, **LEA)], ACTIVE, name="august")
    erasure(desk).erase("lea.santos")
    desk.load([token(8, **LEA)], ACTIVE, name="september")

    erasure(desk).erase("Lea.Santos")

    lines = [line for line in read(desk.database) if line.action == "erase"]
    assert [line.facts["records"] for line in lines] == [2, 1]
    assert [line.facts["batches"] for line in lines] == [["august", "july"], ["september"]]
    assert "lea" not in json.dumps([line.facts for line in lines]).lower()


def test_what_is_in_progress_keeps_its_names_and_is_named(desk: PurgeDesk) -> None:
    loaded = desk.load(tokens(2), ACTIVE)

    erased = erasure(desk).erase("lea.santos")

    assert (erased.batches, erased.in_progress) == ({"july": 1}, [(token(1)["serial"], "july")])
    assert [record.username for record in desk.desk.records(loaded)] == [None, "lea.santos", "tom"]


def test_what_was_given_up_does_not_go_again_for_an_erased_person(desk: PurgeDesk) -> None:
    loaded = desk.load(tokens(2), ACTIVE, REFUSED)
    Batches(desk.database, TESTER).cancel("july")
    assert [bool(record.otps) for record in desk.desk.records(loaded)] == [False, True, True]
    desk.load([token(7, **LEA)], name="august")
    Batches(desk.database, TESTER).cancel("august")

    erasure(desk).erase("lea.santos")

    assert Batches(desk.database, TESTER).replay("august").records == 0
    assert [bool(record.otps) for record in desk.desk.records(loaded)] == [False, False, True]


def test_nobody_is_erased_whose_name_only_begins_so(desk: PurgeDesk) -> None:
    desk.load(tokens(1), ACTIVE, ACTIVE)

    erased = erasure(desk).erase("lea")

    assert erased.batches == {}
    assert [line.action for line in read(desk.database)] == ["load"]


def test_sqlites_files_hold_no_name_any_more(desk: PurgeDesk) -> None:
    if not desk.database.is_sqlite:
        pytest.skip("PostgreSQL's files are its autovacuum's")
    desk.load(tokens(30), *[ACTIVE] * 31)
    assert b"lea.santos" in file_bytes(desk.desk.directory)

    erasure(desk).erase("lea.santos")

    found = file_bytes(desk.desk.directory)
    assert [name for name in LEA.values() if name.encode() in found] == []
    assert TOM["email"].encode() in found
