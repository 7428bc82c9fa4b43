"""Commands that are printed to be pasted: how `oathbulk` is named in them, and that they stay whole."""

from __future__ import annotations

import pytest

from worker.cli.console import console, name_program


@pytest.mark.parametrize(
    ("called", "is_on_path", "named"),
    [
        ("/usr/bin/oathbulk", True, "oathbulk"),
        (".venv/bin/oathbulk", True, "oathbulk"),
        (".venv/bin/oathbulk", False, ".venv/bin/oathbulk"),
        ("/home/a person/bin/oathbulk", False, "'/home/a person/bin/oathbulk'"),
        ("/srv/worker/__main__.py", False, "oathbulk"),
    ],
)
def test_a_command_is_named_so_that_the_shell_finds_it(monkeypatch, called, is_on_path, named):
    monkeypatch.setattr("sys.argv", [called, "rehearse"])
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/oathbulk" if is_on_path else None)
    assert name_program() == named


@pytest.mark.parametrize("told", ["Left: {}", "A batch whose name is long is left: {}"])
def test_a_command_is_printed_in_one_line_that_the_terminal_folds(monkeypatch, told):
    command = f"oathbulk export {'very-' * 20}long --left -o left.csv"
    monkeypatch.setattr(console, "soft_wrap", False)
    monkeypatch.setattr(console, "_width", 40)
    with console.capture() as printed:
        console.print(told.format(command))
    assert command in printed.get().splitlines()
