"""`oathbulk audit`: what persons typed, on which ticket, and whether somebody changed what it says since. How lines are
chained is in integration/test_audit.py."""

import hashlib
import re
import sqlite3
from contextlib import closing

import pytest

from worker.simulator.shipment import make_shipment

SHIPMENT = make_shipment(4)
TICKET = ("--ticket", "CHG-4711 [urgent]")


@pytest.fixture
def desk(desk):
    SHIPMENT.write_pairs(desk.folder / "shipment.csv")
    return desk


def tamper(database, statement):
    """As somebody does who has the file."""
    with closing(sqlite3.connect(database)) as connection, connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE tbl_name = 'audit' AND type = 'trigger'")
        for (name,) in triggers.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)


def test_every_command_of_a_person_is_told_with_who_and_why_and_its_head_is_noted_unasked(desk):
    desk.settings["OATHBULK_ACTOR"] = "alice"
    assert desk.oathbulk("load", "shipment.csv", "--canary", "2", *TICKET).code == 0
    for words in (("pause", "shipment"), ("resume", "shipment"), ("pace", "--adapt")):
        assert desk.oathbulk(*words, *TICKET).code == 0
    assert desk.oathbulk("export", "shipment", "-o", "otps.csv", "--with-otps", *TICKET).code == 0
    del desk.settings["OATHBULK_ACTOR"]
    assert desk.oathbulk("cancel", "shipment", LOGNAME="bob").code == 0

    audited = desk.oathbulk("audit", "--json")
    assert (audited.code, audited.json["broken"]) == (0, None)
    lines = audited.json["lines"]
    assert [(line["actor"], line["action"], line["ticket"], line["batch"]) for line in lines] == [
        *(("alice", action, TICKET[1], "shipment") for action in ("load", "pause", "resume")),
        ("alice", "pace", TICKET[1], None),
        ("alice", "export --with-otps", TICKET[1], "shipment"),
        ("bob", "cancel", None, "shipment"),
    ]
    digest = hashlib.sha256((desk.folder / "shipment.csv").read_bytes()).hexdigest()
    load = {"file": "shipment.csv", "sha256": digest, "canary": 2, "window": None, "environment": "default"}
    load |= {"total": 4, "rows_refused": 0}
    assert (lines[0]["facts"], lines[4]["facts"]) == (load, {"file": "otps.csv"})
    text = desk.oathbulk("audit").stdout
    # Each line is whole, in a pipe too; and the last hash is there to be noted elsewhere.
    assert re.search(
        r"^1 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +alice +load +shipment +CHG-4711 \[urgent\] +file=shipment\.csv, "
        rf"sha256={digest}, canary=2, environment=default, total=4, rows_refused=0$",
        text,
        re.M,
    )
    assert text.splitlines()[-1] == f"The last line's hash: {lines[-1]['hash']}"
    otps = {otp for row in SHIPMENT.rows for otp in (row.otp1, row.otp2)}
    assert not [otp for otp in otps if re.search(rf"(?<![0-9a-f]){otp}(?![0-9a-f])", text + audited.stdout)]

    heads = (desk.home / "audit.heads").read_text()
    assert [line.split()[:2] for line in heads.splitlines()] == [[str(line["id"]), line["hash"]] for line in lines]


def test_heads_that_were_noted_are_looked_for_and_what_is_gone_or_was_changed_is_named(desk):
    for words in (("load", "shipment.csv"), ("pause", "shipment")):
        assert desk.oathbulk(*words).code == 0
    lines = desk.oathbulk("audit", "--json").json["lines"]
    heads = desk.home / "audit.heads"
    verified = {
        str(heads): "Looked for 2 saved heads: all are",
        lines[1]["hash"]: "Looked for 1 saved head: it is",
        f"1:{lines[0]['hash']}": "Looked for 1 saved head: it is",
    }
    for head, told in verified.items():
        result = desk.oathbulk("audit", "--verify", head)
        assert (result.code, result.stderr, f"{told} in the audit." in result.stdout) == (0, "", True)
    assert desk.oathbulk("audit", "--verify", "no such file").code == 2

    tamper(desk.home / "oathbulk.db", "DELETE FROM audit WHERE id = 2")

    # The chain alone shows nothing; what was noted does, without being asked for.
    gone = f"{lines[1]['hash']}: line 2 was cut off: the audit ends with line 1."
    for options in ((), ("--verify", str(heads)), ("shipment",)):
        cut = desk.oathbulk("audit", *options)
        told = ("1 of 2 saved heads is not in the audit anymore" in cut.stderr, gone in cut.stderr)
        assert (cut.code, *told) == (1, True, True)
    rewritten = desk.oathbulk("audit", "--verify", f"1:{'0' * 64}", "--json")
    why = "line 1 was rewritten after its head was saved"
    assert (rewritten.code, rewritten.json["missing_heads"]) == (1, [{"line": 1, "hash": "0" * 64, "why": why}])

    # Heads that cannot be read are told, and hide no line.
    heads.write_text("1 abc")
    unread = desk.oathbulk("audit")
    assert (unread.code, " load " in unread.stdout) == (0, True)
    assert unread.stderr.startswith(f"Not compared with the saved heads: line 1 of {heads}")

    tamper(desk.home / "oathbulk.db", "UPDATE audit SET at = 'once upon a time', facts = '[1]' WHERE id = 1")
    changed = desk.oathbulk("audit")
    assert (changed.code, "broken at line 1: the line cannot be read." in changed.stderr) == (1, True), changed.stderr


def test_doctor_says_where_heads_go_and_finds_a_place_that_takes_none_and_a_line_that_was_changed(desk):
    desk.settings["OATHBULK_DATABASE_URL"] = f"sqlite:///{desk.folder / 'own.db'}"
    desk.settings["OATHBULK_ENCRYPTION_KEYS"] = desk.oathbulk("keygen").stdout.strip()
    for words in (("db", "upgrade"), ("load", "shipment.csv")):
        assert desk.oathbulk(*words).code == 0

    def examine(**settings):
        checks = desk.oathbulk("doctor", "--json", **settings).json["checks"]
        return {check["check"]: (check["is_well"], check["detail"]) for check in checks}

    heads = str(desk.folder / "heads")
    assert examine()["audit"] == (
        True,
        "lines are chained; heads are not saved: name a file in OATHBULK_AUDIT_HEAD",
    )
    assert examine(OATHBULK_AUDIT_HEAD=heads)["audit"] == (True, f"lines are chained; heads are saved in {heads}")
    for unfit in (str(desk.folder / "no" / "heads"), str(desk.folder)):
        assert examine(OATHBULK_AUDIT_HEAD=unfit)["audit"] == (False, f"heads cannot be saved in {unfit}")
    is_well, told = examine(OATHBULK_ENCRYPTION_KEYS=desk.oathbulk("keygen").stdout.strip())["keys"]
    assert (is_well, "the key that encrypted this record is not among" in told) == (False, True)

    tamper(desk.folder / "own.db", "UPDATE audit SET actor = 'somebody else' WHERE id = 1")

    assert examine()["audit"] == (False, "line 1: the line, or the one before it, was changed")
