"""Completion, asked as a shell asks: by variables, with what was typed so far."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.data.batches import make_batch
from support.data.moving_clock import MovingDatabase

NAMES = ("north", "south", "south 2")


@pytest.fixture
def home(sqlite_url: str, tmp_path: Path) -> Path:
    """A home with three batches."""
    database = MovingDatabase(sqlite_url)
    for name in NAMES:
        make_batch(database, name=name)
    database.close()
    return tmp_path


def complete(typed: str, **variables: str) -> list[str]:
    """What a shell offers behind these words; a command that says anything else spoils what a person types."""
    asked = {"_OATHBULK_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("OATHBULK_", "PINGONE_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "worker"], capture_output=True, text=True, timeout=30, env=settings | asked | variables
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return [line for line in ended.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("oathbulk pause ", ["south 2", "south", "north"]),
        ("oathbulk pause n", ["north"]),
        ("oathbulk status so", ["south 2", "south"]),
        ("oathbulk show --batch n", ["north"]),
        ("oathbulk export x", []),
    ],
)
def test_names_of_batches_are_completed_the_latest_first(typed: str, offered: list[str], home: Path) -> None:
    assert complete(typed, OATHBULK_HOME=str(home)) == offered


def test_a_settings_file_that_was_typed_before_is_read(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_text(f"OATHBULK_HOME={home}\n")
    assert complete(f"oathbulk --env-file {file} pause n") == ["north"]


def test_nothing_is_offered_and_nothing_made_where_nothing_was_loaded(tmp_path: Path) -> None:
    assert complete("oathbulk pause ", OATHBULK_HOME=str(tmp_path / "home")) == []
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"OATHBULK_DATABASE_URL": "mysql://user:password@host/oathbulk"},
        {"OATHBULK_DATABASE_URL": "postgresql+psycopg://user:password@127.0.0.1:1/oathbulk"},
        {"OATHBULK_CONCURRENCY": "abc"},
        {"OATHBULK_XYZZY": "1"},
    ],
)
def test_whatever_is_wrong_is_no_matter_for_a_shell(wrong: dict[str, str], home: Path) -> None:
    assert complete("oathbulk pause ", OATHBULK_HOME=str(home), **wrong) == []


def test_a_database_that_does_not_answer_is_given_up_soon(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://user:password@127.0.0.1:{silent.getsockname()[1]}/oathbulk?connect_timeout=60"
        assert complete("oathbulk pause ", OATHBULK_HOME=str(tmp_path), OATHBULK_DATABASE_URL=url) == []


def test_commands_and_options_are_completed() -> None:
    assert complete("oathbulk stat") == ["status"]
    assert complete("oathbulk --ver") == ["--version"]
    assert complete("oathbulk status --ch") == ["--check"]
    assert complete("oathbulk db up") == ["upgrade"]
    assert complete("oathbulk inspect bo") == []
