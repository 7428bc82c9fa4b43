"""What is shipped: `oathbulk rehearse`, the whole job on one machine without accounts and servers; and the wheel alone,
in an environment of its own, in a folder that holds no checkout."""

import json
import re
from pathlib import Path

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.processes.command_desk import OATHBULK, CommandDesk
from support.processes.installed import install
from support.servers.raw_server import RawServer
from support.servers.stand_in import StandIn

from worker.simulator.shipment import SPECIAL, make_box

# What leads to the real thing must not be followed, whether it is set or stands in a file.
REAL = {
    "OATHBULK_ENCRYPTION_KEYS": "real",
    "PINGONE_ENVIRONMENT_ID": "real",
    "PINGONE_CLIENT_ID": "real",
    "PINGONE_TOKEN_URL": "https://127.0.0.1:1/token",
}
IN_FILE = {
    "OATHBULK_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/real",
    "OATHBULK_REDIS_URL": "redis://127.0.0.1:1/0",
    "PINGONE_API_URL": "https://127.0.0.1:1/v1",
}
CHECKOUT = Path(__file__).parents[2]
WHERE = "import json, models, worker, migrations; print(json.dumps([p.__file__ for p in (models, worker, migrations)]))"


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


def test_made_up_tokens_end_as_they_were_made_and_the_real_thing_is_left_alone(empty_desk):
    file = empty_desk.folder / "production.env"
    file.write_text("".join(f"{name}='{value}'\n" for name, value in IN_FILE.items()))
    file.chmod(0o600)
    rehearse = ("--env-file", "production.env", "rehearse", "--tokens", "100", "--rate", "300")
    with RawServer(lambda: [b"HTTP/1.1 204 No Content\r\n\r\n"]) as webhook:
        result = empty_desk.oathbulk(*rehearse, **REAL, OATHBULK_WEBHOOK_URL=webhook.url)
        assert webhook.requests == []
    assert result.code == 0, result.stdout + result.stderr
    said = (
        "The rehearsal went as planned: 93 tokens are active, and 7 failed on purpose",
        "ended with it. To practice how tokens come back: oathbulk simulator --tokens 12",
    )
    assert [words for words in said if words not in result.stdout] == []
    home = rehearsals(empty_desk) / "rehearsal"
    # Whatever else is set where the printed command is pasted.
    status = empty_desk.oathbulk("status", "rehearsal", "--json", OATHBULK_HOME=str(home), **REAL, **IN_FILE).json
    assert (status["total"], status["counts"]["active"], status["counts"]["dead_letter"]) == (100, 93, 7)
    assert (status["resynced"], [*status["dead_letters"].values()]) == (19, [1] * 7)
    # Each of the hopeless is told with what can be done about it.
    assert [reason for reason in status["dead_letters"] if reason not in result.stdout] == []
    # What is printed can be pasted, and meets this rehearsal; its PingOne has ended, so nothing is to go again.
    pasted = paste(empty_desk, result.stdout)
    typed = [
        f"OATHBULK_HOME={home} oathbulk {words}"
        for words in ("export rehearsal --failed -o rehearsal-failed.csv", "status rehearsal")
    ]
    assert list(pasted) == typed
    assert [(each.code, each.stderr) for each in pasted.values()] == [(0, "")] * 2
    assert "replay rehearsal" not in result.stdout + pasted[typed[1]].stdout
    # No database, no key and no server beside those of the rehearsal itself.
    assert sorted(path.name for path in rehearsals(empty_desk).iterdir()) == ["lock", "rehearsal"]
    assert (empty_desk.home.exists(), empty_desk.processes()) == (False, [])


@pytest.mark.faults
def test_a_box_goes_the_whole_way_and_its_files_stay(empty_desk):
    result = empty_desk.oathbulk("rehearse", "--box", "--tokens", "44")
    assert result.code == 0, result.stdout + result.stderr
    home = rehearsals(empty_desk) / "rehearsal"
    said = (
        f"Made up a box of 44 tokens in {home / 'box'}; 8 of them fail on purpose:",
        "The rehearsal went as planned: 36 tokens are active, and 8 failed on purpose",
        "step by step: oathbulk simulator --tokens 44 --box box --troubles 1",
    )
    assert [words for words in said if words not in result.stdout] == []
    status = empty_desk.oathbulk("status", "rehearsal-box", "--json", OATHBULK_HOME=str(home)).json
    # Six were in the inventory before, and the persons of four were not found or may not.
    assert [status["total"], status["counts"]["active"], status["imported"], status["paired"]] == [44, 36, 34, 35]
    reasons = {"user_not_found", "user_ambiguous", "too_many_devices", "token_differs", "token_taken", "invalid_otp"}
    assert status["dead_letters"] == dict.fromkeys(reasons, 1) | {"account_not_usable": 2}
    # What was made up is still there: the printed command makes the same box.
    make_box(44, special=dict.fromkeys(SPECIAL, 1)).write(empty_desk.folder / "box")
    there, made = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (home / "box", empty_desk.folder / "box")
    )
    assert there == made
    assert ((home / "box" / "box.key").stat().st_mode & 0o777, empty_desk.processes()) == (0o600, [])


def test_the_wheel_alone_activates_a_shipment(tmp_path):
    wheel_python = install(CHECKOUT, tmp_path)
    tokens = make_tokens(10, out_of_step=2)
    command = [str(wheel_python.with_name("oathbulk"))]
    with StandIn(tokens) as pingone, CommandDesk(tmp_path / "desk", command=command) as desk:
        write_shipment(desk.folder / "shipment.csv", tokens)
        # As a person would have it: the home is where it is by default, and what leads to PingOne is in its .env.
        del desk.settings["OATHBULK_HOME"]
        settings = "".join(f"{name}='{value}'\n" for name, value in pingone.settings.items())
        home = desk.folder / "state" / "oathbulk"
        home.mkdir(mode=0o700, parents=True)
        (home / ".env").write_text(settings)
        where = desk.start_program(wheel_python, "-c", WHERE).wait()
        assert all(Path(file).is_relative_to(tmp_path / "venv") for file in json.loads(where.stdout)), where.stdout
        # What lies in the folder of a person who also writes programs.
        for name in ("models.py", "worker.py", "redis.py"):
            (desk.folder / name).write_text("raise SystemExit('imported from the folder')\n")
        result = desk.oathbulk("run", "shipment.csv", "--json")
        assert result.code == 0, result.stderr
        assert (result.json["counts"]["active"], result.json["resynced"], len(pingone.active)) == (10, 2, 10)
        # The templates of its pages are in the wheel.
        reported = desk.oathbulk("report", "shipment", "-o", "-")
        assert (reported.code, "All 10 rows are active." in reported.stdout) == (0, True), reported.stderr
