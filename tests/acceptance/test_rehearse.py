"""`oathbulk rehearse`: the whole job on one machine, without accounts and servers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.processes.command_desk import OATHBULK, CommandDesk
from support.processes.waiting import wait_until

from worker.simulator.shipment import SPECIAL, make_box

# What leads to the real thing must not be followed.
REAL = {
    "OATHBULK_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/real",
    "OATHBULK_REDIS_URL": "redis://127.0.0.1:1/0",
    "OATHBULK_ENCRYPTION_KEYS": "real",
    "PINGONE_ENVIRONMENT_ID": "real",
    "PINGONE_CLIENT_ID": "real",
    "PINGONE_API_URL": "https://127.0.0.1:1/v1",
    "PINGONE_TOKEN_URL": "https://127.0.0.1:1/token",
}


@pytest.fixture
def empty_desk(tmp_path):
    """Where nobody has set anything up, but delays short enough for a test."""
    with CommandDesk(tmp_path / "desk") as desk:
        yield desk


def rehearsals(desk):
    """The directory of their homes, beside the home."""
    return desk.home.with_name(".oathbulk-rehearsals")


def paste(desk, printed):
    """Type every command that was printed, but for what serves until Ctrl-C; the result of each."""
    commands = re.findall(r": ((?:[A-Z_]+=\S+ )?oathbulk (?!simulator).*)", printed)
    found = f"PATH={Path(OATHBULK[0]).parent}:$PATH"
    return {command: desk.start_program("sh", "-c", f"{found}; {command}").wait() for command in commands}


def look_back(desk, **settings):
    """How the rehearsal ended, from its own home."""
    return desk.oathbulk(
        "status", "rehearsal", "--json", OATHBULK_HOME=str(rehearsals(desk) / "rehearsal"), **settings
    ).json


def test_made_up_tokens_end_as_they_were_made_and_the_real_thing_is_left_alone(empty_desk):
    result = empty_desk.oathbulk("rehearse", "--tokens", "100", "--rate", "300", **REAL)
    assert result.code == 0, result.stdout + result.stderr
    assert "The rehearsal went as it should: 93 tokens are active, and 7 were made hopeless" in result.stdout
    # Each of the hopeless is told with what can be done about it.
    for reason, cure in {
        "invalid_otp": "Check that serial number, device and OTPs belong together",
        "resync_failed": "Press the token twice",
        "second_otp_missing": "The token is out of step and the row brought one OTP only",
        "locked": "Unlock it in PingOne",
        "blocked": "Unblock it in PingOne",
        "account_not_usable": "The user's account is locked or disabled",
        "device_not_found": "PingOne knows no such device",
    }.items():
        assert reason in result.stdout
        assert cure in " ".join(result.stdout.split())
    status = look_back(empty_desk)
    assert (status["total"], status["counts"]["active"], status["counts"]["dead_letter"]) == (100, 93, 7)
    assert status["resynced"] == 19
    assert set(status["dead_letters"].values()) == {1}
    # What is printed can be pasted, and meets this rehearsal; its PingOne has ended, so nothing is to go again.
    pasted = paste(empty_desk, result.stdout)
    home = f"OATHBULK_HOME={rehearsals(empty_desk) / 'rehearsal'} oathbulk"
    assert list(pasted) == [
        f"{home} export rehearsal --left -o rehearsal-left.csv",
        f"{home} status rehearsal",
    ]
    assert [(each.code, each.stderr) for each in pasted.values()] == [(0, "")] * 2
    again = paste(empty_desk, empty_desk.oathbulk("status", "rehearsal").stdout)
    assert list(again) == list(pasted)[:1]
    (found,) = empty_desk.oathbulk("show", "--reason", "locked", "--json").json["found"]
    shown = empty_desk.oathbulk("show", found["serial_number"]).stdout
    assert "replay rehearsal" not in result.stdout + shown
    assert "ended with it. To practise" in shown
    assert "ended with it. To practise how tokens come back: oathbulk simulator --tokens 12" in result.stdout

    # Whatever else is set where the printed command is pasted.
    assert look_back(empty_desk, **REAL)["total"] == 100
    # No database, no key and no server beside those of the rehearsal itself.
    assert sorted(path.name for path in rehearsals(empty_desk).iterdir()) == ["lock", "rehearsal"]
    assert not empty_desk.home.exists()
    assert not empty_desk.processes()


@pytest.mark.faults
def test_a_box_goes_the_whole_way_and_its_files_stay(empty_desk):
    result = empty_desk.oathbulk("rehearse", "--box", "--tokens", "44")
    assert result.code == 0, result.stdout + result.stderr
    home = rehearsals(empty_desk) / "rehearsal-box"
    assert f"A box of 44 tokens was made up, 8 of them hopeless on purpose, in {home / 'box'}:" in result.stdout
    assert "The rehearsal went as it should: 36 tokens are active, and 8 were made hopeless" in result.stdout
    status = empty_desk.oathbulk("status", "rehearsal", "--json", OATHBULK_HOME=str(home)).json
    assert (status["total"], status["counts"]["active"]) == (44, 36)
    reasons = {"user_not_found", "user_ambiguous", "too_many_devices", "token_differs", "token_taken", "invalid_otp"}
    assert status["dead_letters"] == dict.fromkeys(reasons, 1) | {"account_not_usable": 2}
    # Six were in the inventory before, and the persons of four were not found or may not.
    assert (status["imported"], status["paired"]) == (34, 35)
    assert status["waiting"] == {"user": 0, "token": 0}

    # What was made up is still there, and can be looked at.
    box = home / "box"
    assert sorted(path.name for path in box.iterdir()) == ["box.key", "box.pskc", "expected.json", "who.csv"]
    assert (box / "box.key").stat().st_mode & 0o777 == 0o600
    options = ("--key-file", box / "box.key", "--assign", box / "who.csv", "--offline", "--json")
    assert empty_desk.oathbulk("check", box / "box.pskc", *options).json["tokens"] == 44
    # The printed commands can be pasted: one looks at it, the other makes the same box.
    assert f"To look at it: OATHBULK_HOME={home} oathbulk status rehearsal" in result.stdout
    assert "step by step: oathbulk simulator --tokens 44 --box box --troubles 1" in result.stdout
    make_box(44, special=dict.fromkeys(SPECIAL, 1)).write(empty_desk.folder / "box")
    for path in box.iterdir():
        assert path.read_bytes() == (empty_desk.folder / "box" / path.name).read_bytes()
    assert not empty_desk.processes()


def practise(desk):
    """Serve the same made-up tokens, run them with what is exported, and end the simulator. Returns home and run."""
    ready = desk.folder / "ready"
    ready.unlink(missing_ok=True)
    made_up = ("--tokens", "6", "--pairs", "pairs.csv", "--port", "0", "--ready-file", ready)
    simulator = desk.start("simulator", *made_up, TMPDIR=str(desk.folder))
    wait_until(ready.exists, 60, "the simulator listens")
    exported = dict(re.findall(r"export (\w+)=(.*)", simulator.stdout))
    ran = desk.oathbulk("run", "pairs.csv", **exported)
    simulator.interrupt()
    simulator.wait()
    return Path(exported["OATHBULK_HOME"]), ran


@pytest.mark.faults
def test_a_second_practice_begins_anew_and_leaves_the_first_as_it_was(empty_desk):
    """The tokens have the same serial numbers, and the tenant the same id."""
    homes = []
    for _ in range(2):
        home, ran = practise(empty_desk)
        homes.append(home)
        assert ran.code == 0, ran.stderr
        assert "Loaded 6 records as batch pairs; 0 rows were refused." in ran.stdout
        assert home.stat().st_mode & 0o777 == 0o700
    for home in homes:
        status = empty_desk.oathbulk("status", "pairs", "--json", OATHBULK_HOME=str(home)).json
        assert (status["total"], status["counts"]["active"]) == (6, 6)
    assert not empty_desk.home.exists()
