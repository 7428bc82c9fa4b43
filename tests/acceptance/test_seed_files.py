"""A vendor's file of seeds and a list of who gets what, as a person types it: what is found, what is missing."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from support.processes.waiting import wait_until

from worker.intake.formats.table import FORMATS

SAMPLES = Path(__file__).parents[1] / "samples" / "formats" / "pskc"
KEY = "00112233445566778899aabbccddeeff"
SECRET = "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"
USER, DEVICE = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3", "0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a0"
LIST = "serial;E-Mail;user_id;device_id;Site\n" + "".join(
    f"MADE000000{number};{name}@example.test;{USER}{number};{DEVICE}{number};Basel\n"
    for number, name in enumerate(("alice", "bob", "carol"), start=1)
)


@pytest.fixture
def box(desk):
    """The desk of a person who got an encrypted file, its key, and a list."""
    shutil.copy(SAMPLES / "pskc_psk_aes128cbc.xml", desk.folder / "box.xml")
    (desk.folder / "who.csv").write_text(LIST)
    key = desk.folder / "key.txt"
    key.write_text(f"{KEY}\n")
    key.chmod(0o600)
    return desk


def test_a_file_is_told_for_what_it_is_and_shows_no_digit_of_a_seed(box):
    result = box.oathbulk("inspect", "box.xml", "--key-file", "key.txt")
    assert result.code == 0
    assert "PSKC (RFC 6030)" in result.stdout
    assert "2 × HOTP seed, 6 digits" in result.stdout
    assert "20 bytes, SHA-256 " in result.stdout
    assert SECRET[:6] not in result.stdout.lower() + result.stderr.lower()
    kinds = box.oathbulk("inspect", "box.xml", "--key-file", "key.txt", "--json").json["kinds"]
    assert kinds == {"HOTP seed, 6 digits": 2, "TOTP seed, 6 digits, 30 s, SHA-1": 1}
    assert not box.home.exists()


def test_every_format_that_is_read_is_listed(box):
    names = [found["name"] for found in box.oathbulk("formats", "--json").json["formats"]]
    assert names == list(FORMATS)


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ([], "Give the key that the vendor sent apart from it, by --key-file"),
        (["--key-file", "who.csv"], "key"),
        (["--key-file", "gone.txt"], "cannot be read"),
    ],
)
def test_a_key_that_is_missing_or_wrong_is_asked_for(box, key, complaint):
    (box.folder / "who.csv").chmod(0o600)
    result = box.oathbulk("inspect", "box.xml", *key)
    assert result.code == 2
    assert complaint in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_a_key_that_every_user_can_read_is_refused(box):
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        key = Path(directory, "key.txt")
        key.write_text(KEY)
        key.chmod(0o644)
        result = box.oathbulk("inspect", "box.xml", "--key-file", str(key))
        assert result.code == 2
        assert "chmod 600" in result.stderr
        key.chmod(0o600)
        assert box.oathbulk("inspect", "box.xml", "--key-file", str(key)).code == 0


def test_a_check_of_the_files_alone_needs_no_pingone_and_gives_every_row_a_verdict(box):
    (box.folder / "who.csv").write_text(LIST.replace("MADE0000003", "MADE0000009"))
    command = ("check", "box.xml", "--key-file", "key.txt", "--assign", "who.csv", "--offline")
    asked = box.oathbulk(*command, "--json", "-o", "verdicts.csv")
    assert asked.code == 1
    assert asked.json["blocking"] == ["not_in_box"]
    levels = {finding["name"]: finding["level"] for finding in asked.json["findings"]}
    assert levels == {"rows_refused": "note", "unassigned": "note", "not_in_box": "ask", "presses_to_discard": "note"}
    with (box.folder / "verdicts.csv").open(newline="") as file:
        verdicts = {line["serial"]: line["verdict"] for line in csv.DictReader(file)}
    assert verdicts == {"MADE0000001": "ready", "MADE0000002": "ready", "MADE0000003": "refused"}
    assert (box.folder / "verdicts.csv").stat().st_mode & 0o077 == 0

    asked = box.oathbulk(*command)
    assert f"accept them: oathbulk {' '.join(command)} --accept not_in_box\n" in asked.stdout
    assert "row 2 (MADE0000003): " not in asked.stderr
    accepted = (*command, "--accept", "not_in_box")
    assert box.oathbulk(*accepted).code == 1
    assert box.oathbulk(*accepted, "--only-assigned").code == 0


def test_a_list_comes_back_with_every_export_and_a_run_that_was_begun_is_known_by_both_files(box):
    command = ("load", "box.xml", "--key-file", "key.txt", "--assign", "who.csv")
    assert box.oathbulk(*command).code == 0
    assert "Nothing was loaded again" in box.oathbulk(*command).stdout
    assert box.oathbulk("export", "box", "-o", "out.csv").code == 0
    text = (box.folder / "out.csv").read_text()
    first = next(csv.DictReader(text.splitlines()))
    assert (first["E-Mail"], first["Site"]) == ("alice@example.test", "Basel")
    assert SECRET[:8] not in text.lower()


def test_a_key_is_asked_for_only_where_the_file_was_not_loaded_yet(box):
    command = ("load", "box.xml", "--assign", "who.csv")
    assert box.oathbulk(*command, "--key-file", "key.txt").code == 0
    terminal = box.start_on_terminal(*command, columns=200)
    assert terminal.wait() == 0
    assert "This file is batch box already: 3 records. Nothing was loaded again." in terminal.read()
    run = box.oathbulk("run", *command[1:])
    # PingOne is nowhere here, so it gets as far as to ask for an access token.
    assert (run.code, "PINGONE_TOKEN_URL" in run.stderr) == (3, True), run.stderr
    # With another list it is another batch.
    (box.folder / "who.csv").write_text(LIST.replace("Basel", "Bern"))
    other = box.oathbulk(*command)
    assert (other.code, "Give the key" in other.stderr) == (2, True)


@pytest.mark.parametrize("key", [b"\x03", b"\x04"])
def test_who_has_no_key_leaves_the_question_and_gets_no_traceback(box, key):
    terminal = box.start_on_terminal("inspect", "box.xml")
    # The blank comes last, once what was typed before has been thrown away.
    wait_until(lambda: "Key of the file (hexadecimal): " in terminal.read(), 60, "the key is asked for")
    terminal.press(key)
    assert terminal.wait() == 130
    assert terminal.read().split("(hexadecimal):")[1].replace("^C", "").strip() == ""


def test_rows_of_a_box_without_a_list_say_that_the_list_is_missing_and_how_to_see_all(box):
    result = box.oathbulk("check", "box.xml", "--key-file", "key.txt", "--offline")
    assert result.code == 1
    assert (
        "3 rows (1-3): nobody is named who gets it: give --assign who.csv, a list of who gets what\n" in result.stderr
    )
    assert "user_id is missing" not in result.stderr + result.stdout


def test_a_token_that_two_keys_contradict_each_other_about_is_told_the_same_by_every_command(box):
    """And it is never imported: an OTP that we make of the wrong seed would prove nothing but that."""
    seed = "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"
    lines = [f"MADE1,{seed},hotp,6,0", f"MADE2,{seed},hotp,6,0", f"MADE1,{seed[::-1]},hotp,6,0"]
    (box.folder / "seeds.csv").write_text("\n".join([*lines, lines[1]]))
    (box.folder / "who.csv").write_text("serial,username\nMADE1,ada\nMADE2,ben\n")
    options = ("seeds.csv", "--assign", "who.csv", "--import", "--pair", "--json")
    inspected = box.oathbulk("inspect", *options)
    checked = box.oathbulk("check", *options, "--offline")
    loaded = box.oathbulk("load", *options, "--offline")
    assert (inspected.code, checked.code, loaded.code) == (1, 1, 1)
    refused = {each["row"]: each["reason"] for each in inspected.json["refused"]}
    assert refused.keys() == {1, 3, 4}
    assert "row 3 of this file too" in refused[1]
    assert "row 1 of this file too" in refused[3]
    assert "row 2 of this file already, and all is the same there" in refused[4]
    assert inspected.json["refused"] == checked.json["refused"] == loaded.json["refused"]
    assert (inspected.json["tokens"], checked.json["rows"], loaded.json["total"]) == (1, 1, 1)
    run = box.oathbulk("run", "seeds.csv", "--assign", "who.csv", "--import", "--pair", "--batch", "again")
    # The same file is the same batch; PingOne is nowhere here.
    assert run.code == 3, run.stderr
    listed = box.oathbulk("export", "seeds", "--status", "refused", "-o", "-")
    assert [line["detail"] for line in csv.DictReader(listed.stdout.splitlines())] == [*refused.values()]


def test_every_place_tells_of_each_file_what_sha256sum_tells(box):
    """Nothing tells the digest of a key or password, which could be guessed from it, nor our mark of a shipment."""
    options = ("--key-file", "key.txt", "--assign", "who.csv", "--pair", "--import")
    assert box.oathbulk("load", "box.xml", *options, "--offline").code == 0
    sums = subprocess.run(
        ["sha256sum", "box.xml", "who.csv", "key.txt"], cwd=box.folder, capture_output=True, text=True
    )
    file, listed, key = (line.split()[0] for line in sums.stdout.splitlines())

    (line,) = box.oathbulk("audit", "--json").json["lines"]
    named = {"file": "box.xml", "sha256": file, "list_file": "who.csv", "list_sha256": listed}
    assert line["facts"].items() >= named.items()
    assert f"file=box.xml, sha256={file}, list_file=who.csv, list_sha256={listed}, " in box.oathbulk("audit").stdout
    for report in ("report.json", "report.html"):
        assert box.oathbulk("report", "box", "-o", report).code == 0
    origin = json.loads((box.folder / "report.json").read_text())["origin"]
    assert origin["file"].endswith("box.xml")
    assert {name: origin[name] for name in ("sha256", "list_file", "list_sha256")} == {
        name: named[name] for name in ("sha256", "list_file", "list_sha256")
    }
    for told in (
        json.dumps(line["facts"]),
        *((box.folder / f"report.{each}").read_text() for each in ("json", "html")),
    ):
        assert set(re.findall(r"\b[0-9a-f]{64}\b", told)) == {file, listed}
        assert key not in told
    with closing(sqlite3.connect(box.home / "oathbulk.db")) as database:
        ((mark,),) = database.execute("SELECT file_sha256 FROM batch").fetchall()
    assert mark not in {file, listed}
