"""When a part of the stack is started again; and commands that call PingOne beside no worker."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from worker.fleet import FAILS_ALONE
from worker.installation.installation import Installation
from worker.installation.stack import PAUSE, Stack


class EndingWorker:
    """A worker that ends as soon as it is started, since it fails where others do not."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.started = list[float]()

    def find_ended(self) -> list[str]:
        return ["worker"]

    def exit_code(self, name: str) -> int:
        return FAILS_ALONE

    def start(self, *_: object) -> None:
        self.started.append(self.now)


def test_a_worker_that_fails_alone_again_and_again_is_started_after_pauses_and_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = EndingWorker()
    monkeypatch.setattr("worker.installation.stack.time", SimpleNamespace(monotonic=lambda: worker.now))
    servers = {"OATHBULK_DATABASE_URL": "postgresql+psycopg://db/oathbulk", "OATHBULK_REDIS_URL": "redis://broker/0"}
    stack = Stack(Installation({"OATHBULK_HOME": str(tmp_path), **servers}))
    monkeypatch.setattr(stack, "_children", worker)
    for _ in range(300):
        assert stack.restart_ended() is None
        worker.now += 1
    pauses = [after - before for before, after in zip(worker.started, worker.started[1:], strict=False)]
    assert worker.started[0] == 1000.0 + PAUSE
    assert len(pauses) > 5
    assert all(pause >= PAUSE for pause in pauses)


LOGGING = """
import sys
import structlog
from worker.installation.stack import parts_with_redis
from worker.installation.installation import Installation

settings = {"OATHBULK_HOME": sys.argv[1], "OATHBULK_REDIS_URL": "redis://127.0.0.1:1/0"}
with parts_with_redis(Installation(settings)):
    structlog.get_logger().warning("pace_out_of_reach")
print("{}")
"""


def test_what_they_log_stands_on_stderr_so_that_json_on_stdout_stays_json(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    ran = subprocess.run([sys.executable, "-c", LOGGING, home], check=True, capture_output=True, text=True)
    assert json.loads(ran.stdout) == {}
    assert json.loads(ran.stderr)["event"] == "pace_out_of_reach"
