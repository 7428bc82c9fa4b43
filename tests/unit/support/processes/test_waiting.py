"""Waiting, and telling the living from the dead."""

import os
import subprocess
import sys

import pytest
from support.processes.waiting import is_running, wait_until


def test_waiting_returns_the_first_true_value():
    values = iter([0, "", "found", "later"])
    assert wait_until(lambda: next(values), 5, "a value") == "found"


def test_waiting_in_vain_says_for_what():
    with pytest.raises(TimeoutError, match=r"not within 0.05 s: the impossible"):
        wait_until(lambda: False, 0.05, "the impossible")


def test_a_zombie_does_not_run():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not is_running(process.pid)


def test_this_process_runs():
    assert is_running(os.getpid())
