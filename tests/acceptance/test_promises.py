"""The five promises, kept by real processes that are killed, frozen and wiped in the middle of their work."""

import pytest
from support.fleet import PATIENT
from support.processes import wait_until
from support.queue import double_every_message, waiting

from models.attempt import Outcome
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
    weather = {"faults": BAD_WEATHER, "faults_per_device": 2, "latency": 0.02, "late_effect_after": 0.3}
    fleet = make_fleet(database_url, valkey_url, make_shipment(220, hopeless=A_FEW_HOPELESS), **weather)
    victim, _ = fleet.worker("first"), fleet.worker("second")
    fleet.beat()
    fleet.wait_until_posted(80)
    victim.kill()
    valkey_server.flush()
    fleet.worker("third")
    fleet.wait_until_finished()
    fleet.judge()
    assert fleet.records.wrong_endings(excused=SPENT) == {}
    assert fleet.status().counts["active"] > 180


def test_a_batch_goes_on_after_everything_was_killed_at_once(make_fleet, own_database, own_valkey):
    fleet = make_fleet(own_database.url, own_valkey.url, make_shipment(120, hopeless=A_FEW_HOPELESS), latency=0.1)
    victims = [fleet.worker("worker"), fleet.beat()]
    fleet.wait_until_posted(50)
    for victim in victims:
        victim.kill()
    own_valkey.kill()
    own_database.kill()
    own_database.start()
    fleet.database.close()
    own_valkey.start()
    fleet.worker("next")
    fleet.beat("next-beat")
    fleet.wait_until_finished()
    fleet.judge()
    assert fleet.records.wrong_endings() == {}


def test_every_message_may_come_twice(make_fleet, postgres_url, valkey_url):
    fleet = make_fleet(postgres_url, valkey_url, make_shipment(120, hopeless=A_FEW_HOPELESS), settings=PATIENT)
    fleet.worker("dispatcher", "-Q", "oathbulk.dispatch")
    fleet.beat()
    fleet.wait_until(lambda: waiting(valkey_url) == 120, "all records are queued")
    double_every_message(valkey_url)
    fleet.worker("worker")
    fleet.wait_until_posted(20)
    double_every_message(valkey_url)
    status = fleet.wait_until_finished()
    fleet.judge()
    assert fleet.records.wrong_endings() == {}
    assert status.otp_posts == fleet.records.posts_as_made()


@pytest.mark.usefixtures("sqlite_home")
def test_a_batch_stands_without_a_beat_and_goes_on_with_two(make_fleet, valkey_url):
    fleet = make_fleet(None, valkey_url, make_shipment(120), settings=PATIENT | {"OATHBULK_WINDOW": "40"})
    fleet.worker("worker")
    beat = fleet.beat()
    fleet.wait_until_posted(20)
    beat.kill()
    fleet.wait_until(lambda: not fleet.records.in_window(), "what was queued is worked off")
    assert fleet.status().left
    fleet.beat("second-beat")
    fleet.beat("third-beat")
    status = fleet.wait_until_finished()
    fleet.judge()
    assert fleet.records.wrong_endings() == {}
    assert status.otp_posts == fleet.records.posts_as_made()


def test_a_worker_that_was_frozen_past_its_leases_changes_nothing_when_it_wakes(make_fleet, postgres_url, valkey_url):
    shipment = make_shipment(60, out_of_step=0.5)
    fleet = make_fleet(postgres_url, valkey_url, shipment, latency=0.4, settings={"OATHBULK_CONCURRENCY": "4"})
    sleeper = fleet.worker("sleeper")
    fleet.beat()
    fleet.wait_until_posted(10)
    # All of its threads wait for an answer: frozen between the last look at the clock and the first byte out, it
    # could not be stopped by anyone.
    wait_until(lambda: fleet.simulator.open_calls() == 4, 30, "every thread is in a call")
    sleeper.freeze()
    fleet.worker("second")
    # The worst moment to wake up: what was the sleeper's is in another's hands.
    fleet.wait_until(fleet.records.rescued_in_work, "a rescued record is in work again")
    sleeper.thaw()
    fleet.wait_until_finished()
    assert 1 <= fleet.records.attempts(Outcome.LOST) <= 4
    assert sleeper.stop() == 0
    fleet.judge()
    assert fleet.records.wrong_endings() == {}


def test_a_worker_that_is_told_to_end_settles_the_calls_in_hand(make_fleet, postgres_url, valkey_url):
    shipment = make_shipment(80, hopeless=A_FEW_HOPELESS)
    fleet = make_fleet(postgres_url, valkey_url, shipment, latency=0.5, settings=PATIENT)
    first = fleet.worker("first")
    fleet.beat()
    fleet.wait_until_posted(20)
    wait_until(lambda: fleet.simulator.open_calls() == 8, 30, "every thread is in a call")
    assert first.stop() == 0
    assert fleet.status().counts["activating"] == 0
    assert fleet.simulator.open_calls() == 0
    assert fleet.simulator.counts()["client_gone"] == 0
    assert fleet.status().left
    fleet.worker("second")
    fleet.wait_until_finished()
    assert fleet.records.attempts(Outcome.LOST) == 0
    fleet.judge()
    assert fleet.records.wrong_endings() == {}
    assert fleet.status().otp_posts == fleet.records.posts_as_made()
