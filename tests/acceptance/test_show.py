"""`oathbulk show`, as a help desk types it about one token, and to find it."""

from __future__ import annotations

import base64
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.data.tokens import make_tokens
from support.processes.command_desk import copy_to, run_to_the_end
from support.processes.waiting import wait_until

SAMPLES = Path(__file__).parents[1] / "samples" / "formats" / "pskc"
KEY = "00112233445566778899aabbccddeeff"
SECRET = bytes.fromhex("d2f7a4affb163ad95f3593f4c6f9b05b89a8105b")
USER, DEVICE = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e31", "0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a01"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    tokens = make_tokens(4, wrong=1)
    columns = {"Carton": ["C 7"] * 4, "username": [f"{number}.lea" for number in range(4)]}
    return run_to_the_end(tmp_path_factory.mktemp("finished"), tokens, **columns), tokens


@pytest.fixture
def ended(desk, finished):
    """A batch whose last token was refused, as it stands after its run."""
    folder, tokens = finished
    copy_to(desk, folder)
    return desk, tokens


def test_a_token_that_was_refused_is_found_and_its_history_told(ended):
    desk, tokens = ended
    refused, good = tokens[3], tokens[0]

    found = desk.oathbulk("show", "c 7", "--status", "dead_letter")
    assert found.code == 0
    assert [line.split()[0] for line in found.stdout.splitlines()] == ["token", refused.serial]
    assert "invalid_otp" in found.stdout
    listed = desk.oathbulk("show", "C 7", "--limit", "1", "--json").json
    assert (len(listed["found"]), listed["more"]) == (1, 3)

    shown = desk.oathbulk("show", refused.serial)
    assert shown.code == 0
    assert "Batch shipment, row 5 of shipment.csv (#4)" in shown.stdout
    (attempt,) = [line for line in shown.stdout.splitlines() if line.startswith("  attempts")]
    assert "dead_letter (invalid_otp), OTP 1 → HTTP 400" in attempt
    assert ", 1 OTP posted" in shown.stdout.split("  in all")[1].splitlines()[0]
    assert "Next      nothing by itself: it is given up (invalid_otp)" in shown.stdout
    command = shown.stdout.split("Command")[1].split()
    assert desk.oathbulk(*command[1:]).code == 0
    assert (desk.folder / command[-1]).exists()

    by_device = desk.oathbulk("show", good.device_id, "--json").json["tokens"]
    assert [(token["serial_number"], token["next"]["sentence"]) for token in by_device] == [
        (good.serial, "nothing: it is active")
    ]


def test_what_is_exact_or_begins_one_token_alone_is_told_whole_and_several_are_listed(ended):
    desk, tokens = ended
    first, last = tokens[0], tokens[-1]
    beginning = first.serial[:-1]

    def show(*typed):
        return desk.oathbulk("show", *typed, "--json").json

    for exact in (first.serial, first.serial.lower(), first.device_id, "#1", first.serial, "0.lea"):
        told = show(exact)
        assert ([each["serial_number"] for each in told["tokens"]], told["others"]) == ([first.serial], 0), exact
    listed = [each["serial_number"] for each in show(beginning)["found"]]
    assert listed == [token.serial for token in tokens]
    # By what is no text, and with it, they are listed, one or several, so that a script can rely on it.
    for words in (("--reason", "invalid_otp"), ("--user", "3.lea"), (last.serial, "--batch", "shipment")):
        assert [each["serial_number"] for each in show(*words)["found"]] == [last.serial], words
    with closing(sqlite3.connect(desk.home / "oathbulk.db")) as database, database:
        database.execute("UPDATE record SET serial_number = ? WHERE id IN (1, 2)", [beginning])
        database.execute("UPDATE record SET serial_number = serial_number || '7' WHERE id = 2")
    told = show(beginning)
    assert ([each["records"][0]["record"] for each in told["tokens"]], told["others"]) == ([1], 3)
    assert "3 other serial numbers begin so: --batch, --status" in desk.oathbulk("show", beginning).stdout


def test_no_otp_is_printed(ended):
    desk, tokens = ended

    printed = ""
    for token in tokens:
        for arguments in (
            ("show", token.serial),
            ("show", token.serial, "--json"),
            ("show", token.serial[:-1], "--json"),
        ):
            result = desk.oathbulk(*arguments)
            assert (result.code, token.serial in result.stdout) == (0, True)
            printed += result.stdout + result.stderr
    # No part of an id or of a time.
    words = set(re.findall(r"(?<![\w.-])\d+(?![\w-])", printed))
    assert words.isdisjoint(otp for token in tokens for otp in token.otps)


def test_no_seed_is_printed(desk):
    shutil.copy(SAMPLES / "pskc_psk_aes128cbc.xml", desk.folder / "box.xml")
    (desk.folder / "who.csv").write_text(
        f"serial,email,user_id,device_id\nMADE0000001,alice@example.test,{USER},{DEVICE}\n"
    )
    (desk.folder / "key.txt").write_text(f"{KEY}\n")
    (desk.folder / "key.txt").chmod(0o600)
    source = ("box.xml", "--key-file", "key.txt", "--assign", "who.csv", "--only-assigned", "--offline")
    assert desk.oathbulk("load", *source).code == 0

    shown = [desk.oathbulk("show", "MADE0000001", *options).stdout for options in ((), ("--json",))]

    printed = "".join(shown)
    assert "HOTP seed, kept encrypted" in shown[0]
    assert "Next      waits for a worker: no worker runs" in shown[0]
    for spelling in (SECRET.hex(), base64.b32encode(SECRET).decode(), base64.b64encode(SECRET).decode()):
        assert spelling[:8].lower() not in printed.lower()


def test_what_begins_nothing_is_a_2(desk):
    desk.make_home()
    result = desk.oathbulk("show", "no such token")

    assert result.code == 2
    assert result.stderr.splitlines() == [
        "oathbulk: nothing that is known of a token begins so: no record has 'no such token' as its serial number, "
        "device id or number (written '#123')"
    ]


def test_a_batch_that_is_unknown_is_a_2(desk):
    desk.make_home()
    result = desk.oathbulk("show", "--batch", "unheard-of")

    assert result.code == 2
    assert "no batch is named 'unheard-of'" in result.stderr


def test_on_a_narrow_terminal_no_id_is_cut(ended):
    desk, tokens = ended

    terminal = desk.start_on_terminal("show", tokens[3].serial, columns=80)
    wait_until(lambda: "left.csv" in terminal.read(), 60, "the last line is there")

    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", terminal.read()).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(tokens[3].device_id in line for line in lines)
