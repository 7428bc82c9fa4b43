"""A real beat whose wall clock is wrong, or is set while it runs: libfaketime tells it another time."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from support.fleets.real_fleet import plain_env
from support.servers.unsteady_clock import find_libfaketime

pytestmark = pytest.mark.faults

DISPATCH_QUEUE = "oathbulk.dispatch"
TICK = 0.3
# Seconds that a start may take on a busy machine; and for ten ticks, which take three.
START, TEN_TICKS = 60.0, 15.0


class Beat:
    """One process, and the queue that it fills. The file says how far its wall clock is from this machine's."""

    def __init__(self, part: list[str], url: str, directory: Path, offset: str) -> None:
        self._offset = directory / "offset"
        self.set_clock(offset)
        self.log = directory / "beat.log"
        self._queue = redis.Redis.from_url(url, socket_timeout=2 * START)
        variables = {
            "OATHBULK_HOME": str(directory),
            "OATHBULK_REDIS_URL": url,
            "_OATHBULK_TUNING__tick": str(TICK),
            "LD_PRELOAD": str(find_libfaketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_NO_CACHE": "1",
            # Setting a clock leaves the steady ones alone.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        with self.log.open("wb") as log:
            argv = [sys.executable, "-m", *part]
            self._process = subprocess.Popen(argv, env=plain_env() | variables, cwd=directory, stdout=log, stderr=log)

    def set_clock(self, offset: str) -> None:
        """At once: a file that is half written would be an offset of its own."""
        draft = self._offset.with_suffix(".draft")
        draft.write_text(offset)
        draft.replace(self._offset)

    def wait_for_tick(self, timeout: float) -> dict[str, Any]:
        """The next one, as a worker takes it from the queue."""
        taken = self._queue.blpop([DISPATCH_QUEUE], timeout)
        assert taken is not None, f"no tick within {timeout} s\n{self.log.read_text()}"
        message = json.loads(taken[1])
        assert isinstance(message, dict)
        return message

    def time_ten_ticks(self) -> float:
        """Seconds."""
        began_at = time.monotonic()
        for _ in range(10):
            self.wait_for_tick(TEN_TICKS)
        return time.monotonic() - began_at

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._queue.close()


PARTS = {"celery": ["celery", "-A", "worker", "beat"], "stack": ["worker.installation.stack_process", "beat"]}


@pytest.fixture(params=PARTS.values(), ids=PARTS)
def start(request: pytest.FixtureRequest, valkey_url: str, tmp_path: Path) -> Iterator[Callable[[str], Beat]]:
    with ExitStack() as stack:

        def make(offset: str) -> Beat:
            beat = Beat(request.param, valkey_url, tmp_path, offset)
            stack.callback(beat.close)
            return beat

        yield make


@pytest.mark.parametrize(("wrong", "then"), [("-1h", "+400d"), ("+1h", "-1h")])
def test_a_beat_whose_clock_is_wrong_or_is_set_while_it_runs_sends_ticks_that_are_good(
    start: Callable[[str], Beat], wrong: str, then: str
) -> None:
    beat = start(wrong)
    assert beat.wait_for_tick(START)["headers"]["expires"] is None
    assert beat.time_ten_ticks() < TEN_TICKS

    beat.set_clock(then)

    assert beat.time_ten_ticks() < TEN_TICKS
