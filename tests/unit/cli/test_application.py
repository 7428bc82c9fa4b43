"""The command `oathbulk`: its list of commands, what is completed, how quickly one starts, and how it ends that was
typed wrongly, or failed in a way that a person can mend."""

import errno
import gc
import os
import platform
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from support.data.batches import make_batch
from support.data.moving_clock import MovingDatabase

import worker.cli
from migrations import HEAD
from worker.cli.application import app, make_command
from worker.cli.command_list import COMMANDS, OPTIONS, answer
from worker.cli.exit_codes import UNUSABLE_SETUP, WRONG_USAGE
from worker.cli.failures import exit_for

OATHBULK: Any = typer.main.get_command(app)
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith(("OATHBULK_", "PINGONE_"))}


def run_python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command, env = [sys.executable, *arguments], PLAIN | variables
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_line_is_that_of_the_command(name: str) -> None:
    command = make_command(name)
    assert (command.name, " ".join(command.help.split())) == (name, COMMANDS[name].help)


def test_the_list_has_the_options_before_a_command_and_every_module_with_one() -> None:
    declared = {}
    for option in [*OATHBULK.params, OATHBULK.get_help_option(OATHBULK.make_context("oathbulk", ["keygen"]))]:
        names = ", ".join(sorted(option.opts, key=len))
        declared[f"{names} {option.metavar}" if option.metavar else names] = option.help
    assert declared == OPTIONS
    paths = Path(worker.cli.__file__).parent.glob("*.py")
    found = {path.stem for path in paths if f"`oathbulk {path.stem}" in path.read_text().split('"""')[1]}
    assert found <= {place.module for place in COMMANDS.values()}


