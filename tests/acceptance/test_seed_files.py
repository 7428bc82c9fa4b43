"""A vendor's file of seeds and a list of who gets what, as a person types it: what is found, what is missing."""

import base64
import csv
import json
import re
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from support.data.shipments import make_seeds
from support.processes.waiting import wait_until

from worker.simulator.oath import hotp

SAMPLES = Path(__file__).parents[1] / "samples" / "formats" / "pskc"
KEY = "00112233445566778899aabbccddeeff"
SECRET = bytes.fromhex("d2f7a4affb163ad95f3593f4c6f9b05b89a8105b")
USER, DEVICE = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3", "0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a0"
LIST = "serial;E-Mail;user_id;device_id;Site\n" + "".join(
    f"MADE000000{number};{name}@example.test;{USER}{number};{DEVICE}{number};Basel\n"
    for number, name in enumerate(("alice", "bob", "carol"), start=1)
)
ASSIGNED = ("box.xml", "--key-file", "key.txt", "--assign", "who.csv")


@pytest.fixture
def box(desk):
    """The desk of a person who got an encrypted file, its key, and a list."""
    shutil.copy(SAMPLES / "pskc_psk_aes128cbc.xml", desk.folder / "box.xml")
    (desk.folder / "who.csv").write_text(LIST)
    key = desk.folder / "key.txt"
    key.write_text(f"{KEY}\n")
    key.chmod(0o600)
    return desk


def test_who_has_no_credentials_yet_is_told_how_to_look_at_the_file_alone(box):
    unset = dict.fromkeys(("PINGONE_ENVIRONMENT_ID", "PINGONE_CLIENT_ID", "PINGONE_CLIENT_SECRET"), "")
    refused = box.oathbulk("check", *ASSIGNED, **unset)
    told = "oathbulk: .*PINGONE_CLIENT_ID is not set.*; or check only the file, with --offline\n"
    assert (refused.code, bool(re.fullmatch(told, refused.stderr))) == (3, True), refused.stderr
    alone = box.oathbulk("check", *ASSIGNED, "--offline", **unset)
    unknown = "not known: the database and PingOne: no environment is configured here"
    assert (alone.code, unknown in alone.stdout, box.home.exists()) == (0, True, False), alone.stderr


def test_a_check_of_the_files_alone_gives_every_row_a_verdict_and_names_what_goes_on(box):
    (box.folder / "who.csv").write_text(LIST.replace("MADE0000003", "MADE0000009"))
    command = ("check", *ASSIGNED, "--offline")
    asked = box.oathbulk(*command, "--json", "-o", "verdicts.csv")
    assert (asked.code, asked.json["blocking"]) == (1, ["not_in_box"])
    with (box.folder / "verdicts.csv").open(newline="") as file:
        told = ["|".join([*line.values()][:5]) for line in csv.DictReader(file)]
    assert told == [
        "1|2|MADE0000001|alice@example.test|ready",
        "2|3|MADE0000002|bob@example.test|ready",
        "3||MADE0000003||refused",
        "|4|MADE0000009|carol@example.test|not_in_box",
    ]
    assert (box.folder / "verdicts.csv").stat().st_mode & 0o077 == 0
    accepted = (*command, "--accept", "not_in_box")
    run = f"oathbulk run {' '.join(('box.xml', '--assign', 'who.csv', '--key-file', 'key.txt'))} --accept not_in_box\n"
    assert f"Correct what is marked with ?, or accept it: {run}" in box.oathbulk(*command).stdout
    assert box.oathbulk(*accepted).code == 1
    assert box.oathbulk(*accepted, "--only-assigned").code == 0
    listless = box.oathbulk("check", "box.xml", "--key-file", "key.txt", "--offline")
    assert "no person is named for it: add --assign who.csv, a list of who gets what\n" in listless.stdout


@pytest.mark.parametrize("columns", [80, 50])
def test_a_check_of_many_findings_is_one_screen_that_adds_up_and_names_each_question(box, columns):
    others = [f"MADE00{number};x{number}@example.test;{USER}1;;Basel\n" for number in range(40)]
    lines = LIST.replace("Site", "Serial No").replace("bob", "alice").replace("2;Basel", "2;Basel\n;nobody;;;")
    (box.folder / "who.csv").write_text(lines.replace("MADE0000003", "3") + "".join(others))
    terminal = box.start_on_terminal("check", *ASSIGNED, "--offline", columns=columns)
    assert terminal.wait() == 1
    screen = terminal.read().splitlines()
    assert len(screen) <= 24, screen
    assert " ".join(screen).startswith("3 rows: 1 would be activated, 1 raises a question, 1 fails.")
    for name in ("column_alike", "not_in_box (3, MADE000, MADE001 …)", "person_twice (MADE0000002)", "list_lines"):
        assert any(f" {name}" in line for line in screen), screen


def test_a_key_is_asked_for_only_where_the_file_was_not_loaded_yet(box):
    command = ("load", "box.xml", "--assign", "who.csv")
    refused = box.oathbulk(*command)
    assert (refused.code, "Give the key that the vendor sent" in " ".join(refused.stderr.split())) == (2, True)
    assert box.oathbulk(*command, "--key-file", "key.txt").code == 0
    terminal = box.start_on_terminal(*command, columns=200)
    assert terminal.wait() == 0
    assert "This file was already loaded as batch box: 3 records. It was not loaded again." in terminal.read()
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
    wait_until(lambda: "Key of the file (hexadecimal): " in terminal.read(), "the key is asked for")
    terminal.press(key)
    assert terminal.wait() == 130
    assert terminal.read().split("(hexadecimal):")[1].replace("^C", "").strip() == ""


def test_every_place_tells_of_each_file_what_sha256sum_tells_and_none_shows_a_seed(box):
    """Nothing tells another, such as that of the key, which could be guessed from it."""
    assert box.oathbulk("load", *ASSIGNED, "--pair", "--import", "--offline").code == 0
    file, listed = (sha256((box.folder / name).read_bytes()).hexdigest() for name in ("box.xml", "who.csv"))

    (line,) = box.oathbulk("audit", "--json").json["lines"]
    named = {"file": "box.xml", "sha256": file, "list_file": "who.csv", "list_sha256": listed}
    assert line["facts"].items() >= named.items()
    report = box.oathbulk("report", "box", "-o", "-")
    assert report.code == 0
    for told in (json.dumps(line["facts"]), report.stdout):
        assert {*re.findall(r"\b[0-9a-f]{64}\b", told)} == {file, listed}
    exported = box.oathbulk("export", "box", "-o", "-").stdout
    shown = [box.oathbulk("show", "MADE0000001", *options).stdout for options in ((), ("--json",))]
    assert "HOTP seed, kept encrypted" in shown[0]
    printed = "".join([*shown, exported, report.stdout]).lower()
    spellings = (SECRET.hex(), base64.b32encode(SECRET).decode(), base64.b64encode(SECRET).decode())
    assert [spelling for spelling in spellings if spelling[:8].lower() in printed] == []


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
