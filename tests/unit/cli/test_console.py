"""Commands that are printed to be pasted: how `oathbulk` is named in them, and that they stay whole."""

from __future__ import annotations

import pytest
from rich.text import Text

from worker.cli.console import Folded, console, name_program


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


@pytest.mark.parametrize("told", ["Left: {}", "A batch whose name is long is left: {}"])
def test_a_command_in_a_live_display_goes_on_below_and_is_not_cut(monkeypatch, told):
    command = f"oathbulk export {'very-' * 20}long --left -o left.csv"
    monkeypatch.setattr(console, "_width", 40)
    lines = ["".join(part.text for part in line) for line in console.render_lines(Folded(Text(told.format(command))))]
    assert command in "".join(lines)
    assert {len(line) for line in lines} == {40}
