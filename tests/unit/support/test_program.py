from __future__ import annotations

import os
from pathlib import Path

from support.program import Program


def test_a_program_finds_imported_what_takes_long(tmp_path: Path) -> None:
    """The process that forks it passes over what it cannot import, and each program would be slow again."""
    (tmp_path / "told.py").write_text(
        "import gc, sys\nprint('celery.bin.worker' in sys.modules, gc.get_freeze_count() > 100_000, gc.isenabled())"
    )
    with Program("told", "told", [], {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}, tmp_path) as program:
        assert program.wait() == 0
        assert program.read_log() == "True True True\n"


def test_a_program_has_its_own_variables_folder_and_log_and_tells_how_it_ended(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(
        "import os, sys\nprint(os.environ['GIVEN'], os.getcwd(), sys.argv[1:])\nsys.exit(3)"
    )
    given = {"GIVEN": "here", "PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    with Program("told", "told", ["one"], given, tmp_path) as program:
        assert program.wait() == 3
        assert program.read_log() == f"here {tmp_path.resolve()} ['one']\n"


def test_a_program_lets_go_at_its_end_of_what_refers_to_itself(tmp_path: Path) -> None:
    """A connection among it closes its database; cut off, it would leave the log of changes behind."""
    (tmp_path / "told.py").write_text(
        "import sys\n"
        "class Connection:\n"
        "    def __init__(self): self.itself = self\n"
        "    def __del__(self): print('closed')\n"
        "Connection()\n"
        "sys.exit(3)"
    )
    with Program("told", "told", [], {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}, tmp_path) as program:
        assert program.wait() == 3
        assert program.read_log() == "closed\n"
