"""Where commands keep what they load, and where they look for a person's settings; and what they say of both."""

from pathlib import Path

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.processes.command_desk import NOWHERE, OATHBULK, CommandDesk
from support.servers.stand_in import CLIENT_SECRET, StandIn

HERE = "PingOne's API is called at 127.0.0.1, access tokens come from 127.0.0.1.\n"
NOT_READ = "./.env is not read: settings come from {}; use --env-file .env\n"


@pytest.fixture
def pingone():
    with StandIn(make_tokens(3)) as pingone:
        yield pingone


@pytest.fixture
def desk(tmp_path):
    """It knows of no PingOne yet."""
    with CommandDesk(tmp_path / "desk") as desk:
        write_shipment(desk.folder / "shipment.csv", make_tokens(3))
        yield desk


@pytest.fixture
def persons_desk(desk, pingone):
    """One whose home is where it is if nothing says otherwise."""
    del desk.settings["OATHBULK_HOME"]
    desk.settings |= pingone.settings
    desk.home = desk.folder / "state" / "oathbulk"
    return desk


def write(path: Path, settings: dict[str, str]) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
    path.chmod(0o600)


def test_a_file_in_the_working_directory_is_named_once_and_not_read(desk, pingone):
    stranger = {"PINGONE_API_URL": "http://127.0.0.1:1/v1", "PINGONE_TOKEN_URL": "http://127.0.0.1:1/token"}
    write(desk.folder / ".env", stranger)
    said = NOT_READ.format(desk.home / ".env")
    result = desk.oathbulk("run", "shipment.csv", "--json", **pingone.settings)
    assert (result.code, result.stderr) == (0, f"Home: {desk.home}\n" + said + HERE)
    examined = desk.oathbulk("doctor", "--json", **pingone.settings)
    assert (examined.code, examined.stderr) == (0, said)
    # Neither says anything of a file that is read.
    write(desk.folder / ".env", pingone.settings)
    examined = desk.oathbulk("--env-file", ".env", "doctor", "--json")
    assert (examined.code, examined.stderr) == (0, "")


def test_a_url_from_a_file_for_a_secret_from_elsewhere_is_told_before_anything_goes_out(desk, pingone):
    settings = dict(pingone.settings)
    secret = {"PINGONE_CLIENT_SECRET": settings.pop("PINGONE_CLIENT_SECRET")}
    write(desk.folder / "test.env", settings)
    file = ("--env-file", "test.env")
    mixed = (
        f"PINGONE_API_URL and PINGONE_TOKEN_URL stand in {desk.folder / 'test.env'}, "
        "PINGONE_CLIENT_SECRET in the process environment"
    )
    # The worker that it starts reads the file, too.
    result = desk.oathbulk(*file, "run", "shipment.csv", **secret)
    assert (result.code, len(pingone.active)) == (0, 3)
    assert [line.partition(":")[0] for line in result.stderr.splitlines()[1:3]] == [HERE.strip(), mixed]
    checks = desk.oathbulk(*file, "doctor", "--json", **secret).json["checks"]
    (found,) = [check for check in checks if check["check"] == "configuration"]
    assert (found["is_well"], f" {HERE.strip()} {mixed}: " in found["detail"]) == (True, True)
    assert CLIENT_SECRET not in result.stderr + found["detail"]


def test_a_run_names_the_hosts_before_it_calls_them(desk):
    result = desk.oathbulk("run", "shipment.csv", **NOWHERE | {"PINGONE_API_URL": "http://localhost:1/v1"})
    hosts = "PingOne's API is called at localhost, access tokens come from 127.0.0.1."
    before = f"Home: {desk.home}\n{hosts}\noathbulk: PingOne is out of reach"
    assert (result.code, result.stderr.startswith(before)) == (3, True), result.stderr


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
    earlier = desk.folder / ".oathbulk"
    assert desk.oathbulk("run", "shipment.csv", OATHBULK_HOME=str(earlier)).code == 0

    # A home of an earlier version is used, and named with the way to move it.
    result = desk.oathbulk("status")
    (note,) = [line for line in result.stderr.splitlines() if line.startswith("The home is")]
    assert ("shipment" in result.stdout, str(earlier) in note) == (True, True)
    assert desk.start_program("sh", "-c", note.rpartition(": ")[2]).wait().code == 0
    moved = desk.oathbulk("status")
    assert ("The home is" in moved.stderr, f"Home: {desk.home}" in moved.stdout) == (False, True)

    (desk.folder / "elsewhere").mkdir()
    again = desk.start_program("sh", "-c", f"cd elsewhere && exec {OATHBULK[0]} run ../shipment.csv").wait()
    assert (again.code, "Finished" in again.stdout) == (0, True), again.stderr
    assert (again.stderr.startswith(f"Home: {desk.home}"), len(pingone.posts)) == (True, 3)


@pytest.mark.faults
def test_what_was_rehearsed_is_found_until_something_is_loaded(persons_desk) -> None:
    """Doctor and config tell what a run would meet, so they name it and do not go there, as `status` does."""
    desk = persons_desk
    empty = f"{desk.home}: nothing was loaded into it yet"
    assert desk.oathbulk("rehearse", "--tokens", "12").code == 0
    rehearsal = desk.folder / "state" / "oathbulk-rehearsals" / "rehearsal"
    assert not desk.home.exists()

    found = desk.oathbulk("status", "rehearsal")
    assert (found.code, f"Home: {rehearsal}" in found.stderr) == (0, True)
    for command in ("doctor", "config"):
        result = desk.oathbulk(command)
        there = f"{empty}; the latest rehearsal's is another: OATHBULK_HOME={rehearsal} oathbulk {command}"
        assert there in " ".join((result.stdout + result.stderr).split())
        looked_at = desk.oathbulk(command, OATHBULK_HOME=str(rehearsal))
        assert (looked_at.code, "nothing was loaded" in looked_at.stdout + looked_at.stderr) == (0, False)

    assert desk.oathbulk("run", "shipment.csv").code == 0
    assert "rehearsal" not in desk.oathbulk("status").stdout
    assert desk.oathbulk("status", "rehearsal").code == 0
