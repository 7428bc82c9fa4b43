from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes.waiting import wait_until

from worker.process.run_delay import read_run_delay

BURN = "import os\nos.sched_setaffinity(0, {int(os.environ['ON'])})\nwhile True: pass"


def test_the_delays_of_all_threads_are_added_up(tmp_path: Path) -> None:
    for thread, counted in {"10": "1 2000000000 3\n", "11": "4 500000000 6\n", "12": ""}.items():
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(counted)
    # One that has ended meanwhile.
    (tmp_path / "13").mkdir()
    assert read_run_delay(str(tmp_path)) == 2.5


def test_a_system_that_counts_nothing_tells_of_no_delay(tmp_path: Path) -> None:
    assert read_run_delay(str(tmp_path / "missing")) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts it")
def test_a_process_that_has_to_share_its_processor_is_delayed() -> None:
    processors = os.sched_getaffinity(0)
    here = min(processors)
    other = subprocess.Popen([sys.executable, "-c", BURN], env={"ON": str(here)})
    try:
        os.sched_setaffinity(0, {here})
        before = read_run_delay()
        wait_until(lambda: sum(range(100_000)) > 0 and read_run_delay() > before + 0.1, 60, "it has waited")
    finally:
        os.sched_setaffinity(0, processors)
        other.kill()
        other.wait()
