from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.program import IMPORTED, Program


@pytest.mark.parametrize("name", IMPORTED)
def test_what_is_imported_ahead_can_be(name: str) -> None:
    """The process that does it passes over what it does not find, and each program would be slow again."""
    assert find_spec(name)


def test_a_program_has_its_own_variables_folder_and_log_and_tells_how_it_ended(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(
        "import os, sys\nprint(os.environ['GIVEN'], os.getcwd(), sys.argv[1:])\nsys.exit(3)"
    )
    given = {"GIVEN": "here", "PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    with Program("told", "told", ["one"], given, tmp_path) as program:
        assert program.wait() == 3
        assert program.read_log() == f"here {tmp_path.resolve()} ['one']\n"
