"""A person's settings file: where commands, and what they start, look for it, and what they say of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.processes.command_desk import CommandDesk
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


def home_of(desk):
    """The first line of a run."""
    return f"Home: {desk.home}\n"


def write(path: Path, settings: dict[str, str]) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
    path.chmod(0o600)


def test_a_run_reads_the_file_of_its_home(desk, pingone):
    write(desk.home / ".env", pingone.settings)
    result = desk.oathbulk("run", "shipment.csv", "--json")
    assert (result.code, result.stderr) == (0, home_of(desk) + HERE)
    assert result.json["counts"]["active"] == 3


@pytest.mark.faults
def test_a_run_and_its_worker_read_the_file_that_is_named(desk, pingone):
    write(desk.folder / "test.env", pingone.settings)
    result = desk.oathbulk("--env-file", "test.env", "run", "shipment.csv", "--json")
    assert (result.code, result.stderr) == (0, home_of(desk) + HERE)
    assert result.json["counts"]["active"] == len(pingone.active) == 3


def test_a_file_in_the_working_directory_is_named_once_and_not_read(desk, pingone):
    stranger = {"PINGONE_API_URL": "http://127.0.0.1:1/v1", "PINGONE_TOKEN_URL": "http://127.0.0.1:1/token"}
    write(desk.folder / ".env", stranger)
    said = NOT_READ.format(desk.home / ".env")
    result = desk.oathbulk("run", "shipment.csv", "--json", **pingone.settings)
    assert (result.code, result.stderr) == (0, home_of(desk) + said + HERE)
    examined = desk.oathbulk("doctor", "--json", **pingone.settings)
    assert (examined.code, examined.stderr) == (0, said)
    # Neither says anything of a file that is read.
    write(desk.folder / ".env", pingone.settings)
    examined = desk.oathbulk("--env-file", ".env", "doctor", "--json")
    assert (examined.code, examined.stderr) == (0, "")


def test_a_url_from_a_file_for_a_secret_from_elsewhere_is_told_before_anything_goes_out(desk, pingone):
    settings = dict(pingone.settings)
    secret = {"PINGONE_CLIENT_SECRET": settings.pop("PINGONE_CLIENT_SECRET")}
    write(desk.home / ".env", settings)
    mixed = (
        f"PINGONE_API_URL and PINGONE_TOKEN_URL stand in {desk.home / '.env'}, "
        "PINGONE_CLIENT_SECRET in the process environment"
    )
    result = desk.oathbulk("run", "shipment.csv", **secret)
    assert result.code == 0
    assert [line.partition(":")[0] for line in result.stderr.splitlines()[1:3]] == [HERE.strip(), mixed]
    checks = desk.oathbulk("doctor", "--json", **secret).json["checks"]
    (found,) = [check for check in checks if check["check"] == "configuration"]
    assert found["is_well"]
    assert f" {HERE.strip()} {mixed}: " in found["detail"]
    assert CLIENT_SECRET not in result.stderr + found["detail"]


def test_a_run_names_the_hosts_before_it_calls_them(desk):
    nowhere = {
        "PINGONE_ENVIRONMENT_ID": "environment",
        "PINGONE_CLIENT_ID": "client",
        "PINGONE_CLIENT_SECRET": "hidden",
        "PINGONE_API_URL": "http://localhost:1/v1",
        "PINGONE_TOKEN_URL": "http://127.0.0.1:1/token",
    }
    result = desk.oathbulk("run", "shipment.csv", **nowhere)
    assert result.code == 3
    said = result.stderr.splitlines()
    assert said.pop(0) + "\n" == home_of(desk)
    assert said[0] == "PingOne's API is called at localhost, access tokens come from 127.0.0.1."
    assert said[1].startswith("oathbulk: PingOne is out of reach")


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_a_file_that_is_named_and_not_there_ends_every_command(desk, command):
    for result in (
        desk.oathbulk("--env-file", "nothing.env", command),
        desk.oathbulk(command, OATHBULK_ENV_FILE=str(desk.folder / "nothing.env")),
    ):
        assert result.code == 3
        assert result.stderr.startswith(f"oathbulk: {desk.folder / 'nothing.env'} does not exist: name another with")


def test_a_rehearsal_takes_nothing_that_leads_elsewhere_from_the_file(desk):
    """Neither the command itself nor the worker that it starts."""
    elsewhere = {
        "OATHBULK_DATABASE_URL": "postgresql+psycopg://nobody:hidden@127.0.0.1:1/none",
        "OATHBULK_REDIS_URL": "redis://127.0.0.1:1/0",
        "PINGONE_API_URL": "http://127.0.0.1:1/v1",
    }
    write(desk.folder / "production.env", elsewhere)
    result = desk.oathbulk("--env-file", "production.env", "rehearse", "--tokens", "5", "--rate", "300")
    assert result.code == 0, result.stdout + result.stderr


@pytest.mark.parametrize("scheme", ["mysql", "postgres", "postgresql"])
def test_a_database_that_is_not_supported_is_refused_in_one_line(desk, scheme):
    result = desk.oathbulk("status", OATHBULK_DATABASE_URL=f"{scheme}://user:hidden@127.0.0.1:1/oathbulk")
    assert (result.code, result.stdout) == (3, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("oathbulk: OATHBULK_DATABASE_URL must ")
    assert "postgresql+psycopg://" in line
    assert "hidden" not in line
