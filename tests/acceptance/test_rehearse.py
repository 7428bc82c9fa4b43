"""`oathbulk rehearse`: the whole job on one machine, without accounts and servers."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.processes.command_desk import OATHBULK, CommandDesk
from support.processes.waiting import wait_until

from worker.cli.simulated_tokens import make_box_in

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


def test_made_up_tokens_end_as_they_were_made_and_a_second_rehearsal_takes_own_rows(empty_desk):
    result = empty_desk.oathbulk("rehearse", "--tokens", "100")
    assert result.code == 0, result.stdout + result.stderr
    assert "The rehearsal went as it should: 93 tokens are active, and 7 were made hopeless" in result.stdout
    # Each of the hopeless is told with what can be done about it.
    for reason, cure in {
        "invalid_otp": "Check that serial number, device and OTPs or seed belong together",
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

    write_shipment(empty_desk.folder / "mine.csv", make_tokens(20))
    result = empty_desk.oathbulk("rehearse", "mine.csv", "--rate", "300", **REAL)
    assert result.code == 0, result.stdout + result.stderr
    assert "20 tokens are active, and 0 were made hopeless" in result.stdout
    # Whatever else is set where the printed command is pasted.
    status = look_back(empty_desk, **REAL)
    assert (status["total"], status["counts"]["active"], status["resynced"]) == (20, 20, 4)
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
    looked = empty_desk.oathbulk(
        "inspect", box / "box.pskc", "--key-file", box / "box.key", "--assign", box / "who.csv"
    )
    assert "… and 39 more." in looked.stdout, looked.stderr
    # The printed commands can be pasted: one looks at it, the other makes the same box.
    assert f"To look at it: OATHBULK_HOME={home} oathbulk status rehearsal" in result.stdout
    assert "step by step: oathbulk simulator --tokens 44 --box box --troubles 1" in result.stdout
    make_box_in(empty_desk.folder / "box", tokens=44, troubles=1, seed=0)
    for path in box.iterdir():
        assert path.read_bytes() == (empty_desk.folder / "box" / path.name).read_bytes()
    assert not empty_desk.processes()


def test_a_file_that_cannot_be_used_is_not_rehearsed(empty_desk):
    (empty_desk.folder / "mine.csv").write_text("serial,otp1\nACME1,123456\n")
    result = empty_desk.oathbulk("rehearse", "mine.csv")
    assert result.code == 2
    assert "mine.csv: its only row cannot be loaded" in result.stderr
    assert "row 2 (ACME1): " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.faults
def test_refused_rows_are_told_once_and_are_no_part_of_the_rehearsal(empty_desk):
    first, *others = make_tokens(6)
    for token in others[:3]:
        token.otps = ("12345", "123456")
    names = ["ada", "ben", "cleo", "dora", "", ""]
    shipment = write_shipment(empty_desk.folder / "six.csv", [first, *others], username=names)
    # Ada is named, and has no user_id; the last two rows have one serial number, and two devices.
    shipment.write_text(shipment.read_text().replace(first.user_id, "").replace(others[4].serial, others[3].serial))
    result = empty_desk.oathbulk("rehearse", "six.csv")
    said = result.stdout + result.stderr
    assert result.code == 1, said
    assert said.count("Zeros are not put back by guessing") == 1
    assert said.count("the serial number stands on row 6 of this file too") == 1
    assert "5 rows of the file were refused, and were no part of the rehearsal. Mend them" in result.stdout
    assert "The rehearsal of the others went as it should: 1 token is active" in result.stdout
    assert "user_not_found" not in said
    assert "token_taken" not in said
    assert all(each.code == 0 for each in paste(empty_desk, said).values())


def test_a_rehearsal_that_loads_nothing_leaves_the_one_before_as_it_was(empty_desk):
    assert empty_desk.oathbulk("rehearse", "--tokens", "12").code == 0
    loaded_at = look_back(empty_desk)["created_at"]
    (empty_desk.folder / "mine.csv").write_text("serial,otp1\nACME1,123456\n")
    for wrong, code in {"nofile.csv": 2, "mine.csv": 2}.items():
        result = empty_desk.oathbulk("rehearse", wrong)
        assert (result.code, wrong in result.stderr) == (code, True)
        assert look_back(empty_desk)["created_at"] == loaded_at
    # One that was killed before it had loaded anything.
    home = rehearsals(empty_desk) / "rehearsal"
    home.rename(home.with_name("rehearsal.before"))
    home.mkdir()
    assert empty_desk.oathbulk("rehearse", "nofile.csv").code == 2
    assert look_back(empty_desk)["created_at"] == loaded_at
    assert sorted(path.name for path in rehearsals(empty_desk).iterdir()) == ["lock", "rehearsal"]


@pytest.mark.faults
def test_on_the_first_morning_those_who_follow_the_hand_out_get_in(empty_desk):
    result = empty_desk.oathbulk("rehearse", "--first-morning", "--tokens", "20")
    assert result.code == 0, result.stdout + result.stderr
    said = " ".join(result.stdout.split())
    # They become active: so it must not say that nobody finds them.
    assert "user_not_found" not in said
    assert "10 people do as hand-out.csv says: 10 signed on at the first try, 0 locked out." in said
    # Three have TOTP; of the others PingOne is one to four counters ahead.
    not_at_once = "3 signed on at the first try, 3 refused once, 2 refused twice, 2 locked out"
    assert f"10 people do not: {not_at_once}." in said
    assert "An hour later all sign on again: 20 signed on at the first try, 0 locked out." in said
    assert "The rehearsal went as it should: 20 tokens are active" in said

    with (rehearsals(empty_desk) / "rehearsal" / "hand-out.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    presses = Counter((line["otp_type"], line["presses_to_discard"]) for line in lines)
    assert presses == {("hotp", "1"): 6, ("hotp", "2"): 4, ("hotp", "3"): 2, ("hotp", "4"): 2, ("totp", "0"): 6}
    assert {line["site"] for line in lines} == {"Oslo", "Porto", "Riga"}
    # What a person types writes the same.
    again = empty_desk.folder / "again.csv"
    home = str(rehearsals(empty_desk) / "rehearsal")
    typed = empty_desk.oathbulk("export", "rehearsal", "--hand-out", "-o", again, OATHBULK_HOME=home)
    assert (typed.code, "Wrote 20 active tokens of rehearsal" in typed.stdout) == (0, True)
    assert again.read_bytes() == (rehearsals(empty_desk) / "rehearsal" / "hand-out.csv").read_bytes()
    assert again.stat().st_mode & 0o777 == 0o600


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
        assert (status["total"], status["counts"]["active"], status["already_active"]) == (6, 6, 0)
    assert not empty_desk.home.exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["mine.csv", "--first-morning"], "leave out the file"),
        (["mine.csv", "--box"], "leave out the file"),
        (["--box", "--first-morning"], "leave out --box"),
        (["mine.csv", "--pair"], "a made-up box goes the whole way"),
        (["--box", "--assign", "who.csv"], "no file is given"),
    ],
)
def test_options_of_which_one_makes_the_other_useless_are_refused(empty_desk, options, complaint):
    result = empty_desk.oathbulk("rehearse", *options)
    assert result.code == 2
    assert complaint in " ".join(result.stderr.replace("│", " ").split())
