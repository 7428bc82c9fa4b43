"""A vendor's file of seeds and a list of who gets what, as a person types it: what is found, what is missing."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from support.data.shipments import make_seeds
from support.processes.waiting import wait_until

from worker.intake.formats import FORMATS
from worker.simulator.oath import hotp

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
    command = ("check", "box.xml", "--key-file", "key.txt", "--assign", "who.csv", "--offline")
    result = box.oathbulk(*command)
    assert result.code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("box.xml: PSKC (RFC 6030)")
    assert lines[1].startswith("       2 × HOTP seed, 6 digits: MADE0000001 (20 bytes, SHA-256 ")
    assert lines[2].startswith("       1 × TOTP seed, 6 digits, 30 s, SHA-1: MADE0000003 (20 bytes, SHA-256 ")
    digests = [hashlib.sha256((box.folder / name).read_bytes()).hexdigest() for name in ("box.xml", "who.csv")]
    assert lines[3:5] == [f"SHA-256 {digests[0]}  box.xml", f"SHA-256 {digests[1]}  who.csv"]
    assert SECRET[:6] not in result.stdout.lower() + result.stderr.lower()
    told = box.oathbulk(*command, "--json").json
    assert told["kinds"] == {"HOTP seed, 6 digits": 2, "TOTP seed, 6 digits, 30 s, SHA-1": 1}
    assert (told["format"], told["tokens"], told["sha256"], told["list_sha256"]) == ("pskc", 3, *digests)
    assert not box.home.exists()


def test_what_a_run_would_do_is_told_before_what_was_found(box):
    (box.folder / "who.csv").write_text("serial;E-Mail\nMADE0000001;alice@example.test\nMADE0000003;bob@example.test\n")
    command = ("check", "box.xml", "--key-file", "key.txt", "--assign", "who.csv", "--import", "--pair", "--offline")
    chosen = ("--window", "22:00-05:00", "--zone", "UTC", "--canary", "1", "--share", "0.5")
    result = box.oathbulk(*command, *chosen, OATHBULK_OTP_POST_BUDGET="2")
    assert result.stdout.split("\n\n")[1].splitlines() == [
        "2 of 3 rows are ready, 1 refused.",
        "A run would import at most 2 tokens, make at most 2 devices and activate 2 tokens in the environment default.",
        "About 4 requests: 0 s at the 400 a second with which it begins. It keeps to 50 % of what the license permits."
        " It works from 22:00-05:00 UTC only: on 1 day. It pauses after 1 record.",
        "At most 2 OTPs to a device, and 8 attempts a token.",
    ]
    assert result.stdout.split("\n\n")[2].startswith("· unassigned: ")
    told = box.oathbulk(*command, *chosen, "--json").json["run"]
    assert (told["imports"], told["devices"], told["tokens"], told["is_exact"]) == (2, 2, 2, False)
    assert (told["requests"], told["seconds"], told["rate"], told["days"]) == (4, 0, 400.0, 1)
    assert (told["hours"], told["canary"], told["share"]) == ("22:00-05:00 UTC", 1, 0.5)
    assert (told["otp_post_budget"], told["max_attempts"]) == (3, 8)


def test_who_has_no_credentials_yet_is_told_how_to_look_at_the_file_alone(box):
    unset = dict.fromkeys(("PINGONE_ENVIRONMENT_ID", "PINGONE_CLIENT_ID", "PINGONE_CLIENT_SECRET"), "")
    command = ("check", "box.xml", "--key-file", "key.txt", "--assign", "who.csv")
    refused = box.oathbulk(*command, **unset)
    assert (refused.code, refused.stderr.count("\n")) == (3, 1)
    assert "PINGONE_CLIENT_ID is not set" in refused.stderr
    assert refused.stderr.endswith("; or look at the file alone, with --offline\n")
    alone = box.oathbulk(*command, "--offline", **unset)
    assert alone.code == 0, alone.stderr
    assert "not known: the database and PingOne: no environment is configured here" in alone.stdout


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
    result = box.oathbulk("check", "box.xml", "--offline", *key)
    assert result.code == 2
    assert complaint in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_a_key_that_every_user_can_read_is_refused(box):
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        key = Path(directory, "key.txt")
        key.write_text(KEY)
        key.chmod(0o644)
        command = ("check", "box.xml", "--assign", "who.csv", "--offline", "--key-file", str(key))
        result = box.oathbulk(*command)
        assert result.code == 2
        assert "chmod 600" in result.stderr
        key.chmod(0o600)
        assert box.oathbulk(*command).code == 0


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
    terminal = box.start_on_terminal("check", "box.xml", "--offline")
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
    checked = box.oathbulk("check", *options, "--offline")
    loaded = box.oathbulk("load", *options, "--offline")
    assert (checked.code, loaded.code) == (1, 1)
    refused = {each["row"]: each["reason"] for each in checked.json["refused"]}
    assert refused.keys() == {1, 3, 4}
    assert "row 3 of this file too" in refused[1]
    assert "row 1 of this file too" in refused[3]
    assert "row 2 of this file already, and all is the same there" in refused[4]
    assert checked.json["refused"] == loaded.json["refused"]
    assert (checked.json["tokens"], checked.json["rows"], loaded.json["total"]) == (1, 1, 1)
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
    report = box.oathbulk("report", "box", "-o", "-")
    assert report.code == 0
    for told in (json.dumps(line["facts"]), report.stdout):
        assert set(re.findall(r"\b[0-9a-f]{64}\b", told)) == {file, listed}
        assert key not in told
    with closing(sqlite3.connect(box.home / "oathbulk.db")) as database:
        ((mark,),) = database.execute("SELECT file_sha256 FROM batch").fetchall()
    assert mark not in {file, listed}


@pytest.mark.faults
def test_on_the_first_morning_those_who_do_as_the_hand_out_says_get_in_at_the_first_try(set_out):
    made = make_seeds(hotp=8, totp=2, out_of_step=0.5)
    desk, simulator = set_out(made, {"_OATHBULK_TUNING__read_delay": "1", "OATHBULK_OTP_POST_BUDGET": "3"})
    made.write_seeds(desk.folder / "seeds.csv")
    made.write_list(desk.folder / "who.csv")
    # The first OTP of some tokens gets lost on its way, so that another goes.
    lost = [row.device_id for row in made.seeds[::3]]
    simulator.order_faults(*({"kind": "error_before", "operation": "activate", "device_id": each} for each in lost))
    run = ("run", "seeds.csv", "--assign", "who.csv", "--accept", "user_not_found")
    assert desk.oathbulk(*run).code == 0
    assert desk.oathbulk("export", "seeds", "--hand-out", "-o", "hand-out.csv").code == 0
    with (desk.folder / "hand-out.csv").open(newline="") as file:
        presses = {line["serial"]: int(line["presses_to_discard"]) for line in csv.DictReader(file)}
    # Of a token in step one OTP was sent, of another two; one that got lost is followed by a counter that is skipped.
    for row in made.seeds:
        sent = 1 + made.expected[row.serial].resynced + 2 * (row.device_id in lost)
        assert presses[row.serial] == (sent if row.type == "hotp" else 0)
    for row in [row for row in made.seeds if row.type == "hotp"]:
        shown = [hotp(bytes.fromhex(row.secret), row.counter + press) for press in range(presses[row.serial] + 1)]
        # The last that is to be thrown away is refused, and the next one is let in.
        assert simulator.sign_on(row.device_id, shown[-2]) == "INVALID_OTP"
        assert simulator.sign_on(row.device_id, shown[-1]) == "SIGNED_ON"
