"""The five promises, kept by real processes while what they stand on is killed, wiped and cut off."""

from worker.simulator.shipment import A_FEW_HOPELESS, make_shipment

# Faults may cost a device all the posts that it may have, or a record all its attempts.
SPENT = frozenset({"budget_spent", "attempts_spent"})

BAD_WEATHER = {
    "reset_before": 0.02,
    "reset_after": 0.02,
    "reset_late": 0.02,
    "error_before": 0.03,
    "error_after": 0.03,
    "hang_before": 0.01,
    "hang_after": 0.01,
    "drip": 0.01,
    "garbled": 0.01,
}


def test_a_batch_finishes_by_itself_though_a_worker_is_killed_and_the_queue_wiped(
    make_fleet, database_url, valkey_server, valkey_url
):
    shipment = make_shipment(400, hopeless=A_FEW_HOPELESS)
    fleet = make_fleet(database_url, valkey_url, shipment, faults=BAD_WEATHER, faults_per_device=2, latency=0.02, late_effect_after=0.3)
    victim, _ = fleet.worker("first"), fleet.worker("second")
    fleet.beat()
    fleet.wait_until_posted(100)
    victim.kill()
    valkey_server.flush()
    fleet.worker("third")
    status = fleet.wait_until_finished()
    fleet.judge()
    assert fleet.wrong_endings(excused=SPENT) == {}
    assert status.counts["active"] > 350
