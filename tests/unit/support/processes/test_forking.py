from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.processes.forking import Forked

PATIENCE = 30.0
Fork = Callable[[str], Forked]


@pytest.fixture
def fork(tmp_path: Path) -> Iterator[Fork]:
    """Forks a process that runs this code; what it prints is in `stdout` and `stderr`."""
    with ExitStack() as stack:

        def make(code: str) -> Forked:
            (tmp_path / "told.py").write_text(code)
            env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
            forked = Forked("told", [], env, tmp_path, tmp_path / "stdout", tmp_path / "stderr")
            stack.callback(forked.wait)
            stack.callback(forked.kill)
            return forked

        yield make


def test_what_takes_long_is_imported_already(fork: Fork, tmp_path: Path) -> None:
    """The process that does it passes over what it cannot import, and each program would be slow again."""
    code = "import gc, sys; print('celery.bin.worker' in sys.modules, gc.get_freeze_count() > 100_000, gc.isenabled())"
    assert fork(code).wait(PATIENCE) == 0
    assert (tmp_path / "stdout").read_text() == "True True True\n"


def test_what_refers_to_itself_is_let_go_at_the_end(fork: Fork, tmp_path: Path) -> None:
    """A connection among it closes its database; cut off, it would leave the log of changes behind."""
    code = (
        "import sys\n"
        "class Connection:\n"
        "    def __init__(self): self.itself = self\n"
        "    def __del__(self): print('closed')\n"
        "Connection()\n"
        "sys.exit(3)"
    )
    assert fork(code).wait(PATIENCE) == 3
    assert (tmp_path / "stdout").read_text() == "closed\n"


def test_both_streams_and_a_message_at_the_end_are_kept_apart(fork: Fork, tmp_path: Path) -> None:
    assert fork("import sys; print('out'); sys.exit('it cannot be done')").wait(PATIENCE) == 1
    assert (tmp_path / "stdout").read_text() == "out\n"
    assert (tmp_path / "stderr").read_text() == "it cannot be done\n"


def test_one_that_does_not_end_is_not_waited_for_longer_than_asked(fork: Fork) -> None:
    forked = fork("import signal; signal.pause()")
    with pytest.raises(subprocess.TimeoutExpired):
        forked.wait(0.1)
    assert forked.poll() is None
    forked.kill()
    assert forked.wait(PATIENCE) == -9
