"""Nothing that passes by itself costs an OTP or a person's time: a rate limit, refused access tokens, a server that is
gone for a while."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import redis
from sqlalchemy import func, select
from support.fleets.real_fleet import BATCH, PATIENT, Fleet
from support.servers.valkey import ValkeyServer

from models.record import Record
from worker.installation.broker_check import RULES
from worker.simulator.shipment import make_shipment

pytestmark = pytest.mark.faults

# Seconds that an outage lasts: longer than everyone's patience within an attempt.
OUTAGE = 4.0
SETTINGS = PATIENT | {"PINGONE_RATE": "30", "PINGONE_RATE_MAX": "30", "OATHBULK_CONCURRENCY": "24"}


@contextmanager
def nothing_but_429(fleet: Fleet, _: ValkeyServer) -> Iterator[None]:
    fleet.simulator.change(rate=0.3, limit_window=3)
    yield
    fleet.simulator.change(rate=None, limit_window=None)


@contextmanager
def no_access_tokens(fleet: Fleet, _: ValkeyServer) -> Iterator[None]:
    fleet.simulator.change(faults={"error_before": 0.6, "reset_before": 0.4}, fault_operations=["access_token"])
    fleet.simulator.revoke_access_tokens()
    yield
    fleet.simulator.change(faults={})


@contextmanager
def a_queue_that_is_stopped(_: Fleet, valkey: ValkeyServer) -> Iterator[None]:
    """And killed, as soon as it is there again."""
    valkey.stop()
    yield
    valkey.start()
    valkey.kill()
    valkey.start()
    # Of its users it knows nothing any more.
    valkey.let_in("limited", RULES)


@contextmanager
def a_queue_without_writes(_: Fleet, valkey: ValkeyServer) -> Iterator[None]:
    """As the former master of a failover, or one that a person demoted."""
    with redis.Redis.from_url(valkey.url) as client:
        client.replicaof("127.0.0.1", "1")
        yield
        client.replicaof("NO", "ONE")


@contextmanager
def a_queue_without_memory(_: Fleet, valkey: ValkeyServer) -> Iterator[None]:
    with redis.Redis.from_url(valkey.url) as client:
        client.config_set("maxmemory", 1)
        yield
        client.config_set("maxmemory", 0)


@contextmanager
def a_queue_without_scripts(_: Fleet, valkey: ValkeyServer) -> Iterator[None]:
    valkey.let_in("limited", f"{RULES} -@scripting")
    yield
    valkey.let_in("limited", RULES)


Trouble = Callable[[Fleet, ValkeyServer], object]
# The first two count as nothing.
TROUBLES: dict[str, tuple[Trouble, ...]] = {
    "PingOne's": (nothing_but_429, no_access_tokens),
    "the queue's": (
        a_queue_that_is_stopped,
        a_queue_without_writes,
        a_queue_without_memory,
        a_queue_without_scripts,
    ),
}


@pytest.mark.usefixtures("sqlite_home")
@pytest.mark.parametrize("whose", TROUBLES)
def test_one_trouble_after_the_other_is_waited_out_by_the_same_processes_and_costs_no_otp(
    make_fleet, own_valkey, whose
):
    url = own_valkey.let_in("limited", RULES)
    # So many that seconds of work are left when the last trouble comes, however late a busy machine lets it come.
    records = 150 * len(TROUBLES[whose])
    fleet = make_fleet(None, url, make_shipment(records, out_of_step=0.4), latency=0.02, settings=SETTINGS)
    programs = [fleet.worker("worker"), fleet.beat()]
    for number, trouble in enumerate(TROUBLES[whose]):
        fleet.wait_until_posted(20 + 120 * number)
        with trouble(fleet, own_valkey):
            time.sleep(OUTAGE)
    status = fleet.wait_until_finished()
    assert [program.name for program in programs if not program.is_running] == []
    log = programs[0].read_log()
    assert "Unrecoverable error" not in log
    # It asks again now and then, and does not fill the disk.
    assert log.count("Traceback") < 30 * len(TROUBLES[whose])
    fleet.judge()
    assert fleet.records.wrong_endings() == []
    assert status.otp_posts == fleet.records.posts_as_made()
    if whose == "PingOne's":
        assert status.attempts == records
        refused = fleet.simulator_counts["statuses"]["429"]
        # All threads stop at the first refusal: without that, each would be refused once a window, and there are two.
        assert 0 < refused == status.rate_limited <= fleet.settings.concurrency


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
    shipment = make_shipment(60, out_of_step=0.3)
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
