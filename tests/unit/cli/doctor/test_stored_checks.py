"""What doctor says of workers and of the ticks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from worker.cli.doctor.finding import State
from worker.cli.doctor.stored_checks import check_beat, check_workers
from worker.fleet import KnownProcess
from worker.reports.stall import Fleet

SEEN = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
WELL = KnownProcess("host:1", True, SEEN, 1.0, None, None, None, "1.0")
GONE = replace(WELL, name="host:2", is_alive=False, version="0.9")
SICK = replace(
    WELL, name="host:3", is_alive=False, sick_since=SEEN, reason="network", detail="PingOne cannot be reached."
)


def test_workers_of_this_version_are_counted() -> None:
    assert check_workers(Fleet([WELL, GONE]), "1.0").detail == "1 at work, of version 1.0"
    assert check_workers(Fleet([GONE]), "1.0").detail == "none runs now"


def test_a_worker_of_another_version_is_named_and_so_is_one_that_does_not_say() -> None:
    other, silent = replace(WELL, name="host:4", version="0.9"), replace(WELL, name="host:5", version=None)
    found = check_workers(Fleet([WELL, other, silent]), "1.0")
    assert found.state is State.FAULT
    assert found.detail == "of another version than this command, 1.0: host:4 (0.9), host:5 (older)"
    assert "upgrading" in found.cure


def test_a_worker_that_ended_since_it_fails_alone_is_named_first() -> None:
    found = check_workers(Fleet([replace(WELL, version=None), SICK]), "1.0")
    assert found.state is State.FAULT
    assert (
        found.detail == "these ended, since they fail where others do not: host:3 (network: PingOne cannot be reached.)"
    )


def test_ticks_are_missed_only_while_somebody_waits_for_them() -> None:
    late, never = replace(WELL, seconds_since_tick=90.0), replace(WELL, seconds_since_tick=None)
    for seconds in (1.0, 60.0):
        assert check_beat(Fleet([replace(WELL, seconds_since_tick=seconds)])).state is State.WELL
    for process, told in ((late, "the last tick came 90 s ago"), (never, "no tick ever came")):
        found = check_beat(Fleet([process]))
        assert (found.state, found.detail) == (State.FAULT, told)
        assert "celery -A worker beat" in found.cure
        gone = check_beat(Fleet([replace(process, is_alive=False)]))
        assert (gone.state, gone.detail) == (State.WELL, "none is needed while no worker runs")


def test_a_tick_in_the_future_is_the_fault_of_a_clock() -> None:
    found = check_beat(Fleet([replace(WELL, seconds_since_tick=-3600.0)]))
    assert found.state is State.FAULT
    assert "NTP" in found.cure
