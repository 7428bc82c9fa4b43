"""Where commands keep what they load, and where they look for a person's settings; and what they say of both."""

from pathlib import Path

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.processes.command_desk import OATHBULK, CommandDesk
from support.servers.stand_in import CLIENT_SECRET, StandIn

HERE = "PingOne's API is called at 127.0.0.1, and access tokens come from 127.0.0.1."


@pytest.fixture
def pingone():
    with StandIn(make_tokens(3)) as pingone:
        yield pingone


@pytest.fixture
def persons_desk(tmp_path, pingone):
    """One whose home is where it is if nothing says otherwise."""
    with CommandDesk(tmp_path / "desk", pingone.settings) as desk:
        write_shipment(desk.folder / "shipment.csv", make_tokens(3))
        del desk.settings["OATHBULK_HOME"]
        desk.home = desk.folder / "state" / "oathbulk"
        yield desk


def write(path: Path, settings: dict[str, str]) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
    path.chmod(0o600)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("status", 0),
        ("pause july", 2),
        ("export july -o july.csv", 2),
        ("audit", 2),
        ("doctor", 0),
        ("check shipment.csv", 0),
        ("db upgrade", 2),
    ],
)
def test_a_command_that_loads_nothing_makes_no_home(persons_desk, words: str, code: int) -> None:
    result = persons_desk.oathbulk(*words.split())
    assert (result.code, persons_desk.home.exists()) == (code, False), result.stderr
    assert not code or "oathbulk run FILE" in result.stderr


def test_a_shipment_is_known_from_every_directory_and_goes_out_once(persons_desk, pingone) -> None:
    desk = persons_desk
    settings = {name: desk.settings.pop(name) for name in pingone.settings if name != "PINGONE_CLIENT_SECRET"}
    write(desk.folder / "test.env", settings)
    # The worker that it starts reads the file, too.
    first = desk.oathbulk("--env-file", "test.env", "run", "shipment.csv")
    mixed = (
        f"PINGONE_API_URL and PINGONE_TOKEN_URL come from {desk.folder / 'test.env'}, "
        "PINGONE_CLIENT_SECRET from the process environment"
    )
    assert [line.partition(":")[0] for line in first.stderr.splitlines()[1:3]] == [HERE, mixed]
    assert (first.code, CLIENT_SECRET in first.stderr) == (0, False)
    desk.settings |= settings

    (desk.folder / "elsewhere").mkdir()
    again = desk.start_program("sh", "-c", f"cd elsewhere && exec {OATHBULK[0]} run ../shipment.csv").wait()
    assert (again.code, "Finished" in again.stdout) == (0, True), again.stderr
    assert (again.stderr.startswith(f"Home: {desk.home}"), len(pingone.posts)) == (True, 3)


@pytest.mark.faults
def test_what_was_rehearsed_is_found_until_something_is_loaded(persons_desk) -> None:
    """Doctor and config tell what a run would meet, so they name it and do not go there, as `status` does."""
    desk = persons_desk
    empty = f"{desk.home}: nothing has been loaded into it yet"
    assert desk.oathbulk("rehearse", "--tokens", "12").code == 0
    rehearsal = desk.folder / "state" / "oathbulk-rehearsals" / "rehearsal"
    assert not desk.home.exists()

    found = desk.oathbulk("status", "rehearsal")
    assert (found.code, f"Home: {rehearsal}" in found.stderr) == (0, True)
    for command in ("doctor", "config"):
        result = desk.oathbulk(command)
        there = f"{empty}; the latest rehearsal has another home: OATHBULK_HOME={rehearsal} oathbulk {command}"
        assert there in " ".join((result.stdout + result.stderr).split())
        looked_at = desk.oathbulk(command, OATHBULK_HOME=str(rehearsal))
        assert (looked_at.code, "nothing has been loaded" in looked_at.stdout + looked_at.stderr) == (0, False)

    assert desk.oathbulk("run", "shipment.csv").code == 0
    assert "rehearsal" not in desk.oathbulk("status").stdout
    assert desk.oathbulk("status", "rehearsal").code == 0
