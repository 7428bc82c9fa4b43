"""The list of commands says what each command says of itself; what is typed wrongly is answered with what to type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import worker.cli
from worker.cli import command_list, main
from worker.cli.application import REPLACED, app, complete_command, make_command
from worker.cli.command_list import COMMANDS, OPTIONS, SUMMARY, answer, write_help
from worker.cli.options import RowStatus

OATHBULK: Any = typer.main.get_command(app)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_line_is_that_of_the_command(name: str) -> None:
    command = make_command(name)
    assert " ".join(command.help.split()) == COMMANDS[name].help
    assert command.name == name


@pytest.mark.parametrize("word", REPLACED)
def test_a_word_that_is_typed_by_habit_is_answered_with_the_new_one(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["oathbulk", word, "box.csv", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"oathbulk: '{word}' is `oathbulk {REPLACED[word]}` now\n"


def test_the_options_are_those_before_a_command() -> None:
    declared = {}
    for option in [*OATHBULK.params, OATHBULK.get_help_option(OATHBULK.make_context("oathbulk", ["keygen"]))]:
        names = ", ".join(sorted(option.opts, key=len))
        declared[f"{names} {option.metavar}" if option.metavar else names] = option.help
    assert declared == OPTIONS


def test_no_module_with_a_command_is_left_out() -> None:
    """A module is a command's if it takes arguments by typer's declarations; `options` has those of several."""
    told = {place.module for place in COMMANDS.values()}
    folder = Path(worker.cli.__file__).parent
    found = {path.stem for path in folder.glob("*.py") if f"`oathbulk {path.stem}" in path.read_text().split('"""')[1]}
    assert found - told == set()
    assert command_list.COMMANDS.keys() == set(OATHBULK.commands)


@pytest.mark.parametrize("width", [70, 80, 120])
def test_the_list_has_every_command_once_and_no_line_is_too_long(width: int) -> None:
    lines = write_help(width).splitlines()
    assert max(map(len, lines)) <= width
    assert SUMMARY in lines
    for name in COMMANDS:
        assert len([line for line in lines if line.startswith(f"  {name} ")]) == 1


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_is_the_same_before_typer_and_by_typer(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer([option]) == 0
    early = capsys.readouterr().out
    assert OATHBULK.main(["--env-file", "x", option], standalone_mode=False) == 0
    late = capsys.readouterr().out
    assert late.split() == early.split()


def test_what_asks_for_nothing_gets_the_list_on_stderr_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer([]) == 2
    printed = capsys.readouterr()
    assert (printed.out, "Usage: oathbulk" in printed.err) == ("", True)


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(["--version"]) == 0
    early = capsys.readouterr().out
    assert early == f"oathbulk {worker.__version__}\n"
    assert OATHBULK.main(["--env-file", "x", "--version"], standalone_mode=False) == 0
    assert capsys.readouterr().out == early


def test_a_command_or_an_option_of_its_own_is_not_answered_here() -> None:
    assert answer(["status"]) is None
    assert answer(["status", "--help"]) is None


def test_a_reader_that_has_seen_enough_and_a_closed_stream_end_nothing_badly() -> None:
    for shell in ('"$0" -m worker --help | true', '"$0" -m worker --help >&-', '"$0" -m worker --version >&- 2>&-'):
        ended = subprocess.run(["sh", "-c", shell, sys.executable], check=True, capture_output=True, text=True)
        assert (ended.stdout, ended.stderr) == ("", "")


@pytest.mark.parametrize(
    ("typed", "values", "file"),
    [
        ("export july", {}, "july-export.csv"),
        ("export july --left", {"left": True}, "july-left.csv"),
        ("export july --hand-out", {"hand_out": True, "left": False}, "july-hand-out.csv"),
        ("export july --status dead_letter", {"status": RowStatus.DEAD_LETTER}, "july-dead-letter.csv"),
        ("--env-file my.env report july", {}, "july-report.html"),
    ],
)
def test_the_file_is_named_after_the_batch_and_what_it_holds(typed: str, values: dict[str, Any], file: str) -> None:
    command = "export" if "export" in typed else "report"
    said = complete_command(command, typed.split(), values | {"batch": "july"})
    assert said == f" Such as: oathbulk {typed} -o {file}"


def test_it_can_be_pasted_whatever_the_batch_is_called() -> None:
    said = complete_command("export", ["export", "lot 7"], {"batch": "lot 7"})
    assert said == " Such as: oathbulk export 'lot 7' -o 'lot 7-export.csv'"


def test_without_a_batch_none_is_named() -> None:
    assert complete_command("check", ["check", "box.pskc"], {}) == ""
    assert complete_command("export", ["export"], {}) == ""
