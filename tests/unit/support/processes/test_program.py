from __future__ import annotations

import os
from pathlib import Path

from support.processes.program import Program


def test_a_program_has_its_own_variables_folder_and_log_and_tells_how_it_ended(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(
        "import os, sys\nprint(os.environ['GIVEN'], os.getcwd(), sys.argv[1:])\nsys.exit(3)"
    )
    given = {"GIVEN": "here", "PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    with Program("told", "told", ["one"], given, tmp_path) as program:
        assert program.wait() == 3
        assert program.read_log() == f"here {tmp_path.resolve()} ['one']\n"
