"""The promises, kept to the last post by fleets of real processes: messages that come twice, beats that come and go,
workers that are restarted in turn, a batch that is paused. Nothing that passes by itself costs an OTP or a person's
time; and whatever keeps due work from moving is named with what mends it, and `status --check` ends with 5. A worker
that fails where others do not ends, and the batch goes on without it. What breaks in the middle of the work,
test_chaos breaks."""

import json
import random
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import redis
from chaos.links import Link, Network
from sqlalchemy import func, select, update
from support.data.next_version import NEXT, move_schema, start_upgrade, write_next_version
from support.fleets.real_fleet import BATCH, PATIENT, Fleet
from support.processes.waiting import wait_until
from support.servers.valkey import ValkeyServer, copy_every_message, count_waiting, find_queues

from migrations import HEAD
from models.attempt import Outcome
from models.batch import Batch
from models.encrypted import generate_key
from models.process import WorkerProcess
from models.record import Record
from worker.fleet import FAILS_ALONE, KnownProcess, read_processes
from worker.installation.broker_check import RULES
from worker.pace.slots import AT_ONCE
from worker.reports.stall import STILL_AFTER
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
    fleet.wait_until_finished()
    # At the pace of requests, so many copies would take a minute and a half.
    fleet.wait_until(lambda: not count_waiting(valkey_url), "the copies are gone", timeout=60)
    fleet.judge_as_made()
    arrived = sorted(call.arrived_at for call in fleet.simulator.calls())
    # A few may leave at once, and a busy machine may let the first ones arrive seconds late.
    assert len(arrived) <= rate * (arrived[-1] - arrived[0] + 3) + AT_ONCE


# Messages that whoever gets at the broker has spoilt.
SPOILT = 5000
# The body of a message for the environment of a name that no worker knows.
UNKNOWN_ENVIRONMENT = b'[[1, "elsewhere"], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
# Values of every kind that JSON has, which take the place of what stands in a message.
ODD = [None, True, 0, -1, 2**70, 1.5, "", "x", "a" * 20_000, [], [None, 1], {}, {"x": 1}]


def spoil(message: bytes, dice: random.Random) -> bytes:
    """Change a message somewhere: its bytes, or a value or a key of its JSON or of its body's."""
    if dice.random() < 0.2:
        at = dice.randrange(len(message))
        rest = message[at + dice.choice((0, 1, 40)) :]
        return message[:at] + dice.choice((b"", b"\xff", b'"', b"[" * 5000)) + rest
    spoilt = json.loads(message)
    spoilt["body"] = json.loads(b64decode(spoilt["body"]))
    part, parts = spoilt, [spoilt]
    while parts and dice.random() < 0.8:
        part = dice.choice(parts)
        values = part.values() if isinstance(part, dict) else part
        parts = [value for value in values if value and isinstance(value, dict | list)]
    places = list(part) if isinstance(part, dict) else list(range(len(part)))
    place = dice.choice(places)
    if dice.random() < 0.2:
        del part[place]
    elif dice.random() < 0.1 and isinstance(part, dict):
        part["another"] = dice.choice(ODD)
    else:
        part[place] = dice.choice(ODD)
    if isinstance(spoilt.get("body"), list | dict):
        spoilt["body"] = b64encode(json.dumps(spoilt["body"]).encode()).decode()
    return json.dumps(spoilt).encode()


def test_spoilt_messages_are_dropped_and_counted_and_the_batch_ends_as_if_none_had_come(
    make_fleet, postgres_url, valkey_url
):
    pace = {"PINGONE_RATE": "30", "PINGONE_RATE_MAX": "30"}
    fleet = make_fleet(postgres_url, valkey_url, make_shipment(150, out_of_step=0.2), settings=PATIENT | pace)
    workers = [fleet.worker(name) for name in ("first", "second")]
    fleet.beat()
    fleet.wait_until(lambda: count_waiting(valkey_url), "records are queued")
    dice = random.Random(1)
    with closing(redis.Redis.from_url(valkey_url)) as client:
        # A worker may fetch all between two looks.
        usual, message = wait_until(
            lambda: next(((name, first) for name in find_queues(client) if (first := client.lindex(name, 0))), None),
            "a message waits",
        )
        unknown = message.replace(json.loads(message)["body"].encode(), b64encode(UNKNOWN_ENVIRONMENT))
        spoilt = [spoil(message, dice) for _ in range(SPOILT)]
        for start in range(0, SPOILT, 100):
            client.rpush(usual, unknown, *spoilt[start : start + 100])
        fleet.wait_until(lambda: not count_waiting(valkey_url), "all are taken")
    fleet.wait_until_finished()
    wait_until(lambda: sum(each.dropped for each in read_fleet(fleet)) > SPOILT * 0.9, "they are counted")
    assert [worker.is_running for worker in workers] == [True, True]
    assert [worker.read_log().count("Connection to broker lost") for worker in workers] == [0, 0]
    fleet.judge_as_made()


