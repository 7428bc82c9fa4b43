"""Where the benchmarks let a process compute."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.cpu import bind, children
from support.processes.waiting import wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux lets a process choose")

FAMILY = """
import subprocess, sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
subprocess.run(["sleep", "60"])
"""


@pytest.fixture
def family():
    """A process with a second thread and a child."""
    with subprocess.Popen([sys.executable, "-c", FAMILY], start_new_session=True) as parent:
        try:
            wait_until(lambda: children(parent.pid), 10, "it has a child")
            yield parent.pid
        finally:
            os.killpg(parent.pid, 9)


def test_all_threads_and_children_of_a_process_are_bound(family):
    last = max(os.sched_getaffinity(0))
    bind(family, [last])
    threads = [int(thread.name) for thread in Path(f"/proc/{family}/task").iterdir()]
    assert len(threads) == 2
    for one in (*threads, *children(family)):
        assert os.sched_getaffinity(one) == {last}


def test_a_process_that_has_ended_needs_no_processor():
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    bind(ended.pid, os.sched_getaffinity(0))
