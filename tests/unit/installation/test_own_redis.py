"""Commands that call PingOne beside no worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOGGING = """
import sys
import structlog
from worker.installation.stack import settings_with_redis
from worker.installation.installation import Installation

settings = {"OATHBULK_HOME": sys.argv[1], "OATHBULK_REDIS_URL": "redis://127.0.0.1:1/0"}
with settings_with_redis(Installation(settings)):
    structlog.get_logger().warning("pace_out_of_reach")
print("{}")
"""


def test_what_they_log_stands_on_stderr_so_that_json_on_stdout_stays_json(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    ran = subprocess.run([sys.executable, "-c", LOGGING, home], check=True, capture_output=True, text=True)
    assert json.loads(ran.stdout) == {}
    assert json.loads(ran.stderr)["event"] == "pace_out_of_reach"