def test_a_wiped_redis_costs_seconds_and_no_queue_lease(make_fleet, postgres_url, own_valkey):
    pace = {"PINGONE_RATE": "20", "PINGONE_RATE_MAX": "20", "_OATHBULK_TUNING__queue_lease": "120"}
    fleet = make_fleet(postgres_url, own_valkey.url, make_shipment(200), settings=PATIENT | pace)
    fleet.worker("worker")
    fleet.beat()
    fleet.wait_until_posted(20)
    own_valkey.flush()
    wiped_at, posted = time.monotonic(), fleet.simulator.posts()
    # What the worker had fetched goes out too.
    fleet.wait_until_posted(posted + 60)
    assert time.monotonic() - wiped_at < 60 / 20 + 5
    fleet.judge_as_made()


def test_two_installations_use_one_redis_side_by_side(make_fleet, postgres_url, valkey_url, sqlite_home, tmp_path):
    first = make_fleet(postgres_url, valkey_url, make_shipment(60), settings=PATIENT)
    (tmp_path / "second").mkdir()
    with Fleet(tmp_path / "second", sqlite_home, None, valkey_url, make_shipment(60), settings=PATIENT) as second:
        for name, fleet in (("first", first), ("second", second)):
            fleet.worker(name)
            fleet.beat()
        for fleet in (first, second):
            fleet.wait_until(fleet.is_finished, "none waits for messages that the other has taken", timeout=20)
        assert [fleet.judge_as_made().attempts for fleet in (first, second)] == [60, 60]


@pytest.mark.usefixtures("sqlite_home")
def test_a_batch_stands_without_a_beat_and_goes_on_with_two(make_fleet, valkey_url):
    fleet = make_fleet(None, valkey_url, make_shipment(120), settings=PATIENT | {"_OATHBULK_TUNING__window": "40"})
    worker = fleet.worker("worker")
    beat = fleet.beat()
    fleet.wait_until_posted(20)
    wait_until(worker.keeps_together, "its threads are kept on one processor")
    beat.kill()
    fleet.wait_until(lambda: not fleet.records.in_window(), "what was queued is worked off")
    assert fleet.status().to_do
    fleet.beat("second-beat")
    fleet.beat("third-beat")
    fleet.judge_as_made()


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
    assert (status.state, status.reason, status.to_do > 5) == ("paused", "person", True)
    assert [call for call in fleet.simulator.calls() if call.arrived_at > paused_at + SOON] == []

    fleet.batches.resume(BATCH)
    fleet.judge_as_made()


@pytest.mark.faults
def test_a_rolling_restart_under_load_costs_no_attempt_and_no_otp(make_fleet, database_url, valkey_url):
    shipment = make_shipment(200, out_of_step=0.4)
    load = PATIENT | {"OATHBULK_CONCURRENCY": "4", "PINGONE_RATE": "20", "PINGONE_RATE_MAX": "20"}
    fleet = make_fleet(database_url, valkey_url, shipment, latency=0.3, settings=load)
    workers = {name: fleet.worker(name) for name in ("first", "second")}
    fleet.beat()
    for posts, name in ((20, "first"), (50, "second"), (80, "first"), (110, "second")):
        fleet.wait_until_posted(posts)
        wait_until(lambda: fleet.simulator.open_calls() >= 4, "calls are in flight")
        assert workers[name].stop() == 0
        workers[name] = fleet.worker(name)
    assert fleet.status().to_do
    fleet.wait_until_finished()
    assert fleet.records.attempts(Outcome.LOST) == 0
    # As many as if nobody had been stopped: an attempt a record, and each OTP that is needed once.
    status = fleet.judge_as_made()
    assert status.attempts == 200
    posts = [(call.device_id, call.otp) for call in fleet.simulator.calls() if call.otp is not None]
    assert len(posts) == len(set(posts)) == status.otp_posts
    assert (fleet.simulator_counts["operations"].get("read", 0), fleet.simulator_counts["client_gone"]) == (0, 0)


