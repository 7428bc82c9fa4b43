"""The promises, kept to the last post by real processes: messages that come twice, beats that come and go, workers that
are restarted in turn, a batch that is paused. What breaks in the middle of the work, test_chaos breaks."""

import time
from collections import Counter

import pytest
from support.fleets.real_fleet import BATCH, PATIENT
from support.processes.waiting import wait_until
from support.servers.valkey import copy_every_message, count_waiting

from models.attempt import Outcome
from worker.pace.slots import AT_ONCE
from worker.simulator.shipment import A_FEW_HOPELESS, make_shipment

# Seconds after a pause within which a call may still begin: one is promised, and one is for a busy machine. Threads
# that went on would have calls for longer.
SOON = 2.0


def test_every_message_may_come_twice(make_fleet, postgres_url, valkey_url):
    """Or thirty times: they are worked through without a slot for each."""
    rate, copies = 20, 30
    settings = PATIENT | {"PINGONE_RATE": str(rate), "PINGONE_RATE_MAX": str(rate)}
    fleet = make_fleet(postgres_url, valkey_url, make_shipment(60, hopeless=A_FEW_HOPELESS), settings=settings)
    fleet.worker("dispatcher", "-Q", "oathbulk.dispatch")
    fleet.beat()
    fleet.wait_until(lambda: count_waiting(valkey_url) == 60, "all records are queued")
    copy_every_message(valkey_url, copies)
    fleet.worker("worker")
    status = fleet.wait_until_finished()
    # At the pace of requests, so many copies would take a minute and a half.
    fleet.wait_until(lambda: not count_waiting(valkey_url), "the copies are gone", timeout=60)
    fleet.judge()
    assert fleet.records.wrong_endings() == []
    assert status.otp_posts == fleet.records.posts_as_made()
    arrived = sorted(call.arrived_at for call in fleet.simulator.calls())
    # A few may leave at once, and a busy machine may let the first ones arrive seconds late.
    assert len(arrived) <= rate * (arrived[-1] - arrived[0] + 3) + AT_ONCE


@pytest.mark.usefixtures("sqlite_home")
def test_a_batch_stands_without_a_beat_and_goes_on_with_two(make_fleet, valkey_url):
    fleet = make_fleet(None, valkey_url, make_shipment(120), settings=PATIENT | {"_OATHBULK_TUNING__window": "40"})
    worker = fleet.worker("worker")
    beat = fleet.beat()
    fleet.wait_until_posted(20)
    wait_until(worker.keeps_together, 30, "its threads are kept on one processor")
    beat.kill()
    fleet.wait_until(lambda: not fleet.records.in_window(), "what was queued is worked off")
    assert fleet.status().left
    fleet.beat("second-beat")
    fleet.beat("third-beat")
    status = fleet.wait_until_finished()
    fleet.judge()
    assert fleet.records.wrong_endings() == []
    assert status.otp_posts == fleet.records.posts_as_made()


def test_a_paused_batch_starts_no_call_after_a_second_and_a_resumed_one_goes_on(make_fleet, postgres_url, valkey_url):
    # So slow that threads wait seconds for their next slot: a read for which one waits is to be stopped too.
    pace = {"PINGONE_RATE": "4", "PINGONE_RATE_MAX": "4", "OATHBULK_CONCURRENCY": "16"}
    shipment = make_shipment(24, hopeless={"wrong_otp": 12}, out_of_step=0.4)
    fleet = make_fleet(postgres_url, valkey_url, shipment, latency=0.1, settings=PATIENT | pace)
    fleet.worker("worker")
    fleet.beat()
    fleet.wait_until(lambda: fleet.simulator.counts()["operations"].get("read", 0) > 2, "some are read")
    fleet.batches.pause(BATCH)
    paused_at = time.monotonic()
    fleet.wait_until(lambda: not fleet.records.in_window(), "nothing is in work")
    time.sleep(2 * SOON)
    status = fleet.status()
    assert (status.state, status.reason) == ("paused", "person")
    assert status.left > 5
    assert [call for call in fleet.simulator.calls() if call.arrived_at > paused_at + SOON] == []

    fleet.batches.resume(BATCH)
    status = fleet.wait_until_finished()
    fleet.judge()
    assert fleet.records.wrong_endings() == []
    assert status.otp_posts == fleet.records.posts_as_made()


@pytest.mark.faults
def test_a_rolling_restart_under_load_costs_no_attempt_and_no_otp(make_fleet, database_url, valkey_url):
    shipment = make_shipment(200, out_of_step=0.4)
    load = PATIENT | {"OATHBULK_CONCURRENCY": "4", "PINGONE_RATE": "20", "PINGONE_RATE_MAX": "20"}
    fleet = make_fleet(database_url, valkey_url, shipment, latency=0.3, settings=load)
    workers = {name: fleet.worker(name) for name in ("first", "second")}
    fleet.beat()
    for posts, name in ((20, "first"), (50, "second"), (80, "first"), (110, "second")):
        fleet.wait_until_posted(posts)
        wait_until(lambda: fleet.simulator.open_calls() >= 4, 30, "calls are in flight")
        assert workers[name].stop() == 0
        workers[name] = fleet.worker(name)
    assert fleet.status().left
    status = fleet.wait_until_finished()
    assert fleet.records.attempts(Outcome.LOST) == 0
    fleet.judge()
    assert fleet.records.wrong_endings() == []
    # As many as if nobody had been stopped: an attempt a record, and each OTP that is needed once.
    assert status.attempts == 200
    posts = Counter((call.device_id, call.otp) for call in fleet.simulator.calls() if call.otp is not None)
    assert set(posts.values()) == {1}
    assert len(posts) == status.otp_posts == fleet.records.posts_as_made()
    assert fleet.simulator_counts["operations"].get("read", 0) == 0
    assert fleet.simulator_counts["client_gone"] == 0
