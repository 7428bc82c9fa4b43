"""The clock of the database, of Redis or of a worker goes wrong for a while: no OTP is wasted, and it is felt while it
lasts and no longer. And a real beat whose wall clock is wrong, or is set while it runs. Needs libfaketime (apt-get
install libfaketime)."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from support.fleets.real_fleet import Fleet, plain_env
from support.servers.unsteady_clock import UnsteadyPostgres, UnsteadyValkey, find_libfaketime

from worker.pace.rate_groups import SlotTooFar
from worker.pace.slots import Pace
from worker.simulator.shipment import make_shipment

pytestmark = pytest.mark.faults

RECORDS, RATE = 600, 30
# Requests a second of a fleet that is nothing but its pace.
PACE = 50.0
# Seconds within which the pace must be whole again. It is at once; this is what was promised.
SOON = 60.0
HOUR = 3600
# Lost answers leave fates open, which is where a clock could do harm.
FAULTS = {"reset_after": 0.03, "reset_before": 0.03, "error_after": 0.02}


@pytest.fixture
def postgres() -> Iterator[UnsteadyPostgres]:
    with UnsteadyPostgres(durable=False) as server:
        yield server


@pytest.fixture
def fleet(
    postgres: UnsteadyPostgres, migrate: Callable[[str], None], valkey_url: str, tmp_path: Path
) -> Iterator[Fleet]:
    shipment = make_shipment(RECORDS, hopeless={})
    settings = {"PINGONE_RATE": str(RATE), "PINGONE_RATE_MAX": str(RATE), "_OATHBULK_TUNING__window": "64"}
    with ExitStack() as stack:
        url = stack.enter_context(postgres.database())
        migrate(url)
        yield stack.enter_context(
            Fleet(
                tmp_path,
                tmp_path / "home",
                url,
                valkey_url,
                shipment,
                settings=settings,
                faults=FAULTS,
                faults_per_device=1,
            )
        )


def settled_in(fleet: Fleet, seconds: float) -> int:
    """Records that become active within so many seconds."""
    before = fleet.status().counts["active"]
    time.sleep(seconds)
    return fleet.status().counts["active"] - before


@pytest.mark.parametrize("steps", [(HOUR, -90), (-HOUR, 90)], ids=str)
def test_no_otp_is_wasted_when_the_databases_clock_is_set_and_set_right(
    postgres: UnsteadyPostgres, fleet: Fleet, steps: tuple[int, int]
) -> None:
    for name in ("one", "two"):
        fleet.worker(name)
    fleet.beat()
    fleet.wait_until_posted(60)
    for step in steps:
        postgres.set_ahead(step)
        time.sleep(3)
        postgres.set_ahead(0)
        fleet.wait_until(lambda: settled_in(fleet, 2) >= RATE, "half of the pace again", timeout=60)
    assert fleet.wait_until_finished().counts["active"] == RECORDS
    fleet.judge()


def test_no_otp_is_wasted_where_one_workers_clock_is_an_hour_off(fleet: Fleet) -> None:
    wrong = {"LD_PRELOAD": str(find_libfaketime()), "FAKETIME": "+1h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    fleet.worker("right")
    fleet.celery("wrong", "worker", "-n", "wrong@%h", "-l", "INFO", **wrong)
    fleet.beat()
    assert fleet.wait_until_finished().counts["active"] == RECORDS
    fleet.judge()


@dataclass
class Process:
    """Makes request after request at its pace, all of them let through."""

    pace: Pace
    sent_at: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                slot = self.pace.wait()
            except SlotTooFar:
                time.sleep(0.05)
                continue
            self.pace.wait_to_leave(slot)
            self.sent_at.append(time.monotonic())
            self.pace.report_answer(slot)

    def sent_since(self, moment: float) -> int:
        return sum(at >= moment for at in list(self.sent_at))


@pytest.fixture
def valkey() -> Iterator[UnsteadyValkey]:
    with UnsteadyValkey() as server:
        yield server


@pytest.fixture
def processes(valkey: UnsteadyValkey) -> Iterator[list[Process]]:
    """Three, at the pace that they know to be permitted."""
    with redis.Redis.from_url(valkey.url) as client:
        fleet = [Process(Pace(client, "made-up-license", PACE, highest=PACE)) for _ in range(3)]
        threads = [threading.Thread(target=process.run, daemon=True) for process in fleet]
        for thread in threads:
            thread.start()
        wait_until_at_pace(fleet)
        yield fleet
        for process in fleet:
            process.stop.set()
        for thread in threads:
            thread.join(30)


def sent(processes: list[Process], seconds: float) -> float:
    """Requests a second of the fleet, from now on."""
    began = time.monotonic()
    time.sleep(seconds)
    sent = sum(process.sent_since(began) for process in processes)
    # A busy machine sleeps for longer.
    return sent / (time.monotonic() - began)


def wait_until_at_pace(processes: list[Process]) -> None:
    patience = time.monotonic() + SOON
    while (rate := sent(processes, 2.0)) < 0.8 * PACE:
        assert time.monotonic() < patience, f"{rate} requests/s, a minute after the clock was right"


def wait_until_whole(processes: list[Process]) -> None:
    wait_until_at_pace(processes)
    # Not faster either: whoever lost its place in the fleet must not send as if it were alone.
    assert sent(processes, 4.0) < 1.5 * PACE
    for process in processes:
        reading = process.pace.read()
        assert reading.search is not None
        assert reading.search.since <= reading.now + 10
        assert process.pace.read_hold_left() == 0


@pytest.mark.parametrize("ahead", [HOUR, -HOUR, 20], ids=["an hour ahead", "an hour behind", "seconds ahead"])
def test_a_clock_that_was_wrong_for_ten_seconds_costs_no_more_than_that(
    valkey: UnsteadyValkey, processes: list[Process], ahead: int
) -> None:
    valkey.set_ahead(ahead)
    time.sleep(10)
    valkey.set_ahead(0)
    wait_until_whole(processes)


def test_a_hold_that_was_told_under_a_wrong_clock_lasts_no_longer_than_it_should(
    valkey: UnsteadyValkey, processes: list[Process]
) -> None:
    valkey.set_ahead(HOUR)
    processes[0].pace.hold(5, "PingOne answered 503 and asks for 5 s")
    held_at = time.monotonic()
    time.sleep(1)
    valkey.set_ahead(0)
    wait_until_whole(processes)
    # Who asked for the hold tells it again, and nobody goes before it is over.
    early = sum(held_at + 2 < at < held_at + 4.8 for process in processes[:1] for at in process.sent_at)
    assert early == 0


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
