"""Nothing that passes by itself costs an OTP, an attempt or a person's time: a rate limit, refused access tokens, a
server that is gone for a while."""

import time
from datetime import timedelta

import pytest
import redis
from sqlalchemy import func, select
from support.fleets.real_fleet import BATCH, PATIENT

from models.record import Record
from worker.installation.broker_check import RULES
from worker.simulator.shipment import make_shipment

pytestmark = pytest.mark.faults

# Seconds that an outage lasts: longer than everyone's patience within an attempt.
OUTAGE = 4.0


@pytest.mark.usefixtures("sqlite_home")
def test_429_to_everything_is_waited_out_and_counts_as_nothing(make_fleet, valkey_url):
    pace = {"PINGONE_RATE": "50", "PINGONE_RATE_MAX": "50", "OATHBULK_CONCURRENCY": "24"}
    # So many that seconds of work are left when the limit comes, however late a busy machine lets it come.
    shipment = make_shipment(250, out_of_step=0.4)
    fleet = make_fleet(None, valkey_url, shipment, latency=0.02, settings=PATIENT | pace)
    fleet.worker("worker")
    fleet.beat()
    fleet.wait_until_posted(10)
    fleet.simulator.change(rate=0.3, limit_window=3)
    time.sleep(OUTAGE)
    fleet.simulator.change(rate=None, limit_window=None)
    status = fleet.wait_until_finished()
    fleet.judge()
    assert fleet.records.wrong_endings() == []
    assert status.attempts == 250
    assert status.otp_posts == fleet.records.posts_as_made()
    refused = fleet.simulator_counts["statuses"]["429"]
    assert status.rate_limited == refused
    # All threads stop at the first refusal: without that, each would be refused once a window, and there are two.
    assert 0 < refused <= fleet.settings.concurrency


def test_revoked_access_tokens_are_replaced(make_fleet, postgres_url, valkey_url):
    # Slow enough, and enough of them, for the last revocation to come seconds before the last post.
    settings = PATIENT | {"PINGONE_RATE": "25", "PINGONE_RATE_MAX": "25"}
    fleet = make_fleet(postgres_url, valkey_url, make_shipment(200), latency=0.02, settings=settings)
    fleet.worker("worker")
    fleet.beat()
    for posts in (20, 50, 80):
        fleet.wait_until_posted(posts)
        fleet.simulator.revoke_access_tokens()
    status = fleet.wait_until_finished()
    fleet.judge()
    assert fleet.records.wrong_endings() == []
    assert status.attempts == 200
    assert fleet.simulator_counts["statuses"]["401"] >= 3
    assert fleet.simulator_counts["operations"]["access_token"] == 4


@pytest.mark.usefixtures("sqlite_home")
def test_a_token_endpoint_that_is_down_costs_no_attempt(make_fleet, valkey_url):
    fleet = make_fleet(None, valkey_url, make_shipment(100), latency=0.02, settings=PATIENT)
    fleet.worker("worker")
    fleet.beat()
    fleet.wait_until_posted(30)
    fleet.simulator.change(faults={"error_before": 0.6, "reset_before": 0.4}, fault_operations=["access_token"])
    fleet.simulator.revoke_access_tokens()
    time.sleep(OUTAGE)
    fleet.simulator.change(faults={})
    status = fleet.wait_until_finished()
    fleet.judge()
    assert fleet.records.wrong_endings() == []
    assert status.attempts == 100
    assert status.otp_posts == fleet.records.posts_as_made()


@pytest.mark.usefixtures("sqlite_home")
def test_a_queue_that_is_stopped_and_killed_loses_no_record(make_fleet, own_valkey):
    fleet = make_fleet(None, own_valkey.url, make_shipment(120), latency=0.02, settings=PATIENT)
    fleet.worker("worker")
    fleet.beat()
    fleet.wait_until_posted(30)
    own_valkey.stop()
    time.sleep(OUTAGE)
    own_valkey.start()
    fleet.wait_until_posted(70)
    own_valkey.kill()
    own_valkey.start()
    status = fleet.wait_until_finished()
    fleet.judge()
    assert fleet.records.wrong_endings() == []
    assert status.otp_posts == fleet.records.posts_as_made()