@pytest.mark.faults
def test_a_migration_beside_working_workers_and_back_costs_no_attempt_and_no_otp(
    make_fleet, database_url, valkey_url, tmp_path
):
    shipment = make_shipment(300, out_of_step=0.4)
    load = PATIENT | {"OATHBULK_CONCURRENCY": "4", "PINGONE_RATE": "20", "PINGONE_RATE_MAX": "20"}
    fleet = make_fleet(database_url, valkey_url, shipment, latency=0.3, settings=load)
    for name in ("first", "second"):
        fleet.worker(name)
    fleet.beat()
    write_next_version(tmp_path / "next")
    fleet.wait_until_posted(40)
    out, error = start_upgrade(tmp_path / "next", fleet.settings.database).communicate(timeout=60)
    assert out.strip() == NEXT, error
    # A worker of this version that starts now works with the later schema.
    fleet.worker("third")
    fleet.wait_until_posted(80)
    move_schema(fleet.database, HEAD)
    fleet.wait_until_finished()
    assert fleet.records.attempts(Outcome.LOST) == 0
    assert fleet.judge_as_made().attempts == 300


# What passes by itself: a rate limit, refused access tokens, a server that is gone for a while.

# Seconds that an outage lasts: longer than everyone's patience within an attempt.
OUTAGE = 4.0
STEADY = PATIENT | {"PINGONE_RATE": "30", "PINGONE_RATE_MAX": "30", "OATHBULK_CONCURRENCY": "24"}


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


@pytest.mark.faults
@pytest.mark.usefixtures("sqlite_home")
@pytest.mark.parametrize("whose", TROUBLES)
def test_one_trouble_after_the_other_is_waited_out_by_the_same_processes_and_costs_no_otp(
    make_fleet, own_valkey, whose
):
    url = own_valkey.let_in("limited", RULES)
    # So many that seconds of work are left when the last trouble comes, however late a busy machine lets it come.
    records = 150 * len(TROUBLES[whose])
    fleet = make_fleet(None, url, make_shipment(records, out_of_step=0.4), latency=0.02, settings=STEADY)
    programs = [fleet.worker("worker"), fleet.beat()]
    for number, trouble in enumerate(TROUBLES[whose]):
        fleet.wait_until_posted(20 + 120 * number)
        with trouble(fleet, own_valkey):
            time.sleep(OUTAGE)
    fleet.wait_until_finished()
    assert [program.name for program in programs if not program.is_running] == []
    log = programs[0].read_log()
    # It asks again now and then, and does not fill the disk.
    assert ("Unrecoverable error" in log, log.count("Traceback") < 30 * len(TROUBLES[whose])) == (False, True)
    status = fleet.judge_as_made()
    if whose == "PingOne's":
        assert status.attempts == records
        refused = fleet.simulator_counts["statuses"]["429"]
        # All threads stop at the first refusal: without that, each would be refused once a window, and there are two.
        assert 0 < refused == status.rate_limited <= fleet.settings.concurrency


@pytest.mark.faults
def test_a_database_that_is_gone_for_a_while_keeps_no_message_waiting(make_fleet, own_migrated_postgres, valkey_url):
    # A message that was taken up in vain would come back after its lease.
    settings = {
        "_OATHBULK_TUNING__queue_lease": "300",
        "_OATHBULK_TUNING__window": "300",
        "PINGONE_RATE": "50",
        "PINGONE_RATE_MAX": "50",
    }
    database, server = own_migrated_postgres
    fleet = make_fleet(database, valkey_url, make_shipment(400), settings=settings)
    fleet.worker("worker")
    fleet.beat()
    fleet.wait_until_posted(60)
    server.stop()
    time.sleep(OUTAGE)
    server.start()
    # Those of this process were cut, too.
    fleet.database.close()
    fleet.wait_until(lambda: not fleet.status().to_do, "the batch is finished", timeout=150)
    fleet.judge()
    assert fleet.records.wrong_endings() == []


