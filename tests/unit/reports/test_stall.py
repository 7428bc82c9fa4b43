"""Why work that is due does not move, as a person reads it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from worker.fleet import KnownProcess
from worker.reports.stall import Cause, Fleet, describe_sick, explain_stall

SEEN = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
WELL = KnownProcess("host:1", True, SEEN, 1.0, None, None, None)
GONE = replace(WELL, name="host:2", is_alive=False)
SICK = replace(
    WELL, name="host:3", is_alive=False, sick_since=SEEN, reason="network", detail="PingOne cannot be reached."
)


@pytest.mark.parametrize(
    ("fleet", "cause", "word", "cure"),
    [
        (Fleet([WELL], hold="All workers hold until 12:01 UTC."), Cause.HOLD, "hold until 12:01", "--now"),
        (Fleet([WELL], broker="Connection refused"), Cause.BROKER, "Connection refused", "oathbulk doctor"),
        (Fleet(), Cause.WORKER, "No worker runs", "celery -A worker worker"),
        (Fleet([GONE]), Cause.WORKER, "No worker runs", "`oathbulk run BATCH` brings one"),
        (Fleet(batch="my box"), Cause.WORKER, "No worker runs", "`oathbulk run 'my box'` brings one"),
        (
            Fleet([WELL], batch="august", only_batch="july"),
            Cause.WORKER,
            "No worker works on it",
            "`oathbulk run july`, which runs here, works on july alone",
        ),
        (Fleet(batch="july", only_batch="july"), Cause.WORKER, "No worker runs", "which runs here, starts one"),
        (Fleet([SICK, GONE]), Cause.SICK, "host:3 (network: PingOne cannot be reached.)", "start them again"),
        (Fleet([replace(WELL, seconds_since_tick=None)]), Cause.TICK, "No tick ever came", "celery -A worker beat"),
        (Fleet([replace(WELL, seconds_since_tick=90.0)]), Cause.TICK, "No tick came for 90 s", "celery -A worker beat"),
        (Fleet([replace(WELL, seconds_since_tick=-3600.0)]), Cause.CLOCK, "3600 s in the future", "NTP"),
        (Fleet([WELL]), Cause.UNKNOWN, "nothing is settled", "logs"),
    ],
)
def test_each_cause_is_named_with_the_command_that_mends_it(fleet, cause, word, cure):
    stall = explain_stall(fleet)

    assert stall.cause == cause
    assert word in stall.detail
    assert cure in stall.cure


def test_a_tick_of_any_process_counts():
    assert explain_stall(Fleet([replace(WELL, seconds_since_tick=500.0), WELL])).cause == Cause.UNKNOWN


def test_a_worker_that_is_started_again_and_again_is_named_once():
    later = replace(SICK, name="host:4", sick_since=SEEN + timedelta(minutes=1))
    elsewhere = replace(SICK, name="other:3")
    assert Fleet([elsewhere, later, SICK]).sick == [elsewhere, later]


def test_one_sick_process_beside_a_well_one_is_told_and_is_no_reason():
    fleet = Fleet([WELL, SICK])
    assert explain_stall(fleet).cause == Cause.UNKNOWN
    assert describe_sick(fleet) == "host:3 (network: PingOne cannot be reached.)"
