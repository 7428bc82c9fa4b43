"""What a person orders holds within a second, and still nothing of unknown fate is given up unread."""

import time

import pytest
from support.fleets.real_fleet import BATCH, PATIENT

from worker.simulator.shipment import make_shipment

# Seconds after the command within which a call may still begin: one is promised, and one is for a busy machine. Threads
# that went on would have calls for longer.
AT_ONCE = 2.0
SPENT = frozenset({"budget_spent", "attempts_spent"})


def calls_since(fleet, moment):
    """Begun later than at once after that moment."""
    return [call for call in fleet.simulator.calls() if call.arrived_at > moment + AT_ONCE]


def test_a_paused_batch_starts_no_call_after_a_second_and_a_resumed_one_goes_on(make_fleet, postgres_url, valkey_url):
    # So slow that threads wait seconds for their next slot: a read for which one waits is to be stopped too.
    pace = {"PINGONE_RATE": "4", "PINGONE_RATE_MAX": "4", "OATHBULK_CONCURRENCY": "16"}
    shipment = make_shipment(30, hopeless={"wrong_otp": 15}, out_of_step=0.4)
    fleet = make_fleet(postgres_url, valkey_url, shipment, latency=0.1, settings=PATIENT | pace)
    fleet.worker("worker")
    fleet.beat()
    fleet.wait_until(lambda: fleet.simulator.counts()["operations"].get("read", 0) > 2, "some are read")
    fleet.batches.pause(BATCH)
    paused_at = time.monotonic()
    fleet.wait_until(lambda: not fleet.records.in_window(), "nothing is in work")
    time.sleep(2 * AT_ONCE)
    status = fleet.status()
    assert (status.state, status.reason) == ("paused", "person")
    assert status.left > 5
    assert calls_since(fleet, paused_at) == []

    fleet.batches.resume(BATCH)
    status = fleet.wait_until_finished()
    fleet.judge()
    assert fleet.records.wrong_endings() == []
    assert status.otp_posts == fleet.records.posts_as_made()


@pytest.mark.faults
@pytest.mark.usefixtures("sqlite_home")
def test_a_cancelled_batch_reads_what_is_of_unknown_fate_and_sends_nothing(make_fleet, valkey_url):
    weather = {"reset_after": 0.4, "error_before": 0.3}
    fleet = make_fleet(
        None,
        valkey_url,
        make_shipment(100),
        faults=weather,
        fault_operations=["activate"],
        # Longer than a busy machine takes from here to the cancel: what was read before that is none of the late reads.
        settings={"_OATHBULK_TUNING__read_delay": "30"},
    )
    fleet.worker("worker")
    fleet.beat()
    fleet.wait_until_posted(40)
    fleet.batches.cancel(BATCH)
    cancelled_at = time.monotonic()
    status = fleet.wait_until_finished()
    late = calls_since(fleet, cancelled_at)
    assert status.state == "cancelled"
    assert status.counts["cancelled"] > 30
    assert status.counts["active"] == len(fleet.simulator.active())
    assert [call for call in late if call.operation == "activate"] == []
    assert len([call for call in late if call.operation == "read"]) > 10

    fleet.simulator.change(faults={})
    fleet.batches.replay(BATCH)
    fleet.wait_until_finished()
    fleet.judge(was_replayed=True)
    assert fleet.records.wrong_endings(excused=SPENT) == []
