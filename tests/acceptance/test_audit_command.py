"""`oathbulk audit`: what persons typed, on which ticket, and whether somebody changed what it says since."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from contextlib import closing

from worker.simulator.shipment import make_shipment

SHIPMENT = make_shipment(4)
TICKET = ("--ticket", "CHG-4711 [urgent]")


def read(desk, *arguments):
    """The lines, and what is broken."""
    result = desk.oathbulk("audit", "--json", *arguments)
    return result.code, result.json["lines"], result.json["broken"]


def tamper(desk, statement):
    """As somebody does who has the file."""
    with closing(sqlite3.connect(desk.home / "oathbulk.db")) as connection, connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE tbl_name = 'audit' AND type = 'trigger'")
        for (name,) in triggers.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)


def test_every_command_of_a_person_is_told_with_who_and_why(desk):
    SHIPMENT.write_pairs(desk.folder / "shipment.csv")
    desk.settings["OATHBULK_ACTOR"] = "alice"
    assert desk.oathbulk("load", "shipment.csv", "--canary", "2", *TICKET).code == 0
    assert desk.oathbulk("pause", "shipment", *TICKET).code == 0
    assert desk.oathbulk("resume", "shipment", *TICKET).code == 0
    assert desk.oathbulk("export", "shipment", "-o", "otps.csv", "--with-otps", *TICKET).code == 0
    del desk.settings["OATHBULK_ACTOR"]
    assert desk.oathbulk("cancel", "shipment", LOGNAME="bob").code == 0
    # What is refused leaves no line.
    refused = desk.oathbulk("pause", "shipment", "--ticket", "C" * 201)
    assert refused.code == 2
    assert "200 characters" in refused.stderr

    code, lines, broken = read(desk)

    assert (code, broken) == (0, None)
    assert [line["id"] for line in lines] == [1, 2, 3, 4, 5]
    done = [(line["actor"], line["action"], line["ticket"]) for line in lines]
    assert done == [
        *(("alice", action, TICKET[1]) for action in ("load", "pause", "resume", "export_with_otps")),
        ("bob", "cancel", None),
    ]
    assert {line["batch"] for line in lines} == {"shipment"}
    assert lines[0]["facts"] == {
        "file": "shipment.csv",
        "sha256": hashlib.sha256((desk.folder / "shipment.csv").read_bytes()).hexdigest(),
        "canary": 2,
        "window": None,
        "environment": "default",
        "total": 4,
        "rows_refused": 0,
    }
    assert [line["facts"] for line in lines[1:]] == [
        {},
        {"reason": "person"},
        {"file": "otps.csv"},
        {"records": 4},
    ]
    text = desk.oathbulk("audit").stdout
    # Each line is whole, in a pipe too; and the last hash is there to be noted elsewhere.
    first = next(line for line in text.splitlines() if line.startswith("1 "))
    assert re.fullmatch(
        r"1 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00 +alice +load +shipment +CHG-4711 \[urgent\] +file=shipment\.csv, "
        rf"sha256={lines[0]['facts']['sha256']}, canary=2, environment=default, total=4, rows_refused=0",
        first,
    )
    assert text.splitlines()[-1] == f"The last line's hash: {lines[-1]['hash']}"
    otps = {otp for row in SHIPMENT.rows for otp in (row.otp1, row.otp2)}
    assert not [otp for otp in otps if re.search(rf"(?<![0-9a-f]){otp}(?![0-9a-f])", text + json.dumps(lines))]


def test_whoever_changed_a_line_is_found_out(desk):
    SHIPMENT.write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv").code == 0
    assert desk.oathbulk("pause", "shipment").code == 0

    tamper(desk, "UPDATE audit SET actor = 'somebody else' WHERE id = 2")

    result = desk.oathbulk("audit")
    assert result.code == 1
    assert "broken at line 2: the line, or the one before it, was changed" in result.stderr
    assert "somebody else" in result.stdout
    tamper(desk, "UPDATE audit SET at = 'once upon a time', facts = '[1]' WHERE id = 1")
    assert desk.oathbulk("audit").stderr == "The audit is broken at line 1: the line cannot be read.\n"
    tamper(desk, "DELETE FROM audit WHERE id = 1")
    code, _, broken = read(desk, "shipment")
    assert (code, broken) == (1, {"line": 1, "why": "the line is missing"})
