"""`oathbulk purge`, as it is typed when a shipment is long done; and every other command on a batch that is gone."""

from __future__ import annotations

import csv
import re
import sqlite3
from contextlib import closing

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.processes.command_desk import copy_to, run_to_the_end
from support.processes.waiting import wait_until

TICKET = ("--ticket", "CHG-4711")
OLD = "UPDATE record SET finalized_at = datetime(finalized_at, '-100 days') || '.000000'"
LOADED = "UPDATE batch SET created_at = datetime(created_at, '-101 days') || '.000000'"
PEOPLE = {"username": "lea.santos", "email": "lea@example.org"}


def age(folder) -> None:
    """What was done here was done a hundred days ago."""
    with closing(sqlite3.connect(folder / ".oathbulk" / "oathbulk.db")) as database:
        database.execute(OLD)
        database.execute(LOADED)
        database.commit()


def read_home(desk) -> bytes:
    return b"".join(path.read_bytes() for path in desk.home.glob("oathbulk.db*"))


def told(result) -> str:
    return " ".join((result.stdout + result.stderr).split())


# Commands on a batch that need its records.
NEED_RECORDS = (
    "pause shipment",
    "resume shipment",
    "cancel shipment",
    "replay shipment",
    "export shipment -o out.csv",
    "export shipment -o out.csv --hand-out",
    "report shipment -o out.html",
    "verify shipment",
    "undo shipment",
    "show --batch shipment",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    tokens = make_tokens(4, wrong=1)
    columns = {name: [f"{number}.{value}" for number in range(4)] for name, value in PEOPLE.items()}
    folder = run_to_the_end(tmp_path_factory.mktemp("finished"), tokens, **columns)
    age(folder)
    return folder, tokens


@pytest.fixture
def ended(set_up, finished):
    """A batch of four, the last of which was refused, a hundred days ago."""
    folder, tokens = finished
    desk, pingone = set_up(tokens)
    copy_to(desk, folder)
    return desk, tokens, pingone


@pytest.fixture
def purged(ended):
    desk, tokens, pingone = ended
    assert desk.oathbulk("purge", "--older-than", "90d", "--with-dead-letters", "--yes", *TICKET).code == 0
    return desk, tokens, pingone


def test_nothing_goes_without_yes_and_what_stays_is_told_with_the_cure(ended) -> None:
    desk, tokens, _ = ended

    kept = desk.oathbulk("purge", "--older-than", "90d")
    shown = desk.oathbulk("purge", "--older-than", "90d", "--with-dead-letters")

    assert (kept.code, shown.code) == (0, 0), kept.stderr
    assert (
        "shipment: stays, 4 records (3 active, 1 dead_letter): 1 dead letter waits for a person: replay or "
        "mend it, or give it up with --with-dead-letters." in told(kept)
    )
    assert "shipment: would be purged, 4 records (3 active, 1 dead_letter); it ended on " in shown.stdout
    assert "Nothing was changed." in shown.stdout
    assert tokens[0].serial.encode() in read_home(desk)
    assert [line["action"] for line in desk.oathbulk("audit", "--json").json["lines"]] == ["load"]


def test_a_purge_leaves_the_outcome_and_the_audit_and_nothing_about_tokens_or_people(purged) -> None:
    desk, tokens, _ = purged

    status = desk.oathbulk("status", "shipment")
    assert re.search(r"Purged on \d{4}-\d\d-\d\d; 3 active, 1 dead letter\.", told(status))
    told_json = desk.status()
    assert (told_json["total"], told_json["counts"]["active"], told_json["dead_letters"]) == (4, 3, {"invalid_otp": 1})
    assert told_json["purged_at"] is not None
    assert "Purged on" in desk.oathbulk("status").stdout
    load, purge = desk.oathbulk("audit", "shipment", "--json").json["lines"]
    assert (load["action"], purge["action"], purge["ticket"]) == ("load", "purge", TICKET[1])
    assert purge["facts"]["records"] == 4
    left = read_home(desk)
    secrets = [
        *(value for token in tokens for value in (token.serial, token.user_id, token.device_id)),
        *(f"{number}.{value}" for number in range(4) for value in PEOPLE.values()),
    ]
    assert [secret for secret in secrets if secret.encode() in left] == []
    assert [otp for token in tokens for otp in token.otps if otp.encode() in left] == []


def test_what_needs_its_records_says_that_they_are_gone(purged) -> None:
    desk, *_ = purged
    for command in NEED_RECORDS:
        refused = desk.oathbulk(*command.split())

        assert refused.code == 2, (command, refused.stdout)
        assert "batch 'shipment' was purged on " in refused.stderr, command
        assert "its records are gone, and with them the ids of what it made in PingOne." in told(refused), command
        assert [line for line in refused.stderr.splitlines() if "purged" in line] == [
            line for line in refused.stderr.splitlines() if line.startswith("oathbulk:")
        ], command
        assert not list(desk.folder.glob("out.*")), command


def test_the_file_that_comes_again_is_known_and_sends_nothing(purged) -> None:
    desk, _, pingone = purged
    posts = pingone.times_posted().total()

    loaded = desk.oathbulk("load", "shipment.csv")
    assert "This file is batch shipment already: 4 records, and was purged on " in told(loaded)
    ran = desk.oathbulk("run", "shipment.csv")
    assert (ran.code, "Purged on " in ran.stdout) == (1, True), told(ran)
    assert pingone.times_posted().total() == posts


@pytest.mark.parametrize(
    "arguments",
    [(), ("--older-than", "90"), ("--older-than", "0d"), ("--older-than", "90d", "--person", "lea"), ("--person", " ")],
)
def test_what_is_not_said_clearly_is_refused(desk, arguments) -> None:
    refused = desk.oathbulk("purge", *arguments)

    assert (refused.code, "Traceback" in refused.stderr) == (2, False)
    assert "--older-than" in refused.stderr or "--person" in refused.stderr


def test_a_person_is_erased_by_name_and_the_audit_does_not_say_who(ended) -> None:
    desk, _, _ = ended

    shown = desk.oathbulk("purge", "--person", "1.LEA.santos")
    assert "shipment: the names in 1 record would be erased." in shown.stdout
    erased = desk.oathbulk("purge", "--person", "1.lea.santos", "--yes", *TICKET)

    assert erased.code == 0, erased.stderr
    line = desk.oathbulk("audit", "--json").json["lines"][-1]
    assert (line["action"], line["batch"], line["ticket"]) == ("erase", None, TICKET[1])
    assert "1.lea" not in str(line["facts"]).lower()
    assert "No record is like that." in desk.oathbulk("show", "--user", "1.lea").stdout
    left = read_home(desk)
    assert (b"1.lea.santos" in left, b"1.lea@example.org" in left, b"2.lea.santos" in left) == (False, False, True)
    assert desk.oathbulk("export", "shipment", "-o", "out.csv").code == 0
    with (desk.folder / "out.csv").open() as file:
        assert [row["username"] for row in csv.DictReader(file)] == ["0.lea.santos", "", "2.lea.santos", "3.lea.santos"]


@pytest.mark.faults
def test_a_batch_is_purged_while_another_is_at_work(set_up) -> None:
    tokens = make_tokens(8)
    desk, pingone = set_up(tokens)
    write_shipment(desk.folder / "old.csv", tokens[:4])
    write_shipment(desk.folder / "new.csv", tokens[4:])
    assert desk.oathbulk("run", "old.csv").code == 0
    age(desk.folder)
    pingone.hold_after(0)
    running = desk.start("run", "new.csv")
    wait_until(lambda: pingone.held or not running.is_alive, 60, "calls are under way")
    purged = desk.oathbulk("purge", "--older-than", "90d", "--yes")
    pingone.let_go()
    assert "old: purged, 4 records (4 active)" in purged.stdout, purged.stderr
    assert running.wait().code == 0
    assert desk.status("new")["counts"]["active"] == 4