@pytest.mark.parametrize("option", ["--help", "-h", "--version"])
def test_help_and_version_are_the_same_before_typer_and_by_typer(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer([option]) == 0
    early = capsys.readouterr().out
    assert OATHBULK.main(["--env-file", "x", option], standalone_mode=False) == 0
    assert capsys.readouterr().out.split() == early.split()
    told = f"oathbulk {worker.__version__}, schema {HEAD}, Python {platform.python_version()}\n"
    assert option != "--version" or early == told


@pytest.mark.parametrize("name", ["models", "migrations"])
def test_a_package_of_another_program_is_named_at_each_start_and_our_own_is_not(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("HEAD = ''\n")
    done = run_python("-P", "-m", "worker", "--version", PYTHONPATH=str(tmp_path))
    assert done.stderr.startswith(f"oathbulk: the package {name} in {tmp_path / name} is another program's: install")
    assert (done.stderr.count("\n"), run_python("-P", "-m", "worker", "--version").stderr) == (1, "")


def test_a_reader_that_has_seen_enough_and_a_closed_stream_end_nothing_badly() -> None:
    for shell in ('"$0" -m worker --help | true', '"$0" -m worker --help >&-', '"$0" -m worker --version >&- 2>&-'):
        ended = subprocess.run(["sh", "-c", shell, sys.executable], check=True, capture_output=True, text=True)
        assert (ended.stdout, ended.stderr) == ("", "")


# Completion, asked as a shell asks: by variables, with what was typed so far.


@pytest.fixture
def home(sqlite_url: str, tmp_path: Path) -> Path:
    """A home with three batches."""
    database = MovingDatabase(sqlite_url)
    for name in ("north", "south", "south 2"):
        make_batch(database, name=name)
    database.close()
    (tmp_path / "settings").write_text(f"OATHBULK_HOME={tmp_path}\n")
    return tmp_path


# A shell has little patience, which a busy machine may need more of.
PATIENT = "from worker.cli import main, options; options._PATIENCE = 600; main()"


def complete(typed: str, *command: str, **variables: str) -> list[str]:
    """What a shell offers behind these words; a command that says anything else spoils what a person types."""
    asked = {"_OATHBULK_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    ended = run_python(*(command or ("-c", PATIENT)), **asked, **variables)
    assert ended.stderr == ""
    return [*filter(None, ended.stdout.split("\n"))]


@pytest.mark.parametrize(
    ("typed", "variables", "offered"),
    [
        # Names of batches, the latest first.
        ("pause ", {}, ["south 2", "south", "north"]),
        ("status so", {}, ["south 2", "south"]),
        ("show --batch n", {}, ["north"]),
        ("export x", {}, []),
        ("--env-file {home}/settings pause n", {}, ["north"]),
        ("stat", {}, ["status"]),
        ("--ver", {}, ["--version"]),
        ("status --ch", {}, ["--check"]),
        ("db up", {}, ["upgrade"]),
        ("inspect bo", {}, []),
        # Whatever is wrong is no matter for a shell.
        ("pause ", {"OATHBULK_DATABASE_URL": "mysql://user:password@host/oathbulk"}, []),
        ("pause ", {"OATHBULK_DATABASE_URL": "postgresql+psycopg://user:password@127.0.0.1:1/oathbulk"}, []),
        ("pause ", {"OATHBULK_CONCURRENCY": "abc"}, []),
        ("pause ", {"OATHBULK_XYZZY": "1"}, []),
    ],
)
def test_commands_options_and_batches_are_completed(
    typed: str, variables: dict[str, str], offered: list[str], home: Path
) -> None:
    place = {} if "{home}" in typed else {"OATHBULK_HOME": str(home)}
    assert complete(f"oathbulk {typed.format(home=home)}", **place | variables) == offered


def test_nothing_is_offered_nor_made_where_nothing_was_loaded_or_the_database_does_not_answer(tmp_path: Path) -> None:
    home = {"OATHBULK_HOME": str(tmp_path / "home")}
    assert complete("oathbulk pause ", **home) == []
    assert not (tmp_path / "home").exists()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://user:password@127.0.0.1:{silent.getsockname()[1]}/oathbulk?connect_timeout=60"
        assert complete("oathbulk pause ", "-m", "worker", **home, OATHBULK_DATABASE_URL=url) == []


# What the start of a command costs: a person waits for it, and so does a monitor that asks each minute.


# Runs a command of `oathbulk`, and prints what it has imported as the last line.
RUN = """
import sys
from worker.cli import main
try:
    main()
finally:
    print()
    print(*sys.modules)
"""
# Imports every command but `metrics`, which needs what writes metrics, and lists the modules.
IMPORT_ALL = """
import sys
from worker.cli.application import make_command
from worker.cli.command_list import COMMANDS
for name in COMMANDS:
    if name != "metrics":
        make_command(name)
print(*sys.modules)
"""
BY_WORKERS_AND_MIGRATIONS = {"alembic", "celery", "kombu", "prometheus_client", "structlog"}
BY_COMMANDS_THAT_CALL = {
    *("httpx", "redis", "jinja2", "pskc", "psycopg", "starlette", "tenacity", "tornado", "wsgiref"),
}
BY_ANY_COMMAND = {"typer", "rich", "pydantic", "dotenv", "sqlalchemy", "cryptography", "dataclasses"}


@pytest.mark.parametrize(
    ("arguments", "needed", "not_needed"),
    [
        *(
            (
                (RUN, option),
                "worker.cli.command_list",
                BY_WORKERS_AND_MIGRATIONS | BY_COMMANDS_THAT_CALL | BY_ANY_COMMAND,
            )
            for option in ("--help", "-h", "--version")
        ),
        ((RUN, "status"), "worker.reports.facts", BY_WORKERS_AND_MIGRATIONS | BY_COMMANDS_THAT_CALL),
        # A command imports no other command.
        ((RUN, "formats"), "worker.cli.check", {"worker.cli.status", "worker.cli.run", "worker.cli.simulator"}),
        ((IMPORT_ALL,), "worker.cli.doctor", BY_WORKERS_AND_MIGRATIONS | {"jinja2", "starlette", "wsgiref"}),
    ],
    ids=["--help", "-h", "--version", "status", "formats", "all of them"],
)
def test_a_command_waits_for_nothing_but_what_it_needs(
    arguments: tuple[str, ...], needed: str, not_needed: set[str], sqlite_url: str, tmp_path: Path
) -> None:
    assert sqlite_url.endswith(str(tmp_path / "oathbulk.db"))
    loaded = set(run_python("-c", *arguments, OATHBULK_HOME=str(tmp_path)).stdout.splitlines()[-1].split())
    assert needed in loaded
    assert loaded & not_needed == set()


def test_a_command_collects_its_own_garbage_and_none_of_what_was_imported() -> None:
    gc.unfreeze()
    try:
        assert make_command("keygen").name == "keygen"
        assert (gc.isenabled(), gc.get_freeze_count() > 0) == (True, True)
    finally:
        gc.unfreeze()


def test_a_terminal_that_cannot_show_a_character_gets_its_number(tmp_path: Path) -> None:
    person = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f"
    box = tmp_path / "box.csv"
    box.write_text(f"serial,otp1,otp2,user_id,device_id\nMADE1,308714,367299,{person},{person}\n")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = run_python("-m", "worker", "check", "--offline", str(box), OATHBULK_HOME=str(tmp_path / "h"), **ascii_only)
    assert "1 \\xd7 HOTP pair" in ran.stdout


# How one ends.


def test_a_path_in_a_directory_that_is_closed_to_us_is_named_and_a_failure_without_one_is_no_fault_of_a_person(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        exit_for(PermissionError(errno.EACCES, "Permission denied", tmp_path / "out.csv"))
    assert ended.value.code == WRONG_USAGE
    assert f"{tmp_path / 'out.csv'} is out of reach (Permission denied): check the path" in capsys.readouterr().err
    with pytest.raises(PermissionError):
        exit_for(PermissionError(errno.EACCES, "Permission denied"))


def test_a_full_folder_of_temporary_files_is_said_with_the_cure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        exit_for(sqlite3.OperationalError("disk I/O error"))
    assert ended.value.code == UNUSABLE_SETUP
    assert "temporary files is full or not writable (disk I/O error): free some" in capsys.readouterr().err