@pytest.mark.faults
def test_a_tenant_whose_answers_name_no_status_is_not_taken_for_one_that_is_out(make_fleet, postgres_url, valkey_url):
    # What the body of a success holds is not documented, so each of these has to be read before it counts.
    shipment = make_shipment(60, out_of_step=0.3)
    fleet = make_fleet(postgres_url, valkey_url, shipment, activation_body="no_status", settings=PATIENT)
    fleet.worker("worker")
    fleet.beat()
    fleet.judge_as_made()
    assert not fleet.was_out


@pytest.mark.faults
@pytest.mark.usefixtures("sqlite_home")
def test_a_503_that_asks_for_a_day_is_shown_and_over_when_a_person_says_so(make_fleet, valkey_url):
    fleet = make_fleet(None, valkey_url, make_shipment(100), latency=0.02, settings=PATIENT | {"PINGONE_RATE": "20"})
    fleet.worker("worker")
    fleet.beat()
    fleet.wait_until_posted(5)
    fleet.simulator.change(faults={"error_before": 1.0}, error_statuses=[503], error_retry_after=86_400)
    fleet.wait_until(lambda: fleet.status().hold, "the hold is shown")
    hold = fleet.status().hold
    assert 0 < hold.left <= fleet.settings.tuning.longest_hold
    said = " ".join(fleet.oathbulk("status", "status", BATCH).split())
    asks = rf"PingOne answered 503 and asks for 86400 s\. To continue now: oathbulk resume {BATCH} --now"
    assert re.search(f"All workers hold until .*{asks}", said), said
    # No record waits for a time that was told: neither tomorrow's, nor the end of the hold.
    with fleet.database.reading() as connection:
        latest = connection.scalar(select(func.max(Record.scheduled_at)))
    assert latest < hold.until - timedelta(seconds=fleet.settings.tuning.longest_hold / 2)

    fleet.simulator.change(faults={})
    fleet.oathbulk("resume", "resume", BATCH, "--now")
    fleet.wait_until(
        lambda: not fleet.status().to_do, "the batch is finished long before the hold was over", timeout=60
    )
    assert fleet.status().hold is None
    fleet.judge()
    assert fleet.records.wrong_endings() == []


# What does not pass by itself is named with what mends it.

STALLED = 5
SICKNESSES = {
    # Nobody listens there.
    "network": {"PINGONE_API_URL": "http://127.0.0.1:1/v1"},
    "internal": {"OATHBULK_ENCRYPTION_KEYS": generate_key()},
    "credentials": {"PINGONE_CLIENT_SECRET": "wrong"},
    "environment": {"PINGONE_ENVIRONMENT_ID": "7d1f0c52-3b64-4d0e-9a57-52a1c3d4e5f6"},
    "no secret": {"PINGONE_CLIENT_SECRET": ""},
    "authorities that are no file": {"SSL_CERT_FILE": "/nowhere/ca.pem"},
}
# What becomes of the way to PingOne.
ON_THE_WAY = {"refused": Link.cut, "closed unanswered": Link.hang_up}
AWAY = "postgresql+psycopg://nobody:hidden@127.0.0.1:1/none"


def look(fleet, **variables: str) -> tuple[int, str]:
    """The exit code of `status --check`, and what it says."""
    program = fleet.command(f"status-{len(fleet.programs)}", "status", BATCH, "--check", **variables)
    return program.wait(), " ".join(program.read_log().split())


