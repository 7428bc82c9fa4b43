"""Tenants that want `oathResync` with OTP 1, and tenants that do not: what it costs to learn which one this is."""

from __future__ import annotations

import pytest
from support.data.shipments import make_seeds
from support.fleets.real_fleet import batch_name

from worker.reports.facts import read_statuses
from worker.rules.resync import REFUSALS, NeedsFlag
from worker.simulator.shipment import make_shipment
from worker.tenants import read_resync

AUTO = {"PINGONE_RESYNC_ON_FIRST_CALL": "auto"}
BATCH_OF = 150


@pytest.mark.faults
@pytest.mark.parametrize(("needs_flag", "learnt"), [(True, NeedsFlag.YES), (False, NeedsFlag.NO)])
def test_few_otps_are_lost_to_learning_and_none_in_the_next_batch(
    make_fleet, postgres_url, valkey_url, needs_flag, learnt
):
    shipment = make_shipment(2 * BATCH_OF, out_of_step=0.3)
    fleet = make_fleet(
        postgres_url, valkey_url, shipment, batch_of=BATCH_OF, extra_otp_needs_resync=needs_flag, failure_count=5
    )
    first, second = batch_name(0), batch_name(1)
    fleet.batches.pause(second)
    for name in ("worker-1", "worker-2"):
        fleet.worker(name, **AUTO)
    fleet.beat(**AUTO)

    def status(name):
        (found,) = read_statuses(fleet.database, name)
        return found

    fleet.wait_until(lambda: not status(first).left, "the first batch is finished")
    fleet.batches.resume(second)
    fleet.wait_until(lambda: not status(second).left, "the second batch is finished")

    lost = status(first).dead_letters
    assert sum(lost.values()) == lost.get("invalid_otp", 0) <= (REFUSALS if needs_flag else 0)
    assert status(second).dead_letters == {}
    with fleet.database.reading() as connection:
        assert read_resync(connection, shipment.world.environment_id).needs == learnt


@pytest.mark.faults
def test_a_token_with_a_seed_is_not_lost_to_learning(make_fleet, postgres_url, valkey_url):
    fleet = make_fleet(
        postgres_url, valkey_url, make_seeds(hotp=20, totp=4, out_of_step=0.5), extra_otp_needs_resync=True
    )
    fleet.worker("worker-1", **AUTO)
    fleet.beat(**AUTO)
    fleet.wait_until(lambda: not fleet.status().left, "the batch is finished")
    assert fleet.status().dead_letters == {}
    with fleet.database.reading() as connection:
        assert read_resync(connection, fleet.shipment.world.environment_id).needs == NeedsFlag.YES
