"""`oathbulk audit`: what persons typed, on which ticket, and whether somebody changed what it says since."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from contextlib import closing

from support.data.tokens import make_tokens

from worker.simulator.shipment import make_shipment

SHIPMENT = make_shipment(4)
TICKET = ("--ticket", "CHG-4711 [urgent]")


DATABASE = "OATHBULK_DATABASE_URL"


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
        r"1 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +alice +load +shipment +CHG-4711 \[urgent\] +file=shipment\.csv, "
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


def test_a_batch_that_does_not_exist_is_wrong_usage(desk):
    SHIPMENT.write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv").code == 0
    for arguments in (("audit", "NOSUCH"), ("audit", "NOSUCH", "--json")):
        refused = desk.oathbulk(*arguments)
        assert refused.code == 2
        assert "no batch is named 'NOSUCH'" in refused.stderr


def test_the_home_has_a_key_and_heads_without_being_asked(desk):
    SHIPMENT.write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv", "--share", "60%", *TICKET).code == 0
    assert desk.oathbulk("pace", "--adapt", *TICKET).code == 0

    result = desk.oathbulk("audit", "--json").json
    told = desk.oathbulk("audit").stdout

    actions = [(line["action"], line["batch"], line["ticket"]) for line in result["lines"]]
    assert actions == [("load", "shipment", TICKET[1]), ("pace", None, TICKET[1]), ("pace", None, TICKET[1])]
    assert (result["authenticated_from"], result["is_authenticity_checked"]) == (1, True)
    assert "Lines 1 to 3 are authenticated." in told
    assert (desk.home / "audit.key").stat().st_mode & 0o777 == 0o600
    noted = [line.split()[:2] for line in (desk.home / "audit.heads").read_text().splitlines()]
    assert noted == [[str(line["id"]), line["hash"]] for line in result["lines"]]
    key = (desk.home / "audit.key").read_text().strip()
    assert key not in (desk.home / "audit.heads").read_text() + json.dumps(result) + told


def test_heads_that_were_noted_are_looked_for_and_what_is_gone_is_named(desk):
    SHIPMENT.write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv").code == 0
    assert desk.oathbulk("pause", "shipment").code == 0
    _, lines, _ = read(desk)
    heads = str(desk.home / "audit.heads")
    for head in (heads, lines[1]["hash"], f"1:{lines[0]['hash']}"):
        verified = desk.oathbulk("audit", "--verify", head)
        assert (verified.code, verified.stderr) == (0, "")
        all_are = (
            "2 noted heads were looked for, and all are" if head == heads else "1 noted head was looked for, and is"
        )
        assert f"{all_are} in the audit." in verified.stdout

    tamper(desk, "DELETE FROM audit WHERE id = 2")

    # The chain alone shows nothing; what was noted does, without being asked for.
    for options in ((), ("--verify", heads), ("shipment",)):
        cut = desk.oathbulk("audit", *options)
        assert cut.code == 1
        assert "1 of 2 noted heads is not in the audit any more" in cut.stderr
        assert f"{lines[1]['hash']}: line 2 was cut off: the audit ends with line 1." in cut.stderr
    told = desk.oathbulk("audit", "--json")
    assert (told.code, told.json["heads"], [each["line"] for each in told.json["missing_heads"]]) == (1, 2, [2])
    told = desk.oathbulk("audit", "--verify", f"1:{'0' * 64}", "--json")
    assert told.code == 1
    why = "line 1 was rewritten after its head was noted"
    assert told.json["missing_heads"] == [{"line": 1, "hash": "0" * 64, "why": why}]
    unusable = desk.oathbulk("audit", "--verify", "no such file")
    assert unusable.code == 2
    assert "HASH or ID:HASH" in unusable.stderr


def test_heads_that_cannot_be_read_are_told_and_hide_no_line(desk):
    SHIPMENT.write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv").code == 0
    heads = desk.home / "audit.heads"
    audited = desk.oathbulk("audit")
    assert (audited.code, audited.stderr) == (0, "")
    assert "1 noted head was looked for, and is in the audit." in audited.stdout

    for content, why in (("1 abc", "line 1 of"), ("", "is empty"), (None, "No such file or directory")):
        heads.unlink()
        if content is not None:
            heads.write_text(content)
        audited = desk.oathbulk("audit")
        assert (audited.code, audited.stderr.count("\n")) == (0, 1)
        assert audited.stderr.startswith("Not compared with the noted heads: ")
        assert why in audited.stderr
        assert str(heads) in audited.stderr
        assert " load " in audited.stdout
        heads.touch()


def test_a_file_that_takes_no_head_is_told_and_the_command_is_done(desk):
    SHIPMENT.write_pairs(desk.folder / "shipment.csv")
    place = desk.folder / "nowhere" / "heads"
    desk.settings["OATHBULK_AUDIT_HEAD"] = str(place)

    loaded = desk.oathbulk("load", "shipment.csv", "--json")

    assert loaded.code == 0
    assert loaded.json["is_new"]
    assert f"The head of the audit (line 1) could not be noted in {place}" in loaded.stderr
    assert "set OATHBULK_AUDIT_HEAD to another" in loaded.stderr
    assert len(read(desk)[1]) == 1


def test_a_key_file_that_was_lost_is_not_replaced(desk):
    SHIPMENT.write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv").code == 0
    (desk.home / "audit.key").rename(desk.folder / "backup")

    for command in (("pause", "shipment"), ("audit",)):
        refused = desk.oathbulk(*command)
        assert refused.code == 3
        assert "audit.key is missing: put it back" in refused.stderr
    assert desk.oathbulk("status", "--json").json["batches"][0]["state"] == "running"

    (desk.folder / "backup").rename(desk.home / "audit.key")
    assert read(desk)[::2] == (0, None)


def test_a_database_of_ones_own_without_a_key_is_told_and_with_one_its_lines_are_told_apart(desk):
    SHIPMENT.write_pairs(desk.folder / "shipment.csv")
    desk.settings[DATABASE] = f"sqlite:///{desk.folder / 'own.db'}"
    desk.settings["OATHBULK_ENCRYPTION_KEYS"] = desk.oathbulk("keygen").stdout.strip()
    assert desk.oathbulk("db", "upgrade").code == 0
    assert desk.oathbulk("load", "shipment.csv").code == 0
    unprotected = "ines are chained but not authenticated: set OATHBULK_AUDIT_KEY to a key made with `oathbulk keygen`"
    assert unprotected in desk.oathbulk("audit").stdout
    checks = desk.oathbulk("doctor", "--json").json["checks"]
    (detail,) = [check["detail"] for check in checks if check["check"] == "audit"]
    assert unprotected in detail
    assert "OATHBULK_AUDIT_HEAD" in detail

    key = desk.oathbulk("keygen").stdout.strip()
    assert "No line is authenticated yet" in desk.oathbulk("audit", OATHBULK_AUDIT_KEY=key).stdout
    assert desk.oathbulk("pause", "shipment", OATHBULK_AUDIT_KEY=key).code == 0

    told = desk.oathbulk("audit", OATHBULK_AUDIT_KEY=key).stdout
    assert "Lines 1 to 1 were written before there was an audit key" in told
    assert "Lines 2 to 2 are authenticated." in told
    assert "an authentication that was not checked" in desk.oathbulk("audit").stdout
    refused = desk.oathbulk("resume", "shipment")
    assert refused.code == 3
    assert "OATHBULK_AUDIT_KEY is not set, but line 2" in refused.stderr


def test_a_rotation_of_keys_is_told(desk):
    SHIPMENT.write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv").code == 0
    old, new = (desk.home / "encryption.key").read_text().strip(), desk.oathbulk("keygen").stdout.strip()
    desk.settings["OATHBULK_ENCRYPTION_KEYS"] = f"{new},{old}"

    assert desk.oathbulk("db", "reencrypt", *TICKET).code == 0

    line = read(desk)[1][-1]
    assert (line["action"], line["batch"], line["ticket"]) == ("reencrypt", None, TICKET[1])
    assert line["facts"] == {"records": 4}


def test_times_are_in_utc_and_lists_are_written_as_words(set_up):
    desk, pingone = set_up(make_tokens(2))
    pingone.tenant["deviceAuthenticationPolicies"] = {"oathToken": {"enabled": True, "otp": {"failure": {"count": 2}}}}
    assert desk.oathbulk("load", "shipment.csv", "--accept", "locks_early").code == 0
    told = desk.oathbulk("audit").stdout
    assert "when (UTC)" in told.splitlines()[0]
    assert "accepted=locks_early" in told
    assert ("[" in told, "+00:00" in told) == (False, False)
