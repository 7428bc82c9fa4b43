"""How `oathbulk` is named in commands that are printed to be pasted."""

from __future__ import annotations

import pytest

from worker.cli.console import name_program


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
