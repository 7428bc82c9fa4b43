"""Redis' clock goes wrong for a while. That is felt while it lasts, and no longer.

Needs libfaketime (apt-get install libfaketime); not among the tests that `make test` runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import redis
from support.servers.unsteady_clock import UnsteadyValkey

from worker.pace.errors import SlotTooFar
from worker.pace.slots import Pace

pytestmark = pytest.mark.faults

RATE = 50.0
HOUR = 3600
# Seconds within which the pace must be whole again. It is at once; this is what was promised.
SOON = 60.0


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
    """Three, which have found that no more than RATE is permitted."""
    with redis.Redis.from_url(valkey.url) as client:
        fleet = [Process(Pace(client, "made-up-license", RATE, highest=RATE)) for _ in range(3)]
        threads = [threading.Thread(target=process.run) for process in fleet]
        for thread in threads:
            thread.start()
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


def wait_until_whole(processes: list[Process]) -> None:
    patience = time.monotonic() + SOON
    while (rate := sent(processes, 2.0)) < 0.8 * RATE:
        assert time.monotonic() < patience, f"{rate} requests/s, a minute after the clock was right again"
    # Not faster either: whoever lost its place in the fleet must not send as if it were alone.
    assert sent(processes, 4.0) < 1.5 * RATE
    for process in processes:
        reading = process.pace.read()
        assert reading.search is not None
        assert reading.search.since <= reading.now + 10
        assert process.pace.read_hold_left() == 0


@pytest.mark.parametrize("ahead", [HOUR, -HOUR, 20], ids=["an hour ahead", "an hour behind", "seconds ahead"])
def test_a_clock_that_was_wrong_for_ten_seconds_costs_no_more_than_that(
    valkey: UnsteadyValkey, processes: list[Process], ahead: int
) -> None:
    wait_until_whole(processes)
    valkey.set_ahead(ahead)
    time.sleep(10)
    valkey.set_ahead(0)
    wait_until_whole(processes)


def test_a_hold_that_was_told_under_a_wrong_clock_lasts_no_longer_than_it_should(
    valkey: UnsteadyValkey, processes: list[Process]
) -> None:
    wait_until_whole(processes)
    valkey.set_ahead(HOUR)
    processes[0].pace.hold(5, "PingOne answered 503 and asks for 5 s")
    held_at = time.monotonic()
    time.sleep(1)
    valkey.set_ahead(0)
    wait_until_whole(processes)
    # Who asked for the hold tells it again, and nobody goes before it is over.
    early = sum(held_at + 2 < at < held_at + 4.8 for process in processes[:1] for at in process.sent_at)
    assert early == 0
