"""`oathbulk show` and `oathbulk search`, as a help desk types them about one token."""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path

import pytest
from support.data.tokens import make_tokens
from support.processes.finished_folder import copy_to, run_to_the_end
from support.processes.waiting import wait_until

SAMPLES = Path(__file__).parents[1] / "samples" / "formats" / "pskc"
KEY = "00112233445566778899aabbccddeeff"
SECRET = bytes.fromhex("d2f7a4affb163ad95f3593f4c6f9b05b89a8105b")
USER, DEVICE = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e31", "0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a01"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    tokens = make_tokens(4, wrong=1)
    return run_to_the_end(tmp_path_factory.mktemp("finished"), tokens, Carton=["C 7"] * 4), tokens


@pytest.fixture
def ended(desk, finished):
    """A batch whose last token was refused, as it stands after its run."""
    folder, tokens = finished
    copy_to(desk, folder)
    return desk, tokens


def test_a_token_that_was_refused_is_found_and_its_history_told(ended):
    desk, tokens = ended
    refused, good = tokens[3], tokens[0]

    found = desk.oathbulk("search", "c 7", "--status", "dead_letter")
    assert found.code == 0
    assert [line.split()[0] for line in found.stdout.splitlines()] == ["token", refused.serial]
    assert "invalid_otp" in found.stdout
    assert desk.oathbulk("search", "C 7", "--limit", "1", "--json").json["more"] == 3

    shown = desk.oathbulk("show", refused.serial)
    assert shown.code == 0
    assert "Batch shipment, row 5 of shipment.csv (#4)" in shown.stdout
    (attempt,) = [line for line in shown.stdout.splitlines() if line.startswith("  attempts")]
    assert "dead_letter (invalid_otp), HTTP 400" in attempt
    assert "1 OTP posted" in attempt
    assert "Next      nothing by itself: it is given up (invalid_otp)" in shown.stdout
    command = shown.stdout.split("Command")[1].split()
    assert desk.oathbulk(*command[1:]).code == 0
    assert (desk.folder / command[-1]).exists()

    by_device = desk.oathbulk("show", good.device_id, "--json").json["tokens"]
    assert [(token["serial_number"], token["next"]["sentence"]) for token in by_device] == [
        (good.serial, "nothing: it is active")
    ]


def test_no_otp_is_printed(ended):
    desk, tokens = ended

    printed = ""
    for token in tokens:
        for arguments in (("show", token.serial), ("show", token.serial, "--json"), ("search", token.serial, "--json")):
            result = desk.oathbulk(*arguments)
            assert token.serial in result.stdout
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


def test_an_unknown_token_is_a_2_with_the_command_that_looks_for_it(desk):
    desk.make_home()
    result = desk.oathbulk("show", "no such token")

    assert result.code == 2
    assert result.stderr.splitlines() == [
        "oathbulk: no record has 'no such token' as its serial number, device id or number; no serial number "
        "begins like it; if it is a name, a lot or another value of the file, look for it with: "
        "oathbulk search 'no such token'"
    ]


def test_a_batch_that_is_unknown_is_a_2(desk):
    desk.make_home()
    result = desk.oathbulk("search", "--batch", "unheard-of")

    assert result.code == 2
    assert "no batch is named 'unheard-of'" in result.stderr


def test_on_a_narrow_terminal_no_id_is_cut(ended):
    desk, tokens = ended

    terminal = desk.start_on_terminal("show", tokens[3].serial, columns=80)
    wait_until(lambda: "left.csv" in terminal.read(), 60, "the last line is there")

    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", terminal.read()).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(tokens[3].device_id in line for line in lines)