@pytest.mark.parametrize("refusal", ["READONLY", "OOM"])
@pytest.mark.usefixtures("sqlite_home")
def test_a_queue_that_takes_no_writes_for_a_while_ends_no_worker(make_fleet, own_valkey, refusal):
    fleet = make_fleet(None, own_valkey.url, make_shipment(120), latency=0.02, settings=PATIENT)
    worker, beat = fleet.worker("worker"), fleet.beat()
    fleet.wait_until_posted(30)
    with redis.Redis.from_url(own_valkey.url) as client:
        if refusal == "READONLY":
            # As the former master of a failover, or one that a person demoted.
            client.replicaof("127.0.0.1", "1")
        else:
            client.config_set("maxmemory", 1)
        with pytest.raises(redis.ResponseError):
            client.lpush("any", "thing")
        time.sleep(OUTAGE)
        if refusal == "READONLY":
            client.replicaof("NO", "ONE")
        else:
            client.config_set("maxmemory", 0)
    status = fleet.wait_until_finished()
    assert worker.is_running
    assert beat.is_running
    log = worker.read_log()
    assert "Unrecoverable error" not in log
    # It asks again now and then, and does not fill the disk.
    assert log.count("Traceback") < 30
    fleet.judge()
    assert fleet.records.wrong_endings() == []
    assert status.otp_posts == fleet.records.posts_as_made()


@pytest.mark.usefixtures("sqlite_home")
def test_a_queue_that_takes_no_scripts_for_a_while_loses_no_record(make_fleet, own_valkey):
    url = own_valkey.let_in("limited", RULES)
    fleet = make_fleet(None, url, make_shipment(60), latency=0.02, settings=PATIENT)
    worker = fleet.worker("worker")
    fleet.beat()
    fleet.wait_until_posted(20)
    own_valkey.let_in("limited", f"{RULES} -@scripting")
    fleet.wait_until(lambda: "pace_out_of_reach" in worker.read_log(), "the worker says so")
    own_valkey.let_in("limited", RULES)
    status = fleet.wait_until_finished()
    fleet.judge()
    assert fleet.records.wrong_endings() == []
    assert status.otp_posts == fleet.records.posts_as_made()


def test_a_database_that_is_gone_for_a_while_keeps_no_message_waiting(make_fleet, own_migrated_postgres, valkey_url):
    # A message that was taken up in vain would come back after its lease.
    settings = {
        "_OATHBULK_TUNING__queue_lease": "300",
        "_OATHBULK_TUNING__window": "300",
        "PINGONE_RATE": "50",
        "PINGONE_RATE_MAX": "50",
    }
    database, server = own_migrated_postgres.url, own_migrated_postgres.server
    fleet = make_fleet(database, valkey_url, make_shipment(400), settings=settings)
    fleet.worker("worker")
    fleet.beat()
    fleet.wait_until_posted(60)
    server.stop()
    time.sleep(OUTAGE)
    server.start()
    # Those of this process were cut, too.
    fleet.database.close()
    fleet.wait_until(lambda: not fleet.status().left, "the batch is finished", timeout=150)
    fleet.judge()
    assert fleet.records.wrong_endings() == []


def test_a_tenant_whose_answers_name_no_status_is_not_taken_for_one_that_is_out(make_fleet, postgres_url, valkey_url):
    # What the body of a success holds is not documented, so each of these has to be read before it counts.
    shipment = make_shipment(80, out_of_step=0.3)
    fleet = make_fleet(postgres_url, valkey_url, shipment, activation_body="no_status", settings=PATIENT)
    fleet.worker("worker")
    fleet.beat()
    status = fleet.wait_until_finished()
    fleet.judge()
    assert fleet.records.wrong_endings() == []
    assert status.otp_posts == fleet.records.posts_as_made()
    assert not fleet.was_out


@pytest.mark.usefixtures("sqlite_home")
def test_a_503_that_asks_for_a_day_is_shown_and_over_when_a_person_says_so(make_fleet, valkey_url):
    fleet = make_fleet(None, valkey_url, make_shipment(100), latency=0.02, settings=PATIENT | {"PINGONE_RATE": "20"})
    fleet.worker("worker")
    fleet.beat()
    fleet.wait_until_posted(5)
    fleet.simulator.change(faults={"error_before": 1.0}, error_statuses=[503], error_retry_after=86_400)
    fleet.wait_until(lambda: fleet.status().hold, "the hold is shown")
    hold = fleet.status().hold
    assert hold is not None
    assert 0 < hold.left <= fleet.settings.tuning.longest_hold
    said = " ".join(fleet.oathbulk("status", "status", BATCH).split())
    assert "All workers hold until" in said
    assert f"PingOne answered 503 and asks for 86400 s. To go on now: oathbulk resume {BATCH} --now" in said
    # No record waits for a time that was told: neither tomorrow's, nor the end of the hold.
    with fleet.database.reading() as connection:
        latest = connection.scalar(select(func.max(Record.scheduled_at)))
    assert latest < hold.until - timedelta(seconds=fleet.settings.tuning.longest_hold / 2)

    fleet.simulator.change(faults={})
    fleet.oathbulk("resume", "resume", BATCH, "--now")
    fleet.wait_until(lambda: not fleet.status().left, "the batch is finished long before the hold was over", timeout=60)
    assert fleet.status().hold is None
    fleet.judge()
    assert fleet.records.wrong_endings() == []