def test_whoever_is_missing_is_named_with_what_brings_them(make_fleet, postgres_url, valkey_url):
    fleet = make_fleet(postgres_url, valkey_url, make_shipment(20, hopeless={}))
    assert look(fleet)[0] == 0
    # As if all that is due had waited for long.
    before = fleet.database.now(-STILL_AFTER - 30)
    with fleet.database.writing() as connection:
        connection.execute(update(Batch).values(running_since=before))
        connection.execute(update(Record).values(scheduled_at=before))

    def expect(code: int, *words: str, **variables: str) -> None:
        found, told = look(fleet, **variables)
        assert (found, [word for word in words if word not in told]) == (code, []), told
        assert "hidden" not in told

    expect(STALLED, "No worker is running.", "celery -A worker worker")
    expect(STALLED, "The broker cannot be used", "oathbulk doctor", OATHBULK_REDIS_URL="redis://:hidden@127.0.0.1:1/0")
    expect(3, "the database failed", "OATHBULK_DATABASE_URL", OATHBULK_DATABASE_URL=AWAY)
    worker = fleet.worker("worker")
    fleet.wait_until(lambda: fleet.status().fleet.alive, "a worker shows that it lives")
    # As if it had not just started.
    with fleet.database.writing() as connection:
        connection.execute(update(WorkerProcess).values(started_at=before))
    expect(STALLED, "No tick has ever arrived.", "celery -A worker beat")
    # Before it is ready, a signal ends it without a word; in good order, it is missed at once.
    fleet.wait_until(lambda: " ready." in worker.read_log(), "it is ready")
    worker.stop()
    fleet.wait_until(lambda: not fleet.status().fleet.alive, "it is gone", timeout=15)
    # One that waits for a person is told by another code, and a resume that nobody carries out says so.
    fleet.batches.pause(BATCH)
    expect(4, f"oathbulk resume {BATCH}")
    told = " ".join(fleet.oathbulk("resume", "resume", BATCH).split())
    assert told.startswith(f"{BATCH} is allowed to run, but no worker is working on it. No worker is running.")


def read_fleet(fleet: Fleet) -> list[KnownProcess]:
    with fleet.database.reading() as connection:
        return read_processes(fleet.database, connection)


@pytest.mark.faults
def test_a_worker_that_fails_alone_ends_and_is_named_and_the_others_do_the_work(
    make_fleet, postgres_url, valkey_url
) -> None:
    """All of it befalls one batch, which is large enough. A worker that reaches PingOne by a way of its own, on which
    something goes wrong for a while, works again when it is started and well."""
    settings = PATIENT | {"PINGONE_RATE": "25", "PINGONE_RATE_MAX": "25"}
    fleet: Fleet = make_fleet(postgres_url, valkey_url, make_shipment(4000, hopeless={}), settings=settings)
    fleet.worker("well")
    fleet.beat()
    fleet.wait_until_posted(10)
    sick = {what: fleet.worker(what.split()[0], **variables) for what, variables in SICKNESSES.items()}
    for what, worker in sick.items():
        assert worker.wait() == FAILS_ALONE
        (named,) = [each for each in read_fleet(fleet) if each.name.endswith(f":{worker.pid}")]
        assert named.reason == (what if " " not in what else "environment")
        log = worker.read_log()
        assert ((named.detail or "") in log, "Traceback" in log) == (True, False)

    with Network() as network:
        link = network.link(urlsplit(fleet.variables["PINGONE_API_URL"]).port)
        variables = {"PINGONE_API_URL": f"http://127.0.0.1:{link.port}/v1"}
        for trouble, befall in ON_THE_WAY.items():
            worker = fleet.worker(f"before-{trouble.split()[0]}", **variables)
            name = f":{worker.pid}"
            fleet.wait_until(lambda name=name: any(each.name.endswith(name) for each in read_fleet(fleet)), "it works")
            befall(link)
            assert worker.wait() == FAILS_ALONE
            # Before it is well it ends before it takes anything.
            assert fleet.worker(f"while-{trouble.split()[0]}", **variables).wait() == FAILS_ALONE
            link.heal()
        assert fleet.status().state == "running"
        posts = fleet.simulator.posts()
        fleet.wait_until_posted(posts + 50)
        fleet.batches.cancel(BATCH)
        assert fleet.wait_until_finished().dead_letters == {}
        fleet.judge()


@pytest.mark.faults
def test_an_outage_ends_no_worker_that_is_alone(make_fleet, postgres_url, valkey_url) -> None:
    fleet: Fleet = make_fleet(postgres_url, valkey_url, make_shipment(60, hopeless={}))
    with Network() as network:
        link = network.link(urlsplit(fleet.variables["PINGONE_API_URL"]).port)
        alone = fleet.worker("alone", PINGONE_API_URL=f"http://127.0.0.1:{link.port}/v1")
        fleet.beat()
        fleet.wait_until_posted(10)
        link.hang_up()
        fleet.wait_until(lambda: fleet.status().reason == "outage", "the outage is told")
        link.heal()
        fleet.wait_until_finished()
        assert (alone.is_running, [each for each in read_fleet(fleet) if each.sick_since]) == (True, [])
